use std::time::Duration;

use super::super::IndexStore;
use super::*;
use crate::cache::fs::FsStore;
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::store::Store as _;
use crate::cache::timestamp::Timestamp;
use crate::storage::testing::{FakeDisk, Fault, Later, set_clock_back};

/// C3: what a scan writes down during an update does not say that the session ended in order.
#[test]
fn an_index_written_during_a_change_is_not_a_clean_end() {
    for changing in [false, true] {
        let disk = Arc::new(FakeDisk::default());
        let files = FsStore::on(disk.clone(), Path::new("/"), Durability::Ordered).unwrap();
        let dir = files.tree().layout.index();
        let index = IndexStore::open(files, true).unwrap();
        let asset = AssetId::from_key("a").unwrap();
        let change = changing.then(|| index.accounts.update(&asset).unwrap());
        index.scan().unwrap();
        let (_, loaded) = IndexFiles::load(disk, &dir, MAX_FILE);
        assert_eq!(loaded.unwrap().clean, !changing);
        drop(change);
    }
}

/// C5: the index files do not shrink with the number of assets, and so neither do the bytes that count for them. Otherwise
/// the bytes would come back, over the limit, when the files are measured next.
#[test]
fn what_the_index_takes_counts_though_an_asset_has_gone() {
    let disk = FakeDisk::default();
    let files = || FsStore::on(Arc::new(disk.clone()), Path::new("/"), Durability::Full).unwrap();
    let index = IndexStore::open(files(), true).unwrap();
    index.scan().unwrap();
    let (asset, path) = (
        |n: u8| AssetId::from_key(&n.to_string()).unwrap(),
        CachePath::parse("x").unwrap(),
    );
    for n in 0..6 {
        index.put(&asset(n), &path, Bytes::from_static(b"bytes")).unwrap();
    }
    index.accounts.seal();
    let index = IndexStore::open(files(), true).unwrap();
    index.scan().unwrap();
    drop(files().remove(&asset(5)).unwrap());
    index.accounts.refresh(&asset(5));
    let healed = index.used_bytes().unwrap();
    index.accounts.flush();
    assert_eq!(index.used_bytes().unwrap(), healed);
    drop(index.remove(&asset(4)).unwrap());
    drop(index);
    // Not sealed: the journal says that one asset has gone, and the snapshot is as long as it was.
    let index = IndexStore::open(files(), true).unwrap();
    let found = index.used_bytes().unwrap();
    index.accounts.flush();
    assert_eq!(index.used_bytes().unwrap(), found);
}

/// C3, C8: files that do not belong together, as a crash between two steps of a compaction leaves them, are no clean end.
/// And an old journal is not replayed after a newer snapshot.
#[test]
fn a_snapshot_without_its_journal_is_no_clean_end_and_an_old_journal_is_none() {
    let disk = Arc::new(FakeDisk::default());
    let files = FsStore::on(disk.clone(), Path::new("/"), Durability::Ordered).unwrap();
    let dir = files.tree().layout.index();
    let index = IndexStore::open(files, true).unwrap();
    index.scan().unwrap();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
    let load = |disk: FakeDisk| IndexFiles::load(Arc::new(disk), &dir, MAX_FILE).1.unwrap();
    let journal = dir.join("journal");
    let old = AtomicResource::on_disk(disk.clone(), &journal);
    let old = old.read().unwrap().unwrap();
    assert_eq!(load(disk.settled()).changes.len(), 1);
    index.accounts.compact(false).unwrap();

    let crashed = disk.settled();
    crashed.remove_file(&journal).unwrap();
    assert!(!load(crashed).clean);
    let crashed = disk.settled();
    crashed.remove_file(&journal).unwrap();
    crashed.create_new(&journal).unwrap().append(&[old]).unwrap();
    let loaded = load(crashed);
    assert!(loaded.changes.is_empty() && !loaded.clean);
    index.accounts.seal();
    assert!(load(disk.settled()).clean);
}

/// W48, C3: of a file that cannot be an index no more than its head is read; of one that is longer than the cache may be, and
/// of a journal without its snapshot, nothing.
#[test]
fn w48_what_cannot_be_an_index_is_not_read() {
    let dir = Path::new("/index");
    let snapshot = |rows: usize| {
        let rows = (0..rows).map(|n| {
            let asset = AssetId::from_key(&n.to_string()).unwrap();
            Row::new(&asset, 1, 1, Timestamp(1), None)
        });
        codec::encode_snapshot(&Snapshot {
            generation: 3,
            sealed: true,
            rows: rows.collect(),
        })
    };
    let whole = snapshot(40);
    let len = whole.len() as u64;
    let mut damaged = whole.clone();
    damaged[1000] ^= 1;
    for (what, bytes, limit, reads) in [
        ("another file", vec![7; 100_000], MAX_FILE, 1),
        ("half a row more", [&whole[..], b"x"].concat(), MAX_FILE, 1),
        ("longer than the cache", whole.clone(), len - 1, 0),
        ("damaged", damaged, len, 2),
        ("whole", whole, len, 2),
    ] {
        let disk = FakeDisk::default();
        disk.create_dir(dir).unwrap();
        disk.create_new(&dir.join("snapshot"))
            .unwrap()
            .append(&[bytes.into()])
            .unwrap();
        let journal = codec::encode_journal(if what == "damaged" { 3 } else { 2 });
        disk.create_new(&dir.join("journal"))
            .unwrap()
            .append(&[journal.into()])
            .unwrap();
        let from = disk.calls();
        let (mut files, loaded) = IndexFiles::load(Arc::new(disk.clone()), dir, limit);
        let read = (from..disk.calls()).filter(|&call| disk.call_name(call) == "read");
        let of_journal = usize::from(what == "whole");
        assert_eq!(read.count(), reads + of_journal, "{what}");
        assert_eq!(loaded.is_some(), what == "whole", "{what}");
        files.take_garbage(|path| disk.remove_file(path).is_ok());
        let left = if what == "whole" { len } else { 0 };
        assert_eq!(disk.bytes(), left, "{what}");
        assert_eq!(files.sizes().snapshot + files.sizes().journal, left, "{what}");
    }
}

/// C8: a change that waited for the journal is not appended after a snapshot that holds it and what came later.
#[test]
fn a_change_that_a_snapshot_says_is_not_told_after_it() {
    let disk = Arc::new(FakeDisk::default());
    let files = |disk| FsStore::on(disk, Path::new("/"), Durability::Ordered).unwrap();
    let index = IndexStore::open(files(disk.clone()), true).unwrap();
    index.scan().unwrap();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
    let busy = index.accounts.lock_files();
    index.put(&asset, &path, Bytes::from_static(b"other")).unwrap();
    drop(busy);
    assert!(!index.accounts.state().table.pending.is_empty());
    index.accounts.touch(&asset, Timestamp::default()).unwrap();
    let last = index.asset(&asset).unwrap().unwrap().last_access;
    index.accounts.compact(false).unwrap();
    index.accounts.flush();
    let found = IndexStore::open(files(Arc::new(disk.settled())), true).unwrap();
    assert_eq!(found.asset(&asset).unwrap().unwrap().last_access, last);
}

/// C3: what was removed after the snapshot is not there after a crash, also before the scan has looked.
#[test]
fn a_removal_is_in_the_journal() {
    let disk = Arc::new(FakeDisk::default());
    let files = |disk| FsStore::on(disk, Path::new("/"), Durability::Ordered).unwrap();
    let index = IndexStore::open(files(disk.clone()), true).unwrap();
    index.scan().unwrap();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
    index.accounts.compact(false).unwrap();
    let there = || {
        let found = IndexStore::open(files(Arc::new(disk.settled())), true).unwrap();
        found.asset(&asset).unwrap().is_some()
    };
    assert!(there());
    drop(index.remove(&asset).unwrap());
    assert!(!there());
}

/// C10: a snapshot that is written while an entry is being staged does not say that its asset need not be looked at. After a
/// crash the staged file is swept.
#[test]
fn an_asset_with_a_staged_file_is_looked_at_after_a_crash() {
    let disk = Arc::new(FakeDisk::default());
    let open = |disk: FakeDisk| {
        let files = FsStore::on(Arc::new(disk), Path::new("/"), Durability::Ordered).unwrap();
        let index = IndexStore::open(files, true).unwrap();
        index.scan().unwrap();
        index
    };
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    set_clock_back(Duration::from_secs(1000));
    let first = open((*disk).clone());
    first.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
    first.accounts.seal();
    set_clock_back(Duration::ZERO);
    let second = open((*disk).clone());
    let sure = || second.accounts.state().table.assets.get(&asset).unwrap().sure;
    assert!(sure());
    std::mem::forget(second.stage(&asset, &path).unwrap());
    assert!(!sure());
    // Nor after another change: its folder's time is too young.
    second.accounts.state().table.assets.get_mut(&asset).unwrap().sure = true;
    second.set_pinned(&asset, true).unwrap();
    assert!(!sure());
    second.accounts.compact(false).unwrap();
    let crashed = disk.settled();
    let staged = || crashed.files().iter().any(|file| file.contains("/.stage-"));
    assert!(staged());
    open(crashed.clone());
    assert!(!staged());
}

/// C3, C4: a miss in the middle of a commit does not read the asset's directory, however many entries that has. What was removed
/// behind the cache's back meanwhile is noticed by the next checkpoint.
#[test]
fn a_miss_during_a_commit_reads_the_directory_no_sooner_than_the_next_checkpoint() {
    let disk = Arc::new(FakeDisk::default());
    let files = FsStore::on(disk.clone(), Path::new("/"), Durability::Ordered).unwrap();
    let index = IndexStore::open(files, true).unwrap();
    index.scan().unwrap();
    let asset = AssetId::from_key("a").unwrap();
    let path = |name| CachePath::parse(name).unwrap();
    let count = || index.accounts.state().table.assets.get(&asset).unwrap().files;
    set_clock_back(Duration::from_secs(600));
    let commit_beside_a_miss = |name, seconds| {
        // Time goes on between two changes.
        set_clock_back(Duration::from_secs(seconds));
        index
            .accounts
            .committing(&asset, || {
                let mut staged = index.inner().stage(&asset, &path(name))?;
                staged.write(&[Bytes::from_static(b"bytes")])?;
                let committed = staged.commit()?;
                assert!(index.open(&asset, &path("missing"))?.is_none());
                Ok(committed)
            })
            .unwrap();
    };
    index
        .put(&asset, &path("a"), Bytes::from_static(b"bytes"))
        .unwrap();
    let before = disk.calls();
    commit_beside_a_miss("b", 500);
    let mut calls = before..disk.calls();
    assert!(calls.all(|call| disk.call_name(call) != "read_dir"));
    assert_eq!(count(), 2);
    index.inner().remove_entry(&asset, &path("a")).unwrap();
    commit_beside_a_miss("c", 400);
    set_clock_back(Duration::ZERO);
    assert_eq!(count(), 3);
    index.accounts.checkpoint().unwrap();
    assert_eq!(count(), 2);
}

/// C8: each checkpoint tells the accesses since the one before.
#[test]
fn an_asset_that_is_used_again_is_in_the_next_checkpoint_too() {
    let disk = Arc::new(FakeDisk::default());
    let files = |disk| FsStore::on(disk, Path::new("/"), Durability::Ordered).unwrap();
    let index = IndexStore::open(files(disk.clone()), true).unwrap();
    index.scan().unwrap();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
    for _ in 0..3 {
        index.accounts.touch(&asset, Timestamp::default()).unwrap();
        index.accounts.checkpoint().unwrap();
        let last = index.asset(&asset).unwrap().unwrap().last_access;
        let found = IndexStore::open(files(Arc::new(disk.settled())), true).unwrap();
        assert_eq!(found.asset(&asset).unwrap().unwrap().last_access, last);
    }
}

/// C8, C11: a checkpoint writes what could not be written before, or fails.
#[test]
fn a_checkpoint_after_a_write_that_failed_writes_everything() {
    let disk = Arc::new(FakeDisk::default());
    let files = |disk| FsStore::on(disk, Path::new("/"), Durability::Ordered).unwrap();
    let index = IndexStore::open(files(disk.clone()), true).unwrap();
    index.scan().unwrap();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
    index.accounts.touch(&asset, Timestamp::default()).unwrap();
    let last = index.asset(&asset).unwrap().unwrap().last_access;
    let fail_next = || {
        let (at, later, error) = (disk.calls(), Later::Work, libc::EIO);
        disk.set_fault(Some(Fault { at, later, error }));
    };
    fail_next();
    index.accounts.compact(false).unwrap_err();
    fail_next();
    index.accounts.checkpoint().unwrap_err();
    index.accounts.checkpoint().unwrap();
    let found = IndexStore::open(files(Arc::new(disk.settled())), true).unwrap();
    assert_eq!(found.asset(&asset).unwrap().unwrap().last_access, last);
}

/// C4, C5: the journal of an asset that is written to again and again never grows beyond its allowed length, and a checkpoint
/// leaves half of that to the puts that come.
#[test]
fn a_journal_does_not_grow_with_the_changes() {
    let disk = Arc::new(FakeDisk::default());
    let files = FsStore::on(disk.clone(), Path::new("/"), Durability::Ordered).unwrap();
    let index = IndexStore::open(files, true).unwrap();
    index.scan().unwrap();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    for _ in 0..200 {
        index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
        assert!(disk.bytes_in("/index") <= most_bytes(1));
    }
    for _ in 0..50 {
        index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
        index.accounts.checkpoint().unwrap();
        assert!(disk.bytes_in("/index/journal") <= journal_cap(1) / 2);
    }
}

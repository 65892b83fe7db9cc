//! Changes, looks and removals that come between one another: the accounts equal the inner store.

use super::*;
use crate::cache::fs::FsStore;
use crate::cache::hooked::{Hooked, Hooks};
use crate::cache::memory::MemoryStore;
use crate::storage::Durability;

fn scene() -> (MemoryStore, IndexStore<MemoryStore>, AssetId, CachePath) {
    let memory = MemoryStore::new();
    let index = IndexStore::scanned(memory.clone()).unwrap();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    (memory, index, asset, path)
}

fn agree<S: Store>(index: &IndexStore<S>, inner: &impl Store) {
    let (known, there) = (index.assets().unwrap(), inner.assets().unwrap());
    let figures = |infos: Vec<AssetInfo>| -> Vec<_> {
        let figures = |info: AssetInfo| (info.id, info.bytes, info.files, info.pinned);
        infos.into_iter().map(figures).collect()
    };
    assert_eq!(figures(known), figures(there));
    assert_eq!(index.used_bytes().unwrap(), inner.used_bytes().unwrap());
}

/// C3: two commits of one entry may be accounted the other way round than they came to the inner store.
#[test]
fn commits_of_one_entry_accounted_the_other_way_round_add_up() {
    for others in [false, true] {
        let (memory, index, asset, path) = scene();
        if others {
            let small = Bytes::from_static(b"small");
            index.put(&asset, &CachePath::parse("y").unwrap(), small).unwrap();
        }
        let first = || {
            let done = memory.put(&asset, &path, Bytes::from(vec![1; 100]))?;
            index.put(&asset, &path, Bytes::from(vec![2; 30]))?;
            Ok(done)
        };
        index.shared.committing(&asset, first).unwrap();
        agree(&index, &memory);
    }
}

/// C3: as above, in a directory with a foreign file, whose bytes are as many as what is taken out.
#[test]
fn commits_accounted_the_other_way_round_add_up_beside_a_foreign_file() {
    let root = tempfile::tempdir().unwrap();
    let index = IndexStore::scanned(FsStore::open(root.path(), Durability::Ordered).unwrap()).unwrap();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    index.set_pinned(&asset, true).unwrap();
    let dir = index.inner().tree().layout.asset(&asset);
    std::fs::write(dir.join("Foreign"), [0; 1000]).unwrap();
    index.shared.refresh(&asset);
    let first = || {
        let done = index.inner().put(&asset, &path, Bytes::from(vec![1; 100]))?;
        index.put(&asset, &path, Bytes::from(vec![2; 30]))?;
        Ok(done)
    };
    index.shared.committing(&asset, first).unwrap();
    agree(&index, index.inner());
}

/// C3: as above, the second change being a removal of the entry.
#[test]
fn an_entry_removed_before_its_commit_is_accounted_adds_up() {
    let (memory, index, asset, path) = scene();
    let first = || {
        let done = memory.put(&asset, &path, Bytes::from(vec![1; 100]))?;
        index.remove_entry(&asset, &path)?;
        Ok(done)
    };
    index.shared.committing(&asset, first).unwrap();
    agree(&index, &memory);
}

/// C3: an asset removed, and made anew, before a change of it is accounted.
#[test]
fn an_asset_removed_before_a_change_is_accounted_adds_up() {
    for anew in [false, true] {
        let (memory, index, asset, path) = scene();
        let other = CachePath::parse("y").unwrap();
        index.put(&asset, &other, Bytes::from(vec![3; 10])).unwrap();
        let first = || {
            let done = memory.put(&asset, &path, Bytes::from(vec![1; 100]))?;
            index.remove(&asset)?.map_or(Ok(()), Trash::empty)?;
            if anew {
                index.put(&asset, &other, Bytes::from(vec![2; 70]))?;
            }
            Ok(done)
        };
        index.shared.committing(&asset, first).unwrap();
        agree(&index, &memory);
    }
}

/// C3: an asset made anew before its removal is accounted.
#[test]
fn an_asset_made_anew_before_its_removal_is_accounted_adds_up() {
    let (memory, path) = (MemoryStore::new(), CachePath::parse("x").unwrap());
    let (hooked, hooks) = Hooked::over(memory.clone());
    let index = IndexStore::scanned(hooked).unwrap();
    let asset = AssetId::from_key("a").unwrap();
    index.put(&asset, &path, Bytes::from(vec![1; 100])).unwrap();
    let (anew, id) = (index.clone(), asset.clone());
    hooks.after.set(move || {
        anew.put(&id, &path, Bytes::from(vec![2; 70])).unwrap();
    });
    index.remove(&asset).unwrap().unwrap().empty().unwrap();
    agree(&index, &memory);
}

/// C3, C5: a removal that found nothing of what was counted takes nobody's word that it has gone.
#[test]
fn an_asset_counted_that_its_removal_did_not_find_is_looked_at() {
    let (memory, path) = (MemoryStore::new(), CachePath::parse("x").unwrap());
    let (hooked, hooks) = Hooked::over(memory.clone());
    let index = IndexStore::scanned(hooked).unwrap();
    let asset = AssetId::from_key("a").unwrap();
    index.put(&asset, &path, Bytes::from(vec![1; 100])).unwrap();
    memory.remove(&asset).unwrap().unwrap().empty().unwrap();
    let (behind, id) = (memory.clone(), asset.clone());
    hooks.after.set(move || {
        behind.put(&id, &path, Bytes::from(vec![2; 70])).unwrap();
    });
    assert!(index.remove(&asset).unwrap().is_none());
    agree(&index, &memory);
}

/// C5: of an asset that has gone nothing counts: not its pin, not its place in the index, and no bytes on their way
/// out where there are none.
#[test]
fn of_an_asset_that_has_gone_nothing_counts() {
    for gone_before in [false, true] {
        let memory = MemoryStore::new();
        let table = Table::empty(true);
        let index = IndexStore::with(memory.clone(), table, None, true, None, Progress::new());
        let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
        let (empty, overhead) = (index.used_bytes().unwrap(), index.overhead(&asset, None, 0));
        index.put(&asset, &path, Bytes::from(vec![1; 100])).unwrap();
        index.set_pinned(&asset, true).unwrap();
        assert!(index.used_bytes().unwrap() > empty + 100);
        if gone_before {
            memory.remove(&asset).unwrap().unwrap().empty().unwrap();
            assert!(index.remove(&asset).unwrap().is_none());
        } else {
            index.remove(&asset).unwrap().unwrap().empty().unwrap();
        }
        assert!(index.asset(&asset).unwrap().is_none());
        assert_eq!(index.used_bytes().unwrap(), empty);
        assert_eq!(index.overhead(&asset, None, 0), overhead);
    }
}

/// C6: of a pin and an unpin the inner store's last one counts, whichever is accounted last.
#[test]
fn a_pin_accounted_after_the_unpin_that_ended_it_is_none() {
    let (memory, index, asset, path) = scene();
    index.put(&asset, &path, Bytes::from(vec![1; 100])).unwrap();
    let change = index.shared.update(&asset);
    memory.set_pinned(&asset, true).unwrap();
    index.set_pinned(&asset, false).unwrap();
    change.account_last(|account| account.pinned = true);
    agree(&index, &memory);
    let change = index.shared.update(&asset);
    memory.set_pinned(&asset, false).unwrap();
    let second = index.shared.update(&asset);
    memory.set_pinned(&asset, true).unwrap();
    change.account_last(|account| account.pinned = false);
    second.account_last(|account| account.pinned = true);
    agree(&index, &memory);
}

/// C3: a scan at an asset while it goes to the trash does not make its bytes forgotten before they are gone.
#[test]
fn an_asset_looked_at_while_it_is_removed_counts_until_its_trash_is_emptied() {
    let (hooked, hooks) = Hooked::over(MemoryStore::default());
    let index = Arc::new(IndexStore::scanned(hooked).unwrap());
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
    let (reads, id) = (Arc::clone(&index), asset.clone());
    hooks.after.set(move || reads.shared.refresh(&id));
    let trash = index.remove(&asset).unwrap().unwrap();
    assert_eq!(index.used_bytes().unwrap(), 5);
    assert!(index.asset(&asset).unwrap().is_none());
    trash.empty().unwrap();
    assert_eq!(index.used_bytes().unwrap(), 0);
}

/// C3: what is unknown before and after a scan, but came and went during it, is not counted.
#[test]
fn an_asset_that_comes_and_goes_during_a_look_is_not_counted() {
    let (hooked, hooks) = Hooked::over(MemoryStore::default());
    let table = Table::empty(false);
    let index = Arc::new(IndexStore::with(hooked, table, None, true, None, Progress::new()));
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    let (made, gone) = (Arc::clone(&index), Arc::clone(&index));
    let (id, same) = (asset.clone(), asset.clone());
    hooks.before_info.set(move || {
        made.put(&id, &path, Bytes::from_static(b"bytes")).unwrap();
    });
    hooks.after_info.set(move || {
        drop(gone.remove(&same).unwrap());
    });
    index.shared.try_refresh(&asset).unwrap();
    assert_eq!(index.asset(&asset).unwrap().map(|info| info.bytes), None);
    assert_eq!(index.shared.lock().bytes, 0);
}

/// C3: a scan at the inner store begun before an asset was removed and made anew tells by the version that it is not
/// to be believed.
#[test]
fn an_asset_made_anew_has_a_version_that_none_had() {
    let memory = MemoryStore::default();
    let index = IndexStore::with(memory, Table::empty(false), None, true, None, Progress::new());
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    let version = || {
        index
            .shared
            .lock()
            .assets
            .get(&asset)
            .map(|account| account.version)
    };
    let mut seen = vec![version()];
    for _ in 0..3 {
        index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
        seen.push(version());
        index.shared.refresh(&asset);
        index.remove(&asset).unwrap();
    }
    let distinct: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "{seen:?}");
}

/// C3: where the looks at an unknown asset are overtaken every time, the next checkpoint looks again.
#[test]
fn an_unknown_asset_that_no_look_could_settle_is_looked_at_by_the_checkpoint() {
    /// Lets another asset come and go during this look and the next ones.
    fn disturb(hooks: &Arc<Hooks>, index: &IndexStore<Hooked<MemoryStore>>, reads: usize) {
        let (again, disturbed) = (Arc::clone(hooks), index.clone());
        hooks.after_info.set(move || {
            let (other, path) = (AssetId::from_key("b").unwrap(), CachePath::parse("x").unwrap());
            disturbed
                .put(&other, &path, Bytes::from_static(b"bytes"))
                .unwrap();
            disturbed.remove(&other).unwrap().unwrap().empty().unwrap();
            if reads > 1 {
                disturb(&again, &disturbed, reads - 1);
            }
        });
    }
    let memory = MemoryStore::new();
    let (hooked, hooks) = Hooked::over(memory.clone());
    let index = IndexStore::scanned(hooked).unwrap();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    memory.put(&asset, &path, Bytes::from(vec![1; 100])).unwrap();
    disturb(&hooks, &index, 3);
    index.shared.try_refresh(&asset).unwrap();
    assert!(hooks.after_info.is_over());
    index.checkpoint().unwrap();
    agree(&index, &memory);
    // The same where the scan fails.
    memory.put(&asset, &path, Bytes::from(vec![1; 50])).unwrap();
    hooks.info_fails.set(CacheError::Abandoned);
    index.shared.refresh(&asset);
    assert!(hooks.info_fails.is_over());
    index.checkpoint().unwrap();
    agree(&index, &memory);
}

/// C3: a scan that another look has overtaken is not believed.
#[test]
fn of_two_looks_at_an_asset_the_later_one_counts() {
    let memory = MemoryStore::new();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    memory.put(&asset, &path, Bytes::from(vec![1; 100])).unwrap();
    let (hooked, hooks) = Hooked::over(memory.clone());
    let index = IndexStore::scanned(hooked).unwrap();
    let (reads, behind, id) = (index.clone(), memory.clone(), asset.clone());
    hooks.after_info.set(move || {
        behind.put(&id, &path, Bytes::from(vec![2; 50])).unwrap();
        reads.shared.refresh(&id);
    });
    index.shared.refresh(&asset);
    agree(&index, &memory);
}

/// C3, fault C20: a miss heals the accounts, however it is found.
#[test]
fn a_miss_heals_the_accounts_of_what_was_deleted_behind_our_back() {
    for open in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
        let index = IndexStore::scanned(FsStore::open(root.path(), Durability::Ordered).unwrap()).unwrap();
        index.put(&asset, &path, Bytes::from(vec![1; 100])).unwrap();
        std::fs::remove_dir_all(index.inner().tree().layout.asset(&asset)).unwrap();
        if open {
            assert!(index.open(&asset, &path).unwrap().is_none());
        } else {
            assert!(index.get(&asset, &path).unwrap().is_none());
        }
        agree(&index, index.inner());
    }
}

#[cfg(unix)]
mod on_a_fake_disk {
    use std::path::Path;

    use super::super::files::journal_cap;
    use super::*;
    use crate::storage::durable::{self, Disk as _};
    use crate::storage::testing::{FakeDisk, Fault, Later};

    /// C3: what a scan at the disk writes down during a change does not say that the session has ended in order.
    #[test]
    fn an_index_written_during_a_change_is_not_a_clean_end() {
        for changing in [false, true] {
            let disk = Arc::new(FakeDisk::default());
            let files = FsStore::on(disk.clone(), Path::new("/"), Durability::Ordered).unwrap();
            let dir = files.tree().layout.index();
            let index = IndexStore::open(files, true).unwrap();
            let asset = AssetId::from_key("a").unwrap();
            let change = changing.then(|| index.shared.update(&asset));
            index.scan().unwrap();
            let (_, loaded) = IndexFiles::load(disk, &dir);
            assert_eq!(loaded.unwrap().clean, !changing);
            drop(change);
        }
    }

    /// C5: the index's files do not shrink with the number of assets, and so neither does what is counted of them: it would
    /// come back, over the limit, when they are next measured.
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
        index.seal();
        let index = IndexStore::open(files(), true).unwrap();
        index.scan().unwrap();
        drop(files().remove(&asset(5)).unwrap());
        index.shared.refresh(&asset(5));
        let healed = index.used_bytes().unwrap();
        index.shared.flush();
        assert_eq!(index.used_bytes().unwrap(), healed);
        drop(index.remove(&asset(4)).unwrap());
        drop(index);
        // Not sealed: the journal says that one has gone, the snapshot is as long as it was.
        let index = IndexStore::open(files(), true).unwrap();
        let found = index.used_bytes().unwrap();
        index.shared.flush();
        assert_eq!(index.used_bytes().unwrap(), found);
    }

    /// C3, C8: files that do not belong together, as a crash between two steps of a snapshot leaves them, are no clean end; and
    /// what an old journal says is not told after a newer snapshot.
    #[test]
    fn a_snapshot_without_its_journal_is_no_clean_end_and_an_old_journal_is_none() {
        let disk = Arc::new(FakeDisk::default());
        let files = FsStore::on(disk.clone(), Path::new("/"), Durability::Ordered).unwrap();
        let dir = files.tree().layout.index();
        let index = IndexStore::open(files, true).unwrap();
        index.scan().unwrap();
        let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
        index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
        let load = |disk: FakeDisk| IndexFiles::load(Arc::new(disk), &dir).1.unwrap();
        let journal = dir.join("journal");
        let old = disk.open(&journal).unwrap();
        let len = old.metadata().unwrap().len;
        let old = durable::read_range(&*old, 0, len).unwrap();
        assert_eq!(load(disk.settled()).changes.len(), 1);
        index.shared.compact(false).unwrap();

        let crashed = disk.settled();
        crashed.remove_file(&journal).unwrap();
        assert!(!load(crashed).clean);
        let crashed = disk.settled();
        crashed.remove_file(&journal).unwrap();
        crashed.create_new(&journal).unwrap().append(&[old]).unwrap();
        let loaded = load(crashed);
        assert!(loaded.changes.is_empty() && !loaded.clean);
        index.seal();
        assert!(load(disk.settled()).clean);
    }

    /// C8: a change that waited for the journal is not told to it after the snapshot that says it, and what came then.
    #[test]
    fn a_change_that_a_snapshot_says_is_not_told_after_it() {
        let disk = Arc::new(FakeDisk::default());
        let files = |disk| FsStore::on(disk, Path::new("/"), Durability::Ordered).unwrap();
        let index = IndexStore::open(files(disk.clone()), true).unwrap();
        index.scan().unwrap();
        let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
        index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
        let busy = index.shared.lock_files();
        index.put(&asset, &path, Bytes::from_static(b"other")).unwrap();
        drop(busy);
        assert!(!index.shared.lock().pending.is_empty());
        let last = Timestamp(Timestamp::now().0 + 1);
        index.touch(&asset, last);
        index.shared.compact(false).unwrap();
        index.shared.flush();
        let found = IndexStore::open(files(Arc::new(disk.settled())), true).unwrap();
        assert_eq!(found.asset(&asset).unwrap().unwrap().last_access, last);
    }

    /// C8, C11: a checkpoint makes up for what could not be written before it, or says that it cannot.
    #[test]
    fn a_checkpoint_after_a_write_that_failed_writes_everything() {
        let disk = Arc::new(FakeDisk::default());
        let files = |disk| FsStore::on(disk, Path::new("/"), Durability::Ordered).unwrap();
        let index = IndexStore::open(files(disk.clone()), true).unwrap();
        index.scan().unwrap();
        let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
        index.put(&asset, &path, Bytes::from_static(b"bytes")).unwrap();
        let last = Timestamp(Timestamp::now().0 + 1);
        index.touch(&asset, last);
        let fail_next = || {
            let (at, later, error) = (disk.calls(), Later::Work, libc::EIO);
            disk.set_fault(Some(Fault { at, later, error }));
        };
        fail_next();
        index.shared.compact(false).unwrap_err();
        fail_next();
        index.checkpoint().unwrap_err();
        index.checkpoint().unwrap();
        let found = IndexStore::open(files(Arc::new(disk.settled())), true).unwrap();
        assert_eq!(found.asset(&asset).unwrap().unwrap().last_access, last);
    }

    /// C4, C5: the journal of an asset that is written to without end is as long as it is allowed to be, and no longer; and a
    /// checkpoint leaves half of that to the puts that come.
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
            index.checkpoint().unwrap();
            assert!(disk.bytes_in("/index/journal") <= journal_cap(1) / 2);
        }
    }
}

/// C5: a partial file that has been claimed counts until whoever claimed it counts it, and again once it is let go.
#[test]
fn a_claimed_partial_file_counts_until_its_bytes_are_promised() {
    let root = tempfile::tempdir().unwrap();
    let files = FsStore::open(root.path(), Durability::Ordered).unwrap();
    let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
    let name = asset.to_string();
    let dir = root.path().join("assets").join(&name[..2]).join(&name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(".part-x"), [1; 5000]).unwrap();
    std::fs::write(dir.join(".part-x~ranges"), [1; 50]).unwrap();
    let index = IndexStore::scanned(files).unwrap();
    let used = index.used_bytes().unwrap();
    assert_eq!(used, 5050);
    let claimed = index.partial(&asset, &path).unwrap().unwrap();
    index.shared.refresh(&asset);
    assert_eq!(index.used_bytes().unwrap(), used, "not promised yet");
    claimed.taken_over();
    assert_eq!(index.used_bytes().unwrap(), 0);
    drop(claimed);
    assert_eq!(index.used_bytes().unwrap(), used);
}

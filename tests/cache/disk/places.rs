//! W25, W45, W49, W50, W52: file systems that lack something, and files that cannot be moved or removed.

use super::*;

/// Puts `len` bytes as the first entry of an asset.
fn put(cache: &BlockingCache, number: u8, len: usize) -> Result<(), CacheError> {
    cache.put_atomic(&asset(number), &path(0), content(number.into(), len))
}

fn is_there(cache: &BlockingCache, number: u8) -> bool {
    cache.get(&asset(number), &path(0)).unwrap().is_some()
}

/// W45, C34: overlayfs refuses to move a directory of a lower layer. It is unlinked where it stands, and its room is free.
#[test]
fn w45_an_asset_that_cannot_change_its_place_is_unlinked_in_it() {
    let disk = FakeDisk::default();
    let cache = open(&disk, Durability::Full).unwrap();
    disk.refuse("rename", "/assets", libc::EXDEV);
    for number in 0..4 {
        put(&cache, number, 2500).unwrap();
        accounts(&disk, &cache, "after a put");
    }
    assert!(!is_there(&cache, 0) && is_there(&cache, 3));
    assert!(cache.remove(&asset(3)).unwrap());
    assert!(disk.files().iter().all(|file| !file.contains(&dir_of(&asset(3)))));
    accounts(&disk, &cache, "in the end");
}

/// W45, C34: an immutable folder, another user's, a mount point. The error names it and is told from others; the others may go.
#[test]
fn w45_an_asset_that_cannot_be_moved_is_told_and_stays_whole() {
    for error in [libc::EPERM, libc::EACCES, libc::EBUSY, libc::EROFS] {
        let disk = FakeDisk::default();
        let store = scanned_index(&disk);
        for number in 0..2 {
            store.put(&asset(number), &path(0), content(1, 100)).unwrap();
        }
        let stuck = dir_of(&asset(0));
        disk.refuse("rename", &stuck, error);
        let before = store.used_bytes().unwrap();
        match store.remove(&asset(0)).unwrap_err() {
            CacheError::Unremovable {
                asset: told, path, ..
            } => {
                assert_eq!(told, asset(0).name());
                assert_eq!(path, Path::new(&stuck));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(store.used_bytes().unwrap(), before);
        assert!(store.get(&asset(0), &path(0)).unwrap().is_some());
        store.remove(&asset(1)).unwrap().unwrap().empty().unwrap();
    }
    // Another error is no property of the asset.
    let disk = FakeDisk::default();
    let store = scanned_index(&disk);
    store.put(&asset(0), &path(0), content(1, 100)).unwrap();
    disk.refuse("rename", dir_of(&asset(0)), libc::EIO);
    let error = store.remove(&asset(0)).unwrap_err();
    assert!(!error.is_unremovable(), "{error:?}");
}

/// C3, C34: the trash is gone, and while it is made anew another thread removes the asset, or the trash goes once more. In the
/// one case there is nothing left to remove; in the other the asset was not removed.
#[test]
fn an_asset_is_removed_by_another_thread_while_the_trash_is_made_anew() {
    for (what, removed) in [(dir_of(&asset(0)), true), ("/trash".to_owned(), false)] {
        let disk = FakeDisk::default();
        let store = store_on(&disk, Durability::Full).unwrap();
        store.put(&asset(0), &path(0), content(1, 100)).unwrap();
        disk.remove_dir_all(Path::new("/trash")).unwrap();
        // The first one fails, as there is no trash.
        disk.before("rename", |_| {});
        let gone = what.clone();
        disk.before("rename", move |disk| {
            disk.remove_dir_all(Path::new(&gone)).unwrap();
        });
        match store.remove(&asset(0)) {
            Ok(trash) => assert!(removed && trash.is_none(), "{what}"),
            Err(error) => assert!(!removed && !error.is_unremovable(), "{what}: {error}"),
        }
        assert_eq!(store.exists(&asset(0), &path(0)).unwrap(), !removed, "{what}");
    }
}

/// C10: what this session has removed is emptied by what removed it. A sweep at the same time would be a second thread in the
/// same folder.
#[test]
fn the_trash_of_this_session_is_no_leftover() {
    let disk = FakeDisk::default();
    let index = IndexStore::open(store_on(&disk, Durability::Full).unwrap(), true).unwrap();
    index.put(&asset(0), &path(0), content(1, 100)).unwrap();
    let trash = index.remove(&asset(0)).unwrap().unwrap();
    index.scan().unwrap();
    assert!(disk.bytes_in("/trash") >= 100);
    trash.empty().unwrap();
    assert_eq!(disk.bytes_in("/trash"), 0);
}

/// C10: a partial file without a record is of no use, unless a source has claimed it and is about to write the record.
#[test]
fn a_partial_file_is_swept_when_its_claim_has_ended() {
    let disk = FakeDisk::default();
    let store = store_on(&disk, Durability::Full).unwrap();
    let claim = store.partial(&asset(0), &path(0)).unwrap().unwrap();
    claim.prepare().unwrap();
    let partial = claim.place().partial.clone();
    disk.create_new(&partial)
        .unwrap()
        .append(&[content(1, 100)])
        .unwrap();
    assert_eq!(store.asset(&asset(0)).unwrap().unwrap().bytes, 100);
    drop(claim);
    assert!(store.asset(&asset(0)).unwrap().is_none());
    assert!(disk.files().is_empty());
}

/// W45, C34: unlinked in place, but for one entry that is immutable. What is left counts.
#[test]
fn w45_what_is_left_of_an_asset_that_is_unlinked_in_place_counts() {
    let disk = FakeDisk::default();
    let store = scanned_index(&disk);
    for number in 0..PATHS {
        store.put(&asset(0), &path(number), content(1, 1000)).unwrap();
    }
    disk.refuse("rename", "/assets", libc::EXDEV);
    let immutable = format!("{}/{}", dir_of(&asset(0)), path(0));
    disk.refuse("remove_file", &immutable, libc::EPERM);
    assert!(store.remove(&asset(0)).unwrap_err().is_unremovable());
    let info = store.asset(&asset(0)).unwrap().unwrap();
    assert_eq!(info.bytes, disk.bytes_in(&dir_of(&asset(0))));
    assert!(info.bytes >= 1000);
    disk.refuse_nothing();
    store.remove(&asset(0)).unwrap().unwrap().empty().unwrap();
    assert_eq!(disk.bytes_in("/assets"), 0);
}

/// W45, C5, C34: trash with an immutable file in it counts in the next session, is in nothing's way, and leaves when it can.
#[test]
fn w45_trash_that_cannot_be_removed_counts_and_stops_nothing() {
    let disk = FakeDisk::default();
    let cache = open(&disk, Durability::Full).unwrap();
    put(&cache, 0, 2500).unwrap();
    disk.refuse("remove_file", "/trash", libc::EPERM);
    assert!(cache.remove(&asset(0)).unwrap());
    drop(cache);
    // This file alone, and not what is evicted later.
    let stuck = disk.files().into_iter().find(|file| file.starts_with("/trash/"));
    disk.refuse_nothing();
    disk.refuse("remove_file", stuck.unwrap(), libc::EPERM);
    let cache = open(&disk, Durability::Full).unwrap();
    for number in 1..5 {
        put(&cache, number, 2500).unwrap();
        assert!(disk.bytes() <= cache.stats().unwrap().bytes);
    }
    assert!(disk.bytes_in("/trash") >= 2500);
    assert!(disk.peak() <= MAX_BYTES, "{}", disk.peak());
    drop(cache);
    disk.refuse_nothing();
    let cache = open(&disk, Durability::Full).unwrap();
    put(&cache, 0, 100).unwrap();
    assert_eq!(disk.bytes_in("/trash"), 0);
    accounts(&disk, &cache, "in the end");
}

/// W45, C34: an asset, or a shard, of another user, which this one may not list. With an index its bytes count on.
#[test]
fn w45_what_cannot_be_listed_stops_no_scan() {
    let shard = |number| Path::new(&dir_of(&asset(number))).parent().unwrap().to_owned();
    for (folder, indexed) in [(false, true), (false, false), (true, true), (true, false)] {
        let disk = FakeDisk::default();
        let cache = open(&disk, Durability::Full).unwrap();
        for number in 0..3 {
            put(&cache, number, 1000).unwrap();
        }
        let whole = cache.stats().unwrap().asset_bytes;
        let one = cache.asset(&asset(0)).unwrap().unwrap().bytes;
        drop(cache);
        if !indexed {
            disk.remove_dir_all(Path::new("/index")).unwrap();
        }
        let refused = if folder {
            shard(0)
        } else {
            dir_of(&asset(0)).into()
        };
        disk.refuse("read_dir", &refused, libc::EACCES);
        let cache = open(&disk, Durability::Full).unwrap();
        assert!(cache.progress().is_finished(), "{refused:?}, {indexed}");
        let due = if indexed { whole } else { whole - one };
        assert_eq!(cache.stats().unwrap().asset_bytes, due, "{refused:?}, {indexed}");
        put(&cache, 4, 500).unwrap();
        assert!(is_there(&cache, 1) && is_there(&cache, 4));
        let store = store_on(&disk, Durability::Full).unwrap();
        assert_eq!(store.list().unwrap().len(), 3);
        drop(cache);
        disk.refuse_nothing();
        accounts(
            &disk,
            &open(&disk, Durability::Full).unwrap(),
            "once it is readable",
        );
    }
    // Another error is no property of a folder: the scan is tried again.
    let disk = FakeDisk::default();
    disk.refuse("read_dir", "/assets", libc::EIO);
    let index = IndexStore::open(store_on(&disk, Durability::Full).unwrap(), true).unwrap();
    index.scan().unwrap_err();
}

/// W45, C10, C34: what a killed session was writing, immutable by now.
#[test]
fn w45_a_staged_file_that_cannot_be_removed_counts_and_stops_nothing() {
    let disk = FakeDisk::default();
    let store = store_on(&disk, Durability::Full).unwrap();
    let mut staged = store.stage(&asset(0), &path(0)).unwrap();
    staged.write(&[content(1, 1000)]).unwrap();
    std::mem::forget(staged);
    disk.refuse("remove_file", dir_of(&asset(0)), libc::EPERM);
    let cache = open(&disk, Durability::Full).unwrap();
    put(&cache, 1, 1000).unwrap();
    assert_eq!(cache.asset(&asset(0)).unwrap().unwrap().bytes, 1000);
    assert!(disk.bytes() <= cache.stats().unwrap().bytes);
}

/// W25, C31: a file system that cannot sync directories keeps everything, and says once what is missing.
#[test]
fn w25_everything_is_kept_where_folders_cannot_be_synced() {
    for error in [libc::EINVAL, libc::ENOTSUP, libc::ENOSYS] {
        let disk = FakeDisk::default();
        disk.refuse("sync_dir", "/", error);
        let mut run = Run::new(disk.clone(), Durability::Full);
        assert!(run.cache().missing_protection().is_empty());
        for step in story() {
            run.take(step).unwrap_or_else(|error| panic!("{step:?}: {error}"));
        }
        assert_eq!(run.cache().missing_protection(), [MissingProtection::FolderSync]);
        accounts(&disk, run.cache(), "in the end");
        let before = view(run.cache());
        drop(run);
        let cache = open(&disk.settled(), Durability::Full).unwrap();
        assert_eq!(view(&cache), before);
    }
    // An error that is no want of the file system's is one.
    let disk = FakeDisk::default();
    disk.refuse("sync_dir", "/", libc::EIO);
    let cache = open(&disk, Durability::Full).unwrap();
    put(&cache, 0, 100).unwrap_err();
    assert!(cache.missing_protection().is_empty());
}

/// W25, C31: a root that can only be read gives out what it has. Nothing is written, not even tried: neither what opening
/// sweeps, nor a damaged entry's removal, nor the index.
#[test]
fn w25_a_root_that_can_only_be_read_is_read_and_no_write_is_tried() {
    let disk = FakeDisk::default();
    let files = store_on(&disk, Durability::Full).unwrap();
    let mut killed = files.stage(&asset(3), &path(0)).unwrap();
    killed.write(&[content(1, 500)]).unwrap();
    std::mem::forget(killed);
    files.put(&asset(4), &path(0), content(1, 200)).unwrap();
    drop(files.remove(&asset(4)).unwrap());
    for clean in [true, false] {
        let session = open(&disk, Durability::Full).unwrap();
        put(&session, 0, 300).unwrap();
        put(&session, 1, 300).unwrap();
        session.pin(&asset(0)).unwrap();
        if clean {
            drop(session);
        } else {
            std::mem::forget(session);
        }
        let (disk, changes) = (disk.settled(), disk.settled().changes());
        let damaged = format!("{}/{}", dir_of(&asset(1)), path(0));
        disk.aside(|| {
            disk.open_partial(Path::new(&damaged))
                .unwrap()
                .write_at(b"xyz", 10)
                .unwrap()
        });
        // Trash that the last session left, which no other one has swept.
        let trash = format!("/trash/{}-{:016x}-0", asset(4).name(), 7);
        disk.aside(|| disk.create_dir(Path::new(&trash)).unwrap());
        let changes = changes + 2;
        let from = disk.calls();

        // A limit far below what is there: nothing is evicted for it.
        let cache = testing::read_only(Arc::new(disk.clone()), Path::new("/"), 100).unwrap();
        assert!(cache.is_read_only());
        assert!(is_there(&cache, 0) && !is_there(&cache, 1));
        assert!(cache.contains(&asset(0), &path(0)).unwrap());
        assert!(
            cache
                .resource::<std::io::Error>(&asset(0), &path(0))
                .unwrap()
                .is_some()
        );
        assert_eq!(cache.entries(&asset(0)).unwrap().len(), 1);
        assert!(cache.asset(&asset(0)).unwrap().unwrap().pinned);
        let lease = cache.lease(&asset(0));
        assert_eq!(cache.stats().unwrap().leased, 1);
        drop(lease);
        let refused = |done: Result<(), CacheError>| {
            let error = done.unwrap_err();
            assert!(error.is_read_only(), "{error:?}");
        };
        refused(put(&cache, 2, 10));
        refused(cache.pin(&asset(0)));
        refused(cache.unpin(&asset(0)));
        refused(cache.partial(&asset(2), &path(0)).map(drop));
        refused(cache.remove_entry(&asset(1), &path(0)).map(drop));
        refused(cache.remove(&asset(1)).map(drop));
        refused(cache.clear().map(drop));
        cache.checkpoint().unwrap();
        cache.close();
        assert_eq!(disk.changes(), changes);
        for call in from..disk.calls() {
            let name = disk.call_name(call);
            assert!(
                ["open", "metadata", "file metadata", "read", "read_dir"].contains(&name),
                "{name}"
            );
        }
    }
}

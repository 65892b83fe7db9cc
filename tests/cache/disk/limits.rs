//! A disk that is full before the cache is, and one that counts at every change.

use std::thread;

use super::*;

/// C11, fault C19: a disk smaller than the limit. What fits after evicting is stored.
#[test]
fn on_a_full_disk_assets_are_evicted_and_the_put_tried_once_more() {
    let mut run = Run::new(FakeDisk::default(), Durability::Full);
    run.disk.set_room(Some(MAX_BYTES / 2));
    for step in story() {
        match run.take(step) {
            Ok(()) => {}
            Err(error) => assert!(error.is_full(), "{step:?}: {error}"),
        }
        accounts(&run.disk, run.cache(), &format!("after {step:?}"));
    }
    run.take(Step::Clear).unwrap();
    for number in 0..ASSETS {
        run.take(Step::Unpin(number)).unwrap();
        run.take(Step::Put((number, 0), 1500)).unwrap();
    }
    assert!(run.cache().contains(&asset(ASSETS - 1), &path(0)).unwrap());
}

/// C6, C11, faults C19, C24: on a full disk room is made for more than one put, from the coldest, but for the asset that it is
/// made for. That keeps its place.
#[test]
fn on_a_full_disk_room_is_made_for_more_than_one_put_and_the_asset_it_is_for_is_spared() {
    let disk = FakeDisk::default();
    disk.set_room(Some(300_000));
    let files = store_on(&disk, Durability::Ordered).unwrap();
    let index = IndexStore::open(files, true).unwrap();
    index.scan().unwrap();
    let store = stack(index, Lru::new(), 340_000);
    let id = |n: u64| AssetId::from_key(&n.to_string()).unwrap();
    for n in 0..25 {
        store.put(&id(n), &path(0), content(n, 10_000)).unwrap();
    }
    let is_there = |n: u64| store.exists(&id(n), &path(0)).unwrap();
    let len = 300_000 - disk.bytes();
    let whole = content(100, usize::try_from(len).unwrap());
    store.put(&id(0), &path(1), whole).unwrap();
    assert!(is_there(0), "what is written to stays");
    let gone = (0..25).filter(|&n| !is_there(n)).count() as u64;
    assert!(gone * 10_000 > 2 * len + 60_000, "{gone} have gone");
    disk.set_room(Some(disk.bytes()));
    store.put(&id(30), &path(0), content(30, 1000)).unwrap();
    assert!(!is_there(0), "the coldest all the while");
    assert!(is_there(24) && is_there(30));
}

/// C6, C11: an asset that was spared for a write which failed all the same may go later, as every other one.
#[test]
fn an_asset_that_was_spared_in_vain_may_go_later() {
    let disk = FakeDisk::default();
    disk.set_room(Some(20_000));
    let store = stack(scanned_index(&disk), Lru::new(), 340_000);
    for number in 0..2 {
        store.put(&asset(number), &path(0), content(1, 3000)).unwrap();
    }
    let refused = store.put(&asset(0), &path(1), content(2, 200_000));
    assert!(refused.unwrap_err().is_full());
    assert_eq!(store.list().unwrap().len(), 2);
    store.set_max_bytes(1).unwrap();
    assert!(store.list().unwrap().is_empty());
}

/// C5, fault C10: eight threads under a limit that a few entries fill. The disk counts at every change.
#[test]
fn a_crowd_never_takes_the_disk_above_the_limit() {
    let disk = FakeDisk::default();
    let session = open(&disk, Durability::Ordered).unwrap();
    thread::scope(|scope| {
        for worker in 0..8 {
            let cache = &*session;
            scope.spawn(move || {
                let mut dice = Dice(worker);
                for round in 0..150 {
                    let name = names().nth(usize::try_from(dice.below(15)).unwrap()).unwrap();
                    let len = usize::try_from(dice.below(2500)).unwrap();
                    let done = if dice.coin(7) {
                        cache.put_atomic(&asset(name.0), &path(name.1), content(worker * 1000 + round, len))
                    } else {
                        cache.get(&asset(name.0), &path(name.1)).map(|read| {
                            assert!(read.as_ref().map(version).is_none_or(|version| version < 8000));
                        })
                    };
                    match done {
                        Ok(()) | Err(CacheError::CacheFull { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(disk.peak() <= MAX_BYTES, "{} bytes at the most", disk.peak());
    accounts(&disk, &session, "after the crowd");
}

/// C4, fault C18: opening asks the disk about folders, a removal is a rename, and what an update did to an asset is known
/// without reading its folder. None of it costs more where an asset has more files.
#[test]
fn all_that_is_done_to_an_asset_costs_the_same_with_many_files() {
    let costs = [2, 60].map(|files| {
        let disk = FakeDisk::default();
        let store = || scanned_index(&disk);
        let index = store();
        set_clock_back(Duration::from_secs(3600));
        for number in 0..ASSETS {
            for n in 0..files {
                let path = CachePath::parse(&format!("seg-{n}")).unwrap();
                index.put(&asset(number), &path, content(n, 100)).unwrap();
            }
        }
        set_clock_back(Duration::ZERO);
        testing::seal(&index);
        drop(index);
        // What a session has changed, the next one reads once more.
        testing::seal(&store());
        let mut calls = disk.calls();
        let mut cost = || disk.calls() - std::mem::replace(&mut calls, disk.calls());
        let index = store();
        assert_eq!(index.list().unwrap().len(), usize::from(ASSETS));
        let opened = cost();
        let (id, path) = (asset(0), CachePath::parse("seg-0").unwrap());
        // A miss reads an asset again that has changed from outside, and only then.
        let none = CachePath::parse("none").unwrap();
        let missed = || assert!(index.get(&id, &none).unwrap().is_none());
        // The end of a claim reads the asset, once.
        drop(index.partial(&id, &path).unwrap());
        let _ = cost();
        index.put(&id, &path, content(0, 200)).unwrap();
        missed();
        let put = cost();
        set_clock_back(Duration::from_secs(600));
        index.remove_entry(&id, &path).unwrap().unwrap();
        missed();
        let entry_removed = cost();
        set_clock_back(Duration::from_secs(500));
        index.set_pinned(&id, true).unwrap();
        missed();
        let pinned = cost();
        set_clock_back(Duration::ZERO);
        let trash = index.remove(&id).unwrap().unwrap();
        assert!(!index.exists(&id, &path).unwrap());
        let removed = cost();
        trash.empty().unwrap();
        [opened, put, entry_removed, pinned, removed]
    });
    assert_eq!(costs[0], costs[1]);
}

/// W11, C33, C34: a write of unknown length evicts its share and no more, also where one of its victims cannot go and another
/// is asked for in its place.
#[test]
fn w11_a_share_is_used_up_by_the_victims_that_went() {
    let disk = FakeDisk::default();
    let index = IndexStore::scanned(store_on(&disk, Durability::Full).unwrap()).unwrap();
    let store = stack(index, Lru::new(), 4000);
    let put = |number, bytes: usize| {
        let len = |len| {
            store
                .put(&asset(number), &path(0), content(1, len))
                .unwrap()
                .bytes
        };
        let footer = usize::try_from(len(100) - 100).unwrap();
        assert_eq!(len(bytes - footer), bytes as u64);
    };
    for (number, bytes) in [(0, 600), (1, 400), (2, 410), (3, 2000)] {
        put(number, bytes);
    }
    store.set_pinned(&asset(3), true).unwrap();
    disk.refuse("rename", dir_of(&asset(1)), libc::EPERM);
    let mut staged = store.stage(&asset(4), &path(0)).unwrap();
    // What is reserved already counts, and is not asked for again.
    let free = 4000 - store.used_bytes().unwrap();
    let over = |len: u64| (staged.overhead(len) + len - staged.overhead(0)).saturating_sub(free);
    // As much as the first two make room for, and these two are all of the share.
    let len = (1..4000).find(|&len| over(len) == 1000).unwrap();
    let error = staged
        .write(&[content(1, usize::try_from(len).unwrap())])
        .unwrap_err();
    assert!(error.is_unremovable(), "{error:?}");
    let there = |number| store.exists(&asset(number), &path(0)).unwrap();
    assert_eq!([0, 1, 2].map(there), [false, true, true]);
}

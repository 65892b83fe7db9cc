//! One suite that every store and every stack of layers passes.

use std::path::Path;
use std::thread;

use bytes::Bytes;
use kithara::cache::{
    AssetId, CachePath, Durability, EvictingStore, FsStore, IndexStore, LeaseStore, Lru, MaxAge, MemoryStore,
    Never, Store,
};

use crate::{asset, bytes, path};

const LIMIT: u64 = 64 << 20;

fn get(store: &dyn Store, asset: &AssetId, path: &CachePath) -> Option<Bytes> {
    let entry = store.open(asset, path).unwrap()?;
    assert!(entry.verify(asset, path).unwrap());
    assert!(store.contains(asset, path).unwrap());
    Some(entry.read().unwrap())
}

fn absent_is_none(store: &dyn Store) {
    let (a, x) = (asset("a"), path("x"));
    assert!(store.open(&a, &x).unwrap().is_none());
    assert!(!store.contains(&a, &x).unwrap());
    assert!(store.asset(&a).unwrap().is_none());
    assert!(store.assets().unwrap().is_empty());
    assert!(store.entries(&a).unwrap().is_empty());
    assert!(store.remove(&a).unwrap().is_none());
    assert!(store.remove_entry(&a, &x).unwrap().is_none());
    store.set_pinned(&a, false).unwrap();
    store.touch(&a, kithara::cache::Timestamp::now());
    assert!(store.assets().unwrap().is_empty());
}

/// C2, faults C3, C23.
fn a_put_is_read_back_whole_and_overwritten_shorter_and_longer(store: &dyn Store) {
    let (a, x) = (asset("a"), path("x"));
    let mut before = None;
    for (n, len) in [1000, 10, 300_000, 0, 1, 70_000].into_iter().enumerate() {
        let seed = u8::try_from(n).unwrap();
        let committed = store.put(&a, &x, bytes(len, seed)).unwrap();
        assert!(committed.bytes >= len as u64);
        assert_eq!(committed.replaced, before);
        before = Some(committed.bytes);
        assert_eq!(get(store, &a, &x).unwrap(), bytes(len, seed));
        let info = store.asset(&a).unwrap().unwrap();
        assert_eq!((info.files, info.bytes), (1, committed.bytes));
    }
    assert_eq!(store.remove_entry(&a, &x).unwrap(), before);
    assert!(get(store, &a, &x).is_none());
    assert_eq!(store.asset(&a).unwrap(), None);
}

fn an_asset_grows_and_is_listed(store: &dyn Store) {
    let mut sum = 0;
    for n in 0..20 {
        let committed = store
            .put(&asset("a"), &path(&format!("dir/Seg {n}.m4s")), bytes(100 * n, 1))
            .unwrap();
        sum += committed.bytes;
    }
    store.put(&asset("b"), &path("dir"), bytes(5, 1)).unwrap();
    store.put(&asset("b"), &path("dir/x"), bytes(6, 1)).unwrap();
    let info = store.asset(&asset("a")).unwrap().unwrap();
    assert_eq!(
        (info.files, info.bytes, info.pinned, info.leased),
        (20, sum, false, false)
    );
    let mut ids: Vec<_> = store
        .assets()
        .unwrap()
        .into_iter()
        .map(|info| info.id.name())
        .collect();
    ids.sort();
    let mut wanted = vec![asset("a").name(), asset("b").name()];
    wanted.sort();
    assert_eq!(ids, wanted);
    let mut entries: Vec<_> = store
        .entries(&asset("b"))
        .unwrap()
        .into_iter()
        .map(|e| (e.path, e.len))
        .collect();
    entries.sort();
    assert_eq!(entries, [(path("dir"), 5), (path("dir/x"), 6)]);
    assert_eq!(store.entries(&asset("a")).unwrap().len(), 20);
}

/// C2, fault B13.
fn a_staged_entry_is_invisible_until_its_commit_and_gone_when_dropped(store: &dyn Store) {
    let (a, x) = (asset("a"), path("x"));
    store.put(&a, &x, bytes(50, 1)).unwrap();
    let used = store.used_bytes().unwrap();
    let mut staged = store.stage(&a, &x).unwrap();
    staged
        .write(&[bytes(30, 2), Bytes::new(), bytes(40_000, 3)])
        .unwrap();
    staged.write(&[]).unwrap();
    assert_eq!(get(store, &a, &x).unwrap(), bytes(50, 1));
    drop(staged);
    assert_eq!(get(store, &a, &x).unwrap(), bytes(50, 1));
    assert_eq!(store.used_bytes().unwrap(), used);
    let mut staged = store.stage(&a, &x).unwrap();
    staged.write(&[bytes(30, 2), bytes(40, 3)]).unwrap();
    staged.commit().unwrap();
    assert_eq!(get(store, &a, &x).unwrap(), [bytes(30, 2), bytes(40, 3)].concat());
    assert_eq!(store.asset(&a).unwrap().unwrap().files, 1);
}

/// C6.
fn who_has_an_entry_open_reads_on(store: &dyn Store) {
    let (a, x) = (asset("a"), path("x"));
    store.put(&a, &x, bytes(600_000, 1)).unwrap();
    let first = store.open(&a, &x).unwrap().unwrap();
    store.put(&a, &x, bytes(10, 2)).unwrap();
    let second = store.open(&a, &x).unwrap().unwrap();
    store.remove(&a).unwrap().unwrap().empty().unwrap();
    assert!(get(store, &a, &x).is_none());
    assert_eq!(first.read().unwrap(), bytes(600_000, 1));
    assert_eq!(first.read_at(599_990, 100).unwrap(), bytes(600_000, 1)[599_990..]);
    assert!(first.read_at(600_000, 1).unwrap().is_empty());
    assert_eq!(second.read().unwrap(), bytes(10, 2));
}

/// C5: the bytes of a removed asset count until its trash is emptied.
fn a_removed_asset_is_gone_at_once_and_its_bytes_with_its_trash(store: &dyn Store) {
    let (a, x) = (asset("a"), path("x"));
    let empty = store.used_bytes().unwrap();
    for round in 0..3 {
        store.put(&a, &x, bytes(10_000, round)).unwrap();
        store.put(&a, &path("y"), bytes(10_000, round)).unwrap();
        assert!(store.used_bytes().unwrap() >= empty + 20_000);
        let trash = store.remove(&a).unwrap().unwrap();
        assert!(get(store, &a, &x).is_none());
        assert_eq!(store.asset(&a).unwrap(), None);
        store.put(&a, &x, bytes(7, 9)).unwrap();
        trash.empty().unwrap();
        assert_eq!(get(store, &a, &x).unwrap(), bytes(7, 9));
        store.remove(&a).unwrap().unwrap().empty().unwrap();
        store.checkpoint().unwrap();
        assert!(
            store.used_bytes().unwrap() < empty + 2000,
            "{} {empty}",
            store.used_bytes().unwrap()
        );
    }
}

fn a_pin_is_kept_and_shown(store: &dyn Store) {
    store.set_pinned(&asset("bare"), true).unwrap();
    store.set_pinned(&asset("bare"), true).unwrap();
    store.put(&asset("full"), &path("x"), bytes(9, 1)).unwrap();
    store.set_pinned(&asset("full"), true).unwrap();
    let pinned = |name| {
        store
            .asset(&asset(name))
            .unwrap()
            .map(|info| (info.files, info.pinned))
    };
    assert_eq!(
        (pinned("bare"), pinned("full")),
        (Some((0, true)), Some((1, true)))
    );
    store.set_pinned(&asset("bare"), false).unwrap();
    store.set_pinned(&asset("full"), false).unwrap();
    store.set_pinned(&asset("full"), false).unwrap();
    assert_eq!((pinned("bare"), pinned("full")), (None, Some((1, false))));
}

/// Fault C10: 8 threads × 40 puts.
fn eight_threads_put_and_get_without_an_error(store: &dyn Store) {
    thread::scope(|scope| {
        for t in 0..8_u8 {
            scope.spawn(move || {
                for n in 0..40_u8 {
                    let (a, x) = (
                        asset(&format!("asset {}", n % 3)),
                        path(&format!("entry-{}", n % 5)),
                    );
                    store.put(&a, &x, bytes(usize::from(n) * 10 + 1, t)).unwrap();
                    let read = get(store, &a, &x).unwrap();
                    assert_eq!(read, bytes(read.len(), read[0]));
                }
            });
        }
    });
    for n in 0..3 {
        let id = asset(&format!("asset {n}"));
        let info = store.asset(&id).unwrap().unwrap();
        assert_eq!(info.files, 5);
        let mut sum = 0;
        for entry in store.entries(&id).unwrap() {
            sum += entry.len;
            assert_eq!(get(store, &id, &entry.path).unwrap().len() as u64, entry.len);
        }
        assert!(
            info.bytes >= sum && info.bytes <= sum + 5 * 100,
            "{} {sum}",
            info.bytes
        );
    }
}

fn fs(root: &Path) -> FsStore {
    FsStore::open(root, Durability::Ordered).unwrap()
}

macro_rules! stacks {
    ($($name:ident: $make:expr;)*) => {$(
        mod $name {
            use super::*;

            fn run(test: fn(&dyn Store)) {
                let root = tempfile::tempdir().unwrap();
                let make: fn(&Path) -> Box<dyn Store> = $make;
                let store = make(root.path());
                store.ready().unwrap();
                test(&*store);
            }

            contract! {
                absent_is_none
                a_put_is_read_back_whole_and_overwritten_shorter_and_longer
                an_asset_grows_and_is_listed
                a_staged_entry_is_invisible_until_its_commit_and_gone_when_dropped
                who_has_an_entry_open_reads_on
                a_removed_asset_is_gone_at_once_and_its_bytes_with_its_trash
                a_pin_is_kept_and_shown
                eight_threads_put_and_get_without_an_error
            }
        }
    )*};
}

macro_rules! contract {
    ($($test:ident)*) => {$(
        #[test]
        fn $test() {
            run(super::$test);
        }
    )*};
}

stacks! {
    memory: |_| Box::new(MemoryStore::new());
    files: |root| Box::new(fs(root));
    files_full: |root| Box::new(FsStore::open(root, Durability::Full).unwrap());
    indexed_in_memory: |root| Box::new(IndexStore::scanned(fs(root)).unwrap());
    indexed_memory: |_| Box::new(IndexStore::scanned(MemoryStore::new()).unwrap());
    indexed: |root| Box::new(IndexStore::open(fs(root), true).unwrap());
    leased_memory: |_| Box::new(LeaseStore::new(MemoryStore::new()));
    leased_files: |root| Box::new(LeaseStore::new(fs(root)));
    evicting_memory: |_| Box::new(EvictingStore::new(MemoryStore::new(), Lru::new(), LIMIT));
    evicting_files: |root| Box::new(EvictingStore::new(fs(root), Lru::new(), LIMIT));
    never: |root| Box::new(EvictingStore::new(LeaseStore::new(fs(root)), Never, LIMIT));
    max_age: |_| Box::new(EvictingStore::new(
        LeaseStore::new(MemoryStore::new()),
        MaxAge::new(std::time::Duration::from_secs(60)),
        LIMIT,
    ));
    whole_in_memory: |_| Box::new(EvictingStore::new(LeaseStore::new(MemoryStore::new()), Lru::new(), LIMIT));
    whole: |root| Box::new(EvictingStore::new(
        LeaseStore::new(IndexStore::open(fs(root), true).unwrap()),
        Lru::new(),
        LIMIT,
    ));
}

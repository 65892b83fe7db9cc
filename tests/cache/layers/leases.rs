//! Leases and pins while an asset is being removed.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use kithara::cache::{
    AssetId, CacheError, Durability, EvictionPolicy, FsStore, IndexStore, LeaseStore, Lru, MemoryStore,
    Store as _, Timestamp,
};

use super::hooked::Hooked;
use crate::{asset, path, stack};

/// C6: for new readers an asset is gone before its removal is: a lease taken now would not keep it.
#[test]
fn an_asset_on_its_way_out_is_gone_for_new_readers() {
    let index = IndexStore::scanned(MemoryStore::new()).unwrap();
    let accounts = Arc::clone(index.accounts());
    let (hooked, hooks) = Hooked::over(index);
    let store = Arc::new(LeaseStore::new(hooked, &accounts));
    let (a, x) = (asset("a"), path("x"));
    store.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
    let (reader, id, path) = (Arc::clone(&store), a.clone(), x.clone());
    hooks.before_removal.set(move || {
        assert!(reader.inner().exists(&id, &path).unwrap());
        assert!(reader.get(&id, &path).unwrap().is_none());
        assert!(reader.open(&id, &path).unwrap().is_none());
        assert!(!reader.exists(&id, &path).unwrap());
    });
    store.remove(&a).unwrap().unwrap().empty().unwrap();
    store.put(&a, &x, Bytes::from_static(b"anew")).unwrap();
    assert!(store.get(&a, &x).unwrap().is_some());
}

/// C2: what writes to an asset waits for a removal that has begun. Its files are in a folder made anew, and not in the one that is
/// on its way to the trash.
#[test]
fn whatever_writes_waits_for_a_removal() {
    for partial in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let (hooked, hooks) = Hooked::over(FsStore::open(root.path(), Durability::Ordered).unwrap());
        let index = IndexStore::scanned(hooked).unwrap();
        let accounts = Arc::clone(index.accounts());
        let store = Arc::new(LeaseStore::new(index, &accounts));
        let (a, x) = (asset("a"), path("x"));
        store.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
        let (writes, id, name) = (Arc::clone(&store), a.clone(), x.clone());
        let (tell, told) = mpsc::channel();
        let write = move || {
            if partial {
                let claim = writes.partial(&id, &name).unwrap().unwrap();
                claim.prepare().unwrap();
            } else {
                writes.put(&id, &name, Bytes::from_static(b"anew")).unwrap();
            }
            tell.send(()).unwrap();
        };
        let handle = Arc::new(Mutex::new(None));
        let begun = Arc::clone(&handle);
        hooks.before_removal.set(move || {
            let written = thread::spawn(write);
            assert!(told.recv_timeout(Duration::from_millis(100)).is_err());
            *begun.lock().unwrap() = Some((written, told));
        });
        let trash = store.remove(&a).unwrap().unwrap();
        let (written, told) = handle.lock().unwrap().take().unwrap();
        told.recv().unwrap();
        written.join().unwrap();
        trash.empty().unwrap();
        assert!(crate::dir_of(root.path(), &a).exists());
        assert_eq!(store.exists(&a, &x).unwrap(), !partial);
    }
}

/// C7: a pinned asset is there for readers while its removal is refused: the inner store is not even asked.
#[test]
fn a_pinned_asset_is_there_while_its_removal_is_refused() {
    let index = IndexStore::scanned(MemoryStore::new()).unwrap();
    let accounts = Arc::clone(index.accounts());
    let (hooked, hooks) = Hooked::over(index);
    let store = LeaseStore::new(hooked, &accounts);
    let (a, x) = (asset("a"), path("x"));
    store.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
    store.set_pinned(&a, true).unwrap();
    hooks.before_removal.set(|| panic!("it is not removed"));
    let refused = store.remove(&a);
    assert!(matches!(refused, Err(CacheError::InUse { .. })), "{refused:?}");
    assert!(!hooks.before_removal.is_over());
    assert!(store.get(&a, &x).unwrap().is_some());
    assert!(store.exists(&a, &x).unwrap());
}

/// An LRU that writes down which assets were restored, and which removed.
#[derive(Debug, Default)]
struct Restored(Lru, Arc<Mutex<Vec<AssetId>>>, Arc<Mutex<Vec<AssetId>>>);

impl EvictionPolicy for Restored {
    fn used(&mut self, asset: &AssetId, bytes: u64, at: Timestamp) {
        self.0.used(asset, bytes, at);
    }

    fn added(&mut self, asset: &AssetId, bytes: u64, at: Timestamp) {
        self.0.added(asset, bytes, at);
    }

    fn restored(&mut self, assets: Vec<(AssetId, u64, Timestamp)>) {
        self.1
            .lock()
            .unwrap()
            .extend(assets.iter().map(|(asset, ..)| asset.clone()));
        self.0.restored(assets);
    }

    fn removed(&mut self, asset: &AssetId) {
        self.2.lock().unwrap().push(asset.clone());
        self.0.removed(asset);
    }

    fn victim(&mut self, now: Timestamp) -> Option<AssetId> {
        self.0.victim(now)
    }
}

/// C6: the policy hears once of an asset whose removal was refused, when nothing holds it any more. Of one that was never
/// refused it does not hear again.
#[test]
fn what_was_refused_is_told_to_the_policy_when_it_is_free_and_nothing_else_is() {
    let memory = MemoryStore::new();
    let (a, x) = (asset("a"), path("x"));
    memory.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
    let policy = Restored::default();
    let told = Arc::clone(&policy.1);
    let store = stack(IndexStore::scanned(memory).unwrap(), policy, 1000);
    // A checkpoint asks the policy, which is told everything before.
    let told = || {
        store.checkpoint().unwrap();
        std::mem::take(&mut *told.lock().unwrap()).len()
    };
    assert_eq!(told(), 1, "there from the beginning");
    drop(store.inner().lease(&a));
    assert_eq!(told(), 0);

    store.set_pinned(&a, true).unwrap();
    assert!(matches!(store.remove(&a), Err(CacheError::InUse { .. })));
    let lease = store.inner().lease(&a);
    store.set_pinned(&a, false).unwrap();
    assert_eq!(told(), 0, "still leased");
    drop(lease);
    assert_eq!(told(), 1);
    assert_eq!(told(), 0);
}

/// C3, C6: a pin that was taken away from outside holds nothing, and of an asset that was, the policy hears too.
#[test]
fn what_changed_from_outside_is_told_to_the_policy_when_it_is_found() {
    let memory = MemoryStore::new();
    let (a, x, absent) = (asset("a"), path("x"), path("absent"));
    memory.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
    let policy = Restored::default();
    let (restored, removed) = (Arc::clone(&policy.1), Arc::clone(&policy.2));
    let store = stack(IndexStore::scanned(memory.clone()).unwrap(), policy, 1000);
    store.checkpoint().unwrap();
    store.set_pinned(&a, true).unwrap();
    assert!(store.remove(&a).unwrap_err().is_in_use());
    memory.set_pinned(&a, false).unwrap();
    // A miss looks at the asset again.
    assert!(store.get(&a, &absent).unwrap().is_none());
    store.checkpoint().unwrap();
    assert_eq!(
        *restored.lock().unwrap(),
        [a.clone(), a.clone()],
        "at first, and when it is free"
    );
    drop(memory.remove(&a).unwrap());
    assert!(store.get(&a, &absent).unwrap().is_none());
    store.checkpoint().unwrap();
    assert_eq!(*removed.lock().unwrap(), [a]);
}

/// C6: an asset that was passed over keeps its place, though it is written to while it is held.
#[test]
fn what_was_passed_over_and_written_to_goes_by_its_last_access() {
    let store = stack(IndexStore::scanned(MemoryStore::new()).unwrap(), Lru::new(), 100);
    let put = |name: &str, file: &str, len: usize| {
        let bytes = Bytes::from(vec![7; len]);
        store.put(&asset(name), &path(file), bytes).map(drop)
    };
    put("held", "x", 30).unwrap();
    put("other", "x", 30).unwrap();
    let lease = store.inner().lease(&asset("held"));
    store.open(&asset("other"), &path("x")).unwrap().unwrap();
    // Named, and passed over; the other one would not do.
    assert!(put("large", "x", 95).unwrap_err().is_full());
    // The other one is told again by this.
    store.checkpoint().unwrap();
    put("held", "y", 10).unwrap();
    drop(lease);
    put("new", "x", 40).unwrap();
    assert!(!store.exists(&asset("held"), &path("x")).unwrap());
    assert!(store.exists(&asset("other"), &path("x")).unwrap());
}

//! Leases and pins while an asset is being removed.

use std::sync::Arc;

use bytes::Bytes;
use kithara::cache::{CacheError, LeaseStore, MemoryStore, Store as _};

use super::hooked::Hooked;
use crate::{asset, path};

/// C6: for new readers an asset is gone before its removal is: a lease taken now would not keep it.
#[test]
fn an_asset_on_its_way_out_is_gone_for_new_readers() {
    let (hooked, hooks) = Hooked::over(MemoryStore::new());
    let store = Arc::new(LeaseStore::new(hooked));
    let (a, x) = (asset("a"), path("x"));
    store.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
    let (reader, id, path) = (Arc::clone(&store), a.clone(), x.clone());
    hooks.before_removal.set(move || {
        assert!(reader.inner().contains(&id, &path).unwrap());
        assert!(reader.get(&id, &path).unwrap().is_none());
        assert!(reader.open(&id, &path).unwrap().is_none());
        assert!(!reader.contains(&id, &path).unwrap());
    });
    store.remove(&a).unwrap().unwrap().empty().unwrap();
    store.put(&a, &x, Bytes::from_static(b"anew")).unwrap();
    assert!(store.get(&a, &x).unwrap().is_some());
}

/// C7: a pinned asset is there for readers while its removal is refused.
#[test]
fn a_pinned_asset_is_there_while_its_removal_is_refused() {
    let (hooked, hooks) = Hooked::over(MemoryStore::new());
    let store = Arc::new(LeaseStore::new(hooked));
    let (a, x) = (asset("a"), path("x"));
    store.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
    store.set_pinned(&a, true).unwrap();
    let (reader, id, path) = (Arc::clone(&store), a.clone(), x.clone());
    hooks.after_info.set(move || {
        assert!(reader.get(&id, &path).unwrap().is_some());
        assert!(reader.open(&id, &path).unwrap().is_some());
        assert!(reader.contains(&id, &path).unwrap());
    });
    let refused = store.remove(&a);
    assert!(matches!(refused, Err(CacheError::InUse { .. })), "{refused:?}");
    assert!(hooks.after_info.is_over());
}

/// C6: an asset whose removal was refused is a change once, when nothing holds it any more. One that was never refused is
/// none.
#[test]
fn what_was_refused_is_a_change_when_it_is_free_and_nothing_else_is() {
    let store = LeaseStore::new(MemoryStore::new());
    let (a, x) = (asset("a"), path("x"));
    store.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
    let changes = || {
        store
            .changes()
            .unwrap()
            .into_iter()
            .filter(|(asset, _)| *asset == a)
            .count()
    };
    assert_eq!(changes(), 1, "there from the beginning");
    assert!(!store.is_held(&a).unwrap());
    drop(store.leases().take(&a));
    assert_eq!(changes(), 0);

    store.set_pinned(&a, true).unwrap();
    assert!(matches!(store.remove(&a), Err(CacheError::InUse { .. })));
    let lease = store.leases().take(&a);
    store.set_pinned(&a, false).unwrap();
    assert_eq!(changes(), 0, "still leased");
    drop(lease);
    assert_eq!(changes(), 1);
    assert_eq!(changes(), 0);
}

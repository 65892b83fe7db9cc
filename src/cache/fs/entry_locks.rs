//! A lock for each entry: one thread at a time replaces or removes it.
//!
//! A commit measures what it replaces and renames over it. Without the lock two commits of one entry could both measure
//! the same old version, and take its bytes out of the accounts twice.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::cache::id::AssetId;
use crate::cache::path::CachePath;

/// The locks of all entries that are being changed.
#[derive(Default)]
pub(crate) struct EntryLocks {
    taken: Mutex<HashSet<(AssetId, CachePath)>>,
    given_back: Condvar,
    /// How many threads have waited for a lock.
    #[cfg(test)]
    waited: std::sync::atomic::AtomicUsize,
}

/// The lock of one entry. Dropping it unlocks the entry.
pub(crate) struct EntryGuard<'a> {
    entry_locks: &'a EntryLocks,
    entry: (AssetId, CachePath),
}

impl EntryLocks {
    /// Locks an entry, waiting while another thread has it.
    pub(crate) fn take(&self, asset: &AssetId, path: &CachePath) -> EntryGuard<'_> {
        // A set of what is locked, and not a lock for each entry: an entry that is not being changed costs nothing.
        let entry = (asset.bare(), path.clone());
        let mut taken = self.lock();
        while !taken.insert(entry.clone()) {
            #[cfg(test)]
            self.waited.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            taken = self
                .given_back
                .wait(taken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        EntryGuard {
            entry_locks: self,
            entry,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(AssetId, CachePath)>> {
        // A set is whole after every call made on it, also after a panic between two.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EntryGuard<'_> {
    fn drop(&mut self) {
        self.entry_locks.lock().remove(&self.entry);
        self.entry_locks.given_back.notify_all();
    }
}

impl fmt::Debug for EntryLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryLocks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::thread;

    use bytes::Bytes;

    use super::*;
    use crate::cache::error::CacheError;
    use crate::cache::fs::FsStore;
    use crate::cache::store::Store;
    use crate::storage::Durability;

    /// C3, C10: everything that replaces or removes an entry waits for its lock.
    #[test]
    fn every_change_of_an_entry_waits_for_its_lock() {
        type Change = fn(&FsStore, &AssetId, &CachePath) -> Result<(), CacheError>;
        let put: Change = |store, a, x| store.put(a, x, Bytes::from_static(b"anew")).map(|_| ());
        let remove: Change = |store, a, x| store.remove_entry(a, x).map(|_| ());
        let heal: Change = |store, a, x| store.open(a, x).map(drop);
        let remove_damaged: Change = |store, a, x| store.remove_damaged(a, x).map(|_| ());
        let commit: Change = |store, a, x| {
            let partial = store.partial(a, x)?.unwrap();
            partial.commit(&mut || Ok(0)).map(|_| ())
        };
        for (n, change) in [put, remove, heal, remove_damaged, commit]
            .into_iter()
            .enumerate()
        {
            let root = tempfile::tempdir().unwrap();
            let store = FsStore::open(root.path(), Durability::Ordered).unwrap();
            let (a, x) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
            store.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
            std::fs::write(store.tree().layout.entry(&a, &x), "damaged").unwrap();
            let entry_locks = &store.tree().entry_locks;
            let guard = entry_locks.take(&a, &x);
            thread::scope(|scope| {
                let changes = scope.spawn(|| change(&store, &a, &x).unwrap());
                while entry_locks.waited.load(Ordering::Relaxed) == 0 && !changes.is_finished() {
                    thread::yield_now();
                }
                assert!(!changes.is_finished(), "number {n} did not wait");
                drop(guard);
            });
        }
    }
}

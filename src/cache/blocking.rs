//! The cache for threads that may block. Its rule: it is the whole stack, without an executor. Work that no caller needs to
//! wait for is left to the maintenance thread.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_channel::Receiver;

use super::accounts::{Accounts, Lease};
use super::entry::Entry;
use super::error::{CacheError, NotSupportedSnafu};
use super::evict::{EvictingStore, Evictor};
use super::fs::{MissingProtection, Protection};
use super::id::AssetId;
use super::index::IndexStore;
use super::lease::LeaseStore;
use super::maintenance::Maintenance;
use super::partial_entry;
use super::path::CachePath;
use super::policy::EvictionPolicy;
use super::progress::Progress;
use super::store::{Staged, Store, Trash};
use crate::storage::{DamageCallback, StreamingResource};

/// The calls of [`AssetCache`](super::AssetCache) under the same names, for decode threads and tools. Each may block on the
/// disk.
#[derive(Clone)]
pub struct BlockingCache {
    pub(super) stack: Arc<Stack>,
}

pub(super) struct Stack {
    // Dropped before `maintenance`, so that the maintenance thread has the last reference to the store and can close it.
    pub(super) store: Arc<dyn Store>,
    pub(super) evictor: Arc<Evictor>,
    /// Not set where there is nothing to maintain: in memory, and for reading only.
    maintenance: OnceLock<Maintenance>,
    protection: Protection,
}

/// The figures of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Bytes that count under the limit: entries, what is being written, trash, and the most that bookkeeping can take for so
    /// many assets.
    pub bytes: u64,
    /// Bytes of the files of all assets.
    pub asset_bytes: u64,
    /// The limit in bytes.
    pub max_bytes: u64,
    /// Assets with an entry or a pin.
    pub assets: u64,
    /// Entries and records of all assets.
    pub entries: u64,
    /// Assets that are leased or being written now.
    pub leased: u64,
    /// Pinned assets.
    pub pinned: u64,
    /// The eviction policy panicked, and the least recently used asset is evicted since.
    pub policy_panicked: bool,
}

impl BlockingCache {
    /// The whole stack over `index`, without a maintenance thread. Its callers do all the work.
    pub(super) fn over<S, P>(index: IndexStore<S>, policy: P, max_bytes: u64, protection: Protection) -> Self
    where
        S: Store + ?Sized,
        P: EvictionPolicy,
    {
        let accounts = Arc::clone(index.accounts());
        let protected = LeaseStore::new(index, &accounts);
        let store = EvictingStore::new(protected, &accounts, policy, max_bytes);
        let evictor = Arc::clone(store.evictor());
        Self {
            stack: Arc::new(Stack {
                store: Arc::new(store),
                evictor,
                maintenance: OnceLock::new(),
                protection,
            }),
        }
    }

    /// The same with a maintenance thread, which closes `root` in the end if there is one.
    pub(super) fn maintained(self, root: Option<&Path>) -> Result<Self, CacheError> {
        // Started last: until here nothing had to be closed, also if the thread cannot be started.
        let Stack { store, evictor, .. } = &*self.stack;
        let maintenance = Maintenance::start(root, Arc::clone(store), evictor)?;
        self.stack.maintenance.get_or_init(|| maintenance);
        Ok(self)
    }

    pub(super) fn accounts(&self) -> &Arc<Accounts> {
        &self.stack.evictor.accounts
    }

    /// Lets the maintenance thread discard a staged entry, so that dropping a writer does not block on the disk. Without such a
    /// thread the entry is discarded here.
    pub(super) fn discard(&self, staged: Box<dyn Staged>) {
        self.stack.evictor.trash_queue.push(Trash::new(move || {
            drop(staged);
            Ok(())
        }));
        self.tidy();
    }

    pub(crate) fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        self.stack.store.stage(asset, path)
    }

    /// Opens the entry for reading; `None` if it is absent. It stays readable when it is evicted. Counts as an access.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let entry = self.stack.store.open(asset, path)?;
        Ok(entry.map(|entry| entry.on_damage(self.damage_callback(asset, path))))
    }

    /// Removes an entry in which a read finds damage. Holds the cache weakly: a reader does not keep the cache open.
    pub(super) fn damage_callback(&self, asset: &AssetId, path: &CachePath) -> DamageCallback {
        let (stack, asset, path) = (Arc::downgrade(&self.stack), asset.clone(), path.clone());
        DamageCallback::new(move || {
            // Closed meanwhile. The damage is found again in the next session.
            let Some(stack) = stack.upgrade() else {
                return;
            };
            if let Err(error) = stack.store.remove_damaged(&asset, &path) {
                log::warn!("cannot remove a damaged entry: {error}");
            }
        })
    }

    /// Tells this cache from every other open one.
    #[cfg(feature = "file")]
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.stack).addr()
    }

    /// As [`AssetCache::resource`](super::AssetCache::resource).
    ///
    /// # Errors
    ///
    /// [`CacheError::NotSupported`] from a cache in memory; [`CacheError::Io`].
    pub fn resource<E>(
        &self,
        asset: &AssetId,
        path: &CachePath,
    ) -> Result<Option<StreamingResource<E>>, CacheError> {
        // Leased before it is opened. The other way round the asset could be evicted in between, and the lease would protect
        // nothing.
        let lease = self.lease(asset);
        let Some(entry) = self.open(asset, path)? else {
            return Ok(None);
        };
        let Some(file) = entry.into_file() else {
            return NotSupportedSnafu { what: "files" }.fail();
        };
        Ok(Some(partial_entry::open_finished(file, lease)))
    }

    /// As [`AssetCache::lease`](super::AssetCache::lease).
    pub fn lease(&self, asset: &AssetId) -> Lease {
        self.accounts().lease(asset)
    }

    /// How far the scan after opening has come.
    pub fn progress(&self) -> &Progress {
        &self.accounts().progress
    }

    /// As [`AssetCache::missing_protection`](super::AssetCache::missing_protection).
    pub fn missing_protection(&self) -> Vec<MissingProtection> {
        self.stack.protection.missing()
    }

    /// As [`AssetCache::is_read_only`](super::AssetCache::is_read_only).
    pub fn is_read_only(&self) -> bool {
        self.stack.protection.is_read_only()
    }

    /// As [`AssetCache::closed`](super::AssetCache::closed): drops this handle and returns when the cache is closed.
    pub fn closed(self) {
        if let Some(closed) = self.watch_closing() {
            drop(self);
            // Closing the channel is the signal, so the error is what is awaited.
            let _ = closed.recv_blocking();
        }
    }

    /// A channel that is closed with the cache; `None` if there is nothing to wait for.
    pub(super) fn watch_closing(&self) -> Option<Receiver<()>> {
        self.stack.maintenance.get().map(Maintenance::closed)
    }

    /// As [`AssetCache::close`](super::AssetCache::close): drops this handle. If it was the last one, returns when the cache is closed.
    pub fn close(self) {
        if let Some(closed) = self.release() {
            // Closing the channel is the signal, so the error is what is awaited.
            let _ = closed.recv_blocking();
        }
    }

    /// Drops this handle; if it was the last one and there is something to wait for, says how.
    pub(super) fn release(self) -> Option<Receiver<()>> {
        // One of several handles dropped at once gets the stack, and only that one waits.
        let stack = Arc::into_inner(self.stack)?;
        stack.maintenance.get().map(Maintenance::closed)
    }

    /// Empties the trash that the last call left, where no maintenance thread does it.
    pub(super) fn tidy(&self) {
        if self.stack.maintenance.get().is_none() && self.stack.evictor.trash_queue.is_pending() {
            self.stack.evictor.trash_queue.empty();
        }
    }
}

impl fmt::Debug for BlockingCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingCache")
            .field("store", &self.stack.store)
            .finish_non_exhaustive()
    }
}

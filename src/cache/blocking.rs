//! The cache for threads that may block. Its rule: it is the whole stack, without an executor. Work that no caller needs to
//! wait for is left to the maintenance thread.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_channel::Receiver;
use bytes::Bytes;

use super::entry::Entry;
use super::error::CacheError;
use super::evict::EvictingStore;
use super::fs::{FsStore, MissingProtection, Protection};
use super::id::AssetId;
use super::index::IndexStore;
use super::lease::{Lease, LeaseStore, Leases};
use super::maintenance::Maintenance;
use super::partial_entry::{self, PartialEntry};
use super::path::CachePath;
use super::policy::EvictionPolicy;
use super::progress::Progress;
use super::store::{AssetInfo, EntryInfo, Staged, Store, Trash};
use super::timestamp::Timestamp;
use super::trash_queue::TrashQueue;
use crate::storage::{DamageCallback, StreamingResource};

/// The calls of [`AssetCache`](super::AssetCache) under the same names, for decode threads and tools. Each may block on the
/// disk.
#[derive(Clone)]
pub struct BlockingCache {
    stack: Arc<Stack>,
}

struct Stack {
    // Dropped before `maintenance`, so that the maintenance thread has the last reference to the store and can close it.
    store: Arc<dyn Store>,
    leases: Leases,
    trash_queue: Arc<TrashQueue>,
    max_bytes: u64,
    /// `None` where there is nothing to maintain: in memory, and for reading only.
    maintenance: Option<Maintenance>,
    progress: Progress,
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
    /// Entries of all assets.
    pub entries: u64,
    /// Assets that are leased or being written now.
    pub leased: u64,
    /// Pinned assets.
    pub pinned: u64,
}

impl BlockingCache {
    /// A cache without a maintenance thread. Its callers do all the work.
    pub(super) fn without_maintenance<S: Store, P: EvictionPolicy>(
        store: EvictingStore<S, P>,
        leases: Leases,
        protection: Protection,
    ) -> Self {
        let progress = Progress::new();
        progress.end();
        let (trash_queue, max_bytes) = (Arc::clone(store.trash_queue()), store.max_bytes());
        let store = Arc::new(store);
        Self {
            stack: Arc::new(Stack {
                store,
                leases,
                trash_queue,
                max_bytes,
                maintenance: None,
                progress,
                protection,
            }),
        }
    }

    /// A cache under a root that can only be read. Nothing is written, so there is no room to make and nothing to maintain.
    pub(super) fn for_reading(index: IndexStore<FsStore>, max_bytes: u64) -> Self {
        let protection = index.inner().tree().protection().clone();
        let (progress, protected) = (index.progress().clone(), LeaseStore::new(index));
        Self {
            stack: Arc::new(Stack {
                leases: protected.leases().clone(),
                store: Arc::new(protected),
                trash_queue: Arc::default(),
                max_bytes,
                maintenance: None,
                progress,
                protection,
            }),
        }
    }

    /// A cache on disk, with a maintenance thread.
    pub(super) fn with_maintenance<P: EvictionPolicy>(
        root: &Path,
        index: IndexStore<FsStore>,
        policy: P,
        max_bytes: u64,
    ) -> Result<Self, CacheError> {
        let protected = LeaseStore::new(index.clone());
        let protection = index.inner().tree().protection().clone();
        // Taken before the layers above hide them: the facade leases without a call through the stack, and the maintenance
        // thread scans the index itself.
        let (leases, progress) = (protected.leases().clone(), index.progress().clone());
        let store = EvictingStore::new(protected, policy, max_bytes).starting_after(index.newest());
        let trash_queue = Arc::clone(store.trash_queue());
        let store = Arc::new(store);
        let maintenance = Some(Maintenance::start(root, index, Arc::clone(&store), &trash_queue)?);
        Ok(Self {
            stack: Arc::new(Stack {
                store,
                leases,
                trash_queue,
                max_bytes,
                maintenance,
                progress,
                protection,
            }),
        })
    }

    /// Lets the maintenance thread discard a staged entry, so that dropping a writer does not block on the disk. Without such a
    /// thread the entry is discarded here.
    pub(super) fn discard(&self, staged: Box<dyn Staged>) {
        self.stack.trash_queue.push(Trash::new(move || {
            drop(staged);
            Ok(())
        }));
        self.tidy();
    }

    pub(crate) fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        self.stack.store.stage(asset, path)
    }

    /// As [`AssetCache::get`](super::AssetCache::get).
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        self.stack.store.get(asset, path)
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

    /// As [`AssetCache::partial`](super::AssetCache::partial).
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] or [`CacheError::PolicyBusy`] if not even an empty entry fits, [`CacheError::NoFiles`]
    /// from a cache in memory, [`CacheError::Io`].
    pub fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<PartialEntry>, CacheError> {
        let partial = self.stack.store.partial(asset, path)?;
        // An access by itself: a claim without a write leaves nothing that a later call could count as one.
        self.stack.store.touch(asset, Timestamp::default());
        Ok(partial.map(|partial| PartialEntry::new(partial, self, asset, path)))
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
    /// [`CacheError::NoFiles`] from a cache in memory; [`CacheError::Io`].
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
        let file = entry.into_file().ok_or(CacheError::NoFiles)?;
        Ok(Some(partial_entry::open_finished(file, lease)))
    }

    /// As [`AssetCache::contains`](super::AssetCache::contains).
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.stack.store.contains(asset, path)
    }

    /// As [`AssetCache::put_atomic`](super::AssetCache::put_atomic).
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] or [`CacheError::PolicyBusy`] if it does not fit, [`CacheError::Io`]. The old version stays.
    pub fn put_atomic(&self, asset: &AssetId, path: &CachePath, bytes: Bytes) -> Result<(), CacheError> {
        self.stack.store.put(asset, path, bytes)?;
        self.tidy();
        Ok(())
    }

    /// Removes one entry. `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        Ok(self.stack.store.remove_entry(asset, path)?.is_some())
    }

    /// Removes an asset. `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::InUse`] if it is leased, pinned or being written; [`CacheError::Io`].
    pub fn remove(&self, asset: &AssetId) -> Result<bool, CacheError> {
        let removed = self.stack.store.remove(asset)?.is_some();
        self.tidy();
        Ok(removed)
    }

    /// As [`AssetCache::clear`](super::AssetCache::clear).
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. Some assets may be removed by then.
    pub fn clear(&self) -> Result<u64, CacheError> {
        self.stack.store.ready()?;
        let mut kept = 0;
        for info in self.stack.store.assets()? {
            // Leased or pinned since it was listed, or before: it stays, and the others still go.
            match self.stack.store.remove(&info.id) {
                Err(CacheError::InUse { .. }) => kept += 1,
                removed => drop(removed?),
            }
        }
        self.tidy();
        Ok(kept)
    }

    /// As [`AssetCache::lease`](super::AssetCache::lease).
    pub fn lease(&self, asset: &AssetId) -> Lease {
        let lease = self.stack.leases.take(asset);
        // After the lease: the policy may evict in this call, and must not evict this asset.
        self.stack.store.touch(asset, Timestamp::default());
        lease
    }

    /// As [`AssetCache::pin`](super::AssetCache::pin).
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] or [`CacheError::PolicyBusy`] if the pin does not fit, [`CacheError::Io`].
    pub fn pin(&self, asset: &AssetId) -> Result<(), CacheError> {
        self.stack.store.set_pinned(asset, true)
    }

    /// Removes the pin of an asset.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn unpin(&self, asset: &AssetId) -> Result<(), CacheError> {
        self.stack.store.set_pinned(asset, false)
    }

    /// What is known of one asset; `None` if it has neither entries nor a pin.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.stack.store.ready()?;
        self.stack.store.asset(asset)
    }

    /// All assets, the least recently used first.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        self.stack.store.ready()?;
        let mut assets = self.stack.store.assets()?;
        assets.sort_by_key(|info| info.last_access);
        Ok(assets)
    }

    /// The entries of one asset, in the order of their paths.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        let mut entries = self.stack.store.entries(asset)?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// The figures of the whole cache.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn stats(&self) -> Result<CacheStats, CacheError> {
        self.stack.store.ready()?;
        let mut stats = CacheStats {
            bytes: self.stack.store.used_bytes()?,
            max_bytes: self.stack.max_bytes,
            ..CacheStats::default()
        };
        for info in self.stack.store.assets()? {
            stats.assets += 1;
            stats.asset_bytes += info.bytes;
            stats.entries += info.files;
            stats.leased += u64::from(info.leased);
            stats.pinned += u64::from(info.pinned);
        }
        Ok(stats)
    }

    /// As [`AssetCache::checkpoint`](super::AssetCache::checkpoint).
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The entries themselves are safe.
    pub fn checkpoint(&self) -> Result<(), CacheError> {
        self.stack.store.checkpoint()
    }

    /// How far the scan after opening has come.
    pub fn progress(&self) -> &Progress {
        &self.stack.progress
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
        self.stack.maintenance.as_ref().map(Maintenance::closed)
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
        stack.maintenance.as_ref().map(Maintenance::closed)
    }

    /// Empties the trash that the last call left, where no maintenance thread does it.
    pub(super) fn tidy(&self) {
        if self.stack.maintenance.is_none() && self.stack.trash_queue.is_pending() {
            self.stack.trash_queue.empty();
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

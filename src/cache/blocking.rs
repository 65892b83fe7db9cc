//! The cache for threads that may block. Its rule: it is the whole stack with nobody's executor in it; what need not be
//! waited for is left to the maintenance thread.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_channel::Receiver;
use bytes::Bytes;

use super::entry::Entry;
use super::error::CacheError;
use super::evict::EvictingStore;
use super::fs::FsStore;
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
use crate::storage::{Alarm, StreamingResource};

/// The calls of [`AssetCache`](super::AssetCache) under the same names, for decode threads and tools. Each may wait
/// for the disk.
#[derive(Clone)]
pub struct BlockingCache {
    stack: Arc<Stack>,
}

struct Stack {
    // Dropped before the maintenance thread, which then has the last hold on the store.
    store: Arc<dyn Store>,
    leases: Leases,
    trash_queue: Arc<TrashQueue>,
    max_bytes: u64,
    /// `None` in memory, where there is nothing to keep.
    maintenance: Option<Maintenance>,
    progress: Progress,
}

/// Figures of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Bytes that count against the limit: entries, what is being written, trash, and the most that bookkeeping can
    /// take for this many assets.
    pub bytes: u64,
    /// Bytes of the files of all assets.
    pub asset_bytes: u64,
    /// The limit in bytes.
    pub max_bytes: u64,
    /// Assets with an entry or a pin.
    pub assets: u64,
    /// Entries of all assets.
    pub entries: u64,
    /// Assets leased or being written now.
    pub leased: u64,
    /// Pinned assets.
    pub pinned: u64,
}

impl BlockingCache {
    /// A cache that does all its work in its callers' time.
    pub(super) fn without_maintenance<S: Store, P: EvictionPolicy>(
        store: EvictingStore<S, P>,
        leases: Leases,
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
            }),
        }
    }

    /// A cache on disk, with a thread of its own.
    pub(super) fn with_maintenance<P: EvictionPolicy>(
        root: &Path,
        index: IndexStore<FsStore>,
        policy: P,
        max_bytes: u64,
    ) -> Result<Self, CacheError> {
        let protected = LeaseStore::new(index.clone());
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
            }),
        })
    }

    /// Lets a staged entry be discarded by whoever has time for it.
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

    /// The whole entry, or `None` if it is not there, or no longer what was put there: then it is taken away.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        self.stack.store.get(asset, path)
    }

    /// The entry opened for reading, or `None` if it is not there. It stays readable when it is evicted.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let entry = self.stack.store.open(asset, path)?;
        Ok(entry.map(|entry| entry.with_alarm(self.alarm(asset, path))))
    }

    /// Takes an entry in which damage was found out of the cache, if it is still open by then.
    pub(super) fn alarm(&self, asset: &AssetId, path: &CachePath) -> Alarm {
        let (stack, asset, path) = (Arc::downgrade(&self.stack), asset.clone(), path.clone());
        Alarm::new(move || {
            let Some(stack) = stack.upgrade() else {
                return;
            };
            if let Err(error) = stack.store.remove_damaged(&asset, &path) {
                log::warn!("cannot remove a damaged entry: {error}");
            }
        })
    }

    /// Claims the partial file of an entry, to be filled in any order and resumed after a restart. `None` if somebody
    /// has it; one who is about to let it go is waited for. Counts as use.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] or [`CacheError::PolicyBusy`] if not even an empty entry fits, [`CacheError::NoFiles`]
    /// from a cache in memory, [`CacheError::Io`].
    pub fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<PartialEntry>, CacheError> {
        let partial = self.stack.store.partial(asset, path)?;
        self.stack.store.touch(asset, Timestamp::default());
        Ok(partial.map(|partial| PartialEntry::new(partial, self, asset, path)))
    }

    /// Tells this cache from every other that is open.
    #[cfg(feature = "file")]
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.stack).addr()
    }

    /// The whole entry as a resource that many can read, `None` if it is not there. Until the last reader is dropped
    /// its asset is leased.
    ///
    /// Each 128 KiB of it are checked when they are first read, once as long as the resource is open. What is damaged is
    /// [`StreamingError::Damaged`](crate::storage::StreamingError::Damaged), and the entry leaves the cache.
    ///
    /// # Errors
    ///
    /// [`CacheError::NoFiles`] from a cache in memory; [`CacheError::Io`].
    pub fn resource<E>(
        &self,
        asset: &AssetId,
        path: &CachePath,
    ) -> Result<Option<StreamingResource<E>>, CacheError> {
        let lease = self.lease(asset);
        let Some(entry) = self.open(asset, path)? else {
            return Ok(None);
        };
        let file = entry.into_file().ok_or(CacheError::NoFiles)?;
        Ok(Some(partial_entry::open_finished(file, lease)))
    }

    /// Whether the entry is there: a file under its name with a whole footer and the length that it tells. Cheap, for its
    /// bytes are not looked at; one that the disk has damaged is there until somebody reads it. Whoever finds damage, in
    /// [`get`](Self::get) or by reading what [`open`](Self::open) or [`resource`](Self::resource) gave, takes the entry
    /// away. Does not count as use.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.stack.store.contains(asset, path)
    }

    /// Stores a whole entry in the place of whatever stood there.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] or [`CacheError::PolicyBusy`] if it does not fit, [`CacheError::Io`].
    pub fn put_atomic(&self, asset: &AssetId, path: &CachePath, bytes: Bytes) -> Result<(), CacheError> {
        self.stack.store.put(asset, path, bytes)?;
        self.tidy();
        Ok(())
    }

    /// Removes one entry; `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        Ok(self.stack.store.remove_entry(asset, path)?.is_some())
    }

    /// Removes an asset; `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::InUse`] if it is leased, pinned or being written; [`CacheError::Io`].
    pub fn remove(&self, asset: &AssetId) -> Result<bool, CacheError> {
        let removed = self.stack.store.remove(asset)?.is_some();
        self.tidy();
        Ok(removed)
    }

    /// Removes every asset that is not leased, pinned or being written, and says how many stay.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]; some assets may be removed by then.
    pub fn clear(&self) -> Result<u64, CacheError> {
        self.stack.store.ready()?;
        let mut kept = 0;
        for info in self.stack.store.assets()? {
            match self.stack.store.remove(&info.id) {
                Err(CacheError::InUse { .. }) => kept += 1,
                removed => drop(removed?),
            }
        }
        self.tidy();
        Ok(kept)
    }

    /// Claims an asset, whether or not it has entries yet: until the lease is dropped it is not removed. Counts as
    /// use. Waits for no disk; uses are told the eviction policy some at once, and now and then it is this call that
    /// tells them.
    pub fn lease(&self, asset: &AssetId) -> Lease {
        let lease = self.stack.leases.take(asset);
        self.stack.store.touch(asset, Timestamp::default());
        lease
    }

    /// Marks an asset to be kept, durably: it is not evicted, in this run or later, until it is unpinned. Counts as
    /// use.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] or [`CacheError::PolicyBusy`] if its mark does not fit, [`CacheError::Io`].
    pub fn pin(&self, asset: &AssetId) -> Result<(), CacheError> {
        self.stack.store.set_pinned(asset, true)
    }

    /// Takes the mark away.
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

    /// Figures of the whole cache.
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

    /// Makes recency and sizes durable, and empties the trash.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The entries are not at stake.
    pub fn checkpoint(&self) -> Result<(), CacheError> {
        self.stack.store.checkpoint()
    }

    /// How far the scan at the disk after opening has come.
    pub fn progress(&self) -> &Progress {
        &self.stack.progress
    }

    /// Drops this handle and returns when the cache is closed, see [`AssetCache::closed`](super::AssetCache::closed).
    pub fn closed(self) {
        if let Some(closed) = self.watch_closing() {
            drop(self);
            // An error is what is waited for: the channel was closed.
            let _ = closed.recv_blocking();
        }
    }

    /// Ends when the cache is closed; `None` where there is nothing to wait for.
    pub(super) fn watch_closing(&self) -> Option<Receiver<()>> {
        self.stack.maintenance.as_ref().map(Maintenance::closed)
    }

    /// Drops this handle. If it was the last one, returns when everything is written down and the root's lock is free; if
    /// not, at once: [`closed`](Self::closed) waits for the others.
    pub fn close(self) {
        if let Some(closed) = self.release() {
            // An error is what is waited for: the channel was closed.
            let _ = closed.recv_blocking();
        }
    }

    /// Drops this handle; if it was the last one and there is something to wait for, says how.
    pub(super) fn release(self) -> Option<Receiver<()>> {
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

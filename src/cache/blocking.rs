//! The cache for threads that may block.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::bin::Bin;
use super::entry::Entry;
use super::error::CacheError;
use super::evict::EvictingStore;
use super::id::AssetId;
use super::lease::{Lease, Leases};
use super::path::CachePath;
use super::policy::EvictionPolicy;
use super::store::{AssetInfo, EntryInfo, Staged, Stamp, Store};

/// The calls of [`AssetCache`](super::AssetCache) under the same names, for decode threads and tools. Each may wait
/// for the disk.
#[derive(Clone)]
pub struct BlockingCache {
    shared: Arc<Shared>,
}

struct Shared {
    store: Box<dyn Store>,
    leases: Leases,
    bin: Arc<Bin>,
    max_bytes: u64,
}

/// Figures of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Bytes that count against the limit: entries, what is being written, bookkeeping, trash.
    pub bytes: u64,
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
    pub(crate) fn over<S: Store, P: EvictionPolicy>(store: EvictingStore<S, P>, leases: Leases) -> Self {
        let (bin, max_bytes) = (Arc::clone(store.bin()), store.max_bytes());
        Self {
            shared: Arc::new(Shared {
                store: Box::new(store),
                leases,
                bin,
                max_bytes,
            }),
        }
    }

    pub(crate) fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        self.shared.store.stage(asset, path)
    }

    /// The whole entry, or `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]; [`CacheError::Damaged`] if the file was cut short while it was read.
    pub fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        self.open(asset, path)?.map(|entry| entry.read()).transpose()
    }

    /// The entry opened for reading, or `None` if it is not there. It stays readable when it is evicted.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        self.shared.store.open(asset, path)
    }

    /// Whether the entry is there. Does not count as use.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.shared.store.contains(asset, path)
    }

    /// Stores a whole entry in the place of whatever stood there.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] if it does not fit, [`CacheError::Io`].
    pub fn put_atomic(&self, asset: &AssetId, path: &CachePath, bytes: Bytes) -> Result<(), CacheError> {
        let mut staged = self.stage(asset, path)?;
        staged.write(&[bytes])?;
        staged.commit()?;
        self.tidy();
        Ok(())
    }

    /// Removes one entry; `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        Ok(self.shared.store.remove_entry(asset, path)?.is_some())
    }

    /// Removes an asset; `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::InUse`] if it is leased, pinned or being written; [`CacheError::Io`].
    pub fn remove(&self, asset: &AssetId) -> Result<bool, CacheError> {
        let removed = self.shared.store.remove(asset)?.is_some();
        self.tidy();
        Ok(removed)
    }

    /// Removes every asset that is not leased, pinned or being written, and says how many stay.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]; some assets may be removed by then.
    pub fn clear(&self) -> Result<u64, CacheError> {
        let mut kept = 0;
        for info in self.shared.store.assets()? {
            match self.shared.store.remove(&info.id) {
                Err(CacheError::InUse { .. }) => kept += 1,
                removed => drop(removed?),
            }
        }
        self.tidy();
        Ok(kept)
    }

    /// Claims an asset, whether or not it has entries yet: until the lease is dropped it is not removed. Counts as
    /// use. Does not block.
    pub fn lease(&self, asset: &AssetId) -> Lease {
        let lease = self.shared.leases.take(asset);
        self.shared.store.touch(asset, Stamp::default());
        lease
    }

    /// Marks an asset to be kept, durably: it is not evicted, in this run or later, until it is unpinned. Counts as
    /// use.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn pin(&self, asset: &AssetId) -> Result<(), CacheError> {
        self.shared.store.set_pinned(asset, true)
    }

    /// Takes the mark away.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn unpin(&self, asset: &AssetId) -> Result<(), CacheError> {
        self.shared.store.set_pinned(asset, false)
    }

    /// What is known of one asset; `None` if it has neither entries nor a pin.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.shared.store.asset(asset)
    }

    /// All assets, the least recently used first.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        let mut assets = self.shared.store.assets()?;
        assets.sort_by_key(|info| info.last_access);
        Ok(assets)
    }

    /// The entries of one asset, in the order of their paths.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        let mut entries = self.shared.store.entries(asset)?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Figures of the whole cache.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    pub fn stats(&self) -> Result<CacheStats, CacheError> {
        let mut stats = CacheStats {
            bytes: self.shared.store.used_bytes()?,
            max_bytes: self.shared.max_bytes,
            ..CacheStats::default()
        };
        for info in self.shared.store.assets()? {
            stats.assets += 1;
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
        self.shared.store.checkpoint()
    }

    /// Empties the trash that the last call left, if any.
    pub(crate) fn tidy(&self) {
        if self.shared.bin.is_pending() {
            self.shared.bin.empty();
        }
    }
}

impl fmt::Debug for BlockingCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingCache")
            .field("store", &self.shared.store)
            .finish_non_exhaustive()
    }
}

//! Opening a cache.

use std::path::PathBuf;
use std::sync::Arc;

use super::asset_cache::AssetCache;
use super::blocking::BlockingCache;
use super::error::CacheError;
use super::fs::{FsStore, Protection};
use super::index::IndexStore;
use super::memory::MemoryStore;
use super::policy::{EvictionPolicy, Lru, Never};
use super::store::Store;
use crate::rt;
use crate::storage::Durability;

/// Bytes of the smallest limit with an index on disk. A smaller one leaves no room for it.
const MIN_INDEXED: u64 = 32 * 1024;

/// Bytes of the smallest limit under which entries count in the whole units of 4 KiB that they take on the disk. A smaller one
/// has too few of them: there they count by their lengths.
const MIN_IN_UNITS: u64 = 1 << 20;

/// Settings of an [`AssetCache`]. From [`AssetCache::builder`].
#[derive(Debug)]
#[must_use = "nothing is opened until `open` is called"]
pub struct AssetCacheBuilder {
    root: PathBuf,
    store: Option<Arc<dyn Store>>,
    max_bytes: u64,
    durability: Durability,
    policy: Box<dyn EvictionPolicy>,
}

impl AssetCacheBuilder {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            store: None,
            max_bytes: 1 << 30,
            durability: Durability::Full,
            policy: Box::new(Lru::new()),
        }
    }

    /// Keeps everything in `store`, in place of files under the root, which is not touched then. The cache lists the store when
    /// it opens. What was used when is known only as far as the store tells it then.
    ///
    /// [`MemoryStore`] gives a cache in memory with these settings.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// The limit in bytes for everything under the root: entries, what is being written, bookkeeping and trash. 1 GiB by
    /// default.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// What a finished write survives. [`Durability::Full`] by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Names the assets to evict when room is needed. [`Lru`] by default.
    pub fn policy(mut self, policy: impl EvictionPolicy) -> Self {
        self.policy = Box::new(policy);
        self
    }

    /// Opens the cache.
    ///
    /// Where the root cannot be written to (a read-only file system, another user's folder), the cache opens for reading: see
    /// [`AssetCache::is_read_only`]. Where the file system lacks something that protects it, the cache opens without: see
    /// [`AssetCache::missing_protection`].
    ///
    /// # Errors
    ///
    /// [`CacheError::Locked`] if the root is open elsewhere, in this process or another; [`CacheError::Io`] if it
    /// cannot be created, locked or listed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the cache is opened and closed again in the background.
    pub async fn open(self) -> Result<AssetCache, CacheError> {
        rt::unblock(|| self.open_blocking()).await
    }

    /// As [`open`](Self::open), for threads that may block.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_blocking(self) -> Result<AssetCache, CacheError> {
        let Self {
            root,
            max_bytes,
            policy,
            ..
        } = self;
        // No lock is taken: whether another process may use the app's store is for the store to say.
        if let Some(store) = self.store {
            let index = IndexStore::listed(store)?;
            let cache = BlockingCache::over(index, policy, max_bytes, Protection::default());
            return Ok(AssetCache::new(cache.maintained(None)?));
        }
        // The root's lock comes first, and everything after it is undone by dropping the store if a later step fails.
        let files = FsStore::open(&root, self.durability)?;
        if max_bytes >= MIN_IN_UNITS {
            files.tree().count_in_units();
        }
        let (read_only, protection) = (files.is_read_only(), files.tree().protection().clone());
        let index = IndexStore::open_within(files, max_bytes >= MIN_INDEXED, max_bytes)?;
        if read_only {
            // Nothing is written, so there is no room to make and nothing to maintain.
            let cache = BlockingCache::over(index, Never, max_bytes, protection);
            return Ok(AssetCache::new(cache));
        }
        let cache = BlockingCache::over(index, policy, max_bytes, protection);
        Ok(AssetCache::new(cache.maintained(Some(&root))?))
    }
}

/// A cache that keeps everything in memory.
pub(crate) fn memory(max_bytes: u64) -> AssetCache {
    let index = IndexStore::empty(MemoryStore::new());
    AssetCache::new(BlockingCache::over(
        index,
        Lru::new(),
        max_bytes,
        Protection::default(),
    ))
}

//! For tests of the layers: what they need besides the public calls. Needs the feature `test-util`; no part of the stable
//! interface.
//!
//! A [`ManualCache`] is a cache on any [`Disk`], such as the fake one of [`storage::testing`](crate::storage::testing). The
//! functions reach between the steps of a layer. They count waiting threads, so that a test need not sleep, and they start
//! work that otherwise begins by itself.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use kithara::cache::testing::{ManualCache, fs_store};
//! use kithara::cache::{AssetId, CachePath, Durability};
//! use kithara::storage::testing::{Dice, FakeDisk};
//!
//! let open = |disk: &FakeDisk| {
//!     let disk = Arc::new(disk.clone());
//!     ManualCache::open(fs_store(disk, Path::new("/"), Durability::Full)?, 1 << 20)
//! };
//! let disk = FakeDisk::default();
//! let (asset, path) = (AssetId::from_key("track")?, CachePath::parse("segment")?);
//! open(&disk)?.put_atomic(&asset, &path, "bytes".into())?;
//!
//! let found = disk.power_cut(disk.changes(), &mut Dice(7));
//! assert!(open(&found)?.get(&asset, &path)?.is_some());
//! # Ok::<(), kithara::cache::CacheError>(())
//! ```

#[doc(hidden)]
pub mod contract;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::cache::blocking::BlockingCache;
use crate::cache::error::CacheError;
use crate::cache::evict::EvictingStore;
use crate::cache::fs::FsStore;
use crate::cache::id::AssetId;
use crate::cache::index::IndexStore;
use crate::cache::path::CachePath;
use crate::cache::policy::{Lru, Never};
use crate::cache::store::{Staged, Store};
use crate::storage::Durability;
use crate::storage::testing::Disk;

/// A store on `disk`, without a lock. The directory `root` exists.
///
/// # Errors
///
/// [`CacheError::Io`] if the directories under `root` cannot be created.
pub fn fs_store(disk: Arc<dyn Disk>, root: &Path, durability: Durability) -> Result<FsStore, CacheError> {
    FsStore::on(disk, root, durability)
}

/// A cache on `disk` under a root that can only be read.
///
/// # Errors
///
/// [`CacheError::Io`] if the trash cannot be listed.
pub fn read_only(disk: Arc<dyn Disk>, root: &Path, max_bytes: u64) -> Result<BlockingCache, CacheError> {
    let index = IndexStore::open_within(FsStore::on_read_only(disk, root)?, true, max_bytes)?;
    let protection = index.inner().tree().protection().clone();
    Ok(BlockingCache::over(index, Never, max_bytes, protection))
}

/// A cache without a maintenance thread: what the thread does is done in its callers' calls, in order. Dropping it closes
/// the cache, as the thread does.
#[derive(Debug)]
pub struct ManualCache {
    cache: BlockingCache,
    index: IndexStore<FsStore>,
}

impl ManualCache {
    /// Opens a cache over `files` and scans it. A failed scan is tried again by the first write.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the trash cannot be listed.
    pub fn open(files: FsStore, max_bytes: u64) -> Result<Self, CacheError> {
        let index = IndexStore::open_within(files, true, max_bytes)?;
        let protection = index.inner().tree().protection().clone();
        let cache = BlockingCache::over(index.clone(), Lru::new(), max_bytes, protection);
        let _ = index.scan().and_then(|()| cache.stack.evictor.ready());
        cache.tidy();
        Ok(Self { cache, index })
    }

    /// The index of the cache.
    pub fn index(&self) -> &IndexStore<FsStore> {
        &self.index
    }
}

impl Deref for ManualCache {
    type Target = BlockingCache;

    fn deref(&self) -> &BlockingCache {
        &self.cache
    }
}

impl Drop for ManualCache {
    fn drop(&mut self) {
        self.cache.tidy();
        self.index.accounts().seal();
    }
}

/// Empties the trash that the last call left, if the cache has no maintenance thread.
pub fn tidy(cache: &BlockingCache) {
    cache.tidy();
}

/// Starts a new version of an entry, as [`AssetCache::writer`](crate::cache::AssetCache::writer) does.
///
/// # Errors
///
/// As [`AssetCache::writer`](crate::cache::AssetCache::writer).
pub fn stage(
    cache: &BlockingCache,
    asset: &AssetId,
    path: &CachePath,
) -> Result<Box<dyn Staged>, CacheError> {
    cache.stage(asset, path)
}

/// Writes everything down at the end of a session.
pub fn seal(index: &IndexStore<FsStore>) {
    index.accounts().seal();
}

/// Reads the figures of an asset anew from the inner store, as a scan does.
pub fn refresh<S: Store>(index: &IndexStore<S>, asset: &AssetId) {
    index.accounts().refresh(asset);
}

/// Makes the bookkeeping of an index durable.
///
/// # Errors
///
/// [`CacheError::Io`].
pub fn checkpoint<S: Store>(index: &IndexStore<S>) -> Result<(), CacheError> {
    index.accounts().checkpoint()
}

/// Bytes by which the index grows if this asset is written to.
pub fn row_bytes<S: Store>(index: &IndexStore<S>, asset: &AssetId) -> u64 {
    index.accounts().state().table.row_bytes(asset)
}

/// How often a thread has waited for another one to empty trash.
pub fn trash_waits<S, P>(store: &EvictingStore<S, P>) -> usize {
    store.evictor().trash_queue.waits()
}

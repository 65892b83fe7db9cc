//! The cache for async code. Its rule: a call hops to a blocking thread once, and no poll waits for the disk.

use std::path::PathBuf;

use bytes::Bytes;

use super::blocking::{BlockingCache, CacheStats};
use super::builder::{self, AssetCacheBuilder};
use super::error::CacheError;
use super::id::AssetId;
use super::lease::Lease;
use super::partial_entry::PartialEntry;
use super::path::CachePath;
use super::progress::Progress;
use super::reader::EntryReader;
use super::single_flight::SingleFlight;
use super::store::{AssetInfo, EntryInfo};
use super::writer::EntryWriter;
use crate::rt;
use crate::storage::StreamingResource;

/// A cache of assets. Cheap to clone: all clones are one cache, which closes when the last is dropped.
///
/// Every call hops to a blocking thread once and works on any executor. [`blocking`](Self::blocking) has the same
/// calls without the hop.
///
/// # Cancel safety
///
/// Of all calls, unless they say otherwise: what was begun on the blocking thread runs to its end when the future is
/// dropped, so a put may still take place. Nothing is ever half done.
#[derive(Clone, Debug)]
pub struct AssetCache {
    blocking: BlockingCache,
    single_flight: SingleFlight,
}

impl AssetCache {
    /// Settings for a cache under the directory `root`, which is made if need be.
    pub fn builder(root: impl Into<PathBuf>) -> AssetCacheBuilder {
        AssetCacheBuilder::new(root.into())
    }

    /// A cache of up to `max_bytes` in memory that never touches a disk.
    pub fn memory(max_bytes: u64) -> Self {
        builder::memory(max_bytes)
    }

    pub(crate) fn over(blocking: BlockingCache) -> Self {
        Self {
            blocking,
            single_flight: SingleFlight::default(),
        }
    }

    /// The same cache for threads that may block.
    pub fn blocking(&self) -> &BlockingCache {
        &self.blocking
    }

    async fn hop<T: Send + 'static>(
        &self,
        call: impl FnOnce(&BlockingCache) -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let blocking = self.blocking.clone();
        rt::unblock(move || call(&blocking)).await
    }

    async fn hop_asset<T: Send + 'static>(
        &self,
        asset: &AssetId,
        call: impl FnOnce(&BlockingCache, &AssetId) -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let asset = asset.clone();
        self.hop(move |cache| call(cache, &asset)).await
    }

    async fn hop_entry<T: Send + 'static>(
        &self,
        asset: &AssetId,
        path: &CachePath,
        call: impl FnOnce(&BlockingCache, &AssetId, &CachePath) -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let (asset, path) = (asset.clone(), path.clone());
        self.hop(move |cache| call(cache, &asset, &path)).await
    }

    /// The whole entry, or `None` if it is not there, or no longer what was put there: then it is taken away. Counts
    /// as use of the asset.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        self.hop_entry(asset, path, BlockingCache::get).await
    }

    /// The entry opened for reading in chunks, or `None` if it is not there. Counts as use of the asset. The reader
    /// reads on when the entry is replaced or evicted.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<EntryReader>, CacheError> {
        let entry = self.hop_entry(asset, path, BlockingCache::open).await?;
        Ok(entry.map(EntryReader::new))
    }

    /// Claims the partial file of an entry, to be filled in any order and resumed after a restart. `None` if somebody
    /// has it; one who is about to let it go is waited for. Counts as use.
    ///
    /// # Errors
    ///
    /// As [`BlockingCache::partial`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the claim go.
    pub async fn partial(
        &self,
        asset: &AssetId,
        path: &CachePath,
    ) -> Result<Option<PartialEntry>, CacheError> {
        self.hop_entry(asset, path, BlockingCache::partial).await
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
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn resource<E: Send + Sync + 'static>(
        &self,
        asset: &AssetId,
        path: &CachePath,
    ) -> Result<Option<StreamingResource<E>>, CacheError> {
        self.hop_entry(asset, path, BlockingCache::resource).await
    }

    /// Whether the entry is there: a file under its name with a whole footer and the length that it tells. Cheap, for its
    /// bytes are not looked at; one that the disk has damaged is there until somebody reads it. Whoever finds damage, in
    /// [`get`](Self::get) or by reading what [`open`](Self::open) or [`resource`](Self::resource) gave, takes the entry
    /// away. Does not count as use.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.hop_entry(asset, path, BlockingCache::contains).await
    }

    /// Stores a whole entry in the place of whatever stood there: a reader finds the old entry or the new one, also
    /// after a crash.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] or [`CacheError::PolicyBusy`] if it does not fit, [`CacheError::Io`]. The old entry then
    /// stands.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the old entry or the new one.
    pub async fn put_atomic(
        &self,
        asset: &AssetId,
        path: &CachePath,
        bytes: Bytes,
    ) -> Result<(), CacheError> {
        self.hop_entry(asset, path, move |cache, asset, path| {
            cache.put_atomic(asset, path, bytes)
        })
        .await
    }

    /// The whole entry, fetched by `fetch` and stored if it is not there. Callers who want the same entry at once share
    /// one fetch: if the one fetching is dropped or fails, the next takes over with its own `fetch`.
    ///
    /// If the fetched bytes cannot be stored they are returned all the same: a cache that fails never stops playback.
    ///
    /// A `fetch` that asks for its own entry does not wait for itself: the inner call runs its own `fetch` and stores
    /// nothing. That is seen where the inner call is polled as part of the outer one; a fetch that waits for another task
    /// or thread which asks for the entry waits for ever.
    ///
    /// # Errors
    ///
    /// What `fetch` answers. An entry that cannot be read is fetched.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what was fetched so far; another caller waiting for the same entry fetches it.
    pub async fn get_or_fetch<E, F>(
        &self,
        asset: &AssetId,
        path: &CachePath,
        fetch: impl FnOnce() -> F,
    ) -> Result<Bytes, E>
    where
        F: Future<Output = Result<Bytes, E>>,
    {
        if let Some(bytes) = self.get_or_miss(asset, path).await {
            return Ok(bytes);
        }
        if self.single_flight.is_polled_here(asset, path) {
            return fetch().await;
        }
        let mut permit = self.single_flight.permit(asset, path).await;
        if let Some(bytes) = &*permit.fetched {
            return Ok(bytes.clone());
        }
        if let Some(bytes) = self.get_or_miss(asset, path).await {
            *permit.fetched = Some(bytes.clone());
            return Ok(bytes);
        }
        let bytes = permit.run(fetch()).await?;
        *permit.fetched = Some(bytes.clone());
        if let Err(error) = self.put_atomic(asset, path, bytes.clone()).await {
            log::warn!("cannot keep a fetched entry: {error}");
        }
        Ok(bytes)
    }

    async fn get_or_miss(&self, asset: &AssetId, path: &CachePath) -> Option<Bytes> {
        self.get(asset, path).await.unwrap_or_else(|error| {
            log::warn!("cannot read an entry, fetching it instead: {error}");
            None
        })
    }

    /// Starts a new version of an entry whose length need not be known. Until it is committed nobody sees it; if the
    /// writer is dropped nobody ever does. Room is made as the bytes come: what was evicted for the first of them is
    /// gone when there turns out to be none for the last.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] or [`CacheError::PolicyBusy`] if not even an empty entry fits, [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn writer(&self, asset: &AssetId, path: &CachePath) -> Result<EntryWriter, CacheError> {
        let staged = self.hop_entry(asset, path, BlockingCache::stage).await?;
        Ok(EntryWriter::new(staged, self.blocking.clone()))
    }

    /// Removes one entry; `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// The entry may still be removed when the future is dropped.
    pub async fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.hop_entry(asset, path, BlockingCache::remove_entry).await
    }

    /// Removes an asset; `false` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::InUse`] if it is leased, pinned or being written; [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// The asset may still be removed when the future is dropped.
    pub async fn remove(&self, asset: &AssetId) -> Result<bool, CacheError> {
        self.hop_asset(asset, BlockingCache::remove).await
    }

    /// Removes every asset that is not leased, pinned or being written, and says how many stay.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]; some assets may be removed by then.
    ///
    /// # Cancel safety
    ///
    /// Assets may still be removed when the future is dropped.
    pub async fn clear(&self) -> Result<u64, CacheError> {
        self.hop(BlockingCache::clear).await
    }

    /// Claims an asset, whether or not it has entries yet: until the lease is dropped it is not removed. Leases are
    /// counted. Counts as use. Waits for no disk; uses are told the eviction policy some at once, and now and then it is
    /// this call that tells them.
    pub fn lease(&self, asset: &AssetId) -> Lease {
        self.blocking.lease(asset)
    }

    /// Marks an asset to be kept, durably: it is not evicted, in this run or later, until it is unpinned. Counts as
    /// use.
    ///
    /// # Errors
    ///
    /// As [`BlockingCache::pin`].
    ///
    /// # Cancel safety
    ///
    /// The asset may still be pinned when the future is dropped.
    pub async fn pin(&self, asset: &AssetId) -> Result<(), CacheError> {
        self.hop_asset(asset, BlockingCache::pin).await
    }

    /// Takes the mark away.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// The asset may still be unpinned when the future is dropped.
    pub async fn unpin(&self, asset: &AssetId) -> Result<(), CacheError> {
        self.hop_asset(asset, BlockingCache::unpin).await
    }

    /// What is known of one asset; `None` if it has neither entries nor a pin.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.hop_asset(asset, BlockingCache::asset).await
    }

    /// All assets, the least recently used first.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        self.hop(BlockingCache::assets).await
    }

    /// The entries of one asset, in the order of their paths.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.hop_asset(asset, BlockingCache::entries).await
    }

    /// Figures of the whole cache.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn stats(&self) -> Result<CacheStats, CacheError> {
        self.hop(BlockingCache::stats).await
    }

    /// Makes recency and sizes durable, and empties the trash.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The entries are not at stake.
    ///
    /// # Cancel safety
    ///
    /// The checkpoint may still be written when the future is dropped.
    pub async fn checkpoint(&self) -> Result<(), CacheError> {
        self.hop(BlockingCache::checkpoint).await
    }

    /// How far the scan at the disk after opening has come.
    pub fn progress(&self) -> &Progress {
        self.blocking.progress()
    }

    /// Drops this handle and resolves when the cache is closed: the last handle is gone, everything is written down and
    /// the root's lock is free. Whoever opens the root next does not get [`CacheError::Locked`] from this cache.
    ///
    /// Sources, streams, drivers and partial entries hold the cache too, and a driver for a moment longer than the stream it
    /// serves; a handle kept for ever is waited for for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait; the handle is gone.
    pub async fn closed(self) {
        if let Some(closed) = self.blocking.watch_closing() {
            drop(self);
            // An error is what is waited for: the channel was closed.
            let _ = closed.recv().await;
        }
    }

    /// Drops this handle. If it was the last one, resolves when everything is written down and the root's lock is free;
    /// if not, at once: [`closed`](Self::closed) waits for the others.
    ///
    /// Dropping the last handle does the same in the background; whoever opens the root again in this process waits
    /// for it.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the cache closes in the background.
    pub async fn close(self) {
        if let Some(closed) = self.blocking.release() {
            // An error is what is waited for: the channel was closed.
            let _ = closed.recv().await;
        }
    }
}

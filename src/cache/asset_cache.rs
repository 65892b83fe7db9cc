//! The cache for async code. Its rule: each call hops to a blocking thread once, and no poll waits for the disk.

use std::path::PathBuf;

use bytes::Bytes;

use super::accounts::Lease;
use super::blocking::BlockingCache;
use super::builder::{self, AssetCacheBuilder};
use super::error::CacheError;
use super::fs::MissingProtection;
use super::id::AssetId;
use super::path::CachePath;
use super::progress::Progress;
use super::reader::EntryReader;
use super::single_flight::SingleFlight;
use super::writer::EntryWriter;
use crate::rt;
use crate::storage::StreamingResource;

/// A cache of assets. Cheap to clone: all clones are one cache, which closes when the last one is dropped.
///
/// Every call hops to a blocking thread once and works on any executor. [`blocking`](Self::blocking) has the same calls
/// without the hop.
///
/// # Cancel safety
///
/// Unless a call says otherwise: if its future is dropped, what was begun on the blocking thread runs to its end, so a put
/// may still take place. Nothing is ever half done.
#[derive(Clone, Debug)]
pub struct AssetCache {
    blocking: BlockingCache,
    single_flight: SingleFlight,
}

impl AssetCache {
    /// Settings for a cache under the directory `root`, which is created if it is missing.
    pub fn builder(root: impl Into<PathBuf>) -> AssetCacheBuilder {
        AssetCacheBuilder::new(root.into())
    }

    /// A cache of up to `max_bytes` in memory. It never touches a disk.
    pub fn memory(max_bytes: u64) -> Self {
        builder::memory(max_bytes)
    }

    pub(super) fn new(blocking: BlockingCache) -> Self {
        Self {
            blocking,
            single_flight: SingleFlight::default(),
        }
    }

    /// The same cache for threads that may block.
    pub fn blocking(&self) -> &BlockingCache {
        &self.blocking
    }

    pub(super) async fn hop<T: Send + 'static>(
        &self,
        call: impl FnOnce(&BlockingCache) -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, CacheError> {
        // Here, on the caller's thread: on another one a call from inside the policy would look like any other, and wait.
        self.blocking.accounts().check()?;
        let blocking = self.blocking.clone();
        rt::unblock(move || call(&blocking)).await
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

    /// Opens the entry for reading in chunks; `None` if it is absent. The reader reads on when the entry is replaced or
    /// evicted. Counts as an access.
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

    /// The whole entry as a resource with many readers; `None` if it is absent. The asset is leased until the last of them is
    /// dropped.
    ///
    /// Each block of 128 KiB is checked once, when it is first read. A damaged one fails with
    /// [`StreamingError::Damaged`](crate::storage::StreamingError::Damaged), and the entry is removed from the cache.
    ///
    /// # Errors
    ///
    /// [`CacheError::NotSupported`] from a cache in memory; [`CacheError::Io`].
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

    /// The whole entry. If it is absent, `fetch` fetches it and the bytes are stored.
    ///
    /// Callers that want the same entry at the same time share one fetch. If the fetching caller is dropped or fails, the next
    /// one takes over with its own `fetch`. Fetched bytes that cannot be stored are returned all the same: a cache that fails
    /// never stops playback.
    ///
    /// A `fetch` that asks for its own entry does not wait for itself. The inner call runs its own `fetch` and stores nothing.
    /// This is seen if the inner call is polled as part of the outer one. A `fetch` that waits for another task or thread,
    /// which in turn asks for the entry, waits for ever.
    ///
    /// # Errors
    ///
    /// The error of `fetch`. An entry that cannot be read is fetched.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, what it fetched so far is lost, and another caller that waits for the entry fetches it.
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
        // Asked before waiting: the permit is held further up this very stack, and waiting for it would never end.
        if self.single_flight.is_polled_here(asset, path) {
            return fetch().await;
        }
        let mut permit = self.single_flight.permit(asset, path).await;
        // The caller before this one may have filled the cell. It is asked before the cache: what could not be stored is in
        // the cell all the same, and is not fetched twice.
        if let Some(bytes) = &*permit.fetched {
            return Ok(bytes.clone());
        }
        if let Some(bytes) = self.get_or_miss(asset, path).await {
            *permit.fetched = Some(bytes.clone());
            return Ok(bytes);
        }
        let bytes = permit.run(fetch()).await?;
        // Filled before the put, so that a caller that takes over while the put is cancelled has the bytes.
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

    /// Starts a new version of an entry of unknown length. It is invisible until its commit, and dropping the writer discards
    /// it. Room is made as bytes come. No more than 64 MiB of other assets, or a quarter of the limit where that is less, are evicted
    /// for it: an entry that never ends empties no cache.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] if not even an empty entry fits, [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn writer(&self, asset: &AssetId, path: &CachePath) -> Result<EntryWriter, CacheError> {
        let staged = self.hop_entry(asset, path, BlockingCache::stage).await?;
        Ok(EntryWriter::new(staged, self.blocking.clone()))
    }

    /// The same for an entry that will have `len` bytes. As much as it needs is evicted as bytes come, and nothing if it can never
    /// fit.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] if `len` bytes do not fit, [`CacheError::Io`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn writer_with_len(
        &self,
        asset: &AssetId,
        path: &CachePath,
        len: u64,
    ) -> Result<EntryWriter, CacheError> {
        let stage = move |cache: &BlockingCache, asset: &AssetId, path: &CachePath| {
            let mut staged = cache.stage(asset, path)?;
            staged.expect_len(len)?;
            Ok(staged)
        };
        let staged = self.hop_entry(asset, path, stage).await?;
        Ok(EntryWriter::new(staged, self.blocking.clone()))
    }

    /// Claims an asset, with or without entries. It is not removed until its last lease is dropped. Counts as an access.
    ///
    /// Does no I/O.
    pub fn lease(&self, asset: &AssetId) -> Lease {
        self.blocking.lease(asset)
    }

    /// How far the scan after opening has come.
    pub fn progress(&self) -> &Progress {
        self.blocking.progress()
    }

    /// Protection that the file system of the root does not offer, as far as that is known. Each is logged once too. Empty on
    /// an ordinary local file system, and in memory.
    pub fn missing_protection(&self) -> Vec<MissingProtection> {
        self.blocking.missing_protection()
    }

    /// Whether the root can only be read (a read-only file system, another user's folder). What is in the cache plays. What
    /// would change something answers [`CacheError::ReadOnly`], and nothing is attempted: nothing is repaired, evicted or
    /// removed, and accesses are forgotten with the cache. Several caches may read one root at once.
    pub fn is_read_only(&self) -> bool {
        self.blocking.is_read_only()
    }

    /// Drops this handle and resolves when the cache is closed: the last handle is gone, the index is written and the root's
    /// lock is free. Opening the root afterwards does not fail with [`CacheError::Locked`] because of this cache.
    ///
    /// Sources, streams, drivers and partial entries hold the cache too, and a driver a moment longer than the stream it
    /// serves. While any handle is kept, this waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait. The handle is gone.
    pub async fn closed(self) {
        if let Some(closed) = self.blocking.watch_closing() {
            drop(self);
            // Closing the channel is the signal, so the error is what is awaited.
            let _ = closed.recv().await;
        }
    }

    /// Drops this handle. If it was the last one, resolves when the index is written and the root's lock is free. If not,
    /// resolves at once; [`closed`](Self::closed) waits for the other handles.
    ///
    /// Dropping the last handle closes the cache too, in the background. Opening the root again in this process waits for
    /// that.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the cache closes in the background.
    pub async fn close(self) {
        if let Some(closed) = self.blocking.release() {
            // Closing the channel is the signal, so the error is what is awaited.
            let _ = closed.recv().await;
        }
    }
}

//! Reading entries in chunks.

use std::sync::Arc;

use bytes::Bytes;

use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::path::CachePath;
use crate::rt;

/// Reads an entry chunk by chunk. From [`AssetCache::open`](super::AssetCache::open).
///
/// Reading goes on when the entry is replaced, evicted or removed. Every byte is checked before it is returned, see
/// [`Entry`].
#[derive(Debug)]
pub struct EntryReader {
    entry: Arc<Entry>,
    position: u64,
}

impl EntryReader {
    pub(crate) fn new(entry: Entry) -> Self {
        Self {
            entry: Arc::new(entry),
            position: 0,
        }
    }

    /// Length of the whole entry in bytes.
    pub fn len(&self) -> u64 {
        self.entry.len()
    }

    /// Whether the entry has no bytes.
    pub fn is_empty(&self) -> bool {
        self.entry.is_empty()
    }

    /// Where the next chunk begins, in bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Lets the next chunk begin at `position`. At or after the end there is none.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// Reads all bytes against the checksums that were written with them, as [`Entry::verify`], to know before the first chunk.
    /// Each chunk is checked anyway.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the file cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn verify(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        let (entry, asset, path) = (Arc::clone(&self.entry), asset.clone(), path.clone());
        rt::unblock(move || entry.verify(&asset, &path)).await
    }

    /// The next bytes, at most 256 KiB, or `None` at the end.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]; [`CacheError::Damaged`] if the bytes were changed on the disk, or the file was cut short since it
    /// was opened. `None` is never returned too early.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next call reads the same bytes.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, CacheError> {
        if self.position >= self.entry.len() {
            return Ok(None);
        }
        let (entry, position) = (Arc::clone(&self.entry), self.position);
        let chunk = rt::unblock(move || entry.chunk(position)).await?;
        // Moved only now: if this future is dropped before, the next call reads the same chunk.
        self.position = position + chunk.len() as u64;
        Ok(Some(chunk))
    }
}

//! Writing entries of unknown length in constant memory.

use bytes::Bytes;

use super::blocking::BlockingCache;
use super::error::CacheError;
use super::store::Staged;
use crate::rt;

/// Bytes of a batch.
const BATCH: usize = 256 * 1024;
/// Parts of a batch, no more than systems take in one vectored write.
const MAX_PARTS: usize = 512;

/// Writes a new version of an entry. From [`AssetCache::writer`](super::AssetCache::writer).
///
/// The version is invisible until [`commit`](Self::commit). Dropping the writer discards it. Up to 256 KiB are collected
/// before a blocking thread writes them, so that small chunks do not cost one hop each.
#[derive(Debug)]
pub struct EntryWriter {
    /// `None` while a blocking thread has it, and for ever if that call failed or was dropped.
    staged: Option<Box<dyn Staged>>,
    batch: Vec<Bytes>,
    batched: usize,
    len: u64,
    cache: BlockingCache,
}

impl EntryWriter {
    pub(crate) fn new(staged: Box<dyn Staged>, cache: BlockingCache) -> Self {
        Self {
            staged: Some(staged),
            batch: Vec::new(),
            batched: 0,
            len: 0,
            cache,
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] if the bytes do not fit, [`CacheError::Io`]. The new version is
    /// discarded then, and every later call fails with [`CacheError::Abandoned`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe. If the future is dropped before it is ready, the new version may be discarded; later calls then fail
    /// with [`CacheError::Abandoned`]. A committed entry never misses bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), CacheError> {
        if self.staged.is_none() {
            return Err(CacheError::Abandoned);
        }
        self.len += bytes.len() as u64;
        self.batched += bytes.len();
        self.batch.push(bytes);
        if self.batched < BATCH && self.batch.len() < MAX_PARTS {
            return Ok(());
        }
        // Taken out for the hop. If this future is dropped meanwhile, the entry is not put back: part of the batch may be
        // written, and a commit would miss the rest.
        let Some(mut staged) = self.staged.take() else {
            return Err(CacheError::Abandoned);
        };
        let (batch, cache) = (self.take_batch(), self.cache.clone());
        // The cache's handle goes along, so that the cache does not close before the staged file is gone.
        let (staged, _) = rt::unblock(move || staged.write(&batch).map(|()| (staged, cache))).await?;
        self.staged = Some(staged);
        Ok(())
    }

    /// Makes the new version the entry, in the place of the old one.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); [`CacheError::Abandoned`] if an earlier call failed or was dropped. The old version stays.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either the old version or the new one stays.
    pub async fn commit(mut self) -> Result<(), CacheError> {
        let Some(mut staged) = self.staged.take() else {
            return Err(CacheError::Abandoned);
        };
        let (batch, cache) = (self.take_batch(), self.cache.clone());
        rt::unblock(move || {
            if !batch.is_empty() {
                staged.write(&batch)?;
            }
            staged.commit()?;
            drop(cache);
            Ok(())
        })
        .await
    }

    fn take_batch(&mut self) -> Vec<Bytes> {
        self.batched = 0;
        std::mem::take(&mut self.batch)
    }
}

impl Drop for EntryWriter {
    fn drop(&mut self) {
        // Removing the staged file blocks, and a drop may run in an async task.
        if let Some(staged) = self.staged.take() {
            self.cache.discard(staged);
        }
    }
}

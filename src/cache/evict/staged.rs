//! Entries being written under the limit.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::{CacheError, Committed, EvictionPolicy, Shared, Staged, Store};
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;

/// An entry being written, and the room promised to it.
pub(super) struct EvictingStaged<S: Store, P: EvictionPolicy> {
    inner: Option<Box<dyn Staged>>,
    asset: AssetId,
    path: CachePath,
    reserved: u64,
    /// Bytes of payload so far.
    written: u64,
    shared: Arc<Shared<S, P>>,
}

impl<S: Store, P: EvictionPolicy> EvictingStaged<S, P> {
    /// A staged entry with room for `payload` bytes. All of it is asked for at once: asked for piece by piece, the
    /// first piece could evict an asset before the second is refused.
    pub(super) fn with_room(
        shared: &Arc<Shared<S, P>>,
        asset: &AssetId,
        path: &CachePath,
        payload: u64,
    ) -> Result<Self, CacheError> {
        let overhead = shared.inner.overhead(asset, Some(path), payload);
        // Claimed before room is made for it: what is about to be written to must not be evicted for that.
        let inner = Some(shared.inner.stage(asset, path)?);
        let mut staged = Self {
            inner,
            asset: asset.clone(),
            path: path.clone(),
            reserved: 0,
            written: 0,
            shared: Arc::clone(shared),
        };
        staged.reserve(overhead.saturating_add(payload))?;
        Ok(staged)
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), CacheError> {
        self.shared.reserve(bytes)?;
        self.reserved += bytes;
        Ok(())
    }
}

impl<S: Store, P: EvictionPolicy> Staged for EvictingStaged<S, P> {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        self.written += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let overhead = self
            .shared
            .inner
            .overhead(&self.asset, Some(&self.path), self.written);
        let wanted = overhead.saturating_add(self.written);
        self.reserve(wanted.saturating_sub(self.reserved))?;
        match &mut self.inner {
            Some(inner) => inner.write(parts),
            None => Err(CacheError::Abandoned),
        }
    }

    fn commit(mut self: Box<Self>) -> Result<Committed, CacheError> {
        let Some(inner) = self.inner.take() else {
            return Err(CacheError::Abandoned);
        };
        let committed = inner.commit()?;
        self.shared
            .committed(&self.asset, std::mem::take(&mut self.reserved), committed);
        Ok(committed)
    }
}

impl<S: Store, P: EvictionPolicy> Drop for EvictingStaged<S, P> {
    fn drop(&mut self) {
        // The staged bytes go first: until then they count.
        drop(self.inner.take());
        let mut state = self.shared.lock();
        state.reserved = state.reserved.saturating_sub(self.reserved);
    }
}

impl<S: Store, P: EvictionPolicy> fmt::Debug for EvictingStaged<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictingStaged")
            .field("inner", &self.inner)
            .field("reserved", &self.reserved)
            .finish_non_exhaustive()
    }
}

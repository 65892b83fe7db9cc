//! Entries being written under the limit.

use std::fmt;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::evictor::Evictor;
use super::reservation::Reservation;
use crate::cache::error::CacheError;
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::policy::EvictionPolicy;
use crate::cache::store::{Committed, Staged, Store};

/// An entry being written, and the room promised to it.
pub(super) struct EvictingStaged<S: Store, P: EvictionPolicy> {
    // Dropped in this order: until the staged bytes are gone they count.
    inner: Box<dyn Staged>,
    reservation: Reservation<S, P>,
    asset: AssetId,
    path: CachePath,
    /// Bytes of payload so far.
    written: u64,
    /// A write was refused or failed: it would be missing from what is committed.
    failed: bool,
    evictor: Arc<Evictor<S, P>>,
}

impl<S: Store, P: EvictionPolicy> EvictingStaged<S, P> {
    /// A staged entry with room for `payload` bytes. All of it is asked for at once: asked for piece by piece, the
    /// first piece could evict an asset before the second is refused.
    pub(super) fn with_room(
        evictor: &Arc<Evictor<S, P>>,
        asset: &AssetId,
        path: &CachePath,
        payload: u64,
    ) -> Result<Self, CacheError> {
        let overhead = evictor.inner.overhead(asset, Some(path), payload);
        // Claimed before room is made for it: what is about to be written to must not be evicted for that.
        let staged = Self {
            inner: evictor.inner.stage(asset, path)?,
            reservation: Reservation::unchecked(0, evictor),
            asset: asset.clone(),
            path: path.clone(),
            written: 0,
            failed: false,
            evictor: Arc::clone(evictor),
        };
        staged.reservation.grow(overhead.saturating_add(payload))?;
        Ok(staged)
    }
}

impl<S: Store, P: EvictionPolicy> Staged for EvictingStaged<S, P> {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        // Until it is done it may have failed, also by a panic of the policy.
        if mem::replace(&mut self.failed, true) {
            return Err(CacheError::Abandoned);
        }
        self.written += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let overhead = self
            .evictor
            .inner
            .overhead(&self.asset, Some(&self.path), self.written);
        let wanted = overhead.saturating_add(self.written);
        self.reservation
            .grow(wanted.saturating_sub(self.reservation.bytes()))?;
        self.inner.write(parts)?;
        self.failed = false;
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        if self.failed {
            return Err(CacheError::Abandoned);
        }
        let Self {
            inner,
            reservation,
            asset,
            ..
        } = *self;
        let committed = inner.commit()?;
        reservation.commit(&asset, committed);
        Ok(committed)
    }
}

impl<S: Store, P: EvictionPolicy> fmt::Debug for EvictingStaged<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictingStaged")
            .field("inner", &self.inner)
            .field("reserved", &self.reservation.bytes())
            .finish_non_exhaustive()
    }
}

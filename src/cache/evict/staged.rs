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

/// An entry being written, and the room reserved for it.
pub(super) struct EvictingStaged<S: Store, P: EvictionPolicy> {
    // Dropped in this order. The staged bytes are on the disk until `inner` has removed them: a reservation given up
    // before would let another write take room that is not free yet (C5).
    inner: Box<dyn Staged>,
    reservation: Reservation<S, P>,
    asset: AssetId,
    path: CachePath,
    /// Bytes of payload so far.
    written: u64,
    /// A write was refused or failed. Its bytes would be missing from the committed entry.
    failed: bool,
    evictor: Arc<Evictor<S, P>>,
}

impl<S: Store, P: EvictionPolicy> EvictingStaged<S, P> {
    /// A staged entry with room for `payload` bytes. All the room is reserved at once: piece by piece, the first piece could
    /// evict an asset before the second one is refused.
    pub(super) fn with_room(
        evictor: &Arc<Evictor<S, P>>,
        asset: &AssetId,
        path: &CachePath,
        payload: u64,
    ) -> Result<Self, CacheError> {
        let overhead = evictor.inner.overhead(asset, Some(path), payload);
        // Staging claims the asset, before room is made. Otherwise the asset that is about to be written to could itself
        // be evicted for that room.
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
        // Set before the attempt: a panic of the policy leaves it set.
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
        // If the commit fails, dropping the reservation gives its room up: the staged file is gone by then.
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

//! Partial entries under the limit: each reserves room as it grows, and may evict other assets for it.

use std::fmt;
use std::sync::Arc;

use super::evictor::Evictor;
use super::reservation::Reservation;
use crate::cache::error::CacheError;

use crate::cache::id::AssetId;
use crate::cache::policy::EvictionPolicy;
use crate::cache::store::{Committed, Partial, PartialPlace, Store};

/// A partial entry, and the room reserved for it.
pub(super) struct EvictingPartial<S: Store, P: EvictionPolicy> {
    // Dropped in this order: the inner store counts what is on disk before the reservation is given up, so that the bytes
    // count all the while (C5).
    inner: Box<dyn Partial>,
    reservation: Reservation<S, P>,
    asset: AssetId,
}

impl<S: Store, P: EvictionPolicy> EvictingPartial<S, P> {
    pub(super) fn new(inner: Box<dyn Partial>, asset: &AssetId, evictor: &Arc<Evictor<S, P>>) -> Self {
        // Reserved first, then taken over: for a moment the bytes count twice. The other way round they would not count, and
        // another write could take their room (C5).
        let reservation = Reservation::unchecked(inner.stored(), evictor);
        inner.taken_over();
        Self {
            inner,
            reservation,
            asset: asset.clone(),
        }
    }
}

impl<S: Store, P: EvictionPolicy> Partial for EvictingPartial<S, P> {
    fn place(&self) -> &PartialPlace {
        self.inner.place()
    }

    fn stored(&self) -> u64 {
        self.inner.stored()
    }

    fn reserve(&self, bytes: u64) -> Result<(), CacheError> {
        self.reservation.grow(bytes)
    }

    fn release(&self, bytes: u64) {
        self.reservation.release(bytes);
    }

    fn prepare(&self) -> Result<(), CacheError> {
        self.inner.prepare()
    }

    fn taken_over(&self) {}

    fn closing(&self) {
        self.inner.closing();
    }

    fn commit(&self, rename: &mut dyn FnMut() -> Result<u64, CacheError>) -> Result<Committed, CacheError> {
        let committed = self.inner.commit(rename)?;
        self.reservation.commit(&self.asset, committed);
        Ok(committed)
    }
}

impl<S: Store, P: EvictionPolicy> fmt::Debug for EvictingPartial<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictingPartial")
            .field("inner", &self.inner)
            .field("reserved", &self.reservation.bytes())
            .finish_non_exhaustive()
    }
}

//! Partial entries under the limit.

use std::sync::Arc;

use super::evictor::{Evictor, Reservation};
use crate::cache::error::CacheError;
use crate::cache::footer;
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::store::{Committed, Partial, PartialPlace};

/// A partial entry, and the room reserved for it.
#[derive(Debug)]
pub(super) struct EvictingPartial {
    // Dropped in this order: the inner store counts what is on disk before the reservation is given up, so that the bytes
    // count all the while (C5).
    inner: Box<dyn Partial>,
    reservation: Reservation,
}

impl EvictingPartial {
    /// `None` if the file is claimed already.
    pub(super) fn claim(
        evictor: &Arc<Evictor>,
        asset: &AssetId,
        path: &CachePath,
    ) -> Result<Option<Self>, CacheError> {
        // Asked before the claim, whose end makes the asset known.
        let row = evictor.accounts.lock()?.table.row_bytes(asset);
        let Some(inner) = evictor.inner.partial(asset, path)? else {
            return Ok(None);
        };
        // Reserved first, then taken over: for a moment the bytes count twice. The other way round they would not count, and
        // another write could take their room (C5).
        let mut reservation = Reservation::unchecked(evictor, inner.stored(), evictor.share()?)?;
        reservation.heir = Some(asset.bare());
        inner.taken_over();
        let partial = Self { inner, reservation };
        partial.reserve(row.saturating_add(footer::len(asset, path, 0)))?;
        Ok(Some(partial))
    }
}

impl Partial for EvictingPartial {
    fn place(&self) -> &PartialPlace {
        self.inner.place()
    }

    fn stored(&self) -> u64 {
        self.inner.stored()
    }

    fn reserve(&self, bytes: u64) -> Result<(), CacheError> {
        self.reservation.grow(bytes)
    }

    fn expect_len(&self, len: u64) -> Result<(), CacheError> {
        self.reservation.expect(len)
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
        self.reservation.release(u64::MAX);
        Ok(committed)
    }
}

//! Entries being written under the limit, and the room reserved for them.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::evictor::Evictor;
use crate::cache::error::CacheError;
use crate::cache::footer;
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::store::{Committed, Partial, PartialPlace, Staged};

/// The most that a write of unknown length evicts, in bytes; and a quarter of the limit where that is less.
const SHARE: u64 = 64 << 20;

fn share(evictor: &Evictor) -> Result<u64, CacheError> {
    Ok(SHARE.min(evictor.accounts.lock()?.max_bytes / 4))
}

/// Bytes that count under the limit before they are written. Dropping the reservation gives them up.
#[derive(Debug)]
pub(super) struct Reservation {
    bytes: AtomicU64,
    /// What may still be evicted for it, in bytes.
    share: AtomicU64,
    /// The asset that counts the bytes afterwards, if they are those of a partial file.
    heir: Option<AssetId>,
    evictor: Arc<Evictor>,
}

impl Reservation {
    /// Room for `bytes`, which are all that is to come.
    pub(super) fn new(evictor: &Arc<Evictor>, bytes: u64) -> Result<Self, CacheError> {
        let reservation = Self::unchecked(evictor, 0, u64::MAX)?;
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Reserves bytes without asking for room: those of a file that is on disk already.
    fn unchecked(evictor: &Arc<Evictor>, bytes: u64, share: u64) -> Result<Self, CacheError> {
        evictor.accounts.lock()?.reserved += bytes;
        Ok(Self {
            bytes: AtomicU64::new(bytes),
            share: AtomicU64::new(share),
            heir: None,
            evictor: Arc::clone(evictor),
        })
    }

    /// Bytes are all known now: `len` of them, with those that are reserved. Fails if they can never fit.
    fn expect(&self, len: u64) -> Result<(), CacheError> {
        // What this file has reserved is held too, and so it is not asked for twice.
        let state = self.evictor.accounts.lock()?;
        let needed = len.saturating_sub(self.bytes());
        // Checked whole before the first victim. Piece by piece all else would be evicted for a file that is refused in the
        // end (fault W11).
        if state.fixed_bytes().saturating_add(needed) > state.max_bytes {
            return Err(state.full(needed));
        }
        self.share.store(u64::MAX, Ordering::Relaxed);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Reserves so many bytes more, evicting as needed.
    fn grow(&self, bytes: u64) -> Result<(), CacheError> {
        if bytes == 0 {
            return Ok(());
        }
        // Under no lock of its own: this may wait for the disk to empty trash.
        let evicted = self.evictor.reserve(bytes, self.share.load(Ordering::Relaxed))?;
        // Added after the accounts have it. The other way round a drop in between would give up bytes that were never reserved.
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let left = |share: u64| Some(share.saturating_sub(if share == u64::MAX { 0 } else { evicted }));
        let _ = self
            .share
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        Ok(())
    }

    fn release(&self, bytes: u64) {
        // No more than it has: the rest is another one's.
        // Two threads may release at once, so the bytes are taken out here in one step before the accounts are told.
        let less = |held: u64| Some(held.saturating_sub(bytes));
        let held = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let bytes = bytes.min(held.unwrap_or(0));
        self.evictor
            .accounts
            .run_or_defer(move |state| state.reserved = state.reserved.saturating_sub(bytes));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let (bytes, heir) = (self.bytes(), self.heir.take());
        self.evictor.accounts.run_or_defer(move |state| {
            state.reserved = state.reserved.saturating_sub(bytes);
            // In one step: the bytes count all the while (C5, fault W46).
            if let Some(asset) = heir {
                state.table.lend(&asset, bytes);
            }
        });
    }
}

/// An entry being written, and the room reserved for it.
#[derive(Debug)]
pub(super) struct EvictingStaged {
    // Dropped in this order. The staged bytes are on the disk until `inner` has removed them: a reservation given up
    // before would let another write take room that is not free yet (C5).
    inner: Box<dyn Staged>,
    reservation: Reservation,
    /// Bytes of payload so far.
    written: u64,
    /// A write was refused or failed. Its bytes would be missing from the committed entry.
    failed: bool,
}

impl EvictingStaged {
    /// A staged entry with room for `payload` bytes. All the room is reserved at once: piece by piece, the first piece could
    /// evict an asset before the second one is refused. `None` if the length is not known.
    pub(super) fn new(
        evictor: &Arc<Evictor>,
        asset: &AssetId,
        path: &CachePath,
        payload: Option<u64>,
    ) -> Result<Self, CacheError> {
        evictor.ready()?;
        let share = match payload {
            Some(_) => u64::MAX,
            None => share(evictor)?,
        };
        // Staging claims the asset, before room is made. Otherwise the asset that is about to be written to could itself
        // be evicted for that room.
        let staged = Self {
            inner: evictor.inner.stage(asset, path)?,
            reservation: Reservation::unchecked(evictor, 0, share)?,
            written: 0,
            failed: false,
        };
        staged.make_room(payload.unwrap_or(0))?;
        Ok(staged)
    }

    fn make_room(&self, payload: u64) -> Result<(), CacheError> {
        let wanted = self.inner.overhead(payload).saturating_add(payload);
        self.reservation
            .grow(wanted.saturating_sub(self.reservation.bytes()))
    }
}

impl Staged for EvictingStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        // Set before the attempt, so that it is set whatever way the attempt ends.
        if mem::replace(&mut self.failed, true) {
            return Err(CacheError::Abandoned);
        }
        self.written += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        self.make_room(self.written)?;
        self.inner.write(parts)?;
        self.failed = false;
        Ok(())
    }

    fn expect_len(&mut self, len: u64) -> Result<(), CacheError> {
        self.reservation
            .expect(self.inner.overhead(len).saturating_add(len))
    }

    fn overhead(&self, payload: u64) -> u64 {
        self.inner.overhead(payload)
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        if self.failed {
            return Err(CacheError::Abandoned);
        }
        // The reservation ends after the commit, also after one that fails: the bytes are in the accounts, or off the disk,
        // by then.
        let Self {
            inner,
            reservation: _reservation,
            ..
        } = *self;
        inner.commit()
    }
}

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
        let mut reservation = Reservation::unchecked(evictor, inner.stored(), share(evictor)?)?;
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

//! The whole cache stays under one limit.

mod evictor;
mod partial;

use std::any::type_name;
use std::marker::PhantomData;
use std::sync::Arc;
use std::{fmt, mem};

use bytes::Bytes;

pub(super) use self::evictor::Evictor;
use self::evictor::Reservation;
use self::partial::EvictingPartial;
use super::accounts::Accounts;
use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::path::CachePath;
use super::policy::EvictionPolicy;
use super::store::{AssetInfo, Committed, EntryInfo, Partial, Staged, Store, Trash};
use super::timestamp::Timestamp;

/// The least to evict when the disk is full, in bytes: room for a few blocks of names and bookkeeping.
const MIN_SHRINK: u64 = 64 * 1024;

/// Keeps everything that `inner` holds, and everything being written to it, at or under `max_bytes`.
///
/// Its rule: room is reserved before bytes reach the inner store. Where there is none, the policy `P` names assets to
/// evict. If evicting all that may go would not make the room, nothing is evicted and the write gets
/// [`CacheError::CacheFull`].
///
/// An access is what the app does: opening an entry, leasing or pinning an asset. Writing to an asset is none, so that a
/// download in the background does not outlive what was played. Only a new asset starts as the most recent.
pub struct EvictingStore<S, P> {
    inner: Arc<S>,
    evictor: Arc<Evictor>,
    policy: PhantomData<fn() -> P>,
}

impl<S: Store, P: EvictionPolicy> EvictingStore<S, P> {
    /// Limits `inner`, whose accounts these are, to `max_bytes`, with `policy` picking victims.
    pub fn new(inner: S, accounts: &Arc<Accounts>, policy: P, max_bytes: u64) -> Self {
        let inner = Arc::new(inner);
        let evictor = Evictor::new(Arc::clone(&inner) as Arc<dyn Store>, accounts);
        accounts.govern(Box::new(policy), max_bytes);
        Self {
            inner,
            evictor: Arc::new(evictor),
            policy: PhantomData,
        }
    }

    /// Changes the limit. A lower one takes effect at once: everything that may go goes until the limit is kept, also where
    /// what is leased, pinned or being written needs more than that. Writes are refused then.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if victims could not be removed and the limit is not kept. It holds all the same.
    pub fn set_max_bytes(&self, max_bytes: u64) -> Result<(), CacheError> {
        self.evictor.set_max_bytes(max_bytes)
    }

    /// Makes the store ready for writing: waits until the sizes are known, and brings what is there under the limit. Returns
    /// at once when that is done.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The next call tries again.
    pub fn ready(&self) -> Result<(), CacheError> {
        self.evictor.ready()
    }

    /// Evicts what the policy lets go, empties the trash, and makes bookkeeping durable.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The entries themselves are safe.
    pub fn checkpoint(&self) -> Result<(), CacheError> {
        self.evictor.checkpoint()
    }

    /// Bytes that count under the limit, with reservations and trash.
    ///
    /// # Errors
    ///
    /// [`CacheError::PolicyReentered`].
    pub fn used_bytes(&self) -> Result<u64, CacheError> {
        Ok(self.evictor.accounts.lock()?.used_bytes())
    }
}

impl<S, P> EvictingStore<S, P> {
    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    pub(super) fn evictor(&self) -> &Arc<Evictor> {
        &self.evictor
    }
}

impl<S: Store, P: EvictionPolicy> Store for EvictingStore<S, P> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let entry = self.inner.open(asset, path)?;
        // A miss is no access: what is not there has no recency.
        if entry.is_some() {
            self.evictor.accounts.touch(asset, Timestamp::default())?;
        }
        Ok(entry)
    }

    fn exists(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.inner.exists(asset, path)
    }

    fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        let bytes = self.inner.get(asset, path)?;
        if bytes.is_some() {
            self.evictor.accounts.touch(asset, Timestamp::default())?;
        }
        Ok(bytes)
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        Ok(Box::new(EvictingStaged::new(&self.evictor, asset, path, None)?))
    }

    fn put(&self, asset: &AssetId, path: &CachePath, bytes: Bytes) -> Result<Committed, CacheError> {
        let len = bytes.len() as u64;
        let put = || {
            let mut staged = EvictingStaged::new(&self.evictor, asset, path, Some(len))?;
            staged.write(std::slice::from_ref(&bytes))?;
            Box::new(staged).commit()
        };
        match put() {
            // The disk is full before the cache is. The staged file is gone by now: make room on the disk and try once
            // more.
            Err(error @ CacheError::Io { .. }) if error.is_full() => {
                // With room to spare, or else just enough.
                let evictor = &self.evictor;
                if evictor.shrink(len * 2 + MIN_SHRINK, asset) || evictor.shrink(len, asset) {
                    put()
                } else {
                    Err(error)
                }
            }
            done => done,
        }
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.evictor.ready()?;
        let partial = EvictingPartial::claim(&self.evictor, asset, path)?;
        Ok(partial.map(|partial| Box::new(partial) as Box<dyn Partial>))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.evictor.ready()?;
        self.inner.remove_entry(asset, path)
    }

    fn remove_damaged(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.evictor.ready()?;
        self.inner.remove_damaged(asset, path)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        self.evictor.ready()?;
        let trash_queue = &self.evictor.trash_queue;
        // Announced first: from the removal to the push the bytes count as trash, and no other thread could free them.
        let expected = trash_queue.expect();
        let Some(trash) = self.inner.remove(asset)? else {
            return Ok(None);
        };
        // Queued here, so that a write that needs the room can empty it.
        trash_queue.push(trash);
        drop(expected);
        let trash_queue = Arc::clone(trash_queue);
        Ok(Some(Trash::new(move || {
            trash_queue.empty();
            Ok(())
        })))
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        self.evictor.ready()?;
        if !pinned {
            // Needs no room, and may be what makes some.
            return self.inner.set_pinned(asset, false);
        }
        let accounts = &self.evictor.accounts;
        // Asked before the pin is set, which gives the asset its row.
        let row = accounts.lock()?.table.row_bytes(asset);
        // The pin counts in the accounts when it is set, so its reservation goes.
        let _reservation = Reservation::new(&self.evictor, row)?;
        self.inner.set_pinned(asset, true)?;
        accounts.touch(asset, Timestamp::default())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.inner.asset(asset)
    }

    fn list(&self) -> Result<Vec<AssetInfo>, CacheError> {
        self.inner.list()
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.inner.entries(asset)
    }
}

impl<S: fmt::Debug, P> fmt::Debug for EvictingStore<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictingStore")
            .field("inner", &self.inner)
            .field("policy", &type_name::<P>())
            .finish_non_exhaustive()
    }
}

/// An entry being written, and the room reserved for it.
#[derive(Debug)]
struct EvictingStaged {
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
    fn new(
        evictor: &Arc<Evictor>,
        asset: &AssetId,
        path: &CachePath,
        payload: Option<u64>,
    ) -> Result<Self, CacheError> {
        evictor.ready()?;
        let share = match payload {
            Some(_) => u64::MAX,
            None => evictor.share()?,
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

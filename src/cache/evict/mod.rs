//! The whole cache stays under one limit.

mod evictor;
mod handover;
mod partial;
mod reservation;
mod room;
mod staged;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use self::evictor::Evictor;
use self::handover::{PolicyGuard, PolicyNote};
use self::partial::EvictingPartial;
use self::reservation::Reservation;
use self::staged::EvictingStaged;
use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::path::CachePath;
use super::policy::EvictionPolicy;
use super::store::{AssetInfo, Committed, EntryInfo, Partial, Staged, Store, Trash};
use super::timestamp::Timestamp;
use super::trash_queue::TrashQueue;

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
    evictor: Arc<Evictor<S, P>>,
}

impl<S, P> EvictingStore<S, P> {
    /// Limits `inner` to `max_bytes`, with `policy` picking victims.
    pub fn new(inner: S, policy: P, max_bytes: u64) -> Self {
        Self {
            evictor: Arc::new(Evictor::new(inner, policy, max_bytes)),
        }
    }

    /// Gives out only timestamps later than `last`. Accesses of a session whose clock ran ahead so stay older than those of
    /// this one.
    pub(super) fn starting_after(self, last: Timestamp) -> Self {
        self.evictor.lock().last = last;
        self
    }

    /// The limit in bytes.
    pub fn max_bytes(&self) -> u64 {
        self.evictor.max_bytes
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.evictor.inner
    }

    #[cfg(feature = "test-util")]
    pub(super) fn policy_waiters(&self) -> usize {
        self.evictor.lock().handover.waiting()
    }

    pub(crate) fn trash_queue(&self) -> &Arc<TrashQueue> {
        &self.evictor.trash_queue
    }
}

impl<S, P: EvictionPolicy> EvictingStore<S, P> {
    /// Takes the policy out for good. No room is made from here on.
    pub(super) fn retire(&self) -> Option<P> {
        self.evictor.retire()
    }
}

impl<S: Store, P: EvictionPolicy> Store for EvictingStore<S, P> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let entry = self.evictor.inner.open(asset, path)?;
        // A miss is no access: what is not there has no recency.
        if entry.is_some() {
            self.evictor.used(asset, Timestamp::default());
        }
        Ok(entry)
    }

    fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        let bytes = self.evictor.inner.get(asset, path)?;
        if bytes.is_some() {
            self.evictor.used(asset, Timestamp::default());
        }
        Ok(bytes)
    }

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.evictor.inner.contains(asset, path)
    }

    fn put(&self, asset: &AssetId, path: &CachePath, bytes: Bytes) -> Result<Committed, CacheError> {
        let len = bytes.len() as u64;
        let put = || {
            self.ready()?;
            let mut staged = EvictingStaged::with_room(&self.evictor, asset, path, len)?;
            staged.write(std::slice::from_ref(&bytes))?;
            Box::new(staged).commit()
        };
        match put() {
            // The disk is full before the cache is. The staged file is gone by now: make room on the disk and try once
            // more.
            Err(error @ CacheError::Io { .. }) if error.is_full() => {
                // With room to spare, or else just enough.
                let shrunk = self.evictor.shrink(len * 2 + MIN_SHRINK, asset);
                match shrunk.or_else(|_| self.evictor.shrink(len, asset)) {
                    Ok(()) => put(),
                    Err(_) => Err(error),
                }
            }
            done => done,
        }
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        self.ready()?;
        Ok(Box::new(EvictingStaged::with_room(
            &self.evictor,
            asset,
            path,
            0,
        )?))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.ready()?;
        // Asked before the claim: claiming makes the asset known, and its place in the index would no longer count as new.
        let overhead = self.evictor.inner.overhead(asset, Some(path), 0);
        let Some(inner) = self.evictor.inner.partial(asset, path)? else {
            return Ok(None);
        };
        let partial = EvictingPartial::new(inner, asset, &self.evictor);
        partial.reserve(overhead)?;
        Ok(Some(Box::new(partial)))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.ready()?;
        self.evictor.inner.remove_entry(asset, path)
    }

    fn remove_damaged(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.ready()?;
        self.evictor.inner.remove_damaged(asset, path)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        self.ready()?;
        let trash_queue = &self.evictor.trash_queue;
        // Announced first: from the removal to the push the bytes count as trash, and no other thread could free them.
        let expected = trash_queue.expect();
        let Some(trash) = self.evictor.inner.remove(asset)? else {
            return Ok(None);
        };
        // Queued here, so that a write that needs the room can empty it. And before the policy is told: that may take
        // long, or panic, and the room would be lost until the next open.
        trash_queue.push(trash);
        drop(expected);
        let mut state = self.evictor.lock();
        state.skipped.remove(asset);
        // If the asset was made anew meanwhile, the thread that made it has told the policy, or will. Told of the removal
        // after that, the policy would never name the new asset.
        if !matches!(self.evictor.inner.asset(asset), Ok(Some(_))) {
            self.evictor.tell(state, asset, PolicyNote::Removed);
        }
        let trash_queue = Arc::clone(trash_queue);
        Ok(Some(Trash::new(move || {
            trash_queue.empty();
            Ok(())
        })))
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        self.ready()?;
        let evictor = &self.evictor;
        if !pinned {
            // Needs no room, and may be what makes some.
            return evictor.inner.set_pinned(asset, false);
        }
        let reservation = Reservation::unchecked(0, evictor);
        reservation.grow(evictor.inner.overhead(asset, None, 0))?;
        evictor.inner.set_pinned(asset, true)?;
        // The pin counts in the inner store by now, so its reservation goes.
        drop(reservation);
        self.touch(asset, Timestamp::default());
        Ok(())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.evictor.inner.asset(asset)
    }

    fn modified(&self, asset: &AssetId) -> Result<Option<Timestamp>, CacheError> {
        self.evictor.inner.modified(asset)
    }

    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        self.evictor.inner.assets()
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.evictor.inner.entries(asset)
    }

    fn used_bytes(&self) -> Result<u64, CacheError> {
        // Under the lock, as in `try_reserve`: a commit's bytes must not be missing from both figures.
        let state = self.evictor.lock();
        Ok(self.evictor.inner.used_bytes()?.saturating_add(state.reserved))
    }

    fn overhead(&self, asset: &AssetId, path: Option<&CachePath>, payload: u64) -> u64 {
        self.evictor.inner.overhead(asset, path, payload)
    }

    fn ready(&self) -> Result<(), CacheError> {
        self.evictor.inner.ready()?;
        // One caller trims; the others need not wait for it, since each reserves its own room.
        if !self.evictor.trimmed.swap(true, Ordering::AcqRel) {
            // The cache may have been opened with a smaller limit than before. Pinned assets may keep it above that;
            // writes are then refused.
            match self.evictor.reserve(0) {
                Ok(()) | Err(CacheError::CacheFull { .. }) => {}
                failed => {
                    self.evictor.trimmed.store(false, Ordering::Release);
                    // A call from inside the policy finds it busy. The next call trims.
                    if !matches!(failed, Err(CacheError::PolicyBusy)) {
                        return failed;
                    }
                }
            }
        }
        Ok(())
    }

    /// Records the access with a timestamp of its own, no earlier than `at`.
    fn touch(&self, asset: &AssetId, at: Timestamp) -> bool {
        self.evictor.used(asset, at)
    }

    fn is_held(&self, asset: &AssetId) -> Result<bool, CacheError> {
        self.evictor.inner.is_held(asset)
    }

    fn changes(&self) -> Result<Vec<(AssetId, Timestamp)>, CacheError> {
        self.evictor.inner.changes()
    }

    fn checkpoint(&self) -> Result<(), CacheError> {
        self.ready()?;
        // If the policy is busy, it is asked at the next checkpoint.
        if let Ok(mut guard) = self.evictor.take_policy() {
            let now = guard.catch_up()?;
            // All names first, then the removals. The policy forgets what it names, so this ends.
            let expired = std::iter::from_fn(|| guard.expired(now)).collect();
            self.evictor.evict(&mut guard, expired)?;
        }
        self.evictor.trash_queue.empty();
        self.evictor.inner.checkpoint()
    }
}

impl<S: fmt::Debug, P: fmt::Debug> fmt::Debug for EvictingStore<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guard = self.evictor.try_take_policy(&mut self.evictor.lock());
        f.debug_struct("EvictingStore")
            .field("inner", &self.evictor.inner)
            .field("max_bytes", &self.evictor.max_bytes)
            .field(
                "policy",
                guard
                    .as_ref()
                    .and_then(PolicyGuard::policy)
                    .map_or(&format_args!("busy"), |policy| policy as &dyn fmt::Debug),
            )
            .finish_non_exhaustive()
    }
}

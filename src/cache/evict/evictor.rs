//! Making room for what is about to be written.
//!
//! Room is reserved before the first byte is written. Where there is none, pending trash is emptied first, since its room
//! is free for the asking. Only then the policy names victims. Either they make all the room that is missing, or none of
//! them goes.

use std::sync::Arc;

use crate::cache::accounts::Accounts;
use crate::cache::accounts::state::State;
use crate::cache::error::CacheError;
use crate::cache::id::AssetId;
use crate::cache::store::Store;
use crate::cache::sync::{AtomicBool, AtomicU64, Ordering};
use crate::cache::trash_queue::TrashQueue;

/// Beyond what is needed, evicting goes on for one such part of the limit, with whole assets that fit in it. Some file
/// systems make creating files dear right after deleting some, so deletes come in batches.
const SLACK: u64 = 32;
/// The most that a write of unknown length evicts, in bytes; and a quarter of the limit where that is less.
const SHARE: u64 = 64 << 20;

/// What an [`EvictingStore`](super::EvictingStore), the entries being written to it, and the maintenance thread share.
#[derive(Debug)]
pub(in crate::cache) struct Evictor {
    pub(in crate::cache) inner: Arc<dyn Store>,
    pub(in crate::cache) accounts: Arc<Accounts>,
    pub(in crate::cache) trash_queue: Arc<TrashQueue>,
    /// What was there at open has been brought under the limit.
    trimmed: AtomicBool,
}

/// What the policy is asked to make room for.
#[derive(Clone, Copy, Debug)]
struct Shortfall<'a> {
    /// Bytes that have to go.
    over: u64,
    /// The most that may go for it, in bytes.
    share: u64,
    /// Victims are of use also where they do not make all the room.
    partly: bool,
    /// An asset that stays.
    spared: Option<&'a AssetId>,
}

/// Victims that could not be removed, and why the last of them could not.
#[derive(Default)]
struct Stuck {
    assets: Vec<AssetId>,
    cause: Option<CacheError>,
}

impl Evictor {
    pub(super) fn new(inner: Arc<dyn Store>, accounts: &Arc<Accounts>) -> Self {
        Self {
            inner,
            accounts: Arc::clone(accounts),
            trash_queue: Arc::default(),
            trimmed: AtomicBool::new(false),
        }
    }

    pub(in crate::cache) fn ready(&self) -> Result<(), CacheError> {
        self.accounts.ready()?;
        // One caller trims; the others need not wait for it, since each reserves its own room. The cache may have been
        // opened with a smaller limit than before.
        if !self.trimmed.swap(true, Ordering::AcqRel) {
            self.trim()
                .inspect_err(|_| self.trimmed.store(false, Ordering::Release))?;
        }
        Ok(())
    }

    pub(in crate::cache) fn set_max_bytes(&self, max_bytes: u64) -> Result<(), CacheError> {
        self.accounts.ready()?;
        // Set before anything is evicted: writes that come meanwhile are held to it, and do not fill what is being freed.
        self.accounts.lock()?.max_bytes = max_bytes;
        self.trim()
    }

    pub(in crate::cache) fn checkpoint(&self) -> Result<(), CacheError> {
        self.ready()?;
        // Named under the lock and removed outside it. What is leased in between is held, and its removal refused.
        let expired = self.accounts.lock()?.expired();
        let evicted = self.with_stuck(|stuck| {
            self.evict(expired, stuck);
            stuck.cause.take().map_or(Ok(()), Err)
        });
        self.trash_queue.empty();
        self.accounts.checkpoint().and(evicted)
    }

    /// Reserves `bytes`, evicting as needed, but no more than `share` bytes. Returns how many bytes of assets that took.
    pub(super) fn reserve(&self, bytes: u64, share: u64) -> Result<u64, CacheError> {
        self.make_room(bytes, share, false)
    }

    /// The most that a write of unknown length evicts, in bytes.
    pub(super) fn share(&self) -> Result<u64, CacheError> {
        Ok(SHARE.min(self.accounts.lock()?.max_bytes / 4))
    }

    /// Evicts all that may go until the limit is kept, also where that does not reach it.
    fn trim(&self) -> Result<(), CacheError> {
        self.make_room(0, u64::MAX, true).map(drop)
    }

    fn make_room(&self, bytes: u64, share: u64, partly: bool) -> Result<u64, CacheError> {
        let mut evicted = 0;
        self.with_stuck(|stuck| {
            loop {
                let mut state = self.accounts.lock()?;
                let over = state.over(bytes);
                if over == 0 {
                    // Under the lock that found the room. Of two writers that saw the same room only one gets it (C5).
                    state.reserved += bytes;
                    return Ok(evicted);
                }
                // Before the policy is asked: room that is only waiting to be freed needs no victim.
                if self.trash_queue.is_pending() {
                    // Under no lock: emptying takes as long as the disk does.
                    drop(state);
                    self.trash_queue.empty_one();
                    continue;
                }
                let share = share.saturating_sub(evicted);
                let shortfall = Shortfall {
                    over,
                    share,
                    partly,
                    spared: None,
                };
                let Some(victims) = state.victims(shortfall) else {
                    // What is left is held, or could not be removed.
                    let full = (!partly).then(|| state.full(bytes));
                    drop(state);
                    return stuck.cause.take().or(full).map_or(Ok(evicted), Err);
                };
                // Announced under the lock. Another thread that needs room next finds the policy without these victims,
                // and would report a full cache; so it waits for them.
                let expected = self.trash_queue.expect();
                drop(state);
                evicted += self.evict(victims, stuck);
                drop(expected);
            }
        })
    }

    /// Evicts at least `bytes` because the disk is full before the cache is. Spares the asset that is being written. Whether
    /// that room was made.
    pub(super) fn shrink(&self, bytes: u64, spared: &AssetId) -> bool {
        let shortfall = Shortfall {
            over: bytes,
            share: u64::MAX,
            partly: false,
            spared: Some(spared),
        };
        let state = self.accounts.lock().ok();
        let Some(victims) = state.and_then(|mut state| state.victims(shortfall)) else {
            return false;
        };
        let all = self.with_stuck(|stuck| {
            self.evict(victims, stuck);
            stuck.cause.is_none()
        });
        // The disk is full now: its room has to be free when the caller tries again, not when it is convenient.
        self.trash_queue.empty();
        all
    }

    /// Runs `work`, then tells the policy again of the victims that could not be removed. Not before: it would name them
    /// first, again and again.
    fn with_stuck<T>(&self, work: impl FnOnce(&mut Stuck) -> T) -> T {
        let mut stuck = Stuck::default();
        let done = work(&mut stuck);
        if !stuck.assets.is_empty() {
            self.accounts
                .run_or_defer(move |state| state.table.found.append(&mut stuck.assets));
        }
        done
    }

    /// Evicts `victims`. Returns the bytes of those that went. One that cannot be removed stops no other one.
    fn evict(&self, victims: Vec<AssetId>, stuck: &mut Stuck) -> u64 {
        let mut evicted = 0;
        for asset in victims {
            // Asked before the removal, which takes the figures out of the accounts.
            let bytes = self.accounts.state().info(&asset).map_or(0, |info| info.bytes);
            match self.inner.remove(&asset) {
                Ok(Some(trash)) => {
                    log::debug!("evicted asset {asset}");
                    evicted += bytes;
                    self.trash_queue.push(trash);
                }
                // Gone, or held since the policy named it: the accounts tell the policy when it is free.
                Ok(None) | Err(CacheError::InUse { .. }) => {}
                Err(error) => {
                    log::warn!("cannot evict asset {asset}: {error}");
                    stuck.assets.push(asset);
                    stuck.cause = Some(error);
                }
            }
        }
        evicted
    }
}

impl State {
    /// Has the policy name the assets to evict. `None` if they would not make the room: then none of them goes.
    fn victims(&mut self, shortfall: Shortfall<'_>) -> Option<Vec<AssetId>> {
        let panicked = self.policy_panicked();
        let named = self.name_victims(shortfall);
        if named.is_none() && self.policy_panicked() != panicked {
            // The one that took over is asked: the room may be there.
            return self.name_victims(shortfall);
        }
        named
    }

    fn name_victims(&mut self, shortfall: Shortfall<'_>) -> Option<Vec<AssetId>> {
        self.tell_found();
        let now = self.now();
        let mut victims = Vec::new();
        let (mut freed, mut slack) = (0_u64, self.max_bytes / SLACK);
        let mut back = Vec::new();
        while let Some(asset) = self.ask(|policy| policy.victim(now)).flatten() {
            if Some(&asset) == shortfall.spared {
                back.push(asset);
                continue;
            }
            // Checked under the lock that leases and pins are taken under. Otherwise an asset could become free between
            // the check and the note that it was skipped, and would be skipped for good.
            if self.is_held(&asset) {
                continue;
            }
            let Some(bytes) = self.info(&asset).map(|info| info.bytes) else {
                continue;
            };
            // Enough: from here on only assets that fit in the slack.
            let enough = freed >= shortfall.over;
            let left = if enough {
                slack.checked_sub(bytes)
            } else {
                Some(slack)
            };
            // The policy's order is kept: where its next victim is too large, no later one is taken in its place.
            let (Some(left), true) = (left, freed.saturating_add(bytes) <= shortfall.share) else {
                back.push(asset);
                break;
            };
            slack = left;
            freed += bytes;
            victims.push(asset);
        }
        let of_use = freed >= shortfall.over || shortfall.partly && !victims.is_empty();
        // The spared asset and victims in vain go back to the policy: it forgot them when it named them.
        if !of_use {
            back.append(&mut victims);
        }
        self.table.found.append(&mut back);
        of_use.then_some(victims)
    }

    /// The assets that the policy lets go although there is room.
    pub(in crate::cache) fn expired(&mut self) -> Vec<AssetId> {
        self.tell_found();
        let now = self.now();
        // All names first, then the removals. The policy forgets what it names, so this ends.
        std::iter::from_fn(|| self.ask(|policy| policy.expired(now)).flatten()).collect()
    }
}

/// Bytes that count under the limit before they are written. Dropping the reservation gives them up.
#[derive(Debug)]
pub(super) struct Reservation {
    bytes: AtomicU64,
    /// What may still be evicted for it, in bytes.
    share: AtomicU64,
    /// The asset that counts the bytes afterwards, if they are those of a partial file.
    pub(super) heir: Option<AssetId>,
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
    pub(super) fn unchecked(evictor: &Arc<Evictor>, bytes: u64, share: u64) -> Result<Self, CacheError> {
        evictor.accounts.lock()?.reserved += bytes;
        Ok(Self {
            bytes: AtomicU64::new(bytes),
            share: AtomicU64::new(share),
            heir: None,
            evictor: Arc::clone(evictor),
        })
    }

    /// Bytes are all known now: `len` of them, with those that are reserved. Fails if they can never fit.
    pub(super) fn expect(&self, len: u64) -> Result<(), CacheError> {
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

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Reserves so many bytes more, evicting as needed.
    pub(super) fn grow(&self, bytes: u64) -> Result<(), CacheError> {
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

    pub(super) fn release(&self, bytes: u64) {
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

//! Making room for what is about to be written.
//!
//! Room is reserved before the first byte is written. Where there is none, pending trash is emptied first, since its room
//! is free for the asking. Only then the policy names victims. Either they make all the room that is missing, or none of
//! them goes.

use std::sync::Arc;

use crate::cache::accounts::Accounts;
use crate::cache::accounts::state::Shortfall;
use crate::cache::error::CacheError;
use crate::cache::id::AssetId;
use crate::cache::store::Store;
use crate::cache::sync::{AtomicBool, Ordering};
use crate::cache::trash_queue::TrashQueue;

/// What an [`EvictingStore`](super::EvictingStore), the entries being written to it, and the maintenance thread share.
#[derive(Debug)]
pub(in crate::cache) struct Evictor {
    pub(in crate::cache) inner: Arc<dyn Store>,
    pub(in crate::cache) accounts: Arc<Accounts>,
    pub(in crate::cache) trash_queue: Arc<TrashQueue>,
    /// What was there at open has been brought under the limit.
    trimmed: AtomicBool,
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

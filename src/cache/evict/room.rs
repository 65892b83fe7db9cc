//! Making room for what is about to be written.
//!
//! Room is reserved before the first byte is written. Where there is none, pending trash is emptied first, since its room
//! is free for the asking. Only then the policy names victims. Either they make all the room that is missing, or none of
//! them goes.

use super::evictor::Evictor;
use super::handover::PolicyGuard;
use crate::cache::error::{CacheError, CacheFullSnafu};
use crate::cache::id::AssetId;
use crate::cache::policy::EvictionPolicy;
use crate::cache::store::{AssetInfo, Store};
use crate::cache::timestamp::Timestamp;

/// Beyond what is needed, evicting goes on for one such part of the limit, with whole assets that fit in it. Some file
/// systems make creating files dear right after deleting some, so deletes come in batches.
const SLACK: u64 = 32;
/// An asset to evict, and its last access.
type Victim = (AssetId, Timestamp);

/// What is missing for a write.
struct Shortfall {
    /// Bytes that have to go first.
    over: u64,
    /// Bytes that count now.
    held: u64,
}

impl<S: Store, P: EvictionPolicy> Evictor<S, P> {
    /// Reserves `bytes` for an entry being written, evicting as needed.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), CacheError> {
        let mut guard = None;
        while let Some(shortfall) = self.try_reserve(bytes)? {
            if self.trash_queue.is_pending() {
                // The policy goes back first: emptying takes as long as the disk does.
                drop(guard.take());
                self.trash_queue.empty_one();
                continue;
            }
            match guard.take() {
                // Waiting for the policy may take long, and other threads may make the room meanwhile: ask for it again
                // before anything is evicted.
                None => guard = Some(self.take_policy()?),
                Some(mut guard) => {
                    let victims = self.victims(&mut guard, &shortfall, bytes, None);
                    if self.trash_queue.is_pending() {
                        // The app began to remove an asset since. The policy cannot name that any more, but it makes
                        // room all the same: the victims stay.
                        guard.restored(victims.unwrap_or_default());
                    } else {
                        self.evict(&mut guard, victims?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reserves `bytes`, or returns what is missing.
    fn try_reserve(&self, bytes: u64) -> Result<Option<Shortfall>, CacheError> {
        let mut state = self.lock();
        // Both figures are read under the lock. A commit first adds its bytes to what is used and then, under the lock,
        // gives its reservation up: its bytes count once or twice, never not at all (C5).
        let held = self.inner.used_bytes()?.saturating_add(state.reserved);
        let over = held.saturating_add(bytes).saturating_sub(self.max_bytes);
        if over > 0 {
            return Ok(Some(Shortfall { over, held }));
        }
        state.reserved += bytes;
        Ok(None)
    }

    /// The assets to evict so that all that is missing becomes free, or an error and no victim at all.
    fn victims(
        &self,
        guard: &mut PolicyGuard<'_, S, P>,
        shortfall: &Shortfall,
        needed: u64,
        spared: Option<&AssetId>,
    ) -> Result<Vec<Victim>, CacheError> {
        let now = guard.catch_up()?;
        let mut victims = Vec::new();
        let (mut freed, mut slack) = (0_u64, self.max_bytes / SLACK);
        let mut failed = None;
        let mut kept = None;
        while let Some((asset, at)) = guard.victim(now) {
            if Some(&asset) == spared {
                kept = Some((asset, at));
                continue;
            }
            let info = match self.candidate(&asset) {
                Ok(Some(info)) => info,
                Ok(None) => continue,
                Err(error) => {
                    // Told to the caller, unless the victims so far are enough: then the error was not in the way.
                    guard.restored(vec![(asset, at)]);
                    failed = Some(error);
                    break;
                }
            };
            if freed >= shortfall.over {
                // Enough: from here on only assets that fit in the slack.
                let Some(rest) = slack.checked_sub(info.bytes) else {
                    guard.restored(vec![(asset, at)]);
                    break;
                };
                slack = rest;
            }
            freed = freed.saturating_add(info.bytes);
            victims.push((asset, at));
        }
        // The spared asset and the victims in vain go back to the policy: it forgot them when it named them.
        guard.restored(kept.into_iter().collect());
        if freed >= shortfall.over {
            return Ok(victims);
        }
        guard.restored(victims);
        match failed {
            Some(error) => Err(error),
            None => CacheFullSnafu {
                needed,
                max_bytes: self.max_bytes,
                held: shortfall.held.saturating_sub(freed),
            }
            .fail(),
        }
    }

    /// The figures of a victim; `None` if it is not there, or held and so skipped.
    fn candidate(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        // One lock over both steps. The change that says that the asset is free is taken under the same lock, and so
        // after the asset was skipped. The other way round it would be skipped for good.
        let mut state = self.lock();
        if self.inner.is_held(asset)? {
            state.skipped.insert(asset.clone());
            return Ok(None);
        }
        self.inner.asset(asset)
    }

    /// Evicts at least `bytes` because the disk is full before the cache is. Spares the asset that is being written.
    pub(super) fn shrink(&self, bytes: u64, spared: &AssetId) -> Result<(), CacheError> {
        let mut guard = self.take_policy()?;
        let held = self.inner.used_bytes()?;
        let victims = self.victims(&mut guard, &Shortfall { over: bytes, held }, bytes, Some(spared))?;
        self.evict(&mut guard, victims)?;
        drop(guard);
        self.trash_queue.empty();
        Ok(())
    }

    /// Evicts `victims`. The caller keeps the policy until they are in the trash queue. A thread that needs room next then finds
    /// them there. Without that it would find neither room nor victims, and report a full cache.
    pub(super) fn evict(
        &self,
        guard: &mut PolicyGuard<'_, S, P>,
        victims: Vec<Victim>,
    ) -> Result<(), CacheError> {
        let mut result = Ok(());
        for (asset, at) in victims {
            match self.inner.remove(&asset) {
                Ok(Some(trash)) => {
                    log::debug!("evicted asset {asset}");
                    self.trash_queue.push(trash);
                }
                Ok(None) => {}
                // Leased since the policy named it.
                Err(CacheError::InUse { .. }) => {
                    self.lock().skipped.insert(asset);
                }
                Err(error) => {
                    // Stops no other victim: each one that goes makes room.
                    guard.restored(vec![(asset, at)]);
                    result = Err(error);
                }
            }
        }
        result
    }
}

//! Room for what is about to be written.

use super::evictor::Evictor;
use super::handover::PolicyGuard;
use crate::cache::error::{CacheError, CacheFullSnafu};
use crate::cache::id::AssetId;
use crate::cache::policy::EvictionPolicy;
use crate::cache::store::{AssetInfo, Store};
use crate::cache::timestamp::Timestamp;

/// Evicting goes on for this part of the limit beyond what is needed, where whole assets fit in it: some file
/// systems make creating dear right after deleting, so deletes come in batches.
const SLACK: u64 = 32;
/// An asset to evict, and its last use.
type Victim = (AssetId, Timestamp);

/// What is missing for a write.
struct Shortfall {
    /// Bytes that have to go first.
    over: u64,
    /// Bytes that count now.
    held: u64,
}

impl<S: Store, P: EvictionPolicy> Evictor<S, P> {
    /// Promises `bytes` to an entry being written, evicting as needed.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), CacheError> {
        let mut guard = None;
        while let Some(shortfall) = self.try_reserve(bytes)? {
            if self.trash_queue.is_pending() {
                drop(guard.take());
                self.trash_queue.empty_one();
                continue;
            }
            match guard.take() {
                // Others may make the room meanwhile, so it is asked for again.
                None => guard = Some(self.take_policy()?),
                Some(mut guard) => {
                    let victims = self.victims(&mut guard, &shortfall, bytes, None);
                    if self.trash_queue.is_pending() {
                        // The app has begun to remove something since: no victim any more, but room all the same.
                        guard.restored(victims.unwrap_or_default());
                    } else {
                        self.evict(&mut guard, victims?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Promises `bytes`, or says what is missing.
    fn try_reserve(&self, bytes: u64) -> Result<Option<Shortfall>, CacheError> {
        let mut state = self.lock();
        // Asked under the lock: a commit first adds to what is used and then, under it, gives up what it had
        // reserved, so its bytes count once or twice but never not at all.
        let held = self.inner.used_bytes()?.saturating_add(state.reserved);
        let over = held.saturating_add(bytes).saturating_sub(self.max_bytes);
        if over > 0 {
            return Ok(Some(Shortfall { over, held }));
        }
        state.reserved += bytes;
        Ok(None)
    }

    /// The assets to evict so that what is missing becomes free, or none at all.
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
                    guard.restored(vec![(asset, at)]);
                    failed = Some(error);
                    break;
                }
            };
            if freed >= shortfall.over {
                // Enough: from here on only what fits in the slack.
                let Some(rest) = slack.checked_sub(info.bytes) else {
                    guard.restored(vec![(asset, at)]);
                    break;
                };
                slack = rest;
            }
            freed = freed.saturating_add(info.bytes);
            victims.push((asset, at));
        }
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

    /// What is known of a victim; `None` if it is not there, or held and so skipped.
    fn candidate(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        // the changes that a skipped asset is free are heard under the same lock, and so after it was skipped.
        let mut state = self.lock();
        if self.inner.is_held(asset)? {
            state.skipped.insert(asset.clone());
            return Ok(None);
        }
        self.inner.asset(asset)
    }

    /// Evicts at least `bytes`, for a disk that is full before the cache is, and spares the asset they are for.
    pub(super) fn shrink(&self, bytes: u64, spared: &AssetId) -> Result<(), CacheError> {
        let mut guard = self.take_policy()?;
        let held = self.inner.used_bytes()?;
        let victims = self.victims(&mut guard, &Shortfall { over: bytes, held }, bytes, Some(spared))?;
        self.evict(&mut guard, victims)?;
        drop(guard);
        self.trash_queue.empty();
        Ok(())
    }

    /// Evicts `victims`. The turn must last until they are in the trash queue: who needs room next then finds it there, and does
    /// not look for other victims.
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
                // Leased since it was picked.
                Err(CacheError::InUse { .. }) => {
                    self.lock().skipped.insert(asset);
                }
                Err(error) => {
                    guard.restored(vec![(asset, at)]);
                    result = Err(error);
                }
            }
        }
        result
    }
}

//! Room for what is about to be written.

use super::turn::Turn;
use super::{CacheError, EvictionPolicy, SLACK, Shared, Store, Victim};
use crate::cache::error::CacheFullSnafu;
use crate::cache::id::AssetId;
use crate::cache::store::AssetInfo;

/// What is missing for a write.
struct Lack {
    /// Bytes that have to go first.
    over: u64,
    /// Bytes that count now.
    held: u64,
}

impl<S: Store, P: EvictionPolicy> Shared<S, P> {
    /// Promises `bytes` to an entry being written, evicting as needed.
    pub(super) fn reserve(&self, bytes: u64) -> Result<(), CacheError> {
        let mut turn = None;
        while let Some(lack) = self.try_reserve(bytes)? {
            if self.bin.is_pending() {
                drop(turn.take());
                self.bin.empty_one();
                continue;
            }
            match turn.take() {
                // Others may make the room meanwhile, so it is asked for again.
                None => turn = Some(self.turn()?),
                Some(mut turn) => {
                    let victims = self.victims(&mut turn, &lack, bytes, None);
                    if self.bin.is_pending() {
                        // The app has begun to remove something since: no victim any more, but room all the same.
                        turn.restored(victims.unwrap_or_default());
                    } else {
                        self.evict(&mut turn, victims?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Promises `bytes`, or says what is missing.
    fn try_reserve(&self, bytes: u64) -> Result<Option<Lack>, CacheError> {
        let mut state = self.lock();
        // Asked under the lock: a commit first adds to what is used and then, under it, gives up what it had
        // reserved, so its bytes count once or twice but never not at all.
        let held = self.inner.used_bytes()?.saturating_add(state.reserved);
        let over = held.saturating_add(bytes).saturating_sub(self.max_bytes);
        if over > 0 {
            return Ok(Some(Lack { over, held }));
        }
        state.reserved += bytes;
        Ok(None)
    }

    /// The assets to evict so that what is missing becomes free, or none at all.
    fn victims(
        &self,
        turn: &mut Turn<'_, S, P>,
        lack: &Lack,
        needed: u64,
        spared: Option<&AssetId>,
    ) -> Result<Vec<Victim>, CacheError> {
        let now = turn.catch_up()?;
        let mut victims = Vec::new();
        let (mut freed, mut slack) = (0_u64, self.max_bytes / SLACK);
        let mut failed = None;
        let mut kept = None;
        while let Some((asset, at)) = turn.victim(now) {
            if Some(&asset) == spared {
                kept = Some((asset, at));
                continue;
            }
            let info = match self.look_at(&asset) {
                Ok(Some(info)) => info,
                Ok(None) => continue,
                Err(error) => {
                    turn.restored(vec![(asset, at)]);
                    failed = Some(error);
                    break;
                }
            };
            if freed >= lack.over {
                // Enough: from here on only what fits in the slack.
                let Some(rest) = slack.checked_sub(info.bytes) else {
                    turn.restored(vec![(asset, at)]);
                    break;
                };
                slack = rest;
            }
            freed = freed.saturating_add(info.bytes);
            victims.push((asset, at));
        }
        turn.restored(kept.into_iter().collect());
        if freed >= lack.over {
            return Ok(victims);
        }
        turn.restored(victims);
        match failed {
            Some(error) => Err(error),
            None => CacheFullSnafu {
                needed,
                max_bytes: self.max_bytes,
                held: lack.held.saturating_sub(freed),
            }
            .fail(),
        }
    }

    /// What is known of a victim; `None` if it is not there, or held and so skipped.
    fn look_at(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        // The news that a skipped asset is free are heard under the same lock, and so after it was skipped.
        let mut state = self.lock();
        if self.inner.is_held(asset)? {
            state.skipped.insert(asset.clone());
            return Ok(None);
        }
        self.inner.asset(asset)
    }

    /// Evicts at least `bytes`, for a disk that is full before the cache is, and spares the asset they are for.
    pub(super) fn shrink(&self, bytes: u64, spared: &AssetId) -> Result<(), CacheError> {
        let mut turn = self.turn()?;
        let held = self.inner.used_bytes()?;
        let victims = self.victims(&mut turn, &Lack { over: bytes, held }, bytes, Some(spared))?;
        self.evict(&mut turn, victims)?;
        drop(turn);
        self.bin.empty();
        Ok(())
    }

    /// Evicts `victims`. The turn must last until they are in the bin: who needs room next then finds it there, and does
    /// not look for other victims.
    pub(super) fn evict(&self, turn: &mut Turn<'_, S, P>, victims: Vec<Victim>) -> Result<(), CacheError> {
        let mut result = Ok(());
        for (asset, at) in victims {
            match self.inner.remove(&asset) {
                Ok(Some(trash)) => {
                    log::debug!("evicted asset {asset}");
                    self.bin.push(trash);
                }
                Ok(None) => {}
                // Leased since it was picked.
                Err(CacheError::InUse { .. }) => {
                    self.lock().skipped.insert(asset);
                }
                Err(error) => {
                    turn.restored(vec![(asset, at)]);
                    result = Err(error);
                }
            }
        }
        result
    }
}

//! The policy, by turns and under no lock.
//!
//! A policy is somebody else's code: it may call the cache, and may take its time. Whoever has something to tell it
//! takes it out of the lock, tells it and puts it back; who finds it taken leaves word for the next turn and goes on.
//! Only who needs its answer waits. Uses are left until there are some to tell at once.

use std::mem;
use std::sync::{MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use hashlink::LinkedHashMap;

use super::evictor::{Evictor, State};
use crate::cache::error::{CacheError, PolicyBusySnafu};
use crate::cache::id::{AssetId, IdHasher};
use crate::cache::policy::EvictionPolicy;
use crate::cache::store::Store;
use crate::cache::timestamp::Timestamp;

/// How long to wait for one turn to end. A policy that waits itself, for another thread which needs room,
/// would never be done.
pub(super) const POLICY_TIMEOUT: Duration = Duration::from_secs(10);

/// As many uses are told at once: looking up one asset after the other, with nothing between, the processor fetches
/// several at a time.
const USES_TOGETHER: usize = 32;

/// What a policy is to hear of one asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyNote {
    Used(Timestamp),
    Added(Timestamp),
    Removed,
}

/// What a policy has not heard, put together: a policy that uses the cache whenever it hears of a use would otherwise
/// leave more with each turn than it was told.
///
/// Who went is told first, then who was found, then who was used, the last one last. An asset found and then removed
/// is told the wrong way round; a policy that knows of one too many costs nothing.
#[derive(Default)]
struct PendingNotes {
    found: Vec<(AssetId, Timestamp)>,
    assets: LinkedHashMap<AssetId, AssetNotes, IdHasher>,
    /// Uses after all that is in `assets`, few and not put together yet.
    uses: Vec<(AssetId, Timestamp)>,
}

#[derive(Default)]
struct AssetNotes {
    removed: bool,
    since: Option<PolicyNote>,
}

impl PendingNotes {
    fn leave(&mut self, asset: AssetId, note: PolicyNote) {
        self.fold();
        self.merge(asset, note);
    }

    /// Puts the uses together with what came before them.
    fn fold(&mut self) {
        for (asset, at) in mem::take(&mut self.uses) {
            self.merge(asset, PolicyNote::Used(at));
        }
    }

    fn merge(&mut self, asset: AssetId, note: PolicyNote) {
        match note {
            PolicyNote::Used(_) => {
                let mut notes = self.assets.remove(&asset).unwrap_or_default();
                notes.since = Some(note);
                self.assets.insert(asset, notes);
            }
            PolicyNote::Added(_) => {
                let notes = self.assets.get(&asset);
                // `entry` makes it the last, and what was used before keeps its place.
                if notes.is_none_or(|notes| notes.since.is_none()) {
                    self.assets.entry(asset).or_insert_with(AssetNotes::default).since = Some(note);
                }
            }
            PolicyNote::Removed => {
                let removed = true;
                self.assets.insert(asset, AssetNotes { removed, since: None });
            }
        }
    }
}

/// The policy when it is nobody's turn, and what it has not heard.
pub(super) struct PolicyHandover<P> {
    policy: Option<P>,
    /// Whose turn it is.
    holder: Option<ThreadId>,
    /// How many turns there were.
    handovers: u64,
    left: PendingNotes,
    /// How many wait for the turn.
    waiting: usize,
}

impl<P> PolicyHandover<P> {
    pub(super) fn new(policy: P) -> Self {
        Self {
            policy: Some(policy),
            holder: None,
            handovers: 0,
            left: PendingNotes::default(),
            waiting: 0,
        }
    }

    /// How many wait for the turn now.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// What was left; `None` if nothing was.
    fn take_pending(&mut self) -> Option<PendingNotes> {
        if !self.left.assets.is_empty() {
            self.left.fold();
        }
        let PendingNotes { found, assets, uses } = &self.left;
        let nothing = found.is_empty() && assets.is_empty() && uses.is_empty();
        (!nothing).then(|| mem::take(&mut self.left))
    }

    /// Leaves word of assets that are there for the next turn.
    pub(super) fn add_found(&mut self, assets: Vec<(AssetId, Timestamp)>) {
        self.left.found.extend(assets);
    }
}

/// The policy, out of the lock. Dropping this puts it back, also when the policy panics.
pub(super) struct PolicyGuard<'a, S, P> {
    evictor: &'a Evictor<S, P>,
    /// `None` only while this is dropped.
    policy: Option<P>,
}

impl<S, P> Evictor<S, P> {
    /// The turn, if nobody has it. The lock must be let go before the turn is.
    pub(super) fn try_take_policy(&self, state: &mut State<P>) -> Option<PolicyGuard<'_, S, P>> {
        let policy = state.handover.policy.take()?;
        state.handover.holder = Some(thread::current().id());
        state.handover.handovers += 1;
        Some(PolicyGuard {
            evictor: self,
            policy: Some(policy),
        })
    }

    /// Waits for the turn.
    pub(super) fn take_policy(&self) -> Result<PolicyGuard<'_, S, P>, CacheError> {
        let mut state = self.lock();
        let (mut handovers, mut since) = (state.handover.handovers, Instant::now());
        loop {
            if let Some(guard) = self.try_take_policy(&mut state) {
                return Ok(guard);
            }
            if state.handover.holder == Some(thread::current().id()) {
                return PolicyBusySnafu.fail();
            }
            // Many short turns are no reason to give up.
            if mem::replace(&mut handovers, state.handover.handovers) != handovers {
                since = Instant::now();
            }
            let Some(left) = POLICY_TIMEOUT.checked_sub(since.elapsed()) else {
                return PolicyBusySnafu.fail();
            };
            state.handover.waiting += 1;
            state = self
                .policy_returned
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.handover.waiting -= 1;
        }
    }
}

impl<S, P: EvictionPolicy> Evictor<S, P> {
    /// Tells the policy now, after what was left for it, or leaves it for the next turn.
    pub(super) fn tell(&self, mut state: MutexGuard<'_, State<P>>, asset: &AssetId, note: PolicyNote) {
        let uses = &mut state.handover.left.uses;
        if let PolicyNote::Used(at) = note
            && uses.len() + 1 < USES_TOGETHER
        {
            uses.push((asset.bare(), at));
            return;
        }
        let Some(mut guard) = self.try_take_policy(&mut state) else {
            state.handover.left.leave(asset.clone(), note);
            return;
        };
        // What is left from here on waits for the next turn: a policy that uses the cache would never be done.
        let left = state.handover.take_pending();
        drop(state);
        guard.tell_pending(left);
        guard.tell(asset, note);
    }

    /// Takes the policy away, for good, after telling it what was left.
    pub(super) fn retire(&self) -> Option<P> {
        let mut state = self.lock();
        let mut guard = self.try_take_policy(&mut state)?;
        let left = state.handover.take_pending();
        drop(state);
        guard.tell_pending(left);
        guard.policy.take()
    }
}

impl<S, P: EvictionPolicy> PolicyGuard<'_, S, P> {
    fn tell(&mut self, asset: &AssetId, note: PolicyNote) {
        let Some(policy) = &mut self.policy else { return };
        match note {
            PolicyNote::Used(at) => policy.used(asset, at),
            PolicyNote::Added(at) => policy.added(asset, at),
            PolicyNote::Removed => policy.removed(asset),
        }
    }

    fn tell_pending(&mut self, left: Option<PendingNotes>) {
        let Some(left) = left else { return };
        for (asset, _) in left.assets.iter().filter(|(_, notes)| notes.removed) {
            self.tell(asset, PolicyNote::Removed);
        }
        self.restored(left.found);
        for (asset, notes) in &left.assets {
            if let Some(note) = notes.since {
                self.tell(asset, note);
            }
        }
        for (asset, at) in &left.uses {
            self.tell(asset, PolicyNote::Used(*at));
        }
    }

    pub(super) fn restored(&mut self, assets: Vec<(AssetId, Timestamp)>) {
        if let Some(policy) = self.policy.as_mut().filter(|_| !assets.is_empty()) {
            policy.restored(assets);
        }
    }

    pub(super) fn victim(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)> {
        self.policy.as_mut()?.victim(now)
    }

    pub(super) fn expired(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)> {
        self.policy.as_mut()?.expired(now)
    }
}

impl<S: Store, P: EvictionPolicy> PolicyGuard<'_, S, P> {
    /// Tells the policy all that has happened, and says what time it is.
    pub(super) fn catch_up(&mut self) -> Result<Timestamp, CacheError> {
        let mut state = self.evictor.lock();
        self.evictor.take_changes(&mut state)?;
        let left = state.handover.take_pending();
        let now = state.last.max(Timestamp::now());
        drop(state);
        self.tell_pending(left);
        Ok(now)
    }
}

impl<S, P> PolicyGuard<'_, S, P> {
    pub(super) fn policy(&self) -> Option<&P> {
        self.policy.as_ref()
    }
}

impl<S, P> Drop for PolicyGuard<'_, S, P> {
    fn drop(&mut self) {
        let mut state = self.evictor.lock();
        state.handover.policy = self.policy.take();
        state.handover.holder = None;
        let awaited = state.handover.waiting > 0;
        drop(state);
        if awaited {
            self.evictor.policy_returned.notify_all();
        }
    }
}

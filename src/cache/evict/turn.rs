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

use super::{CacheError, EvictionPolicy, Shared, State, Store};
use crate::cache::error::PolicyBusySnafu;
use crate::cache::id::{AssetId, IdHasher};
use crate::cache::store::Stamp;

/// How long to wait for one turn to end. A policy that waits itself, for another thread which needs room,
/// would never be done.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// As many uses are told at once: looking up one asset after the other, with nothing between, the processor fetches
/// several at a time.
const TOGETHER: usize = 32;

/// What a policy is to hear of one asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Used(Stamp),
    Added(Stamp),
    Removed,
}

/// What a policy has not heard, put together: a policy that uses the cache whenever it hears of a use would otherwise
/// leave more with each turn than it was told.
///
/// Who went is told first, then who was found, then who was used, the last one last. An asset found and then removed
/// is told the wrong way round; a policy that knows of one too many costs nothing.
#[derive(Default)]
struct Left {
    found: Vec<(AssetId, Stamp)>,
    assets: LinkedHashMap<AssetId, Missed, IdHasher>,
    /// Uses after all that is in `assets`, few and not put together yet.
    uses: Vec<(AssetId, Stamp)>,
}

#[derive(Default)]
struct Missed {
    removed: bool,
    since: Option<Notice>,
}

impl Left {
    fn leave(&mut self, asset: AssetId, notice: Notice) {
        self.fold();
        self.put_together(asset, notice);
    }

    /// Puts the uses together with what came before them.
    fn fold(&mut self) {
        for (asset, at) in mem::take(&mut self.uses) {
            self.put_together(asset, Notice::Used(at));
        }
    }

    fn put_together(&mut self, asset: AssetId, notice: Notice) {
        match notice {
            Notice::Used(_) => {
                let mut missed = self.assets.remove(&asset).unwrap_or_default();
                missed.since = Some(notice);
                self.assets.insert(asset, missed);
            }
            Notice::Added(_) => {
                let missed = self.assets.get(&asset);
                // `entry` makes it the last, and what was used before keeps its place.
                if missed.is_none_or(|missed| missed.since.is_none()) {
                    self.assets.entry(asset).or_insert_with(Missed::default).since = Some(notice);
                }
            }
            Notice::Removed => {
                let removed = true;
                self.assets.insert(asset, Missed { removed, since: None });
            }
        }
    }
}

/// The policy when it is nobody's turn, and what it has not heard.
pub(super) struct Seat<P> {
    policy: Option<P>,
    /// Whose turn it is.
    holder: Option<ThreadId>,
    /// How many turns there were.
    turns: u64,
    left: Left,
    /// How many wait for the turn.
    waiting: usize,
}

impl<P> Seat<P> {
    pub(super) fn new(policy: P) -> Self {
        Self {
            policy: Some(policy),
            holder: None,
            turns: 0,
            left: Left::default(),
            waiting: 0,
        }
    }

    /// How many wait for the turn now.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// What was left; `None` if nothing was.
    fn take_left(&mut self) -> Option<Left> {
        if !self.left.assets.is_empty() {
            self.left.fold();
        }
        let Left { found, assets, uses } = &self.left;
        let nothing = found.is_empty() && assets.is_empty() && uses.is_empty();
        (!nothing).then(|| mem::take(&mut self.left))
    }

    /// Leaves word of assets that are there for the next turn.
    pub(super) fn leave_found(&mut self, assets: Vec<(AssetId, Stamp)>) {
        self.left.found.extend(assets);
    }
}

/// The policy, out of the lock. Dropping this puts it back, also when the policy panics.
pub(super) struct Turn<'a, S, P> {
    shared: &'a Shared<S, P>,
    /// `None` only while this is dropped.
    policy: Option<P>,
}

impl<S, P> Shared<S, P> {
    /// The turn, if nobody has it. The lock must be let go before the turn is.
    pub(super) fn free_turn(&self, state: &mut State<P>) -> Option<Turn<'_, S, P>> {
        let policy = state.seat.policy.take()?;
        state.seat.holder = Some(thread::current().id());
        state.seat.turns += 1;
        Some(Turn {
            shared: self,
            policy: Some(policy),
        })
    }

    /// Waits for the turn.
    pub(super) fn turn(&self) -> Result<Turn<'_, S, P>, CacheError> {
        let mut state = self.lock();
        let (mut turns, mut since) = (state.seat.turns, Instant::now());
        loop {
            if let Some(turn) = self.free_turn(&mut state) {
                return Ok(turn);
            }
            if state.seat.holder == Some(thread::current().id()) {
                return PolicyBusySnafu.fail();
            }
            // Many short turns are no reason to give up.
            if mem::replace(&mut turns, state.seat.turns) != turns {
                since = Instant::now();
            }
            let Some(left) = PATIENCE.checked_sub(since.elapsed()) else {
                return PolicyBusySnafu.fail();
            };
            state.seat.waiting += 1;
            state = self
                .put_back
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.seat.waiting -= 1;
        }
    }
}

impl<S, P: EvictionPolicy> Shared<S, P> {
    /// Tells the policy now, after what was left for it, or leaves it for the next turn.
    pub(super) fn tell(&self, mut state: MutexGuard<'_, State<P>>, asset: &AssetId, notice: Notice) {
        let uses = &mut state.seat.left.uses;
        if let Notice::Used(at) = notice
            && uses.len() + 1 < TOGETHER
        {
            uses.push((asset.bare(), at));
            return;
        }
        let Some(mut turn) = self.free_turn(&mut state) else {
            state.seat.left.leave(asset.clone(), notice);
            return;
        };
        // What is left from here on waits for the next turn: a policy that uses the cache would never be done.
        let left = state.seat.take_left();
        drop(state);
        turn.tell_left(left);
        turn.tell(asset, notice);
    }

    /// Takes the policy away, for good, after telling it what was left.
    pub(super) fn retire(&self) -> Option<P> {
        let mut state = self.lock();
        let mut turn = self.free_turn(&mut state)?;
        let left = state.seat.take_left();
        drop(state);
        turn.tell_left(left);
        turn.policy.take()
    }
}

impl<S, P: EvictionPolicy> Turn<'_, S, P> {
    fn tell(&mut self, asset: &AssetId, notice: Notice) {
        let Some(policy) = &mut self.policy else { return };
        match notice {
            Notice::Used(at) => policy.used(asset, at),
            Notice::Added(at) => policy.added(asset, at),
            Notice::Removed => policy.removed(asset),
        }
    }

    fn tell_left(&mut self, left: Option<Left>) {
        let Some(left) = left else { return };
        for (asset, _) in left.assets.iter().filter(|(_, missed)| missed.removed) {
            self.tell(asset, Notice::Removed);
        }
        self.restored(left.found);
        for (asset, missed) in &left.assets {
            if let Some(notice) = missed.since {
                self.tell(asset, notice);
            }
        }
        for (asset, at) in &left.uses {
            self.tell(asset, Notice::Used(*at));
        }
    }

    pub(super) fn restored(&mut self, assets: Vec<(AssetId, Stamp)>) {
        if let Some(policy) = self.policy.as_mut().filter(|_| !assets.is_empty()) {
            policy.restored(assets);
        }
    }

    pub(super) fn victim(&mut self, now: Stamp) -> Option<(AssetId, Stamp)> {
        self.policy.as_mut()?.victim(now)
    }

    pub(super) fn expired(&mut self, now: Stamp) -> Option<(AssetId, Stamp)> {
        self.policy.as_mut()?.expired(now)
    }
}

impl<S: Store, P: EvictionPolicy> Turn<'_, S, P> {
    /// Tells the policy all that has happened, and says what time it is.
    pub(super) fn catch_up(&mut self) -> Result<Stamp, CacheError> {
        let mut state = self.shared.lock();
        self.shared.hear_news(&mut state)?;
        let left = state.seat.take_left();
        let now = state.last.max(Stamp::now());
        drop(state);
        self.tell_left(left);
        Ok(now)
    }
}

impl<S, P> Turn<'_, S, P> {
    pub(super) fn policy(&self) -> Option<&P> {
        self.policy.as_ref()
    }
}

impl<S, P> Drop for Turn<'_, S, P> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.seat.policy = self.policy.take();
        state.seat.holder = None;
        let awaited = state.seat.waiting > 0;
        drop(state);
        if awaited {
            self.shared.put_back.notify_all();
        }
    }
}

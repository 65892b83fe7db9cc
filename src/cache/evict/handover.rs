//! Hands the policy from thread to thread, so that it runs under no lock.
//!
//! A policy is foreign code: it may call the cache, take long, or panic. No lock may be held meanwhile. A thread that has
//! something to tell the policy takes it out of the shared state, tells it, and returns it. A thread that finds it taken
//! leaves a note and goes on. Only a thread that needs an answer, because it needs room, waits for the policy.
//!
//! ```text
//!  thread A: open(x)         State, under the lock             thread B: put(y)
//!       │                  ┌──────────────────────┐                  │
//!       │ note Used(x) ──▶ │ policy: Some         │                  │
//!       │ (kept for a      │ pending: [Used x]    │ ── policy ─────▶ │ needs room
//!       │  batch of 32)    ├──────────────────────┤    and pending   │
//!       │                  │ policy: None         │                  │ lock free:
//!       │                  │ holder: B            │                  │ used(x)
//!       │ note Used(z) ──▶ │ pending: [Used z]    │                  │ victim() -> v
//!       ▼ goes on          ├──────────────────────┤ ◀── returned ─── │ evicts v
//!                          │ policy: Some         │     on drop      ▼
//!                          │ pending: [Used z]    │ ── notify ──▶ threads that
//!                          └──────────────────────┘               wait for it
//! ```
//!
//! Pending notes are merged for each asset. Without that, a policy that uses the cache whenever it hears of an access
//! would leave more notes with each hand-over than it was told.

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

/// How long a thread waits for one holder to return the policy. A policy that itself waits for a thread which needs room
/// would never be returned.
pub(super) const POLICY_TIMEOUT: Duration = Duration::from_secs(10);

/// So many accesses are told in one go. The policy looks up one asset after another with nothing between, so that the
/// processor fetches several from memory at a time.
const USES_TOGETHER: usize = 32;

/// What the policy is to hear of one asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyNote {
    Used(Timestamp),
    Added(Timestamp),
    Removed,
}

/// What the policy has not heard yet, merged for each asset.
///
/// Replay order: removals, discoveries, then accesses and writes, the latest last. An asset that was found and then
/// removed is so told the wrong way round; a policy that knows of one asset too many costs nothing.
#[derive(Default)]
struct PendingNotes {
    found: Vec<(AssetId, Timestamp)>,
    assets: LinkedHashMap<AssetId, AssetNotes, IdHasher>,
    /// Accesses later than all in `assets`: few, and not merged yet.
    uses: Vec<(AssetId, Timestamp)>,
}

/// What the policy has not heard of one asset.
#[derive(Default)]
struct AssetNotes {
    removed: bool,
    /// The last access or write, after the removal if there was one.
    since: Option<PolicyNote>,
}

impl PendingNotes {
    fn add(&mut self, asset: AssetId, note: PolicyNote) {
        self.merge_uses();
        self.merge(asset, note);
    }

    /// Merges the collected accesses with the notes before them.
    fn merge_uses(&mut self) {
        for (asset, at) in mem::take(&mut self.uses) {
            self.merge(asset, PolicyNote::Used(at));
        }
    }

    fn merge(&mut self, asset: AssetId, note: PolicyNote) {
        match note {
            PolicyNote::Used(_) => {
                // Out and in again: the order of the map is the order of the last accesses.
                let mut notes = self.assets.remove(&asset).unwrap_or_default();
                notes.since = Some(note);
                self.assets.insert(asset, notes);
            }
            PolicyNote::Added(_) => {
                let notes = self.assets.get(&asset);
                // An asset with an access keeps its place: a write is no access. Without one, `entry` puts it last.
                if notes.is_none_or(|notes| notes.since.is_none()) {
                    self.assets.entry(asset).or_insert_with(AssetNotes::default).since = Some(note);
                }
            }
            PolicyNote::Removed => {
                // What was noted of the asset before is void. It stays noted as removed even if it comes back, since the
                // policy may know of the old one.
                let removed = true;
                self.assets.insert(asset, AssetNotes { removed, since: None });
            }
        }
    }
}

/// The policy while no thread has it, and the notes for it.
pub(super) struct PolicyHandover<P> {
    policy: Option<P>,
    /// The thread that has the policy. A call from inside the policy is told from other threads by it.
    holder: Option<ThreadId>,
    /// How often the policy was taken.
    handovers: u64,
    pending: PendingNotes,
    /// How many threads wait for the policy.
    waiting: usize,
}

impl<P> PolicyHandover<P> {
    pub(super) fn new(policy: P) -> Self {
        Self {
            policy: Some(policy),
            holder: None,
            handovers: 0,
            pending: PendingNotes::default(),
            waiting: 0,
        }
    }

    /// How many threads wait for the policy now.
    #[cfg(feature = "test-util")]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The pending notes; `None` if there are none.
    fn take_pending(&mut self) -> Option<PendingNotes> {
        // Merged only if there is something to merge with. Accesses alone are few and are told as they came.
        if !self.pending.assets.is_empty() {
            self.pending.merge_uses();
        }
        let PendingNotes { found, assets, uses } = &self.pending;
        let nothing = found.is_empty() && assets.is_empty() && uses.is_empty();
        (!nothing).then(|| mem::take(&mut self.pending))
    }

    /// Notes assets that were found, for the next hand-over.
    pub(super) fn add_found(&mut self, assets: Vec<(AssetId, Timestamp)>) {
        self.pending.found.extend(assets);
    }
}

/// The policy in the hands of one thread, outside the lock. Dropping the guard returns the policy, also when it panics.
pub(super) struct PolicyGuard<'a, S, P> {
    evictor: &'a Evictor<S, P>,
    /// `None` only while the guard is dropped, or after the policy was retired.
    policy: Option<P>,
}

impl<S, P> Evictor<S, P> {
    /// Takes the policy if no thread has it. Let the lock go before the guard: its drop takes the lock.
    pub(super) fn try_take_policy(&self, state: &mut State<P>) -> Option<PolicyGuard<'_, S, P>> {
        let policy = state.handover.policy.take()?;
        state.handover.holder = Some(thread::current().id());
        state.handover.handovers += 1;
        Some(PolicyGuard {
            evictor: self,
            policy: Some(policy),
        })
    }

    /// Takes the policy, waiting for the thread that has it.
    pub(super) fn take_policy(&self) -> Result<PolicyGuard<'_, S, P>, CacheError> {
        let mut state = self.lock();
        let (mut handovers, mut since) = (state.handover.handovers, Instant::now());
        loop {
            if let Some(guard) = self.try_take_policy(&mut state) {
                return Ok(guard);
            }
            // The policy itself made this call. It would wait for its own return.
            if state.handover.holder == Some(thread::current().id()) {
                return PolicyBusySnafu.fail();
            }
            // The timeout is for one holder: many short ones, one after another, are no reason to give up.
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
    /// Tells the policy now, after the pending notes, or leaves a note if another thread has it.
    pub(super) fn tell(&self, mut state: MutexGuard<'_, State<P>>, asset: &AssetId, note: PolicyNote) {
        let uses = &mut state.handover.pending.uses;
        // An access is the hot path: one push under a lock that is held anyway. Writes and removals are told at once, after
        // the accesses before them, so that the policy hears of everything in its order.
        if let PolicyNote::Used(at) = note
            && uses.len() + 1 < USES_TOGETHER
        {
            uses.push((asset.bare(), at));
            return;
        }
        let Some(mut guard) = self.try_take_policy(&mut state) else {
            state.handover.pending.add(asset.clone(), note);
            return;
        };
        // Notes that come from here on wait for the next hand-over. A policy that uses the cache adds some whenever it is
        // told one: a loop until there are none would never end.
        let pending = state.handover.take_pending();
        drop(state);
        guard.tell_pending(pending);
        guard.tell(asset, note);
    }

    /// Takes the policy out for good, after telling it the pending notes.
    pub(super) fn retire(&self) -> Option<P> {
        let mut state = self.lock();
        let mut guard = self.try_take_policy(&mut state)?;
        let pending = state.handover.take_pending();
        drop(state);
        guard.tell_pending(pending);
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

    fn tell_pending(&mut self, pending: Option<PendingNotes>) {
        let Some(pending) = pending else { return };
        for (asset, _) in pending.assets.iter().filter(|(_, notes)| notes.removed) {
            self.tell(asset, PolicyNote::Removed);
        }
        self.restored(pending.found);
        for (asset, notes) in &pending.assets {
            if let Some(note) = notes.since {
                self.tell(asset, note);
            }
        }
        for (asset, at) in &pending.uses {
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
    /// Tells the policy everything that has happened, and returns the time.
    pub(super) fn catch_up(&mut self) -> Result<Timestamp, CacheError> {
        let mut state = self.evictor.lock();
        self.evictor.take_changes(&mut state)?;
        let pending = state.handover.take_pending();
        // No earlier than the last access, also if the clock was set back since: ages are never negative.
        let now = state.last.max(Timestamp::now());
        drop(state);
        self.tell_pending(pending);
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
        // Notified after the lock is released: a woken thread would only wait for it.
        let awaited = state.handover.waiting > 0;
        drop(state);
        if awaited {
            self.evictor.policy_returned.notify_all();
        }
    }
}

//! What the handles on one limited store share.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::handover::{PolicyHandover, PolicyNote};
use crate::cache::error::CacheError;
use crate::cache::id::{AssetId, IdHasher};
use crate::cache::policy::EvictionPolicy;
use crate::cache::store::{Committed, Store};
use crate::cache::timestamp::Timestamp;
use crate::cache::trash_queue::TrashQueue;

pub(super) struct Evictor<S, P> {
    pub(super) inner: S,
    pub(super) max_bytes: u64,
    pub(super) trash_queue: Arc<TrashQueue>,
    pub(super) state: Mutex<State<P>>,
    /// The policy is in its seat again.
    pub(super) policy_returned: Condvar,
    /// What was there at open was brought under the limit.
    pub(super) trimmed: AtomicBool,
}

pub(super) struct State<P> {
    pub(super) handover: PolicyHandover<P>,
    /// Victims that turned out to be held, until the changes tell that they are free.
    pub(super) skipped: HashSet<AssetId, IdHasher>,
    /// Bytes promised to entries being written.
    pub(super) reserved: u64,
    /// The last stamp given out.
    pub(super) last: Timestamp,
}

impl<S, P> Evictor<S, P> {
    pub(super) fn new(inner: S, policy: P, max_bytes: u64) -> Self {
        let state = State {
            handover: PolicyHandover::new(policy),
            skipped: HashSet::default(),
            reserved: 0,
            last: Timestamp::default(),
        };
        Self {
            inner,
            max_bytes,
            trash_queue: Arc::default(),
            state: Mutex::new(state),
            policy_returned: Condvar::new(),
            trimmed: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<P>> {
        // The counters are whole whenever the lock is free. A policy that panicked may know less than it should,
        // which costs evictions, not bytes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> State<P> {
    /// A stamp later than all before it, also when the clock is set back.
    pub(super) fn next_timestamp(&mut self) -> Timestamp {
        self.last = Timestamp::now().max(Timestamp(self.last.0.saturating_add(1)));
        self.last
    }
}

impl<S: Store, P: EvictionPolicy> Evictor<S, P> {
    /// `false`: nothing is remembered of what is not there.
    pub(super) fn used(&self, asset: &AssetId, at: Timestamp) -> bool {
        let mut state = self.lock();
        state.last = state.last.max(at);
        let at = state.next_timestamp();
        // Under the lock, so that the inner store and the policy agree on the order.
        let there = self.inner.touch(asset, at);
        if there {
            self.tell(state, asset, PolicyNote::Used(at));
        }
        there
    }

    /// A commit counts among what is used, so what was `reserved` for it is given up.
    pub(super) fn committed(&self, asset: &AssetId, reserved: u64, committed: Committed) {
        let mut state = self.lock();
        state.reserved = state.reserved.saturating_sub(reserved);
        // An asset of an earlier session keeps its recency: it has to be known before it is added. What cannot be heard
        // now is heard when room is needed.
        let _ = self.take_changes(&mut state);
        if committed.created {
            drop(state);
            // What is known of an earlier asset of this name is past.
            self.used(asset, Timestamp::default());
        } else if !state.skipped.contains(asset) {
            let at = state.next_timestamp();
            self.tell(state, asset, PolicyNote::Added(at));
        }
    }

    pub(super) fn take_changes(&self, state: &mut State<P>) -> Result<(), CacheError> {
        let changes = self.inner.changes()?;
        for (asset, at) in &changes {
            state.skipped.remove(asset);
            // What an earlier session stamped stays older than what this one stamps.
            state.last = state.last.max(*at);
        }
        if !changes.is_empty() {
            state.handover.add_found(changes);
        }
        Ok(())
    }
}

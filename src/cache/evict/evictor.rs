//! What an [`EvictingStore`](super::EvictingStore) and the entries being written to it share: the inner store, the
//! reservations, and the policy when no thread has it.

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
    /// Notified when a thread has returned the policy.
    pub(super) policy_returned: Condvar,
    /// What was there at open has been brought under the limit.
    pub(super) trimmed: AtomicBool,
}

pub(super) struct State<P> {
    pub(super) handover: PolicyHandover<P>,
    /// Victims that turned out to be held. The policy no longer knows them; the inner store's changes name them again
    /// once they are free.
    pub(super) skipped: HashSet<AssetId, IdHasher>,
    /// Bytes reserved for entries being written.
    pub(super) reserved: u64,
    /// The last timestamp given out.
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
        // The counters are whole whenever the lock is free. A policy that panicked may know less than it should, which
        // costs evictions, not bytes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> State<P> {
    /// A timestamp later than all before it, also when the clock is set back.
    pub(super) fn next_timestamp(&mut self) -> Timestamp {
        self.last = Timestamp::now().max(Timestamp(self.last.0.saturating_add(1)));
        self.last
    }
}

impl<S: Store, P: EvictionPolicy> Evictor<S, P> {
    /// Records an access. `false` if there is no such asset: nothing is remembered then.
    pub(super) fn used(&self, asset: &AssetId, at: Timestamp) -> bool {
        let mut state = self.lock();
        state.last = state.last.max(at);
        let at = state.next_timestamp();
        // The lock is held over both steps. Otherwise two accesses could reach the inner store in one order and the
        // policy in the other, and the two would disagree on which asset is older.
        let there = self.inner.touch(asset, at);
        if there {
            self.tell(state, asset, PolicyNote::Used(at));
        }
        there
    }

    /// Gives up the reservation of an entry whose commit counts in the inner store by now, and tells the policy.
    pub(super) fn committed(&self, asset: &AssetId, reserved: u64, committed: Committed) {
        let mut state = self.lock();
        // The bytes counted twice from the commit to this line. The other order would let them count not at all for a
        // moment, in which another write could take their room (C5).
        state.reserved = state.reserved.saturating_sub(reserved);
        // The policy must hear of an asset of an earlier session before it hears that the asset was written to, or the
        // asset would lose its recency. If the changes cannot be read now, they are read when room is needed.
        let _ = self.take_changes(&mut state);
        if committed.created {
            drop(state);
            // The asset starts as the most recent, whatever the policy knows of an earlier asset of this name.
            self.used(asset, Timestamp::default());
        } else if !state.skipped.contains(asset) {
            let at = state.next_timestamp();
            self.tell(state, asset, PolicyNote::Added(at));
        }
    }

    /// Hands the inner store's changes on to the policy.
    pub(super) fn take_changes(&self, state: &mut State<P>) -> Result<(), CacheError> {
        let changes = self.inner.changes()?;
        for (asset, at) in &changes {
            state.skipped.remove(asset);
            // Accesses of an earlier session, whose clock may have run ahead, stay older than those of this one (C8).
            state.last = state.last.max(*at);
        }
        if !changes.is_empty() {
            state.handover.add_found(changes);
        }
        Ok(())
    }
}

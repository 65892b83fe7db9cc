//! Trash waiting to be emptied.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::store::Trash;

/// Removed assets whose bytes still count. Whoever needs the room, or has nothing better to do, empties one.
#[derive(Debug, Default)]
pub(crate) struct TrashQueue {
    state: Mutex<State>,
    emptied: Condvar,
    pushed: Condvar,
    /// How many have waited for somebody else.
    #[cfg(test)]
    pub(crate) waited: std::sync::atomic::AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Trash>,
    /// How many are being emptied, or are on their way here, right now.
    busy: usize,
    /// Nothing will be pushed any more.
    closed: bool,
}

/// Why the maintenance thread was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Trash,
    Timeout,
    Closed,
}

/// Ends one emptying, or one removal that may end here, also when it panics.
pub(crate) struct Busy<'a>(&'a TrashQueue);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.emptied.notify_all();
    }
}

impl TrashQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole whenever the lock is free.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that trash may come: from here on whoever needs room waits for it. It counts as such in the store before
    /// it can be pushed.
    pub(crate) fn expect(&self) -> Busy<'_> {
        self.lock().busy += 1;
        Busy(self)
    }

    pub(crate) fn push(&self, trash: Trash) {
        self.lock().waiting.push_back(trash);
        self.pushed.notify_one();
    }

    /// Waits for trash, for [`close`](Self::close), or until `timeout` has passed.
    pub(crate) fn wait(&self, timeout: Duration) -> Wake {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let (state, _) = self
            .pushed
            .wait_timeout_while(self.lock(), timeout, idle)
            .unwrap_or_else(PoisonError::into_inner);
        match (state.waiting.is_empty(), state.closed) {
            (false, _) => Wake::Trash,
            (true, true) => Wake::Closed,
            (true, false) => Wake::Timeout,
        }
    }

    /// Wakes who waits, for the last time.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.pushed.notify_all();
    }

    /// Whether some trash still counts.
    pub(crate) fn is_pending(&self) -> bool {
        let state = self.lock();
        state.busy > 0 || !state.waiting.is_empty()
    }

    /// Empties one piece of trash, or waits until somebody else has emptied one. `false` if there was none.
    pub(crate) fn empty_one(&self) -> bool {
        let mut state = self.lock();
        if let Some(trash) = state.waiting.pop_front() {
            state.busy += 1;
            drop(state);
            let _busy = Busy(self);
            if let Err(error) = trash.empty() {
                // It keeps counting, and the next open sweeps it.
                log::warn!("cannot empty the trash: {error}");
            }
            return true;
        }
        if state.busy == 0 {
            return false;
        }
        #[cfg(test)]
        self.waited.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        drop(self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner));
        true
    }

    /// Empties all.
    pub(crate) fn empty(&self) {
        while self.empty_one() {}
    }
}

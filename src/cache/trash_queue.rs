//! Removed assets whose bytes are still on the disk, waiting to be unlinked.
//!
//! Trash counts under the limit until it is unlinked. So a thread that needs room empties trash before it asks for
//! victims, and waits for trash that another thread is emptying or is about to push. A thread that did not wait would
//! evict an asset, or report a full cache, for room that is free a moment later.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use super::store::Trash;
use super::sync::{Condvar, Mutex, MutexGuard};

/// Removed assets whose bytes still count. The maintenance thread empties them, or a thread that needs the room.
#[derive(Debug, Default)]
pub(crate) struct TrashQueue {
    state: Mutex<State>,
    emptied: Condvar,
    pushed: Condvar,
    /// How often a thread has waited for another one to empty trash.
    #[cfg(feature = "test-util")]
    waits: std::sync::atomic::AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Trash>,
    /// How many pieces are being emptied, or are announced and not yet pushed.
    busy: usize,
    /// The maintenance thread ends when the queue is empty.
    closed: bool,
}

/// Why [`TrashQueue::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Trash,
    /// The caller looks at its clock.
    Timeout,
    Closed,
}

/// Counts as pending trash until it is dropped, also by a panic.
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

    /// Announces trash before an asset is removed. From here on a thread that needs room waits for it. Between the removal
    /// and the push the bytes count as trash already, and nothing in the queue could free them.
    pub(crate) fn expect(&self) -> Busy<'_> {
        self.lock().busy += 1;
        Busy(self)
    }

    pub(crate) fn push(&self, trash: Trash) {
        self.lock().waiting.push_back(trash);
        // Only the maintenance thread waits for trash. Threads that need room ask for it.
        self.pushed.notify_one();
    }

    /// Waits for trash, for [`close`](Self::close), or until `timeout` has passed; now and then for less.
    pub(crate) fn wait(&self, timeout: Duration) -> Wake {
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.closed {
            let waited = self.pushed.wait_timeout(state, timeout);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        // Trash first, also after the close: what is queued is emptied before the cache is closed.
        match (state.waiting.is_empty(), state.closed) {
            (false, _) => Wake::Trash,
            (true, true) => Wake::Closed,
            (true, false) => Wake::Timeout,
        }
    }

    /// Lets [`wait`](Self::wait) return `Closed` once the queue is empty.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.pushed.notify_all();
    }

    /// Whether some trash still counts under the limit.
    pub(crate) fn is_pending(&self) -> bool {
        let state = self.lock();
        state.busy > 0 || !state.waiting.is_empty()
    }

    /// Empties one piece of trash, or waits until another thread has emptied one. `false` if there was none.
    pub(crate) fn empty_one(&self) -> bool {
        let mut state = self.lock();
        if let Some(trash) = state.waiting.pop_front() {
            // Counted as busy under the same lock that took it out: it must not look as if no trash were pending.
            state.busy += 1;
            drop(state);
            let _busy = Busy(self);
            if let Err(error) = trash.empty() {
                // Its bytes keep counting, and the next session sweeps them.
                log::warn!("cannot empty the trash: {error}");
            }
            return true;
        }
        if state.busy == 0 {
            return false;
        }
        #[cfg(feature = "test-util")]
        self.waits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        drop(self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner));
        true
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn waits(&self) -> usize {
        self.waits.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Empties the queue, and waits for what other threads are emptying.
    pub(crate) fn empty(&self) {
        while self.empty_one() {}
    }
}

//! Trash waiting to be emptied.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::store::Trash;

/// Removed assets whose bytes still count. Whoever needs the room, or has nothing better to do, empties one.
#[derive(Debug, Default)]
pub(crate) struct Bin {
    state: Mutex<State>,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Trash>,
    /// How many are being emptied right now.
    busy: usize,
}

/// Ends one emptying, also when it panics.
struct Busy<'a>(&'a Bin);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.emptied.notify_all();
    }
}

impl Bin {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole whenever the lock is free.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, trash: Trash) {
        self.lock().waiting.push_back(trash);
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
        drop(self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner));
        true
    }

    /// Empties all.
    pub(crate) fn empty(&self) {
        while self.empty_one() {}
    }
}

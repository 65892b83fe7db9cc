//! Tasks that wait for events.
//!
//! The pull side, which decides what is heard, wakes nobody: that would be a system call. So a task that waits for the ring to
//! be pulled looks again when that can have happened, by a timer of its own. Only a task that waits for the decode thread has
//! no timer.

use std::sync::{Mutex, PoisonError};
use std::task::Waker;

#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<Vec<Listener>>);

#[derive(Debug)]
struct Listener {
    waker: Waker,
    has_timer: bool,
}

impl Listeners {
    /// The next notification wakes this task, once.
    pub(super) fn add(&self, waker: &Waker, has_timer: bool) {
        let listener = Listener {
            waker: waker.clone(),
            has_timer,
        };
        let replaced: Vec<Listener> = {
            let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // One entry for each task, however often it is polled: the list would grow with each look.
            let replaced = listeners.extract_if(.., |known| known.waker.will_wake(waker));
            let replaced = replaced.collect();
            listeners.push(listener);
            replaced
        };
        // A waker is the executor's: it is cloned before the lock, and dropped behind it.
        drop(replaced);
    }

    /// Wakes all tasks: what they computed their timers from holds no longer.
    pub(super) fn notify_all(&self) {
        self.notify(|_| true);
    }

    /// Wakes the tasks without a timer.
    pub(super) fn notify_untimed(&self) {
        self.notify(|listener| !listener.has_timer);
    }

    fn notify(&self, wanted: impl Fn(&Listener) -> bool) {
        let woken: Vec<Listener> = {
            let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.extract_if(.., |listener| wanted(listener)).collect()
        };
        // Outside the lock: a waker may run the task, which adds itself again.
        for listener in woken {
            listener.waker.wake();
        }
    }
}

//! The primitives this module synchronises with, and the one it adds: [`Signal`].

pub(super) use async_channel as channel;
pub(super) use atomic_waker::AtomicWaker;
pub(super) use std::sync::Mutex;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use std::task::Waker;

/// Wakes one task about conditions kept elsewhere.
///
/// The one who waits calls [`arm`](Self::arm) and then looks at its conditions once more; the one who changes a
/// condition calls [`fire`](Self::fire) afterwards. The two fences forbid that both miss each other. `fire` costs a
/// fence and a load while nobody waits, which is the usual case of a stream that flows.
#[derive(Debug)]
pub(super) struct Signal {
    armed: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    pub(super) fn new() -> Self {
        Self {
            armed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// From here on, [`fire`](Self::fire) wakes `waker`, once. Only ever called by the one task that waits.
    pub(super) fn arm(&self, waker: &Waker) {
        self.waker.register(waker);
        self.armed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    pub(super) fn fire(&self) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Acquire) {
            // Disarm, then wake: who arms in between is woken once too often, never once too seldom.
            self.armed.store(false, Ordering::Release);
            self.waker.wake();
        }
    }
}

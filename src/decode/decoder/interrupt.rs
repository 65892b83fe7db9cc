//! Ending a decoder's wait from another thread.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::decode::{DecodeError, source::Interrupt};

/// Ends the wait of a [`Decoder`](super::Decoder) for bytes, from another thread.
#[derive(Clone)]
pub struct DecodeInterrupter {
    shared: Arc<Interrupted>,
}

struct Interrupted {
    asked: AtomicBool,
    current: Mutex<Interrupt>,
}

impl DecodeInterrupter {
    pub(super) fn new(interrupt: Interrupt) -> Self {
        Self {
            shared: Arc::new(Interrupted {
                asked: AtomicBool::new(false),
                current: Mutex::new(interrupt),
            }),
        }
    }

    /// The call that waits, or else the next one that would, returns [`DecodeError::Interrupted`]. Nothing is lost.
    pub fn interrupt(&self) {
        // Before the source is told: a decoder that goes over to another source right now finds the flag instead.
        self.shared.asked.store(true, Ordering::SeqCst);
        // Called outside the lock: it wakes a thread that may go on to `follow`.
        let current = Arc::clone(&self.shared.current.lock().unwrap_or_else(PoisonError::into_inner));
        current();
    }

    /// From now on another source is what may wait.
    pub(super) fn follow(&self, interrupt: Interrupt) {
        // The flag is not touched: a request that came while the source changed is found in it.
        *self.shared.current.lock().unwrap_or_else(PoisonError::into_inner) = interrupt;
    }

    /// Whether a wait was to be given up, once.
    ///
    /// # Errors
    ///
    /// `Interrupted`.
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        if self.shared.asked.swap(false, Ordering::SeqCst) {
            return Err(DecodeError::Interrupted);
        }
        Ok(())
    }

    /// The source has given up its wait: the flag asked for the same.
    pub(super) fn answered(&self) {
        self.shared.asked.store(false, Ordering::SeqCst);
    }
}

impl fmt::Debug for DecodeInterrupter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeInterrupter").finish_non_exhaustive()
    }
}

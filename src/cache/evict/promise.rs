//! Room promised to what is being written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CacheError, Committed, EvictionPolicy, Shared, Store};
use crate::cache::id::AssetId;

/// Bytes that count as used before they are; given up when it is dropped.
pub(super) struct Promise<S, P> {
    bytes: Mutex<u64>,
    shared: Arc<Shared<S, P>>,
}

impl<S, P> Promise<S, P> {
    /// Of what is on disk already, and so without asking: it counted until now, and goes on to.
    pub(super) fn of(bytes: u64, shared: &Arc<Shared<S, P>>) -> Self {
        shared.lock().reserved += bytes;
        Self {
            bytes: Mutex::new(bytes),
            shared: Arc::clone(shared),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        *self.lock()
    }

    pub(super) fn give_up(&self, bytes: u64) {
        let mut promised = self.lock();
        *promised = promised.saturating_sub(bytes);
        drop(promised);
        let mut state = self.shared.lock();
        state.reserved = state.reserved.saturating_sub(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // A number is whole whatever panics.
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store, P: EvictionPolicy> Promise<S, P> {
    /// Promises so much more, evicting as needed.
    pub(super) fn grow(&self, bytes: u64) -> Result<(), CacheError> {
        self.shared.reserve(bytes)?;
        *self.lock() += bytes;
        Ok(())
    }

    /// Ends it with a commit: the bytes are counted as an entry's by now.
    pub(super) fn keep(&self, asset: &AssetId, committed: Committed) {
        let bytes = std::mem::take(&mut *self.lock());
        self.shared.committed(asset, bytes, committed);
    }
}

impl<S, P> Drop for Promise<S, P> {
    fn drop(&mut self) {
        self.give_up(self.bytes());
    }
}

//! Room reserved for what is being written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::evictor::Evictor;
use crate::cache::error::CacheError;
use crate::cache::id::AssetId;
use crate::cache::policy::EvictionPolicy;
use crate::cache::store::{Committed, Store};

/// Bytes that count under the limit before they are written. Dropping the reservation gives them up.
pub(super) struct Reservation<S, P> {
    bytes: Mutex<u64>,
    evictor: Arc<Evictor<S, P>>,
}

impl<S, P> Reservation<S, P> {
    /// Reserves bytes without asking for room: those of a file that is on disk already. They counted in the inner store
    /// until now, and count here from now on.
    pub(super) fn unchecked(bytes: u64, evictor: &Arc<Evictor<S, P>>) -> Self {
        evictor.lock().reserved += bytes;
        Self {
            bytes: Mutex::new(bytes),
            evictor: Arc::clone(evictor),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        *self.lock()
    }

    pub(super) fn release(&self, bytes: u64) {
        // Its own lock is let go before the evictor's is taken: no thread ever holds both.
        let mut reserved = self.lock();
        *reserved = reserved.saturating_sub(bytes);
        drop(reserved);
        let mut state = self.evictor.lock();
        state.reserved = state.reserved.saturating_sub(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // A number is whole whatever panics.
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store, P: EvictionPolicy> Reservation<S, P> {
    /// Reserves so many bytes more, evicting as needed.
    pub(super) fn grow(&self, bytes: u64) -> Result<(), CacheError> {
        // Under no lock: this may wait for the policy, and for the disk to empty trash.
        self.evictor.reserve(bytes)?;
        *self.lock() += bytes;
        Ok(())
    }

    /// Ends the reservation with a commit: the bytes count as an entry's by now.
    pub(super) fn commit(&self, asset: &AssetId, committed: Committed) {
        // Taken out, so that the drop of this reservation does not give the same bytes up again.
        let bytes = std::mem::take(&mut *self.lock());
        self.evictor.committed(asset, bytes, committed);
    }
}

impl<S, P> Drop for Reservation<S, P> {
    fn drop(&mut self) {
        self.release(self.bytes());
    }
}

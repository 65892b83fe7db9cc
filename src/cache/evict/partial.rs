//! Partial entries under the limit: room is reserved as they grow, and evicts others.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::{CacheError, Committed, EvictionPolicy, Shared, Store};
use crate::cache::id::AssetId;
use crate::cache::partial::{Partial, PartialPlace};

/// A partial entry, and the room promised to it.
pub(super) struct EvictingPartial<S: Store, P: EvictionPolicy> {
    /// `None` only while this is dropped.
    inner: Option<Box<dyn Partial>>,
    place: PartialPlace,
    asset: AssetId,
    reserved: Mutex<u64>,
    shared: Arc<Shared<S, P>>,
}

impl<S: Store, P: EvictionPolicy> EvictingPartial<S, P> {
    pub(super) fn new(inner: Box<dyn Partial>, asset: &AssetId, shared: &Arc<Shared<S, P>>) -> Self {
        // What is on disk already is promised without asking: it counted until now, and goes on to.
        let stored = inner.stored();
        shared.lock().reserved += stored;
        inner.taken_over();
        Self {
            place: inner.place().clone(),
            inner: Some(inner),
            asset: asset.clone(),
            reserved: Mutex::new(stored),
            shared: Arc::clone(shared),
        }
    }

    fn change(&self, change: impl FnOnce(&mut u64)) {
        // A number is whole whatever panics.
        change(&mut self.reserved.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn give_up(&self, bytes: u64) {
        self.change(|reserved| *reserved = reserved.saturating_sub(bytes));
        let mut state = self.shared.lock();
        state.reserved = state.reserved.saturating_sub(bytes);
    }

    fn reserved(&self) -> u64 {
        let mut reserved = 0;
        self.change(|now| reserved = *now);
        reserved
    }
}

impl<S: Store, P: EvictionPolicy> Partial for EvictingPartial<S, P> {
    fn place(&self) -> &PartialPlace {
        &self.place
    }

    fn stored(&self) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.stored())
    }

    fn reserve(&self, bytes: u64) -> Result<(), CacheError> {
        self.shared.reserve(bytes)?;
        self.change(|reserved| *reserved += bytes);
        Ok(())
    }

    fn release(&self, bytes: u64) {
        self.give_up(bytes);
    }

    fn prepare(&self) -> Result<(), CacheError> {
        self.inner.as_ref().map_or(Ok(()), |inner| inner.prepare())
    }

    fn taken_over(&self) {}

    fn closing(&self) {
        if let Some(inner) = &self.inner {
            inner.closing();
        }
    }

    fn commit(&self, rename: &mut dyn FnMut() -> Result<u64, CacheError>) -> Result<Committed, CacheError> {
        let Some(inner) = &self.inner else {
            return Err(CacheError::Abandoned);
        };
        let committed = inner.commit(rename)?;
        // Counted as an entry by now, so the promise has been kept.
        let mut reserved = 0;
        self.change(|now| reserved = std::mem::take(now));
        self.shared.committed(&self.asset, reserved, committed);
        Ok(committed)
    }
}

impl<S: Store, P: EvictionPolicy> Drop for EvictingPartial<S, P> {
    fn drop(&mut self) {
        // What is on disk counts there before the promise is given up.
        drop(self.inner.take());
        self.give_up(self.reserved());
    }
}

impl<S: Store, P: EvictionPolicy> fmt::Debug for EvictingPartial<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictingPartial")
            .field("inner", &self.inner)
            .field("reserved", &self.reserved())
            .finish_non_exhaustive()
    }
}

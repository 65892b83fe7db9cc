//! Partial entries in the accounts: out of them while somebody else counts them, back when they are let go.

use std::fmt;
use std::sync::Arc;

use super::ledger::Ledger;
use crate::cache::error::CacheError;
use crate::cache::id::AssetId;
use crate::cache::partial::{Partial, PartialPlace};
use crate::cache::store::{Committed, Store};

/// A partial entry whose commit is accounted, and whose bytes are once it is let go.
pub(super) struct IndexPartial<S: Store> {
    /// `None` only while this is dropped.
    inner: Option<Box<dyn Partial>>,
    place: PartialPlace,
    asset: AssetId,
    shared: Arc<Ledger<S>>,
}

impl<S: Store> IndexPartial<S> {
    pub(super) fn new(inner: Box<dyn Partial>, asset: &AssetId, shared: &Arc<Ledger<S>>) -> Self {
        Self {
            place: inner.place().clone(),
            inner: Some(inner),
            asset: asset.clone(),
            shared: Arc::clone(shared),
        }
    }
}

impl<S: Store> Partial for IndexPartial<S> {
    fn place(&self) -> &PartialPlace {
        &self.place
    }

    fn stored(&self) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.stored())
    }

    fn reserve(&self, _bytes: u64) -> Result<(), CacheError> {
        Ok(())
    }

    fn release(&self, _bytes: u64) {}

    fn prepare(&self) -> Result<(), CacheError> {
        self.inner.as_ref().map_or(Ok(()), |inner| inner.prepare())
    }

    fn taken_over(&self) {
        // Nothing that was not there was counted.
        if self.stored() == 0 {
            return;
        }
        self.shared.refresh(&self.asset);
        self.shared.flush();
    }

    fn closing(&self) {
        if let Some(inner) = &self.inner {
            inner.closing();
        }
    }

    fn commit(&self, rename: &mut dyn FnMut() -> Result<u64, CacheError>) -> Result<Committed, CacheError> {
        let Some(inner) = &self.inner else {
            return Err(CacheError::Abandoned);
        };
        self.shared.committing(&self.asset, || inner.commit(rename))
    }
}

impl<S: Store> Drop for IndexPartial<S> {
    fn drop(&mut self) {
        drop(self.inner.take());
        self.shared.refresh(&self.asset);
        self.shared.flush();
    }
}

impl<S: Store> fmt::Debug for IndexPartial<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexPartial")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

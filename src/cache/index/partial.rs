//! Partial entries in the accounts: not counted there while their claim counts them, and counted again after it.

use std::fmt;
use std::sync::Arc;

use super::accounts::Accounts;
use crate::cache::error::CacheError;
use crate::cache::id::AssetId;
use crate::cache::store::{Committed, Partial, PartialPlace, Store};

/// A partial entry. Its commit changes the accounts, and so does the end of its claim.
pub(super) struct IndexPartial<S: Store> {
    // Dropped in this order: the accounts read the asset's figures when the claim no longer hides its bytes.
    inner: Box<dyn Partial>,
    account: CountOnDrop<S>,
}

/// Reads the asset's figures anew when it is dropped.
struct CountOnDrop<S: Store> {
    asset: AssetId,
    accounts: Arc<Accounts<S>>,
}

impl<S: Store> IndexPartial<S> {
    pub(super) fn new(inner: Box<dyn Partial>, asset: &AssetId, accounts: &Arc<Accounts<S>>) -> Self {
        Self {
            inner,
            account: CountOnDrop {
                asset: asset.clone(),
                accounts: Arc::clone(accounts),
            },
        }
    }
}

impl<S: Store> Partial for IndexPartial<S> {
    fn place(&self) -> &PartialPlace {
        self.inner.place()
    }

    fn stored(&self) -> u64 {
        self.inner.stored()
    }

    fn reserve(&self, _bytes: u64) -> Result<(), CacheError> {
        Ok(())
    }

    fn release(&self, _bytes: u64) {}

    fn prepare(&self) -> Result<(), CacheError> {
        self.inner.prepare()
    }

    fn taken_over(&self) {
        self.inner.taken_over();
        // Where nothing was there, nothing was counted.
        if self.stored() > 0 {
            self.account.count();
        }
    }

    fn closing(&self) {
        self.inner.closing();
    }

    fn commit(&self, rename: &mut dyn FnMut() -> Result<u64, CacheError>) -> Result<Committed, CacheError> {
        let CountOnDrop { asset, accounts } = &self.account;
        accounts.committing(asset, || self.inner.commit(rename))
    }
}

impl<S: Store> CountOnDrop<S> {
    fn count(&self) {
        self.accounts.refresh(&self.asset);
        self.accounts.flush();
    }
}

impl<S: Store> Drop for CountOnDrop<S> {
    fn drop(&mut self) {
        self.count();
    }
}

impl<S: Store> fmt::Debug for IndexPartial<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexPartial")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

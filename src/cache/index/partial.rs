//! Partial entries in the accounts: not counted there while their claim counts them, and counted again after it.

use crate::cache::accounts::Lease;
use crate::cache::error::CacheError;
use crate::cache::store::{Committed, Partial, PartialPlace};

/// A partial entry. Its commit changes the accounts, and so does the end of its claim.
#[derive(Debug)]
pub(super) struct IndexPartial {
    // Dropped in this order: the accounts read the asset's figures when the claim no longer hides its bytes.
    inner: Box<dyn Partial>,
    account: CountOnDrop,
}

/// Reads the asset's figures anew when it is dropped, and then ends the lease.
#[derive(Debug)]
struct CountOnDrop(Lease);

impl IndexPartial {
    pub(super) fn new(inner: Box<dyn Partial>, lease: Lease) -> Self {
        Self {
            inner,
            account: CountOnDrop(lease),
        }
    }
}

impl Partial for IndexPartial {
    fn place(&self) -> &PartialPlace {
        self.inner.place()
    }

    fn stored(&self) -> u64 {
        self.inner.stored()
    }

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
        let CountOnDrop(lease) = &self.account;
        lease
            .accounts()
            .committing(lease.asset(), || self.inner.commit(rename))
    }
}

impl CountOnDrop {
    fn count(&self) {
        let accounts = self.0.accounts();
        accounts.refresh(self.0.asset());
        // Dropped by the policy: the asset is read at the next checkpoint.
        if accounts.check().is_ok() {
            accounts.flush();
        }
    }
}

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        self.count();
    }
}

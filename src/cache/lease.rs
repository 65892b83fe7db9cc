//! What is leased, pinned or being written cannot be removed.

use std::sync::Arc;

use bytes::Bytes;

use super::accounts::{Accounts, Lease};
use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::path::CachePath;
use super::store::{AssetInfo, EntryInfo, Partial, Staged, Store, Trash};

/// Protects assets from removal, by the app and by eviction.
///
/// Its rule: while an asset is leased, pinned or being written, [`remove`](Store::remove) fails with
/// [`CacheError::InUse`]. Leases are counted in the accounts and end with the process. What is being written has a lease of its
/// own, which the [`IndexStore`](super::IndexStore) takes. Pins are kept by the inner store.
#[derive(Debug)]
pub struct LeaseStore<S> {
    inner: S,
    accounts: Arc<Accounts>,
}

impl<S> LeaseStore<S> {
    /// Protects the assets of `inner`, whose accounts these are.
    pub fn new(inner: S, accounts: &Arc<Accounts>) -> Self {
        Self {
            inner,
            accounts: Arc::clone(accounts),
        }
    }

    /// Leases an asset, with or without entries. Does not wait: if the asset is being removed right now, the lease protects
    /// what is written to it afterwards. Counts as an access.
    pub fn lease(&self, asset: &AssetId) -> Lease {
        self.accounts.lease(asset)
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: Store> Store for LeaseStore<S> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        // A removal that begins after this line does no harm: the reader gets the entry whole, or none.
        if self.accounts.is_removing(asset)? {
            return Ok(None);
        }
        self.inner.open(asset, path)
    }

    fn exists(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        // In this order: the inner store may still have the entry when the removal has begun.
        Ok(!self.accounts.is_removing(asset)? && self.inner.exists(asset, path)?)
    }

    fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        if self.accounts.is_removing(asset)? {
            return Ok(None);
        }
        self.inner.get(asset, path)
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        self.inner.stage(asset, path)
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.inner.partial(asset, path)
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.inner.remove_entry(asset, path)
    }

    fn remove_damaged(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.inner.remove_damaged(asset, path)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        let removing = self.accounts.begin_removal(asset)?;
        let removed = self.inner.remove(asset);
        // Writers that waited make the asset anew from here on, in a directory of its own.
        drop(removing);
        removed
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let claim = self.accounts.claim(asset)?;
        self.inner.set_pinned(asset, pinned)?;
        // The asset is held by its pin from here on, or by nothing.
        drop(claim);
        Ok(())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.inner.asset(asset)
    }

    fn list(&self) -> Result<Vec<AssetInfo>, CacheError> {
        self.inner.list()
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.inner.entries(asset)
    }
}

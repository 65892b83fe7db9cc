//! What is leased, pinned or being written cannot be removed.

use std::sync::Arc;

use bytes::Bytes;

use super::accounts::{Accounts, Lease};
use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::path::CachePath;
use super::store::{AssetInfo, Committed, EntryInfo, Partial, PartialPlace, Staged, Store, Trash};

/// Protects assets from removal, by the app and by eviction.
///
/// Its rule: while an asset is leased, pinned or being written, [`remove`](Store::remove) fails with
/// [`CacheError::InUse`]. Leases are counted in the accounts and end with the process. Pins are kept by the inner store.
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
        let claim = self.accounts.claim(asset)?;
        let inner = self.inner.stage(asset, path)?;
        Ok(Box::new(LeaseStaged { inner, claim }))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        let claim = self.accounts.claim(asset)?;
        let inner = self.inner.partial(asset, path)?;
        Ok(inner.map(|inner| Box::new(LeasePartial { inner, _claim: claim }) as Box<dyn Partial>))
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

/// An entry being written, and the claim that keeps its asset.
#[derive(Debug)]
struct LeaseStaged {
    // Dropped in this order: the staged file is removed before the claim that protects its directory ends.
    inner: Box<dyn Staged>,
    claim: Lease,
}

impl Staged for LeaseStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        self.inner.write(parts)
    }

    fn expect_len(&mut self, len: u64) -> Result<(), CacheError> {
        self.inner.expect_len(len)
    }

    fn overhead(&self, payload: u64) -> u64 {
        self.inner.overhead(payload)
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        let Self { inner, claim } = *self;
        let committed = inner.commit();
        // Held over the commit: the asset cannot be moved to the trash between its directory and the rename into it.
        drop(claim);
        committed
    }
}

/// A partial entry, and the claim that keeps its asset.
#[derive(Debug)]
struct LeasePartial {
    // Dropped in this order: the file is given up before the claim that protects its directory ends.
    inner: Box<dyn Partial>,
    _claim: Lease,
}

impl Partial for LeasePartial {
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
    }

    fn closing(&self) {
        self.inner.closing();
    }

    fn commit(&self, rename: &mut dyn FnMut() -> Result<u64, CacheError>) -> Result<Committed, CacheError> {
        self.inner.commit(rename)
    }
}

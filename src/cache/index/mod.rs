//! Sizes and recency of assets without scanning: an optimisation, never the truth.

pub(super) mod files;
mod journal;
mod partial;
mod scan;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use self::partial::IndexPartial;
use super::accounts::table::Table;
use super::accounts::{Accounts, Below, Lease};
use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::path::CachePath;
use super::progress::Progress;
use super::store::{AssetInfo, Committed, EntryInfo, Partial, Staged, Store, Trash};

/// Keeps the size and the last access of each asset of `inner`: in memory and, over an [`FsStore`](super::FsStore), in
/// `<root>/index`.
///
/// Its rule: the inner store is the truth. The index never decides whether an entry is there. Where the two differ, or may
/// differ, the inner store is asked again: after opening, on a miss, after a failed write, and after overlapping changes of
/// one asset.
pub struct IndexStore<S: ?Sized> {
    inner: Arc<S>,
    /// What the accounts ask, weakly.
    below: Arc<dyn Below>,
    accounts: Arc<Accounts>,
}

impl<S: ?Sized> Clone for IndexStore<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            below: Arc::clone(&self.below),
            accounts: Arc::clone(&self.accounts),
        }
    }
}

/// A store that was listed once, and is asked again about one asset at a time.
struct Listed<S: ?Sized>(Arc<S>);

impl<S: Store + ?Sized> Below for Listed<S> {
    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.0.asset(asset)
    }

    fn keyed(&self, asset: &AssetId) -> Result<Option<AssetId>, CacheError> {
        let mut entries = self.0.entries(asset)?.into_iter();
        Ok(entries.find_map(|entry| asset.with_key(&entry.asset_key?)))
    }
}

impl<S: Store> IndexStore<S> {
    /// Lists `inner` once and keeps the figures in memory only.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if `inner` cannot be listed.
    pub fn scanned(inner: S) -> Result<Self, CacheError> {
        Self::listed(Arc::new(inner))
    }

    /// The same over a store with nothing in it.
    pub(super) fn empty(inner: S) -> Self {
        Self::over(Arc::new(inner), Table::default())
    }
}

impl<S: Store + ?Sized> IndexStore<S> {
    pub(super) fn listed(inner: Arc<S>) -> Result<Self, CacheError> {
        let mut table = Table::default();
        for info in inner.list()? {
            let id = info.id.clone();
            table.put(&id, Some(info));
        }
        Ok(Self::over(inner, table))
    }

    fn over(inner: Arc<S>, table: Table) -> Self {
        let progress = Progress::new();
        progress.end();
        // Kept by the store and not by the accounts, which a forgotten lease may keep.
        let below: Arc<dyn Below> = Arc::new(Listed(Arc::clone(&inner)));
        let accounts = Accounts::new(table, Arc::downgrade(&below), None, true, progress);
        Self {
            inner,
            below,
            accounts,
        }
    }
}

impl<S: ?Sized> IndexStore<S> {
    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The accounts of its assets, for the layers above.
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// Bytes that the assets, the trash and the index take, with what is reserved above.
    ///
    /// # Errors
    ///
    /// [`CacheError::PolicyReentered`].
    pub fn used_bytes(&self) -> Result<u64, CacheError> {
        Ok(self.accounts.lock()?.used_bytes())
    }

    /// How far the scan after opening has come.
    pub fn progress(&self) -> &Progress {
        &self.accounts.progress
    }
}

impl<S: Store + ?Sized> Store for IndexStore<S> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let entry = self.inner.open(asset, path)?;
        if entry.is_none() {
            self.accounts.missed(asset)?;
        }
        Ok(entry)
    }

    fn exists(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.inner.exists(asset, path)
    }

    fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        let bytes = self.inner.get(asset, path)?;
        if bytes.is_none() {
            self.accounts.missed(asset)?;
        }
        Ok(bytes)
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        // Before anything is created: a removal would take the staged file along with the asset's directory.
        let lease = self.accounts.claim(asset)?;
        let inner = self.accounts.staging(asset, || self.inner.stage(asset, path))?;
        Ok(Box::new(IndexStaged { inner, lease }))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        let lease = self.accounts.claim(asset)?;
        self.accounts.begin()?;
        let inner = self.inner.partial(asset, path)?;
        Ok(inner.map(|inner| Box::new(IndexPartial::new(inner, lease)) as Box<dyn Partial>))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        // If the removal fails, dropping the update reads the asset anew: part of it may be done.
        let change = self.accounts.update(asset)?;
        let removed = self.inner.remove_entry(asset, path)?;
        self.accounts.entry_removed(change, removed);
        Ok(removed)
    }

    fn remove_damaged(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.accounts.begin()?;
        let removed = self.inner.remove_damaged(asset, path)?;
        if removed.is_some() {
            // The damaged file need not be as long as the entry that was counted.
            self.accounts.refresh(asset);
            self.accounts.flush();
        }
        Ok(removed)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        let change = self.accounts.update(asset)?;
        let trash = self.inner.remove(asset)?;
        // The bytes move from the asset to the trash in one step under the lock, so that they count all the while.
        let bytes = change.removed(trash.is_some());
        let accounts = Arc::clone(&self.accounts);
        Ok(trash.map(|trash| {
            Trash::new(move || {
                // They stop to count when they are off the disk, and go on counting if that fails (C5).
                trash.empty()?;
                accounts
                    .run_or_defer(move |state| state.table.trash = state.table.trash.saturating_sub(bytes));
                Ok(())
            })
        }))
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let change = self.accounts.update(asset)?;
        self.inner.set_pinned(asset, pinned)?;
        self.accounts.pin_set(change, pinned);
        Ok(())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        Ok(self.accounts.lock()?.info(asset))
    }

    fn list(&self) -> Result<Vec<AssetInfo>, CacheError> {
        Ok(self.accounts.lock()?.infos())
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.inner.entries(asset)
    }
}

/// Loads what index files say, as opening does.
#[cfg(fuzzing)]
pub(super) fn replay(rows: Vec<super::codec::Row>, changes: Vec<super::codec::Change>) {
    if let Some(table) = Table::loaded(rows, changes) {
        assert!(table.index_bytes() > 0);
    }
}

impl<S: fmt::Debug + ?Sized> fmt::Debug for IndexStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexStore")
            .field("inner", &self.inner)
            .field("accounts", &self.accounts)
            .finish_non_exhaustive()
    }
}

/// An entry being written. Its commit changes the accounts.
#[derive(Debug)]
struct IndexStaged {
    // Dropped in this order: the staged file is removed before the lease that protects its directory ends.
    inner: Box<dyn Staged>,
    lease: Lease,
}

impl Staged for IndexStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        self.inner.write(parts)
    }

    fn expect_len(&mut self, len: u64) -> Result<(), CacheError> {
        self.inner.expect_len(len)
    }

    fn overhead(&self, payload: u64) -> u64 {
        // The row of a new asset comes on top.
        // Not under the check for the policy: a staged entry is asked by the layer above, which has made it.
        let row = self.lease.accounts().state().table.row_bytes(self.lease.asset());
        self.inner.overhead(payload).saturating_add(row)
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        // The lease is held over the commit: the asset cannot be moved to the trash between its directory and the rename
        // into it.
        let Self { inner, lease } = *self;
        lease.accounts().committing(lease.asset(), || inner.commit())
    }
}

//! Sizes and recency of assets without scanning: an optimisation, never the truth.

mod accounts;
mod files;
mod partial;
mod scan;
mod table;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use snafu::ResultExt as _;

use self::accounts::{Accounts, Scan};
use self::files::{IndexFiles, most_bytes};
use self::partial::IndexPartial;
use self::table::Table;
use super::entry::Entry;
use super::error::{CacheError, IoSnafu};
use super::id::AssetId;
use super::path::CachePath;
use super::progress::Progress;
use super::store::{AssetInfo, Committed, EntryInfo, Partial, Staged, Store, Trash};
use super::timestamp::Timestamp;

/// Keeps the size and the last access of each asset of `inner`: in memory and, over an [`FsStore`](super::FsStore), in
/// `<root>/index`.
///
/// Its rule: the inner store is the truth. The index never decides whether an entry is there. Where the two differ, or may
/// differ, the inner store is asked again: after opening, on a miss, after a failed write, and after overlapping changes of
/// one asset.
pub struct IndexStore<S> {
    accounts: Arc<Accounts<S>>,
}

impl<S> Clone for IndexStore<S> {
    fn clone(&self) -> Self {
        Self {
            accounts: Arc::clone(&self.accounts),
        }
    }
}

impl<S: Store> IndexStore<S> {
    /// Lists `inner` once and keeps the figures in memory only.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if `inner` cannot be listed.
    pub fn scanned(inner: S) -> Result<Self, CacheError> {
        let mut table = Table::default();
        for info in inner.assets()? {
            let id = info.id.clone();
            table.put(&id, Some(info));
        }
        let progress = Progress::new();
        progress.end();
        Ok(Self::with(inner, table, None, true, None, progress))
    }
}

impl<S> IndexStore<S> {
    fn with(
        inner: S,
        table: Table,
        files: Option<IndexFiles>,
        ready: bool,
        scan: Option<Scan<S>>,
        progress: Progress,
    ) -> Self {
        Self {
            accounts: Arc::new(Accounts::new(inner, table, files, ready, scan, progress)),
        }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.accounts.inner
    }

    #[cfg(feature = "test-util")]
    pub(super) fn refresh(&self, asset: &AssetId)
    where
        S: Store,
    {
        self.accounts.refresh(asset);
    }

    /// The latest access of any asset.
    pub(super) fn newest(&self) -> Timestamp {
        let table = self.accounts.lock();
        let uses = table.assets.values().map(|account| account.last_access);
        uses.max().unwrap_or_default()
    }

    /// How far the scan after opening has come.
    pub fn progress(&self) -> &Progress {
        &self.accounts.progress
    }
}

impl<S: Store> Store for IndexStore<S> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let entry = self.accounts.inner.open(asset, path)?;
        if entry.is_none() {
            self.accounts.missed(asset);
        }
        Ok(entry)
    }

    fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        let bytes = self.accounts.inner.get(asset, path)?;
        if bytes.is_none() {
            self.accounts.missed(asset);
        }
        Ok(bytes)
    }

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.accounts.inner.contains(asset, path)
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        // Before anything is created: a staged file already changes its directory's time.
        self.accounts.begin();
        let inner = self.accounts.inner.stage(asset, path)?;
        Ok(Box::new(IndexStaged {
            inner,
            asset: asset.clone(),
            accounts: Arc::clone(&self.accounts),
        }))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.accounts.begin();
        let inner = self.accounts.inner.partial(asset, path)?;
        Ok(inner.map(|inner| Box::new(IndexPartial::new(inner, asset, &self.accounts)) as Box<dyn Partial>))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        let accounts = &self.accounts;
        // If the removal fails, dropping the update reads the asset anew: part of it may be done.
        let change = accounts.update(asset);
        let removed = accounts.inner.remove_entry(asset, path)?;
        let modified = accounts.inner.modified(asset).unwrap_or(None);
        change.account(|account| {
            match removed {
                Some(bytes) => account.take_out(bytes),
                // Something other than an entry was removed, or the folder was changed from outside.
                None => account.stale |= account.modified != modified,
            }
            account.modified = modified;
        });
        Ok(removed)
    }

    fn remove_damaged(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.accounts.begin();
        let removed = self.accounts.inner.remove_damaged(asset, path)?;
        if removed.is_some() {
            // The damaged file need not be as long as the entry that was counted.
            self.accounts.refresh(asset);
            self.accounts.flush();
        }
        Ok(removed)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        let change = self.accounts.update(asset);
        let trash = self.accounts.inner.remove(asset)?;
        // The bytes move from the asset to the trash in one step under the table's lock, so that they count all the while.
        let bytes = change.removed(trash.is_some());
        let accounts = Arc::clone(&self.accounts);
        Ok(trash.map(|trash| {
            Trash::new(move || {
                // They stop to count when they are off the disk, and go on counting if that fails (C5).
                trash.empty()?;
                let mut table = accounts.lock();
                table.trash = table.trash.saturating_sub(bytes);
                Ok(())
            })
        }))
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let accounts = &self.accounts;
        let change = accounts.update(asset);
        accounts.inner.set_pinned(asset, pinned)?;
        // Read after the pin, which is a file in the asset's directory and changes its time. With an older time the next scan
        // would read the asset for nothing, and so it does if the time cannot be read.
        let modified = accounts.inner.modified(asset).unwrap_or(None);
        change.account_last(|account| {
            account.pinned = pinned;
            account.modified = modified;
        });
        Ok(())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        Ok(self
            .accounts
            .lock()
            .assets
            .get(asset)
            .and_then(|account| account.info(asset)))
    }

    fn modified(&self, asset: &AssetId) -> Result<Option<Timestamp>, CacheError> {
        self.accounts.inner.modified(asset)
    }

    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        Ok(self
            .accounts
            .lock()
            .assets
            .iter()
            .filter_map(|(id, account)| account.info(id))
            .collect())
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.accounts.inner.entries(asset)
    }

    fn used_bytes(&self) -> Result<u64, CacheError> {
        let table = self.accounts.lock();
        Ok(table
            .bytes
            .saturating_add(table.trash)
            .saturating_add(table.index_bytes()))
    }

    fn overhead(&self, asset: &AssetId, path: Option<&CachePath>, payload: u64) -> u64 {
        let table = self.accounts.lock();
        // A new asset takes a row in the index.
        let new = table.persist && !table.assets.contains_key(asset);
        drop(table);
        let index = if new { most_bytes(1) - most_bytes(0) } else { 0 };
        let inner = self.accounts.inner.overhead(asset, path, payload);
        inner.saturating_add(index)
    }

    fn ready(&self) -> Result<(), CacheError> {
        let accounts = &self.accounts;
        if accounts.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        // The first caller scans, the others wait for it here and find the store ready.
        let _scanning = accounts.lock_scan();
        if !accounts.ready.load(Ordering::Acquire) {
            accounts.inner.ready()?;
            if let Some(scan) = accounts.scan {
                scan(accounts)?;
            }
            accounts.ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn touch(&self, asset: &AssetId, at: Timestamp) -> bool {
        let mut table = self.accounts.lock();
        let persist = table.persist;
        let Some(account) = table.assets.get_mut(asset) else {
            return false;
        };
        account.last_access = at;
        // Noted in memory, once between two checkpoints: an access writes nothing to disk (C4).
        if persist && !std::mem::replace(&mut account.touched, true) {
            table.touched.push(asset.bare());
        }
        true
    }

    fn is_held(&self, asset: &AssetId) -> Result<bool, CacheError> {
        self.accounts.inner.is_held(asset)
    }

    fn changes(&self) -> Result<Vec<(AssetId, Timestamp)>, CacheError> {
        // An asset that was removed since it was noted is no change any more.
        let mut table = self.accounts.lock();
        let changes = std::mem::take(&mut table.changes);
        Ok(changes
            .into_iter()
            .filter_map(|id| {
                let at = table.assets.get(&id)?.last_access;
                Some((id, at))
            })
            .collect())
    }

    fn checkpoint(&self) -> Result<(), CacheError> {
        let accounts = &self.accounts;
        accounts.inner.checkpoint()?;
        accounts.refresh_unread();
        if accounts.is_noted() {
            return Ok(());
        }
        // Accesses alone have not started a journal yet. Without one there is nowhere to append them.
        accounts.begin();
        accounts.lock().note_touches();
        let Some(files) = accounts.lock_files() else {
            return Ok(());
        };
        let fits = accounts.append(files);
        let Some(mut files) = accounts.lock_files() else {
            return Ok(());
        };
        let compact = !fits || files.wants_compaction(accounts.lock().assets.len() as u64);
        let written = if compact {
            drop(files);
            accounts.compact(false)
        } else {
            files.sync()
        };
        written.context(IoSnafu {
            action: "write",
            path: "index",
        })
    }
}

/// Loads what index files say, as opening does.
#[cfg(fuzzing)]
pub(super) fn replay(rows: Vec<super::codec::Row>, changes: Vec<super::codec::Change>) {
    if let Some(table) = Table::loaded(rows, changes) {
        assert!(table.index_bytes() > 0);
    }
}

impl<S: fmt::Debug> fmt::Debug for IndexStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexStore")
            .field("inner", &self.accounts.inner)
            .field("assets", &self.accounts.lock().assets.len())
            .finish()
    }
}

/// An entry being written. Its commit changes the accounts.
struct IndexStaged<S> {
    inner: Box<dyn Staged>,
    asset: AssetId,
    accounts: Arc<Accounts<S>>,
}

impl<S: Store> Staged for IndexStaged<S> {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        self.inner.write(parts)
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        let Self {
            inner,
            asset,
            accounts,
        } = *self;
        accounts.committing(&asset, || inner.commit())
    }
}

impl<S> fmt::Debug for IndexStaged<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexStaged")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

//! Sizes and recency of assets without scanning: an optimisation, never the truth.

pub(super) mod files;
mod partial;
mod scan;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::{fmt, io};

use bytes::Bytes;

use self::files::IndexFiles;
use self::partial::IndexPartial;
use super::accounts::table::Table;
use super::accounts::{Accounts, Below, Lease};
use super::codec::Row;
use super::entry::Entry;
use super::error::{CacheError, Trying as _};
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

// The accounts on disk: what changed is collected under the accounts' lock, and appended to the journal under the files'. The
// lock of the files is held while the disk is written, so an update that finds it taken leaves its record in the table, and
// the next one writes both.
impl Accounts {
    pub(super) fn lock_files(&self) -> Option<MutexGuard<'_, IndexFiles>> {
        // A record that a panic left half written does not decode, and is then ignored.
        self.files
            .as_ref()
            .map(|files| files.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes what a killed session was writing.
    pub(super) fn sweep_index(&self) {
        if let Some(files) = self.lock_files()
            && let Err(error) = files.sweep()
        {
            log::warn!("cannot remove an unfinished index: {error}");
        }
    }

    /// Starts the journal, durably, before the first change of the session. Without it a crash would look like a clean end,
    /// and the next session would trust a snapshot that no longer says what is on the disk.
    pub(in crate::cache) fn begin(&self) -> Result<(), CacheError> {
        self.check()?;
        if !self.begun.load(Ordering::Acquire)
            && let Some(mut files) = self.lock_files()
        {
            files.begin();
            self.state().table.journaling = true;
            self.begun.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Appends the collected changes to the journal. If another thread is writing to it, they go with its next append.
    pub(in crate::cache) fn flush(&self) {
        // Never waits: a put would otherwise wait for another thread's compaction, which grows with the number of assets.
        let files = match self.files.as_ref().map(Mutex::try_lock) {
            None | Some(Err(TryLockError::WouldBlock)) => return,
            Some(Ok(files)) => files,
            Some(Err(TryLockError::Poisoned(poisoned))) => poisoned.into_inner(),
        };
        if !self.append(files) {
            // A snapshot holds everything. If it cannot be written, the index is removed and the next open scans.
            let _ = self.compact(false);
        }
    }

    /// Appends the collected changes. `false`: the journal is full, and a snapshot has to be written.
    pub(in crate::cache) fn append(&self, mut files: MutexGuard<'_, IndexFiles>) -> bool {
        let mut state = self.state();
        let table = &mut state.table;
        let (changes, assets) = (std::mem::take(&mut table.pending), table.assets.len() as u64);
        // Counts the journal at its full allowed length while it is written. Assets may go meanwhile and lower the allowance
        // that the length was checked against; the bytes on disk would then count too low (C5).
        table.files = files.sizes().appending(assets);
        drop(state);
        // Without the accounts' lock, as it takes as long as the disk does. The files' lock keeps the appends in their order.
        let fits = files.append(changes, assets);
        self.state().table.files = files.sizes();
        fits
    }

    /// Replaces the snapshot and its journal by a new snapshot; `sealed` if nothing will change after it.
    pub(in crate::cache) fn compact(&self, sealed: bool) -> io::Result<()> {
        self.lock_files()
            .map_or(Ok(()), |files| self.compact_locked(files, sealed))
    }

    pub(in crate::cache) fn compact_locked(
        &self,
        mut files: MutexGuard<'_, IndexFiles>,
        sealed: bool,
    ) -> io::Result<()> {
        let mut state = self.state();
        let table = &mut state.table;
        // The rows below say all that was collected. A record appended after the snapshot would take newer figures back.
        table.pending.clear();
        table.changed = false;
        for id in std::mem::take(&mut table.touched) {
            if let Some(account) = table.assets.get_mut(&id) {
                account.touched = false;
            }
        }
        let mut rows: Vec<Row> = table.assets.iter().map(|(id, account)| account.row(id)).collect();
        table.files = files.sizes().staging(rows.len() as u64);
        drop(state);
        // The coldest first: the next session's policy gets them in order.
        rows.sort_unstable_by_key(Row::last_access);
        let written = files.compact(rows, sealed);
        self.state().table.journaling = files.is_begun();
        self.begun.store(files.is_begun(), Ordering::Release);
        self.append(files);
        written
    }

    /// Ends the session's bookkeeping with a sealed snapshot, so that the next open needs no scan before it writes.
    pub(in crate::cache) fn seal(&self) {
        if !self.is_noted()
            && let Err(error) = self.compact(true)
        {
            log::warn!("cannot write the cache's index: {error}");
        }
    }

    /// Makes bookkeeping durable, so that a crash after this call loses none of it.
    pub(in crate::cache) fn checkpoint(&self) -> Result<(), CacheError> {
        self.refresh_unread()?;
        if self.is_noted() {
            return Ok(());
        }
        // Accesses alone have not started a journal yet. Without one there is nowhere to append them.
        self.begin()?;
        self.state().table.note_touches();
        let Some(files) = self.lock_files() else {
            return Ok(());
        };
        let fits = self.append(files);
        let Some(mut files) = self.lock_files() else {
            return Ok(());
        };
        let compact = !fits || files.wants_compaction(self.state().table.assets.len() as u64);
        let written = if compact {
            drop(files);
            self.compact(false)
        } else {
            files.sync()
        };
        written.trying("write", "index")
    }

    /// Whether the files on disk say everything, and say that the session ended in order.
    pub(in crate::cache) fn is_noted(&self) -> bool {
        let table = &self.state().table;
        !self.begun.load(Ordering::Acquire) && !table.changed && table.touched.is_empty()
    }

    /// Writes down what a scan has found.
    pub(in crate::cache) fn note_scan(&self) -> io::Result<()> {
        let Some(files) = self.lock_files().filter(|_| !self.is_noted()) else {
            return Ok(());
        };
        // While the files are locked no update can begin. One that has begun may still change something: then the snapshot
        // must not say that the session ended in order.
        let sealed = !files.is_begun();
        self.compact_locked(files, sealed)
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

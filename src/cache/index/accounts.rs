//! The figures of all assets, kept right in memory and noted on disk.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::files::IndexFiles;
use super::table::{Account, Table};
use crate::cache::codec::Row;
use crate::cache::error::CacheError;
use crate::cache::id::AssetId;
use crate::cache::progress::Progress;
use crate::cache::store::{Committed, Store};
use crate::cache::timestamp::Timestamp;

/// Looks at the disk, to find what is there.
pub(super) type Scan<S> = fn(&Accounts<S>) -> Result<(), CacheError>;

pub(super) struct Accounts<S> {
    pub(super) inner: S,
    pub(super) table: Mutex<Table>,
    /// `None`: nothing is kept on disk.
    pub(super) files: Option<Mutex<IndexFiles>>,
    /// The files say that something has changed.
    pub(super) begun: AtomicBool,
    /// The figures are known to be right.
    pub(super) ready: AtomicBool,
    /// Held while the disk is looked at.
    scanning: Mutex<()>,
    /// How to scan of the disk.
    pub(super) scan: Option<Scan<S>>,
    pub(super) progress: Progress,
}

impl<S> Accounts<S> {
    pub(super) fn new(
        inner: S,
        table: Table,
        files: Option<IndexFiles>,
        ready: bool,
        scan: Option<Scan<S>>,
        progress: Progress,
    ) -> Self {
        Self {
            inner,
            table: Mutex::new(table),
            files: files.map(Mutex::new),
            begun: AtomicBool::new(false),
            ready: AtomicBool::new(ready),
            scanning: Mutex::new(()),
            scan,
            progress,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // Sums and records change together, with nothing between that can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_files(&self) -> Option<MutexGuard<'_, IndexFiles>> {
        // What is half written on disk does not decode, and is then no index.
        self.files
            .as_ref()
            .map(|files| files.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn lock_scan(&self) -> MutexGuard<'_, ()> {
        // It guards no value: a scan that panicked has told nobody that it is done.
        self.scanning.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Accounts<S> {
    /// Says on disk that something is about to change, once: a crash is then told from a clean end.
    pub(super) fn begin(&self) {
        if self.begun.load(Ordering::Acquire) {
            return;
        }
        if let Some(mut files) = self.lock_files() {
            files.begin();
            self.lock().journaling = true;
            self.begun.store(true, Ordering::Release);
        }
    }

    /// Hands collected changes to the journal, unless somebody is writing to it: then they go with the next.
    pub(super) fn flush(&self) {
        let files = match self.files.as_ref().map(Mutex::try_lock) {
            None | Some(Err(TryLockError::WouldBlock)) => return,
            Some(Ok(files)) => files,
            Some(Err(TryLockError::Poisoned(poisoned))) => poisoned.into_inner(),
        };
        if !self.append(files) {
            // The snapshot says it all, and if it cannot be written there is no index.
            let _ = self.compact(false);
        }
    }

    /// `false`: a snapshot has to be written instead.
    pub(super) fn append(&self, mut files: MutexGuard<'_, IndexFiles>) -> bool {
        let mut table = self.lock();
        let (changes, assets) = (std::mem::take(&mut table.pending), table.assets.len() as u64);
        // Until it is written: assets may go meanwhile, and its length was allowed for with them.
        table.files = files.sizes().appending(assets);
        drop(table);
        let fits = files.append(changes, assets);
        self.lock().files = files.sizes();
        fits
    }

    /// Writes a snapshot in the place of the old one and its journal; `sealed` if nothing will change after it.
    pub(super) fn compact(&self, sealed: bool) -> io::Result<()> {
        self.lock_files()
            .map_or(Ok(()), |files| self.compact_locked(files, sealed))
    }

    pub(super) fn compact_locked(
        &self,
        mut files: MutexGuard<'_, IndexFiles>,
        sealed: bool,
    ) -> io::Result<()> {
        let mut table = self.lock();
        // The rows below say all that was collected.
        table.pending.clear();
        table.changed = false;
        for id in std::mem::take(&mut table.touched) {
            if let Some(account) = table.assets.get_mut(&id) {
                account.touched = false;
            }
        }
        let mut rows: Vec<Row> = table.assets.iter().map(|(id, account)| account.row(id)).collect();
        table.files = files.sizes().staging(rows.len() as u64);
        drop(table);
        // The coldest first, so that the next open has the order at hand.
        rows.sort_unstable_by_key(Row::last_access);
        let written = files.compact(rows, sealed);
        self.lock().journaling = files.is_begun();
        self.begun.store(files.is_begun(), Ordering::Release);
        self.append(files);
        written
    }

    /// Ends the session's bookkeeping: the next open finds everything as it is now.
    pub(super) fn seal(&self) -> io::Result<()> {
        if self.is_noted() {
            Ok(())
        } else {
            self.compact(true)
        }
    }

    /// Whether the files say everything, and that it is everything.
    pub(super) fn is_noted(&self) -> bool {
        let table = self.lock();
        !self.begun.load(Ordering::Acquire) && !table.changed && table.touched.is_empty()
    }

    /// Writes down what a scan at the disk has found.
    pub(super) fn note_scan(&self) -> io::Result<()> {
        let Some(files) = self.lock_files().filter(|_| !self.is_noted()) else {
            return Ok(());
        };
        // While the files are locked no change can begin.
        let sealed = !files.is_begun();
        self.compact_locked(files, sealed)
    }

    /// Begins a change of an asset: until it has ended nobody believes a scan at the asset.
    pub(super) fn update<'a>(&'a self, asset: &'a AssetId) -> Update<'a, S> {
        self.begin();
        let mut table = self.lock();
        let account = table.assets.entry(asset.bare()).or_default();
        account.busy += 1;
        Update {
            accounts: self,
            asset,
            version: account.version,
            known: false,
        }
    }

    /// Runs a commit and takes over what it changed.
    pub(super) fn committing(
        &self,
        asset: &AssetId,
        commit: impl FnOnce() -> Result<Committed, CacheError>,
    ) -> Result<Committed, CacheError> {
        let known = self
            .lock()
            .assets
            .get(asset)
            .is_some_and(|account| account.info(asset).is_some());
        let change = self.update(asset);
        let committed = commit()?;
        change.account(|account| {
            if let Some(replaced) = committed.replaced {
                account.take_out(replaced);
            }
            account.bytes = account.bytes.saturating_add(committed.bytes);
            account.files += 1;
            account.modified = committed.modified;
            account.stale |= committed.displaced;
        });
        Ok(Committed {
            created: !known,
            ..committed
        })
    }

    /// An entry was not there. Where the directory has changed behind our back the accounts heal.
    pub(super) fn missed(&self, asset: &AssetId) {
        let known = self.lock().assets.get(asset).map(|account| account.modified);
        if known.is_some_and(|known| self.inner.modified(asset).is_ok_and(|now| now != known)) {
            self.refresh(asset);
        }
    }

    /// Reads an asset's figures anew from the inner store, unless a change is under way: its end does it then.
    pub(super) fn refresh(&self, asset: &AssetId) {
        if let Err(error) = self.try_refresh(asset) {
            log::warn!("cannot look at asset {asset}: {error}");
            self.lock().unread.push(asset.bare());
        }
    }

    /// Reads again what could not be read.
    pub(super) fn refresh_unread(&self) {
        let unread = std::mem::take(&mut self.lock().unread);
        for asset in unread {
            self.refresh(&asset);
        }
    }

    /// As [`refresh`](Self::refresh), and tells when that failed.
    pub(super) fn try_refresh(&self, asset: &AssetId) -> Result<(), CacheError> {
        // Changes that overtake the scan every time keep the figures right themselves.
        for _ in 0..3 {
            let mut table = self.lock();
            let version = match table.assets.get_mut(asset) {
                Some(account) => {
                    account.stale = true;
                    if account.busy > 0 {
                        return Ok(());
                    }
                    Some(account.version)
                }
                None => None,
            };
            let removals = table.removals;
            drop(table);
            let info = self.inner.asset(asset)?;
            let mut table = self.lock();
            let now = table
                .assets
                .get(asset)
                .map(|account| (account.version, account.busy));
            // What is unknown before and after may have been made and removed in between, and seen on the disk then.
            let unseen = version.is_some() || table.removals == removals;
            if now == version.map(|version| (version, 0)) && unseen {
                table.put(asset, info);
                return Ok(());
            }
        }
        let mut table = self.lock();
        if !table.assets.contains_key(asset) {
            // Nobody keeps the figures of what is unknown.
            table.unread.push(asset.bare());
        }
        Ok(())
    }
}

/// A change of an asset under way. It ends when this is dropped, also by a panic; what it did is then found out, unless
/// it was accounted.
pub(super) struct Update<'a, S: Store> {
    accounts: &'a Accounts<S>,
    asset: &'a AssetId,
    /// Of the record when the change began.
    version: u64,
    /// What the change did is accounted.
    known: bool,
}

impl<S: Store> Update<'_, S> {
    /// Takes over what the change has made of the asset, and ends it.
    pub(super) fn account(mut self, apply: impl FnOnce(&mut Account)) {
        let mut table = self.accounts.lock();
        let Some(account) = table.assets.get_mut(self.asset) else {
            return;
        };
        let before = account.bytes;
        apply(account);
        let after = account.bytes;
        account.sure = false;
        if account.last_access == Timestamp::default() {
            account.last_access = Timestamp::now();
        }
        table.bytes = table.bytes.saturating_sub(before).saturating_add(after);
        table.note(self.asset);
        self.known = true;
    }

    /// As [`account`](Self::account), for a change that leaves what is asked last: who was last is not known here.
    pub(super) fn account_last(self, apply: impl FnOnce(&mut Account)) {
        let version = self.version;
        self.account(|account| {
            apply(account);
            account.stale |= account.is_changed_since(version);
        });
    }

    /// Takes over that the asset has gone, in the `trash` or for good, and ends the change. Says what was counted of it.
    pub(super) fn removed(mut self, trash: bool) -> u64 {
        let mut table = self.accounts.lock();
        let Some(account) = table.assets.get_mut(self.asset) else {
            return 0;
        };
        let bytes = std::mem::take(&mut account.bytes);
        (account.files, account.pinned) = (0, false);
        // What another change accounted since, or will, may have gone with the asset, or come after it.
        account.stale |= account.is_changed_since(self.version);
        // Nothing was there to be removed, but something was counted.
        account.stale |= !trash && bytes > 0;
        table.bytes = table.bytes.saturating_sub(bytes);
        if trash {
            table.trash = table.trash.saturating_add(bytes);
        }
        self.known = true;
        bytes
    }
}

impl<S: Store> Drop for Update<'_, S> {
    fn drop(&mut self) {
        let mut table = self.accounts.lock();
        let version = table.next_version();
        // It is there: nobody takes out the record of an asset that is being changed.
        let Some(account) = table.assets.get_mut(self.asset) else {
            return;
        };
        account.busy -= 1;
        account.version = version;
        account.stale |= !self.known;
        let stale = account.stale;
        if account.busy == 0 && !stale && account.info(self.asset).is_none() {
            table.assets.remove(self.asset);
            table.note_removed(self.asset);
        }
        drop(table);
        if stale {
            self.accounts.refresh(self.asset);
        }
        self.accounts.flush();
    }
}

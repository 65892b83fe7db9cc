//! The figures of all assets, kept right in memory and written to the journal.
//!
//! Two locks, taken in this order: the index files, then the table. The table's lock is held for memory only. The lock of
//! the files is held while the disk is written, so an update that finds it taken leaves its record in the table, and the
//! next one writes both.

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

/// Scans the inner store, to find what is there.
pub(super) type Scan<S> = fn(&Accounts<S>) -> Result<(), CacheError>;

pub(super) struct Accounts<S> {
    pub(super) inner: S,
    pub(super) table: Mutex<Table>,
    /// `None` if the index is in memory only.
    pub(super) files: Option<Mutex<IndexFiles>>,
    /// The journal is started: a crash from here on is told from a clean end.
    pub(super) begun: AtomicBool,
    /// The figures are known to be right, so that writes may begin.
    pub(super) ready: AtomicBool,
    /// Held during a scan.
    scanning: Mutex<()>,
    /// How to scan the inner store; `None` if it was listed at open.
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
        // Sums and accounts change together, with nothing between that can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_files(&self) -> Option<MutexGuard<'_, IndexFiles>> {
        // A record that a panic left half written does not decode, and is then ignored.
        self.files
            .as_ref()
            .map(|files| files.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn lock_scan(&self) -> MutexGuard<'_, ()> {
        // It guards no value: a scan that panicked has not marked anything as done.
        self.scanning.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Accounts<S> {
    /// Starts the journal, durably, before the first change of the session. Without it a crash would look like a clean end,
    /// and the next session would trust a snapshot that no longer says what is on the disk.
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

    /// Appends the collected changes to the journal. If another thread is writing to it, they go with its next append.
    pub(super) fn flush(&self) {
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
    pub(super) fn append(&self, mut files: MutexGuard<'_, IndexFiles>) -> bool {
        let mut table = self.lock();
        let (changes, assets) = (std::mem::take(&mut table.pending), table.assets.len() as u64);
        // Counts the journal at its full allowed length while it is written. Assets may go meanwhile and lower the allowance
        // that the length was checked against; the bytes on disk would then count too low (C5).
        table.files = files.sizes().appending(assets);
        drop(table);
        let fits = files.append(changes, assets);
        self.lock().files = files.sizes();
        fits
    }

    /// Replaces the snapshot and its journal by a new snapshot; `sealed` if nothing will change after it.
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
        drop(table);
        // The coldest first: the next session's policy gets them in order.
        rows.sort_unstable_by_key(Row::last_access);
        let written = files.compact(rows, sealed);
        self.lock().journaling = files.is_begun();
        self.begun.store(files.is_begun(), Ordering::Release);
        self.append(files);
        written
    }

    /// Ends the session's bookkeeping with a sealed snapshot, so that the next open needs no scan before it writes.
    pub(super) fn seal(&self) -> io::Result<()> {
        if self.is_noted() {
            Ok(())
        } else {
            self.compact(true)
        }
    }

    /// Whether the files on disk say everything, and say that the session ended in order.
    pub(super) fn is_noted(&self) -> bool {
        let table = self.lock();
        !self.begun.load(Ordering::Acquire) && !table.changed && table.touched.is_empty()
    }

    /// Writes down what a scan has found.
    pub(super) fn note_scan(&self) -> io::Result<()> {
        let Some(files) = self.lock_files().filter(|_| !self.is_noted()) else {
            return Ok(());
        };
        // While the files are locked no update can begin. One that has begun may still change something: then the snapshot
        // must not say that the session ended in order.
        let sealed = !files.is_begun();
        self.compact_locked(files, sealed)
    }

    /// Begins an update of an asset. Until it has ended no refresh of the asset is believed.
    pub(super) fn update<'a>(&'a self, asset: &'a AssetId) -> Update<'a, S> {
        self.begin();
        // An unknown asset gets an account without figures: its `busy` keeps refreshes away until the update has ended.
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

    /// Runs a commit and takes what it changed into the accounts.
    pub(super) fn committing(
        &self,
        asset: &AssetId,
        commit: impl FnOnce() -> Result<Committed, CacheError>,
    ) -> Result<Committed, CacheError> {
        // Asked before the update begins, which makes an account of its own.
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

    /// An entry was not found. If its directory has changed from outside, reads the figures anew.
    pub(super) fn missed(&self, asset: &AssetId) {
        let known = self.lock().assets.get(asset).map(|account| account.modified);
        if known.is_some_and(|known| self.inner.modified(asset).is_ok_and(|now| now != known)) {
            self.refresh(asset);
        }
    }

    /// Reads an asset's figures anew from the inner store. While an update is under way, its end does that.
    pub(super) fn refresh(&self, asset: &AssetId) {
        if let Err(error) = self.try_refresh(asset) {
            log::warn!("cannot look at asset {asset}: {error}");
            self.lock().unread.push(asset.bare());
        }
    }

    /// Reads the figures again that could not be read before.
    pub(super) fn refresh_unread(&self) {
        let unread = std::mem::take(&mut self.lock().unread);
        for asset in unread {
            self.refresh(&asset);
        }
    }

    /// As [`refresh`](Self::refresh), and returns the error if that failed.
    pub(super) fn try_refresh(&self, asset: &AssetId) -> Result<(), CacheError> {
        // Updates that overtake the reading every time keep the figures right themselves.
        for _ in 0..3 {
            let mut table = self.lock();
            let version = match table.assets.get_mut(asset) {
                Some(account) => {
                    // Stays set if the reading below fails or is overtaken; the end of the next update then reads again.
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
            // Read without the lock, since it takes as long as the disk does. Whatever happens meanwhile is told by the
            // version.
            let info = self.inner.asset(asset)?;
            let mut table = self.lock();
            let now = table
                .assets
                .get(asset)
                .map(|account| (account.version, account.busy));
            // An asset that is unknown before and after may have been made and removed in between, and read just then.
            let unseen = version.is_some() || table.removals == removals;
            if now == version.map(|version| (version, 0)) && unseen {
                table.put(asset, info);
                return Ok(());
            }
        }
        let mut table = self.lock();
        if !table.assets.contains_key(asset) {
            // No update keeps the figures of an unknown asset: the next checkpoint reads it again.
            table.unread.push(asset.bare());
        }
        Ok(())
    }
}

/// An update of an asset under way. Dropping it ends the update, also by a panic. If it was not accounted by then, the
/// asset's figures are read anew.
pub(super) struct Update<'a, S: Store> {
    accounts: &'a Accounts<S>,
    asset: &'a AssetId,
    /// The account's version when the update began.
    version: u64,
    /// What the update did is in the accounts.
    known: bool,
}

impl<S: Store> Update<'_, S> {
    /// Takes what the update did to the asset into the accounts, and ends it.
    pub(super) fn account(mut self, apply: impl FnOnce(&mut Account)) {
        let mut table = self.accounts.lock();
        let Some(account) = table.assets.get_mut(self.asset) else {
            return;
        };
        let before = account.bytes;
        apply(account);
        let after = account.bytes;
        account.sure = false;
        // A new asset. Without a time it would be the first to be evicted, as older than everything.
        if account.last_access == Timestamp::default() {
            account.last_access = Timestamp::now();
        }
        table.bytes = table.bytes.saturating_sub(before).saturating_add(after);
        table.note(self.asset);
        self.known = true;
    }

    /// As [`account`](Self::account), for an update that sets a value. Of two overlapping ones the last in the inner store
    /// counts, and which that was is not known here: the figures are read anew.
    pub(super) fn account_last(self, apply: impl FnOnce(&mut Account)) {
        let version = self.version;
        self.account(|account| {
            apply(account);
            account.stale |= account.is_changed_since(version);
        });
    }

    /// Takes into the accounts that the asset was removed, to the `trash` or for good, and ends the update. Returns the bytes
    /// that counted for it.
    pub(super) fn removed(mut self, trash: bool) -> u64 {
        let mut table = self.accounts.lock();
        let Some(account) = table.assets.get_mut(self.asset) else {
            return 0;
        };
        let bytes = std::mem::take(&mut account.bytes);
        (account.files, account.pinned) = (0, false);
        // The part of an overlapping update may have gone with the asset or have come after it.
        account.stale |= account.is_changed_since(self.version);
        // The removal found nothing, and yet something was counted.
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
        // It is there: no account is taken out while an update of it is under way.
        let Some(account) = table.assets.get_mut(self.asset) else {
            return;
        };
        account.busy -= 1;
        account.version = version;
        account.stale |= !self.known;
        let stale = account.stale;
        // The last update of an asset that is gone takes the account out. While another is under way it stays, for `busy` and
        // `version` are in it.
        if account.busy == 0 && !stale && account.info(self.asset).is_none() {
            table.assets.remove(self.asset);
            table.note_removed(self.asset);
        }
        drop(table);
        // Outside the lock: a refresh reads the disk.
        if stale {
            self.accounts.refresh(self.asset);
        }
        self.accounts.flush();
    }
}

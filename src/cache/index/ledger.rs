//! The figures of all assets, kept right in memory and noted on disk.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::files::IndexFiles;
use super::table::{Record, Table};
use crate::cache::codec::Row;
use crate::cache::error::CacheError;
use crate::cache::id::AssetId;
use crate::cache::progress::Progress;
use crate::cache::store::{Committed, Stamp, Store};

/// Looks at the disk, to find what is there.
pub(super) type Look<S> = fn(&Ledger<S>) -> Result<(), CacheError>;

pub(super) struct Ledger<S> {
    pub(super) inner: S,
    pub(super) table: Mutex<Table>,
    /// `None`: nothing is kept on disk.
    pub(super) files: Option<Mutex<IndexFiles>>,
    /// The files say that something has changed.
    pub(super) begun: AtomicBool,
    /// The figures are known to be right.
    pub(super) settled: AtomicBool,
    /// Held while the disk is looked at.
    looking: Mutex<()>,
    /// How to look at the disk.
    pub(super) look: Option<Look<S>>,
    pub(super) progress: Progress,
}

impl<S> Ledger<S> {
    pub(super) fn new(
        inner: S,
        table: Table,
        files: Option<IndexFiles>,
        settled: bool,
        look: Option<Look<S>>,
        progress: Progress,
    ) -> Self {
        Self {
            inner,
            table: Mutex::new(table),
            files: files.map(Mutex::new),
            begun: AtomicBool::new(false),
            settled: AtomicBool::new(settled),
            looking: Mutex::new(()),
            look,
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

    pub(super) fn lock_looking(&self) -> MutexGuard<'_, ()> {
        // It guards no value: a look that panicked has told nobody that it is done.
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Ledger<S> {
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
            if let Some(record) = table.assets.get_mut(&id) {
                record.touched = false;
            }
        }
        let mut rows: Vec<Row> = table.assets.iter().map(|(id, record)| record.row(id)).collect();
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

    /// Writes down what a look at the disk has found.
    pub(super) fn note_look(&self) -> io::Result<()> {
        let Some(files) = self.lock_files().filter(|_| !self.is_noted()) else {
            return Ok(());
        };
        // While the files are locked no change can begin.
        let sealed = !files.is_begun();
        self.compact_locked(files, sealed)
    }

    /// Begins a change of an asset: until it has ended nobody believes a look at the asset.
    pub(super) fn change<'a>(&'a self, asset: &'a AssetId) -> Change<'a, S> {
        self.begin();
        let mut table = self.lock();
        let record = table.assets.entry(asset.bare()).or_default();
        record.busy += 1;
        Change {
            ledger: self,
            asset,
            version: record.version,
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
            .is_some_and(|record| record.info(asset).is_some());
        let change = self.change(asset);
        let committed = commit()?;
        change.account(|record| {
            if let Some(replaced) = committed.replaced {
                record.take_out(replaced);
            }
            record.bytes = record.bytes.saturating_add(committed.bytes);
            record.files += 1;
            record.modified = committed.modified;
            record.stale |= committed.displaced;
        });
        Ok(Committed {
            created: !known,
            ..committed
        })
    }

    /// An entry was not there. Where the directory has changed behind our back the accounts heal.
    pub(super) fn missed(&self, asset: &AssetId) {
        let known = self.lock().assets.get(asset).map(|record| record.modified);
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
        // Changes that overtake the look every time keep the figures right themselves.
        for _ in 0..3 {
            let mut table = self.lock();
            let version = match table.assets.get_mut(asset) {
                Some(record) => {
                    record.stale = true;
                    if record.busy > 0 {
                        return Ok(());
                    }
                    Some(record.version)
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
                .map(|record| (record.version, record.busy));
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
pub(super) struct Change<'a, S: Store> {
    ledger: &'a Ledger<S>,
    asset: &'a AssetId,
    /// Of the record when the change began.
    version: u64,
    /// What the change did is accounted.
    known: bool,
}

impl<S: Store> Change<'_, S> {
    /// Takes over what the change has made of the asset, and ends it.
    pub(super) fn account(mut self, account: impl FnOnce(&mut Record)) {
        let mut table = self.ledger.lock();
        let Some(record) = table.assets.get_mut(self.asset) else {
            return;
        };
        let before = record.bytes;
        account(record);
        let after = record.bytes;
        record.sure = false;
        if record.last_access == Stamp::default() {
            record.last_access = Stamp::now();
        }
        table.bytes = table.bytes.saturating_sub(before).saturating_add(after);
        table.note(self.asset);
        self.known = true;
    }

    /// As [`account`](Self::account), for a change that leaves what is asked last: who was last is not known here.
    pub(super) fn account_last(self, account: impl FnOnce(&mut Record)) {
        let version = self.version;
        self.account(|record| {
            account(record);
            record.stale |= record.is_changed_since(version);
        });
    }

    /// Takes over that the asset has gone, in the `trash` or for good, and ends the change. Says what was counted of it.
    pub(super) fn removed(mut self, trash: bool) -> u64 {
        let mut table = self.ledger.lock();
        let Some(record) = table.assets.get_mut(self.asset) else {
            return 0;
        };
        let bytes = std::mem::take(&mut record.bytes);
        (record.files, record.pinned) = (0, false);
        // What another change accounted since, or will, may have gone with the asset, or come after it.
        record.stale |= record.is_changed_since(self.version);
        // Nothing was there to be removed, but something was counted.
        record.stale |= !trash && bytes > 0;
        table.bytes = table.bytes.saturating_sub(bytes);
        if trash {
            table.trash = table.trash.saturating_add(bytes);
        }
        self.known = true;
        bytes
    }
}

impl<S: Store> Drop for Change<'_, S> {
    fn drop(&mut self) {
        let mut table = self.ledger.lock();
        let version = table.next_version();
        // It is there: nobody takes out the record of an asset that is being changed.
        let Some(record) = table.assets.get_mut(self.asset) else {
            return;
        };
        record.busy -= 1;
        record.version = version;
        record.stale |= !self.known;
        let stale = record.stale;
        if record.busy == 0 && !stale && record.info(self.asset).is_none() {
            table.assets.remove(self.asset);
            table.note_removed(self.asset);
        }
        drop(table);
        if stale {
            self.ledger.refresh(self.asset);
        }
        self.ledger.flush();
    }
}

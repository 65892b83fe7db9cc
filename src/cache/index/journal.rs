//! The accounts on disk: what changed is collected under the accounts' lock, and appended to the journal under the files'.
//!
//! The lock of the files is held while the disk is written, so an update that finds it taken leaves its record in the table,
//! and the next one writes both.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::files::IndexFiles;
use crate::cache::accounts::Accounts;
use crate::cache::codec::Row;
use crate::cache::error::{CacheError, Trying as _};

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

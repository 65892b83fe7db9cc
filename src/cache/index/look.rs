//! The look at the disk after opening: what changed behind our back is mended, and without an index everything is
//! found.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::IndexStore;
use super::files::{IndexFiles, Loaded};
use super::ledger::Ledger;
use super::table::Table;
use crate::cache::error::CacheError;
use crate::cache::fs::FsStore;
use crate::cache::id::AssetId;
use crate::cache::parallel;
use crate::cache::progress::Progress;
use crate::cache::store::Store as _;

impl IndexStore<FsStore> {
    /// Remembers what `inner` holds, from `<root>/index` if that can be read; with `persist` it is written there.
    ///
    /// Reads are served at once. After a clean end of the last session the figures are known at once too; otherwise
    /// the first write waits for the look at the disk. Either way [`look`](Self::look) has to be called once.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the trash cannot be listed. An unreadable index is no error.
    pub fn open(inner: FsStore, persist: bool) -> Result<Self, CacheError> {
        let leftovers = inner.tree().has_leftovers()?;
        let (disk, dir) = (Arc::clone(&inner.tree().disk), inner.tree().layout.index());
        let (files, loaded) = IndexFiles::load(disk, &dir);
        if !persist {
            // Left from a larger limit; if it cannot be removed it is believed no more than any old index.
            let _ = files.remove_all();
            return Ok(Self::with(
                inner,
                Table::empty(false),
                None,
                false,
                Some(Ledger::look),
                Progress::new(),
            ));
        }
        let loaded =
            loaded.and_then(|Loaded { rows, changes, clean }| Some((Table::loaded(rows, changes)?, clean)));
        let (mut table, clean) = loaded.unwrap_or_else(|| (Table::empty(true), false));
        table.files = files.sizes();
        let settled = clean && !leftovers;
        Ok(Self::with(
            inner,
            table,
            Some(files),
            settled,
            Some(Ledger::look),
            Progress::new(),
        ))
    }

    /// Looks at the disk: every asset whose directory has changed since it was last looked at is read anew, and what
    /// dead sessions left is removed.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if a directory cannot be read.
    pub fn look(&self) -> Result<(), CacheError> {
        if self.shared.settled.load(Ordering::Acquire) {
            let _looking = self.shared.lock_looking();
            return self.shared.look();
        }
        self.settle()
    }

    /// Writes down everything at the end of a session.
    pub(in crate::cache) fn seal(&self) {
        if let Err(error) = self.shared.seal() {
            log::warn!("cannot write the cache's index: {error}");
        }
    }
}

impl Ledger<FsStore> {
    fn look(&self) -> Result<(), CacheError> {
        let round = {
            let mut table = self.lock();
            table.round = table.round.wrapping_add(1);
            table.round
        };
        if let Some(files) = self.lock_files()
            && let Err(error) = files.sweep()
        {
            log::warn!("cannot remove an unfinished index: {error}");
        }
        let fans = self.inner.fans()?;
        self.progress.begin(fans.len() as u64);
        parallel::for_each(&fans, |fan| {
            let ids = self.inner.tree().ids(fan)?;
            for id in &ids {
                self.look_at(id, round)?;
            }
            self.progress.looked_at(ids.len() as u64);
            Ok(())
        })?;
        let gone: Vec<AssetId> = {
            let table = self.lock();
            table
                .assets
                .iter()
                .filter(|(_, record)| record.round != round)
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in &gone {
            self.try_refresh(id)?;
        }
        if let Err(error) = self.note_look() {
            log::warn!("cannot write the cache's index: {error}");
        }
        self.progress.end();
        Ok(())
    }

    fn look_at(&self, id: &AssetId, round: u32) -> Result<(), CacheError> {
        let known = {
            let mut table = self.lock();
            table.assets.get_mut(id).map(|record| {
                record.round = round;
                (record.modified, record.sure)
            })
        };
        // Relies on the time only where it is old enough to show every change.
        let (sure, modified) = known.map_or((false, None), |(modified, sure)| (sure, modified));
        if sure && modified.is_some() && self.inner.tree().modified(id)? == modified {
            return Ok(());
        }
        self.try_refresh(id)?;
        self.flush();
        if let Some(record) = self.lock().assets.get_mut(id) {
            record.round = round;
        }
        Ok(())
    }
}

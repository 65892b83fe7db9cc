//! The scan after opening: finds what changed on the disk since the index was written, or everything if there is no index.
//!
//! The cache is in use meanwhile. Puts, removals and other updates run beside the scan, so the scan does not write what it
//! has read straight into the table: each asset goes through a refresh, which an overlapping update overrules. An asset that
//! the scan has not come across is refreshed too before it is given up, for it may have been made after its shard was
//! listed.

use std::path::Path;
use std::sync::Arc;

use super::IndexStore;
use super::files::{IndexFiles, Loaded};
use crate::cache::accounts::table::Table;
use crate::cache::accounts::{Accounts, Below};
use crate::cache::error::CacheError;
use crate::cache::fs::FsStore;
use crate::cache::fs::scan::if_readable;
use crate::cache::id::AssetId;
use crate::cache::parallel;
use crate::cache::progress::Progress;
use crate::cache::store::AssetInfo;
use crate::cache::timestamp::Timestamp;

impl IndexStore<FsStore> {
    /// Loads the figures from `<root>/index` if that can be read. With `persist` they are written there from now on.
    ///
    /// Reads are served at once. If the last session ended in order, writes are too; otherwise the first write waits for the
    /// scan. Either way [`scan`](Self::scan) has to be called once.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the trash cannot be listed. An unreadable index is no error.
    pub fn open(inner: FsStore, persist: bool) -> Result<Self, CacheError> {
        Self::open_within(inner, persist, u64::MAX)
    }

    /// As [`open`](Self::open). An index longer than `max_bytes` is not read.
    pub(in crate::cache) fn open_within(
        inner: FsStore,
        persist: bool,
        max_bytes: u64,
    ) -> Result<Self, CacheError> {
        let (disk, dir) = (Arc::clone(&inner.tree().disk), inner.tree().layout.index());
        let (mut files, loaded) = IndexFiles::load(disk, &dir, max_bytes);
        files.count_in(inner.tree().unit());
        // Nothing is written under a root that can only be read: what the index says is used, and kept in memory.
        let read_only = inner.is_read_only();
        // Garbage leaves by a rename, as unlinking takes long if it is large. So it is leftover trash from here on.
        let set_aside = |path: &Path| inner.tree().set_aside(path);
        if !read_only {
            files.take_garbage(set_aside);
            if !persist {
                // Left from a session with a larger limit. If it cannot be removed, a later session takes it for what any
                // index is: a guess to be checked.
                let _ = files.take_all(set_aside);
            }
        }
        // Leftover trash counts under the limit and is in no account, so it must be gone before the first write.
        let leftovers = inner.tree().has_leftovers()?;
        let loaded = loaded.filter(|_| persist || read_only);
        let loaded = loaded.and_then(|Loaded { rows, changes, clean }| {
            let ready = clean && (read_only || !leftovers);
            Some((Table::loaded(rows, changes)?, ready))
        });
        let (mut table, ready) = loaded.unwrap_or_else(|| (Table::empty(persist), false));
        table.files = files.sizes();
        table.persist = persist && !read_only;
        let inner = Arc::new(inner);
        let below: Arc<dyn Below> = Arc::clone(&inner) as Arc<dyn Below>;
        let files = table.persist.then_some(files);
        let accounts = Accounts::new(table, Arc::downgrade(&below), files, ready, Progress::new());
        Ok(Self {
            inner,
            below,
            accounts,
        })
    }

    /// Scans the disk. Reads every asset anew whose directory has changed since it was last read, and removes what killed
    /// sessions left. A session that may write at once scans all the same: files may have been changed from outside.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if a directory cannot be read.
    pub fn scan(&self) -> Result<(), CacheError> {
        self.accounts.scan()
    }
}

impl Below for FsStore {
    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.tree().scan_asset(asset)
    }

    fn modified(&self, asset: &AssetId) -> Option<Timestamp> {
        self.tree().modified(asset).unwrap_or(None)
    }

    fn may_differ(&self, asset: &AssetId, modified: Option<Timestamp>) -> bool {
        self.tree().modified(asset).is_ok_and(|now| now != modified)
    }

    #[cfg(feature = "offline")]
    fn free(&self) -> Option<u64> {
        self.tree().free()
    }

    fn keyed(&self, asset: &AssetId) -> Result<Option<AssetId>, CacheError> {
        self.tree().find_key(asset)
    }

    fn sweep(&self) -> Result<(), CacheError> {
        self.tree().sweep()
    }

    fn scan(&self, accounts: &Accounts) -> Result<(), CacheError> {
        let round = {
            let table = &mut accounts.lock()?.table;
            // Every asset seen from here on gets this number. Those without it in the end were not seen.
            table.round = table.round.wrapping_add(1);
            // Trash that stays is in no asset's figures. A second scan must not count it again.
            let stuck = self.tree().stuck_bytes();
            table.trash = table.trash.saturating_sub(table.stuck).saturating_add(stuck);
            table.stuck = stuck;
            table.round
        };
        accounts.sweep_index();
        let shards = self.tree().shards()?;
        accounts.progress.begin(shards.len() as u64);
        parallel::map(&shards, |shard| {
            let ids = if_readable(self.tree().ids(shard))?.unwrap_or_default();
            for id in &ids {
                if_readable(self.scan_asset(accounts, id, round))?;
            }
            accounts.progress.scanned(ids.len() as u64);
            Ok(())
        })?;
        let gone: Vec<AssetId> = {
            let assets = &accounts.state().table.assets;
            let unseen = assets.iter().filter(|(_, account)| account.round != round);
            unseen.map(|(id, _)| id.clone()).collect()
        };
        // Read once more each: an asset may have been made after its shard was listed, and is then not gone.
        for id in &gone {
            if_readable(accounts.try_refresh(id))?;
        }
        if let Err(error) = accounts.note_scan() {
            log::warn!("cannot write the cache's index: {error}");
        }
        accounts.progress.end();
        Ok(())
    }
}

impl FsStore {
    fn scan_asset(&self, accounts: &Accounts, id: &AssetId, round: u32) -> Result<(), CacheError> {
        let known = accounts.state().table.assets.get_mut(id).map(|account| {
            account.round = round;
            (account.modified, account.sure)
        });
        // The directory's time is trusted only where it was old enough to show every later change.
        let (sure, modified) = known.map_or((false, None), |(modified, sure)| (sure, modified));
        if sure && modified.is_some() && self.tree().modified(id)? == modified {
            return Ok(());
        }
        accounts.try_refresh(id)?;
        accounts.flush();
        // An account that the refresh made has no number yet.
        if let Some(account) = accounts.state().table.assets.get_mut(id) {
            account.round = round;
        }
        Ok(())
    }
}

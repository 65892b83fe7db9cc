//! Updates of an asset, which take what they did into the accounts, and refreshes, which read an asset anew.
//!
//! How the two keep clear of each other is told in [`table`](super::table).

use super::Accounts;
use super::table::Account;
use crate::cache::error::CacheError;
use crate::cache::id::AssetId;
use crate::cache::store::Committed;
use crate::cache::timestamp::Timestamp;

impl Accounts {
    /// Begins an update of an asset. Until it has ended no refresh of the asset is believed.
    pub(in crate::cache) fn update<'a>(&'a self, asset: &'a AssetId) -> Result<Update<'a>, CacheError> {
        self.begin()?;
        // An unknown asset gets an account without figures: its `busy` keeps refreshes away until the update has ended.
        let mut state = self.state();
        let account = state.table.assets.entry(asset.bare()).or_default();
        account.busy += 1;
        Ok(Update {
            accounts: self,
            asset,
            version: account.version,
            known: false,
        })
    }

    /// Runs a commit and takes what it changed into the accounts.
    pub(in crate::cache) fn committing(
        &self,
        asset: &AssetId,
        commit: impl FnOnce() -> Result<Committed, CacheError>,
    ) -> Result<Committed, CacheError> {
        let change = self.update(asset)?;
        // An error drops the update, which reads the asset anew: the rename may have taken place all the same.
        let committed = commit()?;
        // The time is read after the commit. Read before it, the next miss would take the commit for a change from outside.
        change.account(self.modified(asset), |account| {
            if let Some(replaced) = committed.replaced {
                account.take_out(replaced);
            }
            account.bytes = account.bytes.saturating_add(committed.bytes);
            account.files += 1;
            account.stale |= committed.displaced;
        });
        Ok(committed)
    }

    /// When the asset's directory last changed. Without that time the asset is read anew in the next session.
    pub(in crate::cache) fn modified(&self, asset: &AssetId) -> Option<Timestamp> {
        self.below()?.modified(asset)
    }

    /// Bytes that the disk has room for still, where that can be told.
    #[cfg(feature = "offline")]
    pub(in crate::cache) fn free(&self) -> Option<u64> {
        self.below()?.free()
    }

    /// Runs work that changes an asset's directory and none of its figures: a file is staged there. Taken for a change from outside,
    /// it would have the next miss read the whole directory anew, for each of the writers that are open side by side.
    pub(in crate::cache) fn staging<T>(
        &self,
        asset: &AssetId,
        work: impl FnOnce() -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        self.begin()?;
        let mut is_counted = false;
        if let Some(account) = self.state().table.assets.get_mut(asset) {
            (account.staging, is_counted) = (account.staging + 1, true);
        }
        let before = self.modified(asset);
        let done = work();
        let after = self.modified(asset);
        let mut state = self.state();
        if let Some(account) = state.table.assets.get_mut(asset) {
            if is_counted {
                // Of an account that was made anew meanwhile it was not counted.
                account.staging = account.staging.saturating_sub(1);
            }
            if done.is_ok() && account.modified == before {
                // What is staged may be left over after a crash: the next session has to look.
                (account.modified, account.sure) = (after, false);
            }
        }
        drop(state);
        done
    }

    /// Takes the removal of an entry of `bytes` into the accounts; `None` if there was no entry.
    pub(in crate::cache) fn entry_removed(&self, change: Update<'_>, bytes: Option<u64>) {
        let below = self.below();
        let asset = change.asset;
        change.account(self.modified(asset), |account| match bytes {
            Some(bytes) => account.take_out(bytes),
            // Something other than an entry was removed, or the folder was changed from outside.
            None => account.stale |= below.is_some_and(|below| below.may_differ(asset, account.modified)),
        });
    }

    /// Takes a pin, or its end, into the accounts.
    pub(in crate::cache) fn pin_set(&self, change: Update<'_>, pinned: bool) {
        // The time is read after the pin, which is a file in the asset's directory and changes it. With an older one the
        // next scan would read the asset for nothing.
        let (version, modified) = (change.version, self.modified(change.asset));
        change.account(modified, |account| {
            account.pinned = pinned;
            // Of two overlapping updates that set a value the last in the inner store counts, and which that was is not
            // known here.
            account.stale |= account.is_changed_since(version);
        });
    }

    /// An entry was not found. If the asset may have changed from outside, reads the figures anew: at once where nothing of
    /// the asset is being changed, else with the next checkpoint.
    pub(in crate::cache) fn missed(&self, asset: &AssetId) -> Result<(), CacheError> {
        let known = self
            .lock()?
            .table
            .assets
            .get(asset)
            .map(|account| account.modified);
        let Some((known, below)) = known.zip(self.below()) else {
            return Ok(());
        };
        if !below.may_differ(asset, known) {
            return Ok(());
        }
        let mut state = self.lock()?;
        let account = state.table.assets.get(asset);
        // The cache's own change tells this difference as a rule: its rename is made, and is in the accounts only when the
        // update ends. Read now, the directory of an asset that is written while it is played would be read for every other
        // of its entries, and the cost of an entry would grow with their number.
        if account.is_some_and(|account| account.busy > 0 || account.staging > 0 || account.modified != known)
        {
            let unread = &mut state.table.unread;
            if !unread.contains(asset) {
                unread.push(asset.bare());
            }
            return Ok(());
        }
        drop(state);
        self.refresh(asset);
        Ok(())
    }

    /// Reads an asset's figures anew from the inner store. While an update is under way, its end does that.
    pub(in crate::cache) fn refresh(&self, asset: &AssetId) {
        if let Err(error) = self.try_refresh(asset) {
            log::warn!("cannot look at asset {asset}: {error}");
            let unread = asset.bare();
            self.run_or_defer(move |state| state.table.unread.push(unread));
        }
    }

    /// Reads the figures again that could not be read before.
    pub(in crate::cache) fn refresh_unread(&self) -> Result<(), CacheError> {
        let unread = std::mem::take(&mut self.lock()?.table.unread);
        for asset in unread {
            self.refresh(&asset);
        }
        Ok(())
    }

    /// As [`refresh`](Self::refresh), and returns the error if that failed.
    pub(in crate::cache) fn try_refresh(&self, asset: &AssetId) -> Result<(), CacheError> {
        // Updates that overtake the reading every time keep the figures right themselves.
        for _ in 0..3 {
            let mut state = self.lock()?;
            let version = match state.table.assets.get_mut(asset) {
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
            let removals = state.table.removals;
            drop(state);
            // Closed: the next session reads everything that is not sure.
            let Some(below) = self.below() else {
                return Ok(());
            };
            // Read without the lock, since it takes as long as the disk does. Whatever happens meanwhile is told by the
            // version.
            let info = below.asset(asset)?;
            let mut state = self.state();
            let now = state
                .table
                .assets
                .get(asset)
                .map(|account| (account.version, account.busy));
            // An asset that is unknown before and after may have been made and removed in between, and read just then.
            let unseen = version.is_some() || state.table.removals == removals;
            if now == version.map(|version| (version, 0)) && unseen {
                state.read(asset, info);
                return Ok(());
            }
        }
        let mut state = self.state();
        if !state.table.assets.contains_key(asset) {
            // No update keeps the figures of an unknown asset: the next checkpoint reads it again.
            state.table.unread.push(asset.bare());
        }
        Ok(())
    }
}

/// An update of an asset under way. Dropping it ends the update, also by a panic. If it was not accounted by then, the
/// asset's figures are read anew.
pub(in crate::cache) struct Update<'a> {
    accounts: &'a Accounts,
    asset: &'a AssetId,
    /// The account's version when the update began.
    version: u64,
    /// What the update did is in the accounts.
    known: bool,
}

impl Update<'_> {
    /// Takes what the update did to the asset into the accounts, and ends it.
    fn account(mut self, modified: Option<Timestamp>, apply: impl FnOnce(&mut Account)) {
        let mut state = self.accounts.state();
        let Some(account) = state.table.assets.get_mut(self.asset) else {
            return;
        };
        let (before, created) = (account.bytes, account.info(self.asset).is_none());
        apply(account);
        account.modified = modified;
        account.sure = false;
        let (after, exists) = (account.bytes, account.info(self.asset).is_some());
        state.table.bytes = state.table.bytes.saturating_sub(before).saturating_add(after);
        self.known = true;
        // In the same step as the figures: asked for victims in between, the policy would not know an asset that counts.
        if exists {
            state.written(self.asset, created);
        }
        state.table.note(self.asset);
    }

    /// Takes into the accounts that the asset was removed, to the `trash` or for good, and ends the update. Returns the bytes
    /// that counted for it.
    pub(in crate::cache) fn removed(mut self, trash: bool) -> u64 {
        let mut state = self.accounts.state();
        let table = &mut state.table;
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

impl Drop for Update<'_> {
    fn drop(&mut self) {
        let mut state = self.accounts.state();
        let version = state.table.next_version();
        // It is there: no account is taken out while an update of it is under way.
        let Some(account) = state.table.assets.get_mut(self.asset) else {
            return;
        };
        account.busy -= 1;
        account.version = version;
        account.stale |= !self.known;
        let reread = account.stale;
        // The last update of an asset that is gone takes the account out. While another is under way it stays, for `busy` and
        // `version` are in it.
        if account.busy == 0 && !reread && account.info(self.asset).is_none() {
            state.table.remove(self.asset);
            state.gone(self.asset);
        }
        drop(state);
        // Outside the lock: a refresh reads the disk.
        if reread {
            self.accounts.refresh(self.asset);
        }
        self.accounts.flush();
    }
}

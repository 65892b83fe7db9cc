//! The figures of each asset, and their sums.
//!
//! ```text
//!  Table
//!  ├ assets: id ─▶ Account ┬ bytes, files, pinned, last_access   the figures
//!  │                       ├ modified, sure      when they may be trusted
//!  │                       ├ version, busy, stale    updates and refreshes
//!  │                       └ round           the scan that last saw the asset
//!  ├ bytes, trash          sums: of all accounts, and of removed assets whose
//!  │                       trash is not emptied
//!  ├ found                 assets the policy is to be told of
//!  └ pending, touched, changed      what the index on disk does not say yet
//!
//!  update:   busy += 1 ─▶ inner store changes ─▶ figures ─▶ version, busy -= 1
//!  refresh:  version? ─▶ read the inner store ─▶ same version, not busy?
//!                           ├ yes: take the figures over
//!                           └ no:  read again; the update keeps them right
//! ```
//!
//! Updates of one asset may overlap, and a refresh may read the inner store in the middle of one. Each update tells its own
//! part of the sum, so overlapping ones add up in any order. A refresh replaces the whole sum, so it must not include a part
//! that an update is still going to add: that is what `version` and `busy` decide.

use std::collections::HashMap;
use std::time::Duration;

use crate::cache::codec::{self, Change, Row};
use crate::cache::id::{AssetId, IdHasher};
use crate::cache::index::files::{Sizes, most_bytes};
use crate::cache::store::AssetInfo;
use crate::cache::timestamp::Timestamp;

/// How old a directory's modification time must be before it is trusted. File systems round it, some to two seconds, so a
/// change within that does not show. And a power cut takes back changes of names that were not synced, again without a new
/// time, until the file system has written them by itself. Most do so after 5 to 30 seconds.
pub(in crate::cache) const SURE_AFTER: Duration = Duration::from_secs(60);

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(in crate::cache) struct Table {
    pub(in crate::cache) assets: HashMap<AssetId, Account, IdHasher>,
    /// Sum of the bytes of all assets.
    pub(in crate::cache) bytes: u64,
    /// Bytes of removed assets whose trash is not emptied yet.
    pub(in crate::cache) trash: u64,
    /// Of these, bytes that an earlier session left and that cannot be removed.
    pub(in crate::cache) stuck: u64,
    /// Assets that the policy has not been told of: found by a scan, or free again. Told in one go before it is asked, as
    /// a policy that keeps an order may sort all it knows for each telling.
    pub(in crate::cache) found: Vec<AssetId>,
    /// At open they were found in the order of their last accesses.
    pub(in crate::cache) in_order: bool,
    /// Whether an index is kept on disk.
    pub(in crate::cache) persist: bool,
    /// Whether changes are collected for the journal.
    pub(in crate::cache) journaling: bool,
    /// Something differs from the snapshot on disk.
    pub(in crate::cache) changed: bool,
    /// Changes on their way to the journal, encoded.
    pub(in crate::cache) pending: Vec<u8>,
    /// Assets with an access since the last checkpoint.
    pub(in crate::cache) touched: Vec<AssetId>,
    /// Assets whose figures could not be read. The next checkpoint reads them again.
    pub(in crate::cache) unread: Vec<AssetId>,
    /// What the index files took on disk when they were last written.
    pub(in crate::cache) files: Sizes,
    /// The number of the current scan.
    pub(in crate::cache) round: u32,
    /// No access that was read from outside is later.
    pub(in crate::cache) newest: Timestamp,
    /// The last version given to an account.
    versions: u64,
    /// How many assets were removed. A refresh of an unknown asset tells by it that the asset may have come and gone.
    pub(in crate::cache) removals: u64,
}

/// The figures of one asset.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts, a million times in memory"
)]
pub(in crate::cache) struct Account {
    pub(in crate::cache) bytes: u64,
    pub(in crate::cache) files: u64,
    pub(in crate::cache) last_access: Timestamp,
    /// When the asset's directory had last changed, at a moment when the figures above were right.
    pub(in crate::cache) modified: Option<Timestamp>,
    /// New with each update and never given twice, so that a refresh that an update overtook is not believed, even if the
    /// asset was removed and made anew in between.
    pub(in crate::cache) version: u64,
    /// Updates under way.
    pub(in crate::cache) busy: u32,
    /// Files that are being created in its directory to be written. No update: the figures stay.
    pub(in crate::cache) staging: u32,
    /// The scan that saw the asset last.
    pub(in crate::cache) round: u32,
    pub(in crate::cache) pinned: bool,
    /// The figures were read when `modified` was old enough to show every later change, and were not updated since.
    pub(in crate::cache) sure: bool,
    /// The figures are to be read anew once no update is under way.
    pub(in crate::cache) stale: bool,
    /// In [`Table::touched`].
    pub(in crate::cache) touched: bool,
}

impl Account {
    pub(in crate::cache) fn info(&self, id: &AssetId) -> Option<AssetInfo> {
        (self.files > 0 || self.bytes > 0 || self.pinned).then(|| AssetInfo {
            id: id.clone(),
            bytes: self.bytes,
            files: self.files,
            last_access: self.last_access,
            leased: false,
            pinned: self.pinned,
            modified: self.modified,
        })
    }

    /// Takes an entry of `bytes` out of the figures.
    pub(in crate::cache) fn take_out(&mut self, bytes: u64) {
        // Checked: with overlapping updates a part may be taken out before it was put in.
        let rest = (self.bytes.checked_sub(bytes), self.files.checked_sub(1));
        // The entry is not in the figures: its own update is still to come, or the figures are wrong.
        self.stale |= rest.0.is_none() || rest.1.is_none();
        (self.bytes, self.files) = (rest.0.unwrap_or(0), rest.1.unwrap_or(0));
    }

    /// Whether an update that began at `version` overlapped with another one.
    pub(in crate::cache) fn is_changed_since(&self, version: u64) -> bool {
        self.busy > 1 || self.version != version
    }

    pub(in crate::cache) fn row(&self, id: &AssetId) -> Row {
        let row = Row::new(id, self.bytes, self.files, self.last_access, self.modified);
        row.with_pinned(self.pinned).with_sure(self.sure)
    }
}

impl Table {
    /// A table of what the index files say; `None` if the sizes overflow, which no honest index does.
    pub(in crate::cache) fn loaded(rows: Vec<Row>, changes: Vec<Change>) -> Option<Self> {
        let mut table = Self {
            persist: true,
            changed: !changes.is_empty(),
            in_order: true,
            ..Self::default()
        };
        table.assets.reserve(rows.len());
        table.found.reserve(rows.len());
        for row in rows {
            // Changes are few: what they move is sorted in.
            table.in_order &= row.last_access() >= table.newest;
            table.set(&row);
        }
        for change in changes {
            match change {
                // Changed in the last session, so its directory's time may be too young to show everything.
                Change::Set(row) => table.set(&row.with_sure(false)),
                Change::Removed(id) => drop(table.assets.remove(&AssetId::from_hash(id))),
                Change::Touched(touches) => {
                    for (id, at) in touches {
                        if let Some(account) = table.assets.get_mut(&AssetId::from_hash(id)) {
                            account.last_access = Timestamp(at);
                            table.newest = table.newest.max(Timestamp(at));
                        }
                    }
                }
            }
        }
        if table.changed {
            let assets = &table.assets;
            table.found.retain(|id| assets.contains_key(id));
        }
        // Summed from the rows: a sum on disk could contradict them.
        table.bytes = table
            .assets
            .values()
            .try_fold(0_u64, |sum, account| sum.checked_add(account.bytes))?;
        Some(table)
    }

    /// A table that knows nothing yet.
    pub(in crate::cache) fn empty(persist: bool) -> Self {
        Self {
            persist,
            changed: true,
            ..Self::default()
        }
    }

    pub(in crate::cache) fn set(&mut self, row: &Row) {
        let account = Account {
            bytes: row.bytes,
            files: row.files,
            last_access: row.last_access(),
            modified: row.modified(),
            pinned: row.pinned(),
            sure: row.sure(),
            ..Account::default()
        };
        self.newest = self.newest.max(row.last_access());
        let id = row.id();
        if self.assets.insert(id.clone(), account).is_none() {
            self.found.push(id);
        }
    }

    /// A version that no account had before.
    pub(in crate::cache) fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// Replaces the figures of an asset by what the inner store says.
    pub(in crate::cache) fn put(&mut self, id: &AssetId, info: Option<AssetInfo>) {
        let old = self.assets.get(id).copied();
        self.bytes = self.bytes.saturating_sub(old.map_or(0, |old| old.bytes));
        let Some(info) = info else {
            self.remove(id);
            return;
        };
        self.bytes = self.bytes.saturating_add(info.bytes);
        let version = self.next_version();
        let account = self.assets.entry(id.bare()).or_default();
        account.version = version;
        account.bytes = info.bytes;
        account.files = info.files;
        account.pinned = info.pinned;
        account.modified = info.modified;
        account.sure = info
            .modified
            .is_some_and(|at| at.age(Timestamp::now()) > SURE_AFTER);
        account.stale = false;
        // An account may be there just for an update under way, with no figures yet.
        if old.is_none_or(|old| old.info(id).is_none()) {
            if account.last_access == Timestamp::default() {
                account.last_access = info.last_access;
                self.newest = self.newest.max(info.last_access);
            }
            self.found.push(id.bare());
        }
        let figures = |account: &Account| (account.bytes, account.files, account.pinned, account.modified);
        let newly_sure = account.sure && old.is_some_and(|old| !old.sure);
        // Figures that were known already need no record.
        if old.as_ref().map(figures) != Some(figures(account)) {
            self.note(id);
        }
        // The journal does not carry it, only a snapshot does.
        self.changed |= newly_sure;
    }

    /// Takes the account of an asset that is gone out of the table.
    pub(in crate::cache) fn remove(&mut self, id: &AssetId) {
        // Counted, so that a refresh that read the asset before sees that it must not bring it back.
        if self.assets.remove(id).is_some() {
            self.changed = true;
            self.removals += 1;
            if self.journaling {
                codec::encode_change(&Change::Removed(*id.hash()), &mut self.pending);
            }
        }
    }

    /// Counts `bytes` of a partial file whose claim has ended for its asset, if the asset could not be read since: while it is
    /// being changed it is read when that ends. It is no less than what is on the disk; the reading puts it right.
    pub(in crate::cache) fn lend(&mut self, id: &AssetId, bytes: u64) {
        if let Some(account) = self.assets.get_mut(id).filter(|account| account.stale) {
            account.bytes = account.bytes.saturating_add(bytes);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    /// Collects the figures of an asset for the journal.
    pub(in crate::cache) fn note(&mut self, id: &AssetId) {
        self.changed = true;
        if let Some(account) = self.assets.get(id).filter(|_| self.journaling) {
            codec::encode_change(&Change::Set(account.row(id)), &mut self.pending);
        }
    }

    /// The most bytes that the index may take on disk.
    pub(in crate::cache) fn index_bytes(&self) -> u64 {
        if self.persist {
            self.files.most_bytes(self.assets.len() as u64)
        } else {
            0
        }
    }

    /// The most bytes that the index grows by when the asset is written to: a new one takes a row.
    pub(in crate::cache) fn row_bytes(&self, id: &AssetId) -> u64 {
        if self.persist && !self.assets.contains_key(id) {
            most_bytes(1) - most_bytes(0)
        } else {
            0
        }
    }

    /// Collects the accesses since the last checkpoint for the journal.
    pub(in crate::cache) fn note_touches(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        let mut uses = Vec::with_capacity(touched.len());
        for id in touched {
            if let Some(account) = self.assets.get_mut(&id) {
                account.touched = false;
                uses.push((id, account.last_access));
            }
        }
        codec::encode_touches(uses, &mut self.pending);
    }
}

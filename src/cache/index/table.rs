//! What is remembered of each asset, and of all together.

use std::collections::HashMap;
use std::time::Duration;

use super::files::Sizes;
use crate::cache::codec::{self, Change, Row};
use crate::cache::id::{AssetId, IdHasher};
use crate::cache::store::AssetInfo;
use crate::cache::timestamp::Timestamp;

/// How far a directory's time must lie back to be relied on. File systems round it, some to two seconds, and a change within
/// that would not show. And a power cut takes names back that were changed but not synced, within such a step again, until
/// the file system has written them by itself: most do so after 5 to 30 seconds.
pub(super) const SURE_AFTER: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Table {
    pub(super) assets: HashMap<AssetId, Account, IdHasher>,
    /// Sum of the bytes of all assets.
    pub(super) bytes: u64,
    /// Bytes of removed assets whose trash is not emptied yet.
    pub(super) trash: u64,
    /// Assets the layers above have not been told of.
    pub(super) changes: Vec<AssetId>,
    /// Whether an index is kept on disk.
    pub(super) persist: bool,
    /// Whether changes are collected for the journal.
    pub(super) journaling: bool,
    /// Something differs from the snapshot.
    pub(super) changed: bool,
    /// Changes on their way to the journal, encoded.
    pub(super) pending: Vec<u8>,
    /// Assets used since the last checkpoint.
    pub(super) touched: Vec<AssetId>,
    /// Assets whose figures could not be read anew.
    pub(super) unread: Vec<AssetId>,
    /// What the index's files took on disk when they were last written.
    pub(super) files: Sizes,
    /// Tells scans of the disk apart.
    pub(super) round: u32,
    /// The last version given to a record.
    versions: u64,
    /// How many assets were removed: an asset that is not here may have come and gone.
    pub(super) removals: u64,
}

/// What is remembered of one asset.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts, a million times in memory"
)]
pub(super) struct Account {
    pub(super) bytes: u64,
    pub(super) files: u64,
    pub(super) last_access: Timestamp,
    /// [`Store::modified`] when the figures above were right.
    pub(super) modified: Option<Timestamp>,
    /// New with each change and never given twice, so that a scan at the inner store that a change overtook is not
    /// believed, even where the asset was removed and made anew in between.
    pub(super) version: u64,
    /// Changes under way.
    pub(super) busy: u32,
    /// The scan of the disk that has seen it last.
    pub(super) round: u32,
    pub(super) pinned: bool,
    /// The figures were read when `modified` was old enough to show every later change, and nothing was changed since.
    pub(super) sure: bool,
    /// The figures are to be read anew when no change is under way.
    pub(super) stale: bool,
    /// Noted among the touched.
    pub(super) touched: bool,
}

impl Account {
    pub(super) fn info(&self, id: &AssetId) -> Option<AssetInfo> {
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
    pub(super) fn take_out(&mut self, bytes: u64) {
        let rest = (self.bytes.checked_sub(bytes), self.files.checked_sub(1));
        // An entry that is not in them yet: whoever brought it is still about to account it, or they are wrong.
        self.stale |= rest.0.is_none() || rest.1.is_none();
        (self.bytes, self.files) = (rest.0.unwrap_or(0), rest.1.unwrap_or(0));
    }

    /// Whether a change that began at `version` was not the only one since.
    pub(super) fn is_changed_since(&self, version: u64) -> bool {
        self.busy > 1 || self.version != version
    }

    pub(super) fn row(&self, id: &AssetId) -> Row {
        let row = Row::new(id, self.bytes, self.files, self.last_access, self.modified);
        row.with_pinned(self.pinned).with_sure(self.sure)
    }
}

impl Table {
    /// A table of what the index files say; `None` if that cannot be.
    pub(super) fn loaded(rows: Vec<Row>, changes: Vec<Change>) -> Option<Self> {
        let mut table = Self {
            persist: true,
            changed: !changes.is_empty(),
            ..Self::default()
        };
        table.assets.reserve(rows.len());
        table.changes.reserve(rows.len());
        for row in rows {
            table.set(&row);
        }
        for change in changes {
            match change {
                Change::Set(row) => table.set(&row.with_sure(false)),
                Change::Removed(id) => drop(table.assets.remove(&AssetId::from_hash(id))),
                Change::Touched(touches) => {
                    for (id, at) in touches {
                        if let Some(account) = table.assets.get_mut(&AssetId::from_hash(id)) {
                            account.last_access = Timestamp(at);
                        }
                    }
                }
            }
        }
        table.bytes = table
            .assets
            .values()
            .try_fold(0_u64, |sum, account| sum.checked_add(account.bytes))?;
        Some(table)
    }

    /// A table that knows nothing yet.
    pub(super) fn empty(persist: bool) -> Self {
        Self {
            persist,
            changed: true,
            ..Self::default()
        }
    }

    pub(super) fn set(&mut self, row: &Row) {
        let account = Account {
            bytes: row.bytes,
            files: row.files,
            last_access: row.last_access(),
            modified: row.modified(),
            pinned: row.pinned(),
            sure: row.sure(),
            ..Account::default()
        };
        let id = row.id();
        if self.assets.insert(id.clone(), account).is_none() {
            self.changes.push(id);
        }
    }

    /// A version that no record has had.
    pub(super) fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// Takes over what the inner store says of an asset.
    pub(super) fn put(&mut self, id: &AssetId, info: Option<AssetInfo>) {
        let old = self.assets.get(id).copied();
        self.bytes = self.bytes.saturating_sub(old.map_or(0, |old| old.bytes));
        let Some(info) = info else {
            if self.assets.remove(id).is_some() {
                self.note_removed(id);
            }
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
        // A record may be there for a change under way, of which nothing was accounted yet.
        if old.is_none_or(|old| old.info(id).is_none()) {
            if account.last_access == Timestamp::default() {
                account.last_access = info.last_access;
            }
            self.changes.push(id.bare());
        }
        let figures = |account: &Account| (account.bytes, account.files, account.pinned, account.modified);
        let newly_sure = account.sure && old.is_some_and(|old| !old.sure);
        // Finding what was known already is nothing to write down.
        if old.as_ref().map(figures) != Some(figures(account)) {
            self.note(id);
        }
        // No journal tells it, only a snapshot.
        self.changed |= newly_sure;
    }

    /// Collects how an asset stands now for the journal.
    pub(super) fn note(&mut self, id: &AssetId) {
        self.changed = true;
        if let Some(account) = self.assets.get(id).filter(|_| self.journaling) {
            codec::encode_change(&Change::Set(account.row(id)), &mut self.pending);
        }
    }

    pub(super) fn note_removed(&mut self, id: &AssetId) {
        self.changed = true;
        self.removals += 1;
        if self.journaling {
            codec::encode_change(&Change::Removed(*id.hash()), &mut self.pending);
        }
    }

    /// Bytes the index may take on disk.
    pub(super) fn index_bytes(&self) -> u64 {
        if self.persist {
            self.files.most_bytes(self.assets.len() as u64)
        } else {
            0
        }
    }

    /// Collects the uses since the last checkpoint for the journal.
    pub(super) fn note_touches(&mut self) {
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

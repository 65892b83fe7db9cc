//! What a file system cannot offer, as the app is told it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::lock::Hold;

/// Protection that a cache does without, because the file system of its root does not offer it. From
/// [`AssetCache::missing_protection`](crate::cache::AssetCache::missing_protection).
///
/// Entries are whole all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissingProtection {
    /// Folders cannot be synced (CIFS, shared folders of virtual machines). A power cut can take the entries and pins of the
    /// last seconds, as under [`Durability::Ordered`](crate::cache::Durability::Ordered). Known from the first write on.
    FolderSync,
    /// Files cannot be locked (NFS without its lock daemon). A second process could open the root: the app has to make sure
    /// that none does.
    FileLocks,
}

/// What the file system of a root offers.
#[derive(Clone, Debug, Default)]
pub(in crate::cache) struct Protection {
    pub(super) hold: Option<Hold>,
    pub(super) syncs_refused: Arc<AtomicBool>,
}

impl Protection {
    pub(in crate::cache) fn missing(&self) -> Vec<MissingProtection> {
        let syncs = self.syncs_refused.load(Ordering::Relaxed);
        let locks = self.hold == Some(Hold::Unlocked);
        [
            (syncs, MissingProtection::FolderSync),
            (locks, MissingProtection::FileLocks),
        ]
        .into_iter()
        .filter_map(|(missing, what)| missing.then_some(what))
        .collect()
    }

    pub(in crate::cache) fn is_read_only(&self) -> bool {
        self.hold == Some(Hold::Reading)
    }
}

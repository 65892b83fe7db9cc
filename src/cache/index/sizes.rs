//! What the index takes on the disk, at the most: it counts under the limit before it is written.

use crate::cache::codec;

/// Bytes of a snapshot without rows, and of a journal without changes.
pub(super) const EMPTY: u64 = codec::EMPTY as u64;
/// Bytes a row of a snapshot takes.
const ROW: u64 = codec::ROW as u64;
/// Journal bytes allowed on top of those per asset.
const JOURNAL_BASE: u64 = 2048;
/// Journal bytes allowed per asset. The cost of a compaction grows with the number of assets, and so does the number of
/// changes that share it.
const JOURNAL_PER_ASSET: u64 = 128;

/// The most that the index of `assets` assets takes on disk, in bytes: the snapshot, the next one beside it while it is
/// written, the journal and its successor.
pub(in crate::cache) fn most_bytes(assets: u64) -> u64 {
    2 * (EMPTY + assets * ROW) + journal_cap(assets) + EMPTY
}

/// What the files take on disk, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cache) struct Sizes {
    pub(super) snapshot: u64,
    /// The next snapshot, being written beside it.
    staged: u64,
    pub(super) journal: u64,
    /// What each of the four files may take beyond its length, in all.
    pub(super) rounding: u64,
}

impl Sizes {
    /// The most that the index of `assets` assets takes until these files are replaced: [`most_bytes`], and more where the
    /// files were written for more assets.
    pub(in crate::cache) fn most_bytes(self, assets: u64) -> u64 {
        let snapshot = EMPTY + assets * ROW;
        let more = [
            self.snapshot.saturating_sub(snapshot),
            self.staged.saturating_sub(snapshot),
            self.journal.saturating_sub(journal_cap(assets)),
        ];
        most_bytes(assets) + more.iter().sum::<u64>() + self.rounding
    }

    /// The same while a snapshot of `assets` assets is being written.
    pub(super) fn staging(self, assets: u64) -> Self {
        let staged = EMPTY + assets * ROW;
        Self { staged, ..self }
    }

    /// The same with the longest journal that `assets` assets allow.
    pub(super) fn appending(self, assets: u64) -> Self {
        let journal = self.journal.max(journal_cap(assets));
        Self { journal, ..self }
    }
}

pub(super) fn journal_cap(assets: u64) -> u64 {
    JOURNAL_BASE + assets * JOURNAL_PER_ASSET
}

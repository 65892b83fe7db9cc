//! What was found of a download, and whether it may be said again without a look.

use std::time::Duration;

use crate::{
    cache::{AssetId, BlockingCache, Footprint, Timestamp},
    media::Stored,
};

/// What was found, and by what it can be told that it still holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) stored: Stored,
    /// The asset's, from before the look.
    pub(super) footprint: Footprint,
    /// When the look began.
    pub(super) made: Timestamp,
}

/// A folder's time shows a change only if it is another one than before. File systems count it in ticks, FAT in two seconds: what
/// changes within the tick of the last change leaves no trace.
pub(super) const GRAIN: Duration = Duration::from_secs(2);

impl Verdict {
    /// Takes the footprint. Before the look: what changes while it is made voids the verdict.
    pub(super) fn begin(cache: &BlockingCache, asset: &AssetId) -> Option<(Footprint, Timestamp)> {
        Some((cache.footprint(asset)?, Timestamp::now()))
    }

    /// Whether a later change would show: the folder's last one was long enough before the look.
    pub(super) fn is_settled(&self) -> bool {
        self.footprint.modified.age(self.made) > GRAIN
    }

    /// Whether the asset is as it was: the verdict may be said again.
    pub(super) fn holds(&self, cache: &BlockingCache, asset: &AssetId) -> bool {
        self.is_settled() && cache.footprint(asset).as_ref() == Some(&self.footprint)
    }
}

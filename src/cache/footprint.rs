//! By what a caller can tell that an asset is as it was when it was last looked at.

use super::blocking::BlockingCache;
use super::id::AssetId;
use super::timestamp::Timestamp;

/// What an asset takes, and when its folder last changed. Equal ones are of an asset that nothing was added to, nothing removed
/// from and nothing replaced in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) modified: Timestamp,
}

impl BlockingCache {
    /// The footprint of an asset: bytes and files of the accounts, the time of the folder on the disk, so that what happens
    /// behind the cache's back shows too. `None` where there is no asset, no folder, or no trust in its time.
    pub(crate) fn footprint(&self, asset: &AssetId) -> Option<Footprint> {
        let accounts = &self.stack.evictor.accounts;
        let info = accounts.lock().ok()?.info(asset)?;
        Some(Footprint {
            bytes: info.bytes,
            files: info.files,
            modified: accounts.modified(asset)?,
        })
    }
}

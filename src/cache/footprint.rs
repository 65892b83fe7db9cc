//! Questions to the accounts that cost no look at any entry: whether an asset is as it was, and how much room there is.

use std::collections::HashMap;

use super::blocking::BlockingCache;
use super::error::CacheError;
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

/// How much room there is, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// What the assets take that were asked about.
    pub(crate) own: u64,
    /// What cannot be evicted now: all that is pinned or leased.
    pub(crate) held: u64,
    /// The cache's limit.
    pub(crate) max_bytes: u64,
}

impl BlockingCache {
    /// The footprint of an asset: bytes and files of the accounts, the time of the folder on the disk. `None` where there is no
    /// asset, no folder, or no trust in its time.
    ///
    /// One `stat`, however many entries there are. What it notices: whatever is done through this cache, and each name that comes,
    /// goes or is replaced in the folder, by anyone. What it cannot notice: bytes that change in place (their checksums tell), a
    /// folder whose time somebody sets back, and a change within the grain of the folder's time: who compares allows for it.
    /// An asset has no folders in it, so that no entry lies where this time does not reach.
    pub(crate) fn footprint(&self, asset: &AssetId) -> Option<Footprint> {
        let accounts = &self.stack.evictor.accounts;
        let info = accounts.lock().ok()?.info(asset)?;
        Some(Footprint {
            bytes: info.bytes,
            files: info.files,
            modified: accounts.modified(asset)?,
        })
    }

    /// How much room there is, beside `assets` and in all. By the accounts alone: the disk is not read. Of each asset at least as
    /// much counts as is given with it: what has come and is on its way to the disk.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] where the accounts cannot be made.
    pub(crate) fn room_beside(&self, assets: &HashMap<AssetId, u64>) -> Result<Room, CacheError> {
        self.stack.evictor.ready()?;
        let state = self.stack.evictor.accounts.lock()?;
        let mut room = Room {
            own: 0,
            held: 0,
            max_bytes: state.max_bytes,
        };
        for info in state.infos() {
            room.held += if info.pinned || info.leased { info.bytes } else { 0 };
            let came = assets.get(&info.id);
            room.own += came.map_or(0, |came| info.bytes.saturating_sub(*came));
        }
        room.own += assets.values().sum::<u64>();
        Ok(room)
    }

    /// Bytes that the disk has room for still. `None` where it does not tell.
    pub(crate) fn free_on_disk(&self) -> Option<u64> {
        self.stack.evictor.accounts.free()
    }
}

//! What stores tell of assets and entries.

use std::fmt;

use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::timestamp::Timestamp;

/// What is known of an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssetInfo {
    /// Which asset. A cache tells its [`key`](AssetId::key) too, where an entry or a record was written with it.
    pub id: AssetId,
    /// Bytes its files take, with footers, pin and partial files.
    pub bytes: u64,
    /// Number of its entries, with its record if it has one.
    pub files: u64,
    /// When the app last used it. Of a store that does not keep that: when it was last written to.
    pub last_access: Timestamp,
    /// Whether it is leased or being written right now.
    pub leased: bool,
    /// Whether it carries the durable "keep offline" mark.
    pub pinned: bool,
    /// When its directory last changed. `None` without a directory, or where that time cannot be trusted.
    pub(crate) modified: Option<Timestamp>,
}

impl AssetInfo {
    /// An asset of `files` entries that take `bytes`, not pinned.
    pub fn new(id: AssetId, bytes: u64, files: u64, last_access: Timestamp) -> Self {
        Self {
            id,
            bytes,
            files,
            last_access,
            leased: false,
            pinned: false,
            modified: None,
        }
    }

    /// The same with or without a pin.
    #[must_use]
    pub fn pinned(self, pinned: bool) -> Self {
        Self { pinned, ..self }
    }
}

/// What is known of an entry.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryInfo {
    /// Which entry.
    pub path: CachePath,
    /// Length of its payload in bytes.
    pub len: u64,
    /// [`AssetId::key`] of its asset when it was written. A listing can show it in place of the hash.
    pub asset_key: Option<String>,
}

impl EntryInfo {
    /// An entry of `len` bytes.
    pub fn new(path: CachePath, len: u64, asset_key: Option<String>) -> Self {
        Self { path, len, asset_key }
    }
}

impl fmt::Debug for EntryInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is the app's own text, and may be a URL with its query (C14).
        f.debug_struct("EntryInfo")
            .field("path", &self.path)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

//! What the cache can answer instead of a value.

use std::io;
use std::path::PathBuf;

use snafu::Snafu;

/// An error of the cache. No variant holds a URL's query, a caller's key or a cached byte.
#[non_exhaustive]
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum CacheError {
    /// The write does not fit, and removing everything that may be removed would not make it fit. Nothing was removed
    /// in vain: if something was, because it would have been enough, another write took that room meanwhile.
    #[snafu(display(
        "the cache is full: {needed} more bytes needed, {held} of {max_bytes} held by what is in use"
    ))]
    CacheFull {
        /// Bytes the write still needed, bookkeeping included.
        needed: u64,
        /// The cache's limit in bytes.
        max_bytes: u64,
        /// Bytes under the root that cannot be removed now: leased, pinned, being written, or bookkeeping.
        held: u64,
    },
    /// The write needs room, and the eviction policy that would say who goes is busy: it made this call itself, or has
    /// been at one call for ten seconds.
    #[snafu(display("no room, and the eviction policy is busy"))]
    PolicyBusy,
    /// Another cache, in this process or another, has this root open.
    #[snafu(display("the cache root {} is open elsewhere", root.display()))]
    Locked {
        /// The root that was asked for.
        root: PathBuf,
    },
    /// The text is no path of an entry.
    #[snafu(display("invalid entry path: {reason}"))]
    InvalidPath {
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The text is no key of an asset.
    #[snafu(display("invalid asset key: {reason}"))]
    InvalidKey {
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The asset is leased, pinned or being written, and so cannot be removed.
    #[snafu(display("asset {asset} is in use"))]
    InUse {
        /// The asset's name on disk.
        asset: String,
    },
    /// The entry was found damaged while it was being read: fetch it again.
    #[snafu(display("entry {} is damaged", path.display()))]
    Damaged {
        /// The entry's file.
        path: PathBuf,
    },
    /// The writer lost its entry: an earlier call to it failed, or was dropped before it returned.
    #[snafu(display("the entry was given up when an earlier call failed or was dropped"))]
    Abandoned,
    /// The cache is in memory, and has no file to be filled piece by piece.
    #[snafu(display("the cache keeps no files"))]
    NoFiles,
    /// The file system failed.
    #[snafu(display("cannot {action} {}", path.display()))]
    Io {
        /// What was tried, as "write" or "rename".
        action: &'static str,
        /// The file or directory it was tried on.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

impl CacheError {
    /// Whether the write failed for want of room: the cache's own limit, a full disk or a quota.
    pub fn is_full(&self) -> bool {
        match self {
            Self::CacheFull { .. } | Self::PolicyBusy => true,
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            }
            _ => false,
        }
    }

    /// Whether the asset cannot be removed because it is leased, pinned or being written.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }

    /// Whether another cache has the root open.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }

    /// Whether stored bytes were found damaged. Fetching them again mends it.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

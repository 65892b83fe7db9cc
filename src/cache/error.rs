//! The errors of the cache.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use snafu::{ResultExt as _, Snafu};

/// An error of the cache. No variant holds the query of a URL, a key of the caller or a cached byte.
#[non_exhaustive]
#[derive(Clone, Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum CacheError {
    /// The write does not fit, and evicting every evictable asset would not make it fit. As a rule nothing was evicted;
    /// if assets were evicted because that would have been enough, another write took the room meanwhile.
    #[snafu(display(
        "the cache is full: {needed} more bytes needed, {held} of {max_bytes} held by what is in use"
    ))]
    CacheFull {
        /// Bytes the write still needed, with bookkeeping.
        needed: u64,
        /// The cache's limit in bytes.
        max_bytes: u64,
        /// Bytes under the root that cannot be freed now: leased, pinned, being written, or bookkeeping.
        held: u64,
    },
    /// The eviction policy called the cache it serves, which its contract forbids. Nothing was done.
    #[snafu(display("the eviction policy called the cache that it serves"))]
    PolicyReentered,
    /// Another cache, in this process or another, has this root open.
    #[snafu(display("the cache root {} is open elsewhere", root.display()))]
    Locked {
        /// The root that was asked for.
        root: PathBuf,
    },
    /// The text is not a valid entry path.
    #[snafu(display("invalid entry path: {reason}"))]
    InvalidPath {
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The text is not a valid asset key.
    #[snafu(display("invalid asset key: {reason}"))]
    InvalidKey {
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The record of an asset is longer than it may be.
    #[snafu(display("a record of {len} bytes is longer than {max_bytes}"))]
    RecordTooLong {
        /// Bytes of the record.
        len: usize,
        /// Bytes that it may have.
        max_bytes: usize,
    },
    /// The asset cannot be removed: it is leased, pinned or being written.
    #[snafu(display("asset {asset} is in use"))]
    InUse {
        /// The asset's name on disk.
        asset: String,
    },
    /// The asset can neither be moved to the trash nor unlinked: an immutable file, another user's, a mount point. What was
    /// unlinked before the failure is gone. Other assets are not affected.
    #[snafu(display("asset {asset} cannot be removed"))]
    Unremovable {
        /// The asset's name on disk.
        asset: String,
        /// The file or directory that cannot be removed.
        path: PathBuf,
        /// What the file system said.
        #[snafu(source(from(io::Error, Arc::new)))]
        source: Arc<io::Error>,
    },
    /// The cache was opened for reading only, as its root cannot be written to. Nothing was attempted.
    #[snafu(display("the cache root {} can only be read", root.display()))]
    ReadOnly {
        /// The root as it was given to open it.
        root: PathBuf,
    },
    /// A read found the entry damaged. Fetch it again.
    #[snafu(display("entry {} is damaged", path.display()))]
    Damaged {
        /// The entry's file.
        path: PathBuf,
    },
    /// The writer has no entry any more: an earlier call failed, or was dropped before it returned.
    #[snafu(display("the entry was given up when an earlier call failed or was dropped"))]
    Abandoned,
    /// The store cannot do this. One in memory has no files that could be filled piece by piece.
    #[snafu(display("the store does not keep {what}"))]
    NotSupported {
        /// What was asked for, such as "partial entries".
        what: &'static str,
    },
    /// The file system failed.
    #[snafu(display("cannot {action} {}", path.display()))]
    Io {
        /// What was tried, such as "write" or "rename".
        action: &'static str,
        /// The file or directory it was tried on.
        path: PathBuf,
        /// What the file system said.
        #[snafu(source(from(io::Error, Arc::new)))]
        source: Arc<io::Error>,
    },
}

impl CacheError {
    /// Whether the write failed because there is no room: the cache's own limit, a full disk or a quota.
    pub fn is_full(&self) -> bool {
        match self {
            Self::CacheFull { .. } => true,
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

    /// Whether the asset can neither be moved nor unlinked, now or the next time. Other assets may be removed.
    pub fn is_unremovable(&self) -> bool {
        matches!(self, Self::Unremovable { .. })
    }

    /// Whether the cache was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::ReadOnly { .. })
    }

    /// Whether another cache has the root open.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }

    /// Whether stored bytes were found damaged. Fetching them again repairs the entry.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// Says what was tried on which path when the file system fails.
pub(super) trait Trying<T> {
    fn trying(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, CacheError>;
}

impl<T> Trying<T> for io::Result<T> {
    fn trying(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, CacheError> {
        let path = path.as_ref();
        self.context(IoSnafu { action, path })
    }
}

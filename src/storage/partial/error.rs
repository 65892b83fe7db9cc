//! What can go wrong with a streaming resource: [`StreamingError`] for its files, [`WaitError`] for a wait.

use std::error::Error;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use snafu::Snafu;

/// Why an operation on a [`StreamingResource`](super::StreamingResource) was refused or failed.
#[non_exhaustive]
#[derive(Debug, Clone, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum StreamingError {
    /// The file system failed, or the limit of the cache that owns the file refused.
    #[snafu(display("cannot {action} {}", path.display()))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file it was tried on.
        path: PathBuf,
        /// What the system said.
        #[snafu(source(from(io::Error, Arc::new)))]
        source: Arc<io::Error>,
    },
    /// The resource has a [`Writer`](super::Writer) already.
    #[snafu(display("{} is being written", path.display()))]
    Taken {
        /// Where the resource will stand.
        path: PathBuf,
    },
    /// Another resource has the partial file open, in this process or another one.
    #[snafu(display("{} is in use by another resource", path.display()))]
    InUse {
        /// The partial file.
        path: PathBuf,
    },
    /// The resource is complete. It cannot be written any more.
    #[snafu(display("{} is committed", path.display()))]
    Committed {
        /// Where the resource stands.
        path: PathBuf,
    },
    /// The resource was discarded. Open it anew.
    #[snafu(display("{} was discarded", path.display()))]
    Discarded {
        /// Where the resource would have stood.
        path: PathBuf,
    },
    /// A commit found bytes missing. The writer can fetch them and commit again.
    #[snafu(display("{} lacks bytes {}..{}", path.display(), missing.start, missing.end))]
    Incomplete {
        /// Where the resource will stand.
        path: PathBuf,
        /// The first missing range.
        missing: Range<u64>,
    },
    /// The stated end contradicts an earlier one, or bytes that are present.
    #[snafu(display("{} cannot end at {stated}: {known} is known", path.display()))]
    EndConflict {
        /// Where the resource will stand.
        path: PathBuf,
        /// The end known before, or the end of the bytes present.
        known: u64,
        /// The end that was stated.
        stated: u64,
    },
    /// A write reaches beyond the known end, or beyond what a file can hold.
    #[snafu(display("bytes {}..{} lie beyond the end of {}", range.start, range.end, path.display()))]
    BeyondEnd {
        /// Where the resource will stand.
        path: PathBuf,
        /// The bytes of the write.
        range: Range<u64>,
    },
    /// The file has fewer bytes than were written to it: another program cut it.
    #[snafu(display("{} ends at {offset}, before bytes that were written", path.display()))]
    Cut {
        /// The file.
        path: PathBuf,
        /// The first byte that is gone.
        offset: u64,
    },
    /// These bytes are not what was written: the disk or another program changed them. The bytes around them have
    /// checksums of their own.
    #[snafu(display("bytes {}..{} of {} are damaged", range.start, range.end, path.display()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The bytes that one checksum covers, of which at least one is wrong.
        range: Range<u64>,
    },
    /// An earlier sync failed. What was not recorded before may never reach the disk, whatever a later sync answers. The
    /// resource can be neither recorded nor committed: discard it.
    #[snafu(display("an earlier sync of {} failed", path.display()))]
    SyncLost {
        /// The partial file.
        path: PathBuf,
    },
    /// The tag is longer than [`TAG_LIMIT`](super::TAG_LIMIT).
    #[snafu(display("a tag of {len} bytes is too long"))]
    TagTooLong {
        /// Its length in bytes.
        len: usize,
    },
}

impl StreamingError {
    /// Whether stored bytes are no longer what was written. Fetching them again repairs it.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Cut { .. })
    }

    /// Whether the disk, a quota or the limit of the cache has no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        ))
    }
}

/// Keeps the kind that the system gave. The error is inside, for `get_ref().downcast_ref()`.
impl From<StreamingError> for io::Error {
    fn from(error: StreamingError) -> Self {
        let kind = match &error {
            StreamingError::Io { source, .. } => source.kind(),
            StreamingError::Cut { .. } | StreamingError::Damaged { .. } => io::ErrorKind::InvalidData,
            StreamingError::Taken { .. } | StreamingError::InUse { .. } => io::ErrorKind::ResourceBusy,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Why a wait ended without its range.
///
/// A failure is transparent: its text and its [`source`](Error::source) are the cause's. [`cause`](Self::cause) is the cause
/// itself.
#[non_exhaustive]
pub enum WaitError<E> {
    /// The resource failed: nobody fetches what is missing. Bytes that are present stay readable.
    Failed {
        /// The cause that its writer gave.
        source: Arc<E>,
    },
    /// [`Interrupter::interrupt`](super::Interrupter::interrupt) was called.
    Interrupted,
}

impl<E> WaitError<E> {
    /// Whether the wait was interrupted from this side.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Interrupted)
    }

    /// The cause that the resource's writer gave, if the resource failed.
    pub fn cause(&self) -> Option<&E> {
        match self {
            Self::Failed { source } => Some(source),
            Self::Interrupted => None,
        }
    }
}

// By hand, because derived ones would ask that `E` is `Clone`, `Debug` and `Display` for all uses.
impl<E> Clone for WaitError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed { source } => Self::Failed {
                source: source.clone(),
            },
            Self::Interrupted => Self::Interrupted,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for WaitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { source } => f.debug_struct("Failed").field("source", source).finish(),
            Self::Interrupted => f.write_str("Interrupted"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for WaitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { source } => source.fmt(f),
            Self::Interrupted => f.write_str("the wait was interrupted"),
        }
    }
}

impl<E: Error> Error for WaitError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { source } => source.source(),
            Self::Interrupted => None,
        }
    }
}

//! What can go wrong with a streaming resource: [`StreamingError`] for its file, [`WaitError`] for a wait.

use std::error::Error;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use snafu::Snafu;

/// Why an operation on a [`StreamingResource`](super::StreamingResource) was refused or failed.
#[non_exhaustive]
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum StreamingError {
    /// The file system, or the [`Budget`](super::Budget), said no.
    #[snafu(display("cannot {action} {}", path.display()))]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file it was done to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A [`Writer`](super::Writer) of this resource exists.
    #[snafu(display("{} is being written", path.display()))]
    Taken {
        /// Where the resource will stand.
        path: PathBuf,
    },
    /// Another resource, of this process or another one, holds the partial file.
    #[snafu(display("{} is held by another resource", path.display()))]
    InUse {
        /// The partial file.
        path: PathBuf,
    },
    /// The resource is complete; nothing can be written any more.
    #[snafu(display("{} is committed", path.display()))]
    Committed {
        /// Where the resource stands.
        path: PathBuf,
    },
    /// The resource was discarded; open it anew.
    #[snafu(display("{} was discarded", path.display()))]
    Discarded {
        /// Where the resource would have stood.
        path: PathBuf,
    },
    /// A commit found bytes missing. The writer can go on and fetch them.
    #[snafu(display("{} lacks bytes {}..{}", path.display(), missing.start, missing.end))]
    Incomplete {
        /// Where the resource will stand.
        path: PathBuf,
        /// The first missing range.
        missing: Range<u64>,
    },
    /// An end was said that contradicts an earlier one, or bytes already there.
    #[snafu(display("{} cannot end at {said}: {known} is known", path.display()))]
    EndConflict {
        /// Where the resource will stand.
        path: PathBuf,
        /// The end known before, or the end of the bytes present.
        known: u64,
        /// The end that was said.
        said: u64,
    },
    /// A write reaches beyond the known end, or beyond what a file can hold.
    #[snafu(display("bytes {}..{} lie beyond the end of {}", range.start, range.end, path.display()))]
    BeyondEnd {
        /// Where the resource will stand.
        path: PathBuf,
        /// The bytes of the write.
        range: Range<u64>,
    },
    /// The file has fewer bytes than were written to it: somebody else cut it.
    #[snafu(display("{} was cut at {offset} behind our back", path.display()))]
    Cut {
        /// The file.
        path: PathBuf,
        /// The byte that is gone.
        offset: u64,
    },
    /// These bytes are not what was written: the disk, or somebody else, changed them. What lies around them is checked
    /// by itself.
    #[snafu(display("bytes {}..{} of {} are damaged", range.start, range.end, path.display()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The bytes that one checksum covers, of which at least one is wrong.
        range: Range<u64>,
    },
    /// An earlier sync failed. What was not recorded before it may never reach the disk, whatever a later sync says,
    /// so the resource can neither be recorded nor committed: discard it.
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
    /// Whether stored bytes were found to be no longer what was written. Fetching them again mends it.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Cut { .. })
    }

    /// Whether the disk, a quota or the [`Budget`](super::Budget) has no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        ))
    }
}

/// Why a wait ended without its range.
///
/// [`source`](Error::source) of a failure is the cause itself, so `downcast_ref::<E>()` finds it.
#[non_exhaustive]
pub enum WaitError<E> {
    /// The resource failed: nobody fetches what is missing. Bytes already present stay readable.
    Failed {
        /// The cause its writer gave.
        source: Arc<E>,
    },
    /// [`Interrupter::interrupt`](super::Interrupter::interrupt) was called.
    Interrupted,
}

impl<E> WaitError<E> {
    /// Whether somebody on this side called the wait off.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Interrupted)
    }
}

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

impl<E> fmt::Display for WaitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed { .. } => "the missing bytes will not come",
            Self::Interrupted => "the wait was interrupted",
        })
    }
}

// By hand, because a derived `source()` would answer the `Arc`, which hides `E` from a downcast.
impl<E: Error + 'static> Error for WaitError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { source } => Some(&**source),
            Self::Interrupted => None,
        }
    }
}

/// Keeps the kind the system gave; the error is inside, for `get_ref().downcast_ref()`.
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

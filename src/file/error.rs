//! What can go wrong between a location and its bytes.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use snafu::Snafu;

use crate::cache::CacheError;
use crate::net::NetError;
use crate::storage::{StreamingError, WaitError};

/// Why a file cannot be read, or not any further.
///
/// One failure ends the wait of every reader, so its causes are shared and it is cheap to clone. URLs in it show no
/// query and no credentials.
#[non_exhaustive]
#[derive(Debug, Clone, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum FileError {
    /// The network or the server failed, tries included.
    #[snafu(display("{url} cannot be fetched"))]
    Net {
        /// The URL, redacted.
        url: String,
        /// What failed.
        #[snafu(source(from(NetError, Arc::new)))]
        source: Arc<NetError>,
    },
    /// The file on the server is not the one that earlier bytes came from. Opened again, it is fetched anew.
    #[snafu(display("{url} has changed on the server"))]
    Changed {
        /// The URL, redacted.
        url: String,
    },
    /// In offline mode, and not all of the file is in the cache.
    #[snafu(display("{resource} is not complete in the cache"))]
    OfflineMiss {
        /// The URL, redacted.
        resource: String,
        /// The missing bytes as far as they are known; empty if nothing is known of the file.
        missing: Vec<Range<u64>>,
        /// The file's length in bytes, if it is known.
        len: Option<u64>,
    },
    /// The bytes at `position` were let go, or cannot be asked for alone: the server does not serve ranges.
    #[snafu(display("{url} cannot be read at {position}: the server serves no ranges"))]
    NotSeekable {
        /// The URL, redacted.
        url: String,
        /// Where somebody wants to read.
        position: u64,
    },
    /// The server announced no length and closed the connection, which a failure does as well. All bytes up to
    /// `position` are right; see [`FileParams::accept_unproven_end`](super::FileParams::accept_unproven_end).
    #[snafu(display("{url} may end at {position}, or the connection broke"))]
    EndUnproven {
        /// The URL, redacted.
        url: String,
        /// Where the bytes end.
        position: u64,
    },
    /// A local file cannot be opened.
    #[snafu(display("cannot open {}", path.display()))]
    Local {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[snafu(source(from(io::Error, Arc::new)))]
        source: Arc<io::Error>,
    },
    /// What was stored cannot be read.
    #[snafu(display("stored bytes cannot be read"))]
    Stored {
        /// What the disk said.
        #[snafu(source(from(StreamingError, Arc::new)))]
        source: Arc<StreamingError>,
    },
    /// The cache cannot be asked whether it has the file. Only in offline mode; otherwise the file is fetched.
    #[snafu(display("the cache cannot be read"))]
    Cache {
        /// What the cache said.
        #[snafu(source(from(CacheError, Arc::new)))]
        source: Arc<CacheError>,
    },
    /// A URL, but the parameters hold no client.
    #[snafu(display("{url} needs an HTTP client"))]
    NoClient {
        /// The URL, redacted.
        url: String,
    },
    /// The [`FileDriver`](super::FileDriver) was dropped, so nobody fetches what is missing.
    #[snafu(display("the fetcher of the file was dropped"))]
    Stopped,
}

impl FileError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Net { source, .. } if source.is_transient())
    }

    /// Whether the server said that there is no such file, or there is none on the disk.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Net { source, .. } => source.is_not_found(),
            Self::Local { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether the file changed on the server while it was read: open it again.
    pub fn is_changed(&self) -> bool {
        matches!(self, Self::Changed { .. })
    }

    /// Whether the bytes are missing and offline mode forbids to fetch them.
    pub fn is_offline_miss(&self) -> bool {
        matches!(self, Self::OfflineMiss { .. })
    }

    /// The cause in an error that a [`Reader`](crate::io::Reader) gave, if the file failed.
    ///
    /// ```
    /// use kithara::file::FileError;
    ///
    /// assert!(FileError::of(&std::io::Error::other("something else")).is_none());
    /// ```
    pub fn of(error: &io::Error) -> Option<&Self> {
        match error.get_ref()?.downcast_ref::<WaitError<Self>>()? {
            WaitError::Failed { source } => Some(source),
            WaitError::Interrupted => None,
        }
    }
}

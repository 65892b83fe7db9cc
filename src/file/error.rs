//! What can go wrong between a location and its bytes.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use snafu::Snafu;

use crate::cache::CacheError;
use crate::media::NotMedia;
use crate::net::{Change, NetError};
use crate::storage::{StreamingError, WaitError};

/// Why a file cannot be read, or not any further.
///
/// Cheap to clone: one failure ends the wait of every reader, and they share its cause. URLs in it show no query and no
/// credentials.
// A variant that only carries another error is transparent: its text and its source are those of the other, so that the
// first line which a user sees names the cause.
#[non_exhaustive]
#[derive(Debug, Clone, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum FileError {
    /// The network or the server failed, and so did the retries.
    #[snafu(transparent)]
    Net {
        /// What failed.
        #[snafu(source(from(NetError, Arc::new)))]
        source: Arc<NetError>,
    },
    /// The file on the server is not the one that earlier bytes came from. Opened again, it is downloaded anew.
    #[snafu(display("{url} has changed on the server{}", Shown(*change)))]
    Changed {
        /// The URL, redacted.
        url: String,
        /// What shows it. `None` if bytes or the app's own key did, and no word of the server.
        change: Option<Change>,
    },
    /// The server told another length than before, or its file ends elsewhere, and nothing else says that it is another
    /// file: one that still grows, or whose length was a guess. All bytes that were given out are right.
    #[snafu(display(
        "{url}: its length was {before} bytes and is not any more: it grows, or that was a guess"
    ))]
    LengthChanged {
        /// The URL, redacted.
        url: String,
        /// The length that the server told first.
        before: u64,
        /// The length that it tells now, if that is another one.
        now: Option<u64>,
    },
    /// The server names the same file by another validator in each answer: machines behind one name, each with its own. The
    /// length is the same, so this is no change of the file. Opening it again does not help. The app has to say what else
    /// proves that it is the same file: [`FileParams::same_file`](super::FileParams::same_file).
    #[snafu(display("{url} has another validator in each answer, at the same length"))]
    UnstableValidators {
        /// The URL, redacted.
        url: String,
    },
    /// The server sent something that is no media: another network's login page, an error as JSON, an empty body. What the
    /// cache has of the file stays there.
    #[snafu(transparent)]
    NotMedia {
        /// What came.
        #[snafu(source(from(NotMedia, Arc::new)))]
        source: Arc<NotMedia>,
    },
    /// The file was opened offline, and not all of it is in the cache.
    #[snafu(display("offline, and {resource} is not complete in the cache"))]
    OfflineMiss {
        /// The URL, redacted.
        resource: String,
        /// The missing byte ranges, as far as they are known. Empty if nothing is known of the file.
        missing: Vec<Range<u64>>,
        /// The file's length in bytes, if it is known.
        len: Option<u64>,
    },
    /// The byte at `position` is not there and cannot be requested: the server serves no ranges, and nothing proves that
    /// the file read again from its start is the same one.
    #[snafu(display("{url} cannot be read at {position}: the server serves no ranges"))]
    NotSeekable {
        /// The URL, redacted.
        url: String,
        /// The byte that a reader waits for.
        position: u64,
    },
    /// The connection closed, and the server had announced no length: this is the end of the file or a failure. All bytes
    /// up to `position` are right. See [`FileParams::accept_unproven_end`](super::FileParams::accept_unproven_end).
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
        /// What the operating system said.
        #[snafu(source(from(io::Error, Arc::new)))]
        source: Arc<io::Error>,
    },
    /// Stored bytes cannot be read.
    #[snafu(transparent)]
    Stored {
        /// What failed.
        #[snafu(source(from(StreamingError, Arc::new)))]
        source: Arc<StreamingError>,
    },
    /// The file was opened offline, and the cache cannot tell whether it has it. Online, the file is downloaded then.
    #[snafu(transparent)]
    Cache {
        /// What failed.
        #[snafu(source(from(CacheError, Arc::new)))]
        source: Arc<CacheError>,
    },
    /// The location is a URL that is neither `http` nor `https`, nor the `file` URL of a path on this machine.
    #[snafu(display("{scheme}: URLs of this scheme cannot be opened"))]
    UnsupportedUrl {
        /// The scheme.
        scheme: String,
    },
    /// The location is a URL, and the parameters hold no client.
    #[snafu(display("{url} needs an HTTP client"))]
    NoClient {
        /// The URL, redacted.
        url: String,
    },
    /// The [`FileDriver`](super::FileDriver) was dropped, and with it the download of what is missing.
    #[snafu(display("the driver of the file was dropped"))]
    Stopped,
}

impl FileError {
    /// Whether the file, opened again, may play on a little later: the network or the server failed, or a station hung up
    /// ([`EndUnproven`](Self::EndUnproven)).
    pub fn is_transient(&self) -> bool {
        self.is_outage() || matches!(self, Self::EndUnproven { .. })
    }

    /// Whether the download goes on by itself: the next read of the same reader waits anew, and may succeed. Transient
    /// errors of other kinds end the download, and each further read fails at once.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Net { source } if source.is_transient())
    }

    /// Whether the server, or the operating system, has the file and does not give it out to this caller: status 401, 402,
    /// 403, 407 or 451, or no permission. Other credentials may help, time does not.
    pub fn is_forbidden(&self) -> bool {
        match self {
            Self::Net { source } => source.is_forbidden(),
            Self::Local { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// Whether the server says that the file is gone for good: status 410. Such a file [is not found](Self::is_not_found)
    /// either; of one that is not found with status 404 the server does not say whether it comes back.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Net { source } if source.is_gone())
    }

    /// Whether there is no such file, on the server or on the disk.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Net { source } => source.is_not_found(),
            Self::Local { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether the file changed on the server while it was read, or got another length. Open it again.
    pub fn is_changed(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::LengthChanged { .. })
    }

    /// What came in place of the file, if that was no media.
    pub fn not_media(&self) -> Option<&NotMedia> {
        match self {
            Self::NotMedia { source } => Some(source),
            _ => None,
        }
    }

    /// Whether bytes are missing and the file was opened offline.
    pub fn is_offline_miss(&self) -> bool {
        matches!(self, Self::OfflineMiss { .. })
    }

    /// The file's failure in an error of a [`Reader`](crate::io::Reader), if that is what it holds.
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

/// What shows a change, behind the sentence that tells of it.
struct Shown(Option<Change>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |change| write!(f, ": {change}"))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    /// The top line names the cause, and the chain does not repeat it.
    #[test]
    fn an_error_that_only_carries_another_one_is_transparent() {
        let net = || NetError::Connect {
            url: "http://a/".to_owned(),
            source: io::Error::from(io::ErrorKind::ConnectionRefused).into(),
        };
        let error = FileError::from(net());
        assert_eq!(error.to_string(), net().to_string());
        let source = error.source().map(ToString::to_string);
        assert_eq!(source, net().source().map(ToString::to_string));
        assert!(source.is_some());
    }
}

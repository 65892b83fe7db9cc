//! What an app can act on.

use std::{fmt, time::SystemTime};

use snafu::Snafu;

use super::DownloadId;
#[cfg(feature = "hls")]
use crate::hls::{HlsError, PlaylistError};
use crate::{
    cache::CacheError,
    file::FileError,
    media::{Bypass, DownloadError},
    storage::StreamingError,
};

/// Why a call of [`Downloads`](super::Downloads) failed.
#[non_exhaustive]
#[derive(Debug, Clone, Snafu)]
pub enum OfflineError {
    /// The cache failed.
    #[snafu(transparent)]
    Cache {
        /// What failed.
        source: CacheError,
    },
    /// A file cannot be looked at.
    #[snafu(transparent)]
    File {
        /// What failed.
        source: FileError,
    },
    /// A track cannot be looked at.
    #[cfg(feature = "hls")]
    #[snafu(transparent)]
    Hls {
        /// What failed.
        #[snafu(source(from(HlsError, Box::new)))]
        source: Box<HlsError>,
    },
    /// The access has no cache, or no client.
    #[snafu(display("downloads need a client and a cache"))]
    NoCache,
    /// There is no such download.
    #[snafu(display("there is no download {id}"))]
    Unknown {
        /// The id.
        id: DownloadId,
    },
    /// It may not be played offline any more. Its bytes are there.
    #[snafu(display("the download may not be played offline any more"))]
    Expired {
        /// Since when.
        since: SystemTime,
    },
    /// [`Downloads::run`](super::Downloads::run) runs already.
    #[snafu(display("the downloads run already"))]
    Running,
    /// The request is for something that this build cannot fetch, or that needs another feature.
    #[snafu(display("this kind of download is not built in"))]
    NotBuilt,
}

/// Why a download failed. It stays so until the app has it go on.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What an app can act on.
    pub cause: Cause,
    /// What happened, in a line, without secrets.
    pub message: String,
}

/// Why a download failed, as far as an app can act on it.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// There is no room: in the cache, under the budget of all downloads or this one's own, or on the disk.
    StorageFull {
        /// Bytes that are needed.
        need: u64,
        /// Bytes that there are: within the limit, or on the disk; 0 where the disk does not say.
        have: u64,
    },
    /// It changed on the server again and again while it was fetched.
    Changed,
    /// A key was refused, or is none.
    KeyRefused,
    /// The server refuses it: status 401, 402, 403, 407 or 451. Other credentials may help.
    Refused,
    /// It is not there (status 404), or for good (410).
    Gone,
    /// What came is no media and no playlist: the login page of a network, an error as JSON.
    NotMedia,
    /// The track is live: there is no end to download.
    Live,
    /// The crate cannot play it: another key system, a URL of another scheme, a playlist with an error in it.
    Unsupported,
    /// The server proves no end of it, or asks that it is not stored.
    NotKept,
    /// The network or the server failed in a way that may pass.
    Network,
    /// Something else; the message tells.
    Other,
}

impl Failure {
    pub(super) fn new(cause: Cause, message: impl fmt::Display) -> Self {
        Self {
            cause,
            message: message.to_string().replace(['\n', '\r'], " "),
        }
    }

    pub(super) fn full(need: u64, have: u64, of: &str) -> Self {
        let message = format!("{of}: {need} bytes needed, {have} there");
        Self::new(Cause::StorageFull { need, have }, message)
    }

    /// Whether the disk is full, of which nothing more is known yet.
    pub(super) fn is_full(&self) -> bool {
        self.cause == Cause::FULL
    }

    /// Of a source's download.
    pub(super) fn of<E: fmt::Display>(error: &DownloadError<E>, cause: impl FnOnce(&E) -> Cause) -> Self {
        let cause = match error {
            DownloadError::Source { source } => cause(source),
            DownloadError::NotKept { reason } => of_bypass(reason),
            _ => Cause::Other,
        };
        Self::new(cause, error)
    }
}

impl Cause {
    /// A full disk, whose figures the system's error does not have: they are looked for behind it.
    pub(super) const FULL: Self = Self::StorageFull { need: 0, have: 0 };
}

/// What an app can do about a call's failure.
pub(super) fn of_offline(error: &OfflineError) -> Failure {
    let cause = match error {
        OfflineError::Cache { source } => of_cache(source),
        OfflineError::File { source } => of_file(source),
        #[cfg(feature = "hls")]
        OfflineError::Hls { source } => of_hls(source),
        OfflineError::NotBuilt => Cause::Unsupported,
        _ => Cause::Other,
    };
    Failure::new(cause, error)
}

fn of_cache(error: &CacheError) -> Cause {
    match error {
        CacheError::CacheFull {
            needed,
            max_bytes,
            held,
        } => Cause::StorageFull {
            need: *needed,
            have: max_bytes.saturating_sub(*held),
        },
        error if error.is_full() => Cause::FULL,
        _ => Cause::Other,
    }
}

fn of_bypass(reason: &Bypass) -> Cause {
    match reason {
        Bypass::Refused(error) => of_cache(error),
        Bypass::Failed(StreamingError::Io { source, .. }) if reason.is_full() => {
            // The cache's own limit has figures of its own.
            let inside = source.get_ref().and_then(|inside| inside.downcast_ref());
            inside.map_or(Cause::FULL, of_cache)
        }
        Bypass::UnknownLength | Bypass::NoStore => Cause::NotKept,
        _ => Cause::Other,
    }
}

/// What an app can do about a file's failure.
pub(super) fn of_file(error: &FileError) -> Cause {
    match error {
        error if error.is_changed() => Cause::Changed,
        error if error.not_media().is_some() => Cause::NotMedia,
        error if error.is_forbidden() => Cause::Refused,
        error if error.is_not_found() => Cause::Gone,
        FileError::EndUnproven { .. } => Cause::NotKept,
        error if error.is_transient() => Cause::Network,
        FileError::UnstableValidators { .. } => Cause::Changed,
        FileError::UnsupportedUrl { .. } | FileError::NotSeekable { .. } => Cause::Unsupported,
        FileError::Cache { source } => of_cache(source),
        _ => Cause::Other,
    }
}

/// What an app can do about a track's failure.
#[cfg(feature = "hls")]
pub(super) fn of_hls(error: &HlsError) -> Cause {
    use crate::hls::ResourceKind;
    let is_key = |kind: ResourceKind| kind == ResourceKind::Key;
    match error {
        HlsError::Network { resource, source } if is_key(resource.kind()) && !source.is_transient() => {
            Cause::KeyRefused
        }
        HlsError::Key { .. } | HlsError::KeyLength { .. } | HlsError::Decrypt { .. } => Cause::KeyRefused,
        HlsError::Playlist {
            source: PlaylistError::Live,
            ..
        } => Cause::Live,
        HlsError::NotMedia { .. }
        | HlsError::Playlist {
            source: PlaylistError::NotAPlaylist { .. },
            ..
        } => Cause::NotMedia,
        HlsError::Changed { .. } | HlsError::EditionChanged { .. } | HlsError::Length { .. } => {
            Cause::Changed
        }
        HlsError::Playlist { .. } | HlsError::NoSuchVariant { .. } | HlsError::SameName { .. } => {
            Cause::Unsupported
        }
        error if error.is_forbidden() => Cause::Refused,
        error if error.is_not_found() => Cause::Gone,
        error if error.is_transient() => Cause::Network,
        HlsError::OfflineCache { source, .. } => of_cache(source),
        _ => Cause::Other,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

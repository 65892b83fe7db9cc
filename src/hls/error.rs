//! Why an HLS track stopped.

use std::fmt;

use snafu::Snafu;

use super::{CryptError, KeyRejected, PlaylistError};
use crate::{
    cache::CacheError,
    net::{NetError, Url, redacted},
};

/// Why an HLS track cannot be played on. The bytes delivered before it are right, and some are missing.
///
/// Nothing in it shows a URL's query, a key, or a header.
#[non_exhaustive]
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum HlsError {
    /// A playlist that is none, is broken, or asks for what this crate does not do.
    #[snafu(display("cannot use {resource}"))]
    Playlist {
        /// The playlist.
        resource: Resource,
        /// What is wrong, and on which line.
        source: PlaylistError,
    },
    /// The network or the server failed, retries included.
    #[snafu(display("cannot fetch {resource}"))]
    Network {
        /// What was being fetched.
        resource: Resource,
        /// What failed.
        source: NetError,
    },
    /// In offline mode, and not in the cache.
    #[snafu(display("offline, and {resource} is not in the cache"))]
    OfflineMiss {
        /// What is missing.
        resource: Resource,
    },
    /// In offline mode, and the cache could not read what it has.
    #[snafu(display("offline, and the cache cannot read {resource}"))]
    OfflineCache {
        /// What was being read.
        resource: Resource,
        /// What failed.
        source: CacheError,
    },
    /// The server answered with a web page instead of media.
    #[snafu(display("{resource} is a web page: it begins with {begins:?}"))]
    NotMedia {
        /// What was being fetched.
        resource: Resource,
        /// Its first characters.
        begins: String,
    },
    /// A resource has another length than the playlist or its earlier bytes say.
    #[snafu(display("{resource} has {received} bytes instead of {expected}"))]
    Length {
        /// The resource.
        resource: Resource,
        /// The bytes it should have.
        expected: u64,
        /// The bytes there were when it was clear that they are too few or too many.
        received: u64,
    },
    /// A key that is not 16 bytes, after the key processor if there is one.
    #[snafu(display("{resource} has {length} bytes instead of 16"))]
    KeyLength {
        /// The key.
        resource: Resource,
        /// Its length in bytes.
        length: usize,
    },
    /// The key processor refused a key.
    #[snafu(display("{resource} was refused"))]
    Key {
        /// The key.
        resource: Resource,
        /// The processor's reason.
        source: KeyRejected,
    },
    /// A resource does not decrypt.
    #[snafu(display("cannot decrypt {resource}"))]
    Decrypt {
        /// What was being decrypted.
        resource: Resource,
        /// What is wrong with it.
        source: CryptError,
    },
    /// Two resources of a track's playlists have one name in the cache: what the app's
    /// [`EntryNames`](crate::media::EntryNames) leave out is what tells them apart.
    #[snafu(display("{first} and {second} have the same name in the cache"))]
    SameName {
        /// The one that a playlist names first.
        first: Resource,
        /// The other one.
        second: Resource,
    },
    /// Something has to be fetched, and the parameters hold no client.
    #[snafu(display("{resource} needs an HTTP client"))]
    NoClient {
        /// What is missing.
        resource: Resource,
    },
    /// The playlist has no Variant Stream of the number asked for.
    #[snafu(display("there is no variant stream {index}: the playlist has {count}"))]
    NoSuchVariant {
        /// The number asked for, from 0.
        index: usize,
        /// How many there are.
        count: usize,
    },
}

impl HlsError {
    /// Whether going online would help: something is not in the cache, or not readable there.
    pub fn is_offline_miss(&self) -> bool {
        matches!(self, Self::OfflineMiss { .. } | Self::OfflineCache { .. })
    }

    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Network { source, .. } if source.is_transient())
    }

    /// Whether the server says that something does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Network { source, .. } if source.is_not_found())
    }
}

/// One of the files that a track is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    kind: ResourceKind,
    url: String,
}

impl Resource {
    pub(super) fn new(kind: ResourceKind, url: &Url) -> Self {
        Self {
            kind,
            url: redacted(url),
        }
    }

    /// What it is.
    pub fn kind(&self) -> ResourceKind {
        self.kind
    }

    /// Its URL without query and credentials.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ResourceKind::Playlist => f.write_str("playlist ")?,
            ResourceKind::InitializationSection => f.write_str("initialization section ")?,
            ResourceKind::Segment { media_sequence } => write!(f, "segment {media_sequence} ")?,
            ResourceKind::Key => f.write_str("key ")?,
        }
        f.write_str(&self.url)
    }
}

/// What a [`Resource`] is.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    /// A Multivariant or a Media Playlist.
    Playlist,
    /// A Media Initialization Section.
    InitializationSection,
    /// A Media Segment.
    Segment {
        /// Its Media Sequence Number.
        media_sequence: u64,
    },
    /// A decryption key.
    Key,
}

//! What a track is made of, as errors and messages name it.

use std::fmt;

use crate::net::{Url, redacted};

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
        write!(f, "{} {}", self.kind, self.url)
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

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Playlist => f.write_str("playlist"),
            Self::InitializationSection => f.write_str("initialization section"),
            Self::Segment { media_sequence } => write!(f, "segment {media_sequence}"),
            Self::Key => f.write_str("key"),
        }
    }
}

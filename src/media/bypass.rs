//! Why something is not kept.

use std::fmt;

use crate::{cache::CacheError, storage::StreamingError};

/// Why something is not kept in the cache, or not read from it. The bytes that the source gives out are right all the same.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum Bypass {
    /// There is no cache. Or it is in memory, and the file is longer than the window that the source may keep there.
    NoCache,
    /// The cache refused the entry: it is full of what must not be evicted, or it failed.
    Refused(CacheError),
    /// The entry could not be written, or not be read as it was written. With [`StreamingError::is_full`] the cache or the
    /// disk has no room. With [`StreamingError::is_damaged`] the damaged bytes are fetched again, and the entry has left
    /// the cache.
    Failed(StreamingError),
    /// Another source of this process fetches the same file, and its download cannot be shared.
    InUse,
    /// The server announced no length, so that a broken connection would look like the end. Or the length is unknown, and
    /// more bytes came than the source may keep of such a file.
    UnknownLength,
    /// The server asks that it is not stored, and the app has the source respect that.
    NoStore,
}

impl Bypass {
    /// Whether the cache or the disk has no room.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Refused(error) => error.is_full(),
            Self::Failed(error) => error.is_full(),
            _ => false,
        }
    }
}

/// The cause, where there is one: its own text.
impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCache => f.write_str("there is no cache for it"),
            Self::Refused(error) => error.fmt(f),
            Self::Failed(error) => error.fmt(f),
            Self::InUse => f.write_str("another source fetches it"),
            Self::UnknownLength => f.write_str("its length is unknown"),
            Self::NoStore => f.write_str("its server asks that it is not stored"),
        }
    }
}

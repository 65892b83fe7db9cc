//! What a file says beside its bytes.

use std::sync::Arc;

use crate::cache::CacheError;
use crate::storage::StreamingError;

/// A message of a [`FileSource`](super::FileSource), between its bytes.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum FileControl {
    /// The file is open; the first message.
    Opened {
        /// Where its bytes come from.
        origin: Origin,
        /// Its length in bytes, if it is known.
        len: Option<u64>,
    },
    /// What is fetched from here on is not kept: it goes through a window in memory (C16).
    CacheBypassed {
        /// Why.
        reason: Bypass,
    },
    /// The file is complete in the cache: from now on it plays without a connection.
    Cached,
}

/// Where the bytes of a file come from.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A local file.
    Local,
    /// The cache alone.
    Cache,
    /// The network, and what of the file the cache had.
    Network,
}

/// Why a file is not kept in the cache.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum Bypass {
    /// There is no cache, or one in memory and the file is longer than
    /// [`FileParams::window_bytes`](super::FileParams::window_bytes).
    NoCache,
    /// The cache refused: it is full of what must not go, or failed.
    Refused(Arc<CacheError>),
    /// The file could not be written, or not be read as it was written. With [`StreamingError::is_full`] cache or disk have
    /// no room; with [`StreamingError::is_damaged`] some of it is fetched again and the file has left the cache.
    Failed(Arc<StreamingError>),
    /// Another source of this process fetches the same file, and cannot be joined.
    InUse,
    /// Its length is unknown and its end cannot be proven, or it is longer than
    /// [`FileParams::unknown_length_limit`](super::FileParams::unknown_length_limit).
    UnknownLength,
}

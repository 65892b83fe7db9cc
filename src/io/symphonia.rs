//! The readers as Symphonia's sources.

use std::error::Error;

use symphonia_core::io::MediaSource;

use super::Reader;
#[cfg(feature = "stream")]
use super::StreamReader;
#[cfg(feature = "stream")]
use crate::stream::Source;

/// Seekable once the length is known. Symphonia's format readers seek to the end of a seekable source while they probe. So a
/// fetcher has to serve the tail cheaply, or the app wraps the reader in `symphonia_core::io::ReadOnlySource`.
impl<E: Error + Send + Sync + 'static> MediaSource for Reader<E> {
    fn is_seekable(&self) -> bool {
        self.len().is_some()
    }

    fn byte_len(&self) -> Option<u64> {
        self.len()
    }
}

/// Unseekable, of unknown length.
#[cfg(feature = "stream")]
impl<S: Source> MediaSource for StreamReader<S> {
    fn is_seekable(&self) -> bool {
        false
    }

    fn byte_len(&self) -> Option<u64> {
        None
    }
}

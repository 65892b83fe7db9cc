//! The readers as Symphonia's sources.

use std::error::Error;

use symphonia_core::io::MediaSource;

use super::Reader;
#[cfg(feature = "stream")]
use super::StreamReader;
#[cfg(feature = "stream")]
use crate::stream::Source;

/// Seekable where the length is known and missing bytes can come in any order. Symphonia's format readers seek to the end of a
/// seekable source while they probe: without ranges that would wait for the whole file.
impl<E: Error + Send + Sync + 'static> MediaSource for Reader<E> {
    fn is_seekable(&self) -> bool {
        self.len().is_some() && !self.resource().is_sequential()
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

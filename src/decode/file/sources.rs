//! What an input's bytes come from: a reader of the app's, a file that is arriving, or a stream.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use crate::{
    io::{Reader, StreamReadError, StreamReader, WaitError},
    stream,
};

/// Bytes with a position.
pub(super) trait Source: Read + Send {
    /// Goes to a position; `Unsupported` where only the next byte can be read.
    fn go_to(&mut self, position: u64) -> io::Result<()>;

    /// Whether it can go to any position.
    fn is_seekable(&self) -> bool;

    /// The length, once known.
    fn len(&self) -> Option<u64>;
}

/// The mark in an [`io::Error`] of a read that was given up on request.
#[derive(Debug)]
pub(super) struct GivenUp;

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for GivenUp {}

/// Any reader of the app's. Its length was asked for once: a reader may take a while to tell.
pub(super) struct AnyReader<R> {
    reader: R,
    len: u64,
}

impl<R> AnyReader<R> {
    pub(super) fn new(reader: R, len: u64) -> Self {
        Self { reader, len }
    }
}

impl<R: Read> Read for AnyReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl<R: Read + Seek + Send> Source for AnyReader<R> {
    fn go_to(&mut self, position: u64) -> io::Result<()> {
        self.reader.seek(SeekFrom::Start(position)).map(drop)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn len(&self) -> Option<u64> {
        Some(self.len)
    }
}

/// A file that may still be arriving.
pub(super) struct Arriving<E> {
    reader: Reader<E>,
}

impl<E> Arriving<E> {
    pub(super) fn new(reader: Reader<E>) -> Self {
        Self { reader }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> Read for Arriving<E> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            let wait = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<WaitError<E>>());
            if wait.is_some_and(WaitError::is_interrupted) {
                // One call of the interrupt ends one wait: the next one waits again.
                self.reader.interrupter().clear();
                return io::Error::other(GivenUp);
            }
            error
        })
    }
}

impl<E: std::error::Error + Send + Sync + 'static> Source for Arriving<E> {
    fn go_to(&mut self, position: u64) -> io::Result<()> {
        self.reader.seek(SeekFrom::Start(position)).map(drop)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn len(&self) -> Option<u64> {
        self.reader.len()
    }
}

/// Bytes that come in order, once.
pub(super) struct Streamed<S: stream::Source> {
    reader: StreamReader<S>,
}

impl<S: stream::Source> Streamed<S> {
    pub(super) fn new(reader: StreamReader<S>) -> Self {
        Self { reader }
    }
}

impl<S: stream::Source> Read for Streamed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Told apart by its type: an app's own source may fail in words like these.
        self.reader.read(buffer).map_err(|error| {
            let read = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<StreamReadError<S::Error>>());
            if read.is_some_and(StreamReadError::is_interrupted) {
                self.reader.interrupter().clear();
                return io::Error::other(GivenUp);
            }
            error
        })
    }
}

impl<S: stream::Source> Source for Streamed<S> {
    fn go_to(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn len(&self) -> Option<u64> {
        None
    }
}

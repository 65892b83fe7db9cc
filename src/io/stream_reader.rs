//! `Read` over a [`Stream`].

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use atomic_waker::AtomicWaker;
use bytes::{Buf, Bytes};
use futures_core::Stream as _;

use super::SeekError;
use crate::storage::block_on;
use crate::stream::{Source, Stream, StreamError};

/// Why a [`StreamReader`] could not read. Inside the [`io::Error`], for `get_ref().downcast_ref()`.
///
/// Its text and its `source()` are those of the error it carries.
#[non_exhaustive]
#[derive(Debug)]
pub enum StreamReadError<E: Error + 'static> {
    /// The stream failed. Each later read fails in the same way.
    Stream {
        /// The stream's error.
        source: Arc<StreamError<E>>,
    },
    /// [`StreamInterrupter::interrupt`] was called. Nothing is lost: after [`clear`](StreamInterrupter::clear) the next
    /// read goes on.
    Interrupted,
}

impl<E: Error + 'static> StreamReadError<E> {
    /// Whether the read was interrupted from another thread.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Interrupted)
    }

    /// The stream's error, if it was the stream that failed.
    pub fn stream_error(&self) -> Option<&StreamError<E>> {
        match self {
            Self::Stream { source } => Some(source),
            Self::Interrupted => None,
        }
    }

    /// The source's own error, if it was the source that failed.
    pub fn source_error(&self) -> Option<&E> {
        self.stream_error()?.source_error()
    }
}

// By hand, because a derived one would ask that `E` is `Clone`.
impl<E: Error + 'static> Clone for StreamReadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Stream { source } => Self::Stream {
                source: Arc::clone(source),
            },
            Self::Interrupted => Self::Interrupted,
        }
    }
}

impl<E: Error + 'static> fmt::Display for StreamReadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream { source } => source.fmt(f),
            Self::Interrupted => f.write_str("the read was interrupted"),
        }
    }
}

impl<E: Error + 'static> Error for StreamReadError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Stream { source } => source.source(),
            Self::Interrupted => None,
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<StreamReadError<E>> for io::Error {
    /// The kind is [`io::ErrorKind::Other`], never `Interrupted`, which callers take for "try again".
    fn from(error: StreamReadError<E>) -> Self {
        Self::other(error)
    }
}

/// Reads any [`Stream`] as a blocking `Read`, for decoders that take bytes in order.
///
/// - A read returns bytes of the chunk at hand, at least one. Without one it blocks until the stream yields.
/// - `Ok(0)` means that the source ended, or an empty buffer. Every other way to stop is an error.
/// - The [`io::Error`] holds a [`StreamReadError`], and that the source's own error. After an error or the end each later
///   read gives the same again.
/// - A blocked read ends with an error after an [interrupt](StreamInterrupter::interrupt).
/// - Dropping the reader stops the source, as dropping the stream does.
///
/// The stream may be [spawned](Stream::new), run by a [driver](Stream::with_driver) of the app's, or
/// [inline](Stream::inline): then the source runs on the thread that reads. Reading on the thread that is to run the
/// driver waits for ever.
///
/// It cannot seek. `Seek` is there because decoders ask for it: it tells the position, and refuses everything else with
/// [`SeekError::Unseekable`]. With the feature `symphonia` it is an unseekable `MediaSource`. A [seek of the
/// stream](crate::stream::Handle::seek_bytes) takes effect behind the chunk at hand, and the position counts on.
///
/// ```
#[doc = include_str!("../stream/doctest_track.txt")]
/// use std::io::Read;
///
/// use kithara::io::StreamReader;
///
/// let stream = Stream::new(Track::default(), StreamParams::default());
/// let mut song = String::new();
/// StreamReader::new(stream).read_to_string(&mut song)?;
/// assert_eq!(song, "do re mi");
/// # Ok::<_, std::io::Error>(())
/// ```
pub struct StreamReader<S: Source> {
    stream: Stream<S>,
    /// What is left of the last chunk.
    chunk: Bytes,
    position: u64,
    failure: Option<Arc<StreamError<S::Error>>>,
    signal: Arc<Signal>,
}

/// What a reader shares with its interrupters.
#[derive(Default)]
struct Signal {
    interrupted: AtomicBool,
    reader: AtomicWaker,
}

impl<S: Source> StreamReader<S> {
    /// Reads `stream` from its next item on.
    pub fn new(stream: Stream<S>) -> Self {
        Self {
            stream,
            chunk: Bytes::new(),
            position: 0,
            failure: None,
            signal: Arc::default(),
        }
    }

    /// The stream that it reads: for a [`handle`](Stream::handle), and for where its items stand.
    pub fn stream(&self) -> &Stream<S> {
        &self.stream
    }

    /// How many bytes were read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// A handle that ends blocked reads from another thread.
    pub fn interrupter(&self) -> StreamInterrupter {
        StreamInterrupter {
            signal: Arc::clone(&self.signal),
        }
    }

    /// Reads another stream from here on, which stands at `position`. Interrupters hold for it too.
    #[cfg(feature = "hls")]
    pub(crate) fn restart(&mut self, stream: Stream<S>, position: u64) {
        (self.chunk, self.failure) = (Bytes::new(), None);
        (self.stream, self.position) = (stream, position);
    }

    /// Moves on to `position` if that lies in the chunk at hand, or just behind it. `false` if it does not.
    #[cfg(feature = "hls")]
    pub(crate) fn skip_to(&mut self, position: u64) -> bool {
        let distance = position.checked_sub(self.position);
        let within = distance.filter(|distance| *distance <= self.chunk.len() as u64);
        let Some(distance) = within.and_then(|distance| usize::try_from(distance).ok()) else {
            return false;
        };
        self.chunk.advance(distance);
        self.position = position;
        true
    }

    /// Waits for the next chunk. False at the end.
    fn next_chunk(&mut self) -> Result<bool, StreamReadError<S::Error>> {
        // The stream itself answers `None` after an error: without this the next read would be a false end.
        if let Some(source) = &self.failure {
            return Err(StreamReadError::Stream {
                source: Arc::clone(source),
            });
        }
        let (stream, signal) = (&mut self.stream, &self.signal);
        let item = block_on(poll_fn(|cx| {
            // Registered before the flag is read: an interrupt from here on finds the waker, an earlier one is seen.
            signal.reader.register(cx.waker());
            // Polled before the flag is read: what is there is read, interrupted or not.
            match Pin::new(&mut *stream).poll_next(cx) {
                Poll::Pending if signal.interrupted.load(Ordering::Acquire) => Poll::Ready(None),
                polled => polled.map(Some),
            }
        }));
        match item {
            Some(Some(Ok(chunk))) => {
                self.chunk = chunk;
                Ok(true)
            }
            Some(None) => Ok(false),
            Some(Some(Err(error))) => {
                let source = Arc::new(error);
                self.failure = Some(Arc::clone(&source));
                Err(StreamReadError::Stream { source })
            }
            None => Err(StreamReadError::Interrupted),
        }
    }
}

impl<S: Source> Read for StreamReader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Before the wait: a read of nothing must not block.
        if buffer.is_empty() {
            return Ok(0);
        }
        // A loop, as a chunk may be empty: to answer 0 for it would be a false end.
        while self.chunk.is_empty() {
            if !self.next_chunk()? {
                return Ok(0);
            }
        }
        let count = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(buffer.split_at_mut(count).0);
        self.position += count as u64;
        Ok(count)
    }
}

/// Tells the position; cannot move.
impl<S: Source> Seek for StreamReader<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            // Decoders ask for their position like this.
            SeekFrom::Current(0) => Ok(self.position),
            SeekFrom::Start(position) if position == self.position => Ok(position),
            _ => Err(SeekError::Unseekable.into()),
        }
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.position)
    }
}

impl<S: Source> fmt::Debug for StreamReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader")
            .field("position", &self.position)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// Ends the reads of one [`StreamReader`] that would block, now and from now on, until [`clear`](Self::clear).
///
/// Bytes that are there are still read: only waiting ends. An interrupt stays in force, so that one a moment before the
/// wait is not lost.
#[derive(Clone)]
pub struct StreamInterrupter {
    signal: Arc<Signal>,
}

impl StreamInterrupter {
    /// Ends the blocked read with [`StreamReadError::Interrupted`], and each later one that would block.
    pub fn interrupt(&self) {
        // In this order: the reader that is woken has to find the flag.
        self.signal.interrupted.store(true, Ordering::Release);
        self.signal.reader.wake();
    }

    /// Reads block again.
    pub fn clear(&self) {
        self.signal.interrupted.store(false, Ordering::Release);
    }
}

impl fmt::Debug for StreamInterrupter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamInterrupter").finish_non_exhaustive()
    }
}

//! What the readers of this folder read from: any bytes with a position.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use symphonia::core::io::MediaSource;

use crate::{
    decode::{DecodeError, source::Interrupt},
    io::{Reader, StreamReadError, StreamReader, WaitError},
    stream,
};

/// How much is read at once.
pub(super) const CHUNK: usize = 64 * 1024;

/// How much of the start is kept, so that a source that cannot go back can be sniffed.
const HEAD: usize = 64 * 1024;

/// The mark in an [`io::Error`] of a read that was given up on request.
#[derive(Debug)]
pub(super) struct GivenUp;

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for GivenUp {}

/// A read's error, told apart from one that was asked for.
pub(super) fn read_error(error: io::Error) -> DecodeError {
    let Some(inner) = error.get_ref() else {
        return error.into();
    };
    if inner.is::<GivenUp>() {
        return DecodeError::Interrupted;
    }
    // What a file's source says is worth more than that a read failed.
    #[cfg(feature = "file")]
    if let Some(WaitError::Failed { source }) = inner.downcast_ref::<WaitError<crate::file::FileError>>() {
        return DecodeError::File {
            source: Arc::clone(source),
        };
    }
    error.into()
}

/// Bytes with a position.
pub(super) trait Source: Read + Send {
    /// Goes to a position; `Unsupported` where only the next byte can be read.
    fn go_to(&mut self, position: u64) -> io::Result<()>;

    /// Whether it can go to any position.
    fn is_seekable(&self) -> bool;

    /// The length, once known.
    fn len(&self) -> Option<u64>;
}

/// Shared access to the bytes of one track. Each reader has its own position.
#[derive(Clone)]
pub(crate) struct Input {
    inner: Arc<Mutex<Inner>>,
    interrupt: Interrupt,
}

struct Inner {
    source: Box<dyn Source>,
    position: u64,
    head: Vec<u8>,
}

impl Input {
    pub(super) fn new(source: impl Source + 'static, interrupt: Interrupt) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                source: Box::new(source),
                position: 0,
                head: Vec::new(),
            })),
            interrupt,
        }
    }

    /// Any reader. Its reads cannot be given up from outside.
    pub(crate) fn from_reader(mut reader: impl Read + Seek + Send + 'static) -> io::Result<Self> {
        let len = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        Ok(Self::new(AnyReader { reader, len }, Arc::new(|| {})))
    }

    /// A file that may still be arriving. A read that waits can be given up.
    pub(crate) fn from_resource<E>(reader: Reader<E>) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let interrupter = reader.interrupter();
        Self::new(Arriving { reader }, Arc::new(move || interrupter.interrupt()))
    }

    /// Bytes that can be read in order only. A read that waits can be given up.
    pub(crate) fn from_stream<S: stream::Source>(reader: StreamReader<S>) -> Self {
        let interrupter = reader.interrupter();
        Self::new(Streamed { reader }, Arc::new(move || interrupter.interrupt()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic inside a reader leaves a position that does not fit: the next read seeks to its own.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> Option<u64> {
        self.lock().source.len()
    }

    /// Whether every position can be read at any time, and the end is known.
    pub(super) fn is_seekable(&self) -> bool {
        let inner = self.lock();
        inner.source.is_seekable() && inner.source.len().is_some()
    }

    pub(crate) fn interrupt(&self) -> Interrupt {
        Arc::clone(&self.interrupt)
    }

    /// Reads some bytes at `position`; 0 at the end alone.
    ///
    /// # Errors
    ///
    /// `Interrupted`, `Io`.
    pub(super) fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, DecodeError> {
        self.lock().read_at(position, buffer).map_err(read_error)
    }

    /// Up to `length` bytes at `position`, fewer at the end alone. What is allocated grows with what is there.
    ///
    /// # Errors
    ///
    /// `Interrupted`, `Io`.
    pub(super) fn bytes_at(&self, position: u64, length: usize) -> Result<Bytes, DecodeError> {
        let mut read = Vec::new();
        while read.len() < length {
            let start = read.len();
            read.resize(length.min(start + CHUNK), 0);
            let into = read.get_mut(start..).unwrap_or_default();
            let count = self.read_at(position + start as u64, into)?;
            read.truncate(start + count);
            if count == 0 {
                break;
            }
        }
        Ok(read.into())
    }

    /// What one read gives at `position`: at least a byte, unless that is the end.
    ///
    /// # Errors
    ///
    /// `Interrupted`, `Io`.
    pub(super) fn some_at(&self, position: u64, most: usize) -> Result<Bytes, DecodeError> {
        let mut read = vec![0; most.min(CHUNK)];
        let count = self.read_at(position, &mut read)?;
        read.truncate(count);
        Ok(read.into())
    }
}

/// Some bytes of an input, for a reader that takes it in small pieces one after another.
#[derive(Debug, Default)]
pub(super) struct Window {
    start: u64,
    bytes: Bytes,
}

impl Window {
    /// `length` bytes at `at`; fewer at the end alone. Waits for no more than these.
    ///
    /// # Errors
    ///
    /// `Interrupted`, `Io`.
    pub(super) fn get(&mut self, input: &Input, at: u64, length: usize) -> Result<Bytes, DecodeError> {
        let inside = at
            .checked_sub(self.start)
            .and_then(|offset| usize::try_from(offset).ok())
            .filter(|offset| *offset < self.bytes.len());
        let mut bytes = inside.map_or_else(Bytes::new, |offset| self.bytes.slice(offset..));
        while bytes.len() < length {
            let more = input.some_at(at + bytes.len() as u64, CHUNK)?;
            if more.is_empty() {
                break;
            }
            bytes = if bytes.is_empty() {
                more
            } else {
                [bytes, more].concat().into()
            };
        }
        let wanted = bytes.slice(..length.min(bytes.len()));
        (self.start, self.bytes) = (at, bytes);
        Ok(wanted)
    }
}

impl Inner {
    fn read_at(&mut self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // A source that can go back is asked again: its bytes are in a cache.
        if !self.source.is_seekable() {
            let kept = usize::try_from(position).ok().and_then(|at| self.head.get(at..));
            if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
                let count = kept.len().min(buffer.len());
                for (into, from) in buffer.iter_mut().zip(kept) {
                    *into = *from;
                }
                return Ok(count);
            }
            if position < self.position {
                return Err(io::ErrorKind::Unsupported.into());
            }
            while self.position < position {
                let mut skipped = [0; 4096];
                let left = usize::try_from(position - self.position).unwrap_or(usize::MAX);
                let part = skipped.get_mut(..left.min(4096)).unwrap_or_default();
                if self.read_on(part)? == 0 {
                    return Ok(0);
                }
            }
        } else if self.position != position {
            self.source.go_to(position)?;
            self.position = position;
        }
        self.read_on(buffer)
    }

    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = loop {
            match self.source.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if !self.source.is_seekable() && self.position == self.head.len() as u64 {
            let room = HEAD - self.head.len();
            self.head.extend(buffer.iter().take(count.min(room)));
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

struct AnyReader<R> {
    reader: R,
    len: u64,
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

struct Arriving<E> {
    reader: Reader<E>,
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

struct Streamed<S: stream::Source> {
    reader: StreamReader<S>,
}

impl<S: stream::Source> Read for Streamed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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

/// A part of an input behind a head of our own making, as one of Symphonia's sources.
///
/// ```text
///   input    [ tags │ header │ … │ frames … frames │ tags ]
///   view     [ head ]            [ frames … frames ]
/// ```
pub(super) struct View {
    input: Input,
    head: Bytes,
    start: u64,
    end: Option<u64>,
    position: u64,
    hides_tag: bool,
}

impl View {
    /// `head`, then the input's bytes from `start` to `end`.
    pub(super) fn new(input: Input, head: Bytes, start: u64, end: Option<u64>) -> Self {
        Self {
            input,
            head,
            start,
            end,
            position: 0,
            hides_tag: false,
        }
    }

    /// Ends before an `ID3v1` tag at the end of the input. It is looked for when it is reached: to look earlier costs a request
    /// before the first sound.
    pub(super) fn hides_tag(mut self) -> Self {
        self.hides_tag = true;
        self
    }

    /// How many bytes may be read at `at` without reading into the tag.
    fn before_tag(&self, inner: &mut Inner, at: u64) -> io::Result<u64> {
        let tag = inner.source.len().and_then(|len| len.checked_sub(128));
        let Some(tag) = tag.filter(|_| self.hides_tag && inner.source.is_seekable()) else {
            return Ok(u64::MAX);
        };
        if at != tag {
            return Ok(tag.checked_sub(at).unwrap_or(u64::MAX));
        }
        let mut mark = [0; 3];
        let read = inner.read_at(tag, &mut mark)?;
        Ok(if read == 3 && mark == *b"TAG" { 0 } else { u64::MAX })
    }
}

impl Read for View {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let in_head = usize::try_from(self.position)
            .ok()
            .and_then(|at| self.head.get(at..))
            .filter(|head| !head.is_empty());
        let count = if let Some(head) = in_head {
            for (into, from) in buffer.iter_mut().zip(head) {
                *into = *from;
            }
            head.len().min(buffer.len())
        } else {
            let at = self.start + (self.position - self.head.len() as u64);
            let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(at));
            let mut inner = self.input.lock();
            let left = left.min(self.before_tag(&mut inner, at)?);
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            inner.read_at(at, buffer.get_mut(..most).unwrap_or_default())?
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for View {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            SeekFrom::End(distance) => self
                .byte_len()
                .ok_or(io::ErrorKind::Unsupported)?
                .checked_add_signed(distance),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl MediaSource for View {
    // Without a length Symphonia's readers must take it for unseekable: they look for the end of whatever can be sought in.
    fn is_seekable(&self) -> bool {
        self.byte_len().is_some() && self.input.lock().source.is_seekable()
    }

    fn byte_len(&self) -> Option<u64> {
        let end = self.end.or_else(|| self.input.len())?;
        Some(self.head.len() as u64 + end.saturating_sub(self.start))
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use super::*;

    /// Gives a few bytes at a time and cannot go back.
    struct Dripping(Vec<u8>);

    impl Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(buffer.len()).min(1000);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    impl Source for Dripping {
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

    fn numbers(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn a_source_that_cannot_go_back_can_be_sniffed() {
        let all = numbers(200_000);
        let input = Input::new(Dripping(all.clone()), Arc::new(|| {}));
        assert_eq!(input.bytes_at(0, 10).unwrap(), all[..10]);
        assert_eq!(input.bytes_at(0, 60_000).unwrap(), all[..60_000]);
        assert_eq!(input.bytes_at(500, 100).unwrap(), all[500..600]);
        assert_eq!(input.bytes_at(100_000, 1_000_000).unwrap(), all[100_000..]);
        assert!(input.bytes_at(90_000, 1).is_err(), "gone by");
        assert!(!input.is_seekable());
    }

    #[test]
    fn a_view_is_its_head_and_a_part_of_the_input() {
        let all = numbers(1000);
        let input = Input::from_reader(io::Cursor::new(all.clone())).unwrap();
        let mut view = View::new(input, Bytes::from_static(b"head"), 100, Some(900));
        let want = [b"head", &all[100..900]].concat();
        assert_eq!(view.byte_len(), Some(804));
        let mut read = Vec::new();
        view.read_to_end(&mut read).unwrap();
        assert_eq!(read, want);
        view.seek(SeekFrom::End(-5)).unwrap();
        read.clear();
        view.read_to_end(&mut read).unwrap();
        assert_eq!(read, want[799..]);
    }

    #[test]
    fn a_tag_at_the_end_is_hidden_and_nothing_else() {
        for tag in [&b"TAG"[..], b"TAB"] {
            let mut all = numbers(1000);
            all[872..875].copy_from_slice(tag);
            let input = Input::from_reader(io::Cursor::new(all.clone())).unwrap();
            let mut view = View::new(input, Bytes::new(), 10, None).hides_tag();
            let mut read = Vec::new();
            view.read_to_end(&mut read).unwrap();
            assert_eq!(read, all[10..if tag == b"TAG" { 872 } else { 1000 }]);
        }
    }
}

//! What the readers of this folder read from: any bytes with a position.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::sources::{AnyReader, Arriving, GivenUp, Source, Streamed};
use crate::{
    decode::{DecodeError, source::Interrupt},
    io::{Reader, StreamReader, WaitError},
    stream,
};

/// How much is read at once.
pub(super) const CHUNK: usize = 64 * 1024;

/// How much is kept from where the sound may begin, so that a source that cannot go back can be sniffed: as much as is
/// looked at before the first packet is read.
const HEAD: usize = super::sniff::SEARCH;

/// A read's error, told apart from one that was asked for.
pub(super) fn read_error(error: io::Error) -> DecodeError {
    // An error of the system has none inside: it is told as it is.
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

/// Shared access to the bytes of one track. Each reader has its own position.
#[derive(Clone)]
pub(crate) struct Input {
    /// Taken out while it is read, and put back behind that: a read of the app's own reader runs under no lock.
    inner: Arc<Mutex<Option<Inner>>>,
    interrupt: Interrupt,
}

/// The bytes, for one reader at a time.
pub(super) struct Inner {
    pub(super) source: Box<dyn Source>,
    position: u64,
    /// The first bytes from `head_start` on, of a source that cannot go back.
    head: Vec<u8>,
    head_start: u64,
}

impl Input {
    pub(super) fn new(source: impl Source + 'static, interrupt: Interrupt) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Some(Inner {
                source: Box::new(source),
                position: 0,
                head: Vec::new(),
                head_start: 0,
            }))),
            interrupt,
        }
    }

    /// Any reader. Its reads cannot be given up from outside.
    pub(crate) fn from_reader(mut reader: impl Read + Seek + Send + 'static) -> io::Result<Self> {
        // Asked for once, and now: a reader of an app may take a request for it.
        let len = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        Ok(Self::new(AnyReader::new(reader, len), Arc::new(|| {})))
    }

    /// A file that may still be arriving. A read that waits can be given up.
    pub(crate) fn from_resource<E>(reader: Reader<E>) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let interrupter = reader.interrupter();
        Self::new(Arriving::new(reader), Arc::new(move || interrupter.interrupt()))
    }

    /// Bytes that can be read in order only. A read that waits can be given up.
    pub(crate) fn from_stream<S: stream::Source>(reader: StreamReader<S>) -> Self {
        let interrupter = reader.interrupter();
        Self::new(Streamed::new(reader), Arc::new(move || interrupter.interrupt()))
    }

    /// Calls `call` with the bytes; `None` while a call on another thread has them. One thread drives a track, so none has,
    /// but where an app prints a track that is being read.
    pub(super) fn with<T>(&self, call: impl FnOnce(&mut Inner) -> T) -> Option<T> {
        let taken = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        // Put back also when a reader panics. The position that it leaves may not fit: the next read seeks to its own.
        let mut borrowed = Borrowed {
            place: &self.inner,
            inner: Some(taken),
        };
        borrowed.inner.as_mut().map(call)
    }

    pub(super) fn len(&self) -> Option<u64> {
        self.with(|inner| inner.source.len()).flatten()
    }

    /// Whether any position can be gone to.
    pub(super) fn goes_back(&self) -> bool {
        self.with(|inner| inner.source.is_seekable()).unwrap_or(false)
    }

    /// Whether every position can be read at any time, and the end is known.
    pub(super) fn is_seekable(&self) -> bool {
        self.with(|inner| inner.source.is_seekable() && inner.source.len().is_some())
            .unwrap_or(false)
    }

    /// Sniffing goes on at `start`: a source that cannot go back keeps its first bytes from there, and forgets those before.
    pub(super) fn keep_from(&self, start: u64) {
        self.with(|inner| {
            let before = start.saturating_sub(inner.head_start);
            let before = usize::try_from(before)
                .unwrap_or(usize::MAX)
                .min(inner.head.len());
            drop(inner.head.drain(..before));
            inner.head_start = start;
        });
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
        self.with(|inner| inner.read_at(position, buffer))
            .unwrap_or_else(|| Err(io::ErrorKind::ResourceBusy.into()))
            .map_err(read_error)
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
            // In steps: a length that a damaged header announces is no reason to allocate it.
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
        // One read, and not until it is full: what has arrived is enough to go on.
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
        // Mostly the next bytes, and those are here: a request to the file for each packet would cost a system call each.
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

/// The bytes while they are read.
struct Borrowed<'a> {
    place: &'a Mutex<Option<Inner>>,
    inner: Option<Inner>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = self.inner.take();
    }
}

impl Inner {
    /// Reads some bytes at `position`; 0 at the end alone.
    ///
    /// # Errors
    ///
    /// `Unsupported` for bytes that have gone by, and those of the source.
    pub(super) fn read_at(&mut self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // A source that can go back is asked again: its bytes are in a cache.
        if !self.source.is_seekable() {
            let kept = position
                .checked_sub(self.head_start)
                .and_then(|at| self.head.get(usize::try_from(at).ok()?..));
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
            // Read and dropped: such a source has no other way forward.
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
                // A signal, and none of our interrupts, which are typed: the read is to be made again.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        // Without a gap only: bytes behind one that was passed over would be taken for those in it.
        if !self.source.is_seekable() && self.position == self.head_start + self.head.len() as u64 {
            // Beyond this nothing is looked at twice, and a station would fill the memory.
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

#[cfg(test)]
pub(super) mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use super::*;

    /// Gives a few bytes at a time and cannot go back.
    pub(in crate::decode::file) struct Dripping(pub(in crate::decode::file) Vec<u8>);

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

    /// A reader of the app's that shows the track it belongs to, as a log line may.
    struct Showing(Arc<Mutex<Option<Input>>>);

    impl Read for Showing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            let input = self.0.lock().unwrap().clone();
            let shown = std::thread::spawn(move || format!("{input:?}"));
            assert!(shown.join().unwrap().contains("Input"));
            Ok(0)
        }
    }

    impl Seek for Showing {
        fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }

    /// Under the input's lock this would wait for ever.
    #[test]
    fn a_reader_of_the_app_s_runs_under_no_lock() {
        let place = Arc::new(Mutex::new(None));
        let input = Input::from_reader(Showing(Arc::clone(&place))).unwrap();
        *place.lock().unwrap() = Some(input.clone());
        assert_eq!(input.bytes_at(0, 10).unwrap(), b""[..]);
        *place.lock().unwrap() = None;
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
    fn the_head_is_kept_from_where_sniffing_goes_on() {
        let all = numbers(300_000);
        for start in [20, 1400, 100_000] {
            let input = Input::new(Dripping(all.clone()), Arc::new(|| {}));
            assert_eq!(input.bytes_at(0, 400).unwrap(), all[..400]);
            input.keep_from(start as u64);
            for _ in 0..2 {
                assert_eq!(
                    input.bytes_at(start as u64, HEAD).unwrap(),
                    all[start..start + HEAD]
                );
            }
            assert_eq!(
                input.bytes_at(start as u64 + 100, HEAD).unwrap(),
                all[start + 100..start + 100 + HEAD]
            );
        }
    }
}

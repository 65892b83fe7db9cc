//! `Read + Seek` over a [`StreamingResource`].

use std::error::Error;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use snafu::Snafu;

use crate::storage::{Found, Interrupter, StreamingResource, Waiter};

/// Why a seek was refused. The position is as before. Inside the [`io::Error`], for `get_ref().downcast_ref()`.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Snafu)]
pub enum SeekError {
    /// The seek was relative to the end, and the length is not known. Its kind is [`io::ErrorKind::Unsupported`].
    #[snafu(display("the length is not known yet"))]
    UnknownLength,
    /// The target lies before the start, or beyond what a file position can be. Its kind is [`io::ErrorKind::InvalidInput`].
    #[snafu(display("the position would be negative or overflow"))]
    OutOfRange,
    /// A stream gives its bytes in order only. Its kind is [`io::ErrorKind::Unsupported`].
    #[snafu(display("a stream cannot seek"))]
    Unseekable,
}

impl From<SeekError> for io::Error {
    fn from(error: SeekError) -> Self {
        let kind = match error {
            SeekError::UnknownLength | SeekError::Unseekable => io::ErrorKind::Unsupported,
            SeekError::OutOfRange => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// Reads a [`StreamingResource`] while it arrives, like a [`File`](std::fs::File) whose reads may wait.
///
/// - A read returns the bytes present from its position on, at least one. It blocks while there is none.
/// - `Ok(0)` means the proven end, or an empty buffer. A missing byte is never an end.
/// - A read that would wait ends with an error when the resource fails, or after an [interrupt](Interrupter::interrupt). The
///   [`io::Error`] holds a [`WaitError<E>`](crate::storage::WaitError). Bytes that are present are read all the same. The kind
///   is never `Interrupted`, which callers take for "try again".
/// - Seeks do no I/O and behave as those of a `File`: a position behind the end is allowed, and a read there gives `Ok(0)` once
///   the end is proven. A fetcher learns of the new position by the next read.
///
/// It is `Send + Sync + 'static`, so that rodio takes it as it is. With the feature `symphonia` it is a `MediaSource`.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::io::{Read, Seek, SeekFrom};
/// use kithara::{io::Reader, storage::StreamingResource};
///
/// let track = StreamingResource::<std::io::Error>::open(dir.path().join("track.ogg"))?;
/// let mut reader = Reader::new(&track);
///
/// // A fetcher on another thread writes, in any order.
/// let mut writer = track.writer()?;
/// let fetch = std::thread::spawn(move || {
///     writer.write_at(4, b"tail")?;
///     writer.write_at(0, b"head")?;
///     writer.commit(8)
/// });
///
/// let mut head = [0; 4];
/// reader.read_exact(&mut head)?;
/// assert_eq!(&head, b"head");
/// fetch.join().unwrap()?;
/// reader.seek(SeekFrom::End(-2))?;
/// assert_eq!(std::io::read_to_string(reader)?, "il");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader<E> {
    waiter: Waiter<E>,
    position: u64,
    /// Whether the next read is behind a seek.
    jumped: bool,
}

impl<E> Reader<E> {
    /// A reader at the start of `resource`, beside any others.
    pub fn new(resource: &StreamingResource<E>) -> Self {
        Self {
            waiter: resource.reading(0),
            position: 0,
            jumped: false,
        }
    }

    /// The next byte to read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The length in bytes, once known.
    pub fn len(&self) -> Option<u64> {
        self.resource().len()
    }

    /// Whether the length is known to be 0.
    pub fn is_empty(&self) -> bool {
        self.resource().is_empty()
    }

    /// The resource that it reads: to see which bytes are [available](StreamingResource::available), or to
    /// [watch](StreamingResource::watch) buffering and stalls.
    pub fn resource(&self) -> &StreamingResource<E> {
        self.waiter.resource()
    }

    /// A handle that ends this reader's waits from another thread.
    pub fn interrupter(&self) -> Interrupter<E> {
        self.waiter.interrupter()
    }
}

impl<E: Error + Send + Sync + 'static> Read for Reader<E> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut turn = None;
        loop {
            match self.waiter.read(self.position, buffer)? {
                Found::End => return Ok(0),
                Found::Bytes(count) => {
                    self.position += count as u64;
                    self.jumped = false;
                    return Ok(count);
                }
                // The wait ends when the byte is present, but by the time of the read it may be lost or freed again: so the
                // loop asks once more, and never takes the end of a wait for bytes.
                Found::Missing => {
                    // Behind a jump the thread fetches its byte itself: the time until it comes is what a listener hears. A
                    // reader that reads on leaves that to the fetcher's thread, which is ahead of it. Not before the byte is
                    // known to be missing: the disk is not read in a turn.
                    if self.jumped && turn.is_none() {
                        turn = self.waiter.take_turn();
                    }
                    let (position, asked) = (self.position, buffer.len() as u64);
                    match &turn {
                        Some(turn) => self.waiter.wait_first_fetching(position, asked, turn),
                        None => self.waiter.wait_first_blocking(position, asked),
                    }
                    .map_err(io::Error::other)
                    .map(drop)?;
                }
            }
        }
    }
}

impl<E> Seek for Reader<E> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            SeekFrom::End(distance) => self
                .len()
                .ok_or(SeekError::UnknownLength)?
                .checked_add_signed(distance),
        };
        // A file's position is signed. The position changes only if the target is allowed.
        let target = target
            .filter(|position| i64::try_from(*position).is_ok())
            .ok_or(SeekError::OutOfRange)?;
        self.jumped |= target != self.position;
        self.position = target;
        Ok(target)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.position)
    }
}

impl<E> fmt::Debug for Reader<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("position", &self.position)
            .field("resource", self.resource())
            .finish_non_exhaustive()
    }
}

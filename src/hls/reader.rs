//! One Variant Stream as one file: `Read + Seek`.
//!
//! ```text
//!   file    [section][segment 0][segment 1] … [segment n]     what a stream gives, from its first byte on
//!   seek    nothing: the position is noted
//!   read    the stream at hand, if it stands there; else another one, from there on
//! ```
//!
//! The rule: **a reader has one edition.** Positions in another one mean nothing. Where the cache lacks a byte and the server has
//! another edition the read fails.

use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
    time::Duration,
};

use super::{HlsError, HlsSource, track::Track};
use crate::{
    io::{SeekError, StreamInterrupter, StreamReadError, StreamReader},
    stream::{Source as _, Stream, StreamParams},
};

/// An HLS track as a file that is still arriving, for decoders that take `Read + Seek`. Of
/// [`HlsSource::open_reader`](super::HlsSource::open_reader).
///
/// The bytes are those that a stream of the source gives: the initialization sections and segments of one Variant Stream,
/// decrypted, in order.
///
/// - A read returns the bytes that are there, at least one, and waits while there is none. What comes after them is fetched
///   meanwhile.
/// - `Ok(0)` means the end of the track, or an empty buffer.
/// - An error holds a [`StreamReadError<HlsError>`](StreamReadError), for `get_ref().downcast_ref()`. The next read tries again.
/// - A seek does no I/O. Bytes in front of a position whose parts are not in the cache are fetched, because only their lengths tell
///   where it lies: see [`len`](Self::len). To go to a time that is not cached yet a stream's
///   [`seek_time`](crate::stream::Handle::seek_time) fetches less.
/// - Where another edition was published and the cache lacks a byte of this one the read fails with
///   [`HlsError::EditionChanged`]. A reader opened then has the new one.
/// - Dropping the reader stops all that is fetched for it.
///
/// It is `Send + Sync + 'static`, so that rodio takes it as it is. With the feature `symphonia` it is a `MediaSource`.
pub struct HlsReader {
    /// Of one edition.
    source: HlsSource,
    track: Arc<Track>,
    params: StreamParams,
    reader: StreamReader<HlsSource>,
    /// The next byte to read. The stream may stand elsewhere.
    position: u64,
    /// Whether the stream gives nothing: it has failed, or none was read yet.
    is_spent: bool,
}

impl HlsReader {
    pub(super) fn new(source: HlsSource, track: Arc<Track>, params: StreamParams) -> Self {
        // One that nothing polls, and so does nothing: what is read first may be somewhere else.
        let reader = StreamReader::new(Stream::inline(source.clone(), params.clone()));
        Self {
            source,
            track,
            params,
            reader,
            position: 0,
            is_spent: true,
        }
    }

    /// The next byte to read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How long the track is, in bytes. `None` until the length of each part is known: from the cache, from a byte range in
    /// the playlist, or because it was read.
    pub fn len(&self) -> Option<u64> {
        self.track.position_of(usize::MAX)
    }

    /// Whether the length is known to be 0.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// How long the track plays.
    pub fn duration(&self) -> Duration {
        self.track.duration()
    }

    /// Where the segment begins that plays at `time`, in bytes. `None` until the length of each part before it is known. At or
    /// past the end it is the end.
    pub fn position_at(&self, time: Duration) -> Option<u64> {
        let (_, part) = self.track.part_at(time);
        self.track.position_of(part)
    }

    /// When the segment begins that holds a byte, or whose initialization section does. `None` until the length of each part
    /// up to there is known. At or past the end it is the duration.
    pub fn time_at(&self, position: u64) -> Option<Duration> {
        self.track.time_at(position)
    }

    /// Seeks to the start of the segment that plays at `time`, and returns that position.
    ///
    /// # Errors
    ///
    /// [`SeekError::UnknownLength`] where [`position_at`](Self::position_at) is `None`.
    pub fn seek_time(&mut self, time: Duration) -> io::Result<u64> {
        let position = self.position_at(time).ok_or(SeekError::UnknownLength)?;
        self.position = position;
        Ok(position)
    }

    /// A handle that ends blocked reads from another thread.
    pub fn interrupter(&self) -> StreamInterrupter {
        self.reader.interrupter()
    }

    /// Has the stream stand at the position.
    fn approach(&mut self) {
        if !self.is_spent && self.reader.skip_to(self.position) {
            return;
        }
        let mut source = self.source.clone();
        // Never refused: a position beyond the end is the end.
        if source.seek_bytes(self.position).is_ok() {
            let stream = Stream::new(source, self.params.clone());
            self.reader.restart(stream, self.position);
            self.is_spent = false;
        }
    }
}

impl Read for HlsReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.approach();
        match self.reader.read(buffer) {
            Ok(count) => {
                self.position += count as u64;
                Ok(count)
            }
            Err(error) => {
                let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
                self.is_spent = !cause.is_some_and(StreamReadError::<HlsError>::is_interrupted);
                Err(error)
            }
        }
    }
}

impl Seek for HlsReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            SeekFrom::End(distance) => {
                let len = self.len().ok_or(SeekError::UnknownLength)?;
                len.checked_add_signed(distance)
            }
        };
        self.position = position.ok_or(SeekError::OutOfRange)?;
        Ok(self.position)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.position)
    }
}

impl fmt::Debug for HlsReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HlsReader")
            .field("source", &self.source)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Seekable once the length is known: format readers seek to the end of a seekable source while they probe.
#[cfg(feature = "symphonia")]
impl symphonia_core::io::MediaSource for HlsReader {
    fn is_seekable(&self) -> bool {
        self.len().is_some()
    }

    fn byte_len(&self) -> Option<u64> {
        self.len()
    }
}

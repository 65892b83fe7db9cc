//! Where the consumer stands: how many seeks its last item follows, and at which position that item begins.
//!
//! The consumer alone keeps a cursor and moves it as it receives. So a cursor needs no lock, and it never speaks of an
//! item that the consumer has not been given.

use std::time::Duration;

/// Where an item begins, in the track.
///
/// ```
#[doc = include_str!("doctest_track.txt")]
/// # future::block_on(async {
/// let mut stream = Stream::new(Track::default(), StreamParams::default());
/// stream.handle().seek_bytes(3).await?;
/// assert_eq!(stream.next().await.unwrap()?, "re ");
/// assert_eq!(stream.position(), Position::Bytes(3));
/// # Ok::<_, StreamError<Infallible>>(())
/// # }).unwrap();
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// So many bytes from the start of the track.
    Bytes(u64),
    /// Behind a [seek by time](super::Handle::seek_time). The source chose the byte it went on from, and the stream does
    /// not know which one of the track that is.
    Time {
        /// The time that was sought, counted from the start of the track.
        sought: Duration,
        /// Bytes received since that seek, up to this item.
        bytes: u64,
    },
}

impl Position {
    fn plus(self, bytes: u64) -> Self {
        match self {
            Self::Bytes(start) => Self::Bytes(start.saturating_add(bytes)),
            Self::Time {
                sought,
                bytes: before,
            } => Self::Time {
                sought,
                bytes: before.saturating_add(bytes),
            },
        }
    }
}

/// A seek that was accepted: its number, from 1 on, and where it led. Before the first one it is number 0, at the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seek {
    pub(super) generation: u64,
    pub(super) target: Position,
}

impl Seek {
    pub(super) const NONE: Self = Self {
        generation: 0,
        target: Position::Bytes(0),
    };
}

/// What the consumer has received since the last seek that it knows of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    seek: Seek,
    /// Bytes received since `seek`, before the last item and with it.
    before: u64,
    received: u64,
}

impl Cursor {
    pub(super) fn new() -> Self {
        Self {
            seek: Seek::NONE,
            before: 0,
            received: 0,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.seek.generation
    }

    pub(super) fn position(&self) -> Position {
        self.seek.target.plus(self.before)
    }

    /// The next item follows `seek`.
    pub(super) fn jump(&mut self, seek: Seek) {
        *self = Self { seek, ..Self::new() };
    }

    /// An item of so many bytes was received; a control message, an error and the end have none.
    #[inline]
    pub(super) fn advance(&mut self, bytes: u64) {
        // The item begins where everything received before it ends.
        self.before = self.received;
        self.received += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_stands_behind_all_that_came_before_it() {
        let mut cursor = Cursor::new();
        assert_eq!((cursor.generation(), cursor.position()), (0, Position::Bytes(0)));
        for (bytes, at) in [(5, 0), (0, 5), (7, 5), (1, 12)] {
            cursor.advance(bytes);
            assert_eq!(cursor.position(), Position::Bytes(at));
        }
    }

    #[test]
    fn a_seek_starts_the_count_anew() {
        let mut cursor = Cursor::new();
        cursor.advance(100);
        let sought = Duration::from_secs(9);
        cursor.jump(Seek {
            generation: 3,
            target: Position::Time { sought, bytes: 0 },
        });
        for at in [0, 4, 8] {
            cursor.advance(4);
            assert_eq!(cursor.position(), Position::Time { sought, bytes: at });
        }
        assert_eq!(cursor.generation(), 3);
    }
}

//! What a file tells the app beside its bytes.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_channel::{Receiver, Sender};
use futures_core::Stream;

use super::FileError;
use crate::media::{Bypass, Origin};

/// An event of a [`FileSource`](super::FileSource).
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum FileControl {
    /// The file is open. Always the first event.
    Opened {
        /// Where its bytes come from.
        origin: Origin,
        /// Its length in bytes, if it is known.
        len: Option<u64>,
    },
    /// What is downloaded from here on is not kept: it passes through a window in memory.
    CacheBypassed {
        /// Why.
        reason: Bypass,
    },
    /// The file is complete in the cache. From now on it plays without a connection. A stream that has read a whole file
    /// tells this, or why it is not so, before it ends.
    Cached,
    /// What is downloaded is not complete, and nothing downloads the rest any more: the stream has come to its end after
    /// a jump, the last reader was dropped, or the download failed. What came is kept, and the next source goes on from
    /// there if the server gave a strong validator.
    Incomplete {
        /// How many bytes of the file are missing. `None` if its length is unknown.
        missing: Option<u64>,
    },
    /// The server cannot be reached, breaks off, or something else answers in its place, and the client's retries are
    /// used up. What is there plays on, and the download tries again by itself.
    OutageBegan {
        /// Why the last request failed.
        cause: FileError,
    },
    /// Bytes come again.
    OutageEnded,
}

/// The events of one open file, in order.
///
/// A `Stream` that ends when the file has nothing more to tell: it is complete in the cache, its download has ended, or
/// its last reader was dropped. Events wait in memory until they are taken; there are at most a handful for each open
/// file, and two for each outage. Dropping this changes nothing for the readers.
///
/// ```no_run
/// # async fn run(source: kithara::file::FileSource) -> Result<(), kithara::file::FileError> {
/// use kithara::file::{FileControl, OpenMode};
///
/// let mut parts = source.open_parts(OpenMode::Online).await?;
/// let opened = parts.events.try_next();
/// assert!(matches!(opened, Some(FileControl::Opened { .. })));
/// # Ok(())
/// # }
/// ```
// Boxed, so that this is `Unpin`: a receiver registers itself where it stands, and must not move while it waits.
#[derive(Debug)]
pub struct FileEvents(Pin<Box<Receiver<FileControl>>>);

impl FileEvents {
    /// Unbounded: a download must not wait for an app that does not listen, and tells only a few things.
    pub(super) fn channel() -> (Sender<FileControl>, Self) {
        let (sender, receiver) = async_channel::unbounded();
        (sender, Self(Box::pin(receiver)))
    }

    /// Takes the next event if it is there already. `None` says nothing about later ones: only the stream tells its end.
    pub fn try_next(&mut self) -> Option<FileControl> {
        self.0.try_recv().ok()
    }
}

impl Stream for FileEvents {
    type Item = FileControl;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FileControl>> {
        self.0.as_mut().poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;
    use futures_lite::stream::StreamExt as _;

    use super::*;

    #[test]
    fn events_come_in_order_and_end_with_their_sender() {
        let (sender, mut events) = FileEvents::channel();
        assert!(events.try_next().is_none());
        let (origin, len) = (Origin::Cache, None);
        for event in [FileControl::Opened { origin, len }, FileControl::Cached] {
            sender.try_send(event).expect("an unbounded channel");
        }
        drop(sender);
        assert!(matches!(events.try_next(), Some(FileControl::Opened { .. })));
        assert!(matches!(block_on(events.next()), Some(FileControl::Cached)));
        assert!(block_on(events.next()).is_none());
    }
}

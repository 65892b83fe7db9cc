//! Where commands wait: one at a time, the newest wins, everybody is answered.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::StreamError;
use super::sync::channel;

/// What a [`Handle`](super::Handle) can ask for.
///
/// There is no stop: dropping the consumer is.
///
/// ```
#[doc = include_str!("doctest_track.txt")]
/// let stream = Stream::new(Track::default(), StreamParams::default());
/// future::block_on(stream.handle().send(Command::SeekBytes(3))).unwrap();
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Go on from this byte of the track.
    SeekBytes(u64),
    /// Go on from what plays at this time, counted from the start of the track.
    SeekTime(Duration),
}

type Answer<E> = Result<(), StreamError<E>>;

/// A command and the one who waits for its answer. Dropped unanswered, it answers [`StreamError::ChannelClosed`].
pub(super) struct Request<E: Error + 'static> {
    pub(super) command: Command,
    asker: channel::Sender<Answer<E>>,
}

impl<E: Error + 'static> Request<E> {
    /// Answers. That nobody waits any more is no concern of the one who answers.
    pub(super) fn answer(self, answer: Answer<E>) {
        let _ = self.asker.try_send(answer);
    }
}

/// The slot for the one waiting command. Driver, consumer and handles share it, so that whoever ends the stream can
/// answer what still waits.
pub(super) struct Mailbox<E: Error + 'static> {
    slot: channel::Sender<Request<E>>,
    taker: channel::Receiver<Request<E>>,
}

impl<E: Error + 'static> Mailbox<E> {
    pub(super) fn new() -> Arc<Self> {
        let (slot, taker) = channel::bounded(1);
        Arc::new(Self { slot, taker })
    }

    /// Leaves `command` for the driver and returns where its answer will be. A command that was still waiting is
    /// superseded and answered so.
    pub(super) fn put(&self, command: Command) -> Result<channel::Receiver<Answer<E>>, StreamError<E>> {
        let (asker, answer) = channel::bounded(1);
        match self.slot.force_send(Request { command, asker }) {
            Ok(replaced) => {
                if let Some(replaced) = replaced {
                    replaced.answer(Err(StreamError::SeekSuperseded));
                }
                Ok(answer)
            }
            Err(_) => Err(StreamError::ChannelClosed),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slot.is_empty()
    }

    pub(super) fn take(&self) -> Option<Request<E>> {
        self.taker.try_recv().ok()
    }

    /// Accepts no further command and answers the one that waits. Closing comes first, so nothing slips in between.
    pub(super) fn close(&self) {
        self.slot.close();
        while let Some(request) = self.take() {
            request.answer(Err(StreamError::ChannelClosed));
        }
    }
}

//! Where commands wait. The mailbox has one slot, the newest command wins, and every sender is answered.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::cursor::Position;
use super::sync::channel;
use super::{Source, StreamError};

/// What a [`Handle`](super::Handle) asks of the source. There is no stop: dropping the consumer is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    /// Go on from this byte of the track.
    SeekBytes(u64),
    /// Go on from what plays at this time, counted from the start of the track.
    SeekTime(Duration),
}

impl Command {
    /// Tells `source`, which accepts or refuses.
    pub(super) fn apply<S: Source>(self, source: &mut S) -> Result<(), StreamError<S::Error>> {
        match self {
            Self::SeekBytes(position) => source.seek_bytes(position),
            Self::SeekTime(time) => source.seek_time(time),
        }
    }

    /// Where the first item behind this command stands.
    pub(super) fn target(self) -> Position {
        match self {
            Self::SeekBytes(position) => Position::Bytes(position),
            Self::SeekTime(sought) => Position::Time { sought, bytes: 0 },
        }
    }
}

type Answer<E> = Result<(), StreamError<E>>;

/// A command, and the way back to its sender. Dropped unanswered, it answers [`StreamError::ChannelClosed`].
pub(super) struct Request<E: Error + 'static> {
    pub(super) command: Command,
    sender: channel::Sender<Answer<E>>,
}

impl<E: Error + 'static> Request<E> {
    pub(super) fn answer(self, answer: Answer<E>) {
        // It fails if the sender has dropped its future. Then nobody wants the answer.
        let _ = self.sender.try_send(answer);
    }
}

/// The slot for the one waiting command. Driver, consumer and handles share it, so that each of them can answer what
/// still waits when it ends the stream.
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
    /// answered as superseded.
    pub(super) fn put(&self, command: Command) -> Result<channel::Receiver<Answer<E>>, StreamError<E>> {
        let (sender, answer) = channel::bounded(1);
        // Taking the old command out and putting the new one in is one step. In two steps, two senders could each find
        // the slot empty, and the older of their commands could stay.
        match self.slot.force_send(Request { command, sender }) {
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

    /// Accepts no further command and answers the one that waits.
    pub(super) fn close(&self) {
        // Closed first, emptied second: in the other order a command could come in between and wait for ever.
        self.slot.close();
        while let Some(request) = self.take() {
            request.answer(Err(StreamError::ChannelClosed));
        }
    }
}

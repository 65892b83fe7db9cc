//! A source, what it has opened, and the commands it still has to obey. Driver and inline stream both run one.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::mailbox::Mailbox;
use super::{Command, Message, Source, SourceStream, StreamError, StreamParams};

/// How many items one poll may handle before it lets the executor's other tasks run.
pub(super) const TURNS: usize = 64;

/// What a source yields, its two ways to end among it. Boxed where rare, so that a queue of these stays small.
pub(super) enum Item<C, E: Error + 'static> {
    Data(Bytes),
    Control(C),
    Failed(Box<StreamError<E>>),
    End,
}

impl<C, E: Error + 'static> Item<C, E> {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            _ => 0,
        }
    }
}

enum Opened<C, E: Error + 'static> {
    NotYet,
    Flowing(SourceStream<C, E>),
    /// The first `open` failed; the consumer is yet to hear of it.
    Refused(Box<StreamError<E>>),
    /// Ended or failed. Only a seek goes on from here.
    Finished,
}

pub(super) struct Engine<S: Source> {
    // Dropped before the source it came from.
    opened: Opened<S::Control, S::Error>,
    source: S,
    params: StreamParams,
    mailbox: Arc<Mailbox<S::Error>>,
}

impl<S: Source> Engine<S> {
    pub(super) fn new(source: S, params: StreamParams) -> Self {
        Self {
            opened: Opened::NotYet,
            source,
            params,
            mailbox: Mailbox::new(),
        }
    }

    pub(super) fn params(&self) -> &StreamParams {
        &self.params
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox<S::Error>> {
        &self.mailbox
    }

    /// Obeys the commands that wait and says whether the source is somewhere else now: then everything it yielded
    /// before is stale.
    ///
    /// A seek takes effect at `admit`, which says no if the consumer has already been handed the end. The stream that
    /// is open outlives everything that can refuse: seek and open come before its drop, the answer after.
    pub(super) fn serve(&mut self, mut admit: impl FnMut() -> bool) -> bool {
        let mut moved = false;
        if self.mailbox.is_empty() {
            return moved;
        }
        // Opened at its start first, so that a refused seek leaves behind what would have been without it.
        self.open_first();
        while let Some(request) = self.mailbox.take() {
            let sought = match request.command {
                Command::SeekBytes(position) => self.source.seek_bytes(position),
                Command::SeekTime(time) => self.source.seek_time(time),
            };
            let reopened = sought.and_then(|()| self.source.open(&self.params));
            request.answer(match reopened {
                Ok(stream) if admit() => {
                    self.opened = Opened::Flowing(stream);
                    moved = true;
                    Ok(())
                }
                Ok(_) => Err(StreamError::ChannelClosed),
                Err(refusal) => Err(refusal),
            });
        }
        moved
    }

    /// The source's next item. Pending for ever after `Failed` and `End`, until a seek.
    #[inline]
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Item<S::Control, S::Error>> {
        self.open_first();
        let item = match &mut self.opened {
            Opened::Flowing(stream) => match ready!(stream.as_mut().poll_next(cx)) {
                Some(Ok(Message::Data(data))) => return Poll::Ready(Item::Data(data)),
                Some(Ok(Message::Control(control))) => return Poll::Ready(Item::Control(control)),
                Some(Err(error)) => Item::Failed(Box::new(error)),
                None => Item::End,
            },
            Opened::Refused(_) => Item::End,
            Opened::NotYet | Opened::Finished => return Poll::Pending,
        };
        Poll::Ready(match std::mem::replace(&mut self.opened, Opened::Finished) {
            Opened::Refused(error) => Item::Failed(error),
            _ => item,
        })
    }

    fn open_first(&mut self) {
        if matches!(self.opened, Opened::NotYet) {
            self.opened = match self.source.open(&self.params) {
                Ok(stream) => Opened::Flowing(stream),
                Err(error) => Opened::Refused(Box::new(error)),
            };
        }
    }
}

impl<S: Source> Drop for Engine<S> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

/// What the source said when it panicked.
pub(super) fn panic_text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "not a text".to_owned(),
    }
}

/// Drops what came from the source. If that panics there is nobody left to tell, and whoever is here must not fall
/// with it; the panic's payload is leaked, as its destructor could panic again.
pub(super) fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        std::mem::forget(payload);
    }
}

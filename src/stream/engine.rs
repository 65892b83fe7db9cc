//! A source, what it has opened, and the commands that wait for it. Driver and inline stream both run one.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::cursor::Seek;
use super::mailbox::Mailbox;
use super::{Message, Source, SourceStream, StreamError, StreamParams};

/// How many items one poll handles before it yields to the executor's other tasks.
pub(super) const TURNS: usize = 64;

/// What a source yields, its two ways to end included. The error is boxed, so that a queue of items stays small.
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
    /// The first `open` failed. The consumer has not been told yet.
    Refused(Box<StreamError<E>>),
    /// Ended or failed. Only a seek opens the source again.
    Finished,
}

pub(super) struct Engine<S: Source> {
    // Fields are dropped in this order: an opened stream may use what its source owns.
    opened: Opened<S::Control, S::Error>,
    source: S,
    params: StreamParams,
    /// The last seek accepted.
    seek: Seek,
    mailbox: Arc<Mailbox<S::Error>>,
}

impl<S: Source> Engine<S> {
    pub(super) fn new(source: S, params: StreamParams) -> Self {
        Self {
            opened: Opened::NotYet,
            source,
            params,
            seek: Seek::NONE,
            mailbox: Mailbox::new(),
        }
    }

    pub(super) fn params(&self) -> &StreamParams {
        &self.params
    }

    /// The seek that the items to come follow.
    pub(super) fn seek(&self) -> Seek {
        self.seek
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox<S::Error>> {
        &self.mailbox
    }

    /// Carries out the waiting commands. True if a seek was accepted: everything the source yielded before is stale then.
    ///
    /// A seek takes effect at `admit`, which refuses if the consumer has already been handed the end.
    pub(super) fn serve(&mut self, mut admit: impl FnMut(Seek) -> bool) -> bool {
        let mut moved = false;
        if self.mailbox.is_empty() {
            return moved;
        }
        // A source that was never opened is opened at its start first. If the seek is refused, the stream goes on as if
        // nobody had asked, and not from wherever a half-done seek left the source.
        self.open_first();
        while let Some(request) = self.mailbox.take() {
            let sought = request.command.apply(&mut self.source);
            let reopened = sought.and_then(|()| self.source.open(&self.params));
            let seek = Seek {
                generation: self.seek.generation + 1,
                target: request.command.target(),
            };
            // The order protects a refused seek: whatever can refuse comes first, then the old stream is dropped, and
            // the answer is last. An answer before `admit` could say Ok while an old item is still delivered.
            request.answer(match reopened {
                Ok(stream) if admit(seek) => {
                    self.opened = Opened::Flowing(stream);
                    self.seek = seek;
                    moved = true;
                    Ok(())
                }
                Ok(_) => Err(StreamError::ChannelClosed),
                Err(refusal) => Err(refusal),
            });
        }
        moved
    }

    /// The source's next item. After `Failed` and `End` it is pending until a seek.
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
        // An end or an error: the opened stream is dropped now, not with the engine, as its sockets are of no more use. A
        // seek may still come and needs only the source.
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

/// The text of a panic.
pub(super) fn panic_text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "not a text".to_owned(),
    }
}

/// Drops what came from the source, and catches a panic of that drop: it must not take the consumer's thread or the
/// driver's executor down, and there is nobody left to report it to.
pub(super) fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Leaked, because the payload's own drop could panic again.
        std::mem::forget(payload);
    }
}

//! What the application reads from.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::FusedStream;

use super::driver::Driver;
use super::engine::{Engine, TURNS};
use super::handle::Nudge;
use super::inline::Inline;
use super::mailbox::Mailbox;
use super::queue::{self, Intake};
use super::{Handle, Message, Source, StreamError, StreamParams};
use crate::rt;

/// The bytes of a source, in order. A `futures` stream.
///
/// Yields `None` when the source has ended, and only then; every other way to stop is an `Err` first. After `None` or
/// the first `Err` it stays ended. **Dropping it is how it is stopped**: the source's stream is dropped at once,
/// whatever it was waiting for.
///
/// Control messages are left out; [`into_messages`](Self::into_messages) has them.
///
/// ```
#[doc = include_str!("doctest_track.txt")]
/// # future::block_on(async {
/// let mut stream = Stream::new(Track::default(), StreamParams::default());
/// let mut song = Vec::new();
/// while let Some(chunk) = stream.next().await {
///     song.extend_from_slice(&chunk?);
/// }
/// assert_eq!(song, b"do re mi");
/// # Ok::<_, StreamError<Infallible>>(())
/// # }).unwrap();
/// ```
#[must_use = "a stream that nobody reads is stopped when it is dropped"]
pub struct Stream<S: Source> {
    messages: Messages<S>,
}

impl<S: Source> Stream<S> {
    /// Runs `source` on a task of its own, which reads ahead up to the limits in `params`.
    ///
    /// Works from any thread and under any executor, as the task runs on this crate's own.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// let mut stream = Stream::new(Track::default(), StreamParams::default());
    /// assert_eq!(future::block_on(stream.next()).unwrap().unwrap(), "do ");
    /// ```
    pub fn new(source: S, params: StreamParams) -> Self {
        let (stream, driver) = Self::with_driver(source, params);
        rt::spawn(driver);
        stream
    }

    /// As [`new`](Self::new), but hands out the task for an executor of your choice.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// // `tokio::spawn(driver)`, `smol::spawn(driver).detach()`, or beside the consumer:
    /// let (mut stream, driver) = Stream::with_driver(Track::default(), StreamParams::default());
    /// let read = stream.try_fold(0, |sum, chunk| Ok(sum + chunk.len()));
    /// let (bytes, ()) = future::block_on(future::zip(read, driver));
    /// assert_eq!(bytes.unwrap(), 8);
    /// ```
    pub fn with_driver(source: S, params: StreamParams) -> (Self, Driver<S>) {
        let engine = Engine::new(source, params);
        let mailbox = Arc::clone(engine.mailbox());
        let (outlet, intake) = queue::bounded(engine.params());
        (
            Self::from_feed(Feed::Queued { intake, mailbox }),
            Driver::new(engine, outlet),
        )
    }

    /// Runs `source` inside the consumer's own poll: no task, no queue, no read-ahead.
    ///
    /// The cheapest way per chunk, and the right one where the consumer's task does little else. A seek through a
    /// [`Handle`] works while the consumer is stalled all the same: it runs in the handle's call.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// let mut stream = Stream::inline(Track::default(), StreamParams::default());
    /// assert_eq!(future::block_on(stream.next()).unwrap().unwrap(), "do ");
    /// ```
    pub fn inline(source: S, params: StreamParams) -> Self {
        Self::from_feed(Feed::Inline(Inline::new(Engine::new(source, params))))
    }

    fn from_feed(feed: Feed<S>) -> Self {
        Self {
            messages: Messages { feed },
        }
    }

    /// A handle to command this stream with. The stream needs none, and any number can be had.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// let mut stream = Stream::new(Track::default(), StreamParams::default());
    /// let (one, other) = (stream.handle(), stream.handle());
    /// drop(one);
    /// future::block_on(other.seek_bytes(6)).unwrap();
    /// assert_eq!(future::block_on(stream.next()).unwrap().unwrap(), "mi");
    /// ```
    pub fn handle(&self) -> Handle<S::Error> {
        self.messages.handle()
    }

    /// The same stream with its control messages, from the next item on.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// let mut messages = Stream::new(Track::default(), StreamParams::default()).into_messages();
    /// assert_eq!(future::block_on(messages.next()).unwrap().unwrap(), Message::Control("verse"));
    /// ```
    pub fn into_messages(self) -> Messages<S> {
        self.messages
    }
}

impl<S: Source> futures_core::Stream for Stream<S> {
    type Item = Result<Bytes, StreamError<S::Error>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        for _ in 0..TURNS {
            match ready!(futures_core::Stream::poll_next(Pin::new(&mut self.messages), cx)) {
                Some(Ok(Message::Data(data))) => return Poll::Ready(Some(Ok(data))),
                Some(Ok(Message::Control(_))) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Source> FusedStream for Stream<S> {
    fn is_terminated(&self) -> bool {
        self.messages.is_terminated()
    }
}

impl<S: Source> fmt::Debug for Stream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("ended", &self.is_terminated())
            .finish_non_exhaustive()
    }
}

/// Everything a source yields, bytes and control messages, in the source's own order. A `futures` stream.
///
/// Made by [`Stream::into_messages`]; ends and stops as [`Stream`] does.
///
/// ```
#[doc = include_str!("doctest_track.txt")]
/// # future::block_on(async {
/// let mut messages: Messages<Track> = Stream::new(Track::default(), StreamParams::default()).into_messages();
/// assert_eq!(messages.next().await.unwrap()?, Message::Control("verse"));
/// assert_eq!(messages.next().await.unwrap()?, Message::Data("do ".into()));
/// # Ok::<_, StreamError<Infallible>>(())
/// # }).unwrap();
/// ```
#[must_use = "a stream that nobody reads is stopped when it is dropped"]
pub struct Messages<S: Source> {
    feed: Feed<S>,
}

enum Feed<S: Source> {
    Queued {
        intake: Intake<S::Control, S::Error>,
        mailbox: Arc<Mailbox<S::Error>>,
    },
    Inline(Inline<S>),
}

impl<S: Source> Messages<S> {
    /// A handle to command this stream with, as [`Stream::handle`].
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// let mut messages = Stream::new(Track::default(), StreamParams::default()).into_messages();
    /// future::block_on(messages.handle().seek_bytes(3)).unwrap();
    /// assert_eq!(future::block_on(messages.next()).unwrap().unwrap(), Message::Control("verse"));
    /// assert_eq!(future::block_on(messages.next()).unwrap().unwrap(), Message::Data("re ".into()));
    /// ```
    pub fn handle(&self) -> Handle<S::Error> {
        match &self.feed {
            Feed::Queued { intake, mailbox } => {
                let runner: Weak<dyn Nudge> = Arc::downgrade(intake.link()) as _;
                Handle::new(Arc::clone(mailbox), runner)
            }
            Feed::Inline(inline) => {
                let runner: Weak<dyn Nudge> = Arc::downgrade(inline.slot()) as _;
                Handle::new(Arc::clone(inline.mailbox()), runner)
            }
        }
    }
}

// The source inside an inline stream is boxed; nothing else here cares where it lies.
impl<S: Source> Unpin for Messages<S> {}
impl<S: Source> Unpin for Stream<S> {}

impl<S: Source> futures_core::Stream for Messages<S> {
    type Item = Result<Message<S::Control>, StreamError<S::Error>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.get_mut().feed {
            Feed::Queued { intake, mailbox } => {
                let polled = intake.poll_next(cx);
                if intake.is_ended() {
                    mailbox.close();
                }
                polled
            }
            Feed::Inline(inline) => inline.poll_next(cx),
        }
    }
}

impl<S: Source> FusedStream for Messages<S> {
    fn is_terminated(&self) -> bool {
        match &self.feed {
            Feed::Queued { intake, .. } => intake.is_ended(),
            Feed::Inline(inline) => inline.is_ended(),
        }
    }
}

impl<S: Source> Drop for Feed<S> {
    fn drop(&mut self) {
        // Whoever still waits for an answer has it now, even if the driver never runs again.
        if let Self::Queued { mailbox, .. } = self {
            mailbox.close();
        }
    }
}

impl<S: Source> fmt::Debug for Messages<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages")
            .field("ended", &self.is_terminated())
            .finish_non_exhaustive()
    }
}

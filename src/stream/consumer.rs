//! What the app reads from: [`Stream`], and [`Messages`] for bytes and control messages together.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::FusedStream;

use super::cursor::Cursor;
use super::driver::Driver;
use super::engine::{Engine, TURNS};
use super::handle::Nudge;
use super::inline::Inline;
use super::mailbox::Mailbox;
use super::queue::{self, Intake};
use super::{Handle, Message, Position, Source, StreamError, StreamParams};
use crate::rt;

/// The bytes of a source, in order. A `futures` stream.
///
/// Yields `None` when the source has ended, and only then. Every other way to stop is an `Err` first. After `None` or
/// the first `Err` it stays ended. **To stop it, drop it**: the source's stream is dropped at once, whatever it waits
/// for.
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
#[must_use = "dropping a stream stops it"]
pub struct Stream<S: Source> {
    messages: Messages<S>,
}

impl<S: Source> Stream<S> {
    /// Runs `source` on a task of its own, which reads ahead up to the limits in `params`.
    ///
    /// The task runs on this crate's own threads. So this works from any thread, under any executor.
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

    /// As [`new`](Self::new), but hands the task out, for an executor of your choice.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// // `tokio::spawn(driver)`, `smol::spawn(driver).detach()`, or beside the consumer:
    /// let params = StreamParams::default();
    /// let (mut stream, driver) = Stream::with_driver(Track::default(), params);
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
    /// It costs least per chunk. Use it where the consumer's task does little else. A seek through a [`Handle`] works
    /// while the consumer is stalled, too: it runs in the handle's call.
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

    /// A handle to command this stream with. A stream needs none, and may have any number.
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

    /// How many seeks had been accepted before the item that was received last. 0 before the first seek.
    ///
    /// It changes with the first item after a seek, and only then: not when the seek is accepted, on whatever thread
    /// that is, and not at a refused seek. It grows by more than 1 where nothing was received between two seeks. The end
    /// and an error count as items.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// # future::block_on(async {
    /// let mut stream = Stream::new(Track::default(), StreamParams::default());
    /// let handle = stream.handle();
    ///
    /// assert_eq!(stream.next().await.unwrap()?, "do ");
    /// std::thread::spawn(move || future::block_on(handle.seek_bytes(6))).join().unwrap()?;
    /// assert_eq!(stream.generation(), 0);
    ///
    /// // The first item after the seek. A decoder would be reset here.
    /// assert_eq!(stream.next().await.unwrap()?, "mi");
    /// assert_eq!((stream.generation(), stream.position()), (1, Position::Bytes(6)));
    /// # Ok::<_, StreamError<Infallible>>(())
    /// # }).unwrap();
    /// ```
    pub fn generation(&self) -> u64 {
        self.messages.generation()
    }

    /// Where the item that was received last begins.
    ///
    /// Counted from the target of the seek that the item follows; before the first one, from the start of the track.
    /// (A source that was sought before it was given to the stream starts elsewhere: add that.) The end and an error
    /// stand behind the last byte.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// # future::block_on(async {
    /// let mut stream = Stream::new(Track::default(), StreamParams::default());
    /// stream.handle().seek_bytes(3).await?;
    /// assert_eq!(stream.next().await.unwrap()?, "re ");
    /// assert_eq!(stream.next().await.unwrap()?, "mi");
    /// assert_eq!(stream.position(), Position::Bytes(6));
    /// # Ok::<_, StreamError<Infallible>>(())
    /// # }).unwrap();
    /// ```
    pub fn position(&self) -> Position {
        self.messages.position()
    }

    /// The same stream with its control messages, from the next item on. Generation and position are kept.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// let stream = Stream::new(Track::default(), StreamParams::default());
    /// let mut messages = stream.into_messages();
    /// let next = future::block_on(messages.next()).unwrap().unwrap();
    /// assert_eq!(next, Message::Control("verse"));
    /// ```
    pub fn into_messages(self) -> Messages<S> {
        self.messages
    }
}

impl<S: Source> futures_core::Stream for Stream<S> {
    type Item = Result<Bytes, StreamError<S::Error>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Limited, because a run of control messages could otherwise keep the executor's thread for ever.
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
/// let stream = Stream::new(Track::default(), StreamParams::default());
/// let mut messages: Messages<Track> = stream.into_messages();
/// assert_eq!(messages.next().await.unwrap()?, Message::Control("verse"));
/// assert_eq!(messages.next().await.unwrap()?, Message::Data("do ".into()));
/// # Ok::<_, StreamError<Infallible>>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping a stream stops it"]
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
    /// A handle to command this stream with; see [`Stream::handle`].
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// let stream = Stream::new(Track::default(), StreamParams::default());
    /// let mut messages = stream.into_messages();
    /// future::block_on(messages.handle().seek_bytes(3)).unwrap();
    /// let next = future::block_on(messages.next()).unwrap().unwrap();
    /// assert_eq!(next, Message::Control("verse"));
    /// let next = future::block_on(messages.next()).unwrap().unwrap();
    /// assert_eq!(next, Message::Data("re ".into()));
    /// ```
    pub fn handle(&self) -> Handle<S::Error> {
        // Weak: a handle that outlives the consumer must not keep source or queue alive (S1, fault A10).
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

    /// How many seeks had been accepted before the item that was received last; see [`Stream::generation`].
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// let stream = Stream::new(Track::default(), StreamParams::default());
    /// let mut messages = stream.into_messages();
    /// future::block_on(messages.handle().seek_bytes(3)).unwrap();
    /// let next = future::block_on(messages.next()).unwrap().unwrap();
    /// assert_eq!(next, Message::Control("verse"));
    /// assert_eq!(messages.generation(), 1);
    /// ```
    pub fn generation(&self) -> u64 {
        self.cursor().generation()
    }

    /// Where the item that was received last begins; see [`Stream::position`]. A control message stands where the next
    /// byte does.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// let stream = Stream::new(Track::default(), StreamParams::default());
    /// let mut messages = stream.into_messages();
    /// future::block_on(messages.handle().seek_bytes(3)).unwrap();
    /// let next = future::block_on(messages.next()).unwrap().unwrap();
    /// assert_eq!(next, Message::Control("verse"));
    /// assert_eq!(messages.position(), Position::Bytes(3));
    /// ```
    pub fn position(&self) -> Position {
        self.cursor().position()
    }

    fn cursor(&self) -> &Cursor {
        match &self.feed {
            Feed::Queued { intake, .. } => intake.cursor(),
            Feed::Inline(inline) => inline.cursor(),
        }
    }
}

// The source inside an inline stream is boxed; nothing else here is pinned.
impl<S: Source> Unpin for Messages<S> {}
impl<S: Source> Unpin for Stream<S> {}

impl<S: Source> futures_core::Stream for Messages<S> {
    type Item = Result<Message<S::Control>, StreamError<S::Error>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.get_mut().feed {
            Feed::Queued { intake, mailbox } => {
                let polled = intake.poll_next(cx);
                // At the end and not when the driver notices: it may never be polled again, and a seek would wait.
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
        // A caller that waits for an answer gets it here, even if the driver never runs again.
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

//! The remote control of a stream.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::mailbox::Mailbox;
use super::{Command, StreamError};

/// Makes whoever runs the source look into the mailbox.
pub(super) trait Nudge: Send + Sync {
    fn nudge(&self);
}

/// Commands a stream, from any thread, while someone else consumes it.
///
/// A handle owns nothing of the stream: any number may exist, none has to, and a stream stops when its consumer is
/// dropped however many handles are left.
///
/// ```
#[doc = include_str!("doctest_track.txt")]
/// # future::block_on(async {
/// let mut stream = Stream::new(Track::default(), StreamParams::default());
/// let handle: Handle<Infallible> = stream.handle();
///
/// assert_eq!(stream.next().await.unwrap()?, "do ");
/// handle.seek_bytes(6).await?;
/// assert_eq!(stream.next().await.unwrap()?, "mi");
/// # Ok::<_, StreamError<Infallible>>(())
/// # }).unwrap();
/// ```
pub struct Handle<E: Error + 'static> {
    mailbox: Arc<Mailbox<E>>,
    runner: Weak<dyn Nudge>,
}

impl<E: Error + 'static> Handle<E> {
    pub(super) fn new(mailbox: Arc<Mailbox<E>>, runner: Weak<dyn Nudge>) -> Self {
        Self { mailbox, runner }
    }

    /// Goes on from byte `position` of the track.
    ///
    /// Returns when the source has accepted or refused, however full the queue and however idle the source is, and
    /// without the consumer's help. Accepted: the next item the consumer receives is from `position`, and nothing
    /// made before is delivered any more. Refused: the data flows on untouched.
    ///
    /// On an [inline](super::Stream::inline) stream the source's `seek_bytes` and `open` run inside this call.
    ///
    /// # Errors
    ///
    /// - [`StreamError::SeekNotSupported`] or [`StreamError::Source`]: what the source answered.
    /// - [`StreamError::SeekSuperseded`]: another seek came before the source had seen this one.
    /// - [`StreamError::ChannelClosed`]: the stream had ended, or its consumer or driver is gone.
    ///
    /// # Cancel safety
    ///
    /// The command is on its way once the future has been polled. Dropping the future afterwards drops the answer
    /// only; to take a seek back, seek elsewhere.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// # future::block_on(async {
    /// let mut stream = Stream::new(Track::default(), StreamParams::default());
    /// let handle = stream.handle();
    /// handle.seek_bytes(3).await?;
    /// assert_eq!(stream.next().await.unwrap()?, "re ");
    ///
    /// drop(stream);
    /// assert!(handle.seek_bytes(0).await.unwrap_err().is_closed());
    /// # Ok::<_, StreamError<Infallible>>(())
    /// # }).unwrap();
    /// ```
    pub async fn seek_bytes(&self, position: u64) -> Result<(), StreamError<E>> {
        self.send(Command::SeekBytes(position)).await
    }

    /// Goes on from what plays at `time`, counted from the start of the track.
    ///
    /// As [`seek_bytes`](Self::seek_bytes), for sources that know when what plays. Accepted: the next item the consumer
    /// receives is from the last place at or before `time` that a decoder can begin at; the source's control messages say
    /// which that is. Where nothing plays at `time`, as in a gap of an HLS track, it is from what plays next.
    ///
    /// # Errors
    ///
    /// As [`seek_bytes`](Self::seek_bytes).
    ///
    /// # Cancel safety
    ///
    /// As [`seek_bytes`](Self::seek_bytes).
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// use std::time::Duration;
    ///
    /// // This track has no clock.
    /// let stream = Stream::new(Track::default(), StreamParams::default());
    /// let refusal = future::block_on(stream.handle().seek_time(Duration::from_secs(5))).unwrap_err();
    /// assert!(matches!(refusal, StreamError::SeekNotSupported));
    /// ```
    pub async fn seek_time(&self, time: Duration) -> Result<(), StreamError<E>> {
        self.send(Command::SeekTime(time)).await
    }

    /// Sends `command` and waits for its answer. [`seek_bytes`](Self::seek_bytes) and [`seek_time`](Self::seek_time) are
    /// this with a name.
    ///
    /// # Errors
    ///
    /// As the command's own method.
    ///
    /// # Cancel safety
    ///
    /// As the command's own method.
    ///
    /// ```
    #[doc = include_str!("doctest_track.txt")]
    /// let mut stream = Stream::new(Track::default(), StreamParams::default());
    /// future::block_on(stream.handle().send(Command::SeekBytes(3))).unwrap();
    /// assert_eq!(future::block_on(stream.next()).unwrap().unwrap(), "re ");
    /// ```
    pub async fn send(&self, command: Command) -> Result<(), StreamError<E>> {
        let answer = self.mailbox.put(command)?;
        if let Some(runner) = self.runner.upgrade() {
            runner.nudge();
        }
        answer.recv().await.unwrap_or(Err(StreamError::ChannelClosed))
    }
}

impl<E: Error + 'static> Clone for Handle<E> {
    fn clone(&self) -> Self {
        Self {
            mailbox: Arc::clone(&self.mailbox),
            runner: Weak::clone(&self.runner),
        }
    }
}

impl<E: Error + 'static> fmt::Debug for Handle<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

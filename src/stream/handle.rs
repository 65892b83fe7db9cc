//! Sends commands to a stream.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::StreamError;
use super::mailbox::{Command, Mailbox};

/// Makes the task or thread that runs the source look into the mailbox.
pub(super) trait Nudge: Send + Sync {
    fn nudge(&self);
}

/// Commands a stream from any thread, while another thread consumes it.
///
/// A handle owns nothing of the stream. A stream needs none, may have any number, and stops when its consumer is
/// dropped, however many handles are left. The consumer sees where a seek has led in [`Stream::generation`] and
/// [`Stream::position`].
///
/// [`Stream::generation`]: super::Stream::generation
/// [`Stream::position`]: super::Stream::position
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
    /// Returns when the source has accepted or refused. It waits neither for the consumer nor for room in the queue nor
    /// for data.
    ///
    /// - Accepted: the next item the consumer receives is from `position`. Nothing made before is delivered any more.
    /// - Refused: the data flows on untouched.
    ///
    /// On an [inline](super::Stream::inline) stream the source's `seek_bytes` and `open` run inside this call.
    ///
    /// # Errors
    ///
    /// - [`StreamError::SeekNotSupported`] or [`StreamError::Source`]: what the source answered.
    /// - [`StreamError::SeekSuperseded`]: another seek came before the source had seen this one.
    /// - [`StreamError::ChannelClosed`]: the stream has ended, or its consumer or driver is gone.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the future has sent the command. Dropping it then drops only the answer. To take a seek back, seek
    /// elsewhere.
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
    /// As [`seek_bytes`](Self::seek_bytes), for sources that know which bytes play at which time.
    ///
    /// Accepted: the next item the consumer receives is from the last place at or before `time` where a decoder can
    /// begin. The source's control messages say which place that is. If nothing plays at `time`, as in a gap of an HLS
    /// track, the item is from what plays next.
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
    /// let handle = stream.handle();
    /// let sought = future::block_on(handle.seek_time(Duration::from_secs(5)));
    /// assert!(matches!(sought, Err(StreamError::SeekNotSupported)));
    /// ```
    pub async fn seek_time(&self, time: Duration) -> Result<(), StreamError<E>> {
        self.send(Command::SeekTime(time)).await
    }

    async fn send(&self, command: Command) -> Result<(), StreamError<E>> {
        let answer = self.mailbox.put(command)?;
        // After the put: a driver woken before it would find the mailbox empty and go back to sleep.
        if let Some(runner) = self.runner.upgrade() {
            runner.nudge();
        }
        // No answer at all means that the request was dropped with the driver.
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

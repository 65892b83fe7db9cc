//! A source, and the messages it yields.

use std::error::Error;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use super::{StreamError, StreamParams};

/// What an opened source yields, in its own order.
///
/// ```
/// use kithara::stream::Message;
///
/// let first: Message<&str> = Message::Control("verse");
/// let second: Message<&str> = Message::Data("do re mi".into());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<M> {
    /// The next bytes. An empty chunk is allowed and skipped.
    Data(Bytes),
    /// A fact about the bytes around it.
    Control(M),
}

/// An opened source: data and control messages until its end, or until its first error.
///
/// ```
/// use std::convert::Infallible;
///
/// use futures_lite::stream;
/// use kithara::stream::{Message, SourceStream};
///
/// let messages = [Ok(Message::Data("do re mi".into()))];
/// let opened: SourceStream<(), Infallible> = Box::pin(stream::iter(messages));
/// ```
pub type SourceStream<C, E> =
    Pin<Box<dyn futures_core::Stream<Item = Result<Message<C>, StreamError<E>>> + Send>>;

/// Where bytes come from: a file, an HLS track, anything that can be opened at a byte position.
///
/// # Contract
///
/// - `open` starts at byte 0, or where the last accepted `seek_bytes` or `seek_time` said. The position stays recorded: a
///   second `open` without a seek between them starts there again.
/// - No call does I/O or waits. All run on the driver's task, or inside a caller's seek. What fails later fails in the
///   opened stream.
/// - `None` means that everything there is has been yielded. A source that stops for another reason yields an error.
/// - After the first error, or `None`, the opened stream is dropped and never polled again. Only a seek opens a new one.
/// - Dropping the opened stream stops all work it started. There is no other stop.
/// - Chunks own little more memory than they show: the queue counts `Bytes::len`, not the buffer behind it.
/// - With [`StreamParams::offline_mode`] set, the source does not touch the network.
///
/// # Implementing
///
/// Two mistakes with the position are common. The contract suite (feature `test-util`) finds both.
///
/// - The position is kept in the opened stream. A seek replaces that stream, and the next `open` starts at 0. Keep the
///   position in the source.
/// - `open` uses the position up, with a `take()`. The second `open` then starts at 0.
///
/// A refused seek must leave the source as it was, because the old stream flows on.
///
/// ```
/// use std::convert::Infallible;
/// use std::task::Poll;
///
/// use bytes::Bytes;
/// use futures_lite::stream;
/// use kithara::stream::{Message, Source, SourceStream, StreamError, StreamParams};
///
/// struct Memory {
///     bytes: Bytes,
///     position: usize,
/// }
///
/// impl Source for Memory {
///     type Error = Infallible;
///     type Control = ();
///
///     fn open(
///         &mut self,
///         _: &StreamParams,
///     ) -> Result<SourceStream<(), Infallible>, StreamError<Infallible>> {
///         let mut rest = self.bytes.slice(self.position..);
///         Ok(Box::pin(stream::poll_fn(move |_| {
///             let chunk = rest.split_to(rest.len().min(64 * 1024));
///             let is_end = chunk.is_empty();
///             Poll::Ready((!is_end).then_some(Ok(Message::Data(chunk))))
///         })))
///     }
///
///     fn seek_bytes(&mut self, position: u64) -> Result<(), StreamError<Infallible>> {
///         let position = usize::try_from(position).unwrap_or(usize::MAX);
///         self.position = position.min(self.bytes.len());
///         Ok(())
///     }
///
///     fn supports_seek(&self) -> bool {
///         true
///     }
/// }
/// ```
pub trait Source: Send + 'static {
    /// What the source fails with.
    type Error: Error + Send + Sync + 'static;

    /// What the source says beside the bytes. `()` if it says nothing.
    type Control: Send + 'static;

    /// Opens the source at the position last sought, or at its start.
    ///
    /// # Errors
    ///
    /// What can be known without I/O. At the first `open` the consumer receives it, as the stream's only item. After a
    /// seek the seek's caller receives it, and the stream that was open flows on.
    #[expect(clippy::type_complexity, reason = "an implementor writes two short names")]
    fn open(
        &mut self,
        params: &StreamParams,
    ) -> Result<SourceStream<Self::Control, Self::Error>, StreamError<Self::Error>>;

    /// Records where the next [`open`](Self::open) starts, in bytes from the start of the track.
    ///
    /// # Errors
    ///
    /// [`StreamError::SeekNotSupported`], the provided method's answer, or the source's own reason. The caller receives
    /// it, and the stream that is open flows on.
    fn seek_bytes(&mut self, position: u64) -> Result<(), StreamError<Self::Error>> {
        let _ = position;
        Err(StreamError::SeekNotSupported)
    }

    /// Whether [`seek_bytes`](Self::seek_bytes) is worth calling.
    fn supports_seek(&self) -> bool {
        false
    }

    /// Records that the next [`open`](Self::open) starts with what plays at `time`, counted from the start of the track.
    /// It starts at the last place at or before `time` where a decoder can begin. If nothing plays at `time`, it starts
    /// with what plays next.
    ///
    /// # Errors
    ///
    /// As [`seek_bytes`](Self::seek_bytes). The provided method answers [`StreamError::SeekNotSupported`]: most sources
    /// know bytes only.
    fn seek_time(&mut self, time: Duration) -> Result<(), StreamError<Self::Error>> {
        let _ = time;
        Err(StreamError::SeekNotSupported)
    }

    /// Whether [`seek_time`](Self::seek_time) is worth calling.
    fn supports_seek_time(&self) -> bool {
        false
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    type Error = S::Error;
    type Control = S::Control;

    fn open(
        &mut self,
        params: &StreamParams,
    ) -> Result<SourceStream<Self::Control, Self::Error>, StreamError<Self::Error>> {
        (**self).open(params)
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), StreamError<Self::Error>> {
        (**self).seek_bytes(position)
    }

    fn supports_seek(&self) -> bool {
        (**self).supports_seek()
    }

    fn seek_time(&mut self, time: Duration) -> Result<(), StreamError<Self::Error>> {
        (**self).seek_time(time)
    }

    fn supports_seek_time(&self) -> bool {
        (**self).supports_seek_time()
    }
}

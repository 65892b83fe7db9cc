//! Where the bytes come from: the messages of an HLS source, awaited on the decoding thread.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_channel::{Receiver, Sender};
use futures_lite::{StreamExt, future};

use crate::{
    decode::{DecodeError, error::InterruptedSnafu, source::Interrupt},
    hls::{HlsControl, HlsError, HlsSource},
    stream::{Message, Messages, Source, SourceStream, Stream, StreamError, StreamParams},
};

/// Messages, one after another; blocks until one is there.
pub(super) trait Feed: Send {
    /// The next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// Those of the source; `Interrupted`, after which the same call goes on.
    fn next(&mut self) -> Result<Option<Message<HlsControl>>, DecodeError>;

    /// The next message is the first one from `time` on, also after the end or an error.
    ///
    /// # Errors
    ///
    /// Those of the source.
    fn seek(&mut self, time: Duration) -> Result<(), DecodeError>;

    /// Ends a wait of `next`.
    fn interrupt(&self) -> Interrupt;
}

/// One source behind several streams, one after another: a stream that has ended cannot be sought in.
#[derive(Clone)]
struct Reopened(Arc<Mutex<HlsSource>>);

impl Reopened {
    fn with<T>(&self, call: impl FnOnce(&mut HlsSource) -> T) -> T {
        // No call of a source waits or does I/O, and each leaves it whole.
        call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Source for Reopened {
    type Error = HlsError;
    type Control = HlsControl;

    fn open(
        &mut self,
        params: &StreamParams,
    ) -> Result<SourceStream<HlsControl, HlsError>, StreamError<HlsError>> {
        self.with(|source| source.open(params))
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), StreamError<HlsError>> {
        self.with(|source| source.seek_bytes(position))
    }

    fn supports_seek(&self) -> bool {
        self.with(|source| source.supports_seek())
    }

    fn seek_time(&mut self, time: Duration) -> Result<(), StreamError<HlsError>> {
        self.with(|source| source.seek_time(time))
    }

    fn supports_seek_time(&self) -> bool {
        self.with(|source| source.supports_seek_time())
    }
}

/// A stream of a source that runs on a task of its own.
pub(super) struct StreamFeed {
    source: Reopened,
    params: StreamParams,
    messages: Messages<Reopened>,
    /// One slot: an interrupt that comes while nothing waits ends the next wait.
    interrupts: (Sender<()>, Receiver<()>),
}

impl StreamFeed {
    pub(super) fn new(source: HlsSource, params: StreamParams) -> Self {
        let source = Reopened(Arc::new(Mutex::new(source)));
        Self {
            messages: Stream::new(source.clone(), params.clone()).into_messages(),
            source,
            params,
            interrupts: async_channel::bounded(1),
        }
    }
}

impl Feed for StreamFeed {
    fn next(&mut self) -> Result<Option<Message<HlsControl>>, DecodeError> {
        let (messages, interrupts) = (&mut self.messages, &self.interrupts.1);
        let message = async { Ok(messages.next().await) };
        let interrupted = async {
            // This side holds a sender, so that the channel is never closed.
            let _ = interrupts.recv().await;
            InterruptedSnafu.fail()
        };
        // A message that is there is taken first: an interrupt only ends a wait.
        match future::block_on(future::or(message, interrupted))? {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(error)) => Err(typed(error)),
        }
    }

    fn seek(&mut self, time: Duration) -> Result<(), DecodeError> {
        // Answered by the driver, which runs: this side waits for no bytes here.
        // A handle for each seek: the stream behind it may have been opened anew since.
        let handle = self.messages.handle();
        match future::block_on(handle.seek_time(time)) {
            Ok(()) => Ok(()),
            Err(StreamError::ChannelClosed | StreamError::DriverGone { .. }) => {
                // The stream is over for good. The source is not: it begins where it is told to when it is opened again.
                self.source.seek_time(time).map_err(typed)?;
                self.messages = Stream::new(self.source.clone(), self.params.clone()).into_messages();
                Ok(())
            }
            Err(error) => Err(typed(error)),
        }
    }

    fn interrupt(&self) -> Interrupt {
        // The channel's and not the feed's: an interrupt may outlive what it interrupts.
        let sender = self.interrupts.0.clone();
        Arc::new(move || {
            // Full means that one is on its way already.
            let _ = sender.try_send(());
        })
    }
}

fn typed(error: StreamError<HlsError>) -> DecodeError {
    match error {
        StreamError::Source { source } => source.into(),
        StreamError::SeekNotSupported => DecodeError::SeekUnsupported,
        StreamError::DriverGone { panic } => DecodeError::DriverGone { panic },
        StreamError::SeekSuperseded | StreamError::ChannelClosed => DecodeError::DriverGone { panic: None },
    }
}

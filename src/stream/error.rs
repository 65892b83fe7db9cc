//! What can go wrong with a stream, and whose fault it was.

use std::error::Error;

use snafu::Snafu;

/// Why a stream ended, or why a command was refused.
///
/// `E` is the source's own error type. It travels unboxed: match on [`StreamError::Source`] and it is yours again.
///
/// ```
/// use std::io;
///
/// use kithara::stream::StreamError;
///
/// let error = StreamError::source(io::Error::from(io::ErrorKind::ConnectionReset));
/// assert_eq!(error.source_error().map(io::Error::kind), Some(io::ErrorKind::ConnectionReset));
/// assert_eq!(error.to_string(), "the source failed");
/// ```
#[non_exhaustive]
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum StreamError<E: Error + 'static> {
    /// The source has no way to start at a byte position. Its data flows on as before.
    #[snafu(display("the source cannot seek by bytes"))]
    SeekNotSupported,

    /// A later seek took this one's place before the source had seen it. The later one decides where the stream is.
    #[snafu(display("a later seek took this one's place"))]
    SeekSuperseded,

    /// The stream has ended or its consumer is gone, so there is nothing left to command.
    #[snafu(display("the stream has ended"))]
    ChannelClosed,

    /// Whatever ran the source disappeared before the source ended: it panicked, or its executor was shut down.
    /// The bytes received so far are right; how many are missing is unknown.
    #[snafu(display("the driver is gone{}", panic.as_ref().map(|text| format!(": panic: {text}")).unwrap_or_default()))]
    DriverGone {
        /// What the source said when it panicked, if that is what happened.
        panic: Option<String>,
    },

    /// The source itself failed.
    #[snafu(display("the source failed"))]
    Source {
        /// The source's own error.
        source: E,
    },
}

impl<E: Error + 'static> StreamError<E> {
    /// Wraps the source's own error.
    ///
    /// ```
    /// use std::io;
    ///
    /// use kithara::stream::StreamError;
    ///
    /// fn read() -> Result<(), StreamError<io::Error>> {
    ///     std::fs::read("/no/such/track").map_err(StreamError::source)?;
    ///     Ok(())
    /// }
    /// assert!(read().is_err());
    /// ```
    pub fn source(error: E) -> Self {
        Self::Source { source: error }
    }

    /// The source's own error, if it was the source that failed.
    ///
    /// ```
    /// use std::fmt;
    ///
    /// use kithara::stream::StreamError;
    ///
    /// assert_eq!(StreamError::source(fmt::Error).source_error(), Some(&fmt::Error));
    /// assert_eq!(StreamError::<fmt::Error>::ChannelClosed.source_error(), None);
    /// ```
    pub fn source_error(&self) -> Option<&E> {
        match self {
            Self::Source { source } => Some(source),
            _ => None,
        }
    }

    /// Turns the source's error into another one and leaves everything else as it is. For sources that wrap
    /// other sources.
    ///
    /// ```
    /// use std::{fmt, io};
    ///
    /// use kithara::stream::StreamError;
    ///
    /// let inner: StreamError<fmt::Error> = StreamError::source(fmt::Error);
    /// let outer: StreamError<io::Error> = inner.map_source(io::Error::other);
    /// assert!(outer.source_error().is_some());
    /// ```
    pub fn map_source<F: Error + 'static>(self, map: impl FnOnce(E) -> F) -> StreamError<F> {
        match self {
            Self::SeekNotSupported => StreamError::SeekNotSupported,
            Self::SeekSuperseded => StreamError::SeekSuperseded,
            Self::ChannelClosed => StreamError::ChannelClosed,
            Self::DriverGone { panic } => StreamError::DriverGone { panic },
            Self::Source { source } => StreamError::Source { source: map(source) },
        }
    }

    /// Whether another seek made this one pointless. Nothing is wrong; the later seek has its own answer.
    ///
    /// ```
    /// use std::io;
    ///
    /// use kithara::stream::StreamError;
    ///
    /// assert!(StreamError::<io::Error>::SeekSuperseded.is_superseded());
    /// ```
    pub fn is_superseded(&self) -> bool {
        matches!(self, Self::SeekSuperseded)
    }

    /// Whether the stream was over before the command reached it.
    ///
    /// ```
    /// use std::io;
    ///
    /// use kithara::stream::StreamError;
    ///
    /// assert!(StreamError::<io::Error>::ChannelClosed.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::ChannelClosed)
    }
}

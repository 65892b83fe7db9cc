//! Why a stream ends early, or refuses a command.

use std::error::Error;

use snafu::Snafu;

/// Why a stream ended, or why a command was refused.
///
/// `E` is the source's own error type. It arrives unboxed in [`StreamError::Source`], whose text and
/// [`source`](Error::source) are those of the error inside. `?` makes a `StreamError` of an `E`.
///
/// ```
/// use std::fmt;
///
/// use kithara::stream::StreamError;
///
/// let error = StreamError::source(fmt::Error);
/// assert_eq!(error.source_error(), Some(&fmt::Error));
/// assert_eq!(error.to_string(), fmt::Error.to_string());
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum StreamError<E: Error + 'static> {
    /// The source has no way to start at a position of this kind: a byte, or an instant. Its data flows on as before.
    #[snafu(display("the source cannot seek to a position of this kind"))]
    SeekNotSupported,

    /// A later seek replaced this one before the source had seen it. The later one decides where the stream goes on.
    #[snafu(display("a later seek replaced this one"))]
    SeekSuperseded,

    /// The stream has ended, or its consumer is gone. There is nothing left to command.
    #[snafu(display("the stream has ended"))]
    ChannelClosed,

    /// The driver was gone before the source had ended: the source panicked, or the executor was shut down. The bytes
    /// received so far are right. How many are missing is unknown.
    #[snafu(display("the driver is gone{}", panic.as_ref().map(|text| format!(": panic: {text}")).unwrap_or_default()))]
    DriverGone {
        /// The panic's text, if the source panicked.
        panic: Option<String>,
    },

    /// The source itself failed.
    #[snafu(transparent)]
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

    /// The source's own error, if the source failed.
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

    /// Turns the source's error into another one and keeps everything else. For sources that wrap other sources.
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

    /// Whether a later seek replaced this one. Nothing is wrong: the later seek has its own answer.
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

    /// Whether the stream had ended before the command reached it.
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

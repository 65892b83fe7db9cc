//! Causes of a [`NetError`](super::NetError): what the system, the connection or HTTP's parser reported.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use super::odd_line;

/// An [`io::Error`] that can be cloned. It dereferences to the `io::Error`, which is also what a chain of
/// [`source`](std::error::Error::source)s shows.
#[derive(Clone)]
pub struct IoError(Arc<io::Error>);

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl Deref for IoError {
    type Target = io::Error;

    fn deref(&self) -> &io::Error {
        &self.0
    }
}

impl fmt::Debug for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

// Not an `Error` itself: then a chain of sources would show this type, and a search for an `io::Error` would find none.
impl snafu::AsErrorSource for IoError {
    fn as_error_source(&self) -> &(dyn std::error::Error + 'static) {
        &*self.0
    }
}

/// Why an established connection failed. Its [`source`](std::error::Error::source) is the [`io::Error`], if there was
/// one.
#[derive(Clone)]
pub struct TransportError(Arc<Cause>);

enum Cause {
    Http(hyper::Error),
    /// A head that cannot be read.
    Head {
        error: hyper::Error,
        /// The line, as far as it may be shown.
        line: Option<String>,
    },
    /// In a body that the bulk reader read, without hyper.
    Body(io::Error),
    /// The connection was closed before the request.
    Closed,
}

impl TransportError {
    pub(super) fn new(error: hyper::Error) -> Self {
        Self(Arc::new(Cause::Http(error)))
    }

    /// `unread`: what hyper had read and could not take.
    pub(super) fn at(error: hyper::Error, unread: &[u8]) -> Self {
        // Only then is there a head to blame. Of a broken connection the unread bytes are anything.
        if !error.is_parse() {
            return Self::new(error);
        }
        let line = odd_line::find(&error.to_string(), unread);
        Self(Arc::new(Cause::Head { error, line }))
    }

    pub(super) fn closed() -> Self {
        Self(Arc::new(Cause::Closed))
    }

    pub(super) fn in_body(error: io::Error) -> Self {
        Self(Arc::new(Cause::Body(error)))
    }

    /// Whether the peer sent something that is not HTTP/1. Otherwise the connection broke.
    pub fn is_protocol(&self) -> bool {
        match &*self.0 {
            // A parse error comes with every new connection, too. The other errors may pass.
            Cause::Http(error) => error.is_parse(),
            Cause::Head { .. } => true,
            // The bulk reader takes bytes as they are, so it finds no wrong ones.
            Cause::Body(_) | Cause::Closed => false,
        }
    }

    /// The line of the head that cannot be read, if it is known. Of a header field no more than the name.
    pub(super) fn line(&self) -> Option<&str> {
        match &*self.0 {
            Cause::Head { line, .. } => line.as_deref(),
            _ => None,
        }
    }

    /// The [`io::Error`] below, if there is one.
    pub(super) fn io_error(&self) -> Option<&io::Error> {
        // hyper wraps it in errors of its own, and rustls in an `io::Error`.
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref() {
                return Some(io);
            }
            cause = error.source();
        }
        None
    }

    /// What rustls said, if it ended the connection: commonly an alert of the peer's.
    #[cfg(feature = "tls")]
    pub(super) fn tls_error(&self) -> Option<futures_rustls::rustls::Error> {
        self.io_error()?.get_ref()?.downcast_ref().cloned()
    }
}

impl fmt::Debug for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Cause::Http(error) | Cause::Head { error, .. } => fmt::Debug::fmt(error, f),
            Cause::Body(error) => fmt::Debug::fmt(error, f),
            Cause::Closed => f.write_str("Closed"),
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Cause::Http(error) | Cause::Head { error, .. } => fmt::Display::fmt(error, f),
            Cause::Body(_) => f.write_str("error reading a body from connection"),
            Cause::Closed => f.write_str("connection closed"),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Cause::Http(error) | Cause::Head { error, .. } => std::error::Error::source(error),
            Cause::Body(error) => Some(error),
            Cause::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use snafu::IntoError as _;

    use super::super::error::ConnectSnafu;
    use super::*;

    #[test]
    fn a_clone_has_the_same_cause_and_a_search_for_it_finds_it() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = ConnectSnafu { url: "http://h/" }.into_error(refused);
        for error in [error.clone(), error] {
            let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
            assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused));
            assert!(error.is_transient());
        }
        let error = TransportError::in_body(io::Error::from(io::ErrorKind::UnexpectedEof));
        let cause = error.clone();
        let cause = cause.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::UnexpectedEof));
    }
}

//! What can go wrong between a URL and its bytes.

use std::fmt;
use std::io;
use std::time::Duration;

use snafu::Snafu;
use url::Url;

use super::ByteRange;

/// What a request may fail with.
///
/// URLs in it are [redacted](super::redacted): they never show a query, a fragment or credentials, and no header value
/// is kept.
#[non_exhaustive]
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum NetError {
    /// The URL is neither `http` nor `https`, or names no host.
    #[snafu(display("{url}: neither http nor https, or no host"))]
    UnsupportedUrl {
        /// The URL, redacted.
        url: String,
    },

    /// An `https` URL in a build without TLS.
    #[snafu(display("{url}: https needs kithara's feature `tls`"))]
    TlsDisabled {
        /// The URL, redacted.
        url: String,
    },

    /// TLS could not be set up on this machine, for instance because its certificate store cannot be read.
    #[cfg(feature = "tls")]
    #[snafu(display("TLS could not be set up"))]
    TlsSetup {
        /// What rustls or the platform's verifier said.
        source: futures_rustls::rustls::Error,
    },

    /// A header name or value that HTTP does not allow.
    #[snafu(display("header {name:?} has a name or a value that HTTP does not allow"))]
    InvalidHeader {
        /// The header's name as it was given.
        name: String,
    },

    /// A byte range that holds no byte.
    #[snafu(display("byte range {range} holds no byte"))]
    InvalidRange {
        /// The range asked for.
        range: ByteRange,
    },

    /// All connections that the client may have to the host were in use for the whole
    /// [limit](super::HttpClientBuilder::queue_timeout): by bodies that are not read to their end, as a rule.
    #[snafu(display("{url}: all {connections} connections to {host} in use for {limit:?}"))]
    NoneFree {
        /// The URL, redacted.
        url: String,
        /// The host that they lead to.
        host: String,
        /// How many there may be.
        connections: usize,
        /// The limit that passed.
        limit: Duration,
    },

    /// No connection: the name did not resolve, or no address of it answered.
    #[snafu(display("{url}: cannot connect"))]
    Connect {
        /// The URL, redacted.
        url: String,
        /// What the operating system said.
        source: io::Error,
    },

    /// The TLS handshake failed: a certificate that is not trusted, or no common protocol version.
    #[snafu(display("{url}: TLS handshake failed"))]
    TlsHandshake {
        /// The URL, redacted.
        url: String,
        /// What rustls said.
        source: io::Error,
    },

    /// A limit of time passed.
    #[snafu(display("{url}: nothing for {limit:?} while {phase}"))]
    Timeout {
        /// The URL, redacted.
        url: String,
        /// What was being waited for.
        phase: Phase,
        /// The limit that passed.
        limit: Duration,
    },

    /// The connection failed before the response's head came, or the head was not HTTP.
    #[snafu(display("{url}: no response"))]
    NoResponse {
        /// The URL, redacted.
        url: String,
        /// What failed.
        source: TransportError,
    },

    /// The body ended early, or its connection failed on the way.
    #[snafu(display("{url}: the body broke off after {received} bytes"))]
    Interrupted {
        /// The URL, redacted.
        url: String,
        /// Body bytes that had been delivered.
        received: u64,
        /// What failed.
        source: TransportError,
    },

    /// The body was shorter than its own head announced.
    #[snafu(display("{url}: the body ended after {received} of {expected} bytes"))]
    Truncated {
        /// The URL, redacted.
        url: String,
        /// Body bytes that had been delivered.
        received: u64,
        /// Body bytes that were announced.
        expected: u64,
    },

    /// A status that is not a success.
    #[snafu(display("{url}: status {status}"))]
    Status {
        /// The URL, redacted.
        url: String,
        /// The status code.
        status: u16,
        /// How long the server asked to wait, from `Retry-After`.
        retry_after: Option<Duration>,
    },

    /// More redirects than allowed.
    #[snafu(display("{url}: more than {limit} redirects"))]
    TooManyRedirects {
        /// The URL that redirected once too often, redacted.
        url: String,
        /// The limit.
        limit: u8,
    },

    /// A redirect without a usable `Location`.
    #[snafu(display("{url}: redirect without a usable location"))]
    InvalidRedirect {
        /// The URL that redirected, redacted.
        url: String,
    },

    /// A redirect from `https` to `http`.
    #[snafu(display("{url}: redirect from https to http refused"))]
    InsecureRedirect {
        /// The URL that redirected, redacted.
        url: String,
    },

    /// The server sent another range than the one asked for, or a `Content-Range` that cannot be.
    #[snafu(display("{url}: the response is not the range asked for"))]
    RangeMismatch {
        /// The URL, redacted.
        url: String,
    },

    /// The server sent the whole file to a request for a range, and the range starts too far in to skip up to it.
    #[snafu(display("{url}: the server ignored the range, which starts at byte {start}"))]
    RangeIgnored {
        /// The URL, redacted.
        url: String,
        /// Where the range starts.
        start: u64,
    },

    /// The range starts beyond the end of the file.
    #[snafu(display("{url}: nothing at byte {start}"))]
    RangeNotSatisfiable {
        /// The URL, redacted.
        url: String,
        /// Where the range starts.
        start: u64,
        /// The file's length, if the server said it.
        total: Option<u64>,
    },

    /// The file is not the one that earlier bytes came from.
    #[snafu(display("{url}: the file has changed on the server"))]
    Changed {
        /// The URL, redacted.
        url: String,
    },

    /// A `Content-Encoding` that was not asked for.
    #[snafu(display("{url}: the body is encoded, which was not asked for"))]
    UnexpectedEncoding {
        /// The URL, redacted.
        url: String,
    },

    /// A body that was to be read whole is larger than the caller allows, as sent or after decompression.
    #[snafu(display("{url}: the body is larger than {limit} bytes"))]
    TooLarge {
        /// The URL, redacted.
        url: String,
        /// The limit.
        limit: usize,
    },

    /// A compressed body is damaged.
    #[snafu(display("{url}: the compressed body is damaged"))]
    Gunzip {
        /// The URL, redacted.
        url: String,
        /// What the decoder said.
        source: io::Error,
    },
}

impl NetError {
    /// Whether the same request may well succeed a little later: no connection, none free, a timeout, a broken connection, status
    /// 408, 429 or 5xx.
    pub fn is_transient(&self) -> bool {
        match self {
            NetError::Connect { .. }
            | NetError::Timeout { .. }
            | NetError::NoneFree { .. }
            | NetError::Truncated { .. } => true,
            NetError::Interrupted { source, .. } | NetError::NoResponse { source, .. } => {
                !source.is_protocol()
            }
            NetError::TlsHandshake { source, .. } => is_connection_loss(source),
            NetError::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether the client itself should try again at once: not where it has waited in vain for its own connections.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        self.is_transient() && !matches!(self, NetError::NoneFree { .. })
    }

    /// Whether the server said that there is nothing under this URL: 404 or 410.
    pub fn is_not_found(&self) -> bool {
        matches!(self.status(), Some(404 | 410))
    }

    /// Whether the file is not the one that earlier bytes came from. What was kept of it is worthless now.
    pub fn is_changed(&self) -> bool {
        matches!(self, NetError::Changed { .. })
    }

    /// The status code, if the server answered with one that is not a success.
    pub fn status(&self) -> Option<u16> {
        match self {
            NetError::Status { status, .. } => Some(*status),
            NetError::RangeNotSatisfiable { .. } => Some(416),
            _ => None,
        }
    }

    /// How long the server asked to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            NetError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A peer that went away in the middle of a handshake, as against one that cannot be trusted.
fn is_connection_loss(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
    )
}

/// What a [`NetError::Timeout`] was waiting for.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The name, the connection and the TLS handshake.
    Connect,
    /// The response's status and headers.
    Head,
    /// The next bytes of the body.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Connect => "connecting",
            Phase::Head => "waiting for the response",
            Phase::Body => "reading the body",
        })
    }
}

/// Why a connection failed once it stood. Its [`source`](std::error::Error::source) is the [`io::Error`], where there
/// was one.
pub struct TransportError(Cause);

enum Cause {
    Http(hyper::Error),
    /// In a body that was read without hyper.
    Body(io::Error),
    /// It was closed before.
    Closed,
}

impl TransportError {
    pub(super) fn new(error: hyper::Error) -> Self {
        Self(Cause::Http(error))
    }

    pub(super) fn closed() -> Self {
        Self(Cause::Closed)
    }

    pub(super) fn in_body(error: io::Error) -> Self {
        Self(Cause::Body(error))
    }

    /// Whether the peer spoke something that is not HTTP/1, rather than falling silent.
    pub fn is_protocol(&self) -> bool {
        match &self.0 {
            Cause::Http(error) => error.is_parse(),
            Cause::Body(_) | Cause::Closed => false,
        }
    }
}

impl fmt::Debug for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Http(error) => fmt::Debug::fmt(error, f),
            Cause::Body(error) => fmt::Debug::fmt(error, f),
            Cause::Closed => f.write_str("Closed"),
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Http(error) => fmt::Display::fmt(error, f),
            Cause::Body(_) => f.write_str("error reading a body from connection"),
            Cause::Closed => f.write_str("connection closed"),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Cause::Http(error) => std::error::Error::source(error),
            Cause::Body(error) => Some(error),
            Cause::Closed => None,
        }
    }
}

/// The URL without its query, fragment and credentials: what may be shown and logged.
///
/// ```
/// # use kithara::net::{redacted, Url};
/// let url = Url::parse("https://user:secret@example.com/a.mp3?token=1#t=30").unwrap();
/// assert_eq!(redacted(&url), "https://example.com/a.mp3");
/// ```
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // Both refuse only URLs that cannot hold credentials.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.into()
}

//! Why a request fails.

use std::fmt;
use std::io;
use std::time::Duration;

use snafu::Snafu;
use url::Url;

use super::{ByteRange, IoError, TransportError};

/// Why a request, or the body of its response, failed.
///
/// URLs in it are [redacted](super::redacted): they show no query, no fragment and no credentials. No header value is
/// kept.
#[non_exhaustive]
#[derive(Debug, Clone, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum NetError {
    /// The URL is neither `http` nor `https`, or names no host.
    #[snafu(display("{url}: neither http nor https, or no host"))]
    UnsupportedUrl {
        /// The URL, redacted.
        url: String,
    },

    /// The URL is `https`, and the build has no TLS.
    #[snafu(display("{url}: https needs kithara's feature `tls`"))]
    TlsDisabled {
        /// The URL, redacted.
        url: String,
    },

    /// TLS could not be set up on this machine, for instance because its certificate store cannot be read.
    #[cfg(feature = "tls")]
    #[snafu(display("TLS could not be set up"))]
    TlsSetup {
        /// The error of rustls, or of the platform's verifier.
        source: futures_rustls::rustls::Error,
    },

    /// A header name or value that HTTP does not allow.
    #[snafu(display("header {name:?} has a name or a value that HTTP does not allow"))]
    InvalidHeader {
        /// The header's name as it was given.
        name: String,
    },

    /// A byte range without a byte in it.
    #[snafu(display("byte range {range} holds no byte"))]
    InvalidRange {
        /// The range asked for.
        range: ByteRange,
    },

    /// All connections that the client may have to the host were in use for the whole
    /// [limit](super::HttpClientBuilder::queue_timeout). Commonly they are held by bodies that are not read to their end.
    #[snafu(display("{url}: all {connections} connections to {host} in use for {limit:?}"))]
    NoneFree {
        /// The URL, redacted.
        url: String,
        /// The host.
        host: String,
        /// How many connections the client may have to it.
        connections: usize,
        /// The limit that passed.
        limit: Duration,
    },

    /// No connection: the name did not resolve, or no address of it answered.
    #[snafu(display("{url}: cannot connect"))]
    Connect {
        /// The URL, redacted.
        url: String,
        /// The operating system's error.
        #[snafu(source(from(io::Error, IoError::from)))]
        source: IoError,
    },

    /// The TLS handshake failed: a certificate that is not trusted, or no common protocol version.
    #[snafu(display("{url}: TLS handshake failed"))]
    TlsHandshake {
        /// The URL, redacted.
        url: String,
        /// The error of rustls, or of the connection.
        #[snafu(source(from(io::Error, IoError::from)))]
        source: IoError,
    },

    /// A limit of time passed.
    #[snafu(display("{url}: nothing for {limit:?} while {phase}"))]
    Timeout {
        /// The URL, redacted.
        url: String,
        /// What the client waited for.
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

    /// The server answered with a status of failure.
    #[snafu(display("{url}: status {status}"))]
    Status {
        /// The URL, redacted.
        url: String,
        /// The status code.
        status: u16,
        /// How long to wait before the next try, from `Retry-After`.
        retry_after: Option<Duration>,
    },

    /// More redirects than allowed.
    #[snafu(display("{url}: more than {limit} redirects"))]
    TooManyRedirects {
        /// The URL of the last redirect, redacted.
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

    /// The server sent another range than the one asked for, or an impossible `Content-Range`.
    #[snafu(display("{url}: the response is not the range asked for"))]
    RangeMismatch {
        /// The URL, redacted.
        url: String,
    },

    /// The server sent the whole file to a request for a range. The range starts behind
    /// [`max_skip`](super::HttpClientBuilder::max_skip).
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

    /// The file on the server is not the one that earlier bytes came from.
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

    /// A body read whole is larger than the caller allows, as sent or after decompression.
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
        /// The decoder's error.
        #[snafu(source(from(io::Error, IoError::from)))]
        source: IoError,
    },
}

impl NetError {
    /// Whether the same request may succeed a little later: no connection, none free, a timeout, a broken connection,
    /// status 408, 429 or 5xx.
    pub fn is_transient(&self) -> bool {
        match self {
            NetError::Connect { .. }
            | NetError::Timeout { .. }
            | NetError::NoneFree { .. }
            | NetError::Truncated { .. } => true,
            // A server that speaks something else will do so again.
            NetError::Interrupted { source, .. } | NetError::NoResponse { source, .. } => {
                !source.is_protocol()
            }
            // A certificate does not become valid by trying again.
            NetError::TlsHandshake { source, .. } => is_connection_loss(source),
            NetError::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether the client itself tries again. Not after a vain wait for its own connections: the next wait would be as
    /// long, and the caller has a limit.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        self.is_transient() && !matches!(self, NetError::NoneFree { .. })
    }

    /// Whether there is nothing under this URL: status 404 or 410.
    pub fn is_not_found(&self) -> bool {
        matches!(self.status(), Some(404 | 410))
    }

    /// Whether the file on the server is not the one that earlier bytes came from. Bytes kept of it are of no more use.
    pub fn is_changed(&self) -> bool {
        matches!(self, NetError::Changed { .. })
    }

    /// The status code, if it is one of failure.
    pub fn status(&self) -> Option<u16> {
        match self {
            NetError::Status { status, .. } => Some(*status),
            NetError::RangeNotSatisfiable { .. } => Some(416),
            _ => None,
        }
    }

    /// How long to wait before the next try, if the server said it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            NetError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Whether the peer went away in the middle of a handshake. Otherwise it cannot be trusted.
fn is_connection_loss(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
    )
}

/// What the client waited for in a [`NetError::Timeout`].
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

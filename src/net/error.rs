//! Why a request fails.

use std::fmt;
use std::io;
use std::time::Duration;

use snafu::Snafu;

use super::{ByteRange, Change, IoError, ProxyFailure, TransportError};

/// Why a request, or the body of its response, failed.
///
/// URLs in it are [redacted](super::redacted): they show no query, no fragment and no credentials. Of header values it
/// keeps those alone that say what came: a type, a range, the name of a coding.
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

    /// A credential that would go to every host: `Authorization`, `Cookie` or `Proxy-Authorization` for a whole client.
    #[snafu(display("header {name:?} is a credential, and belongs to an origin or a source"))]
    ClientWideCredential {
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

    /// The proxy did not lead to the host.
    #[snafu(display("{url}: proxy {proxy} {failure}"))]
    Proxy {
        /// The URL, redacted.
        url: String,
        /// The proxy, without its credentials.
        proxy: String,
        /// What failed.
        failure: ProxyFailure,
    },

    /// A proxy that cannot be used: neither an HTTP nor a SOCKS 5 proxy.
    #[snafu(display("{proxy}: neither an http nor a socks5 proxy"))]
    InvalidProxy {
        /// The proxy's URL, redacted, or `?` for text that is no URL.
        proxy: String,
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

    /// The TLS handshake failed: a certificate that is not trusted, no common protocol version, or a client certificate that
    /// the server asks for and does not get.
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

    /// The response's head is not HTTP/1, or a line of it cannot be read.
    #[snafu(display("{url}: not a response{}", AtLine(line.as_deref())))]
    InvalidHead {
        /// The URL, redacted.
        url: String,
        /// The line, cut to 48 characters, or of a header field the name. `None` where no line is to blame.
        line: Option<String>,
        /// The parser's error.
        source: TransportError,
    },

    /// The connection failed before the response's head came.
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

    /// The body came more slowly than [allowed](super::HttpClientBuilder::least_speed).
    #[snafu(display("{url}: {received} bytes in {over:?} of waiting"))]
    TooSlow {
        /// The URL, redacted.
        url: String,
        /// The bytes that came in that time.
        received: u64,
        /// The time that the client waited for them.
        over: Duration,
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

    /// The server answered with a status that stands for no file: one of failure, or one of success other than 200 and 206
    /// (RFC 9110, section 15.3).
    #[snafu(display("{url}: status {status}"))]
    Status {
        /// The URL, redacted.
        url: String,
        /// The status code.
        status: u16,
        /// `Content-Type` of what came with it.
        content_type: Option<String>,
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

    /// The server sent another part of the file than the one asked for, or an impossible `Content-Range`, or a part for the
    /// whole.
    #[snafu(display("{url}: asked for {}, got {}", Asked(*asked), Received(*status, received.as_deref())))]
    RangeMismatch {
        /// The URL, redacted.
        url: String,
        /// The status code: 206, or 200 with a `Content-Range`.
        status: u16,
        /// The range asked for. `None` for the whole.
        asked: Option<ByteRange>,
        /// `Content-Range` as sent, if there is one.
        received: Option<String>,
    },

    /// The body went on behind the end that its head announced.
    #[snafu(display("{url}: the body goes on behind byte {end}, its announced end"))]
    Overlong {
        /// The URL, redacted.
        url: String,
        /// Position in the file of the announced end.
        end: u64,
    },

    /// The server sent several parts in one body (`multipart/byteranges`), which was not asked for.
    #[snafu(display("{url}: status {status} with several ranges in one body"))]
    Multipart {
        /// The URL, redacted.
        url: String,
        /// The status code.
        status: u16,
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
    #[snafu(display("{url}: the file has changed on the server: {change}"))]
    Changed {
        /// The URL, redacted.
        url: String,
        /// What shows it.
        change: Change,
    },

    /// A `Content-Encoding` that was not asked for.
    #[snafu(display("{url}: the body is encoded as {coding}, which was not asked for"))]
    UnexpectedEncoding {
        /// The URL, redacted.
        url: String,
        /// The coding's name.
        coding: String,
    },

    /// A `Transfer-Encoding` other than `chunked`: the bytes are coded, and nothing proves their end (RFC 9112, section
    /// 6.3).
    #[snafu(display("{url}: the body comes in transfer coding {coding}, which is not understood"))]
    UnexpectedTransferCoding {
        /// The URL, redacted.
        url: String,
        /// The coding's name.
        coding: String,
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
    /// Whether the same request may succeed a little later: no connection, none free, a timeout, a broken or a slow connection,
    /// status 408, 425, 429 or 5xx. Not 501, 505, 510 and 511: what the server cannot do, or asks of a person, does not pass
    /// by waiting.
    pub fn is_transient(&self) -> bool {
        match self {
            NetError::Connect { .. }
            | NetError::Timeout { .. }
            | NetError::NoneFree { .. }
            | NetError::TooSlow { .. }
            | NetError::Truncated { .. } => true,
            // The proxy is a host of its own: what it says of itself passes, what it says of the caller does not.
            NetError::Proxy { failure, .. } => failure.is_transient(),
            // A server that speaks something else will do so again.
            NetError::Interrupted { source, .. } | NetError::NoResponse { source, .. } => {
                !source.is_protocol()
            }
            // A certificate does not become valid by trying again.
            NetError::TlsHandshake { source, .. } => is_connection_loss(source),
            NetError::Status { status, .. } => match status {
                501 | 505 | 510 | 511 => false,
                status => matches!(status, 408 | 425 | 429 | 500..=599),
            },
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

    /// Whether the server has the file, and not for this request: status 401, 402, 403, 407 or 451.
    pub fn is_forbidden(&self) -> bool {
        // 407 from a server: it stands behind a proxy that it has not been told of. One of a proxy that the client knows is
        // `Proxy`, as no server has been asked.
        matches!(self.status(), Some(401 | 402 | 403 | 407 | 451))
    }

    /// Whether there was a file under this URL, and will not be again: status 410.
    pub fn is_gone(&self) -> bool {
        self.status() == Some(410)
    }

    /// Whether the server may answer the same request if it asks for the whole in place of a range from the first byte.
    pub(super) fn refuses_range(&self) -> bool {
        match self {
            // What servers answer that take a `Range` for something wrong, and would serve the whole.
            NetError::Status { status, .. } => matches!(status, 400 | 403 | 405 | 501),
            NetError::RangeNotSatisfiable { .. } => true,
            NetError::RangeMismatch { status, received, .. } => *status == 206 && received.is_none(),
            _ => false,
        }
    }

    /// The status code, where it is the error.
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

/// The range asked for, in a sentence.
struct Asked(Option<ByteRange>);

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(range) => write!(f, "bytes {range}"),
            None => f.write_str("the whole"),
        }
    }
}

/// Status and `Content-Range`, in a sentence.
struct Received<'a>(u16, Option<&'a str>);

impl fmt::Display for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(range) => write!(f, "status {} with {range:?}", self.0),
            None => write!(f, "status {} without Content-Range", self.0),
        }
    }
}

/// The line of a head, in a sentence.
struct AtLine<'a>(Option<&'a str>);

impl fmt::Display for AtLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(line) => write!(f, ", at {line:?}"),
            None => Ok(()),
        }
    }
}

/// The most characters of what a server sent that an error shows.
const SHOWN: usize = 64;

/// A header's value for an error. For headers alone whose values say what came and are no secrets.
pub(super) fn shown_value(value: &http::HeaderValue) -> String {
    // Cut: a header may have 64 KiB, and goes into a line of a log.
    let text = String::from_utf8_lossy(value.as_bytes());
    text.chars().take(SHOWN).collect()
}

/// The name of a coding for an error. Other text is left out: it may be anything.
pub(super) fn shown_word(word: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_+.*".contains(c);
    // Whole or not at all: a piece of something that is no name could be a piece of anything.
    if word.len() <= SHOWN && word.chars().all(is_name) {
        word.to_owned()
    } else {
        "?".to_owned()
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

//! One HTTP/1.1 connection, driven by the consumer that waits for its bytes.
//!
//! hyper splits a connection into a handle and a future that does the work, and expects the future to be spawned. Here
//! the future is polled in place. There is no task and no wake-up between socket and consumer. One value holds handle and
//! future, and dropping it closes the socket at once.
//!
//! hyper reads heads and short bodies. For a long body its connection is taken apart, and the [bulk reader](super::bulk)
//! reads the rest from the socket. Afterwards the socket takes the next request like a new one:
//!
//! ```text
//!           exchange          long body            body's end
//!  Bare ──────────────▶ Hyper ──────────▶ Bulk ───────────────▶ Bare
//!                        │ ▲ body's end             if the server keeps it open
//!                        └─┘
//!  any stage ──▶ Closed: the connection failed, or the server does not keep it open
//! ```

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Weak;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body as _;
use hyper::client::conn::http1;

use super::TransportError;
use super::bulk::{self, BulkReader};
use super::forward::{Dialled, Forward};
use super::hyper_io::HyperIo;
use super::icy::Icy;
use super::limits::IdleTimer;
use super::socket::Socket;
use crate::rt::TcpStream;

/// The most that hyper makes room for at once, and the largest head. hyper begins with 8 KiB and grows only while reads fill
/// what it asks for.
const READ_AT_ONCE: usize = 256 * 1024;

/// The most header fields of a response. hyper's own limit is 100; sites that set many cookies pass it.
const MAX_FIELDS: usize = 256;

/// A connection between exchanges, or within one.
pub(super) struct Connection {
    stage: Stage,
    /// Whether the last response allows another.
    keep: bool,
    /// How long the last head took. Zero before the first.
    head_time: Duration,
    idle_timer: IdleTimer,
    /// How requests are addressed, where a proxy forwards them.
    forward: Option<Forward>,
    /// The socket below, for a cancel token. Weak: only the stage keeps the socket open.
    tcp: Weak<TcpStream>,
}

type Transport = Icy<Socket>;

enum Stage {
    /// No hyper. The next exchange puts it there.
    Bare(Transport),
    Hyper(Hyper),
    Bulk(Box<BulkReader<Transport>>),
    Closed,
}

struct Hyper {
    requests: http1::SendRequest<NoBody>,
    connection: HyperConnection,
}

/// hyper's connection future, which reads and writes. `None` once it has ended.
///
/// It is dropped as soon as it ends. A request that was handed over just before would lie in the ended future for ever:
/// only the drop tells the request's own future that no answer will come.
struct HyperConnection {
    /// Boxed: these 600 bytes would otherwise move with every body.
    running: Option<Box<http1::Connection<HyperIo<Transport>, NoBody>>>,
    /// What it had read and not used when it ended.
    unread: Bytes,
}

impl HyperConnection {
    /// Polls the future. Returns its error, once.
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<TransportError> {
        match Pin::new(self.running.as_mut()?).poll(cx) {
            Poll::Ready(outcome) => {
                self.end();
                Some(self.explained(outcome.err()?))
            }
            Poll::Pending => None,
        }
    }

    fn end(&mut self) {
        if let Some(ended) = self.running.take() {
            self.unread = ended.into_parts().read_buf;
        }
    }

    /// The error with the line that it is about: of a head that hyper cannot read, the bytes are still in its buffer.
    fn explained(&mut self, error: hyper::Error) -> TransportError {
        self.end();
        TransportError::at(error, &std::mem::take(&mut self.unread))
    }
}

impl Hyper {
    async fn at(transport: Transport) -> hyper::Result<Self> {
        // It sends nothing: hyper's handshake makes the pair of handle and future.
        let mut builder = http1::Builder::new();
        // Heads as servers send them: what browsers and curl take. A line that is no header field is left out.
        let handshake = builder
            .ignore_invalid_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .max_headers(MAX_FIELDS)
            .max_buf_size(READ_AT_ONCE)
            .handshake(HyperIo::new(transport));
        let (requests, connection) = handshake.await?;
        let running = Some(Box::new(connection));
        Ok(Self {
            requests,
            connection: HyperConnection {
                running,
                unread: Bytes::new(),
            },
        })
    }
}

/// The part of a response that comes after its head.
pub(super) type Incoming = hyper::body::Incoming;

/// Why a connection gave nothing.
pub(super) enum Failure {
    /// It was silent for the whole limit.
    Silent,
    Broken(TransportError),
}

impl Connection {
    /// `idle_timer` may be the one that limited connecting.
    pub(super) fn new(dialled: Dialled, idle_timer: IdleTimer) -> Self {
        let Dialled { socket, forward } = dialled;
        Self {
            tcp: socket.tcp(),
            forward,
            stage: Stage::Bare(Icy::new(socket)),
            keep: false,
            head_time: Duration::ZERO,
            idle_timer,
        }
    }

    pub(super) fn tcp(&self) -> &Weak<TcpStream> {
        &self.tcp
    }

    pub(super) fn forward(&self) -> Option<&Forward> {
        self.forward.as_ref()
    }

    /// How long the last head took. Zero before the first.
    pub(super) fn head_time(&self) -> Duration {
        self.head_time
    }

    /// Sends a request and waits, no longer than `limit`, for the response's head.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a connection whose exchange was dropped takes no other request. Drop the connection, too.
    pub(super) async fn exchange(
        &mut self,
        request: http::Request<NoBody>,
        limit: Duration,
    ) -> Result<http::Response<Incoming>, Failure> {
        let broken = |error| Failure::Broken(TransportError::new(error));
        self.stage = match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Bare(transport) => Stage::Hyper(Hyper::at(transport).await.map_err(broken)?),
            stage => stage,
        };
        let Stage::Hyper(Hyper { requests, connection }) = &mut self.stage else {
            return Err(Failure::Broken(TransportError::closed()));
        };
        let sent_at = Instant::now();
        let mut response = pin!(requests.send_request(request));
        // The connection future is polled first: it does the reading that lets the request's future end.
        let mut failure = None;
        let answered = poll_fn(|cx| {
            failure = connection.poll(cx).or(failure.take());
            response.as_mut().poll(cx)
        });
        let response = self
            .idle_timer
            .within(limit, answered)
            .await
            .ok_or(Failure::Silent)?;
        // A response that came counts, even if the connection failed behind it. Without a response, the connection's own
        // error says more than the handle's, which is "connection closed".
        let response = response
            .map_err(|error| Failure::Broken(failure.unwrap_or_else(|| connection.explained(error))))?;
        self.head_time = sent_at.elapsed();
        // Noted now: hyper is gone when the bulk reader reaches the body's end.
        self.keep = may_stay(&response);
        Ok(response)
    }

    /// The next chunk of the body that `incoming` belongs to, waited for no longer than `limit`. `left` is how many bytes
    /// of it are to come, if it has a length.
    ///
    /// `None` at an end that HTTP's framing proves, or at the close of a connection whose body has no other end.
    pub(super) fn poll_chunk(
        &mut self,
        incoming: &mut Incoming,
        left: Option<u64>,
        limit: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        let polled = self.poll_incoming(incoming, left, cx);
        // Checked before the timer: bytes that are there count, also if the consumer comes late for them.
        if polled.is_ready() {
            self.idle_timer.reset();
            return polled.map(|ready| ready.map(|chunk| chunk.map_err(Failure::Broken)));
        }
        self.idle_timer
            .poll_silence(limit, cx)
            .map(|()| Some(Err(Failure::Silent)))
    }

    fn poll_incoming(
        &mut self,
        incoming: &mut Incoming,
        left: Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>> {
        let mut has_polled = false;
        loop {
            if let (Stage::Bulk(bulk), Some(left)) = (&mut self.stage, left) {
                return bulk
                    .poll_chunk(left, cx)
                    .map(|chunk| Some(chunk.map_err(TransportError::in_body)));
            }
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are no bytes of the file.
                    if let Ok(chunk) = frame.into_data() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(TransportError::new(error)))),
                Poll::Ready(None) => return Poll::Ready(None),
                // Both sides are pending, and hyper has registered the waker with the socket.
                Poll::Pending if has_polled => return Poll::Pending,
                // The hand-over. Only now is it safe: every chunk that hyper had queued was taken, so the rest of the body
                // is in hyper's buffer, which comes along, and in the socket. A chunk still queued would be lost.
                Poll::Pending if left.is_some_and(|left| left >= bulk::MIN_LEN) && self.take_over() => {}
                Poll::Pending => {
                    // An error here reaches `incoming` as well, and the end of this future ends `incoming`. So the next
                    // round sees either.
                    if let Stage::Hyper(hyper) = &mut self.stage {
                        let _ = hyper.connection.poll(cx);
                    }
                    has_polled = true;
                }
            }
        }
    }

    /// Takes the socket from hyper in the middle of a body. False if hyper's connection has failed or ended.
    fn take_over(&mut self) -> bool {
        let Stage::Hyper(hyper) = &mut self.stage else {
            return false;
        };
        let Some(connection) = hyper.connection.running.take() else {
            return false;
        };
        // hyper's handle is dropped with the stage, and `incoming` is not polled any more.
        let http1::Parts { io, read_buf, .. } = connection.into_parts();
        self.stage = Stage::Bulk(Box::new(BulkReader::new(io.into_inner(), read_buf)));
        true
    }

    /// Whether the connection can take another request: its last response was read to the end, and the server keeps the
    /// connection open.
    ///
    /// It does not say whether the server has closed the connection since, or sent bytes that answer nothing. The next
    /// [`exchange`](Self::exchange) finds that out before it sends anything, because hyper reads first.
    pub(super) fn is_reusable(&mut self) -> bool {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Hyper(mut hyper) => {
                // hyper needs one more poll where the body's end came in a read of its own, as a last chunk does.
                if !hyper.requests.is_ready() {
                    let _ = hyper.connection.poll(&mut Context::from_waker(Waker::noop()));
                }
                if hyper.connection.running.is_some() && hyper.requests.is_ready() {
                    Stage::Hyper(hyper)
                } else {
                    Stage::Closed
                }
            }
            Stage::Bulk(bulk) if self.keep => bulk.into_socket().map_or(Stage::Closed, Stage::Bare),
            Stage::Bare(transport) => Stage::Bare(transport),
            Stage::Bulk(_) | Stage::Closed => Stage::Closed,
        };
        !matches!(self.stage, Stage::Closed)
    }
}

/// Whether the server takes another request on this connection (RFC 9112, section 9.3).
fn may_stay<B>(response: &http::Response<B>) -> bool {
    // An HTTP/1.0 server closes unless it says keep-alive. Its connection is not kept either way.
    let says = response.headers().get_all(http::header::CONNECTION);
    let mut words = says
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','));
    response.version() == http::Version::HTTP_11
        && !words.any(|word| word.trim().eq_ignore_ascii_case("close"))
}

/// The body of a request that has none.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoBody;

impl http_body::Body for NoBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(0)
    }
}

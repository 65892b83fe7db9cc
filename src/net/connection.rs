//! One HTTP/1.1 connection, driven by whoever waits for its bytes.
//!
//! hyper splits a connection into a handle and a future that does the work, and expects the future to be spawned. Here
//! it is polled in place: no task, no wake-up between socket and consumer, and dropping the one value that holds both
//! closes the socket there and then.
//!
//! Heads and short bodies are hyper's. From a body that is [long](super::bulk) its connection is taken apart again, and
//! what is left is read here; the socket that remains is as good as a new one for the next exchange.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Weak;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use hyper::client::conn::http1;
use smol_hyper::rt::FuturesIo;

use super::TransportError;
use super::bulk::{self, BulkReader};
use super::icy::Icy;
use super::limits::IdleTimer;
use super::socket::Socket;
use crate::rt::TcpStream;

/// The most that hyper asks for in one read; also the largest head. It begins with 8 KiB and grows to it only while reads
/// fill what it asks for. CPU time of a GiB on loopback, all of it read by hyper: 0.45 s with 64 KiB, 0.36 s with this, no
/// less with more. That smol-hyper zeroes what it reads into was 0.03 s of it.
const READ_AT_ONCE: usize = 256 * 1024;

/// A connection between exchanges, or within one.
pub(super) struct Connection {
    stage: Stage,
    /// Whether the last response allows another.
    keep: bool,
    idle_timer: IdleTimer,
    /// Whoever has the connection, the socket below it.
    tcp: Weak<TcpStream>,
}

type Transport = Icy<Socket>;

enum Stage {
    /// Nobody is at it. The next exchange puts hyper there.
    Bare(Transport),
    Hyper(Hyper),
    Bulk(Box<BulkReader<Transport>>),
    Closed,
}

struct Hyper {
    requests: http1::SendRequest<NoBody>,
    work: HyperConnection,
}

/// What reads and writes, until it ends. It must not outlive its end: a request that was handed over just before would lie
/// in it for ever, as only its drop tells the request's future that no answer will come.
struct HyperConnection {
    /// Some 600 bytes, which would otherwise move with every body.
    running: Option<Box<http1::Connection<FuturesIo<Transport>, NoBody>>>,
}

impl HyperConnection {
    /// Gets on. Its error, the one time that it ends with one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<hyper::Error> {
        match Pin::new(self.running.as_mut()?).poll(cx) {
            Poll::Ready(outcome) => {
                self.running = None;
                outcome.err()
            }
            Poll::Pending => None,
        }
    }
}

impl Hyper {
    async fn at(transport: Transport) -> hyper::Result<Self> {
        let mut builder = http1::Builder::new();
        let handshake = builder
            .max_buf_size(READ_AT_ONCE)
            .handshake(FuturesIo::new(transport));
        let (requests, work) = handshake.await?;
        let running = Some(Box::new(work));
        Ok(Self {
            requests,
            work: HyperConnection { running },
        })
    }
}

/// The part of a response that comes after its head.
pub(super) type Incoming = hyper::body::Incoming;

/// Why there was nothing to be had from a connection.
pub(super) enum Failure {
    /// It kept silent for the whole limit.
    Silent,
    Broken(TransportError),
}

impl Connection {
    /// `idle_timer` may have watched over the connecting already.
    pub(super) fn new(socket: Socket, idle_timer: IdleTimer) -> Self {
        Self {
            tcp: socket.tcp(),
            stage: Stage::Bare(Icy::new(socket)),
            keep: false,
            idle_timer,
        }
    }

    pub(super) fn tcp(&self) -> &Weak<TcpStream> {
        &self.tcp
    }

    /// Sends a request and waits, no longer than `limit`, for the response's head.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: once this is dropped the connection is of no more use.
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
        let Stage::Hyper(Hyper { requests, work }) = &mut self.stage else {
            return Err(Failure::Broken(TransportError::closed()));
        };
        let mut response = pin!(requests.send_request(request));
        let mut failure = None;
        let answered = poll_fn(|cx| {
            failure = work.poll(cx).or(failure.take());
            response.as_mut().poll(cx)
        });
        let response = self
            .idle_timer
            .within(limit, answered)
            .await
            .ok_or(Failure::Silent)?;
        // A response that came counts, even if the connection failed behind it. Where none did, the work's own error
        // says more than the handle's.
        let response = response.map_err(|error| broken(failure.unwrap_or(error)))?;
        self.keep = may_stay(&response);
        Ok(response)
    }

    /// The next chunk of the body that `incoming` belongs to, of which `left` bytes are still to come if it has a length,
    /// waited for no longer than `limit`; `None` at an end that HTTP's framing proves, or at the close of a connection
    /// whose body has no other end.
    pub(super) fn poll_chunk(
        &mut self,
        incoming: &mut Incoming,
        left: Option<u64>,
        limit: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        let polled = self.poll_incoming(incoming, left, cx);
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
        let mut worked = false;
        loop {
            if let (Stage::Bulk(bulk), Some(left)) = (&mut self.stage, left) {
                return bulk
                    .poll_chunk(left, cx)
                    .map(|chunk| Some(chunk.map_err(TransportError::in_body)));
            }
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(chunk) = frame.into_data() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(TransportError::new(error)))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if worked => return Poll::Pending,
                // All that hyper had given out was taken: the rest is in its buffer and in the socket.
                Poll::Pending if left.is_some_and(|left| left >= bulk::MIN_LEN) && self.take_over() => {}
                Poll::Pending => {
                    // An error of the work reaches `incoming` as well, and its end ends `incoming`.
                    if let Stage::Hyper(hyper) = &mut self.stage {
                        let _ = hyper.work.poll(cx);
                    }
                    worked = true;
                }
            }
        }
    }

    /// Takes the socket from hyper in the middle of a body, unless it has failed.
    fn take_over(&mut self) -> bool {
        let Stage::Hyper(hyper) = &mut self.stage else {
            return false;
        };
        let Some(work) = hyper.work.running.take() else {
            return false;
        };
        let http1::Parts { io, read_buf, .. } = work.into_parts();
        self.stage = Stage::Bulk(Box::new(BulkReader::new(io.into_inner(), read_buf)));
        true
    }

    /// Whether the connection can take another request: its last response was read to the end and the server means to keep
    /// it. Whether the server has closed it since, or sent something that nobody asked for, shows at the next
    /// [`exchange`](Self::exchange), before anything is sent: hyper reads first.
    pub(super) fn is_reusable(&mut self) -> bool {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Hyper(mut hyper) => {
                // hyper is ready as soon as it has read the end, unless the end came by itself.
                if !hyper.requests.is_ready() {
                    let _ = hyper.work.poll(&mut Context::from_waker(Waker::noop()));
                }
                if hyper.work.running.is_some() && hyper.requests.is_ready() {
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

/// Whether a server that answered so takes another request on the same connection (RFC 9112, 9.3).
fn may_stay<B>(response: &http::Response<B>) -> bool {
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

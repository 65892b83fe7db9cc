//! One HTTP/1.1 connection, driven by whoever waits for its bytes.
//!
//! hyper splits a connection into a handle and a future that does the work, and expects the future to be spawned. Here
//! it is polled in place: no task, no wake-up between socket and consumer, and dropping the one value that holds both
//! closes the socket there and then.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Body as _;
use hyper::client::conn::http1;
use smol_hyper::rt::FuturesIo;

use super::error::TransportError;
use super::socket::Socket;

/// The most that is read at once, and so the largest chunk and the largest head.
const READ_AT_ONCE: usize = 128 * 1024;

/// A connection between exchanges, or within one.
pub(super) struct Connection {
    requests: http1::SendRequest<NoBody>,
    /// Some 600 bytes, which would otherwise move with every body.
    work: Box<http1::Connection<FuturesIo<Socket>, NoBody>>,
}

/// The part of a response that comes after its head.
pub(super) type Incoming = hyper::body::Incoming;

impl Connection {
    pub(super) async fn new(socket: Socket) -> Result<Self, TransportError> {
        let handshake = http1::Builder::new()
            .max_buf_size(READ_AT_ONCE)
            .handshake(FuturesIo::new(socket))
            .await;
        let (requests, work) = handshake.map_err(TransportError::new)?;
        Ok(Self {
            requests,
            work: Box::new(work),
        })
    }

    /// Sends a request and waits for the response's head.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: once this is dropped the connection is of no more use.
    pub(super) async fn exchange(
        &mut self,
        request: http::Request<NoBody>,
    ) -> Result<http::Response<Incoming>, TransportError> {
        let mut response = pin!(self.requests.send_request(request));
        let work = &mut self.work;
        let mut ended = None;
        let response = poll_fn(|cx| {
            if ended.is_none()
                && let Poll::Ready(outcome) = Pin::new(&mut *work).poll(cx)
            {
                ended = Some(outcome);
            }
            response.as_mut().poll(cx)
        })
        .await;
        // A response that came counts, even if the connection failed behind it. Where none did, the work's own error
        // says more than the handle's.
        let failure = ended.and_then(Result::err);
        response.map_err(|error| TransportError::new(failure.unwrap_or(error)))
    }

    /// The next chunk of the body that `incoming` belongs to; `None` at an end that HTTP's framing proves, or at the
    /// close of a connection whose body has no other end.
    pub(super) fn poll_chunk(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>> {
        let mut worked = false;
        loop {
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(chunk) = frame.into_data() {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(TransportError::new(error)))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if worked => return Poll::Pending,
                Poll::Pending => {
                    // An error of the work reaches `incoming` as well, and its end ends `incoming`.
                    let _ = Pin::new(&mut self.work).poll(cx);
                    worked = true;
                }
            }
        }
    }

    /// Whether the connection can take another request now: its last response was read to the end, and the server has
    /// neither closed it nor sent anything since. Looks at the socket without waiting for it.
    pub(super) fn is_reusable(&mut self) -> bool {
        // The waker that the last exchange left with the socket goes with this.
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.work).poll(&mut cx).is_pending() && self.requests.is_ready()
    }
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

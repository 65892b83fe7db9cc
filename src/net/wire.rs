//! The wire body: a body as the connection gives it, together with the connection.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;

use super::connection::{Failure, Incoming};
use super::pool::PooledConnection;

/// How many bytes are read and dropped to save a connection. Only bytes that have arrived are read.
const SETTLE_BYTES: usize = 16 * 1024;

/// A body on its way in. Read to its end, it gives the connection back to the pool. Dropped before, it closes it.
pub(super) struct WireBody {
    /// `None` once the connection was given back.
    pooled: Option<PooledConnection>,
    incoming: Incoming,
    /// How many bytes are to come, by HTTP's framing.
    left: Option<u64>,
}

impl WireBody {
    pub(super) fn new(pooled: PooledConnection, incoming: Incoming) -> Self {
        let mut wire = Self {
            pooled: Some(pooled),
            left: incoming.size_hint().exact(),
            incoming,
        };
        wire.give_back_at_end();
        wire
    }

    /// How many bytes are to come, by HTTP's framing.
    pub(super) fn framed(&self) -> Option<u64> {
        self.left
    }

    pub(super) fn poll_chunk(
        &mut self,
        limit: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        let Some(connection) = self.pooled.as_mut().and_then(PooledConnection::connection) else {
            return Poll::Ready(None);
        };
        let polled = connection.poll_chunk(&mut self.incoming, self.left, limit, cx);
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => {
                // Saturating: what comes beyond the length is the delivery's to refuse, which knows the URL.
                self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
                self.give_back_at_end();
            }
            Poll::Ready(None) => self.give_back(),
            // Closed at once. Its position in the stream of bytes is unknown, so it can serve no other request.
            Poll::Ready(Some(Err(_))) => self.pooled = None,
            Poll::Pending => {}
        }
        polled
    }

    /// Gives the connection back if the rest of the body is short and has arrived. Otherwise closes it.
    ///
    /// For bodies that are not wanted, those of redirects and errors: reading a few bytes costs less than a new connection,
    /// waiting for them may cost more.
    pub(super) fn settle(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        // Only what has arrived, as the waker that does nothing never wakes.
        let mut left = SETTLE_BYTES;
        while let Poll::Ready(Some(Ok(chunk))) = self.poll_chunk(Duration::MAX, &mut cx) {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }

    fn give_back_at_end(&mut self) {
        // At the last chunk, not at the `None` behind it: a consumer that knows the length never polls for that, and the
        // connection would be closed with the body.
        if self.left == Some(0) || self.incoming.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            pooled.give_back();
        }
    }
}

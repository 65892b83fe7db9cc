//! A body as the connection gives it, and the connection with it.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;

use super::connection::{Failure, Incoming};
use super::pool::PooledConnection;

/// What is read and thrown away to keep a connection, as long as it is there already.
const SETTLE_BYTES: usize = 16 * 1024;

/// A body on its way in. Read to the end it gives the connection back; dropped, it closes it.
pub(super) struct WireBody {
    /// Gone once the connection was given back.
    pooled: Option<PooledConnection>,
    incoming: Incoming,
    /// How many bytes are still to come, as HTTP's framing has it.
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

    /// How many bytes are still to come, as HTTP's framing has it.
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
                self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
                self.give_back_at_end();
            }
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Err(_))) => self.pooled = None,
            Poll::Pending => {}
        }
        polled
    }

    /// Gives the connection back if the rest of the body is short and there, and closes it otherwise.
    pub(super) fn settle(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut left = SETTLE_BYTES;
        while let Poll::Ready(Some(Ok(chunk))) = self.poll_chunk(Duration::MAX, &mut cx) {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }

    fn give_back_at_end(&mut self) {
        // With a length the last chunk says itself that it is the last.
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

//! One request and its body, as events.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_core::Stream as _;

use super::schedule::Span;
use crate::net::{Body, HttpClient, NetError, Request, Response};

/// A request under way. Dropping it closes its connection.
pub(super) struct Transfer {
    state: State,
    /// Where the next bytes belong, and where the request ends.
    pub(super) span: Span,
    /// Whether the response is a part (206). Its end is not the end of the file then.
    pub(super) partial: bool,
    /// An event that [`ready_data`](Self::ready_data) found and could not give out.
    deferred: Option<TransferEvent>,
}

enum State {
    Requested(Pin<Box<dyn Future<Output = Result<Response, NetError>> + Send>>),
    Reading(Box<Body>),
}

pub(super) enum TransferEvent {
    /// The head of the response. Once it is checked, [`Transfer::read`] goes on with its body.
    Head(Box<Response>),
    /// Bytes and their position.
    Data(u64, Bytes),
    /// The body is over at the position `at`: `with_connection` if only the close of the connection says so. `total` is
    /// the file's length, where the body has learnt it.
    End {
        at: u64,
        with_connection: bool,
        total: Option<u64>,
    },
    Failed(NetError),
}

impl Transfer {
    /// Makes the request. Nothing is sent before the first poll.
    pub(super) fn start(client: &HttpClient, request: Request, span: Span) -> Self {
        let client = client.clone();
        Self {
            state: State::Requested(Box::pin(async move { client.send(request).await })),
            span,
            partial: false,
            deferred: None,
        }
    }

    /// Whether the head is still to come.
    pub(super) fn waits_for_head(&self) -> bool {
        matches!(self.state, State::Requested(_))
    }

    /// Goes on with the body of the response, which was checked.
    pub(super) fn read(&mut self, body: Body) {
        self.state = State::Reading(Box::new(body));
    }

    /// The next bytes and their position, if they have come already. Any other event waits for the next poll.
    pub(super) fn ready_data(&mut self) -> Option<(u64, Bytes)> {
        if self.waits_for_head() {
            return None;
        }
        // The waker of the last real poll is lost with this one. So the loop polls again before it sleeps.
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(TransferEvent::Data(at, bytes)) => Some((at, bytes)),
            Poll::Ready(event) => {
                self.deferred = Some(event);
                None
            }
            Poll::Pending => None,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TransferEvent> {
        if let Some(event) = self.deferred.take() {
            return Poll::Ready(event);
        }
        match &mut self.state {
            State::Requested(response) => Poll::Ready(match ready!(response.as_mut().poll(cx)) {
                Ok(response) => TransferEvent::Head(Box::new(response)),
                Err(error) => TransferEvent::Failed(error),
            }),
            State::Reading(body) => Poll::Ready(match ready!(Pin::new(&mut **body).poll_next(cx)) {
                // The body counts its position itself, over resumed connections too: it is what the bytes belong to, and not
                // what was asked for.
                Some(Ok(bytes)) => {
                    let at = body.position() - bytes.len() as u64;
                    self.span.next = body.position();
                    TransferEvent::Data(at, bytes)
                }
                Some(Err(error)) => TransferEvent::Failed(error),
                // The body may have learnt the length on its way, from a part that this transfer never saw the head of.
                None => TransferEvent::End {
                    at: body.position(),
                    with_connection: body.ends_with_connection(),
                    total: body.total_length(),
                },
            }),
        }
    }
}

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
    /// Where the next bytes belong, and where they end as far as was asked.
    pub(super) span: Span,
    /// Whether the response said itself that it is a part: its end is then not the file's.
    pub(super) partial: bool,
    /// What came of it before it was asked for.
    early: Option<TransferEvent>,
}

enum State {
    Asking(Pin<Box<dyn Future<Output = Result<Response, NetError>> + Send>>),
    Reading(Box<Body>),
}

/// What came of a lane.
pub(super) enum TransferEvent {
    /// The head of the response, to be judged. The lane goes on with [`Lane::read`].
    Head(Box<Response>),
    /// Bytes and their place.
    Data(u64, Bytes),
    /// The response is over; there is no more at this position.
    End { at: u64, with_connection: bool },
    /// It failed.
    Failed(NetError),
}

impl Transfer {
    pub(super) fn ask(client: &HttpClient, request: Request, span: Span) -> Self {
        let client = client.clone();
        Self {
            state: State::Asking(Box::pin(async move { client.send(request).await })),
            span,
            partial: false,
            early: None,
        }
    }

    /// Whether the head is still to come.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking(_))
    }

    /// Goes on with the body of the response that was found good.
    pub(super) fn read(&mut self, body: Body) {
        self.state = State::Reading(Box::new(body));
    }

    /// The next bytes, if they are here already. Whatever else is keeps until the next poll.
    pub(super) fn ready_data(&mut self) -> Option<TransferEvent> {
        if self.is_asking() {
            return None;
        }
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event @ TransferEvent::Data(..)) => Some(event),
            Poll::Ready(event) => {
                self.early = Some(event);
                None
            }
            Poll::Pending => None,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TransferEvent> {
        if let Some(event) = self.early.take() {
            return Poll::Ready(event);
        }
        match &mut self.state {
            State::Asking(asking) => Poll::Ready(match ready!(asking.as_mut().poll(cx)) {
                Ok(response) => TransferEvent::Head(Box::new(response)),
                Err(error) => TransferEvent::Failed(error),
            }),
            State::Reading(body) => Poll::Ready(match ready!(Pin::new(&mut **body).poll_next(cx)) {
                Some(Ok(bytes)) => {
                    let at = body.position() - bytes.len() as u64;
                    self.span.next = body.position();
                    TransferEvent::Data(at, bytes)
                }
                Some(Err(error)) => TransferEvent::Failed(error),
                None => TransferEvent::End {
                    at: body.position(),
                    with_connection: body.ends_with_connection(),
                },
            }),
        }
    }
}

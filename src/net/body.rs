//! A response's body: whole, or an error.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use snafu::IntoError;

use super::check::Delivery;
use super::connection::Failure;
use super::error::{
    InterruptedSnafu, Phase, RangeMismatchSnafu, RangeNotSatisfiableSnafu, TimeoutSnafu, TruncatedSnafu,
};
use super::exchange::{Exchange, Exchanger};
use super::wire::WireBody;
use super::{ByteRange, NetError, Request, Response, Validator, redacted};
use crate::rt;

/// The bytes of a response as they come: a stream of chunks that ends only where the file or the range does.
///
/// **Resume.** A body that breaks off is asked for again from where it stopped, as the client's
/// [`RetryPolicy`](super::RetryPolicy) says. That takes a strong [`Validator`], which proves that the rest is of the same
/// file. Without one, and when the tries are used up, the stream yields the error and ends.
///
/// **End.** One end cannot be proven: that of a body without a length, on a connection that closes. See
/// [`ends_with_connection`](Self::ends_with_connection).
///
/// **Connection.** Read to its end, a body gives its connection back for the next request. Dropped before, it closes the
/// connection at once.
pub struct Body {
    /// Boxed: a consumer should not have to move some 600 bytes.
    inner: Box<Inner>,
}

struct Inner {
    state: State,
    exchanger: Exchanger,
    /// The request to resume from.
    request: Request,
    validator: Option<Validator>,
    delivery: Delivery,
    /// Position of the next byte delivered.
    position: u64,
    /// Bytes still to be skipped before it.
    skip: u64,
    /// Failures since the last byte.
    failures: u32,
    unframed: bool,
}

enum State {
    Reading(WireBody),
    Resuming(Pin<Box<dyn Future<Output = Result<Exchange, NetError>> + Send>>),
    Ended,
}

impl Body {
    pub(super) fn new(
        exchanger: Exchanger,
        request: Request,
        headers: &HeaderMap,
        exchange: Exchange,
    ) -> Self {
        let Exchange {
            delivery,
            wire,
            unframed,
            ..
        } = exchange;
        let mut inner = Box::new(Inner {
            state: State::Reading(wire),
            validator: Validator::of(headers).or_else(|| request.if_range.clone()),
            exchanger,
            request,
            delivery,
            position: delivery.start,
            skip: delivery.skip,
            failures: 0,
            unframed,
        });
        // An empty body is never polled by some consumers, and would hold its connection until it is dropped.
        if inner.is_done() {
            inner.finish();
        }
        Self { inner }
    }

    /// Position in the file of the next byte that the stream yields.
    pub fn position(&self) -> u64 {
        self.inner.position
    }

    /// Whether the body has neither a length nor chunks, so that it ends with the connection. Such an end may be a failure
    /// as well. It proves nothing about the file's length.
    pub fn ends_with_connection(&self) -> bool {
        self.inner.unframed
    }

    pub(super) fn delivery(&self) -> &Delivery {
        &self.inner.delivery
    }

    pub(super) fn is_for_head(&self) -> bool {
        self.inner.request.is_head()
    }

    /// Sends the whole request again after a wait, if `error` may pass and the body cannot be resumed.
    pub(super) async fn again(
        &mut self,
        error: &NetError,
        failures: u32,
    ) -> Option<Result<Response, NetError>> {
        if self.inner.rest().is_some() || !error.is_worth_a_retry() {
            return None;
        }
        let wait = self
            .inner
            .exchanger
            .retry_policy()
            .delay(failures, error.retry_after())?;
        log::debug!("{error}; starting over in {wait:?}");
        rt::sleep(wait).await;
        let (exchanger, request) = (self.inner.exchanger.clone(), self.inner.request.clone());
        let sent = exchanger.send(&request).await;
        Some(sent.map(|exchange| Response::new(exchanger, request, exchange)))
    }
}

impl Inner {
    fn url(&self) -> String {
        redacted(&self.request.url)
    }

    fn received(&self) -> u64 {
        self.position - self.delivery.start
    }

    /// The part of `chunk` that is to be delivered.
    fn deliver(&mut self, mut chunk: Bytes) -> Result<Bytes, NetError> {
        let length = chunk.len() as u64;
        let skipped = self.skip.min(length);
        self.skip -= skipped;
        // Both conversions are exact: `skipped` is at most the chunk's length, and `room` is used only if it is less.
        let _ = chunk.split_to(usize::try_from(skipped).unwrap_or(usize::MAX));
        let bound = self.delivery.bound().unwrap_or(u64::MAX);
        let room = bound.saturating_sub(self.position);
        if chunk.len() as u64 > room {
            // A server that was to stop by itself has sent more than its head announced. What follows a given stop is the
            // rest of a whole file, of which a part was asked for.
            if self.delivery.stop.is_none() {
                return RangeMismatchSnafu { url: self.url() }.fail();
            }
            chunk.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        }
        if !chunk.is_empty() {
            // Skipped bytes are no progress. Otherwise a server that breaks off within the skipped part would be asked for
            // ever (fault D5).
            self.failures = 0;
        }
        self.position += chunk.len() as u64;
        Ok(chunk)
    }

    fn broken(&self, failure: Failure) -> NetError {
        let (url, received) = (self.url(), self.received());
        match failure {
            Failure::Broken(source) => InterruptedSnafu { url, received }.into_error(source),
            Failure::Silent => {
                let limit = self.exchanger.limits().idle;
                let phase = Phase::Body;
                TimeoutSnafu { url, phase, limit }.build()
            }
        }
    }

    /// Checks the end of the wire body against the delivery.
    fn ended(&self) -> Result<(), NetError> {
        let url = self.url();
        match self.delivery.last() {
            Some(last) if self.position < last => {
                let (received, expected) = (self.received(), last - self.delivery.start);
                TruncatedSnafu {
                    url,
                    received,
                    expected,
                }
                .fail()
            }
            // The whole file was to be skipped up to the range, and ended before it.
            None if self.skip > 0 => {
                let total = Some(self.position - self.skip);
                RangeNotSatisfiableSnafu {
                    url,
                    start: self.position,
                    total,
                }
                .fail()
            }
            _ => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        self.skip == 0 && self.delivery.bound() == Some(self.position)
    }

    /// Ends the stream. The connection is kept if little is left on it, such as the framing's own end.
    fn finish(&mut self) {
        if let State::Reading(wire) = std::mem::replace(&mut self.state, State::Ended) {
            wire.settle();
        }
    }

    /// Closes the connection, and either begins to resume or gives the error back.
    fn failed(&mut self, error: NetError) -> Result<(), NetError> {
        // The connection is closed here, before the wait: its permit is free for others meanwhile.
        self.state = State::Ended;
        self.failures += 1;
        let rest = self.rest().filter(|_| error.is_worth_a_retry());
        let wait = self
            .exchanger
            .retry_policy()
            .delay(self.failures, error.retry_after());
        let (Some(rest), Some(wait)) = (rest, wait) else {
            return Err(error);
        };
        log::debug!("{error}; going on from byte {} in {wait:?}", self.position);
        let exchanger = self.exchanger.clone();
        self.state = State::Resuming(Box::pin(async move {
            rt::sleep(wait).await;
            exchanger.attempt(&rest).await
        }));
        Ok(())
    }

    /// The request for the missing rest, if a validator can prove that the answer is of the same file. Not for a gzipped
    /// body: positions in it are not those of the file.
    fn rest(&self) -> Option<Request> {
        let validator = self.validator.clone().filter(|_| !self.delivery.gzip)?;
        let end = self
            .delivery
            .stop
            .or_else(|| self.request.range.and_then(ByteRange::end));
        let range = end.map_or(ByteRange::from_start(self.position), |end| {
            ByteRange::new(self.position, end)
        });
        let request = self.request.clone().range(range).if_range(validator);
        Some(match self.delivery.total {
            Some(total) => request.expect_total(total),
            None => request,
        })
    }

    fn resumed(&mut self, exchange: Exchange) {
        // Start and range are those of the first response, which the consumer was told. The file's length is kept where
        // only the first response had it.
        self.delivery = Delivery {
            start: self.delivery.start,
            total: exchange.delivery.total.or(self.delivery.total),
            range: self.delivery.range,
            ..exchange.delivery
        };
        self.skip = exchange.delivery.skip;
        self.unframed = exchange.unframed;
        self.state = State::Reading(exchange.wire);
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, NetError>>> {
        loop {
            let outcome = match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Resuming(resuming) => match ready!(resuming.as_mut().poll(cx)) {
                    Ok(exchange) => {
                        self.resumed(exchange);
                        continue;
                    }
                    Err(error) => Err(error),
                },
                State::Reading(wire) => match ready!(wire.poll_chunk(self.exchanger.limits().idle, cx)) {
                    Some(Ok(chunk)) => match self.deliver(chunk) {
                        Ok(chunk) if chunk.is_empty() => continue,
                        Ok(chunk) => {
                            // Before the last chunk goes out, not at the poll behind it: the connection is free for the
                            // request that the consumer makes next.
                            if self.is_done() {
                                self.finish();
                            }
                            return Poll::Ready(Some(Ok(chunk)));
                        }
                        Err(error) => Err(error),
                    },
                    Some(Err(failure)) => Err(self.broken(failure)),
                    None => self.ended(),
                },
            };
            match outcome {
                Ok(()) => {
                    self.state = State::Ended;
                    return Poll::Ready(None);
                }
                Err(error) => {
                    if let Err(error) = self.failed(error) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next(cx)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("url", &self.inner.url())
            .field("position", &self.inner.position)
            .field("last", &self.inner.delivery.last())
            .finish_non_exhaustive()
    }
}

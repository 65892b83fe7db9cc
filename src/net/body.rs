//! A response's body: whole, or an error.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use snafu::IntoError;

use super::check::{Delivery, Rest};
use super::connection::Failure;
use super::courtesy::{CLOSE_AFTER, ENDLESS_AFTER, LOOK_EVERY, Waiting};
use super::error::{
    ChangedSnafu, InterruptedSnafu, OverlongSnafu, Phase, RangeNotSatisfiableSnafu, TimeoutSnafu,
    TooSlowSnafu, TruncatedSnafu,
};
use super::exchange::{Exchange, Exchanger};
use super::speed::{Pace, Speed};
use super::validator::SentValidators;
use super::wire::WireBody;
use super::{ByteRange, Change, NetError, Request, Response, Validator, redacted};
use crate::rt;

/// The bytes of a response as they come: a stream of chunks that ends only where the file or the range does.
///
/// **Resume.** A body that breaks off is asked for again from where it stopped, as the client's
/// [`RetryPolicy`](super::RetryPolicy) says. That takes a strong [`Validator`], which proves that the rest is of the same
/// file. Without one, and when the tries are used up, the stream yields the error and ends.
///
/// **Parts.** A server may answer with less than was asked for: a cap for each answer, a cached block. The body asks for the
/// rest when such a part has ended, from the same file: a validator or a length that contradicts the first answer's is
/// [`NetError::Changed`].
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
    /// What the first answer said. Each further one is held against it.
    sent: SentValidators,
    delivery: Delivery,
    /// Position of the next byte delivered.
    position: u64,
    /// Bytes still to be skipped before it.
    skip: u64,
    /// Failures since the last byte.
    failures: u32,
    speed: Speed,
    /// Failures for slowness, until bytes come fast enough: slow bytes are no progress.
    slow_failures: u32,
    /// The failure behind a chunk that was given out.
    too_slow: Option<NetError>,
    /// Has the background wait, while this waits for bytes.
    waiting: Option<Waiting>,
    began: Instant,
    /// Of the background: since when it has been paused, and when it looks again.
    paused: Option<(Instant, Sleeping)>,
}

type Sleeping = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer, and the request that it answers: the app may have renewed it.
type Answer = Result<(Exchange, Request), NetError>;
type Exchanging = Pin<Box<dyn Future<Output = Answer> + Send>>;

#[expect(clippy::large_enum_variant, reason = "there is one, and it is in a box")]
enum State {
    Reading(WireBody),
    /// The body broke off: the rest is asked for, in one try.
    Resuming(Exchanging),
    /// A part has ended: the next one is asked for, in as many tries as any request.
    Following(Exchanging),
    Ended,
}

impl Body {
    pub(super) fn new(
        exchanger: Exchanger,
        request: Request,
        headers: &HeaderMap,
        exchange: Exchange,
    ) -> Self {
        let Exchange { delivery, wire, .. } = exchange;
        let mut inner = Box::new(Inner {
            state: State::Reading(wire),
            validator: Validator::of(headers).or_else(|| request.if_range.clone()),
            sent: SentValidators::of(headers),
            exchanger,
            request,
            delivery,
            position: delivery.start,
            skip: delivery.skip,
            failures: 0,
            speed: Speed::default(),
            slow_failures: 0,
            too_slow: None,
            waiting: None,
            began: Instant::now(),
            paused: None,
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
        self.inner.delivery.unframed
    }

    /// The file's length, if a response said it, or if its end has been proven.
    #[cfg(feature = "file")]
    pub(crate) fn total_length(&self) -> Option<u64> {
        self.inner.delivery.total
    }

    pub(super) fn delivery(&self) -> &Delivery {
        &self.inner.delivery
    }

    pub(super) fn is_for_head(&self) -> bool {
        self.inner.request.is_head()
    }

    /// Sends the whole request again after a wait, if `error` may pass and the body cannot be resumed.
    pub(crate) async fn again(
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
        let (exchanger, mut request) = (self.inner.exchanger.clone(), self.inner.request.clone());
        let sent = exchanger.send(&mut request).await;
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

    /// A chunk has come. Returns the part of it that is to be delivered.
    fn came(&mut self, chunk: Bytes) -> Result<Bytes, NetError> {
        let least = self.exchanger.limits().least_speed;
        let pace = self.speed.comes(chunk.len() as u64, Instant::now, least);
        let chunk = self.deliver(chunk)?;
        match pace {
            // Told with the next poll: what came is right, however late.
            Some(Pace::TooSlow(received, over)) => {
                let url = self.url();
                self.too_slow = Some(TooSlowSnafu { url, received, over }.build());
            }
            Some(Pace::Enough) => self.slow_failures = 0,
            None => {}
        }
        // Before the last chunk goes out, not at the poll behind it: the connection is free for the request that the
        // consumer makes next.
        if self.is_done() {
            self.too_slow = None;
            self.finish();
        }
        Ok(chunk)
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
                let (url, end) = (self.url(), bound);
                return OverlongSnafu { url, end }.fail();
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

    /// Whether the failure is a close that the caller takes for an end.
    fn is_accepted_end(&self, failure: &Failure) -> bool {
        let is_close = || match failure {
            // What rustls makes of a TCP connection that ends before TLS does. A reset is another kind.
            Failure::Broken(source) => source
                .io_error()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof),
            Failure::Silent => false,
        };
        self.delivery.unframed && self.request.accepts_unproven_end && is_close()
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

    /// Goes on with the next part, if this answer was a part of what was asked for. Otherwise ends the stream. The
    /// connection is kept if little is left on it, such as the framing's own end.
    fn finish(&mut self) {
        if let State::Reading(wire) = std::mem::replace(&mut self.state, State::Ended) {
            wire.settle();
        }
        if self.delivery.rest == Rest::Nothing {
            return;
        }
        let mut request = self.missing();
        // No proof is asked of a server that has none to give: what it does send is compared.
        request.if_range.clone_from(&self.validator);
        // The part before it has come to its end.
        request.follows_known = true;
        log::debug!("{}: a part; going on from byte {}", self.url(), self.position);
        let exchanger = self.exchanger.clone();
        self.state = State::Following(Box::pin(async move {
            let answer = exchanger.send(&mut request).await?;
            Ok((answer, request))
        }));
    }

    /// Closes the connection, and either begins to resume or gives the error back.
    fn failed(&mut self, error: NetError) -> Result<(), NetError> {
        // The connection is closed here, before the wait: its permit is free for others meanwhile.
        self.state = State::Ended;
        self.failures += 1;
        if matches!(error, NetError::TooSlow { .. }) {
            self.slow_failures += 1;
            self.failures = self.failures.max(self.slow_failures);
        }
        let rest = self.rest().filter(|_| error.is_worth_a_retry());
        let wait = self
            .exchanger
            .retry_policy()
            .delay(self.failures, error.retry_after());
        let (Some(mut request), Some(wait)) = (rest, wait) else {
            return Err(error);
        };
        log::debug!("{error}; going on from byte {} in {wait:?}", self.position);
        let exchanger = self.exchanger.clone();
        self.state = State::Resuming(Box::pin(async move {
            rt::sleep(wait).await;
            let answer = exchanger.attempt(&mut request).await?;
            Ok((answer, request))
        }));
        Ok(())
    }

    /// The request for the missing rest, if a validator can prove that the answer is of the same file. Not for a gzipped
    /// body: positions in it are not those of the file.
    fn rest(&self) -> Option<Request> {
        let validator = self.validator.clone().filter(|_| !self.delivery.gzip)?;
        Some(self.missing().if_range(validator))
    }

    /// A request for all that the body has not yielded yet.
    fn missing(&self) -> Request {
        let end = self.request.range.and_then(ByteRange::end);
        let range = end.map_or(ByteRange::from_start(self.position), |end| {
            ByteRange::new(self.position, end)
        });
        let mut request = self.request.clone().range(range);
        // Where a body broke off, more was to come: that the server has nothing from there on proves no end.
        request.follows_known = false;
        match self.delivery.total {
            Some(total) => request.expect_total(total),
            None => request,
        }
    }

    /// Goes on with another answer, unless it is of another file.
    fn go_on(&mut self, (exchange, request): (Exchange, Request)) -> Result<(), NetError> {
        self.request.follow(request);
        if self.sent.contradicted_by(&SentValidators::of(&exchange.headers)) {
            let (url, change) = (self.url(), Change::Validator);
            return ChangedSnafu { url, change }.fail();
        }
        // What was to come and is not there any more. A file that shrank is another one.
        if let (Some(expected), Some(received)) = (self.delivery.last(), exchange.delivery.total)
            && received < expected
        {
            let (url, change) = (self.url(), Change::Length { expected, received });
            return ChangedSnafu { url, change }.fail();
        }
        // Start and range are those of the first response, which the consumer was told. The file's length is kept where
        // only the first response had it.
        self.delivery = Delivery {
            start: self.delivery.start,
            total: exchange.delivery.total.or(self.delivery.total),
            range: self.delivery.range,
            ..exchange.delivery
        };
        self.skip = exchange.delivery.skip;
        self.state = State::Reading(exchange.wire);
        // The answer that the file ends here.
        if self.is_done() {
            self.finish();
        }
        Ok(())
    }

    /// Lets a body of the background read, or has it wait for the foreground. One that has waited for long closes its
    /// connection, if the rest can be asked for.
    fn poll_courtesy(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            if !self.request.priority.is_background() || self.exchanger.courtesy().may_read(now) {
                if self.paused.take().is_some() {
                    // Nothing was slow: nothing was read.
                    self.speed = Speed::default();
                }
                return Poll::Ready(());
            }
            let (since, sleep) = self
                .paused
                .get_or_insert_with(|| (now, Box::pin(rt::sleep(LOOK_EVERY))));
            ready!(sleep.as_mut().poll(cx));
            *sleep = Box::pin(rt::sleep(LOOK_EVERY));
            if now.saturating_duration_since(*since) >= CLOSE_AFTER
                && let Some(mut request) = self.rest()
            {
                log::debug!("{}: gives way at byte {}", self.url(), self.position);
                self.paused = None;
                let exchanger = self.exchanger.clone();
                // Taking the place of the wire body closes its connection.
                self.state = State::Resuming(Box::pin(async move {
                    let answer = exchanger.attempt(&mut request).await?;
                    Ok((answer, request))
                }));
                return Poll::Ready(());
            }
        }
    }

    /// Whether the background waits for this: not for a station, whose bytes come as they are played.
    fn may_be_waited_for(&self) -> bool {
        self.delivery.bound().is_some() || self.began.elapsed() < ENDLESS_AFTER
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, NetError>>> {
        let polled = self.poll_body(cx);
        if polled.is_ready() {
            self.waiting = None;
        } else if self.waiting.is_none() && self.may_be_waited_for() {
            self.waiting = self.exchanger.courtesy().wait(&self.request.priority);
        }
        polled
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, NetError>>> {
        loop {
            if matches!(self.state, State::Reading(_)) {
                ready!(self.poll_courtesy(cx));
            }
            let outcome = match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Resuming(resuming) => {
                    let resumed = ready!(resuming.as_mut().poll(cx));
                    // Another connection, and perhaps a faster one.
                    self.speed = Speed::default();
                    resumed.and_then(|answer| self.go_on(answer))
                }
                State::Following(following) => {
                    let followed = ready!(following.as_mut().poll(cx));
                    if let Err(error) = followed.and_then(|answer| self.go_on(answer)) {
                        // All its tries are used up.
                        self.state = State::Ended;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Ok(())
                }
                State::Reading(wire) => match self.too_slow.take() {
                    Some(error) => Err(error),
                    None => match wire.poll_chunk(self.exchanger.limits().idle, cx) {
                        Poll::Pending => {
                            self.speed.waits(Instant::now());
                            return Poll::Pending;
                        }
                        Poll::Ready(Some(Ok(chunk))) => match self.came(chunk) {
                            Ok(chunk) if chunk.is_empty() => Ok(()),
                            Ok(chunk) => return Poll::Ready(Some(Ok(chunk))),
                            Err(error) => Err(error),
                        },
                        Poll::Ready(Some(Err(failure))) if self.is_accepted_end(&failure) => {
                            self.ended().map(|()| self.finish())
                        }
                        Poll::Ready(Some(Err(failure))) => Err(self.broken(failure)),
                        Poll::Ready(None) => self.ended().map(|()| self.finish()),
                    },
                },
            };
            if let Err(error) = outcome
                && let Err(error) = self.failed(error)
            {
                return Poll::Ready(Some(Err(error)));
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

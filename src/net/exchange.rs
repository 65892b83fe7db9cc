//! Exchanges: how a request becomes the head of a response. A request is a number of tries, a try a chain of redirects, and a
//! link of the chain one exchange.
//!
//! ```text
//! send      tries until one succeeds, with a wait between        RetryPolicy
//!  attempt    once more, renewed or without its range            RequestHook, Request::optional_range
//!   chain     follows redirects, checks the response             max_redirects, check
//!    exchange one request, one head; a dead connection is        Pool, Connector
//!             replaced once
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use http::header::CONTENT_RANGE;
use http::{HeaderMap, HeaderValue, StatusCode};
use snafu::IntoError;
use url::Url;

use super::check::{Delivery, check_response};
use super::client_headers::ClientHeaders;
use super::connect::Connector;
use super::connection::{Connection, Failure, Incoming, NoBody};
use super::courtesy::Courtesy;
#[cfg(feature = "tls")]
use super::error::TlsHandshakeSnafu;
use super::error::{
    InvalidHeadSnafu, NoResponseSnafu, Phase, ProxySnafu, TimeoutSnafu, TooManyRedirectsSnafu,
};
use super::hook::{Outgoing, Refused, Renewal, RequestHook};
use super::limits::Limits;
use super::pool::Pool;
use super::range::ContentRange;
use super::wire::WireBody;
use super::{ByteRange, NetError, ProxyFailure, Request, RetryPolicy, Traffic, redacted, redirect};
use crate::rt;

/// What all requests of a client have in common.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) headers: ClientHeaders,
    pub(super) hook: Option<Arc<dyn RequestHook>>,
    pub(super) limits: Limits,
    pub(super) retry: RetryPolicy,
    pub(super) max_redirects: u8,
    pub(super) insecure_redirects: bool,
    pub(super) max_skip: u64,
}

/// The head of a 401 or 403.
struct Refusal {
    url: Url,
    status: u16,
    headers: HeaderMap,
}

impl Refusal {
    async fn ask(&self, hook: &dyn RequestHook, request: &Request) -> Option<Renewal> {
        let refused = Refused::new(&request.url, &self.url, self.status, &self.headers);
        hook.refused(refused).await
    }
}

/// A response that passed the check: its head, and its wire body.
pub(super) struct Exchange {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    pub(super) delivery: Delivery,
    pub(super) wire: WireBody,
}

/// What a client, its responses and its bodies send requests with.
#[derive(Clone)]
pub(super) struct Exchanger {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    connector: Connector,
    user_agent: HeaderValue,
    pool: Arc<Pool>,
}

impl Exchanger {
    pub(super) fn new(settings: Settings, connector: Connector, user_agent: HeaderValue, pool: Pool) -> Self {
        let inner = Inner {
            settings,
            connector: connector.with_own_meter(),
            user_agent,
            pool: Arc::new(pool),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(super) fn forget_connections(&self) {
        self.inner.pool.forget_all();
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.inner.connector.traffic()
    }

    /// Tries until one try succeeds, as the [`RetryPolicy`] says.
    ///
    /// `request` is the one that succeeded afterwards: the app may have renewed it.
    pub(super) async fn send(&self, request: &mut Request) -> Result<Exchange, NetError> {
        let mut failures = 0;
        // Once for all tries: an app that renews what is refused again and again would be asked for ever.
        let mut may_renew = true;
        loop {
            let error = match self.attempt_renewing(request, &mut may_renew).await {
                Ok(exchange) => return Ok(exchange),
                Err(error) => error,
            };
            failures += 1;
            let wait = self
                .inner
                .settings
                .retry
                .delay(failures, error.retry_after())
                .filter(|_| error.is_worth_a_retry());
            // No connection is held during the wait: `attempt` has dropped it with the failure.
            let Some(wait) = wait else { return Err(error) };
            log::debug!("{error}; trying again in {wait:?}");
            rt::sleep(wait).await;
        }
    }

    /// Makes a connection to the host of `url` and puts it into the pool, for the next request. Does nothing if one is idle
    /// already, or if there may be no more. Sends nothing, tries once, and only logs a failure.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    #[cfg(feature = "file")]
    pub(super) async fn preconnect(&self, url: &Url) {
        let Inner {
            settings,
            connector,
            pool,
            ..
        } = &*self.inner;
        let Some(mut pooled) = pool.try_acquire_spare(url) else {
            return;
        };
        match connector
            .connect(pooled.peer(), url, settings.limits.connect)
            .await
        {
            // Through the same door as a used connection, so that the pool's limits hold for it, too.
            Ok(connection) => {
                pooled.open(connection);
                pooled.give_back();
            }
            Err(error) => log::debug!("no spare connection: {error}"),
        }
    }

    /// Whether a request to the host of `url` would not have to wait for another one to end.
    #[cfg(feature = "file")]
    pub(super) fn has_room(&self, url: &Url) -> bool {
        self.inner.pool.has_room(url)
    }

    /// One try. See [`send`](Self::send) for `request`.
    pub(super) async fn attempt(&self, request: &mut Request) -> Result<Exchange, NetError> {
        self.attempt_renewing(request, &mut true).await
    }

    /// One try. It is two requests where the app renews a refused one, or where a range that is a wish is refused; never
    /// three.
    async fn attempt_renewing(
        &self,
        request: &mut Request,
        may_renew: &mut bool,
    ) -> Result<Exchange, NetError> {
        let mut refusal = None;
        let error = match self.chain(request, &mut refusal).await {
            Err(error) => error,
            outcome => return outcome,
        };
        // The app first: a 403 that it can explain says nothing of ranges.
        if let (Some(hook), Some(refusal)) = (&self.inner.settings.hook, refusal)
            && std::mem::take(may_renew)
            && let Some(renewal) = refusal.ask(&**hook, request).await
        {
            log::debug!("{error}; once more, renewed");
            *request = renewal.apply(request, &refusal.url);
            request.check()?;
            return self.chain(request, &mut None).await;
        }
        // Within the try, so that a refusal is not waited out and asked for again before the way around it is taken.
        match request.without_optional_range().filter(|_| error.refuses_range()) {
            Some(plain) => {
                log::debug!("{error}; once more, without a range");
                self.chain(&plain, &mut None).await
            }
            None => Err(error),
        }
    }

    /// Follows the redirects and checks the response. `refusal` is the answer's head, if that is a 401 or 403.
    async fn chain(&self, request: &Request, refusal: &mut Option<Refusal>) -> Result<Exchange, NetError> {
        let Settings {
            max_redirects,
            insecure_redirects,
            max_skip,
            ..
        } = self.inner.settings;
        let mut url = request.url.clone();
        // The caller's headers go along while this is true (N7).
        let mut same_origin = true;
        // One exchange more than there may be redirects.
        for _ in 0..=max_redirects {
            let (head, wire) = self.exchange(request, &url, same_origin).await?;
            log::debug!("{} answers {}", redacted(&url), head.status.as_u16());
            // Of a redirect above all: where one leads back to where it came from, the cookie is what has changed.
            if let Some(jar) = &request.cookies {
                jar.store(&url, &head.headers);
            }
            if let Some(next) = redirect::target(&url, head.status, &head.headers, insecure_redirects)? {
                // The page that comes with a redirect is not wanted, its connection may be.
                wire.settle();
                // Never true again: a chain that has left the origin may come back under the control of another one.
                same_origin &= next.origin() == url.origin();
                url = next;
                continue;
            }
            return match check_response(request, &url, head.status, &head.headers, wire.framed(), max_skip) {
                Ok(delivery) => Ok(Exchange {
                    status: head.status,
                    headers: head.headers,
                    url,
                    delivery,
                    wire,
                }),
                // As with a redirect: an error's page is not wanted.
                Err(error) => {
                    if matches!(error.status(), Some(401 | 403)) {
                        *refusal = Some(Refusal {
                            url,
                            status: head.status.as_u16(),
                            headers: head.headers,
                        });
                    }
                    wire.settle();
                    Err(error)
                }
            };
        }
        TooManyRedirectsSnafu {
            url: redacted(&url),
            limit: max_redirects,
        }
        .fail()
    }

    /// One request, one head.
    ///
    /// A server may close an idle connection at any time, and the client learns of it only by using it. So a failure on a
    /// reused connection says nothing about the server, and the request is sent once more, on a fresh connection, without
    /// counting as a try. Nor does silence, for which a reused connection has less time. On a fresh connection the failure
    /// counts. Only GET and HEAD are sent, so sending twice is safe.
    async fn exchange(
        &self,
        request: &Request,
        url: &Url,
        same_origin: bool,
    ) -> Result<(http::response::Parts, WireBody), NetError> {
        let Inner {
            settings,
            connector,
            user_agent,
            pool,
        } = &*self.inner;
        // Made anew for each sending: a message is used up by it (fault D13).
        let message = || -> Result<http::Request<NoBody>, NetError> {
            let mut message = request.to_http(url, &settings.headers, user_agent, same_origin, NoBody)?;
            if let Some(hook) = &settings.hook {
                let mut outgoing = Outgoing::new(url, message.headers_mut());
                hook.sign(&mut outgoing);
                outgoing.finish()?;
            }
            Ok(message)
        };
        // The right to a connection first: idle or new, it counts against the host's limit. Everything below that fails or
        // is dropped gives the right back with `pooled`.
        let waiting = pool.courtesy().wait(&request.priority);
        let (queue, cancel) = (settings.limits.queue, request.cancel.clone());
        let mut pooled = pool.acquire(url, queue, cancel, &request.priority).await?;
        // Raised while it waited for a place: from here on it waits for a head.
        let _waiting = waiting.or_else(|| pool.courtesy().wait(&request.priority));
        let reused = match pooled.reuse() {
            Some(connection) => {
                let limit = settings.limits.kept_head(connection.head_time());
                match self.head(connection, message()?, url, limit).await {
                    // A cancelled request is no such failure.
                    Err(error) if pooled.is_cancelled() => return Err(error),
                    Err(
                        error @ (NetError::NoResponse { .. }
                        | NetError::InvalidHead { .. }
                        | NetError::TlsHandshake { .. }),
                    ) => {
                        log::debug!("{error}, on a kept connection");
                        None
                    }
                    // Dead without a word, or a slow server: a fresh connection tells. The other idle ones are not tried, as
                    // each might cost the same time.
                    Err(NetError::Timeout { .. }) => {
                        log::debug!("{}: kept connection was silent for {limit:?}", redacted(url));
                        pooled.close_all();
                        None
                    }
                    // The server has sent one answer too many before, and each on this connection is one behind.
                    Ok(response) if answers_another(request, &response) => {
                        log::debug!(
                            "{}: the answer to another request, on a kept connection",
                            redacted(url)
                        );
                        None
                    }
                    outcome => Some(outcome?),
                }
            }
            None => None,
        };
        let response = if let Some(response) = reused {
            response
        } else {
            // Closed before the next one is opened, as there is one permit.
            pooled.close();
            let connection = connector
                .connect(pooled.peer(), url, settings.limits.connect)
                .await?;
            let peer = pooled.peer().clone();
            // A server that serves one connection at a time may wait for a request on one that came to be idle after this
            // one was made. It comes to this one when that is closed; until then the wait would be for the whole limit, and
            // as long with each try. Again and again: one may still be in use when the time is over first.
            let release = async {
                loop {
                    rt::sleep(settings.limits.kept_head).await;
                    pool.forget(&peer);
                }
            };
            let head = self.head(pooled.open(connection), message()?, url, settings.limits.head);
            future::or(head, release).await?
        };
        let (head, incoming) = response.into_parts();
        Ok((head, WireBody::new(pooled, incoming)))
    }

    async fn head(
        &self,
        connection: &mut Connection,
        mut message: http::Request<NoBody>,
        url: &Url,
        limit: Duration,
    ) -> Result<http::Response<Incoming>, NetError> {
        // Only here: whether a proxy forwards is known of a connection, and not of a request.
        if let Some(forward) = connection.forward() {
            forward.address(&mut message, url)?;
        }
        let answered = connection.exchange(message, limit).await.map_err(|failure| {
            let url = redacted(url);
            // The client's part of a TLS 1.3 handshake ends before the server has seen its certificate. A refusal comes in
            // place of the response.
            #[cfg(feature = "tls")]
            if let Failure::Broken(source) = &failure
                && let Some(refusal) = source.tls_error()
            {
                let source = std::io::Error::new(std::io::ErrorKind::InvalidData, refusal);
                return TlsHandshakeSnafu { url }.into_error(source);
            }
            match failure {
                Failure::Broken(source) if source.is_protocol() => {
                    let line = source.line().map(str::to_owned);
                    InvalidHeadSnafu { url, line }.into_error(source)
                }
                Failure::Broken(source) => NoResponseSnafu { url }.into_error(source),
                Failure::Silent => {
                    let phase = Phase::Head;
                    TimeoutSnafu { url, phase, limit }.build()
                }
            }
        })?;
        // The proxy's own word, not the server's: no server has been asked (RFC 9110, section 15.5.8).
        if let Some(forward) = connection.forward()
            && answered.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        {
            let (url, proxy) = (redacted(url), forward.proxy.clone());
            let failure = ProxyFailure::Status(answered.status().as_u16());
            return ProxySnafu { url, proxy, failure }.fail();
        }
        Ok(answered)
    }

    pub(super) fn courtesy(&self) -> &Arc<Courtesy> {
        self.inner.pool.courtesy()
    }

    pub(super) fn limits(&self) -> Limits {
        self.inner.settings.limits
    }

    #[cfg(feature = "file")]
    pub(super) fn has_hook(&self) -> bool {
        self.inner.settings.hook.is_some()
    }

    pub(super) fn retry_policy(&self) -> &RetryPolicy {
        &self.inner.settings.retry
    }

    /// Shows the settings under the name of what holds this.
    pub(super) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { settings, pool, .. } = &*self.inner;
        f.debug_struct(name)
            .field("headers", &settings.headers.names())
            .field("limits", &settings.limits)
            .field("retry", &settings.retry)
            .field("pool", pool)
            .finish_non_exhaustive()
    }
}

/// Whether a part without the first byte asked for has come: nothing that a server would cut or round a range to.
fn answers_another<B>(request: &Request, response: &http::Response<B>) -> bool {
    let asked = request.range.filter(|_| request.sends_range());
    let part = response.headers().get(CONTENT_RANGE);
    let part = part.and_then(|value| ContentRange::parse(value.to_str().ok()?));
    let is_another = |(asked, part): (ByteRange, ContentRange)| !part.holds(asked.start());
    response.status() == StatusCode::PARTIAL_CONTENT && asked.zip(part).is_some_and(is_another)
}

//! The client: one exchange after another until there is a response worth having.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use snafu::IntoError;
use url::Url;

use super::accept::{Delivery, accept};
use super::connect::Connector;
use super::connection::{Connection, Failure, Incoming, NoBody};
use super::error::{InvalidHeaderSnafu, NoResponseSnafu, Phase, TimeoutSnafu, TooManyRedirectsSnafu};
use super::limits::Limits;
use super::pool::{Peer, Pool};
use super::raw::Raw;
use super::request::insert_header;
use super::{NetError, Request, Response, RetryPolicy, Traffic, redacted, redirect};
use crate::rt;

/// An HTTP/1.1 client for media, cheap to clone: clones share connections and settings.
///
/// ```no_run
/// use kithara::net::{HttpClient, NetError, Request, Url};
///
/// # async fn run() -> Result<(), NetError> {
/// let client = HttpClient::new()?;
/// let playlist = Url::parse("https://example.com/master.m3u8").expect("a url");
/// let text = client.send(Request::get(playlist).compressed()).await?.bytes(1 << 20).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Arc<Pool>,
    connector: Connector,
    headers: HeaderMap,
    user_agent: HeaderValue,
    limits: Limits,
    retry: RetryPolicy,
    max_redirects: u8,
    insecure_redirects: bool,
    max_skip: u64,
}

/// A response's head that was found good, and its body as the connection gives it.
pub(super) struct Exchange {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    pub(super) delivery: Delivery,
    pub(super) raw: Raw,
    /// Whether only the close of the connection ends the body.
    pub(super) unframed: bool,
}

impl HttpClient {
    /// A client with default settings.
    ///
    /// # Errors
    ///
    /// None today; what a client needs from the system is set up at its first use.
    pub fn new() -> Result<Self, NetError> {
        Self::builder().build()
    }

    /// Starts with default settings.
    pub fn builder() -> HttpClientBuilder {
        HttpClientBuilder::default()
    }

    /// What this client and its clones have cost the network so far.
    pub fn traffic(&self) -> Traffic {
        self.inner.connector.traffic()
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// Redirects are followed. What fails before the head comes, in a way that may pass, is tried again as the
    /// [`RetryPolicy`] says. The status of what is returned is 2xx, or 416 for a range that starts exactly at the file's
    /// end; its body is empty then. A server that ignores the range and sends the whole file is put up with as long as
    /// few bytes are to be skipped ([`max_skip`](HttpClientBuilder::max_skip)).
    ///
    /// If the client has its fill of connections to the host, this waits for one, without a limit of time.
    ///
    /// # Errors
    ///
    /// - [`InvalidHeader`](NetError::InvalidHeader), [`InvalidRange`](NetError::InvalidRange),
    ///   [`UnsupportedUrl`](NetError::UnsupportedUrl) and [`TlsDisabled`](NetError::TlsDisabled) before anything is sent.
    /// - [`Connect`](NetError::Connect), [`TlsHandshake`](NetError::TlsHandshake), [`Timeout`](NetError::Timeout),
    ///   [`NoResponse`](NetError::NoResponse): no head came, tries included.
    /// - [`Status`](NetError::Status): the last status that was not a success.
    /// - [`TooManyRedirects`](NetError::TooManyRedirects), [`InvalidRedirect`](NetError::InvalidRedirect),
    ///   [`InsecureRedirect`](NetError::InsecureRedirect).
    /// - [`RangeMismatch`](NetError::RangeMismatch), [`RangeIgnored`](NetError::RangeIgnored),
    ///   [`RangeNotSatisfiable`](NetError::RangeNotSatisfiable), [`Changed`](NetError::Changed),
    ///   [`UnexpectedEncoding`](NetError::UnexpectedEncoding): a response that is not what was asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connection at once, whatever it waits for.
    pub async fn send(&self, request: Request) -> Result<Response, NetError> {
        request.check()?;
        let mut failures = 0;
        loop {
            let error = match self.attempt(&request).await {
                Ok(exchange) => return Ok(Response::new(self.clone(), request, exchange)),
                Err(error) => error,
            };
            failures += 1;
            let wait = self
                .inner
                .retry
                .delay(failures, error.retry_after())
                .filter(|_| error.is_transient());
            let Some(wait) = wait else { return Err(error) };
            log::debug!("{error}; trying again in {wait:?}");
            rt::sleep(wait).await;
        }
    }

    /// Asks once, redirects and all.
    pub(super) async fn attempt(&self, request: &Request) -> Result<Exchange, NetError> {
        let Inner {
            max_redirects,
            insecure_redirects,
            max_skip,
            ..
        } = *self.inner;
        let mut url = request.url.clone();
        let mut same_origin = true;
        for _ in 0..=max_redirects {
            let (head, raw) = self.exchange(request, &url, same_origin).await?;
            log::debug!("{} answers {}", redacted(&url), head.status.as_u16());
            if let Some(next) = redirect::target(&url, head.status, &head.headers, insecure_redirects)? {
                raw.settle();
                same_origin &= next.origin() == url.origin();
                url = next;
                continue;
            }
            return match accept(request, &url, head.status, &head.headers, raw.framed(), max_skip) {
                Ok(delivery) => {
                    let framing = [CONTENT_LENGTH, TRANSFER_ENCODING];
                    let unframed =
                        raw.framed().is_none() && !framing.iter().any(|name| head.headers.contains_key(name));
                    Ok(Exchange {
                        status: head.status,
                        headers: head.headers,
                        url,
                        delivery,
                        raw,
                        unframed,
                    })
                }
                Err(error) => {
                    raw.settle();
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

    /// One request, one response. A connection that was idle may turn out dead only now; then a fresh one is tried.
    async fn exchange(
        &self,
        request: &Request,
        url: &Url,
        same_origin: bool,
    ) -> Result<(http::response::Parts, Raw), NetError> {
        let Inner {
            headers,
            user_agent,
            connector,
            limits,
            ..
        } = &*self.inner;
        let message = || request.to_http(url, headers, user_agent, same_origin, NoBody);
        let mut lease = self.inner.pool.lease(Peer::of(url)?).await;
        let reused = match lease.reuse() {
            Some(connection) => match self.head(connection, message()?, url).await {
                Err(NetError::NoResponse { source, .. }) => {
                    log::debug!("{}: kept connection was dead: {source}", redacted(url));
                    None
                }
                outcome => Some(outcome?),
            },
            None => None,
        };
        let response = if let Some(response) = reused {
            response
        } else {
            let connection = connector.connect(lease.peer(), url, limits.connect).await?;
            self.head(lease.replace(connection), message()?, url).await?
        };
        let (head, incoming) = response.into_parts();
        Ok((head, Raw::new(lease, incoming)))
    }

    async fn head(
        &self,
        connection: &mut Connection,
        message: http::Request<NoBody>,
        url: &Url,
    ) -> Result<http::Response<Incoming>, NetError> {
        let limit = self.inner.limits.head;
        connection.exchange(message, limit).await.map_err(|failure| {
            let url = redacted(url);
            match failure {
                Failure::Broken(source) => NoResponseSnafu { url }.into_error(source),
                Failure::Silent => {
                    let phase = Phase::Head;
                    TimeoutSnafu { url, phase, limit }.build()
                }
            }
        })
    }

    pub(super) fn limits(&self) -> Limits {
        self.inner.limits
    }

    pub(super) fn retry_policy(&self) -> &RetryPolicy {
        &self.inner.retry
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("headers", &self.inner.headers.keys().collect::<Vec<_>>())
            .field("limits", &self.inner.limits)
            .field("retry", &self.inner.retry)
            .field("pool", &self.inner.pool)
            .finish_non_exhaustive()
    }
}

/// Settings of a client to be.
#[derive(Clone)]
#[must_use]
pub struct HttpClientBuilder {
    connector: Connector,
    headers: HeaderMap,
    user_agent: String,
    invalid_header: Option<String>,
    limits: Limits,
    retry: RetryPolicy,
    max_redirects: u8,
    insecure_redirects: bool,
    max_skip: u64,
    max_connections_per_host: usize,
}

impl Default for HttpClientBuilder {
    fn default() -> Self {
        Self {
            connector: Connector::default(),
            headers: HeaderMap::new(),
            user_agent: concat!("kithara/", env!("CARGO_PKG_VERSION")).to_owned(),
            invalid_header: None,
            limits: Limits {
                connect: Duration::from_secs(10),
                head: Duration::from_secs(15),
                idle: Duration::from_secs(15),
            },
            retry: RetryPolicy::default(),
            max_redirects: 10,
            insecure_redirects: false,
            max_skip: 256 * 1024,
            max_connections_per_host: 6,
        }
    }
}

impl HttpClientBuilder {
    /// The most time to resolve a name, connect and shake hands; 10 s by default.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect = limit;
        self
    }

    /// The most time from sending a request to the head of its response; 15 s by default.
    pub fn head_timeout(mut self, limit: Duration) -> Self {
        self.limits.head = limit;
        self
    }

    /// The longest gap in a body that is being waited for; 15 s by default. There is no limit for a body as a whole.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle = limit;
        self
    }

    /// How many redirects to follow; 10 by default.
    pub fn max_redirects(mut self, limit: u8) -> Self {
        self.max_redirects = limit;
        self
    }

    /// Whether to follow a redirect from `https` to `http`; refused by default.
    pub fn insecure_redirects(mut self, allowed: bool) -> Self {
        self.insecure_redirects = allowed;
        self
    }

    /// How many connections to hold to one host at most, idle ones included; 6 by default, never less than 1.
    pub fn max_connections_per_host(mut self, limit: usize) -> Self {
        self.max_connections_per_host = limit;
        self
    }

    /// How many bytes to read and throw away when a server answers a request for a range with the whole file; 256 KiB by
    /// default.
    pub fn max_skip(mut self, bytes: u64) -> Self {
        self.max_skip = bytes;
        self
    }

    /// Adds a header to each request, in place of an earlier one of the same name. It is taken for a credential: a
    /// redirect to another origin does not get it.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Err(name) = insert_header(&mut self.headers, name, value) {
            self.invalid_header.get_or_insert(name);
        }
        self
    }

    /// What the client calls itself; `kithara/` and the version by default.
    pub fn user_agent(mut self, name: &str) -> Self {
        name.clone_into(&mut self.user_agent);
        self
    }

    /// When to try again; see [`RetryPolicy`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The app's own TLS settings, in place of those made from the platform's certificate store. The protocols they
    /// offer (ALPN) are replaced by HTTP/1.1, the only one this client speaks.
    #[cfg(feature = "tls")]
    pub fn tls_config(mut self, config: Arc<futures_rustls::rustls::ClientConfig>) -> Self {
        self.connector = Connector::with_tls_config(config);
        self
    }

    /// Makes the client. Opens no connection and reads no file.
    ///
    /// # Errors
    ///
    /// [`NetError::InvalidHeader`] if a header or the user agent is not allowed in HTTP.
    pub fn build(self) -> Result<HttpClient, NetError> {
        if let Some(name) = self.invalid_header {
            return InvalidHeaderSnafu { name }.fail();
        }
        let user_agent = HeaderValue::try_from(self.user_agent);
        let user_agent = user_agent.map_err(|_| InvalidHeaderSnafu { name: "user-agent" }.build())?;
        let inner = Inner {
            pool: Arc::new(Pool::new(self.max_connections_per_host)),
            connector: self.connector.with_own_meter(),
            headers: self.headers,
            user_agent,
            limits: self.limits,
            retry: self.retry,
            max_redirects: self.max_redirects,
            insecure_redirects: self.insecure_redirects,
            max_skip: self.max_skip,
        };
        Ok(HttpClient {
            inner: Arc::new(inner),
        })
    }
}

impl fmt::Debug for HttpClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder")
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("limits", &self.limits)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

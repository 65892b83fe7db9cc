//! A client's settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use url::Url;

use super::client::HttpClient;
use super::client_headers::{ClientHeaders, insert_header, is_credential};
use super::connect::{Connector, Routed, Security};
use super::error::{ClientWideCredentialSnafu, InvalidHeaderSnafu};
use super::exchange::Settings;
use super::hook::RequestHook;
use super::limits::Limits;
use super::pool::Pool;
use super::proxy::Proxies;
use super::speed::LeastSpeed;
use super::{NetError, Proxy, RetryPolicy};

/// Settings for an [`HttpClient`].
///
/// ```
/// use std::time::Duration;
///
/// use kithara::net::{HttpClient, NetError, RetryPolicy};
///
/// # fn run() -> Result<(), NetError> {
/// let client = HttpClient::builder()
///     .user_agent("player/1.0")
///     .connect_timeout(Duration::from_secs(5))
///     .retry(RetryPolicy::default().max_attempts(3))
///     .build()?;
/// # Ok(())
/// # }
/// # run().unwrap();
/// ```
#[derive(Clone)]
#[must_use]
pub struct HttpClientBuilder {
    settings: Settings,
    security: Security,
    proxies: ProxyChoice,
    no_proxy: Option<String>,
    /// In place of the crate's own.
    #[cfg(test)]
    connector: Option<Connector>,
    user_agent: String,
    /// The first header that HTTP does not allow. `build` fails with it.
    invalid_header: Option<String>,
    /// The first credential that was to go everywhere. `build` fails with it.
    client_wide_credential: Option<String>,
    max_connections_per_host: usize,
}

impl Default for HttpClientBuilder {
    fn default() -> Self {
        let settings = Settings {
            headers: ClientHeaders::default(),
            hook: None,
            limits: Limits {
                queue: Duration::from_secs(30),
                connect: Duration::from_secs(10),
                head: Duration::from_secs(15),
                // Twice the round trip of a poor mobile link. A server that needs longer costs one more request, once.
                kept_head: Duration::from_secs(2),
                idle: Duration::from_secs(15),
                // 2 kbit/s, below what codecs of sound need: such a body is not slow, it is dead.
                least_speed: LeastSpeed {
                    bytes_per_second: 256,
                    over: Duration::from_secs(30),
                },
            },
            retry: RetryPolicy::default(),
            max_redirects: 10,
            insecure_redirects: false,
            // About a second of a poor mobile link. More is not worth it: the caller reads the whole from its start instead.
            max_skip: 256 * 1024,
        };
        Self {
            settings,
            security: Security::default(),
            proxies: ProxyChoice::Environment,
            no_proxy: None,
            #[cfg(test)]
            connector: None,
            user_agent: concat!("kithara/", env!("CARGO_PKG_VERSION")).to_owned(),
            invalid_header: None,
            client_wide_credential: None,
            // As browsers have it; servers commonly count on that.
            max_connections_per_host: 6,
        }
    }
}

impl HttpClientBuilder {
    /// The longest wait for a free connection, while all that
    /// [may exist](Self::max_connections_per_host) to a host are in use. 30 s by default.
    ///
    /// A body holds its connection until it is read to its end or dropped, which may take longer than that.
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.settings.limits.queue = limit;
        self
    }

    /// The longest time to resolve a name, connect and finish the TLS handshake. 10 s by default.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.limits.connect = limit;
        self
    }

    /// The longest time from sending a request to the head of its response. 15 s by default.
    pub fn head_timeout(mut self, limit: Duration) -> Self {
        self.settings.limits.head = limit;
        self
    }

    /// The longest time to the head on a connection that was kept from an earlier request. 2 s by default, and twice what
    /// the connection's last head took if that is more; never more than [`head_timeout`](Self::head_timeout).
    ///
    /// A kept connection may have died without a word: the machine slept, the network changed. After this time it is closed,
    /// with all idle ones to its host, and the request is sent on a new one. That is not counted as a try.
    pub fn kept_head_timeout(mut self, limit: Duration) -> Self {
        self.settings.limits.kept_head = limit;
        self
    }

    /// The least speed of a body: so many bytes a second on average over any `over` of waiting for it. 256 bytes a second
    /// over 30 s by default; 0 bytes for no limit.
    ///
    /// A slower body breaks off with [`NetError::TooSlow`] and is resumed like one that a connection lost, as often in a row
    /// as [`retry`](Self::retry) allows. Time in which the consumer does not ask for bytes does not count.
    pub fn least_speed(mut self, bytes_per_second: u64, over: Duration) -> Self {
        self.settings.limits.least_speed = LeastSpeed {
            bytes_per_second,
            over,
        };
        self
    }

    /// The longest gap in a body while the consumer waits for it. 15 s by default. There is no limit for a whole body.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.settings.limits.idle = limit;
        self
    }

    /// How many redirects to follow. 10 by default.
    pub fn max_redirects(mut self, limit: u8) -> Self {
        self.settings.max_redirects = limit;
        self
    }

    /// Whether to follow a redirect from `https` to `http`. `false` by default.
    pub fn insecure_redirects(mut self, allowed: bool) -> Self {
        self.settings.insecure_redirects = allowed;
        self
    }

    /// The most connections to one host, idle ones included. 6 by default, never less than 1.
    ///
    /// A body keeps its connection until it is read to its end or dropped, also while its consumer pauses. No other
    /// request takes it. If all connections are held like that, a further request waits for
    /// [`queue_timeout`](Self::queue_timeout) and fails with [`NetError::NoneFree`].
    pub fn max_connections_per_host(mut self, limit: usize) -> Self {
        self.max_connections_per_host = limit;
        self
    }

    /// How many bytes to skip when a server answers a request for a range with the whole file. 256 KiB by default.
    pub fn max_skip(mut self, bytes: u64) -> Self {
        self.settings.max_skip = bytes;
        self
    }

    /// Adds a header to each request, in place of an earlier one of the same name. For what describes the program: it goes to
    /// every host that a playlist may name. It is not sent to another origin after a redirect.
    ///
    /// `Authorization`, `Cookie` and `Proxy-Authorization` are refused by [`build`](Self::build). A credential belongs to an
    /// origin ([`origin_header`](Self::origin_header)), to a source (`Access::header` of `media`) or to one
    /// [`Request`](super::Request).
    pub fn header(mut self, name: &str, value: &str) -> Self {
        // Kept apart from `invalid_header`, as it is valid: it would be sent to every host that a redirect names.
        if is_credential(name) {
            self.client_wide_credential.get_or_insert(name.to_owned());
        }
        // Kept for `build`, so that the calls of a builder can be chained. The first error is the one told.
        if let Err(name) = insert_header(&mut self.settings.headers.everywhere, name, value) {
            self.invalid_header.get_or_insert(name);
        }
        self
    }

    /// Adds a header to each request to the origin (scheme, host, port) of `url`, in place of an earlier one of the same
    /// name: also to those that a playlist or a redirect leads there. No other origin gets it.
    pub fn origin_header(mut self, url: &Url, name: &str, value: &str) -> Self {
        let headers = self.settings.headers.at(url);
        if let Some(Err(name)) = headers.map(|headers| insert_header(headers, name, value)) {
            self.invalid_header.get_or_insert(name);
        }
        self
    }

    /// Has the app see each request before it goes out, and say what to do when a server refuses one. See
    /// [`RequestHook`].
    pub fn hook(mut self, hook: impl RequestHook + 'static) -> Self {
        self.settings.hook = Some(Arc::new(hook));
        self
    }

    /// The value of `User-Agent`. `kithara/` and the version by default.
    pub fn user_agent(mut self, name: &str) -> Self {
        name.clone_into(&mut self.user_agent);
        self
    }

    /// When to try again: see [`RetryPolicy`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// The app's own TLS settings, in place of those made from the platform's certificate store. The protocols they
    /// offer (ALPN) are replaced by HTTP/1.1, the only one that this client speaks.
    #[cfg(feature = "tls")]
    pub fn tls_config(mut self, config: Arc<futures_rustls::rustls::ClientConfig>) -> Self {
        self.security = Security::with_tls_config(config);
        self
    }

    /// Leads every request through `proxy`, whatever the environment says. Unless told otherwise, the client goes by the
    /// variables `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, each also in lower case, as they stand when it is
    /// built, and reaches this machine itself without a proxy.
    ///
    /// Plain HTTP is forwarded by an HTTP proxy. For https it connects through (`CONNECT`), as a SOCKS proxy does for both.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxies = ProxyChoice::Given(proxy);
        self
    }

    /// Excepts hosts from the proxy, be it [given](Self::proxy) or the environment's, whose own list counts no more. The list
    /// is as in `NO_PROXY`: names (of which all below are meant), addresses, blocks of addresses (`10.0.0.0/8`) and `*` for
    /// all, each with a port, if only that one is meant.
    pub fn no_proxy(mut self, hosts: &str) -> Self {
        self.no_proxy = Some(hosts.to_owned());
        self
    }

    /// Uses no proxy, whatever the environment says.
    pub fn without_proxy(mut self) -> Self {
        self.proxies = ProxyChoice::Direct;
        self
    }

    /// Another way to connect.
    #[cfg(test)]
    pub(super) fn connector(mut self, connector: Connector) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Makes the client. Opens no connection and reads no file.
    ///
    /// # Errors
    ///
    /// - [`NetError::InvalidHeader`]: a header or the user agent is not allowed in HTTP.
    /// - [`NetError::ClientWideCredential`]: a credential was given to [`header`](Self::header).
    pub fn build(self) -> Result<HttpClient, NetError> {
        if let Some(name) = self.invalid_header {
            return InvalidHeaderSnafu { name }.fail();
        }
        if let Some(name) = self.client_wide_credential {
            return ClientWideCredentialSnafu { name }.fail();
        }
        let user_agent = HeaderValue::try_from(self.user_agent);
        let user_agent = user_agent.map_err(|_| InvalidHeaderSnafu { name: "user-agent" }.build())?;
        // A pool for each client: connections are shared by those that agree on proxies and certificates.
        let pool = Pool::new(self.max_connections_per_host);
        let mut proxies = match self.proxies {
            // Read now, once: a process that changes its environment later does not split a client in two.
            ProxyChoice::Environment => Proxies::from_variables(|name| std::env::var(name).ok()),
            ProxyChoice::Given(proxy) => Proxies::all(proxy),
            ProxyChoice::Direct => Proxies::default(),
        };
        // After the choice, so that it holds for each of them, whatever the order of the calls.
        if let Some(hosts) = self.no_proxy {
            proxies.except(&hosts);
        }
        let connector = Connector::new(Routed {
            proxies,
            security: self.security,
        });
        #[cfg(test)]
        let connector = self.connector.unwrap_or(connector);
        Ok(HttpClient::with(self.settings, connector, user_agent, pool))
    }
}

/// Where the proxies of a client are from.
#[derive(Clone)]
enum ProxyChoice {
    Environment,
    Given(Proxy),
    Direct,
}

impl fmt::Debug for HttpClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder")
            .field("headers", &self.settings.headers.names())
            .field("limits", &self.settings.limits)
            .field("retry", &self.settings.retry)
            .finish_non_exhaustive()
    }
}

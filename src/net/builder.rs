//! A client's settings.

use std::fmt;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::client::HttpClient;
use super::connect::Connector;
#[cfg(feature = "tls")]
use super::connect::Direct;
use super::error::InvalidHeaderSnafu;
use super::exchange::Settings;
use super::limits::Limits;
use super::pool::Pool;
use super::request::insert_header;
use super::{NetError, RetryPolicy};

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
    connector: Connector,
    user_agent: String,
    /// The first header that HTTP does not allow. `build` fails with it.
    invalid_header: Option<String>,
    max_connections_per_host: usize,
}

impl Default for HttpClientBuilder {
    fn default() -> Self {
        let settings = Settings {
            headers: HeaderMap::new(),
            limits: Limits {
                queue: Duration::from_secs(30),
                connect: Duration::from_secs(10),
                head: Duration::from_secs(15),
                idle: Duration::from_secs(15),
            },
            retry: RetryPolicy::default(),
            max_redirects: 10,
            insecure_redirects: false,
            max_skip: 256 * 1024,
        };
        Self {
            settings,
            connector: Connector::default(),
            user_agent: concat!("kithara/", env!("CARGO_PKG_VERSION")).to_owned(),
            invalid_header: None,
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

    /// Adds a header to each request, in place of an earlier one of the same name. It is treated as a credential: it is
    /// not sent to another origin after a redirect.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        // Kept for `build`, so that the calls of a builder can be chained. The first error is the one told.
        if let Err(name) = insert_header(&mut self.settings.headers, name, value) {
            self.invalid_header.get_or_insert(name);
        }
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
        self.connector = Connector::new(Direct::with_tls_config(config));
        self
    }

    /// Another way to connect.
    #[cfg(test)]
    pub(super) fn connector(mut self, connector: Connector) -> Self {
        self.connector = connector;
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
        let pool = Pool::new(self.max_connections_per_host);
        Ok(HttpClient::with(self.settings, self.connector, user_agent, pool))
    }
}

impl fmt::Debug for HttpClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder")
            .field("headers", &self.settings.headers.keys().collect::<Vec<_>>())
            .field("limits", &self.settings.limits)
            .field("retry", &self.settings.retry)
            .finish_non_exhaustive()
    }
}

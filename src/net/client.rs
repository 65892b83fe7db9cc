//! The client: what an app holds. It hands requests to the [`Exchanger`].

use std::fmt;

use http::HeaderValue;
#[cfg(feature = "file")]
use url::Url;

use super::connect::Connector;
use super::exchange::{Exchanger, Settings};
use super::pool::Pool;
use super::{HttpClientBuilder, NetError, Request, Response, Traffic};

/// An HTTP/1.1 client for media. Cheap to clone: clones share connections and settings.
///
/// ```no_run
/// use kithara::net::{HttpClient, NetError, Request, Url};
///
/// # async fn run() -> Result<(), NetError> {
/// let client = HttpClient::new()?;
/// let playlist = Url::parse("https://example.com/master.m3u8").expect("a url");
/// let response = client.send(Request::get(playlist).compressed()).await?;
/// let text = response.bytes(1 << 20).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpClient {
    exchanger: Exchanger,
}

impl HttpClient {
    /// A client with default settings.
    ///
    /// # Errors
    ///
    /// None today. What a client needs from the system is set up at its first use.
    pub fn new() -> Result<Self, NetError> {
        Self::builder().build()
    }

    pub(super) fn with(
        settings: Settings,
        connector: Connector,
        user_agent: HeaderValue,
        pool: Pool,
    ) -> Self {
        Self {
            exchanger: Exchanger::new(settings, connector, user_agent, pool),
        }
    }

    /// Starts with default settings.
    pub fn builder() -> HttpClientBuilder {
        HttpClientBuilder::default()
    }

    /// The network traffic of this client and its clones so far.
    pub fn traffic(&self) -> Traffic {
        self.exchanger.traffic()
    }

    /// Whether requests run code of the app's.
    #[cfg(feature = "file")]
    pub(crate) fn has_hook(&self) -> bool {
        self.exchanger.has_hook()
    }

    /// Since when requests of the background may go on without a pause; `None` while they may not.
    #[cfg(feature = "offline")]
    pub(crate) fn background_free_since(&self, now: std::time::Instant) -> Option<std::time::Instant> {
        self.exchanger.courtesy().free_since(now)
    }

    /// Closes the connections that are idle, and keeps none of those in use. For an app that is told of a network that
    /// changed, or of a machine that slept: what was connected before may be dead without a word.
    ///
    /// Not needed for correctness. Without it the next request waits for
    /// [`kept_head_timeout`](HttpClientBuilder::kept_head_timeout) once, and then uses a new connection.
    pub fn forget_connections(&self) {
        self.exchanger.forget_connections();
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// - Redirects are followed.
    /// - A failure before the head that may pass is tried again, as the [`RetryPolicy`](super::RetryPolicy) says.
    /// - The response's status is 200 or 206. Or it is 416, for a range that starts exactly at the file's end: the body is
    ///   empty then. Other statuses of success come with something else than the file.
    /// - If the server ignores a range and sends the whole file, up to
    ///   [`max_skip`](HttpClientBuilder::max_skip) bytes are skipped.
    /// - If all connections that the client may have to the host are in use, this waits for one, up to
    ///   [`queue_timeout`](HttpClientBuilder::queue_timeout).
    ///
    /// # Errors
    ///
    /// - [`InvalidHeader`](NetError::InvalidHeader), [`InvalidRange`](NetError::InvalidRange),
    ///   [`UnsupportedUrl`](NetError::UnsupportedUrl), [`InvalidProxy`](NetError::InvalidProxy) and
    ///   [`TlsDisabled`](NetError::TlsDisabled) before anything is sent. `InvalidHeader` also where the
    ///   [hook](HttpClientBuilder::hook) sets such a one.
    /// - [`Connect`](NetError::Connect), [`Proxy`](NetError::Proxy), [`TlsHandshake`](NetError::TlsHandshake),
    ///   [`Timeout`](NetError::Timeout), [`NoResponse`](NetError::NoResponse), [`InvalidHead`](NetError::InvalidHead): no
    ///   head came, or none of HTTP, in none of the tries.
    /// - [`NoneFree`](NetError::NoneFree): all connections to the host were in use for the whole wait.
    /// - [`Status`](NetError::Status): the last status that does not come with the file.
    /// - [`TooManyRedirects`](NetError::TooManyRedirects), [`InvalidRedirect`](NetError::InvalidRedirect),
    ///   [`InsecureRedirect`](NetError::InsecureRedirect).
    /// - [`RangeMismatch`](NetError::RangeMismatch), [`RangeIgnored`](NetError::RangeIgnored),
    ///   [`RangeNotSatisfiable`](NetError::RangeNotSatisfiable), [`Changed`](NetError::Changed),
    ///   [`Multipart`](NetError::Multipart), [`UnexpectedEncoding`](NetError::UnexpectedEncoding),
    ///   [`UnexpectedTransferCoding`](NetError::UnexpectedTransferCoding): a response that is not what was asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connection at once.
    pub async fn send(&self, mut request: Request) -> Result<Response, NetError> {
        // Here, once: what a setter could not take shows before anything is sent.
        request.check()?;
        // The exchanger changes the request where a hook renews it. The body resumes with what it has become.
        let exchange = self.exchanger.send(&mut request).await?;
        Ok(Response::new(self.exchanger.clone(), request, exchange))
    }

    /// As [`send`](Self::send), but with one try. For a question whose answer is not worth a wait. The body of the response
    /// is resumed all the same.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn send_once(&self, mut request: Request) -> Result<Response, NetError> {
        request.check()?;
        let exchange = self.exchanger.attempt(&mut request).await?;
        Ok(Response::new(self.exchanger.clone(), request, exchange))
    }

    /// Makes a connection to the host of `url` and puts it into the pool, for the next request. Does nothing if one is idle
    /// already, or if there may be no more. Sends nothing, tries once, and only logs a failure.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    #[cfg(feature = "file")]
    pub(crate) async fn preconnect(&self, url: &Url) {
        self.exchanger.preconnect(url).await;
    }

    /// Whether a request to the host of `url` would not have to wait for another one to end.
    #[cfg(feature = "file")]
    pub(crate) fn has_room(&self, url: &Url) -> bool {
        self.exchanger.has_room(url)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exchanger.fmt_as("HttpClient", f)
    }
}

//! The app's word on each request: signatures before it goes out, and a second chance when a server refuses it.
//!
//! ```text
//! message made ──▶ sign ──▶ sent ──▶ 401, 403 ──▶ refused ──▶ Renewal: sent once more
//!                   ▲                                 └─ none: the error
//!                   └─ retries, redirects, ranges, resumed bodies: each message is signed
//! ```

use std::fmt;
use std::pin::Pin;

use http::HeaderMap;
use url::Url;

use super::client_headers::insert_header;
use super::error::InvalidHeaderSnafu;
use super::request::Request;
use super::{NetError, redacted};

/// Sees each request of a client before it goes out, and is asked once when a server refuses one.
///
/// For tokens that expire and for signatures over URL, range or date. Set with
/// [`HttpClientBuilder::hook`](super::HttpClientBuilder::hook).
///
/// ```
/// use kithara::net::{HttpClient, Outgoing, RequestHook};
///
/// struct Token(String);
///
/// impl RequestHook for Token {
///     fn sign(&self, outgoing: &mut Outgoing<'_>) {
///         if outgoing.url().host_str() == Some("music.example.com") {
///             outgoing.header("authorization", &format!("Bearer {}", self.0));
///         }
///     }
/// }
///
/// let client = HttpClient::builder().hook(Token("…".to_owned())).build();
/// # assert!(client.is_ok());
/// ```
///
/// # Implementing
///
/// [`sign`](Self::sign) is called on the thread that polls the request, for requests to every host: look at the URL. It must
/// not wait. [`refused`](Self::refused) may wait, for a new token or URL. Its future is dropped when the request is dropped.
/// A request of its own goes through a client without this hook: one with it would ask the hook again, when it is refused.
pub trait RequestHook: Send + Sync {
    /// Adds headers to a request. Called for each message: for each redirect, each try and each part of a resumed body anew.
    fn sign(&self, outgoing: &mut Outgoing<'_>) {
        let _ = outgoing;
    }

    /// A server has answered with 401 or 403. The request is sent once more with what is returned; with `None` it fails with
    /// that status. Asked once for each call of [`HttpClient::send`](super::HttpClient::send), and once for each time that a
    /// body is resumed.
    fn refused<'a>(&'a self, refused: Refused<'a>) -> Renewing<'a> {
        let _ = refused;
        Box::pin(std::future::ready(None))
    }
}

/// The answer of [`RequestHook::refused`], which may take a request of its own.
pub type Renewing<'a> = Pin<Box<dyn Future<Output = Option<Renewal>> + Send + 'a>>;

/// A request that is about to go out.
pub struct Outgoing<'a> {
    url: &'a Url,
    headers: &'a mut HeaderMap,
    /// The first header that was refused. The request fails with it.
    invalid: Option<String>,
}

/// Headers that say which bytes the answer holds and how. Another value would be held against the wrong request.
const PROTOCOL: [&str; 6] = [
    "host",
    "range",
    "if-range",
    "accept-encoding",
    "content-length",
    "transfer-encoding",
];

impl<'a> Outgoing<'a> {
    pub(super) fn new(url: &'a Url, headers: &'a mut HeaderMap) -> Self {
        Self {
            url,
            headers,
            invalid: None,
        }
    }

    /// Where it goes.
    pub fn url(&self) -> &Url {
        self.url
    }

    /// The headers so far, those of the protocol among them.
    pub fn headers(&self) -> &HeaderMap {
        self.headers
    }

    /// Adds a header, in place of one with that name. If HTTP does not allow its name or value, or the name is one of those
    /// that the client sets itself (`Host`, `Range`, `If-Range`, `Accept-Encoding`), the request fails with
    /// [`NetError::InvalidHeader`].
    pub fn header(&mut self, name: &str, value: &str) {
        // Kept for `finish`: the hook is the app's code in the middle of a request, and has no way to return an error.
        let is_protocol = PROTOCOL.iter().any(|own| own.eq_ignore_ascii_case(name));
        if is_protocol || insert_header(self.headers, name, value).is_err() {
            // The first one is told: the others may follow from it.
            self.invalid.get_or_insert(name.to_owned());
        }
    }

    pub(super) fn finish(self) -> Result<(), NetError> {
        match self.invalid {
            // Nothing has been sent. Without the header that the app wanted the request would say something else.
            Some(name) => InvalidHeaderSnafu { name }.fail(),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("url", &redacted(self.url))
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// A request that a server has refused.
#[non_exhaustive]
#[derive(Clone, Copy)]
pub struct Refused<'a> {
    /// The URL that was asked for.
    pub asked: &'a Url,
    /// The URL that answered, after redirects.
    pub url: &'a Url,
    /// 401 or 403.
    pub status: u16,
    /// The headers of the answer, `WWW-Authenticate` perhaps among them.
    pub headers: &'a HeaderMap,
}

impl<'a> Refused<'a> {
    pub(super) fn new(asked: &'a Url, url: &'a Url, status: u16, headers: &'a HeaderMap) -> Self {
        Self {
            asked,
            url,
            status,
            headers,
        }
    }
}

impl fmt::Debug for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("asked", &redacted(self.asked))
            .field("url", &redacted(self.url))
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// What a refused request is sent once more with.
#[derive(Clone, Default)]
#[must_use]
pub struct Renewal {
    url: Option<Url>,
    headers: Vec<(String, String)>,
}

impl Renewal {
    /// The same request: for a hook that has a new token now, and signs with it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks this URL. If it is of another origin, the request's own headers are left out.
    pub fn url(mut self, url: Url) -> Self {
        self.url = Some(url);
        self
    }

    /// Adds a header, in place of the request's of that name. It is for the origin that refused: where that is another one
    /// than the request's, because of a redirect, the request goes on from the URL that refused it.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The request to send in place of `request`, which `refused_by` has refused.
    pub(super) fn apply(self, request: &Request, refused_by: &Url) -> Request {
        let mut renewed = match self.url {
            Some(url) => request.at(url),
            // What the app says is meant for whom it was asked about. The origin in front of a redirect must not see it.
            None if refused_by.origin() != request.url.origin() => request.at(refused_by.clone()),
            None => request.clone(),
        };
        // After the choice of the URL: `at` has dropped the headers of another origin, and these are for the new one.
        for (name, value) in self.headers {
            renewed = renewed.header(&name, &value);
        }
        renewed
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal")
            .field("url", &self.url.as_ref().map(redacted))
            .field(
                "headers",
                &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_sets_itself_cannot_be_set() {
        let url = Url::parse("http://h/").expect("a url");
        for (name, value) in [
            ("Range", "bytes=0-"),
            ("host", "other"),
            ("a b", "c"),
            ("a", "b\n"),
        ] {
            let mut headers = HeaderMap::new();
            let mut outgoing = Outgoing::new(&url, &mut headers);
            outgoing.header("x-good", "1");
            outgoing.header(name, value);
            let error = outgoing.finish().expect_err("not allowed");
            assert!(matches!(error, NetError::InvalidHeader { name: told } if told == name));
        }
    }

    /// N10: a token for the server behind a redirect is not shown to the one in front of it.
    #[test]
    fn n10_a_renewal_is_for_the_origin_that_refused() {
        let at = |url: &str| Url::parse(url).expect("a url");
        let request = Request::get(at("http://api/x"));
        for (refused_by, asked) in [
            ("http://api/x", "http://api/x"),
            ("http://api/y", "http://api/x"),
            ("http://cdn/x", "http://cdn/x"),
            ("https://api/x", "https://api/x"),
        ] {
            let renewal = Renewal::new().header("authorization", "token");
            let renewed = renewal.apply(&request, &at(refused_by));
            assert_eq!(renewed.url, at(asked), "{refused_by}");
        }
    }

    /// C14.
    #[test]
    fn debug_shows_no_secret() {
        let url = Url::parse("http://u:secret@h/?secret").expect("a url");
        let mut headers = HeaderMap::new();
        let mut outgoing = Outgoing::new(&url, &mut headers);
        outgoing.header("x-key", "secret");
        let renewal = Renewal::new().url(url.clone()).header("x-key", "secret");
        let shown = format!("{outgoing:?} {renewal:?}");
        assert!(!shown.contains("secret") && shown.contains("x-key"), "{shown}");
    }
}

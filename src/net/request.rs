//! Requests. A [`Request`] is a description: each try sends a fresh message made from it.

use std::fmt;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Uri};
use url::{Position, Url};

use super::cancel::CancelToken;
use super::client_headers::{ClientHeaders, insert_header};
use super::credentials::basic_credentials;
use super::error::{InvalidHeaderSnafu, InvalidRangeSnafu, UnsupportedUrlSnafu};
use super::{ByteRange, CookieJar, NetError, Priority, Validator, redacted};

/// A request for a URL or for a range of its bytes.
///
/// ```
/// # use kithara::net::{ByteRange, Request, Url};
/// # let url = Url::parse("http://example.com/a.mp3").unwrap();
/// let request = Request::get(url)
///     .range(ByteRange::from_start(4096))
///     .header("x-player", "demo");
/// ```
#[derive(Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "wishes of the caller's, each by itself"
)]
pub struct Request {
    method: Method,
    pub(super) url: Url,
    headers: HeaderMap,
    /// The first header that HTTP does not allow. Sending fails with it.
    invalid_header: Option<String>,
    pub(super) range: Option<ByteRange>,
    pub(super) if_range: Option<Validator>,
    pub(super) expected_total: Option<u64>,
    optional_range: bool,
    /// Whether the `Range` header goes out. Not where a server has refused an optional one.
    sends_range: bool,
    /// Whether a close without TLS's own end mark ends a body that has no other end.
    pub(super) accepts_unproven_end: bool,
    /// Whether the byte before the range has come.
    pub(super) follows_known: bool,
    compressed: bool,
    /// What the URL's credentials say, for URLs of the same origin that have none.
    credentials: Option<HeaderValue>,
    pub(super) cookies: Option<CookieJar>,
    pub(super) cancel: Option<CancelToken>,
    /// Shared by all requests of a source.
    pub(super) priority: Priority,
}

impl Request {
    /// Asks for the bytes.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// Asks for the headers only.
    pub fn head(url: Url) -> Self {
        Self::new(Method::HEAD, url)
    }

    fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            credentials: basic_credentials(&url),
            url,
            headers: HeaderMap::new(),
            invalid_header: None,
            range: None,
            if_range: None,
            expected_total: None,
            optional_range: false,
            sends_range: true,
            accepts_unproven_end: false,
            follows_known: false,
            compressed: false,
            cookies: None,
            cancel: None,
            priority: Priority::default(),
        }
    }

    /// Takes the credentials of `url`, of the same origin, where the request's own URL has none.
    #[cfg(any(feature = "file", feature = "hls"))]
    pub(crate) fn credentials_of(mut self, url: &Url) -> Self {
        self.credentials = self.credentials.or_else(|| basic_credentials(url));
        self
    }

    /// The same request for another URL. What was meant for the origin stays behind if the URL leaves it.
    pub(super) fn at(&self, url: Url) -> Self {
        let mut request = self.clone();
        // What the app gave for one origin is told to no other: a hook or a redirect may name a host of anybody's.
        if url.origin() != self.url.origin() {
            request.headers.clear();
            request.credentials = None;
        }
        // Credentials in the new URL are meant for it. They come before those that the old one had for the same origin.
        request.credentials = basic_credentials(&url).or(request.credentials);
        request.url = url;
        request
    }

    /// Goes where `other`, a renewed form of this request, went.
    pub(super) fn follow(&mut self, other: Self) {
        // Range and validator stay: they are those of the body, and the other request asked for one part of it.
        (self.url, self.headers, self.credentials) = (other.url, other.headers, other.credentials);
    }

    /// Adds a header, in place of the client's of the same name. It is treated as a credential: it is not sent to another
    /// origin after a redirect. If HTTP does not allow its name or value, sending the request fails.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Err(name) = insert_header(&mut self.headers, name, value) {
            self.invalid_header.get_or_insert(name);
        }
        self
    }

    /// Asks for these bytes only.
    #[must_use]
    pub fn range(mut self, range: ByteRange) -> Self {
        self.range = Some(range);
        self
    }

    /// Lets a range from the first byte on be a wish. Some servers refuse it (with status 400, 403, 405, 416 or 501, or with a
    /// 206 that says no range) and send the whole to who asks for no range: transcoders, old proxies. They are asked once
    /// more, without. No effect on a range that starts elsewhere.
    #[must_use]
    pub fn optional_range(mut self) -> Self {
        self.optional_range = true;
        self
    }

    /// Takes the close of a TLS connection for the end of a body that has neither length nor chunks, also where TLS's own end
    /// mark (`close_notify`) is missing. Some servers never send it. Such an end proves nothing:
    /// [`Body::ends_with_connection`](super::Body::ends_with_connection) says so.
    #[must_use]
    pub fn accept_unproven_end(mut self, accepted: bool) -> Self {
        self.accepts_unproven_end = accepted;
        self
    }

    /// Says that the byte before the range has come. A 416 that tells no length then proves that it is the file's last one.
    #[cfg(feature = "file")]
    pub(crate) fn follows_known(mut self) -> Self {
        self.follows_known = true;
        self
    }

    /// Accepts a range only of the file that `validator` belongs to. Of another file, the request fails with
    /// [`NetError::Changed`]. No effect without [`range`](Self::range).
    #[must_use]
    pub fn if_range(mut self, validator: Validator) -> Self {
        self.if_range = Some(validator);
        self
    }

    /// Accepts only a file of this length. If the server tells another length, the request fails with
    /// [`NetError::Changed`].
    #[must_use]
    pub fn expect_total(mut self, total: u64) -> Self {
        self.expected_total = Some(total);
        self
    }

    /// Allows the server to send the body gzipped. For text that is read whole, with
    /// [`Response::bytes`](super::Response::bytes). No effect on a request for a range.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.compressed = true;
        self
    }

    /// Sends the cookies of `jar` that fit each URL, and puts in what the answers set, those of redirects among them. Without a
    /// jar cookies are neither kept nor sent. A `Cookie` header given on purpose stands before them.
    #[must_use]
    pub fn cookies(mut self, jar: CookieJar) -> Self {
        self.cookies = Some(jar);
        self
    }

    /// Lets `cancel` cancel the request, and those by which its body is resumed.
    #[cfg(feature = "file")]
    pub(crate) fn cancelled_by(mut self, cancel: CancelToken) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Shares the priority of its source.
    #[cfg(any(feature = "file", feature = "hls"))]
    pub(crate) fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// The URL asked for.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether the `Range` header goes out.
    pub(super) fn sends_range(&self) -> bool {
        self.sends_range
    }

    /// The same request without its range, if the range is a wish. The answer is held against the range all the same.
    pub(super) fn without_optional_range(&self) -> Option<Self> {
        // From the first byte the whole file is an answer as good. From any other one its beginning would come first, and the
        // refusal would be hidden behind bytes to skip.
        let starts_at_0 = self.range.is_some_and(|range| range.start() == 0);
        (self.optional_range && starts_at_0 && self.sends_range).then(|| Self {
            sends_range: false,
            ..self.clone()
        })
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    pub(super) fn accepts_gzip(&self) -> bool {
        // A range of a gzipped body would be a range of the gzip file.
        self.compressed && self.range.is_none()
    }

    /// Refuses what cannot be sent.
    pub(super) fn check(&self) -> Result<(), NetError> {
        if let Some(name) = &self.invalid_header {
            return InvalidHeaderSnafu { name }.fail();
        }
        match self.range {
            // HTTP cannot say an empty range: `5-4` is ignored by servers, and the whole file would come.
            Some(range) if range.is_empty() => InvalidRangeSnafu { range }.fail(),
            _ => Ok(()),
        }
    }

    /// The message for `url`: this request's URL, or one that it was redirected to. The client's headers and the request's
    /// own go only to the origin that the caller asked. Another origin gets the protocol's own headers, and those that the app
    /// has given to that origin.
    pub(super) fn to_http<B>(
        &self,
        url: &Url,
        client: &ClientHeaders,
        user_agent: &HeaderValue,
        same_origin: bool,
        body: B,
    ) -> Result<http::Request<B>, NetError> {
        let unsupported = || UnsupportedUrlSnafu { url: redacted(url) }.build();
        // The fragment stays here, and credentials go into a header, not into the request line.
        // A parse can fail: the URL's rules take characters that those of a request line do not.
        let target: Uri = url[Position::BeforePath..Position::AfterQuery]
            .parse()
            .map_err(|_| unsupported())?;
        let host = url[Position::BeforeHost..Position::AfterPort]
            .parse()
            .map_err(|_| unsupported())?;

        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::HOST, host);
        headers.insert(header::USER_AGENT, user_agent.clone());
        // Some servers answer 406 to a request without it.
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        // Before the caller's headers: an Authorization header given on purpose replaces the URL's credentials.
        // Those of the first URL hold for its whole origin: a redirect that writes it out has none of its own.
        let of_origin = || self.credentials.clone().filter(|_| same_origin);
        if let Some(credentials) = basic_credentials(url).or_else(of_origin) {
            headers.insert(header::AUTHORIZATION, credentials);
        }
        // From the general to the particular: each replaces what stands before it.
        let everywhere = client.everywhere.iter().filter(|_| same_origin);
        let own = self.headers.iter().filter(|_| same_origin);
        for (name, value) in everywhere.chain(client.of_origin(url)).chain(own) {
            headers.insert(name, value.clone());
        }
        if let Some(jar) = self.cookies.as_ref().and_then(|jar| jar.header(url)) {
            // One header: a second one is not allowed (RFC 6265, section 5.4).
            let cookies = match headers.get(header::COOKIE) {
                Some(own) => {
                    HeaderValue::from_bytes(&[own.as_bytes(), b"; ", jar.as_bytes()].concat()).unwrap_or(jar)
                }
                None => jar,
            };
            headers.insert(header::COOKIE, cookies);
        }
        // After the caller's headers, which must not replace these three: the meaning of the body's bytes depends on them.
        let encoding = if self.accepts_gzip() { "gzip" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        // A Range of the caller's own would get a part that the check takes for an answer to nothing.
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
        if let Some(range) = self.range.filter(|_| self.sends_range) {
            headers.insert(
                header::RANGE,
                range.to_header().parse().map_err(|_| unsupported())?,
            );
            // Only beside a range: by itself it has no meaning (RFC 9110, section 13.1.5).
            if let Some(validator) = &self.if_range {
                headers.insert(
                    header::IF_RANGE,
                    validator.as_str().parse().map_err(|_| unsupported())?,
                );
            }
        }

        let mut message = http::Request::new(body);
        *message.method_mut() = self.method.clone();
        *message.uri_mut() = target;
        *message.headers_mut() = headers;
        Ok(message)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &redacted(&self.url))
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::credentials::base64;
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a url")
    }

    fn sent(request: &Request, to: &str, same_origin: bool) -> http::Request<()> {
        let mut client = ClientHeaders::default();
        insert_header(&mut client.everywhere, "x-client", "c").expect("valid");
        let own = client.at(&url("http://other/")).expect("known");
        insert_header(own, "x-other", "o").expect("valid");
        let agent = HeaderValue::from_static("test");
        request
            .to_http(&url(to), &client, &agent, same_origin, ())
            .expect("a message")
    }

    #[test]
    fn the_target_keeps_its_query_and_loses_its_fragment() {
        let message = sent(
            &Request::get(url("http://h/")),
            "http://h:8080/a%20b?x=[1]&y=%7C#frag",
            true,
        );
        assert_eq!(message.uri(), "/a%20b?x=[1]&y=%7C");
        assert_eq!(message.headers()[header::HOST], "h:8080");
        assert_eq!(
            sent(&Request::get(url("http://h/")), "http://[::1]:80/", true).headers()[header::HOST],
            "[::1]"
        );
    }

    /// N7.
    #[test]
    fn another_origin_gets_no_headers_but_the_protocols() {
        let request = Request::get(url("http://h/"))
            .header("authorization", "secret")
            .range(ByteRange::new(0, 5));
        let here = sent(&request, "http://h/", true);
        assert_eq!(here.headers()["x-client"], "c");
        assert_eq!(here.headers()[header::AUTHORIZATION], "secret");
        let there = sent(&request, "http://other/", false);
        assert_eq!(there.headers().get("x-client"), None);
        assert_eq!(
            (here.headers().get("x-other"), &there.headers()["x-other"]),
            (None, &HeaderValue::from_static("o"))
        );
        assert_eq!(there.headers().get(header::AUTHORIZATION), None);
        assert_eq!(there.headers()[header::RANGE], "bytes=0-4");
    }

    /// Fault D10.
    #[test]
    fn media_is_asked_for_as_it_is_and_text_may_be_compressed() {
        let encoding =
            |request: &Request| sent(request, "http://h/", true).headers()[header::ACCEPT_ENCODING].clone();
        let media = Request::get(url("http://h/")).header("accept-encoding", "br");
        assert_eq!(encoding(&media), "identity");
        assert_eq!(encoding(&media.clone().compressed()), "gzip");
        assert_eq!(
            encoding(&media.compressed().range(ByteRange::from_start(0))),
            "identity"
        );
    }

    #[test]
    fn credentials_in_the_url_become_a_header() {
        let message = sent(&Request::get(url("http://h/")), "http://us%65r:p%40ss@h/", true);
        assert_eq!(
            message.headers()[header::AUTHORIZATION],
            format!("Basic {}", base64(b"user:p@ss"))
        );
    }

    /// W16: the credentials of the first URL hold for its origin, until a URL has its own.
    #[test]
    fn credentials_in_a_url_hold_for_its_origin() {
        let request = Request::get(url("http://user:p@h/"));
        let sent_to = |to: &str, same_origin: bool| {
            let message = sent(&request, to, same_origin);
            message.headers().get(header::AUTHORIZATION).cloned()
        };
        let basic = |plain: &[u8]| HeaderValue::try_from(format!("Basic {}", base64(plain))).ok();
        assert_eq!(sent_to("http://h/other", true), basic(b"user:p"));
        assert_eq!(sent_to("http://else:q@h/other", true), basic(b"else:q"));
        assert_eq!(
            sent_to("http://h/other", false),
            None,
            "on the way back from elsewhere"
        );
    }

    /// W16: and for the source's other URLs there, where they have none of their own.
    #[cfg(any(feature = "file", feature = "hls"))]
    #[test]
    fn a_request_takes_the_credentials_of_its_source() {
        for (own, plain) in [("http://h/a", b"user:p"), ("http://else:q@h/a", b"else:q")] {
            let request = Request::get(url(own)).credentials_of(&url("http://user:p@h/"));
            let message = sent(&request, own, true);
            let expected = format!("Basic {}", base64(plain));
            assert_eq!(message.headers()[header::AUTHORIZATION], expected);
        }
    }

    #[test]
    fn what_cannot_be_sent_is_told() {
        let bad = Request::get(url("http://h/")).header("a b", "c");
        assert!(matches!(bad.check(), Err(NetError::InvalidHeader { name }) if name == "a b"));
        let bad = Request::get(url("http://h/")).header("a", "b\r\nc: d");
        assert!(matches!(bad.check(), Err(NetError::InvalidHeader { .. })));
        let bad = Request::get(url("http://h/")).range(ByteRange::new(5, 5));
        assert!(matches!(bad.check(), Err(NetError::InvalidRange { .. })));
    }

    /// C14: no query, no credentials, no header values.
    #[test]
    fn debug_shows_no_secret() {
        let shown = format!(
            "{:?}",
            Request::get(url("http://u:secret@h/a?secret")).header("x-key", "secret")
        );
        assert!(!shown.contains("secret") && shown.contains("x-key"), "{shown}");
    }
}

//! Requests. A [`Request`] is a description: each try sends a fresh message made from it.

use std::fmt;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use url::{Position, Url};

use super::cancel::CancelToken;
use super::error::{InvalidHeaderSnafu, InvalidRangeSnafu, UnsupportedUrlSnafu};
use super::{ByteRange, NetError, Validator, redacted};

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
pub struct Request {
    method: Method,
    pub(super) url: Url,
    headers: HeaderMap,
    /// The first header that HTTP does not allow. Sending fails with it.
    invalid_header: Option<String>,
    pub(super) range: Option<ByteRange>,
    pub(super) if_range: Option<Validator>,
    pub(super) expected_total: Option<u64>,
    compressed: bool,
    pub(super) cancel: Option<CancelToken>,
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
            url,
            headers: HeaderMap::new(),
            invalid_header: None,
            range: None,
            if_range: None,
            expected_total: None,
            compressed: false,
            cancel: None,
        }
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

    /// Lets `cancel` cancel the request, and those by which its body is resumed.
    #[cfg(feature = "file")]
    pub(crate) fn cancelled_by(mut self, cancel: CancelToken) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// The URL asked for.
    pub fn url(&self) -> &Url {
        &self.url
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
            Some(range) if range.is_empty() => InvalidRangeSnafu { range }.fail(),
            _ => Ok(()),
        }
    }

    /// The message for `url`: this request's URL, or one that it was redirected to. `client_headers` and the request's own
    /// headers go only to the origin that the caller asked. Another origin gets the protocol's own headers only.
    pub(super) fn to_http<B>(
        &self,
        url: &Url,
        client_headers: &HeaderMap,
        user_agent: &HeaderValue,
        same_origin: bool,
        body: B,
    ) -> Result<http::Request<B>, NetError> {
        let unsupported = || UnsupportedUrlSnafu { url: redacted(url) }.build();
        // The fragment stays here, and credentials go into a header, not into the request line.
        let target: Uri = url[Position::BeforePath..Position::AfterQuery]
            .parse()
            .map_err(|_| unsupported())?;
        let host = url[Position::BeforeHost..Position::AfterPort]
            .parse()
            .map_err(|_| unsupported())?;

        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::HOST, host);
        headers.insert(header::USER_AGENT, user_agent.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        // Before the caller's headers: an Authorization header given on purpose replaces the URL's credentials.
        if let Some(credentials) = basic_credentials(url) {
            headers.insert(header::AUTHORIZATION, credentials);
        }
        if same_origin {
            for (name, value) in client_headers.iter().chain(&self.headers) {
                headers.insert(name, value.clone());
            }
        }
        // After the caller's headers, which must not replace these three: the meaning of the body's bytes depends on them.
        let encoding = if self.accepts_gzip() { "gzip" } else { "identity" };
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        // A Range of the caller's own would get a part that the check takes for an answer to nothing.
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
        if let Some(range) = self.range {
            headers.insert(
                header::RANGE,
                range.to_header().parse().map_err(|_| unsupported())?,
            );
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

/// Puts a header into `headers`, its value marked as sensitive. The error is the name, if HTTP does not allow the header.
pub(super) fn insert_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .ok()
        .zip(HeaderValue::from_str(value).ok());
    let (key, mut value) = parsed.ok_or_else(|| name.to_owned())?;
    // Sensitive values are hidden by `Debug` of `http`'s types, hyper's logs included.
    value.set_sensitive(true);
    headers.insert(key, value);
    Ok(())
}

/// `Authorization` (RFC 7617) for the user and password in a URL, as podcasts for subscribers have them.
fn basic_credentials(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut plain = percent_decoded(url.username());
    plain.push(b':');
    plain.extend(percent_decoded(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", base64(&plain))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut rest = bytes.clone();
        let hex = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
        // A percent sign without two digits stands for itself, as in the URL standard.
        match (byte, hex(rest.next()), hex(rest.next())) {
            (b'%', Some(high), Some(low)) => {
                decoded.extend(u8::try_from(high * 16 + low));
                bytes = rest;
            }
            _ => decoded.push(byte),
        }
    }
    decoded
}

// Twenty lines in place of a dependency.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, i| {
            bits << 8 | usize::from(group.get(i).copied().unwrap_or(0))
        });
        for i in 0..4 {
            let sextet = ALPHABET
                .get(bits >> (18 - 6 * i) & 63)
                .copied()
                .map_or('=', char::from);
            text.push(if i <= group.len() { sextet } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a url")
    }

    fn sent(request: &Request, to: &str, same_origin: bool) -> http::Request<()> {
        let mut client = HeaderMap::new();
        insert_header(&mut client, "x-client", "c").expect("valid");
        let agent = HeaderValue::from_static("test");
        request
            .to_http(&url(to), &client, &agent, same_origin, ())
            .expect("a message")
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
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

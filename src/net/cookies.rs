//! Cookies (RFC 6265): what a server has asked to be told again.
//!
//! A jar belongs to one source. Its cookies reach no other source unless the app hands the jar on, and nothing of it is
//! written to the disk.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use url::{Host, Url};

use super::cookie_date;

/// The most cookies of one domain, and of a jar: the least that RFC 6265, section 6.1, wants of a client. The oldest one
/// leaves, of the domain first. Without a limit for each domain one server could push out the session of another.
const MAX_OF_DOMAIN: usize = 50;
const MAX_COOKIES: usize = 3000;
/// The most bytes of a cookie's name and value.
const MAX_BYTES: usize = 4096;

/// The cookies of one source, or of several that share it. Clones are the same jar.
///
/// Each source has a jar of its own. To have several share one, for instance a playlist and the page that logged in, give
/// them clones of it. A jar is empty at first and forgotten with its last clone. It holds 50 cookies of each domain, and 3000
/// in all; the oldest one leaves.
///
/// There is no list of public suffixes: hosts of `github.io` can set cookies for each other, if one source asks several.
#[derive(Clone, Default)]
pub struct CookieJar(Arc<Mutex<Vec<Cookie>>>);

/// One cookie. No `Debug`: its value may be a session.
#[derive(Clone, PartialEq)]
struct Cookie {
    name: String,
    value: String,
    /// The host that set it, or the domain it asked for.
    domain: String,
    /// Whether it goes to that very host alone.
    host_only: bool,
    path: String,
    secure: bool,
    /// `None` for as long as the jar lives.
    expires: Option<SystemTime>,
}

impl CookieJar {
    /// An empty jar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts in what a response says, as if `url` had answered with `Set-Cookie: header`. For a session that the app began by
    /// other means. A cookie that `url` may not set is left out.
    pub fn set(&self, url: &Url, header: &str) {
        let now = SystemTime::now();
        if let Some(cookie) = Cookie::parse(url, header, now) {
            self.put(cookie, now, url.scheme() == "https");
        }
    }

    /// Forgets all cookies.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Takes the cookies of a response from `url`.
    pub(super) fn store(&self, url: &Url, headers: &HeaderMap) {
        for header in headers.get_all(SET_COOKIE) {
            // Not `to_str`, which takes ASCII only.
            if let Ok(header) = std::str::from_utf8(header.as_bytes()) {
                self.set(url, header);
            }
        }
    }

    /// The `Cookie` header for a request to `url`.
    pub(super) fn header(&self, url: &Url) -> Option<HeaderValue> {
        self.header_at(url, SystemTime::now())
    }

    fn header_at(&self, url: &Url, now: SystemTime) -> Option<HeaderValue> {
        let cookies = self.lock();
        let mut fit: Vec<&Cookie> = cookies.iter().filter(|cookie| cookie.fits(url, now)).collect();
        // The longest path first. Among equals the order stays, which is that of their creation (RFC 6265, section 5.4).
        fit.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<_> = fit
            .iter()
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        if pairs.is_empty() {
            return None;
        }
        let mut value = HeaderValue::try_from(pairs.join("; ")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn put(&self, cookie: Cookie, now: SystemTime, is_secure: bool) {
        let mut cookies = self.lock();
        let is_same = |known: &Cookie| {
            (&known.name, &known.domain, &known.path) == (&cookie.name, &cookie.domain, &cookie.path)
        };
        // Whoever stands between could replace the session of https otherwise.
        if !is_secure && cookies.iter().any(|known| known.secure && is_same(known)) {
            return;
        }
        // Those that have ended go first, so that they push out no other one below. Nothing else sweeps the jar.
        cookies.retain(|known| !known.is_expired(now) && !is_same(known));
        // A date that has passed is how a server takes a cookie back.
        if cookie.is_expired(now) {
            return;
        }
        let is_of_domain = |known: &&Cookie| known.domain == cookie.domain;
        let leaves = if cookies.iter().filter(is_of_domain).count() >= MAX_OF_DOMAIN {
            cookies.iter().position(|known| known.domain == cookie.domain)
        } else {
            // The list stands in the order of creation.
            (cookies.len() >= MAX_COOKIES).then_some(0)
        };
        if let Some(oldest) = leaves {
            cookies.remove(oldest);
        }
        cookies.push(cookie);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Cookie>> {
        // Each change is one call on the list, so a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows how many there are, and none of them.
impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar")
            .field("cookies", &self.lock().len())
            .finish_non_exhaustive()
    }
}

impl Cookie {
    /// Reads a `Set-Cookie` header (RFC 6265, section 5.2). `None` for one that names nothing, or that `url` may not set.
    fn parse(url: &Url, header: &str, now: SystemTime) -> Option<Self> {
        let mut parts = header.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let is_allowed = |text: &str| !text.chars().any(char::is_control);
        if name.is_empty() || name.len() + value.len() > MAX_BYTES || !is_allowed(name) || !is_allowed(value)
        {
            return None;
        }
        let host = url.host_str()?.to_ascii_lowercase();
        let mut cookie = Self {
            name: name.to_owned(),
            value: value.to_owned(),
            domain: host.clone(),
            host_only: true,
            path: default_path(url),
            secure: false,
            expires: None,
        };
        let mut max_age = None;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            match key.as_str() {
                "expires" => cookie.expires = cookie_date::parse(value).or(cookie.expires),
                "max-age" => max_age = value.parse::<i64>().ok().or(max_age),
                "domain" if !value.is_empty() => {
                    let domain = value.trim_start_matches('.').to_ascii_lowercase();
                    if !may_set(url, &host, &domain) {
                        return None;
                    }
                    (cookie.domain, cookie.host_only) = (domain, false);
                }
                "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
                "secure" => cookie.secure = true,
                _ => {}
            }
        }
        // A clear connection could otherwise set what a secure one is trusted by.
        if cookie.secure && url.scheme() != "https" {
            return None;
        }
        if let Some(seconds) = max_age {
            // Of two dates this one is meant, and it does not depend on the server's clock. A time that the clock cannot
            // express is no limit.
            cookie.expires = match u64::try_from(seconds) {
                Ok(seconds) if seconds > 0 => now.checked_add(Duration::from_secs(seconds)),
                _ => Some(SystemTime::UNIX_EPOCH),
            };
        }
        Some(cookie)
    }

    fn fits(&self, url: &Url, now: SystemTime) -> bool {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let is_host = host == self.domain || (!self.host_only && is_below(&host, &self.domain));
        is_host
            && is_path_below(url.path(), &self.path)
            && (!self.secure || url.scheme() == "https")
            && !self.is_expired(now)
    }

    fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Whether a response of `host` may set a cookie for `domain`: for itself, or for a domain it is in. Not for one without a
/// dot, which is everybody's, and not from an address, which is in no domain.
fn may_set(url: &Url, host: &str, domain: &str) -> bool {
    let is_name = matches!(url.host(), Some(Host::Domain(_)));
    host == domain || (is_name && domain.contains('.') && is_below(host, domain))
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

fn is_path_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || folder.ends_with('/') || rest.starts_with('/'))
}

/// The folder of the URL's path (RFC 6265, section 5.1.4).
fn default_path(url: &Url) -> String {
    match url.path().rsplit_once('/') {
        Some((folder, _)) if !folder.is_empty() => folder.to_owned(),
        _ => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a url")
    }

    /// What a request to `to` carries, after `from` has set the cookies.
    fn sent(from: &str, cookies: &[&str], to: &str) -> Option<String> {
        let jar = CookieJar::new();
        for cookie in cookies {
            jar.set(&url(from), cookie);
        }
        let header = jar.header(&url(to))?;
        Some(header.to_str().expect("ascii").to_owned())
    }

    /// N11: what plain HTTP carries may be forged.
    #[test]
    fn a_secure_cookie_is_not_replaced_over_plain_http() {
        let jar = CookieJar::new();
        jar.set(&url("https://h/"), "a=1; Secure");
        jar.set(&url("http://h/"), "a=forged");
        jar.set(&url("http://h/"), "a=; Max-Age=0");
        assert_eq!(jar.header(&url("https://h/")).expect("a cookie"), "a=1");
    }

    /// N11: host and domain.
    #[test]
    fn a_cookie_goes_back_to_its_host() {
        for (cookie, to, goes) in [
            ("a=1", "http://h.example.com/", true),
            ("a=1", "http://h.example.com:81/", true),
            ("a=1", "http://sub.h.example.com/", false),
            ("a=1", "http://example.com/", false),
            ("a=1; Domain=example.com", "http://other.example.com/", true),
            ("a=1; Domain=.example.com", "http://example.com/", true),
            ("a=1; domain=EXAMPLE.com", "http://h.example.com/", true),
            ("a=1; Domain=example.com", "http://badexample.com/", false),
            ("a=1; Domain=", "http://h.example.com/", true),
            // What it may not set is not set at all.
            ("a=1; Domain=com", "http://h.example.com/", false),
            ("a=1; Domain=other.com", "http://h.example.com/", false),
            (
                "a=1; Domain=sub.h.example.com",
                "http://sub.h.example.com/",
                false,
            ),
        ] {
            let header = sent("http://h.example.com/", &[cookie], to);
            assert_eq!(header.is_some(), goes, "{cookie} {to}");
        }
        assert_eq!(
            sent("http://10.0.0.1/", &["a=1; Domain=0.0.1"], "http://10.0.0.1/"),
            None
        );
        assert!(sent("http://10.0.0.1/", &["a=1; Domain=10.0.0.1"], "http://10.0.0.1/").is_some());
        assert!(
            sent(
                "http://localhost/",
                &["a=1; Domain=localhost"],
                "http://localhost/"
            )
            .is_some()
        );
    }

    /// N11: path.
    #[test]
    fn a_cookie_stays_below_its_path() {
        for (from, cookie, to, goes) in [
            ("/x/y", "a=1", "/x/z", true),
            ("/x/y", "a=1", "/x", true),
            ("/x/y", "a=1", "/xy", false),
            ("/x/y", "a=1", "/", false),
            ("/x", "a=1", "/any/where", true),
            ("/x/y", "a=1; Path=/", "/z", true),
            ("/x/y", "a=1; Path=/z/", "/z/1", true),
            ("/x/y", "a=1; Path=/z/", "/z", false),
            ("/x/y", "a=1; Path=z", "/x/1", true),
        ] {
            let header = sent(&format!("http://h{from}"), &[cookie], &format!("http://h{to}"));
            assert_eq!(header.is_some(), goes, "{from} {cookie} {to}");
        }
    }

    /// N11: secure.
    #[test]
    fn a_secure_cookie_needs_https_on_both_ways() {
        assert!(sent("https://h/", &["a=1; Secure"], "https://h/").is_some());
        assert_eq!(sent("https://h/", &["a=1; Secure"], "http://h/"), None);
        assert_eq!(sent("http://h/", &["a=1; secure"], "https://h/"), None);
        assert!(sent("https://h/", &["a=1; HttpOnly; SameSite=Strict"], "http://h/").is_some());
    }

    /// N11: expiry.
    #[test]
    fn a_cookie_ends_with_its_date() {
        let later = "Wed, 01-Jan-2070 00:00:00 GMT";
        let before = "Thu, 01 Jan 1970 00:00:00 GMT";
        for (cookie, goes) in [
            (format!("a=1; Expires={later}"), true),
            (format!("a=1; Expires={before}"), false),
            ("a=1; Max-Age=0".to_owned(), false),
            ("a=1; Max-Age=-5".to_owned(), false),
            ("a=1; Max-Age=99999999999999999".to_owned(), true),
            (format!("a=1; Expires={before}; Max-Age=60"), true),
            (format!("a=1; Max-Age=0; Expires={later}"), false),
            ("a=1; Expires=whenever; Max-Age=some".to_owned(), true),
        ] {
            assert_eq!(
                sent("http://h/", &[&cookie], "http://h/").is_some(),
                goes,
                "{cookie}"
            );
        }
        // A server takes a cookie back.
        let taken_back = ["a=1", "b=2", "a=; Max-Age=0"];
        assert_eq!(
            sent("http://h/", &taken_back, "http://h/").as_deref(),
            Some("b=2")
        );
        let jar = CookieJar::new();
        jar.set(&url("http://h/"), "a=1; Max-Age=60");
        let at = |seconds| {
            jar.header_at(
                &url("http://h/"),
                SystemTime::now() + Duration::from_secs(seconds),
            )
        };
        assert!(at(30).is_some() && at(90).is_none());
    }

    #[test]
    fn names_values_and_their_order_are_those_of_the_server() {
        let cookies = [
            "a=1",
            "b=\"x y\"; Path=/x",
            " c = 3=4 ",
            "a=2",
            "=nameless",
            "nonsense",
            "d=\u{1}",
        ];
        let header = sent("http://h/", &cookies, "http://h/x/y");
        assert_eq!(header.as_deref(), Some("b=\"x y\"; c=3=4; a=2"));
    }

    /// N11: a server can neither fill the memory nor push out what another one has set.
    #[test]
    fn a_jar_is_bounded_by_domain_and_as_a_whole() {
        let jar = CookieJar::new();
        jar.set(&url("http://other/"), "session=1");
        for number in 0..3 * MAX_OF_DOMAIN {
            jar.set(&url("http://h/"), &format!("c{number}=1"));
        }
        assert_eq!(jar.lock().len(), MAX_OF_DOMAIN + 1);
        assert_eq!(jar.header(&url("http://other/")).expect("kept"), "session=1");
        let header = jar.header(&url("http://h/")).expect("some");
        let header = header.to_str().expect("ascii");
        assert!(header.starts_with(&format!("c{}=1;", 2 * MAX_OF_DOMAIN)));
        assert!(header.ends_with(&format!("c{}=1", 3 * MAX_OF_DOMAIN - 1)));
        // A known one that is set anew takes nobody's place.
        jar.set(&url("http://h/"), &format!("c{}=2", 2 * MAX_OF_DOMAIN + 7));
        assert_eq!(jar.lock().len(), MAX_OF_DOMAIN + 1);
        // Hosts without number are bounded, too. The oldest cookie of all leaves.
        for number in 0..MAX_COOKIES {
            jar.set(&url(&format!("http://h{number}/")), "a=1");
        }
        assert_eq!(jar.lock().len(), MAX_COOKIES);
        assert_eq!(jar.header(&url("http://other/")), None);
        jar.set(&url("http://h/"), "c=1");
        jar.set(&url("http://h/"), &format!("big={}", "x".repeat(MAX_BYTES)));
        assert!(
            !jar.header(&url("http://h/"))
                .expect("some")
                .to_str()
                .expect("ascii")
                .contains("big")
        );
        jar.clear();
        assert_eq!(jar.header(&url("http://h/")), None);
    }

    /// C14.
    #[test]
    fn debug_shows_no_cookie() {
        let jar = CookieJar::new();
        jar.set(&url("http://h/"), "session=secret");
        assert_eq!(format!("{jar:?}"), "CookieJar { cookies: 1, .. }");
    }
}

//! Which proxy leads to which host: settings of the app's, or of the environment.

use std::fmt;
use std::net::IpAddr;

use http::HeaderValue;
use url::{Host, Url};

use super::credentials::{basic_credentials, percent_decoded};
use super::error::InvalidProxySnafu;
use super::peer::Peer;
use super::{NetError, redacted};

/// A proxy server.
///
/// ```
/// use kithara::net::{HttpClient, Proxy};
///
/// # fn run() -> Result<(), kithara::net::NetError> {
/// let proxy = Proxy::parse("socks5://user:password@proxy.example.com:1080")?;
/// let client = HttpClient::builder().proxy(proxy).build()?;
/// # Ok(())
/// # }
/// # run().unwrap();
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) kind: ProxyKind,
    pub(super) peer: Peer,
    pub(super) url: Url,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyKind {
    /// Plain HTTP is forwarded; for https it connects through.
    Http,
    /// It connects through, and resolves names itself (RFC 1928).
    Socks5,
}

impl Proxy {
    /// Reads `http://host:port`, `socks5://host:port` or `socks5h://host:port`; without a scheme `http` is meant. Credentials
    /// stand in front of the host. The ports are 80 and 1080 unless given. Names of hosts are always resolved by the proxy.
    ///
    /// # Errors
    ///
    /// [`NetError::InvalidProxy`] for another scheme, and for text that is no URL.
    pub fn parse(text: &str) -> Result<Self, NetError> {
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        // The text may hold a password, and is not shown.
        let invalid = |proxy: String| InvalidProxySnafu { proxy }.build();
        let url = Url::parse(&with_scheme).map_err(|_| invalid("?".to_owned()))?;
        let (kind, port) = match url.scheme() {
            "http" => (ProxyKind::Http, 80),
            // `socks` is what desktops write where they mean SOCKS 5.
            "socks5" | "socks5h" | "socks" => (ProxyKind::Socks5, 1080),
            _ => return Err(invalid(redacted(&url))),
        };
        // Of a scheme that is not the web's, `url` leaves the host as it is written: an address is no address yet.
        let host = url.host_str().and_then(|host| Host::parse(host).ok());
        let host = host.ok_or_else(|| invalid(redacted(&url)))?;
        Ok(Self {
            kind,
            peer: Peer {
                tls: false,
                host,
                port: url.port().unwrap_or(port),
            },
            url,
        })
    }

    /// `Proxy-Authorization`, if the URL has credentials.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        basic_credentials(&self.url)
    }

    /// Name and password, if the URL has them.
    pub(super) fn credentials(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let (name, password) = (self.url.username(), self.url.password());
        let has_any = !name.is_empty() || password.is_some();
        has_any.then(|| {
            (
                percent_decoded(name),
                percent_decoded(password.unwrap_or_default()),
            )
        })
    }

    /// For errors and logs.
    pub(super) fn shown(&self) -> String {
        let scheme = self.url.scheme();
        format!("{scheme}://{}:{}", self.peer.host, self.peer.port)
    }
}

/// Shows no password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.shown()).finish()
    }
}

/// Which proxy leads where.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    http: Option<Result<Proxy, NetError>>,
    https: Option<Result<Proxy, NetError>>,
    exceptions: Exceptions,
}

impl Proxies {
    /// One proxy for everything.
    pub(super) fn all(proxy: Proxy) -> Self {
        Self {
            http: Some(Ok(proxy.clone())),
            https: Some(Ok(proxy)),
            exceptions: Exceptions::default(),
        }
    }

    /// Excepts the hosts that `list` names, whatever was excepted before.
    pub(super) fn except(&mut self, list: &str) {
        self.exceptions = Exceptions::parse(list, self.exceptions.loopback);
    }

    /// What the environment says. `variable` reads it.
    pub(super) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        // Lower case first, as curl has it: where both are set, the upper one is often a leftover of the system's.
        let either = |lower: &str, upper: &str| {
            let value = variable(lower).or_else(|| variable(upper));
            value.filter(|value| !value.trim().is_empty())
        };
        // In a CGI program `HTTP_PROXY` is the request's header `Proxy`, which a stranger sends.
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let http = if is_cgi {
            variable("http_proxy")
        } else {
            either("http_proxy", "HTTP_PROXY")
        };
        let all = either("all_proxy", "ALL_PROXY");
        // A value that is no proxy is kept, and told by the first request: to go another way without a word might show what
        // the user wants hidden.
        let parse = |value: Option<String>| {
            value
                .or_else(|| all.clone())
                .map(|value| Proxy::parse(value.trim()))
        };
        Self {
            http: parse(http.filter(|value| !value.trim().is_empty())),
            https: parse(either("https_proxy", "HTTPS_PROXY")),
            // The machine itself is never behind a proxy that is meant for the network.
            exceptions: Exceptions::parse(&either("no_proxy", "NO_PROXY").unwrap_or_default(), true),
        }
    }

    /// The proxy that leads to `peer`. `None` for the direct way.
    pub(super) fn to(&self, peer: &Peer) -> Option<Result<&Proxy, NetError>> {
        let proxy = if peer.tls { &self.https } else { &self.http };
        let proxy = proxy.as_ref().filter(|_| !self.exceptions.hold(peer))?;
        Some(proxy.as_ref().map_err(Clone::clone))
    }
}

/// The hosts that are reached without a proxy.
#[derive(Debug, Clone, Default)]
struct Exceptions {
    loopback: bool,
    everything: bool,
    hosts: Vec<Exception>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    host: Pattern,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// A domain and all below it.
    Domain(String),
    /// The addresses that share so many leading bits.
    Addresses(IpAddr, u32),
}

impl Exceptions {
    /// Reads a list as curl does: names, of which all below are meant, addresses, blocks of addresses, `*` for all; each with
    /// a port, if only that one is meant.
    fn parse(list: &str, loopback: bool) -> Self {
        let words = || {
            list.split([',', ' '])
                .map(str::trim)
                .filter(|word| !word.is_empty())
        };
        Self {
            loopback,
            everything: words().any(|word| word == "*"),
            hosts: words().filter_map(Exception::parse).collect(),
        }
    }

    fn hold(&self, peer: &Peer) -> bool {
        let is_loopback = match &peer.host {
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name == "localhost" || name.ends_with(".localhost")
            }
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        self.everything || (self.loopback && is_loopback) || self.hosts.iter().any(|host| host.holds(peer))
    }
}

impl Exception {
    fn parse(word: &str) -> Option<Self> {
        if let Some(host) = Pattern::parse(word) {
            return Some(Self { host, port: None });
        }
        // Only now: an address of IPv6 has colons of its own, and was read as a whole above.
        let (host, port) = word.rsplit_once(':')?;
        Some(Self {
            host: Pattern::parse(host)?,
            port: Some(port.parse().ok()?),
        })
    }

    fn holds(&self, peer: &Peer) -> bool {
        let is_host = match (&self.host, &peer.host) {
            (Pattern::Domain(domain), Host::Domain(name)) => {
                // A name may be written with the dot of the root.
                let name = name.strip_suffix('.').unwrap_or(name);
                let rest = name.strip_suffix(domain.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Pattern::Addresses(block, bits), Host::Ipv4(address)) => {
                share(*block, IpAddr::from(*address), *bits)
            }
            (Pattern::Addresses(block, bits), Host::Ipv6(address)) => {
                share(*block, IpAddr::from(*address), *bits)
            }
            _ => false,
        };
        is_host && self.port.is_none_or(|port| port == peer.port)
    }
}

impl Pattern {
    fn parse(word: &str) -> Option<Self> {
        let bare = word.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Addresses(address, if address.is_ipv4() { 32 } else { 128 }));
        }
        if let Some((address, bits)) = word.split_once('/') {
            let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse().ok()?);
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Self::Addresses(address, bits));
        }
        let domain = word
            .trim_start_matches('*')
            .trim_start_matches('.')
            .to_ascii_lowercase();
        (!domain.is_empty() && !domain.contains(':')).then_some(Self::Domain(domain))
    }
}

/// Whether the first `bits` bits of two addresses are the same.
fn share(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    let (differ, width) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
        _ => return false,
    };
    // A shift by the whole width is no shift to Rust: with no bit to compare all are the same.
    differ.checked_shr(width - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(url: &str) -> Peer {
        Peer::of(&Url::parse(url).expect("a url")).expect("a peer")
    }

    fn env(pairs: &'static [(&'static str, &'static str)]) -> Proxies {
        Proxies::from_variables(|name| {
            let pair = pairs.iter().find(|(key, _)| *key == name)?;
            Some(pair.1.to_owned())
        })
    }

    /// The proxy on the way to a URL, as an error shows it.
    fn way(proxies: &Proxies, url: &str) -> Option<String> {
        let proxy = proxies.to(&peer(url))?;
        Some(proxy.map_or_else(|error| error.to_string(), Proxy::shown))
    }

    /// N11.
    #[test]
    fn the_environment_names_a_proxy_for_each_scheme() {
        let none = env(&[]);
        assert_eq!(way(&none, "http://h/"), None);
        let two = env(&[("http_proxy", "http://a:81"), ("HTTPS_PROXY", "b:82")]);
        assert_eq!(way(&two, "http://h/").as_deref(), Some("http://a:81"));
        assert_eq!(way(&two, "https://h/").as_deref(), Some("http://b:82"));
        let all = env(&[("ALL_PROXY", "socks5h://a"), ("https_proxy", "b")]);
        assert_eq!(way(&all, "http://h/").as_deref(), Some("socks5h://a:1080"));
        assert_eq!(way(&all, "https://h/").as_deref(), Some("http://b:80"));
        let lower = env(&[("HTTP_PROXY", "upper"), ("http_proxy", "lower")]);
        assert_eq!(way(&lower, "http://h/").as_deref(), Some("http://lower:80"));
        assert_eq!(
            way(&env(&[("HTTP_PROXY", "upper")]), "http://h/").as_deref(),
            Some("http://upper:80")
        );
        assert_eq!(way(&env(&[("HTTP_PROXY", " ")]), "http://h/"), None);
        // A stranger's header in a CGI program.
        assert_eq!(
            way(
                &env(&[("HTTP_PROXY", "evil"), ("REQUEST_METHOD", "GET")]),
                "http://h/"
            ),
            None
        );
    }

    /// N11: what cannot be used is told, and not passed by.
    #[test]
    fn what_is_no_proxy_is_told_and_shows_no_password() {
        for text in [
            "ftp://user:secret@h/",
            "https://h/",
            "http://",
            "user:secret@",
            "socks4://h",
            "http://h:secret",
        ] {
            let error = Proxy::parse(text).expect_err("no proxy");
            assert!(matches!(error, NetError::InvalidProxy { .. }), "{text}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
        let shown = way(&env(&[("http_proxy", "ftp://h")]), "http://h/");
        assert!(shown.is_some_and(|error| error.contains("ftp://h")));
        let proxy = Proxy::parse("http://user:secret@h").expect("a proxy");
        assert!(!format!("{proxy:?}").contains("secret") && proxy.authorization().is_some());
        let proxy = Proxy::parse("socks5://[::1]:9").expect("a proxy");
        assert_eq!(
            proxy.peer.host,
            Host::<String>::Ipv6(std::net::Ipv6Addr::LOCALHOST)
        );
        let proxy = Proxy::parse("socks5://127.0.0.1:9").expect("a proxy");
        assert_eq!(
            proxy.peer.host,
            Host::<String>::Ipv4(std::net::Ipv4Addr::LOCALHOST)
        );
    }

    /// N11.
    #[test]
    fn hosts_that_are_excepted_are_reached_directly() {
        let all = |no_proxy| {
            let mut all = Proxies::all(Proxy::parse("p").expect("a proxy"));
            all.except(no_proxy);
            all
        };
        for (no_proxy, url, direct) in [
            ("", "http://h/", false),
            ("h", "http://h/", true),
            ("h", "http://sub.h/", true),
            ("h", "http://oh/", false),
            (".h", "http://h/", true),
            ("*.h", "http://sub.h/", true),
            ("a, H ,b", "http://h/", true),
            ("h:81", "http://h:81/", true),
            ("h:81", "http://h/", false),
            ("*", "https://anything/", true),
            ("10.0.0.0/8", "http://10.1.2.3/", true),
            ("10.0.0.0/8", "http://11.1.2.3/", false),
            ("10.0.0.1", "http://10.0.0.1:8080/", true),
            ("10.0.0.1:80", "http://10.0.0.1:8080/", false),
            ("0.0.0.0/0", "http://1.2.3.4/", true),
            ("fe80::/10", "http://[fe80::1]/", true),
            ("[fe80::1]:80", "http://[fe80::1]/", true),
            ("10.0.0.0/33", "http://10.0.0.0/", false),
            ("localhost", "http://127.0.0.1/", false),
        ] {
            assert_eq!(way(&all(no_proxy), url).is_none(), direct, "{no_proxy} {url}");
        }
        // The machine itself: only where the environment was meant for something else.
        let env = env(&[("all_proxy", "p")]);
        for url in [
            "http://localhost/",
            "http://127.0.0.1:81/",
            "https://[::1]/",
            "http://a.localhost/",
        ] {
            assert_eq!(way(&env, url), None, "{url}");
            assert!(way(&all(""), url).is_some());
        }
    }
}

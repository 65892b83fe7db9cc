//! For how long a server vouches for what it sent (RFC 9111, 4.2).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// For how long an answer is fresh from now on. Zero where the server does not say: no lifetime is guessed, as a playlist
/// whose URLs expire looks like any other.
pub(super) fn lifetime(headers: &HeaderMap) -> Duration {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let mut max_age = None;
    for value in headers.get_all("cache-control") {
        for directive in value.to_str().unwrap_or_default().split(',') {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-cache" | "no-store" => return Duration::ZERO,
                "max-age" => max_age = argument.trim().trim_matches('"').parse::<u64>().ok(),
                _ => {}
            }
        }
    }
    let date = |name| text(name).and_then(|text| httpdate::parse_http_date(text).ok());
    let total = match max_age {
        Some(seconds) => Duration::from_secs(seconds),
        // By the server's own clock, where it tells it.
        None => match date("expires") {
            Some(expires) => expires
                .duration_since(date("date").unwrap_or_else(SystemTime::now))
                .unwrap_or_default(),
            None => return Duration::ZERO,
        },
    };
    // What a shared cache has had for a while is that much older.
    let age = text("age").and_then(|text| text.trim().parse().ok());
    total.saturating_sub(Duration::from_secs(age.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn seconds(headers: &[(&'static str, &'static str)]) -> u64 {
        let map = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        lifetime(&map).as_secs()
    }

    /// RFC 9111, 4.2.1 and 5.2.2.
    #[test]
    fn lifetimes_are_as_the_rfc_has_them() {
        assert_eq!(seconds(&[]), 0);
        assert_eq!(seconds(&[("cache-control", "public, max-age=60")]), 60);
        assert_eq!(seconds(&[("cache-control", "Max-Age=\"60\""), ("age", "20")]), 40);
        assert_eq!(seconds(&[("cache-control", "max-age=60"), ("age", "90")]), 0);
        assert_eq!(seconds(&[("cache-control", "max-age=60, no-cache")]), 0);
        assert_eq!(seconds(&[("cache-control", "no-store, max-age=60")]), 0);
        assert_eq!(seconds(&[("cache-control", "max-age=much")]), 0);
        let date = ("date", "Mon, 30 Nov 2026 10:00:00 GMT");
        let expires = ("expires", "Mon, 30 Nov 2026 10:01:30 GMT");
        assert_eq!(seconds(&[date, expires]), 90);
        // A date in no form is one in the past (RFC 9111, 5.3), and max-age goes before it.
        assert_eq!(seconds(&[date, ("expires", "0")]), 0);
        assert_eq!(seconds(&[date, expires, ("cache-control", "max-age=5")]), 5);
    }
}

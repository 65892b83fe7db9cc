//! Where a redirect leads.

use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use snafu::OptionExt;
use url::Url;

use super::error::{InsecureRedirectSnafu, InvalidRedirectSnafu};
use super::{NetError, redacted};

/// The URL to ask instead, if the status is a redirect. Only GET and HEAD are sent, so every kind of redirect keeps the
/// method.
pub(super) fn target(
    from: &Url,
    status: StatusCode,
    headers: &HeaderMap,
    insecure: bool,
) -> Result<Option<Url>, NetError> {
    // Not 300, which offers a choice, and not 304 to 306. All that are followed are the same here: only GET and HEAD are sent,
    // so there is no method to change.
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let invalid = || InvalidRedirectSnafu { url: redacted(from) };
    // Not `to_str`, which takes ASCII only: servers send unescaped UTF-8 here.
    let location = headers
        .get(LOCATION)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let to = location
        .and_then(|location| from.join(location).ok())
        .with_context(invalid)?;
    // Only http and https: a redirect must not lead to a file of this machine.
    match (from.scheme(), to.scheme()) {
        ("https", "http") if !insecure => InsecureRedirectSnafu { url: redacted(from) }.fail(),
        (_, "http" | "https") => Ok(Some(to)),
        _ => invalid().fail(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn follow(
        from: &str,
        status: u16,
        location: &'static str,
        insecure: bool,
    ) -> Result<Option<String>, NetError> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
        let from = Url::parse(from).expect("a url");
        let status = StatusCode::from_u16(status).expect("a status");
        Ok(target(&from, status, &headers, insecure)?.map(String::from))
    }

    #[test]
    fn locations_are_relative_to_the_url_that_was_asked() {
        let to = follow("http://h/a/b?q", 302, "../c?d", false).expect("valid");
        assert_eq!(to.as_deref(), Some("http://h/c?d"));
        assert_eq!(follow("http://h/", 304, "/x", false).expect("no redirect"), None);
    }

    #[test]
    fn a_way_out_of_https_is_refused_unless_allowed() {
        let refused = follow("https://h/", 301, "http://h/", false);
        assert!(matches!(refused, Err(NetError::InsecureRedirect { .. })));
        assert_eq!(
            follow("https://h/", 301, "http://h/", true)
                .expect("allowed")
                .as_deref(),
            Some("http://h/")
        );
        assert!(follow("http://h/", 301, "https://h/", false).is_ok());
    }

    #[test]
    fn only_http_is_followed() {
        for location in ["file:///etc/passwd", "data:,x", "http://", "ftp://h/"] {
            assert!(
                matches!(
                    follow("http://h/", 307, location, true),
                    Err(NetError::InvalidRedirect { .. })
                ),
                "{location}"
            );
        }
    }
}

//! The headers that a client adds to its requests, and whose they are.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

/// The headers that a client adds to its requests. No `Debug`: values may be credentials.
#[derive(Clone, Default)]
pub(super) struct ClientHeaders {
    /// For the origin of each request, whatever it is: what describes the program.
    pub(super) everywhere: HeaderMap,
    origins: Vec<(url::Origin, HeaderMap)>,
}

impl ClientHeaders {
    /// The headers for the origin of `url`, to be added to.
    pub(super) fn at(&mut self, url: &Url) -> Option<&mut HeaderMap> {
        let origin = url.origin();
        if !self.origins.iter().any(|(known, _)| *known == origin) {
            self.origins.push((origin.clone(), HeaderMap::new()));
        }
        let mut origins = self.origins.iter_mut();
        origins
            .find(|(known, _)| *known == origin)
            .map(|(_, headers)| headers)
    }

    pub(super) fn of_origin(&self, url: &Url) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        // An opaque origin, as that of a file, is equal to none, not even to itself.
        let is_own = |(origin, _): &&(url::Origin, HeaderMap)| *origin == url.origin();
        self.origins
            .iter()
            .filter(is_own)
            .flat_map(|(_, headers)| headers)
    }

    /// The names, for `Debug`.
    pub(super) fn names(&self) -> Vec<&HeaderName> {
        let of_origins = self.origins.iter().flat_map(|(_, headers)| headers.keys());
        self.everywhere.keys().chain(of_origins).collect()
    }
}

/// Whether a header proves who asks. Such a one is for one origin.
pub(super) fn is_credential(name: &str) -> bool {
    ["authorization", "cookie", "proxy-authorization"]
        .iter()
        .any(|credential| credential.eq_ignore_ascii_case(name))
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

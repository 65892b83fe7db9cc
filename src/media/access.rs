//! What a source needs to fetch and keep.

use std::{fmt, sync::Arc};

use super::judge::Judge;
use super::{EntryNames, Received, Verdict};
use crate::{
    cache::{AssetCache, AssetId},
    net::{HttpClient, Request, Url},
};

/// What a source needs to fetch its bytes and to keep them: client, cache, asset, headers, and how entries are named.
///
/// One `Access` serves several sources: a clone shares client and cache.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use kithara::{cache::AssetCache, media::{Access, EntryNames}, net::HttpClient};
///
/// let cache = AssetCache::builder("music").max_bytes(1 << 30).open().await?;
/// let access = Access::new(HttpClient::new()?, cache)
///     .header("authorization", "Bearer …")
///     .entry_names(EntryNames::without_query());
/// # let _ = access; Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Access {
    pub(crate) client: Option<HttpClient>,
    pub(crate) cache: Option<AssetCache>,
    pub(crate) asset: Option<AssetId>,
    /// Values may be credentials: never shown.
    headers: Vec<(String, String)>,
    pub(crate) names: EntryNames,
    pub(crate) judge: Judge,
}

impl Access {
    /// Fetches with `client` and keeps what it fetches in `cache`.
    ///
    /// [`Access::default`] has neither: for local files, and to be filled with [`client`](Self::client) and
    /// [`cache`](Self::cache).
    pub fn new(client: HttpClient, cache: AssetCache) -> Self {
        Self::default().client(client).cache(cache)
    }

    /// Fetches with `client`. Without a client nothing is fetched.
    pub fn client(mut self, client: HttpClient) -> Self {
        self.client = Some(client);
        self
    }

    /// Keeps what is fetched in `cache`. Without a cache nothing is kept.
    pub fn cache(mut self, cache: AssetCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Keeps everything under this asset. Without it, the source's URL without its query is the asset. For URLs that
    /// change from play to play, or whose query says which track it is.
    pub fn asset(mut self, asset: AssetId) -> Self {
        self.asset = Some(asset);
        self
    }

    /// Adds a header to the source's requests to the origin (scheme, host, port) of its own URL. Other hosts, which a
    /// playlist or a redirect may name, do not get it. A name or value that HTTP does not allow is an error of the first
    /// request.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How a URL becomes the name of an entry; by the whole URL unless set.
    pub fn entry_names(mut self, names: EntryNames) -> Self {
        self.names = names;
        self
    }

    /// Has the app say whether what a server sent is media: what it is called and how it begins. The crate's own verdict is
    /// in [`Received::not_media`], and holds where the app repeats it. A status other than 200 and 206 and an empty body are
    /// refused without asking.
    ///
    /// `judge` runs on the thread that downloads, once for each beginning of a file that comes.
    ///
    /// ```
    /// use kithara::media::{Access, Verdict};
    ///
    /// // A server that calls its tracks `text/html`.
    /// let access = Access::default().judge(|received| match received.not_media {
    ///     Some(_) if received.start.starts_with(b"MYFORMAT") => Verdict::Media,
    ///     Some(_) => Verdict::NotMedia,
    ///     None => Verdict::Media,
    /// });
    /// # let _ = access;
    /// ```
    pub fn judge(mut self, judge: impl Fn(&Received<'_>) -> Verdict + Send + Sync + 'static) -> Self {
        self.judge = Judge::new(judge);
        self
    }

    /// The asset of the source at `url`.
    pub(crate) fn asset_of(&self, url: &Url) -> AssetId {
        self.asset.clone().unwrap_or_else(|| AssetId::from_url(url))
    }

    /// What the requests of the source at `url` carry.
    pub(crate) fn headers_of(&self, url: &Url) -> SourceHeaders {
        SourceHeaders {
            origin: url.origin(),
            headers: self.headers.as_slice().into(),
        }
    }
}

/// The headers of one source, and the origin that gets them. No `Debug`: values may be credentials.
#[derive(Clone)]
pub(crate) struct SourceHeaders {
    origin: url::Origin,
    headers: Arc<[(String, String)]>,
}

impl SourceHeaders {
    /// A request of the source for `url`.
    pub(crate) fn request(&self, url: Url) -> Request {
        // Headers are for the origin that the app named, not for each host that a playlist names. The client keeps them
        // from other origins on a redirect.
        let own = url.origin() == self.origin;
        let headers = self.headers.iter().filter(|_| own);
        headers.fold(Request::get(url), |request, (name, value)| {
            request.header(name, value)
        })
    }
}

/// Shows no header's value.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: a value may be a token.
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Access")
            .field("client", &self.client)
            .field("cache", &self.cache)
            .field("asset", &self.asset)
            .field("headers", &headers)
            .field("entry_names", &self.names)
            .field("judge", &self.judge)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    /// N10: scheme, host and port of the source's own URL, and no other.
    #[test]
    fn headers_go_to_the_origin_of_the_source_only() {
        let access = Access::default().header("x-token", "secret");
        let headers = access.headers_of(&url("https://h/list.m3u8?q"));
        let shown = |to: &str| format!("{:?}", headers.request(url(to)));
        for own in ["https://h/a/0.ts", "https://H:443/key"] {
            assert!(shown(own).contains("x-token"), "{own}");
        }
        for other in [
            "http://h/0.ts",
            "https://h:444/0.ts",
            "https://sub.h/0.ts",
            "https://other/0.ts",
        ] {
            assert!(!shown(other).contains("x-token"), "{other}");
        }
    }

    /// C14.
    #[test]
    fn debug_shows_no_header_value() {
        let shown = format!("{:?}", Access::default().header("x-token", "secret"));
        assert!(shown.contains("x-token") && !shown.contains("secret"), "{shown}");
    }
}

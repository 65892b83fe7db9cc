//! What a source needs to fetch and keep.

use std::{fmt, sync::Arc};

use super::judge::Judge;
use super::{EntryNames, Received, Verdict};
use crate::{
    cache::{AssetCache, AssetId},
    net::{CookieJar, HttpClient, Priority, Request, Url},
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
    headers: Vec<SourceHeader>,
    /// `None` for one of each source's own.
    cookies: Option<CookieJar>,
    pub(crate) names: EntryNames,
    pub(crate) judge: Judge,
    pub(crate) priority: Priority,
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
        self.headers.push(SourceHeader {
            origin: None,
            name: name.into(),
            value: value.into(),
        });
        self
    }

    /// Adds a header to the source's requests to the origin of `url`, whatever the source's own is: the host of a playlist's
    /// segments or keys, say. In place of one of [`header`](Self::header) with that name.
    pub fn origin_header(mut self, url: &Url, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(SourceHeader {
            origin: Some(url.origin()),
            name: name.into(),
            value: value.into(),
        });
        self
    }

    /// Keeps the source's cookies in `jar`, together with whatever else has it. Without this call each source has a jar of its
    /// own, which is forgotten with it.
    pub fn cookies(mut self, jar: CookieJar) -> Self {
        self.cookies = Some(jar);
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

    /// Whether the source's requests are of the background: they give way to those of other sources of the same client, so that
    /// what is played does not wait for what is fetched for later. `false` unless set; [`offline`](crate) downloads set it.
    ///
    /// While a request of the foreground waits for a connection, an answer or bytes, nothing of the background is read. One
    /// connection to each host is left to the foreground. A file that somebody begins to play while it is fetched in the
    /// background is of the foreground from then on.
    pub fn background(mut self, background: bool) -> Self {
        self.priority = Priority::new(background);
        self
    }

    /// The asset of the source at `url`.
    pub(crate) fn asset_of(&self, url: &Url) -> AssetId {
        self.asset.clone().unwrap_or_else(|| AssetId::from_url(url))
    }

    /// The same for one source, which has its own cookies from here on, however often it is opened.
    #[cfg(feature = "file")]
    pub(crate) fn for_one_source(mut self) -> Self {
        self.cookies.get_or_insert_default();
        // Raised for itself, and for no other source of this access.
        self.priority = Priority::new(self.priority.is_background());
        self
    }

    /// What the requests of the source at `url` carry.
    pub(crate) fn headers_of(&self, url: &Url) -> SourceHeaders {
        SourceHeaders {
            url: url.clone(),
            headers: self.headers.as_slice().into(),
            cookies: self.cookies.clone().unwrap_or_default(),
            priority: self.priority.clone(),
        }
    }
}

/// A header of one source. No `Debug`: its value may be a credential.
#[derive(Clone)]
struct SourceHeader {
    /// `None` for that of the source's own URL.
    origin: Option<url::Origin>,
    name: String,
    value: String,
}

/// The headers of one source, and the URL whose origin gets them. No `Debug`: values may be credentials.
#[derive(Clone)]
pub(crate) struct SourceHeaders {
    url: Url,
    headers: Arc<[SourceHeader]>,
    cookies: CookieJar,
    priority: Priority,
}

impl SourceHeaders {
    /// A request of the source for `url`.
    pub(crate) fn request(&self, url: Url) -> Request {
        // Headers are for the origin that the app named, not for each host that a playlist names. The client keeps them
        // from other origins on a redirect.
        let (origin, own) = (url.origin(), self.url.origin());
        let request = Request::get(url).cookies(self.cookies.clone());
        let mut request = request.priority(self.priority.clone());
        if origin == own {
            // A playlist may write its own origin out, without the credentials that lead to it.
            request = request.credentials_of(&self.url);
        }
        let general = self
            .headers
            .iter()
            .filter(|header| header.origin.is_none() && origin == own);
        let particular = self
            .headers
            .iter()
            .filter(|header| header.origin.as_ref() == Some(&origin));
        general.chain(particular).fold(request, |request, header| {
            request.header(&header.name, &header.value)
        })
    }
}

/// Shows no header's value.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: a value may be a token.
        let headers: Vec<_> = self.headers.iter().map(|header| &header.name).collect();
        f.debug_struct("Access")
            .field("client", &self.client)
            .field("cache", &self.cache)
            .field("asset", &self.asset)
            .field("headers", &headers)
            .field("cookies", &self.cookies)
            .field("entry_names", &self.names)
            .field("judge", &self.judge)
            .field("background", &self.priority.is_background())
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

    /// N10: a header for another origin goes there, and nowhere else.
    #[test]
    fn an_origin_of_its_own_gets_its_own_headers() {
        let access = Access::default().header("x-token", "secret").origin_header(
            &url("https://keys/"),
            "x-key",
            "secret",
        );
        let headers = access.headers_of(&url("https://h/list.m3u8"));
        let shown = |to: &str| format!("{:?}", headers.request(url(to)));
        let has = |to: &str| (shown(to).contains("x-token"), shown(to).contains("x-key"));
        assert_eq!(has("https://h/0.ts"), (true, false));
        assert_eq!(has("https://keys/1"), (false, true));
        assert_eq!(has("https://keys:444/1"), (false, false));
    }

    /// C14.
    #[test]
    fn debug_shows_no_header_value() {
        let shown = format!("{:?}", Access::default().header("x-token", "secret"));
        assert!(shown.contains("x-token") && !shown.contains("secret"), "{shown}");
    }
}

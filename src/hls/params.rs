//! What the application decides about a track.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    cache::{AssetCache, AssetId},
    media::{Access, EntryNames},
    net::{HttpClient, Url, redacted},
};

/// Which Variant Stream is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VariantChoice {
    /// The first of the playlist, which is the author's choice (RFC 8216, 4.3.4.2).
    #[default]
    First,
    /// The one of this number, from 0, and no other.
    Index(usize),
    /// The one of the highest BANDWIDTH.
    Highest,
    /// The one of the lowest BANDWIDTH.
    Lowest,
}

/// Turns the bytes a key server sends into the 16 bytes of the key.
pub(super) type KeyProcessor = Arc<dyn Fn(Bytes, &KeyContext) -> Result<Bytes, KeyRejected> + Send + Sync>;

/// How an [`HlsSource`](super::HlsSource) fetches, keeps and chooses.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use kithara::{cache::AssetCache, hls::{HlsParams, VariantChoice}, net::HttpClient};
///
/// let cache = AssetCache::builder("/var/cache/player").max_bytes(1 << 30).open().await?;
/// let params = HlsParams::new(HttpClient::new()?, cache)
///     .variant(VariantChoice::Highest)
///     .key_header("authorization", "Bearer …");
/// # let _ = params; Ok(()) }
/// ```
#[derive(Clone)]
pub struct HlsParams {
    pub(super) access: Access,
    pub(super) variant: VariantChoice,
    pub(super) language: Option<String>,
    pub(super) base_url: Option<Url>,
    pub(super) key_query: Vec<(String, String)>,
    pub(super) key_headers: Vec<(String, String)>,
    pub(super) key_processor: Option<KeyProcessor>,
}

impl HlsParams {
    /// The first Variant Stream, fetched by `client` and kept in `cache`.
    pub fn new(client: HttpClient, cache: AssetCache) -> Self {
        Self::with_access(Access::new(client, cache))
    }

    /// The first Variant Stream, fetched and kept as `access` says.
    ///
    /// Without a client only what the cache has plays. Without a cache nothing is kept, which one
    /// [`HlsControl::CacheBypassed`](super::HlsControl::CacheBypassed) says.
    pub fn with_access(access: Access) -> Self {
        Self {
            access,
            variant: VariantChoice::default(),
            language: None,
            base_url: None,
            key_query: Vec::new(),
            key_headers: Vec::new(),
            key_processor: None,
        }
    }

    /// Which Variant Stream is played. Offline, a choice other than [`VariantChoice::Index`] prefers one that is wholly
    /// cached.
    #[must_use]
    pub fn variant(mut self, choice: VariantChoice) -> Self {
        self.variant = choice;
        self
    }

    /// The LANGUAGE of the audio Rendition, where there are several. Without one of that language, the playlist's default
    /// is played.
    #[must_use]
    pub fn audio_language(mut self, language: impl Into<String>) -> Self {
        self.language = Some(language.into());
        self
    }

    /// What the relative URLs of all playlists resolve against, in place of each playlist's own URL.
    #[must_use]
    pub fn base_url(mut self, url: Url) -> Self {
        self.base_url = Some(url);
        self
    }

    /// The asset under which the track is kept: see [`Access::asset`].
    #[must_use]
    pub fn asset(mut self, asset: AssetId) -> Self {
        self.access = self.access.asset(asset);
        self
    }

    /// Adds a header to requests to the origin of the track's own URL: see [`Access::header`].
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.access = self.access.header(name, value);
        self
    }

    /// How the URLs of playlists, keys, initialization sections and segments become names of entries: see
    /// [`Access::entry_names`].
    ///
    /// Two resources of a track's playlists under one name are [`HlsError::SameName`](super::HlsError::SameName) before
    /// the first byte.
    #[must_use]
    pub fn entry_names(mut self, names: EntryNames) -> Self {
        self.access = self.access.entry_names(names);
        self
    }

    /// Adds a query parameter to key requests only. The cache knows the key by its URL without it.
    #[must_use]
    pub fn key_query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.key_query.push((name.into(), value.into()));
        self
    }

    /// Adds a header to key requests only.
    #[must_use]
    pub fn key_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.key_headers.push((name.into(), value.into()));
        self
    }

    /// Turns what a key server sends into the key's 16 bytes, as unwrapping does. It runs once per key, and its result is
    /// what the cache keeps: what the server sent never touches the disk. It runs where the stream is polled, so it should
    /// not block.
    #[must_use]
    pub fn key_processor(
        mut self,
        processor: impl Fn(Bytes, &KeyContext) -> Result<Bytes, KeyRejected> + Send + Sync + 'static,
    ) -> Self {
        self.key_processor = Some(Arc::new(processor));
        self
    }
}

/// Shows no credentials.
impl fmt::Debug for HlsParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HlsParams")
            .field("access", &self.access)
            .field("variant", &self.variant)
            .field("language", &self.language)
            .field("base_url", &self.base_url.as_ref().map(redacted))
            .finish_non_exhaustive()
    }
}

/// What a key processor is told about a key.
#[non_exhaustive]
#[derive(Clone)]
pub struct KeyContext {
    url: Url,
}

impl KeyContext {
    pub(super) fn new(url: Url) -> Self {
        Self { url }
    }

    /// The key's URL as the playlist has it, resolved.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Debug for KeyContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyContext")
            .field("url", &redacted(&self.url))
            .finish_non_exhaustive()
    }
}

/// A key processor's reason to refuse a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRejected(String);

impl KeyRejected {
    /// A reason in words that may be shown and logged: no secrets.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for KeyRejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyRejected {}

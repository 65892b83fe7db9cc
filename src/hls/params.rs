//! What the app decides about a track.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{controls::HlsControls, selection::VariantSelector, stored::CopyFacts};
use crate::{
    cache::{AssetCache, AssetId},
    media::{Access, EntryNames},
    net::{HttpClient, Url, redacted},
};

/// Which Variant Stream plays.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VariantChoice {
    /// The first one of the playlist: the author's choice (RFC 8216, 4.3.4.2).
    #[default]
    First,
    /// The one with this number, from 0, and no other but a redundant one.
    Index(usize),
    /// The one with the highest BANDWIDTH.
    Highest,
    /// The one with the lowest BANDWIDTH.
    Lowest,
}

/// When the server is asked whether the playlists in the cache are current.
///
/// The copy plays at once, whatever is chosen here: the server is asked beside it. Before the first byte that the cache does
/// not have, its answer is awaited: the server may have another edition under the same URLs. If no answer comes, it is asked
/// once more then, and the stream ends with that error if none comes again. Offline nothing is asked.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlaylistCheck {
    /// When a source is opened, unless the server vouches for the copy still (`Cache-Control: max-age`, `Expires`; RFC 9111,
    /// 4.2).
    #[default]
    WhenStale,
    /// Whenever a source is opened.
    Always,
    /// When a source is opened, and the server has said nothing of the copy for this time.
    After(Duration),
    /// Not before something that the copy names is refused: status 401, 403, 404 or 410. Then the playlists are loaded
    /// again, with the other choices too.
    WhenRefused,
}

impl PlaylistCheck {
    pub(super) fn is_due(self, facts: &CopyFacts) -> bool {
        match self {
            Self::WhenStale => !facts.is_fresh(),
            Self::Always => true,
            Self::After(age) => facts.age() >= age,
            Self::WhenRefused => false,
        }
    }
}

/// What to do where another edition of the track has been published under the same URLs, and the cache lacks the next byte
/// of the old one.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NewEdition {
    /// The new edition goes on at the same time of the track, behind a discontinuity. See
    /// [`HlsControl::EditionChanged`](super::HlsControl::EditionChanged).
    #[default]
    Play,
    /// The stream ends with [`HlsError::EditionChanged`](super::HlsError::EditionChanged).
    Refuse,
}

/// What to do where a segment is not to be had: neither from its server, nor from a redundant one, nor from another Variant
/// Stream.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingSegment {
    /// The stream ends with the error.
    #[default]
    Fail,
    /// It is left out, as one that the publisher marked as absent: see [`HlsControl::Gap`](super::HlsControl::Gap).
    Gap,
}

/// How far a source looks ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) time: Duration,
    pub(super) bytes: u64,
    /// How many segments are on their way at once, where they come fast.
    pub(super) parallel: usize,
}

/// What [`HlsParams::key_processor`] was given.
pub(super) type KeyProcessor = Arc<dyn Fn(Bytes, &KeyContext) -> Result<Bytes, KeyRejected> + Send + Sync>;

/// Makes the selector of a source.
pub(super) type MakeSelector = Arc<dyn Fn() -> Box<dyn VariantSelector> + Send + Sync>;

/// How an [`HlsSource`](super::HlsSource) fetches, keeps and chooses.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use kithara::cache::AssetCache;
/// use kithara::hls::{HlsParams, VariantChoice};
/// use kithara::net::HttpClient;
///
/// let cache = AssetCache::builder("music").max_bytes(1 << 30).open().await?;
/// let params = HlsParams::new(HttpClient::new()?, cache)
///     .variant(VariantChoice::Highest)
///     .key_header("authorization", "Bearer …");
/// # let _ = params; Ok(()) }
/// ```
#[derive(Clone)]
pub struct HlsParams {
    pub(super) access: Access,
    /// `None`: the app has not said.
    variant: Option<VariantChoice>,
    pub(super) playlist_check: PlaylistCheck,
    pub(super) new_edition: NewEdition,
    pub(super) missing_segment: MissingSegment,
    pub(super) reach: Reach,
    pub(super) controls: HlsControls,
    pub(super) selector: Option<MakeSelector>,
    pub(super) language: Option<String>,
    pub(super) audio_name: Option<String>,
    pub(super) base_url: Option<Url>,
    pub(super) key_query: Vec<(String, String)>,
    pub(super) key_headers: Vec<(String, String)>,
    pub(super) key_processor: Option<KeyProcessor>,
    pub(super) max_playlist_bytes: usize,
    pub(super) max_key_bytes: usize,
}

const LOOK_AHEAD: Duration = Duration::from_secs(300);
const LOOK_AHEAD_BYTES: u64 = 32 << 20;
const PARALLEL: usize = 4;
/// 100 000 segments fit.
const MAX_PLAYLIST_BYTES: usize = 16 << 20;
/// Wrapped keys are longer than 16 bytes, but not by much.
const MAX_KEY_BYTES: usize = 64 << 10;

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
            variant: None,
            playlist_check: PlaylistCheck::default(),
            new_edition: NewEdition::default(),
            missing_segment: MissingSegment::default(),
            controls: HlsControls::default(),
            selector: None,
            reach: Reach {
                time: LOOK_AHEAD,
                bytes: LOOK_AHEAD_BYTES,
                parallel: PARALLEL,
            },
            language: None,
            audio_name: None,
            base_url: None,
            key_query: Vec::new(),
            key_headers: Vec::new(),
            key_processor: None,
            max_playlist_bytes: MAX_PLAYLIST_BYTES,
            max_key_bytes: MAX_KEY_BYTES,
        }
    }

    /// Which Variant Stream plays; [`VariantChoice::First`] unless set. Offline, every choice but
    /// [`VariantChoice::Index`] prefers one whose parts and keys are all in the cache.
    #[must_use]
    pub fn variant(mut self, choice: VariantChoice) -> Self {
        self.variant = Some(choice);
        self
    }

    /// Which Variant Stream plays where no selector chooses.
    pub(super) fn choice(&self) -> VariantChoice {
        let choice = self.variant.filter(|_| self.selector.is_none());
        choice.unwrap_or_default()
    }

    /// The same for one Variant Stream.
    pub(super) fn choosing(mut self, choice: VariantChoice) -> Self {
        (self.variant, self.selector) = (Some(choice), None);
        self
    }

    /// The NAME of the audio Rendition that the app wants.
    pub(super) fn rendition_name(&self) -> Option<String> {
        self.controls.rendition().or_else(|| self.audio_name.clone())
    }

    /// Whether the app has said nothing of Variant Streams.
    #[cfg(feature = "decode")]
    pub(super) fn is_choice_open(&self) -> bool {
        self.variant.is_none() && self.selector.is_none()
    }

    /// When the server is asked whether the playlists in the cache are current; [`PlaylistCheck::WhenStale`] unless set.
    #[must_use]
    pub fn playlist_check(mut self, check: PlaylistCheck) -> Self {
        self.playlist_check = check;
        self
    }

    /// What to do where the track was published anew; [`NewEdition::Play`] unless set.
    #[must_use]
    pub fn new_edition(mut self, new_edition: NewEdition) -> Self {
        self.new_edition = new_edition;
        self
    }

    /// Whether of other Variant Streams only redundant ones may play in the place of the chosen one.
    pub(super) fn is_redundant_only(&self) -> bool {
        matches!(self.choice(), VariantChoice::Index(_))
    }

    /// What to do where a segment is not to be had.
    #[must_use]
    pub fn missing_segment(mut self, missing: MissingSegment) -> Self {
        self.missing_segment = missing;
        self
    }

    /// What chooses the Variant Stream of each segment, in the place of [`variant`](Self::variant): among those that carry what
    /// the first one carries, as audio alone. Without one a stream stays in its Variant Stream.
    ///
    /// The source has a copy of it, which all its streams share: what it has learned of the network stays over a seek.
    /// It chooses where the look-ahead is, minutes in front of what is read.
    /// A stream that looks for a byte, and a reader ([`open_reader`](super::HlsSource::open_reader)), stay in the
    /// first one: positions in bytes are those of one Variant Stream.
    ///
    /// Offline it chooses among those that have the next segment in the cache: what was played plays again.
    ///
    /// ```no_run
    /// # fn example(params: kithara::hls::HlsParams) {
    /// use kithara::hls::selection::Adaptive;
    ///
    /// let params = params.selector(Adaptive::new());
    /// # let _ = params; }
    /// ```
    #[must_use]
    pub fn selector(mut self, selector: impl VariantSelector + Clone + Sync + 'static) -> Self {
        self.selector = Some(Arc::new(move || Box::new(selector.clone())));
        self
    }

    /// What changes the Variant Stream while the track plays.
    #[must_use]
    pub fn controls(mut self, controls: HlsControls) -> Self {
        self.controls = controls;
        self
    }

    /// How much playing time is fetched in front of a stream, into the cache; 5 minutes unless set. With zero only the segment
    /// that is read is fetched.
    ///
    /// A stream that is not read goes on to fetch until it has this much. What is not kept, because there is no cache or it is
    /// full, waits in memory: one segment of it at most.
    #[must_use]
    pub fn look_ahead(mut self, time: Duration) -> Self {
        self.reach.time = time;
        self
    }

    /// How many bytes are fetched in front of a stream at most; 32 MiB unless set. Bytes that the cache had already do not
    /// count. The last segment may exceed it.
    #[must_use]
    pub fn look_ahead_bytes(mut self, bytes: u64) -> Self {
        self.reach.bytes = bytes;
        self
    }

    /// How many segments are fetched at once where they come fast, in less than a second each; 4 unless set, and 1 at least. On
    /// a slower link it is one at a time.
    #[must_use]
    pub fn max_parallel_segments(mut self, segments: usize) -> Self {
        self.reach.parallel = segments;
        self
    }

    /// The LANGUAGE of the audio Rendition, where there are several. If none has that language, the playlist's default one
    /// plays.
    #[must_use]
    pub fn audio_language(mut self, language: impl Into<String>) -> Self {
        self.language = Some(language.into());
        self
    }

    /// The NAME of the audio Rendition. It goes before [`audio_language`](Self::audio_language), and where the Variant Stream's
    /// Rendition Group has none of that NAME, it counts for nothing.
    #[must_use]
    pub fn audio_name(mut self, name: impl Into<String>) -> Self {
        self.audio_name = Some(name.into());
        self
    }

    /// The URL that the relative URLs of all playlists resolve against, in place of each playlist's own URL.
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

    /// Adds a query parameter to key requests, and to no other request. The name of the key's entry does not depend on it.
    #[must_use]
    pub fn key_query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.key_query.push((name.into(), value.into()));
        self
    }

    /// Adds a header to key requests, and to no other request. Of a header of [`header`](Self::header) with the same name
    /// this one is sent.
    #[must_use]
    pub fn key_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.key_headers.push((name.into(), value.into()));
        self
    }

    /// A function that turns what a key server sends into the key's 16 bytes, as unwrapping does.
    ///
    /// It runs once for each key. The cache keeps its result; what the server sent never reaches the disk. It runs where segments
    /// are fetched, so it should not block.
    #[must_use]
    pub fn key_processor(
        mut self,
        processor: impl Fn(Bytes, &KeyContext) -> Result<Bytes, KeyRejected> + Send + Sync + 'static,
    ) -> Self {
        self.key_processor = Some(Arc::new(processor));
        self
    }

    /// The largest playlist in bytes, as the server sends it and decompressed; 16 MiB unless set. A larger one is
    /// [`NetError::TooLarge`](crate::net::NetError::TooLarge), and no more of it than this is read.
    ///
    /// A playlist of a day under signed URLs can need more.
    #[must_use]
    pub fn max_playlist_bytes(mut self, bytes: usize) -> Self {
        self.max_playlist_bytes = bytes;
        self
    }

    /// The largest key in bytes as the server sends it, before the key processor; 64 KiB unless set. A larger one is
    /// [`NetError::TooLarge`](crate::net::NetError::TooLarge).
    #[must_use]
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.max_key_bytes = bytes;
        self
    }
}

/// Shows no credentials.
impl fmt::Debug for HlsParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HlsParams")
            .field("access", &self.access)
            .field("variant", &self.variant)
            // Neither the query nor the headers of key requests: they are credentials.
            .field("language", &self.language)
            .field("audio_name", &self.audio_name)
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
    /// A reason that may be shown and logged: no secrets.
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

//! How a file is fetched and kept.

use std::time::Duration;

use crate::cache::{AssetCache, AssetId, CachePath};
use crate::net::HttpClient;

/// How far ahead of its readers a file is fetched.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LookAhead {
    /// To the end, then what was skipped, in order. The cache has the whole file then.
    #[default]
    Whole,
    /// So many bytes.
    Bytes(u64),
    /// So much playing time, at the rate that [`FileParams::bytes_per_second`] and
    /// [`FileSource::set_bytes_per_second`](super::FileSource::set_bytes_per_second) tell.
    Time(Duration),
}

/// Settings of a [`FileSource`](super::FileSource).
#[derive(Debug, Clone)]
#[must_use]
pub struct FileParams {
    pub(super) client: Option<HttpClient>,
    pub(super) cache: Option<AssetCache>,
    pub(super) asset: Option<AssetId>,
    pub(super) path: Option<CachePath>,
    pub(super) look_ahead: LookAhead,
    pub(super) bytes_per_second: u64,
    pub(super) offline: bool,
    pub(super) revalidate: bool,
    pub(super) window: u64,
    pub(super) unknown_length_limit: u64,
    pub(super) accept_unproven_end: bool,
}

impl FileParams {
    /// Fetches with `client` and keeps what it fetches in `cache`.
    pub fn new(client: HttpClient, cache: AssetCache) -> Self {
        Self {
            cache: Some(cache),
            ..Self::uncached(client)
        }
    }

    /// Fetches with `client` and keeps a window in memory.
    pub fn uncached(client: HttpClient) -> Self {
        Self {
            client: Some(client),
            ..Self::local()
        }
    }

    /// For local files.
    pub fn local() -> Self {
        Self {
            client: None,
            cache: None,
            asset: None,
            path: None,
            look_ahead: LookAhead::default(),
            bytes_per_second: 40_000,
            offline: false,
            revalidate: false,
            window: 4 * 1024 * 1024,
            unknown_length_limit: 64 * 1024 * 1024,
            accept_unproven_end: false,
        }
    }

    /// Keeps the file as part of this asset. Without it, the URL without its query is the asset.
    pub fn asset(mut self, asset: AssetId) -> Self {
        self.asset = Some(asset);
        self
    }

    /// Keeps the file under this name. Without it, the whole URL names it, so that a token that changes in the query
    /// makes another file.
    pub fn cache_path(mut self, path: CachePath) -> Self {
        self.path = Some(path);
        self
    }

    /// How far ahead of its readers the file is fetched; [`LookAhead::Whole`] unless set.
    pub fn look_ahead(mut self, look_ahead: LookAhead) -> Self {
        self.look_ahead = look_ahead;
        self
    }

    /// What a second of playing takes, for [`LookAhead::Time`]; 40 000 bytes (320 kbit/s) unless set.
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = bytes;
        self
    }

    /// Makes no connection at all: a complete file plays, anything else is
    /// [`FileError::OfflineMiss`](super::FileError::OfflineMiss).
    pub fn offline_mode(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Asks the server, each time that a file which is complete in the cache is opened, whether it is still the same
    /// (`If-None-Match`, `If-Modified-Since`), and fetches it anew if not; not asked unless set. To be set from the
    /// first download on: what the server said of the file then is compared, its length alone otherwise.
    ///
    /// A server that cannot be reached, answers 5xx, or says nothing for three seconds does not keep the file from being
    /// played. One that refuses (404, 403) is an error; the file stays in the cache.
    pub fn revalidate(mut self, ask: bool) -> Self {
        self.revalidate = ask;
        self
    }

    /// How many bytes to hold in memory where there is no cache or no room in it; 4 MiB unless set, never less than
    /// 512 KiB. A cache in memory keeps files up to this length, and no longer ones.
    pub fn window_bytes(mut self, bytes: u64) -> Self {
        // No less than the largest chunk, of which no byte may be let go before it was read.
        self.window = bytes.max(512 * 1024);
        self
    }

    /// The most of a file of unknown length to put into the cache; 64 MiB unless set. What is longer may be a stream
    /// without an end, which must not drive everything else out.
    pub fn unknown_length_limit(mut self, bytes: u64) -> Self {
        self.unknown_length_limit = bytes;
        self
    }

    /// Takes the close of a connection for the end of a file whose server announces neither a length nor chunks. A
    /// failure on the way is then not told from the end; such a file is never kept.
    pub fn accept_unproven_end(mut self, accept: bool) -> Self {
        self.accept_unproven_end = accept;
        self
    }
}

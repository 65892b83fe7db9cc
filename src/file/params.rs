//! How a file is downloaded and kept.

use std::time::Duration;

use super::SameFile;
use crate::cache::{AssetCache, AssetId, CachePath};
use crate::media::{Access, EntryNames, Received, Verdict};
use crate::net::HttpClient;

/// How far ahead of its readers a file is downloaded.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LookAhead {
    /// To the end of the file, and then the ranges that were skipped, in order. The cache ends up with the whole file.
    #[default]
    Whole,
    /// This number of bytes.
    Bytes(u64),
    /// This much playing time. [`FileParams::bytes_per_second`] and
    /// [`FileSource::set_bytes_per_second`](super::FileSource::set_bytes_per_second) give the rate.
    Time(Duration),
}

/// Settings of a [`FileSource`](super::FileSource).
#[derive(Debug, Clone)]
#[must_use]
pub struct FileParams {
    pub(super) access: Access,
    pub(super) path: Option<CachePath>,
    pub(super) look_ahead: LookAhead,
    pub(super) bytes_per_second: u64,
    pub(super) revalidate: bool,
    pub(super) window: u64,
    pub(super) unknown_length_limit: u64,
    pub(super) accept_unproven_end: bool,
    pub(super) outage_limit: Duration,
    pub(super) same_file: SameFile,
    pub(super) respect_no_store: bool,
}

impl FileParams {
    /// Downloads with `client` and keeps the file in `cache`.
    pub fn new(client: HttpClient, cache: AssetCache) -> Self {
        Self::with_access(Access::new(client, cache))
    }

    /// Downloads with `client`. Keeps no more than a window in memory, see [`window_bytes`](Self::window_bytes).
    pub fn uncached(client: HttpClient) -> Self {
        Self::with_access(Access::default().client(client))
    }

    /// For local files: no client and no cache. A URL is then [`FileError::NoClient`](super::FileError::NoClient).
    pub fn local() -> Self {
        Self::with_access(Access::default())
    }

    /// Downloads and keeps as `access` says. Without a client only local files and what the cache has can be opened.
    /// Without a cache no more than a window in memory is kept.
    pub fn with_access(access: Access) -> Self {
        Self {
            access,
            path: None,
            look_ahead: LookAhead::default(),
            // 320 kbit/s: what music commonly has at most. A look-ahead in time is none too short for other music.
            bytes_per_second: 40_000,
            revalidate: false,
            window: 4 * 1024 * 1024,
            unknown_length_limit: 64 * 1024 * 1024,
            accept_unproven_end: false,
            outage_limit: Duration::ZERO,
            same_file: SameFile::default(),
            respect_no_store: false,
        }
    }

    /// Keeps the file as part of this asset: see [`Access::asset`].
    pub fn asset(mut self, asset: AssetId) -> Self {
        self.access = self.access.asset(asset);
        self
    }

    /// Adds a header to requests to the origin of the file's URL: see [`Access::header`].
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.access = self.access.header(name, value);
        self
    }

    /// How the file's URL becomes the name of its entry: see [`Access::entry_names`].
    pub fn entry_names(mut self, names: EntryNames) -> Self {
        self.access = self.access.entry_names(names);
        self
    }

    /// Has the app say whether what a server sent is the file: see [`Access::judge`].
    pub fn judge(mut self, judge: impl Fn(&Received<'_>) -> Verdict + Send + Sync + 'static) -> Self {
        self.access = self.access.judge(judge);
        self
    }

    /// Keeps the file under this name, whatever its URL. By default [`entry_names`](Self::entry_names) make the name of
    /// the URL.
    pub fn cache_path(mut self, path: CachePath) -> Self {
        self.path = Some(path);
        self
    }

    /// How far ahead of its readers the file is downloaded. Default: [`LookAhead::Whole`].
    pub fn look_ahead(mut self, look_ahead: LookAhead) -> Self {
        self.look_ahead = look_ahead;
        self
    }

    /// Bytes in one second of playing, for [`LookAhead::Time`]. Default: 40 000 (320 kbit/s).
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = bytes;
        self
    }

    /// Asks the server each time a complete file is opened whether it is still the same (`If-None-Match`,
    /// `If-Modified-Since`; RFC 9110 section 13.1), and downloads it anew if not. Default: `false`.
    ///
    /// Set it before the first download: the server's `ETag` and `Last-Modified` are then stored beside the file.
    /// Otherwise only the length can be compared.
    ///
    /// The cached file plays if the server cannot be reached, answers 5xx, sends something that is no media, or does not
    /// answer within three seconds. If the server refuses (403, 404), opening fails and the file stays in the cache.
    pub fn revalidate(mut self, ask: bool) -> Self {
        self.revalidate = ask;
        self
    }

    /// What makes two answers of the server bytes of the same file. Default: [`SameFile::by_validators`].
    pub fn same_file(mut self, same_file: SameFile) -> Self {
        self.same_file = same_file;
        self
    }

    /// Keeps nothing that the server asks not to store (`Cache-Control: no-store`, RFC 9111 section 5.2.2.5). Such a file
    /// passes through a window in memory, and [`Bypass::NoStore`](super::Bypass::NoStore) tells so. Default: `false`: many
    /// servers send it with everything, and an app that keeps a file for its user is not the cache that it is meant for.
    pub fn respect_no_store(mut self, respect: bool) -> Self {
        self.respect_no_store = respect;
        self
    }

    /// Bytes to hold in memory where there is no cache or no room in it. Default: 4 MiB; never less than 512 KiB. A
    /// cache in memory keeps files up to this length.
    pub fn window_bytes(mut self, bytes: u64) -> Self {
        // The window must hold the largest chunk: none of its bytes may be dropped before it was read.
        self.window = bytes.max(512 * 1024);
        self
    }

    /// The most bytes of a file of unknown length to put into the cache. Default: 64 MiB. A longer one may be a stream
    /// without an end, which would evict everything else.
    pub fn unknown_length_limit(mut self, bytes: u64) -> Self {
        self.unknown_length_limit = bytes;
        self
    }

    /// How long a reader waits for bytes in an outage before its read fails, in addition to the client's retries. Default:
    /// zero. With [`Duration::MAX`] it waits until the network is back, or until it is interrupted or dropped.
    ///
    /// Whatever is set, an outage ends no download: see the [module](super#outages).
    pub fn outage_limit(mut self, limit: Duration) -> Self {
        self.outage_limit = limit;
        self
    }

    /// Takes the close of a connection for the end of a file whose server announces neither a length nor chunks.
    /// Default: `false`, and reading fails there with [`FileError::EndUnproven`](super::FileError::EndUnproven).
    ///
    /// With `true` a broken connection looks like the end of the file. Such a file is never kept.
    pub fn accept_unproven_end(mut self, accept: bool) -> Self {
        self.accept_unproven_end = accept;
        self
    }
}

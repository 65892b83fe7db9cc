//! What an app asks for.

use std::{fmt, sync::Arc, time::SystemTime};

use super::Selection;
use crate::{
    cache::{AssetId, CachePath},
    net::{Url, redacted},
};

/// What is at a URL.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One file.
    File,
    /// An HLS track. It takes the feature `hls`.
    Hls,
}

/// Names a download. It is the same in each session, for the same asset and entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DownloadId(pub(super) Arc<str>);

impl DownloadId {
    /// The text of an id, as [`as_str`](Self::as_str) gave it.
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as text: no URL and no key is in it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DownloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an app wants offline. It is kept with the download, and survives restarts.
///
/// ```
/// use kithara::net::Url;
/// use kithara::offline::DownloadRequest;
///
/// let url = Url::parse("https://example.com/episode.mp3")?;
/// let request = DownloadRequest::file(url).priority(1).needs("unmetered");
/// # let _ = request; Ok::<(), url::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct DownloadRequest {
    pub(super) kind: Kind,
    pub(super) url: Url,
    pub(super) asset: Option<AssetId>,
    pub(super) path: Option<CachePath>,
    pub(super) selection: Selection,
    pub(super) priority: i32,
    pub(super) valid_until: Option<SystemTime>,
    pub(super) max_bytes: Option<u64>,
    pub(super) needs: Vec<String>,
}

impl DownloadRequest {
    /// One file.
    pub fn file(url: Url) -> Self {
        Self::new(Kind::File, url)
    }

    /// An HLS track; its playlist is at `url`.
    #[cfg(feature = "hls")]
    pub fn hls(url: Url) -> Self {
        Self::new(Kind::Hls, url)
    }

    pub(super) fn new(kind: Kind, url: Url) -> Self {
        Self {
            kind,
            url,
            asset: None,
            path: None,
            selection: Selection::default(),
            priority: 0,
            valid_until: None,
            max_bytes: None,
            needs: Vec::new(),
        }
    }

    /// Keeps it under this asset. Without it the URL without its query is the asset: see
    /// [`Access::asset`](crate::media::Access::asset).
    pub fn asset(mut self, asset: AssetId) -> Self {
        self.asset = Some(asset);
        self
    }

    /// Keeps a file under this name: see [`FileParams::cache_path`](crate::file::FileParams::cache_path).
    pub fn cache_path(mut self, path: CachePath) -> Self {
        self.path = Some(path);
        self
    }

    /// What of a track is downloaded.
    pub fn selection(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// Higher ones go first; 0 unless set. Of equals the one that was added first.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Until when it may be played offline. Then it is [`Expired`](super::OfflineError::Expired): unpinned, and not removed.
    pub fn valid_until(mut self, time: SystemTime) -> Self {
        self.valid_until = Some(time);
        self
    }

    /// The most bytes that it may take. With more it fails.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// It is fetched only while the app says that this holds: see [`Downloads::set_gate`](super::Downloads::set_gate). The
    /// names are the app's own, such as `unmetered`; a line break in one is a space.
    pub fn needs(mut self, gate: impl Into<String>) -> Self {
        let gate = gate.into().replace(['\n', '\r'], " ");
        if !self.needs.contains(&gate) {
            self.needs.push(gate);
        }
        self
    }

    /// What is at its URL.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn asset_id(&self) -> AssetId {
        self.asset.clone().unwrap_or_else(|| AssetId::from_url(&self.url))
    }
}

/// Shows no query and no credentials.
impl fmt::Debug for DownloadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadRequest")
            .field("kind", &self.kind)
            .field("url", &redacted(&self.url))
            .field("selection", &self.selection)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

//! The settings of the downloads.

use std::{fmt, sync::Arc, time::Duration};

use super::{DownloadInfo, DownloadRequest};
#[cfg(feature = "hls")]
use crate::hls::HlsParams;
use crate::{file::FileParams, media::Access};

type FileHook = Arc<dyn Fn(&DownloadRequest, FileParams) -> FileParams + Send + Sync>;
#[cfg(feature = "hls")]
type HlsHook = Arc<dyn Fn(&DownloadRequest, HlsParams) -> HlsParams + Send + Sync>;
type ValidityHook = Arc<dyn Fn(&DownloadInfo) -> bool + Send + Sync>;

/// Settings of [`Downloads`](super::Downloads).
#[derive(Clone)]
#[must_use]
pub struct DownloadsBuilder {
    pub(super) access: Access,
    pub(super) parallel: usize,
    pub(super) max_bytes: Option<u64>,
    pub(super) notice: Duration,
    pub(super) stall_limit: Duration,
    pub(super) file_hook: Option<FileHook>,
    #[cfg(feature = "hls")]
    pub(super) hls_hook: Option<HlsHook>,
    pub(super) validity: Option<ValidityHook>,
}

impl DownloadsBuilder {
    pub(super) fn new(access: Access) -> Self {
        Self {
            access,
            parallel: 3,
            max_bytes: None,
            notice: Duration::from_secs(24 * 3600),
            stall_limit: Duration::from_secs(10),
            file_hook: None,
            #[cfg(feature = "hls")]
            hls_hook: None,
            validity: None,
        }
    }

    /// How many are fetched at once; 3 unless set, and never none. Those that wait for a network that is away, or for a server
    /// that is silent, do not count; nor do those that have come whole and wait for the disk, as long as they are no more.
    pub fn parallel(mut self, count: usize) -> Self {
        self.parallel = count.max(1);
        self
    }

    /// The most bytes that all of them may take together: what is downloaded is pinned, and would otherwise leave the cache no
    /// room for what is played. No limit but the cache's unless set.
    ///
    /// Of a track whose playlists do not tell its length the last segment may exceed it.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// How long before its end [`Change::Expiring`](super::Change::Expiring) is told; a day unless set.
    pub fn notice(mut self, before: Duration) -> Self {
        self.notice = before;
        self
    }

    /// How long a download may bring nothing until it waits: its place is given to the next one. It goes on to try, and has its place
    /// back when a byte comes. 10 seconds unless set. Giving way to what is played counts for nothing.
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.stall_limit = limit.max(Duration::from_millis(1));
        self
    }

    /// What else a file is fetched with: headers for one request, whether it is the same file. The parameters given have access
    /// and asset already.
    pub fn file_params(
        mut self,
        hook: impl Fn(&DownloadRequest, FileParams) -> FileParams + Send + Sync + 'static,
    ) -> Self {
        self.file_hook = Some(Arc::new(hook));
        self
    }

    /// What else a track is fetched with: key headers, a key processor. The Variant Stream and language that these
    /// parameters choose are overruled by the request's selection.
    #[cfg(feature = "hls")]
    pub fn hls_params(
        mut self,
        hook: impl Fn(&DownloadRequest, HlsParams) -> HlsParams + Send + Sync + 'static,
    ) -> Self {
        self.hls_hook = Some(Arc::new(hook));
        self
    }

    /// Has the app say whether a download may be played offline still, beside
    /// [`valid_until`](DownloadRequest::valid_until): a licence that was revoked, a subscription that ended. Asked when one is
    /// added or is to be played, and now and then while the downloads run. It must not call the downloads.
    pub fn validity(mut self, check: impl Fn(&DownloadInfo) -> bool + Send + Sync + 'static) -> Self {
        self.validity = Some(Arc::new(check));
        self
    }
}

impl fmt::Debug for DownloadsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadsBuilder")
            .field("access", &self.access)
            .field("parallel", &self.parallel)
            .field("max_bytes", &self.max_bytes)
            .field("notice", &self.notice)
            .field("stall_limit", &self.stall_limit)
            .finish_non_exhaustive()
    }
}

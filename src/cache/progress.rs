//! How far the scan at the disk after opening has come.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_channel::{Receiver, Sender};

/// Watches the scan at the disk that follows opening: a check of directory times where there is an index, a scan of
/// all files where there is none. The cache serves meanwhile; writes wait where the sizes are not known yet.
#[derive(Clone)]
pub struct Progress {
    state: Arc<ProgressState>,
}

struct ProgressState {
    done: AtomicU64,
    total: AtomicU64,
    assets: AtomicU64,
    /// Never carries anything: closed when the scan has ended.
    end: (Sender<()>, Receiver<()>),
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::new(ProgressState {
                done: AtomicU64::new(0),
                total: AtomicU64::new(0),
                assets: AtomicU64::new(0),
                end: async_channel::bounded(1),
            }),
        }
    }

    /// Directories looked at so far, and how many there are. Both are 0 until the scan begins.
    pub fn directories(&self) -> (u64, u64) {
        let total = self.state.total.load(Ordering::Relaxed);
        (self.state.done.load(Ordering::Relaxed).min(total), total)
    }

    /// Assets looked at so far.
    pub fn assets(&self) -> u64 {
        self.state.assets.load(Ordering::Relaxed)
    }

    /// Whether the scan has ended. One that failed is tried again until the cache is closed, which ends it.
    pub fn is_finished(&self) -> bool {
        self.state.end.0.is_closed()
    }

    /// Resolves when the scan has ended, see [`is_finished`](Self::is_finished).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn finished(&self) {
        // An error is what is waited for: the channel was closed.
        let _ = self.state.end.1.recv().await;
    }

    pub(super) fn begin(&self, directories: u64) {
        self.state.total.store(directories, Ordering::Relaxed);
        self.state.done.store(0, Ordering::Relaxed);
        self.state.assets.store(0, Ordering::Relaxed);
    }

    pub(super) fn scanned(&self, assets: u64) {
        self.state.assets.fetch_add(assets, Ordering::Relaxed);
        self.state.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.state.end.0.close();
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, total) = self.directories();
        f.debug_struct("Progress")
            .field("done", &done)
            .field("total", &total)
            .finish_non_exhaustive()
    }
}

//! How far the scan after opening has come.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_channel::{Receiver, Sender};

/// Watches the scan that follows opening. With an index it checks the time of each directory; without one it reads all
/// directories. Reads are served meanwhile. Writes wait for the scan if the sizes are not known yet.
#[derive(Clone)]
pub struct Progress {
    state: Arc<ProgressState>,
}

struct ProgressState {
    done: AtomicU64,
    total: AtomicU64,
    assets: AtomicU64,
    /// Carries nothing. Closed when the scan has ended.
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

    /// Directories scanned so far, and how many there are. Both are 0 until the scan begins.
    pub fn directories(&self) -> (u64, u64) {
        // Two counters without a lock: a scan that begins again sets one after the other, so `done` is capped.
        let total = self.state.total.load(Ordering::Relaxed);
        (self.state.done.load(Ordering::Relaxed).min(total), total)
    }

    /// Assets scanned so far.
    pub fn assets(&self) -> u64 {
        self.state.assets.load(Ordering::Relaxed)
    }

    /// Whether the scan has ended. A failed scan is tried again until the cache is closed; closing ends it too.
    pub fn is_finished(&self) -> bool {
        self.state.end.0.is_closed()
    }

    /// Resolves when the scan has ended, see [`is_finished`](Self::is_finished).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn finished(&self) {
        // Closing the channel is the signal, so the error is what is awaited.
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

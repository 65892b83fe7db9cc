//! What the tests stand on: a directory, content that no hole can imitate, a failure, a watch for hangs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use kithara::storage::StreamingResource;
use tempfile::TempDir;

/// Why a fetcher gives up.
#[derive(Debug, PartialEq, Eq)]
pub struct Reset(pub u32);

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} was reset", self.0)
    }
}

impl std::error::Error for Reset {}

pub type Resource = StreamingResource<Reset>;

pub struct Stage {
    pub dir: TempDir,
}

impl Stage {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn target(&self) -> PathBuf {
        self.dir.path().join("track.flac")
    }

    pub fn open(&self) -> Resource {
        Resource::open(self.target()).unwrap()
    }

    /// The names in the directory, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Bytes without a zero, so that a hole shows.
pub fn content(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at.wrapping_mul(2_654_435_761) >> 7) % 255).unwrap() + 1)
        .collect()
}

/// Runs what must not hang.
pub fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, over) = mpsc::channel();
    let worker = thread::spawn(move || done.send(work()));
    match over.recv_timeout(limit) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hung for {limit:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(worker.join().expect_err("it panicked"))
        }
    }
}

pub const LONG: Duration = Duration::from_secs(60);

/// Counts its wakes, and sees how a future stands between them.
#[derive(Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    pub fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self::default());
        (wakes.clone(), Waker::from(wakes))
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// One look at a future.
pub fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Option<F::Output> {
    match std::pin::Pin::new(future).poll(&mut Context::from_waker(waker)) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

//! `FileSource` against a server on loopback: random access, streams, the cache, and what servers do (tables B and D).
//! Decoders that read from it have their tests in `tests/interop`.

#![cfg(feature = "file")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::single_range_in_vec_init,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking; its helpers are public to its own modules and serve several of them"
)]

mod access;
mod basics;
mod cached;
mod checkpoints;
#[cfg(feature = "test-util")]
mod contract;
mod damaged;
mod dropped;
mod errors;
#[cfg(unix)]
mod kills;
mod locations;
mod matrix;
mod model;
mod not_media;
mod one_connection;
mod opening;
mod outages;
mod parts;
mod redirected;
mod revalidated;
mod same_file;
mod seeks;
mod server_info;
mod shared;
#[cfg(target_os = "linux")]
mod shared_threads;
mod spare;
mod told;
mod world;
mod world_errors;
#[cfg(feature = "decode")]
mod world_sound;

use std::io::{Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::file::{FileParams, FileReader, FileSource, OpenMode};
use kithara::net::{HttpClient, HttpClientBuilder, RetryPolicy, Url};
use kithara_test_support::{Content, Pattern, Server};

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;

/// Bytes that differ everywhere, so that none can stand for another.
pub fn pattern() -> &'static Pattern {
    static PATTERN: OnceLock<Pattern> = OnceLock::new();
    PATTERN.get_or_init(|| Pattern::new(5))
}

/// A server, a cache, and a file of the pattern at `/a.bin`.
#[derive(Debug)]
pub struct Stage {
    pub server: Server,
    pub root: tempfile::TempDir,
    pub cache: AssetCache,
    pub len: u64,
}

pub fn builder() -> HttpClientBuilder {
    let quick = RetryPolicy::default()
        .base_delay(Duration::from_millis(5))
        .max_delay(Duration::from_millis(500));
    HttpClient::builder().retry(quick)
}

pub fn client() -> HttpClient {
    builder().build().unwrap()
}

pub fn open_cache(root: &std::path::Path, max_bytes: u64) -> AssetCache {
    AssetCache::builder(root)
        .max_bytes(max_bytes)
        .open_blocking()
        .unwrap()
}

impl Stage {
    pub fn new(len: u64) -> Self {
        Self::with_cache(len, 256 * MIB)
    }

    pub fn with_cache(len: u64, max_bytes: u64) -> Self {
        let server = Server::empty().unwrap();
        server.serve("/a.bin", Content::pattern(pattern(), len));
        let root = tempfile::tempdir().unwrap();
        let cache = open_cache(root.path(), max_bytes);
        Self {
            server,
            root,
            cache,
            len,
        }
    }

    pub fn url(&self) -> Url {
        Url::parse(&self.server.url("/a.bin")).unwrap()
    }

    pub fn params(&self) -> FileParams {
        FileParams::new(client(), self.cache.clone())
    }

    pub fn source(&self) -> FileSource {
        FileSource::new(self.url(), self.params())
    }

    pub fn reader(&self) -> FileReader {
        block_on(self.source().open_reader(OpenMode::Online)).unwrap()
    }

    /// Closes the cache and opens it again, as a new process would.
    pub fn restart(&mut self) {
        let memory = AssetCache::memory(1);
        let cache = std::mem::replace(&mut self.cache, memory);
        // Background work of the last session ends on its own.
        block_on(cache.closed());
        self.cache = open_cache(self.root.path(), 256 * MIB);
    }

    pub fn requests(&self) -> usize {
        self.server.requests().len()
    }
}

/// Reads to the end and compares with the pattern from `at` on.
#[track_caller]
pub fn assert_rest(reader: &mut FileReader, at: u64, len: u64) {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(at + bytes.len() as u64, len);
    assert_eq!(pattern().first_difference(at, &bytes), None);
}

/// Reads `len` bytes at `at` and compares.
#[track_caller]
pub fn assert_at(reader: &mut FileReader, at: u64, len: usize) {
    reader.seek(SeekFrom::Start(at)).unwrap();
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(pattern().first_difference(at, &bytes), None);
}

/// No test waits longer for anything.
pub const LONG: Duration = Duration::from_secs(20);

/// Does what would wait for ever if the code were wrong.
#[track_caller]
pub fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    is_done.recv_timeout(LONG).unwrap()
}

struct SendOnWake(mpsc::Sender<()>);

impl Wake for SendOnWake {
    fn wake(self: Arc<Self>) {
        // An error if the test is over.
        let _ = self.0.send(());
    }
}

/// Polls once, and waits until the future is woken. It is not polled again: what it waits for is there, and not yet received.
#[track_caller]
pub fn poll_until_woken<F: Future>(future: Pin<&mut F>) {
    let (woken, is_woken) = mpsc::channel();
    let waker = Waker::from(Arc::new(SendOnWake(woken)));
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
    is_woken.recv_timeout(LONG).unwrap();
}

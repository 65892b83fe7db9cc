//! Downloads against a server on loopback: what the cache has, what is missing, and what brings it there.

#![cfg(all(feature = "offline", feature = "hls"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    clippy::new_without_default,
    clippy::case_sensitive_file_extension_comparisons,
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    missing_docs,
    dead_code,
    reason = "a test fails by panicking; helpers serve several modules"
)]

mod causes;
mod ends;
mod example;
#[cfg(unix)]
mod kills;
#[cfg(target_os = "linux")]
mod no_network;
mod playing;
#[cfg(feature = "test-util")]
mod power;
mod queue;
mod room;
mod truth;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_lite::{StreamExt, future::block_on};
use kithara::cache::AssetCache;
use kithara::file::{FileParams, FileSource};
use kithara::hls::{HlsParams, HlsSource};
use kithara::media::{Access, Download, DownloadError, Progress, Stored};
use kithara::net::{HttpClient, RetryPolicy, Url};
use kithara_test_support::{Content, Pattern, Server, media, serve_encrypted};

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;
/// The plain track, its Variant Stream that the playlist has first, and the same encrypted.
pub const TRACK: &str = "/hls/plain/master.m3u8";
pub const ENCRYPTED: &str = "/locked/playlist.m3u8";

/// Bytes that differ everywhere.
pub fn pattern() -> Pattern {
    Pattern::new(17)
}

pub fn client() -> HttpClient {
    let quick = RetryPolicy::default()
        .base_delay(Duration::from_millis(2))
        .max_attempts(2);
    HttpClient::builder().retry(quick).build().unwrap()
}

pub fn open_cache(root: &Path, max_bytes: u64) -> AssetCache {
    AssetCache::builder(root)
        .max_bytes(max_bytes)
        .open_blocking()
        .unwrap()
}

/// A server with a file, a track and an encrypted track, and a cache.
#[derive(Debug)]
pub struct Stage {
    pub server: Server,
    pub root: tempfile::TempDir,
    pub cache: AssetCache,
}

impl Stage {
    pub fn new() -> Self {
        Self::with_limit(256 * MIB)
    }

    pub fn with_limit(max_bytes: u64) -> Self {
        let server = Server::start(media()).unwrap();
        serve_encrypted(&server, "/hls/plain/aac-48/playlist.m3u8", "/locked").unwrap();
        let map = std::fs::read(media().join("hls/plain/aac-48/init.mp4"));
        if let Ok(map) = map {
            server.serve_bytes("/locked/init.mp4", map);
        }
        server.serve("/a.bin", Content::pattern(&pattern(), 3 * MIB + 77));
        let root = tempfile::tempdir().unwrap();
        let cache = open_cache(root.path(), max_bytes);
        Self { server, root, cache }
    }

    pub fn url(&self, path: &str) -> Url {
        Url::parse(&self.server.url(path)).unwrap()
    }

    pub fn access(&self) -> Access {
        Access::new(client(), self.cache.clone())
    }

    pub fn file(&self, path: &str) -> FileSource {
        FileSource::new(self.url(path), FileParams::with_access(self.access()))
    }

    pub fn hls(&self, path: &str) -> HlsSource {
        HlsSource::new(self.url(path), HlsParams::with_access(self.access()))
    }

    /// Closes the cache and opens it again, as a new process would.
    pub fn restart(&mut self) {
        let cache = std::mem::replace(&mut self.cache, AssetCache::memory(1));
        block_on(cache.closed());
        self.cache = open_cache(self.root.path(), 256 * MIB);
    }

    /// Has the last change of all assets lie an hour back.
    pub fn age(&self) {
        let then = std::time::SystemTime::now() - Duration::from_secs(3600);
        let mut dirs = vec![self.root.path().join("assets")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                dirs.extend(path.is_dir().then_some(path));
            }
            std::fs::File::open(&dir).unwrap().set_modified(then).unwrap();
        }
    }

    /// The files of entries whose name ends like this.
    pub fn entries(&self, end: &str) -> Vec<PathBuf> {
        let mut found = files_below(&self.root.path().join("assets"));
        found.retain(|path| path.to_str().unwrap().ends_with(end));
        found.sort();
        found
    }
}

pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Runs a download to its end. What it told on the way.
pub fn run<E>(download: Download<E>) -> Result<Vec<Progress>, DownloadError<E>> {
    block_on(download.try_collect())
}

pub fn flip_a_bit(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

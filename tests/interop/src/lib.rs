//! What the tests of kithara beside other crates share: clients, a server, a cache.
//!
//! The tests themselves are in `tests/`: executors (smol, tokio), https (rcgen makes the certificates), decoders
//! (Symphonia, rodio). They have a crate of their own so that the first build of kithara needs none of those crates.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

pub use kithara_test_support::{Running, free_port};

use std::path::Path;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::cache::AssetCache;
use kithara::net::{HttpClient, HttpClientBuilder, NetError, Request, RetryPolicy, Url};
use kithara_test_support::{Content, Pattern, Server};

/// Bytes in a mebibyte.
pub const MIB: u64 = 1024 * 1024;

/// Bytes that differ everywhere, so that none can stand for another.
pub fn pattern() -> Pattern {
    Pattern::new(7)
}

/// A server with `length` bytes of the pattern at `/a.bin`.
pub fn server_with(length: usize) -> Server {
    let server = Server::empty().unwrap();
    server.serve("/a.bin", Content::bytes(pattern().range(0, length)));
    server
}

/// The URL of a path on a server.
pub fn url(server: &Server, path: &str) -> Url {
    Url::parse(&server.url(path)).unwrap()
}

/// A client that waits no longer than a test should.
pub fn builder() -> HttpClientBuilder {
    let quick = RetryPolicy::default()
        .base_delay(Duration::from_millis(5))
        .max_delay(Duration::from_secs(2));
    HttpClient::builder().retry(quick)
}

/// [`builder`], built.
pub fn client() -> HttpClient {
    builder().build().unwrap()
}

/// Sends a request and reads the whole body.
///
/// # Errors
/// The request's error, or the body's.
pub fn fetch(client: &HttpClient, request: Request) -> Result<Vec<u8>, NetError> {
    future::block_on(async {
        let mut body = client.send(request).await?.into_body();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes)
    })
}

/// A cache under `root` with a limit in bytes.
pub fn open_cache(root: &Path, max_bytes: u64) -> AssetCache {
    AssetCache::builder(root)
        .max_bytes(max_bytes)
        .open_blocking()
        .unwrap()
}

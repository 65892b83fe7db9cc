//! `net` against a server on loopback: the promises N1 to N8, and what went wrong elsewhere (faults D1 to D14).
//! https has its tests in `tests/interop`.

#![cfg(feature = "net")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod basics;
mod bulk;
mod connections;
mod credentials;
mod faults;
mod heads;
mod parts;
mod promises;
mod proxies;
mod raw;
mod requests;
mod suspect;

use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::net::{Body, HttpClient, HttpClientBuilder, NetError, Request, RetryPolicy, Url};
use kithara_test_support::{Content, Pattern, Server};

/// Bytes that differ everywhere, so that none can stand for another.
pub(crate) fn pattern() -> Pattern {
    Pattern::new(7)
}

/// A server with `length` bytes of the pattern at `/a.bin`.
pub(crate) fn server_with(length: usize) -> Server {
    let server = Server::empty().expect("a port");
    server.serve("/a.bin", Content::bytes(pattern().range(0, length)));
    server
}

pub(crate) fn url(server: &Server, path: &str) -> Url {
    Url::parse(&server.url(path)).expect("a url")
}

/// A client that waits no longer than a test should.
pub(crate) fn builder() -> HttpClientBuilder {
    let quick = RetryPolicy::default()
        .base_delay(Duration::from_millis(5))
        .max_delay(Duration::from_secs(2));
    HttpClient::builder().retry(quick)
}

pub(crate) fn client() -> HttpClient {
    builder().build().expect("valid settings")
}

pub(crate) fn one_try() -> HttpClient {
    builder()
        .retry(RetryPolicy::none())
        .build()
        .expect("valid settings")
}

/// All that comes before the end or an error, and the error.
pub(crate) async fn drain(mut body: Body) -> (Vec<u8>, Option<NetError>) {
    let mut bytes = Vec::new();
    loop {
        match body.next().await {
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
            Some(Err(error)) => {
                assert!(body.next().await.is_none(), "an error ends the stream");
                return (bytes, Some(error));
            }
            None => return (bytes, None),
        }
    }
}

/// Sends and reads the whole.
pub(crate) fn fetch(client: &HttpClient, request: Request) -> Result<Vec<u8>, NetError> {
    future::block_on(async {
        match drain(client.send(request).await?.into_body()).await {
            (bytes, None) => Ok(bytes),
            (_, Some(error)) => Err(error),
        }
    })
}

/// Fails unless `bytes` are those of the pattern from `start` on.
#[track_caller]
pub(crate) fn assert_pattern(start: u64, bytes: &[u8]) {
    assert_eq!(
        pattern().first_difference(start, bytes),
        None,
        "a wrong byte after {start}"
    );
}

//! The cache by itself: put, lease, go over the limit, see what had to leave.
//!
//! `cargo run --example cache_only`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::process::ExitCode;

use bytes::Bytes;
use futures_lite::future::block_on;
use kithara::cache::{AssetCache, AssetId, CacheError, CachePath};

fn main() -> ExitCode {
    let asked = std::env::args().nth(1);
    match asked.as_deref() {
        None => {}
        Some("--help" | "-h") => {
            println!("usage: cache_only     fills a small cache beyond its limit; there is nothing to set");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("cache_only: unexpected argument {other:?}; it has none");
            return ExitCode::FAILURE;
        }
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cache_only: {}", in_one_line(&*failure));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    block_on(async {
        let folder = tempfile::tempdir()?;
        let cache = AssetCache::builder(folder.path())
            .max_bytes(100_000)
            .open()
            .await?;
        let cover = CachePath::parse("art/cover.jpg")?;

        // The track that plays is leased: however old it gets, it stays.
        let playing = AssetId::from_key("playing")?;
        cache
            .put_atomic(&playing, &cover, Bytes::from(vec![1; 40_000]))
            .await?;
        let lease = cache.lease(&playing);

        let older = AssetId::from_key("older")?;
        cache
            .put_atomic(&older, &cover, Bytes::from(vec![2; 30_000]))
            .await?;
        let newer = AssetId::from_key("newer")?;
        cache
            .put_atomic(&newer, &cover, Bytes::from(vec![3; 50_000]))
            .await?;

        for (name, id) in [("playing", &playing), ("older", &older), ("newer", &newer)] {
            let bytes = cache.get(id, &cover).await?.map(|entry| entry.len());
            println!("{name:8} {bytes:?}");
        }

        // What cannot fit is refused, and nothing is removed for it.
        match cache
            .put_atomic(&older, &cover, Bytes::from(vec![4; 90_000]))
            .await
        {
            Err(full @ CacheError::CacheFull { .. }) => println!("refused: {full}"),
            other => println!("unexpected: {other:?}"),
        }
        drop(lease);
        println!("{:?}", cache.stats().await?);
        Ok(())
    })
}

/// An error and its causes, in one line.
fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // A transparent error has the text of its cause.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

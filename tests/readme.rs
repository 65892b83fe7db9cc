//! The README's first code and its cache section, compiled and run: the cache section with the feature `cache` alone. With
//! `decode`, `file` and `hls` all of the README is a doctest.

#![cfg(feature = "cache")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(all(feature = "decode", feature = "file"))]
#[path = "readme/sound.rs"]
mod sound;

// README, from here
use kithara::cache::{AssetCache, AssetId, CacheError, CachePath};

async fn keep(root: &std::path::Path, segment: &'static [u8]) -> Result<(), CacheError> {
    let cache = AssetCache::builder(root).max_bytes(1 << 30).open().await?;
    let (track, name) = (AssetId::from_key("track 17")?, CachePath::parse("seg-1.m4s")?);
    let playing = cache.lease(&track); // until it is dropped nothing drives the track out
    cache.put_atomic(&track, &name, segment.into()).await?; // whole or not at all, whatever happens
    assert_eq!(cache.get(&track, &name).await?.as_deref(), Some(segment));
    drop(playing);
    cache.pin(&track).await?; // kept for offline, in the next session too
    cache.close().await;
    Ok(())
}
// to here

#[test]
fn the_cache_section_does_what_it_says() {
    let root = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        futures_lite::future::block_on(keep(root.path(), b"bytes")).unwrap();
    }
    let cache = AssetCache::builder(root.path()).open_blocking().unwrap();
    assert_eq!(cache.blocking().stats().unwrap().pinned, 1);
}

#[test]
fn the_readme_shows_this_code() {
    let readme = include_str!("../README.md").replace("\r\n", "\n");
    for here in [include_str!("readme.rs"), include_str!("readme/sound.rs")] {
        let here = here.replace("\r\n", "\n");
        let (_, after) = here.split_once("// README, from here\n").unwrap();
        let (code, _) = after.split_once("// to here\n").unwrap();
        assert!(readme.contains(&format!("```rust\n{code}```")), "{code}");
    }
}

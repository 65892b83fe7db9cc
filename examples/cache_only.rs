//! The cache by itself: put, lease, go over the limit, see who had to leave.
//!
//! `cargo run --example cache_only`
#![allow(clippy::print_stdout, reason = "an example talks")]
use bytes::Bytes;
use futures_lite::future::block_on;
use kithara::cache::{AssetCache, AssetId, CacheError, CachePath};

fn main() -> Result<(), Box<dyn std::error::Error>> {
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

//! The cache from outside: what every store keeps, its limit, its policies, and the faults of table C.

#![cfg(feature = "cache")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

#[cfg(feature = "test-util")]
mod contract;
mod damage;
#[cfg(all(unix, feature = "test-util"))]
mod disk;
#[cfg(unix)]
mod faults;
mod fetch;
#[cfg(feature = "test-util")]
mod layers;
mod limit;
mod model;
mod partial;
#[cfg(unix)]
mod places;
mod policy;
mod record;
#[cfg(unix)]
mod sessions;
#[cfg(unix)]
mod threads;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kithara::cache::{AssetCache, AssetId, BlockingCache, CachePath, CacheStats, Durability};
#[cfg(feature = "test-util")]
use kithara::cache::{EvictingStore, EvictionPolicy, IndexStore, LeaseStore, Store};
use kithara_test_support::{disk_bytes, disk_room};

/// Enough for what these tests put.
const ROOM: u64 = 50_000_000;

fn open(root: &Path, max_bytes: u64) -> BlockingCache {
    let builder = AssetCache::builder(root).max_bytes(max_bytes);
    builder.open_blocking().unwrap().blocking().clone()
}

/// The same without waiting for the disk at each put.
fn ordered(root: &Path, max_bytes: u64) -> BlockingCache {
    let builder = AssetCache::builder(root)
        .max_bytes(max_bytes)
        .durability(Durability::Ordered);
    builder.open_blocking().unwrap().blocking().clone()
}

/// The layers above an index, put together by hand.
#[cfg(feature = "test-util")]
fn stack<S: Store, P: EvictionPolicy>(
    index: IndexStore<S>,
    policy: P,
    max_bytes: u64,
) -> EvictingStore<LeaseStore<IndexStore<S>>, P> {
    let accounts = index.accounts().clone();
    EvictingStore::new(LeaseStore::new(index, &accounts), &accounts, policy, max_bytes)
}

fn asset(name: &str) -> AssetId {
    AssetId::from_key(name).unwrap()
}

fn path(name: &str) -> CachePath {
    CachePath::parse(name).unwrap()
}

/// Bytes that differ from those around them, and from those of another seed.
fn bytes(len: usize, seed: u8) -> Bytes {
    let pattern: Vec<u8> = (0..=250_u8)
        .map(|n| n.wrapping_mul(7).wrapping_add(seed))
        .collect();
    pattern.iter().copied().cycle().take(len).collect()
}

fn dir_of(root: &Path, asset: &AssetId) -> PathBuf {
    root.join("assets").join(&asset.name()[..2]).join(asset.name())
}

/// Bytes of all files, as a cache counts them: in whole units, unless its limit is small.
fn counted(path: &Path, stats: &CacheStats) -> u64 {
    if stats.max_bytes < 1 << 20 {
        disk_bytes(path)
    } else {
        disk_room(path)
    }
}

/// The disk and the accounts agree, and neither is over the limit.
fn check(cache: &BlockingCache, root: &Path) {
    let stats = cache.stats().unwrap();
    assert_eq!(counted(&root.join("assets"), &stats), stats.asset_bytes);
    let on_disk = counted(root, &stats);
    assert!(on_disk <= stats.bytes, "{on_disk} on disk, {stats:?}");
    assert!(stats.bytes <= stats.max_bytes, "{stats:?}");
}

/// A folder as it is now, as a kill would leave it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

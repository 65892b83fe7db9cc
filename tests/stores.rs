//! C32: the stores of the examples keep the contract, and serve a cache. The one in a folder survives a kill.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "../examples/store_folder.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "an example, with a main of its own"
)]
mod store_folder;
#[path = "../examples/store_memory.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "an example, with a main of its own"
)]
mod store_memory;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use kithara::cache::{AssetCache, AssetId, BlockingCache, CacheError, CachePath, Store, contract};

use self::store_folder::FolderStore;
use self::store_memory::MapStore;

const ROOT: &str = "KITHARA_FOLDER";

fn asset(n: usize) -> AssetId {
    AssetId::from_key(&n.to_string()).unwrap()
}

fn path() -> CachePath {
    CachePath::parse("dir/Segment").unwrap()
}

fn bytes(n: usize) -> Bytes {
    vec![u8::try_from(n % 251).unwrap(); 30_000 + n].into()
}

fn open(store: impl Store, max_bytes: u64) -> BlockingCache {
    let builder = AssetCache::builder("").store(store).max_bytes(max_bytes);
    builder.open_blocking().unwrap().blocking().clone()
}

#[test]
fn a_store_in_memory_keeps_the_contract() {
    contract::check(MapStore::default).unwrap();
}

#[test]
fn a_store_of_files_keeps_the_contract() {
    let mut roots = Vec::new();
    let checked = contract::check(|| {
        roots.push(tempfile::tempdir().unwrap());
        FolderStore::open(roots.last().unwrap().path()).unwrap()
    });
    checked.unwrap();
}

/// C5, C6, C7: what the layers add holds over a store of the app's own. What the store lacks is told.
#[test]
fn a_cache_over_a_store_of_the_apps_own_keeps_its_limit() {
    let root = tempfile::tempdir().unwrap();
    let folder = FolderStore::open(root.path()).unwrap();
    let stores: [Box<dyn Fn() -> BlockingCache>; 2] = [
        Box::new(|| open(MapStore::default(), 100_000)),
        Box::new(move || open(folder.clone(), 100_000)),
    ];
    for store in stores {
        let cache = store();
        cache.put_atomic(&asset(0), &path(), bytes(0)).unwrap();
        let lease = cache.lease(&asset(0));
        for n in 1..8 {
            cache.put_atomic(&asset(n), &path(), bytes(n)).unwrap();
            assert!(cache.stats().unwrap().bytes <= 100_000);
        }
        let there = |n| cache.contains(&asset(n), &path()).unwrap();
        assert!(there(0) && there(7) && !there(1));
        assert!(cache.remove(&asset(0)).unwrap_err().is_in_use());
        drop(lease);
        assert!(cache.remove(&asset(0)).unwrap());
        for refused in [
            cache.pin(&asset(7)).unwrap_err(),
            cache.partial(&asset(7), &path()).unwrap_err(),
            cache.resource::<CacheError>(&asset(7), &path()).unwrap_err(),
        ] {
            assert!(matches!(refused, CacheError::NotSupported { .. }), "{refused}");
        }
        assert_eq!(cache.get(&asset(7), &path()).unwrap().unwrap(), bytes(7));
        cache.close();
    }
}

#[test]
#[ignore = "the test below starts it as a process of its own"]
fn writes_until_it_is_killed() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else {
        return;
    };
    let cache = open(FolderStore::open(&root).unwrap(), 1 << 30);
    for n in 0.. {
        cache.put_atomic(&asset(n), &path(), bytes(n)).unwrap();
        println!("put {n}");
    }
}

fn kill_one_that_writes(root: &Path, puts: usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(ROOT, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let last = format!("put {puts}");
    // The harness may write before the first of them, on the same line.
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with(&last)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// C2: what was put before a kill is there, whole, and nothing half written is.
#[test]
fn a_store_of_files_survives_a_kill_and_a_reopen() {
    for puts in [0, 3, 17] {
        let root = tempfile::tempdir().unwrap();
        kill_one_that_writes(root.path(), puts);
        let store = FolderStore::open(root.path()).unwrap();
        assert_eq!(std::fs::read_dir(root.path().join("staged")).unwrap().count(), 0);
        let found = store.list().unwrap().len();
        assert!(found > puts, "{found} of {puts}");
        let cache = open(store, 1 << 30);
        for n in 0..found {
            assert_eq!(cache.get(&asset(n), &path()).unwrap().unwrap(), bytes(n));
        }
        let sum: usize = (0..found).map(|n| bytes(n).len()).sum();
        assert_eq!(cache.stats().unwrap().asset_bytes, sum as u64);
        cache.put_atomic(&asset(0), &path(), bytes(5)).unwrap();
        assert_eq!(cache.get(&asset(0), &path()).unwrap().unwrap(), bytes(5));
    }
}

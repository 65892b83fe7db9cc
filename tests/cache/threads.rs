//! What several do to a cache at once: the limit, and the accounts.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::block_on;
use kithara::cache::{AssetCache, CacheError, Durability};
use kithara::storage::{StreamingError, StreamingResource};

use crate::{ROOM, asset, bytes, check, dir_of, ordered, path};

/// Bytes of files that were all there at one instant: between a walk that opens them and a second check of what it opened.
/// Files that are moved, removed or created meanwhile are not counted twice, nor counted together if they never were there
/// together. The inode of an open file is given to no other file.
fn du_at_once(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fn walk(dir: &Path, files: &mut HashMap<u64, (fs::File, u64)>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, files);
            } else if let Ok(file) = fs::File::open(path) {
                let meta = file.metadata().unwrap();
                files.insert(meta.ino(), (file, meta.len()));
            }
        }
    }
    let mut files = HashMap::new();
    walk(dir, &mut files);
    let now = files.values().map(|(file, len)| (file.metadata().unwrap(), len));
    now.filter(|(now, _)| now.nlink() > 0)
        .map(|(now, len)| now.len().min(*len))
        .sum()
}
/// C5, fault C10: eight threads under a tight limit; the disk is measured all the while.
#[test]
fn eight_threads_under_a_tight_limit_never_exceed_it_on_the_disk() {
    let seconds = std::env::var("KITHARA_STRESS_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(2);
    let root = tempfile::tempdir().unwrap();
    let (limit, root) = (400_000, root.path());
    let cache = ordered(root, limit);
    let (stop, most, samples) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (stored, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(du_at_once(root), Ordering::Relaxed);
                samples.fetch_add(1, Ordering::Relaxed);
            }
        });
        let workers: Vec<_> = (0..8_usize)
            .map(|t| {
                let (cache, stored, refused) = (&cache, &stored, &refused);
                scope.spawn(move || {
                    let (end, mut n) = (Instant::now() + Duration::from_secs(seconds), t * 7919);
                    while Instant::now() < end {
                        n = n
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        let (a, x) = (asset(&(n % 11).to_string()), path(&(n / 16 % 7).to_string()));
                        let lease = (n % 5 == 0).then(|| cache.lease(&a));
                        let version = vec![u8::try_from(n % 251).unwrap(); n / 256 % 30_000];
                        match cache.put_atomic(&a, &x, version.into()) {
                            Ok(()) => stored.fetch_add(1, Ordering::Relaxed),
                            Err(CacheError::CacheFull { .. }) => refused.fetch_add(1, Ordering::Relaxed),
                            Err(error) => panic!("{error:?}"),
                        };
                        if let Some(read) = cache.get(&asset(&(n / 2 % 11).to_string()), &x).unwrap() {
                            assert!(read.iter().all(|byte| *byte == read[0]));
                        }
                        drop(lease);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        for worker in ended {
            worker.unwrap();
        }
    });
    let (most, samples) = (most.into_inner(), samples.into_inner());
    assert!(most <= limit, "{most} bytes on disk");
    assert!(
        samples > 20 && most > limit / 2,
        "{samples} samples, at most {most}"
    );
    cache.checkpoint().unwrap();
    check(&cache, root);
    let (stored, refused) = (stored.into_inner(), refused.into_inner());
    assert!(stored > 20 * refused.min(5), "{stored} stored, {refused} refused");
}

/// Fault C5: what the disk says of a pin is what was asked last, though the index is being written all the while, and
/// so it stays.
#[test]
fn two_thousand_pins_and_unpins_end_as_asked() {
    let root = tempfile::tempdir().unwrap();
    let opened = ordered(root.path(), ROOM);
    opened.put_atomic(&asset("a"), &path("x"), bytes(10, 1)).unwrap();
    let pin = dir_of(root.path(), &asset("a")).join(".pin");
    thread::scope(|scope| {
        let rounds = scope.spawn(|| {
            for round in 0..2000 {
                let asked = if round % 2 == 0 {
                    opened.pin(&asset("a"))
                } else {
                    opened.unpin(&asset("a"))
                };
                asked.unwrap();
                assert_eq!(pin.exists(), round % 2 == 0);
                assert_eq!(opened.asset(&asset("a")).unwrap().unwrap().pinned, round % 2 == 0);
            }
        });
        while !rounds.is_finished() {
            opened.checkpoint().unwrap();
        }
    });
    check(&opened, root.path());
    opened.close();
    let reopened = ordered(root.path(), ROOM);
    assert!(!reopened.asset(&asset("a")).unwrap().unwrap().pinned && !pin.exists());
    check(&reopened, root.path());
}
const LIMIT: u64 = 20_000;
const ASSETS: u64 = 2;
const PATHS: u64 = 2;

fn shared(root: &Path) -> AssetCache {
    let builder = AssetCache::builder(root)
        .max_bytes(LIMIT)
        .durability(Durability::Ordered);
    builder.open_blocking().unwrap()
}

/// Bytes that files below `dir` take, holes left out.
fn disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let taken = |entry: io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            disk(&entry.path())
        } else {
            meta.len().min(meta.blocks() * 512)
        }
    };
    std::fs::read_dir(dir).unwrap().map(taken).sum()
}

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn fine<T>(done: Result<T, CacheError>) -> Option<T> {
    match done {
        Ok(done) => Some(done),
        Err(CacheError::CacheFull { .. } | CacheError::InUse { .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// One of the things an app does.
fn act(cache: &AssetCache, dice: &mut Dice) {
    let blocking = cache.blocking();
    let asset = asset(&dice.roll(ASSETS).to_string());
    let path = path(&dice.roll(PATHS).to_string());
    let len = usize::try_from(dice.roll(3000)).unwrap();
    let bytes = Bytes::from(vec![u8::try_from(len % 251).unwrap(); len]);
    match dice.roll(16) {
        0..6 => {
            fine(blocking.put_atomic(&asset, &path, bytes));
        }
        6 => {
            fine(blocking.remove_entry(&asset, &path));
        }
        7 => {
            fine(blocking.remove(&asset));
        }
        8 => {
            fine(blocking.pin(&asset));
        }
        9 => {
            fine(blocking.unpin(&asset));
        }
        10 => block_on(async {
            let Some(mut writer) = fine(cache.writer(&asset, &path).await) else {
                return;
            };
            let written = fine(writer.write(bytes).await);
            if written.is_some() && len % 3 > 0 {
                fine(writer.commit().await);
            }
        }),
        11 | 12 => {
            let Some(partial) = fine(blocking.partial(&asset, &path)).flatten() else {
                return;
            };
            let opened: Result<StreamingResource<io::Error>, _> = partial.open();
            let resource = match opened {
                Ok(resource) => resource,
                Err(StreamingError::Io { .. } | StreamingError::Committed { .. }) => return,
                Err(error) => panic!("{error:?}"),
            };
            let Ok(mut writer) = resource.writer() else { return };
            let written = writer.write_at(0, &bytes).is_ok();
            if written && len % 3 > 0 {
                // What an earlier session has beyond the end is in the way.
                let _ = partial.commit(&mut writer, len as u64);
            } else if written {
                let _ = writer.checkpoint();
            }
        }
        13 => {
            let lease = blocking.lease(&asset);
            fine(blocking.put_atomic(&asset, &path, bytes));
            drop(lease);
        }
        14 => {
            fine(blocking.checkpoint());
        }
        _ => {}
    }
    if let Some(read) = fine(blocking.get(&asset, &path)).flatten() {
        assert!(read.iter().all(|byte| *byte == read[0]));
    }
}

/// C3, C5: whatever threads do to the same few entries, afterwards each asset's figures are those of its files, and what is
/// counted is what is there; and so it is after a restart.
#[test]
fn whatever_threads_do_at_once_the_accounts_are_those_of_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let seed = std::env::var("KITHARA_SEED").map_or(1, |seed| seed.parse().unwrap());
    for session in 0..4 {
        let cache = shared(root.path());
        thread::scope(|scope| {
            for number in 0..8 {
                let cache = cache.clone();
                scope.spawn(move || {
                    let mut dice = Dice(seed * 1_000_003 + session * 101 + number);
                    for _ in 0..200 {
                        act(&cache, &mut dice);
                    }
                });
            }
        });
        block_on(cache.progress().finished());
        let check = |cache: &AssetCache, when: &str| {
            let stats = cache.blocking().stats().unwrap();
            let there = disk(&root.path().join("assets"));
            assert_eq!(there, stats.asset_bytes, "{when} of session {session}: {stats:?}");
            for info in cache.blocking().assets().unwrap() {
                let listed = cache.blocking().entries(&info.id).unwrap().len();
                assert_eq!(info.files, listed as u64, "{when} of session {session}: {info:?}");
            }
            assert!(stats.bytes <= LIMIT, "{stats:?}");
        };
        check(&cache, "at the end");
        block_on(cache.close());
        let cache = shared(root.path());
        block_on(cache.progress().finished());
        check(&cache, "after");
        block_on(cache.close());
    }
}

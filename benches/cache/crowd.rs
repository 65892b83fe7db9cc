//! Eight threads under a tight limit, watched by `du`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use kithara::cache::{CacheError, Durability};

use crate::measure::{Limit, asset, bar, content, disk, figure, open, path};

const MAX_BYTES: u64 = 4 << 20;

fn du(dir: &Path) -> u64 {
    let mut files = HashMap::new();
    walk(dir, &mut files);
    files.values().sum()
}

/// Each file once, also if it gets another name while we look: by its number.
fn walk(dir: &Path, files: &mut HashMap<u64, u64>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        match entry.path().symlink_metadata() {
            Ok(meta) if meta.is_dir() => walk(&entry.path(), files),
            Ok(meta) => {
                // In whole units, as entries count.
                files.insert(number(&meta), meta.len().next_multiple_of(4096));
            }
            Err(_) => {}
        }
    }
}

#[cfg(unix)]
fn number(meta: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn number(meta: &std::fs::Metadata) -> u64 {
    meta.created()
        .map_or(0, |at| at.elapsed().unwrap_or_default().as_nanos() as u64)
}

pub(crate) fn crowd() {
    let seconds = std::env::var("KITHARA_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(60);
    let dir = disk("crowd");
    let cache = open(&dir, MAX_BYTES, Durability::Full);
    let (stop, errors, gate) = (AtomicBool::new(false), AtomicU64::new(0), RwLock::new(()));
    let (mut most, mut most_seen) = (0, 0);
    let (puts, gets, hits, full, samples) = (
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let count = |counter: &AtomicU64| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let bytes = content(200_000);
    thread::scope(|scope| {
        for worker in 0..8_usize {
            let (cache, bytes, stop, gate) = (cache.blocking(), &bytes, &stop, &gate);
            let (puts, gets, hits, full, errors) = (&puts, &gets, &hits, &full, &errors);
            scope.spawn(move || {
                let mut n = worker * 7919;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let _turn = gate.read().unwrap();
                    let (id, path) = (asset(n >> 33 & 31), path(n >> 43 & 7));
                    let len = (n >> 20) % bytes.len();
                    let done = if n >> 60 < 6 {
                        count(puts);
                        cache.put_atomic(&id, &path, bytes.slice(..len))
                    } else {
                        count(gets);
                        cache.get(&id, &path).map(|read| {
                            if let Some(read) = read {
                                count(hits);
                                assert!(bytes.starts_with(&read), "a wrong byte");
                            }
                        })
                    };
                    match done {
                        Ok(()) => {}
                        Err(CacheError::CacheFull { .. }) => count(full),
                        Err(error) => {
                            println!("error {error:?}");
                            count(errors);
                        }
                    }
                }
            });
        }
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(seconds) {
            // While others put, a walk counts what has gone since and what has come since. What the disk holds at every
            // moment the tests see on a disk of their own; here it is seen between two calls.
            most_seen = most_seen.max(du(&dir));
            let closed = gate.write().unwrap();
            most = most.max(du(&dir));
            drop(closed);
            count(&samples);
        }
        stop.store(true, Ordering::Relaxed);
    });
    for (name, counter) in [
        ("puts", &puts),
        ("gets", &gets),
        ("hits", &hits),
        ("full", &full),
        ("samples", &samples),
    ] {
        figure(
            &format!("crowd_{name}"),
            counter.load(Ordering::Relaxed) as f64,
            "",
        );
    }
    bar(
        "crowd_errors",
        errors.load(Ordering::Relaxed) as f64,
        "",
        Limit::AtMost(0.0),
    );
    figure("crowd_most_seen_by_a_walk", most_seen as f64, " bytes");
    bar(
        "crowd_most_on_disk",
        most as f64,
        " bytes",
        Limit::AtMost(MAX_BYTES as f64),
    );
    cache.blocking().checkpoint().unwrap();
    let accounts = cache.blocking().stats().unwrap().asset_bytes;
    bar(
        "crowd_accounts_off_by",
        accounts.abs_diff(du(&dir.join("assets"))) as f64,
        " bytes",
        Limit::AtMost(0.0),
    );
    block_on(cache.close());
    let _ = std::fs::remove_dir_all(dir);
}

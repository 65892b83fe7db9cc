//! Rows of calls that alternate between what is compared, medians, and lines `bar NAME figure=… limit=… ok|short`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kithara::cache::{AssetCache, AssetId, CachePath, Durability};

/// What a figure must be.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

pub(crate) fn bar(name: &str, figure: f64, unit: &str, limit: Limit) {
    let (limit, met) = match limit {
        Limit::AtLeast(limit) => (limit, figure >= limit),
        Limit::AtMost(limit) => (limit, figure <= limit),
    };
    println!(
        "bar {name} figure={figure:.3}{unit} limit={limit}{unit} {}",
        if met { "ok" } else { "short" }
    );
}

/// A figure without a bar.
pub(crate) fn figure(name: &str, figure: f64, unit: &str) {
    println!("figure {name} {figure:.3}{unit}");
}

pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    let done = work();
    let took = started.elapsed();
    drop(done);
    took
}

pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Calls in a row of one and the same work. The first of them is not counted: what ran before left it names to sync and
/// a processor cache full of other bytes.
const ROW: usize = 5;

/// Times each of `works` in turns, a row of calls each, and gives the median of each in microseconds over about `calls`
/// calls. Work is told the number of its call.
pub(crate) fn medians<const N: usize>(calls: usize, mut works: [&mut dyn FnMut(usize); N]) -> [f64; N] {
    let mut samples = [const { Vec::new() }; N];
    for round in 0..=calls / (ROW - 1) {
        for (work, samples) in works.iter_mut().zip(&mut samples) {
            for call in 0..ROW {
                let took = timed(|| work(round * ROW + call));
                // The first rows warm up.
                if call > 0 && round > 0 {
                    samples.push(took.as_secs_f64() * 1e6);
                }
            }
        }
    }
    samples.map(median)
}

pub(crate) fn open(root: &Path, max_bytes: u64, durability: Durability) -> AssetCache {
    AssetCache::builder(root)
        .max_bytes(max_bytes)
        .durability(durability)
        .open_blocking()
        .unwrap()
}

/// A directory on the disk that builds go to: a temporary one may be in memory.
pub(crate) fn disk(name: &str) -> PathBuf {
    let dir = Path::new(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target/tmp")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

pub(crate) fn asset(number: usize) -> AssetId {
    AssetId::from_key(&format!("track {number}")).unwrap()
}

pub(crate) fn path(number: usize) -> CachePath {
    CachePath::parse(&format!("v1/seg-{number}.m4s")).unwrap()
}

/// Bytes that no file system stores smaller.
pub(crate) fn content(len: usize) -> Bytes {
    let mut state = 1_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect::<Vec<_>>().into()
}

/// A durable write as one would do it by hand: temporary file, data, fsync, rename, fsync of the directory.
pub(crate) fn by_hand(dir: &Path, name: &str, bytes: &[u8]) {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new_in(dir).unwrap();
    file.write_all(bytes).unwrap();
    file.as_file().sync_all().unwrap();
    file.persist(dir.join(name)).unwrap();
    std::fs::File::open(dir).unwrap().sync_all().unwrap();
}

//! One put, one get.

use std::hint::black_box;
use std::io::{Read as _, Write as _};

use atomicwrites::{AllowOverwrite, AtomicFile};
use futures_lite::future::block_on;
use kithara::cache::Durability;

use crate::measure::{Limit, asset, bar, by_hand, content, disk, figure, medians, open, path, timed};

const ROUNDS: usize = 300;
const MAX_BYTES: u64 = 10 << 30;

pub(crate) fn put() {
    let dir = disk("put");
    let cache = open(&dir.join("cache"), MAX_BYTES, Durability::Full);
    let plain = dir.join("plain");
    std::fs::create_dir(&plain).unwrap();
    for (size, name) in [(64 << 10, "64k"), (512 << 10, "512k")] {
        let bytes = content(size);
        let track = asset(size);
        let mut next = 0;
        let mut ours = |_| {
            // Always a new entry, as the others' are.
            next += 1;
            cache
                .blocking()
                .put_atomic(&track, &path(next), bytes.clone())
                .unwrap();
        };
        let mut hand = |round: usize| by_hand(&plain, &format!("{size}-{round}"), &bytes);
        let mut atomic = |round: usize| {
            AtomicFile::new(plain.join(format!("a{size}-{round}")), AllowOverwrite)
                .write(|file| file.write_all(&bytes))
                .unwrap();
        };
        let [put, other] = medians(ROUNDS, [&mut ours, &mut hand]);
        figure(&format!("put_full_{name}"), put, " us");
        bar(
            &format!("put_full_{name}_by_hand"),
            other / put,
            "x",
            Limit::AtLeast(0.9),
        );
        let [put, other] = medians(ROUNDS, [&mut ours, &mut atomic]);
        if size == 64 << 10 {
            bar("put_full_64k_atomic_file", other / put, "x", Limit::AtLeast(1.5));
        } else {
            figure("put_full_512k_atomic_file", other / put, "x");
        }
    }
    drop(cache);
    let _ = std::fs::remove_dir_all(dir);
}

pub(crate) fn get() {
    let dir = disk("get");
    let cache = open(&dir.join("cache"), MAX_BYTES, Durability::Ordered);
    for (size, name) in [(64 << 10, "64k"), (512 << 10, "512k")] {
        let bytes = content(size);
        let track = asset(size);
        let paths: Vec<_> = (0..16).map(path).collect();
        let id = track.name();
        // By hand the same files are read, but not those that were read just before.
        let files: Vec<_> = (0..16)
            .map(|n| dir.join(format!("cache/assets/{}/{id}/v1+seg-{n}.m4s", &id[..2])))
            .collect();
        for path in &paths {
            cache.blocking().put_atomic(&track, path, bytes.clone()).unwrap();
        }
        let [ours, hand] = medians(
            ROUNDS * 10,
            [
                &mut |round| {
                    let read = cache.blocking().get(&track, &paths[round % 16]).unwrap().unwrap();
                    assert_eq!(read.len(), size);
                },
                &mut |round| {
                    let mut file = std::fs::File::open(&files[(round + 8) % 16]).unwrap();
                    let mut read = Vec::new();
                    file.read_to_end(&mut read).unwrap();
                    // As many checksums as the entry has.
                    let sums = read[..size].chunks(128 << 10).map(crc32fast::hash);
                    black_box(sums.fold(0, |all, sum| all ^ sum));
                },
            ],
        );
        figure(&format!("get_{name}"), ours, " us");
        bar(
            &format!("get_{name}_by_hand"),
            hand / ours,
            "x",
            Limit::AtLeast(0.95),
        );
        let [blocking, hopping] = medians(
            ROUNDS * 10,
            [
                &mut |round| drop(cache.blocking().get(&track, &paths[round % 16]).unwrap().unwrap()),
                &mut |round| drop(block_on(cache.get(&track, &paths[round % 16])).unwrap().unwrap()),
            ],
        );
        bar(
            &format!("get_{name}_async_extra"),
            hopping - blocking,
            "us",
            Limit::AtMost(80.0),
        );
    }
    drop(cache);
    let _ = std::fs::remove_dir_all(dir);
}

/// Opening a cache of 2 MB with 500 MB of garbage in the place of its index (W48): the file is not read, and not unlinked before
/// the cache is open.
pub(crate) fn garbage() {
    const GARBAGE: usize = 500 << 20;
    let root = disk("garbage").join("cache");
    let mut times = Vec::new();
    let mut memory = 0.0_f64;
    for (round, name) in ["snapshot", "journal", "snapshot"].into_iter().enumerate() {
        block_on(open(&root, 2 << 20, Durability::Full).close());
        // The second time it begins as a snapshot does.
        let mut content = vec![7; GARBAGE / 65 * 65 + 22];
        if round == 2 {
            content[..9].copy_from_slice(b"kithsnap\x01");
        }
        std::fs::write(root.join("index").join(name), content).unwrap();
        // Twice: the first answer is of what came before.
        let (_, before) = (peak_memory(), peak_memory());
        let mut opened = None;
        let took = timed(|| opened = Some(open(&root, 2 << 20, Durability::Full)));
        memory = memory.max(peak_memory() - before);
        times.push(took.as_secs_f64() * 1e3);
        block_on(opened.unwrap().close());
        assert!(
            !root
                .join("index")
                .join(name)
                .metadata()
                .is_ok_and(|meta| meta.len() > 1 << 20)
        );
    }
    let worst = times.into_iter().fold(0.0, f64::max);
    bar("open-garbage", worst, "ms", Limit::AtMost(20.0));
    bar("open-garbage-memory", memory, "MiB", Limit::AtMost(4.0));
}

/// The most memory of this process so far since it was last asked, in MiB; 0 where that is not told.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Begins the peak anew, from what is in memory now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

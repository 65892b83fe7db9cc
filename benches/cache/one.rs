//! One put, one get.

use std::io::{Read as _, Write as _};

use atomicwrites::{AllowOverwrite, AtomicFile};
use futures_lite::future::block_on;
use kithara::cache::Durability;

use crate::measure::{Limit, asset, bar, by_hand, content, disk, figure, medians, open, path};

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
                    assert!(read.len() >= size);
                },
            ],
        );
        figure(&format!("get_{name}"), ours, " us");
        bar(
            &format!("get_{name}_by_hand"),
            hand / ours,
            "x",
            Limit::AtLeast(0.9),
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

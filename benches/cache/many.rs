//! A hundred thousand assets, a million files, a million uses.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_lite::future::block_on;
use kithara::cache::{
    AssetId, Durability, EvictingStore, EvictionPolicy as _, IndexStore, Lru, MemoryStore, Store as _,
    Timestamp,
};

use crate::measure::{Limit, asset, bar, content, disk, figure, median, medians, open, path, timed};

const MAX_BYTES: u64 = 1 << 40;
const ASSETS: usize = 100_000;
const FILES: usize = 10;

/// A root with that many assets of that many one-byte files, which is all that the accounts look at.
fn make(root: &Path, assets: usize, files: usize) {
    for n in 0..assets {
        make_asset(root, &asset(n), files);
    }
}

fn make_asset(root: &Path, id: &AssetId, files: usize) {
    let name = id.name();
    let dir = root.join("assets").join(&name[..2]).join(&name);
    fs::create_dir_all(&dir).unwrap();
    for file in 0..files {
        fs::write(dir.join(format!("seg-{file}")), b"x").unwrap();
    }
}

/// The root of a hundred thousand assets; made once.
fn big(files: usize) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cache-{ASSETS}x{files}"));
    if !root.join("made").exists() {
        let _ = fs::remove_dir_all(&root);
        make(&root, ASSETS, files);
        fs::write(root.join("made"), "").unwrap();
    }
    root
}

/// C4: the price of a put and of a touch where there are many assets.
pub(crate) fn many() {
    let dir = disk("many");
    let small = dir.join("small");
    make(&small, 100, 1);
    let large = big(1);
    let caches = [small, large].map(|root| open(&root, MAX_BYTES, Durability::Ordered));
    for cache in &caches {
        block_on(cache.progress().finished());
        cache.blocking().checkpoint().unwrap();
    }
    let bytes = content(16 << 10);
    let [small, large] = medians(
        1000,
        [
            &mut |round| {
                caches[0]
                    .blocking()
                    .put_atomic(&asset(round % 50), &path(0), bytes.clone())
                    .unwrap()
            },
            &mut |round| {
                caches[1]
                    .blocking()
                    .put_atomic(&asset(round % 50), &path(0), bytes.clone())
                    .unwrap()
            },
        ],
    );
    figure("put_at_100000_assets", large, " us");
    bar(
        "put_at_100000_against_100",
        large / small,
        "x",
        Limit::AtMost(1.1),
    );
    // The same fifty assets, so that it is the table that differs and not what the processor has at hand.
    let touch = |n: usize| {
        let ids: Vec<AssetId> = (0..50).map(asset).collect();
        for _ in 0..200 {
            for id in &ids {
                drop(black_box(caches[n].lease(id)));
            }
        }
    };
    let [small, large] = medians(50, [&mut |_| touch(0), &mut |_| touch(1)]);
    figure("lease_at_100000_assets", large / 10_000.0 * 1000.0, " ns");
    bar(
        "touch_at_100000_against_100",
        large / small,
        "x",
        Limit::AtMost(1.1),
    );
    for cache in caches {
        block_on(cache.close());
    }
    let _ = fs::remove_dir_all(dir);
}

/// Opening with a hundred thousand assets and a million files.
pub(crate) fn million() {
    let root = big(FILES);
    // The first open finds everything, and leaves an index. Directory times must be a minute old to be relied on: of a root
    // made just now every open looks at all again, after it serves.
    let cache = open(&root, MAX_BYTES, Durability::Ordered);
    let looked = timed(|| block_on(cache.progress().finished()));
    figure("look_at_1000000_files", looked.as_secs_f64() * 1000.0, " ms");
    block_on(cache.close());
    let (mut opens, mut serves, mut looks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..11 {
        let started = Instant::now();
        let cache = open(&root, MAX_BYTES, Durability::Ordered);
        opens.push(started.elapsed().as_secs_f64() * 1000.0);
        // Not a whole entry, but what would be answered is.
        assert!(cache.blocking().asset(&asset(77)).unwrap().is_some());
        let _ = cache.blocking().contains(&asset(5), &path(1)).unwrap();
        serves.push(started.elapsed().as_secs_f64() * 1000.0);
        let scanned = cache.progress().is_finished();
        block_on(cache.progress().finished());
        looks.push(started.elapsed().as_secs_f64() * 1000.0);
        assert!(!scanned, "it served before the look had ended");
        block_on(cache.close());
    }
    bar("open_1000000_files", median(opens), " ms", Limit::AtMost(20.0));
    figure("open_to_first_answer", median(serves), " ms");
    figure("open_to_end_of_look", median(looks), " ms");
}

/// Touching with a million assets.
pub(crate) fn touch() {
    let store = MemoryStore::new();
    let ids: Vec<AssetId> = (0..1_000_000).map(asset).collect();
    for id in &ids {
        store.set_pinned(id, true).unwrap();
        store.set_pinned(id, false).unwrap();
        store.put(id, &path(0), bytes::Bytes::from_static(b"x")).unwrap();
    }
    let index = IndexStore::scanned(store).unwrap();
    let accounts = index.accounts().clone();
    let _stack = EvictingStore::new(index, &accounts, Lru::new(), MAX_BYTES);
    for id in &ids {
        accounts.touch(id, Timestamp::default()).unwrap();
    }
    // Every asset once, in no order; and a few over and over, as players do.
    let order: Vec<AssetId> = (0..ids.len())
        .map(|n| ids[n * 7_368_787 % ids.len()].clone())
        .collect();
    let mut policy = Lru::new();
    policy.restored(
        ids.iter()
            .map(|id| (id.clone(), 1, Timestamp::default()))
            .collect(),
    );
    let few = || order.iter().take(100).cycle().take(order.len());
    let touch = |id: &AssetId| accounts.touch(id, Timestamp::default()).unwrap();
    let (mut all, mut alone, mut hot) = (Vec::new(), Vec::new(), Vec::new());
    let mut four = Vec::new();
    for _ in 0..5 {
        let each = |work: &mut dyn FnMut()| timed(work).as_secs_f64() * 1e9 / order.len() as f64;
        all.push(each(&mut || {
            for id in &order {
                touch(id);
            }
        }));
        four.push(each(&mut || {
            std::thread::scope(|scope| {
                for part in order.chunks(order.len() / 4) {
                    scope.spawn(move || part.iter().for_each(touch));
                }
            });
        }));
        alone.push(each(&mut || {
            for id in &order {
                policy.used(id, 1, Timestamp::default());
            }
        }));
        hot.push(each(&mut || {
            for id in few() {
                touch(id);
            }
        }));
    }
    bar(
        "touch_at_1000000_assets_in_no_order",
        median(all),
        " ns",
        Limit::AtMost(300.0),
    );
    figure(
        "touch_at_1000000_assets_in_no_order_four_threads",
        median(four),
        " ns",
    );
    figure(
        "touch_at_1000000_assets_in_no_order_lru_alone",
        median(alone),
        " ns",
    );
    bar(
        "touch_at_1000000_assets",
        median(hot),
        " ns",
        Limit::AtMost(200.0),
    );
}

/// From the call to the moment no reader finds it.
pub(crate) fn evict() {
    const ROUNDS: usize = 60;
    let dir = disk("evict");
    make(&dir, ROUNDS, 1000);
    let cache = open(&dir, MAX_BYTES, Durability::Full);
    block_on(cache.progress().finished());
    cache.blocking().checkpoint().unwrap();
    let gone = (0..ROUNDS)
        .map(|n| {
            let took = timed(|| {
                assert!(cache.blocking().remove(&asset(n)).unwrap());
                assert!(!cache.blocking().contains(&asset(n), &path(0)).unwrap());
            });
            // The trash of one is not in the way of the next.
            cache.blocking().checkpoint().unwrap();
            took.as_secs_f64() * 1e6
        })
        .collect();
    bar("evict_1000_files", median(gone), " us", Limit::AtMost(200.0));
    block_on(cache.close());
    let _ = fs::remove_dir_all(dir);
}

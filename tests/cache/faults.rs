//! What is done to a cache behind its back, and what several do to it at once (table C of the faults).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use kithara::cache::{
    AssetCache, AssetId, BlockingCache, CacheError, CachePath, Durability, FsStore, MaxAge, Never, Store as _,
};
use kithara_test_support::disk_bytes;

use crate::{asset, bytes, check, dir_of, path};

const ROOM: u64 = 50_000_000;

fn cache(root: &Path, max_bytes: u64) -> BlockingCache {
    let builder = AssetCache::builder(root)
        .max_bytes(max_bytes)
        .durability(Durability::Ordered);
    builder.open_blocking().unwrap().blocking().clone()
}

/// Bytes of files that were all there at one instant, the one between a walk that opens them and a second look at what
/// it opened: whatever is moved, removed or made meanwhile is not counted twice, nor what was never there together. An
/// inode that is open is given to no other file.
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

/// Three assets, one of them pinned, and the index as a kill leaves it and as a close does.
struct Killed {
    dir: tempfile::TempDir,
}

impl Killed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let first = cache(&root, ROOM);
        first.put_atomic(&asset("a"), &path("x"), bytes(100, 1)).unwrap();
        first.close();
        let second = cache(&root, ROOM);
        second.put_atomic(&asset("b"), &path("x"), bytes(200, 2)).unwrap();
        second.put_atomic(&asset("b"), &path("y"), bytes(300, 3)).unwrap();
        second.pin(&asset("c")).unwrap();
        drop(second.lease(&asset("a")));
        second.checkpoint().unwrap();
        copy(&root.join("index"), &dir.path().join("killed"));
        second.close();
        copy(&root.join("index"), &dir.path().join("closed"));
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Opens the cache with this in one file of the index, and finds everything.
    fn finds_everything_with(&self, index: &str, name: &str, content: &[u8]) {
        let root = self.root();
        let _ = fs::remove_dir_all(root.join("index"));
        copy(&self.dir.path().join(index), &root.join("index"));
        fs::write(root.join("index").join(name), content).unwrap();
        let cache = cache(&root, ROOM);
        for (a, p, wanted) in [
            ("a", "x", bytes(100, 1)),
            ("b", "x", bytes(200, 2)),
            ("b", "y", bytes(300, 3)),
        ] {
            assert_eq!(cache.get(&asset(a), &path(p)).unwrap().unwrap(), wanted);
        }
        block_on(cache.progress().finished());
        let stats = cache.stats().unwrap();
        assert_eq!((stats.assets, stats.entries, stats.pinned), (3, 3, 1));
        check(&cache, &root);
        cache.close();
    }
}

/// C3, fault C9: cut off at every byte, and a bit of every byte flipped.
#[test]
fn a_damaged_snapshot_loses_nothing() {
    let killed = Killed::new();
    for index in ["killed", "closed"] {
        let whole = fs::read(killed.dir.path().join(index).join("snapshot")).unwrap();
        for at in 0..whole.len() {
            killed.finds_everything_with(index, "snapshot", &whole[..at]);
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            killed.finds_everything_with(index, "snapshot", &flipped);
        }
    }
}

/// C3.
#[test]
fn a_damaged_journal_loses_nothing() {
    let killed = Killed::new();
    let whole = fs::read(killed.dir.path().join("killed/journal")).unwrap();
    assert!(whole.len() > 100, "{}", whole.len());
    for at in 0..whole.len() {
        killed.finds_everything_with("killed", "journal", &whole[..at]);
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        killed.finds_everything_with("killed", "journal", &flipped);
    }
}

/// C3: an index that is not one at all.
#[test]
fn a_foreign_index_loses_nothing() {
    let killed = Killed::new();
    let big = vec![0xff; 100_000];
    for name in ["snapshot", "journal"] {
        for content in [&b""[..], b"SQLite format 3", &big] {
            killed.finds_everything_with("killed", name, content);
        }
    }
    let (root, index) = (killed.root(), killed.root().join("index"));
    for replace in [
        |index: &Path| fs::create_dir_all(index.join("snapshot/x")).unwrap(),
        |index: &Path| fs::create_dir_all(index.join("journal/x")).unwrap(),
        |index: &Path| fs::create_dir_all(index.join(".snapshot/x")).unwrap(),
        |index: &Path| {
            fs::remove_dir_all(index).unwrap();
            fs::write(index, "a file").unwrap();
        },
    ] {
        let _ = fs::remove_dir_all(&index);
        fs::create_dir_all(&index).unwrap();
        replace(&index);
        let cache = cache(&root, ROOM);
        assert_eq!(cache.stats().unwrap().entries, 3);
        cache.put_atomic(&asset("d"), &path("x"), bytes(10, 1)).unwrap();
        cache.remove(&asset("d")).unwrap();
        cache.close();
        let _ = fs::remove_file(&index);
    }
}

type Damage<'a> = Box<dyn Fn() + 'a>;

/// C3, faults C13, C20: whatever stands in an entry's place without being it is a miss, is taken away, and a put
/// mends it.
#[test]
fn a_damaged_entry_is_a_miss_and_heals() {
    let root = tempfile::tempdir().unwrap();
    let cache = cache(root.path(), ROOM);
    let (a, x) = (asset("a"), path("x"));
    let file = dir_of(root.path(), &a).join("x");
    let outside = root.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    let damages: Vec<(&str, Damage<'_>)> = vec![
        ("emptied", Box::new(|| fs::write(&file, "").unwrap())),
        ("gone", Box::new(|| fs::remove_file(&file).unwrap())),
        ("foreign", Box::new(|| fs::write(&file, vec![7; 5000]).unwrap())),
        (
            "longer",
            Box::new(|| fs::write(&file, [fs::read(&file).unwrap(), vec![0; 9]].concat()).unwrap()),
        ),
        (
            "stretched",
            Box::new(|| {
                let whole = fs::read(&file).unwrap();
                fs::write(&file, [&whole[..500], b"more", &whole[500..]].concat()).unwrap();
            }),
        ),
        (
            "a symlink to another entry",
            Box::new(|| {
                fs::remove_file(&file).unwrap();
                std::os::unix::fs::symlink(file.with_file_name("other"), &file).unwrap();
            }),
        ),
        (
            "a directory",
            Box::new(|| {
                fs::remove_file(&file).unwrap();
                fs::create_dir_all(file.join("full/of")).unwrap();
                fs::write(file.join("full/of/things"), "x").unwrap();
            }),
        ),
        (
            "a symlink",
            Box::new(|| {
                fs::remove_file(&file).unwrap();
                std::os::unix::fs::symlink(&outside, &file).unwrap();
            }),
        ),
        (
            "a fifo",
            Box::new(|| {
                fs::remove_file(&file).unwrap();
                assert!(
                    std::process::Command::new("mkfifo")
                        .arg(&file)
                        .status()
                        .unwrap()
                        .success()
                );
            }),
        ),
        (
            "a socket",
            Box::new(|| {
                fs::remove_file(&file).unwrap();
                let _ = std::os::unix::net::UnixListener::bind(&file);
            }),
        ),
    ];
    for (what, damage) in &damages {
        for looked_at in [true, false] {
            cache.put_atomic(&a, &x, bytes(1000, 1)).unwrap();
            cache.put_atomic(&a, &path("other"), bytes(10, 2)).unwrap();
            damage();
            if looked_at {
                assert!(cache.get(&a, &x).unwrap().is_none(), "{what}");
                assert!(!cache.contains(&a, &x).unwrap(), "{what}");
                assert_eq!(cache.stats().unwrap().entries, 1, "{what}");
                check(&cache, root.path());
            }
            cache.put_atomic(&a, &x, bytes(2000, 3)).unwrap();
            assert_eq!(cache.get(&a, &x).unwrap().unwrap(), bytes(2000, 3), "{what}");
            assert_eq!(
                cache.get(&a, &path("other")).unwrap().unwrap(),
                bytes(10, 2),
                "{what}"
            );
        }
    }
    assert_eq!(fs::read(&outside).unwrap(), b"mine");
}

/// C3, fault C13: a directory in an entry's place counts until a put or a removal takes it away, and then no more.
#[test]
fn a_directory_in_an_entrys_place_counts_until_it_is_taken_away() {
    let root = tempfile::tempdir().unwrap();
    let (a, x) = (asset("a"), path("x"));
    let file = dir_of(root.path(), &a).join("x");
    for put in [true, false] {
        let _ = fs::remove_file(&file);
        fs::create_dir_all(file.join("full/of")).unwrap();
        fs::write(file.join("full/of/things"), bytes(1000, 1)).unwrap();
        let cache = cache(root.path(), ROOM);
        // Only the look at the disk finds it where the last session ended in order.
        block_on(cache.progress().finished());
        cache.put_atomic(&a, &path("other"), bytes(10, 2)).unwrap();
        check(&cache, root.path());
        assert!(cache.stats().unwrap().asset_bytes > 1000);
        if put {
            cache.put_atomic(&a, &x, bytes(20, 3)).unwrap();
        } else {
            assert!(!cache.remove_entry(&a, &x).unwrap());
        }
        check(&cache, root.path());
        assert!(cache.stats().unwrap().asset_bytes < 1000);
        cache.close();
    }
}

/// C3, C5, fault C13: a symlink in an entry's place is no version that a put could replace: the accounts stay true.
#[test]
fn a_symlink_in_an_entrys_place_is_replaced_and_was_never_counted() {
    let root = tempfile::tempdir().unwrap();
    let (a, x) = (asset("a"), path("x"));
    let dir = dir_of(root.path(), &a);
    fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink("/somewhere/else/altogether", dir.join("x")).unwrap();
    let cache = cache(root.path(), ROOM);
    cache.put_atomic(&a, &path("other"), bytes(1000, 1)).unwrap();
    cache.put_atomic(&a, &x, bytes(20, 2)).unwrap();
    check(&cache, root.path());
    assert_eq!(cache.asset(&a).unwrap().unwrap().files, 2);
}

/// C2: cut off at every byte, an entry is whole or absent.
#[test]
fn a_truncated_entry_is_never_served() {
    let root = tempfile::tempdir().unwrap();
    let cache = cache(root.path(), ROOM);
    let (a, x) = (asset("a"), path("x"));
    let file = dir_of(root.path(), &a).join("x");
    let payload = bytes(150, 9);
    cache.put_atomic(&a, &x, payload.clone()).unwrap();
    let whole = fs::read(&file).unwrap();
    for len in 0..whole.len() {
        fs::write(&file, &whole[..len]).unwrap();
        assert!(cache.get(&a, &x).unwrap().is_none(), "{len}");
    }
    // Flipped bits in the payload are what `get` and `verify` find; in the footer, what every open does.
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, flipped).unwrap();
        let got = cache.get(&a, &x).unwrap();
        assert!(
            got.is_none_or(|got| bit >= payload.len() * 8 && got == payload),
            "{bit}"
        );
        let entry = cache.open(&a, &x).unwrap();
        assert!(entry.is_none_or(|entry| !entry.verify(&a, &x).unwrap()), "{bit}");
    }
    fs::write(&file, whole).unwrap();
    assert_eq!(cache.get(&a, &x).unwrap().unwrap(), payload);
}

/// C3, fault C20: directories that disappear while the cache is open.
#[test]
fn directories_deleted_while_it_is_open_are_misses_and_come_back() {
    let root = tempfile::tempdir().unwrap();
    let cache = cache(root.path(), 100_000);
    let fill = |seed| {
        for a in ["a", "b", "c"] {
            cache
                .put_atomic(&asset(a), &path("x"), bytes(20_000, seed))
                .unwrap();
        }
    };
    for (round, gone) in ["assets", "trash", "index", "lock"].into_iter().enumerate() {
        let seed = u8::try_from(round).unwrap();
        fill(seed);
        let _ = fs::remove_dir_all(root.path().join(gone));
        for a in ["a", "b", "c"] {
            assert_eq!(
                cache.get(&asset(a), &path("x")).unwrap().is_none(),
                gone == "assets"
            );
        }
        check(&cache, root.path());
        cache
            .put_atomic(&asset("big"), &path("x"), bytes(80_000, seed))
            .unwrap();
        assert_eq!(
            cache.get(&asset("big"), &path("x")).unwrap().unwrap(),
            bytes(80_000, seed)
        );
        cache.checkpoint().unwrap();
        check(&cache, root.path());
        assert!(cache.remove(&asset("big")).unwrap());
        cache.checkpoint().unwrap();
    }
}

/// C3: a change in the same tick of the file system's clock as the record of it leaves no trace in the directory's
/// time, so young times are not relied on.
#[test]
fn a_change_within_a_tick_of_the_record_is_found() {
    let root = tempfile::tempdir().unwrap();
    let dir = dir_of(root.path(), &asset("a"));
    let first = cache(root.path(), ROOM);
    first.put_atomic(&asset("a"), &path("x"), bytes(1000, 1)).unwrap();
    first.put_atomic(&asset("a"), &path("y"), bytes(1000, 1)).unwrap();
    let time = fs::metadata(&dir).unwrap().modified().unwrap();
    first.close();
    fs::remove_file(dir.join("x")).unwrap();
    fs::File::open(&dir).unwrap().set_modified(time).unwrap();
    let second = cache(root.path(), ROOM);
    block_on(second.progress().finished());
    assert_eq!(second.stats().unwrap().entries, 1);
    check(&second, root.path());
}

/// C10: what is not ours stays, what a dead session left goes.
#[test]
fn opening_sweeps_our_leftovers_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let a = asset("a");
    let first = cache(root.path(), ROOM);
    first.put_atomic(&a, &path("x"), bytes(1000, 1)).unwrap();
    first.close();
    let dir = dir_of(root.path(), &a);
    let session = "0123456789abcdef";
    let ours = [
        dir.join(format!(".stage-{session}-7")),
        root.path().join(format!("trash/{}-{session}-3/x", a.name())),
        root.path().join("index/.snapshot"),
    ];
    let foreign = [
        dir.join(".stage-else"),
        dir.join("Thumbs.db"),
        dir.join("sub/file"),
        root.path().join("trash/mine/x"),
        root.path().join("trash/note.txt"),
        root.path().join("assets/zz/x"),
        root.path().join(format!("assets/00/{}", "f".repeat(64))),
        root.path().join("README"),
    ];
    for file in ours.iter().chain(&foreign) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "left").unwrap();
    }
    let second = cache(root.path(), ROOM);
    second.stats().unwrap();
    block_on(second.progress().finished());
    for file in &ours {
        assert!(!file.exists(), "{}", file.display());
    }
    for file in &foreign {
        assert!(file.exists(), "{}", file.display());
    }
    assert_eq!(second.get(&a, &path("x")).unwrap().unwrap(), bytes(1000, 1));
    // Foreign files in an asset's directory count with it, and go with it.
    let wanted = disk_bytes(&dir);
    assert_eq!(second.asset(&a).unwrap().unwrap().bytes, wanted);
}

/// C1, C10: an asset's folder in a place that is not its own is not its folder.
#[test]
fn a_folder_in_another_place_is_no_asset() {
    let root = tempfile::tempdir().unwrap();
    let store = FsStore::open(root.path(), Durability::Ordered).unwrap();
    store.put(&asset("a"), &path("x"), bytes(100, 1)).unwrap();
    let elsewhere = root.path().join("assets/zz").join(asset("a").name());
    copy(&dir_of(root.path(), &asset("a")), &elsewhere);
    let listed: Vec<_> = store.assets().unwrap().into_iter().map(|info| info.id).collect();
    assert_eq!(listed, [asset("a")]);
    assert!(elsewhere.join("x").exists());
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
    let cache = cache(root, limit);
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
    let opened = cache(root.path(), ROOM);
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
    let reopened = cache(root.path(), ROOM);
    assert!(!reopened.asset(&asset("a")).unwrap().unwrap().pinned && !pin.exists());
    check(&reopened, root.path());
}

/// C9: a handle that is dropped rather than closed frees the root all the same; a writer keeps it.
#[test]
fn a_dropped_cache_can_be_opened_again_at_once() {
    let root = tempfile::tempdir().unwrap();
    for n in 0..30 {
        let first = AssetCache::builder(root.path())
            .durability(Durability::Ordered)
            .open_blocking()
            .unwrap();
        first
            .blocking()
            .put_atomic(&asset(&n.to_string()), &path("x"), bytes(10, 1))
            .unwrap();
        let writer = block_on(first.writer(&asset("w"), &path("x"))).unwrap();
        drop(first);
        assert!(
            AssetCache::builder(root.path())
                .open_blocking()
                .unwrap_err()
                .is_locked()
        );
        drop(writer);
    }
    let cache = cache(root.path(), ROOM);
    assert_eq!(cache.stats().unwrap().entries, 30);
    check(&cache, root.path());
}

/// Fault C15: room for two segments is enough to play to the end, again and again.
#[test]
fn a_cache_of_two_segments_plays_to_the_end() {
    let root = tempfile::tempdir().unwrap();
    let cache = cache(root.path(), 45_000);
    for round in 0..3 {
        for n in 0..20 {
            let track = asset(&format!("segment {n}"));
            cache
                .put_atomic(&track, &path("x"), bytes(20_000, round))
                .unwrap();
            assert_eq!(
                cache.get(&track, &path("x")).unwrap().unwrap(),
                bytes(20_000, round)
            );
            assert!(disk_bytes(root.path()) <= 45_000);
        }
    }
}

/// C8: to the microsecond's order, through several sessions.
#[test]
fn recency_survives_a_close_exactly_and_a_kill_up_to_the_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let order = |cache: &BlockingCache| -> Vec<String> {
        cache
            .assets()
            .unwrap()
            .into_iter()
            .map(|info| info.id.name())
            .collect()
    };
    let first = cache(root.path(), ROOM);
    for n in 0..10 {
        first
            .put_atomic(&asset(&n.to_string()), &path("x"), bytes(10, 1))
            .unwrap();
    }
    for n in [3, 7, 1] {
        first.get(&asset(&n.to_string()), &path("x")).unwrap().unwrap();
    }
    let wanted = order(&first);
    assert_eq!(wanted[9], asset("1").name());
    first.close();
    let second = cache(root.path(), ROOM);
    assert_eq!(order(&second), wanted);
    // What the look at the disk writes down may say more than the checkpoint.
    block_on(second.progress().finished());
    second.get(&asset("5"), &path("x")).unwrap().unwrap();
    second.checkpoint().unwrap();
    let wanted = order(&second);
    second.get(&asset("6"), &path("x")).unwrap().unwrap();
    // What a kill now would leave.
    let killed = tempfile::tempdir().unwrap();
    copy(root.path(), killed.path());
    let third = cache(killed.path(), ROOM);
    assert_eq!(order(&third), wanted);
}

/// C4, fault C11: however many assets there are, a put adds a few bytes to the journal, and the snapshot stays as it is.
#[test]
fn the_index_is_not_rewritten_for_a_put() {
    let mut grown = Vec::new();
    for assets in [60, 500] {
        let root = tempfile::tempdir().unwrap();
        let index = root.path().join("index");
        let first = cache(root.path(), ROOM);
        for n in 0..assets {
            first
                .put_atomic(&asset(&n.to_string()), &path("x"), bytes(10, 1))
                .unwrap();
        }
        first.close();
        let second = cache(root.path(), ROOM);
        block_on(second.progress().finished());
        second.put_atomic(&asset("0"), &path("x"), bytes(20, 1)).unwrap();
        let snapshot = fs::read(index.join("snapshot")).unwrap();
        assert!(snapshot.len() > assets * 32);
        let journal = || fs::metadata(index.join("journal")).unwrap().len();
        let before = journal();
        for n in 0..30 {
            let id = asset(&n.to_string());
            second.put_atomic(&id, &path("y"), bytes(20, 1)).unwrap();
            second.get(&id, &path("y")).unwrap().unwrap();
        }
        grown.push(journal() - before);
        assert!(fs::read(index.join("snapshot")).unwrap() == snapshot);
        check(&second, root.path());
    }
    assert!(
        grown[0] > 0 && grown[0] == grown[1] && grown[1] < 30 * 200,
        "{grown:?}"
    );
}

/// C4: reads write nothing.
#[test]
fn a_session_of_reads_writes_nothing_until_its_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let first = cache(root.path(), ROOM);
    first.put_atomic(&asset("a"), &path("x"), bytes(10, 1)).unwrap();
    first.close();
    let before = fs::metadata(root.path().join("index"))
        .unwrap()
        .modified()
        .unwrap();
    let second = cache(root.path(), ROOM);
    block_on(second.progress().finished());
    for _ in 0..100 {
        second.get(&asset("a"), &path("x")).unwrap().unwrap();
        assert!(second.get(&asset("b"), &path("x")).unwrap().is_none());
    }
    assert_eq!(
        fs::metadata(root.path().join("index"))
            .unwrap()
            .modified()
            .unwrap(),
        before
    );
    assert!(!root.path().join("index/journal").exists());
}

/// C5: what was put under a larger limit goes when the cache is opened with a smaller one, but for what is pinned.
#[test]
fn a_smaller_limit_takes_effect_at_open() {
    let root = tempfile::tempdir().unwrap();
    let first = cache(root.path(), ROOM);
    for n in 0..20 {
        first
            .put_atomic(&asset(&n.to_string()), &path("x"), bytes(10_000, 1))
            .unwrap();
    }
    first.pin(&asset("0")).unwrap();
    first.close();
    let second = cache(root.path(), 60_000);
    second.checkpoint().unwrap();
    assert!(disk_bytes(root.path()) <= 60_000, "{}", disk_bytes(root.path()));
    assert!(
        second.contains(&asset("0"), &path("x")).unwrap()
            && second.contains(&asset("19"), &path("x")).unwrap()
    );
    second.close();
    let third = cache(root.path(), 5000);
    assert!(third.contains(&asset("0"), &path("x")).unwrap());
    let error = third
        .put_atomic(&asset("n"), &path("x"), bytes(100, 1))
        .unwrap_err();
    assert!(matches!(error, CacheError::CacheFull { .. }), "{error}");
    third.unpin(&asset("0")).unwrap();
    third.put_atomic(&asset("n"), &path("x"), bytes(100, 1)).unwrap();
}

#[test]
fn what_is_too_old_goes_at_a_checkpoint_and_never_means_never() {
    let root = tempfile::tempdir().unwrap();
    let builder = AssetCache::builder(root.path().join("age")).policy(MaxAge::new(Duration::ZERO));
    let aged = builder.open_blocking().unwrap().blocking().clone();
    for n in ["old", "leased", "pinned"] {
        aged.put_atomic(&asset(n), &path("x"), bytes(10, 1)).unwrap();
    }
    let lease = aged.lease(&asset("leased"));
    aged.pin(&asset("pinned")).unwrap();
    aged.checkpoint().unwrap();
    let there = |n: &str| aged.contains(&asset(n), &path("x")).unwrap();
    assert!(!there("old") && there("leased") && there("pinned"));
    drop(lease);
    aged.checkpoint().unwrap();
    assert!(!there("leased") && there("pinned"));

    let builder = AssetCache::builder(root.path().join("never"))
        .max_bytes(40_000)
        .policy(Never);
    let never = builder.open_blocking().unwrap().blocking().clone();
    never
        .put_atomic(&asset("a"), &path("x"), bytes(20_000, 1))
        .unwrap();
    assert!(
        never
            .put_atomic(&asset("b"), &path("x"), bytes(20_000, 1))
            .unwrap_err()
            .is_full()
    );
    assert!(never.contains(&asset("a"), &path("x")).unwrap());
}

/// C14.
#[test]
fn everything_is_for_its_owner_only_and_no_name_tells_a_query() {
    use std::os::unix::fs::PermissionsExt as _;
    fn walk(dir: &Path, names: &mut Vec<String>) {
        assert_eq!(
            dir.metadata().unwrap().permissions().mode() & 0o777,
            0o700,
            "{}",
            dir.display()
        );
        for entry in fs::read_dir(dir).unwrap().flatten() {
            names.push(entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), names);
            } else {
                assert_eq!(
                    entry.metadata().unwrap().permissions().mode() & 0o777,
                    0o600,
                    "{:?}",
                    entry.path()
                );
            }
        }
    }
    let root = tempfile::tempdir().unwrap();
    let root = root.path().join("cache");
    let cache = cache(&root, ROOM);
    let url = url::Url::parse("https://user:hunter2@host/a/seg.m4s?token=hunter2#hunter2").unwrap();
    let (a, x) = (AssetId::from_url(&url), CachePath::from_url(&url));
    cache.put_atomic(&a, &x, bytes(10, 1)).unwrap();
    cache.pin(&a).unwrap();
    cache.checkpoint().unwrap();
    let mut names = Vec::new();
    walk(&root, &mut names);
    assert!(names.iter().any(|name| name.ends_with("-seg.m4s")));
    assert!(names.iter().all(|name| !name.contains("hunter2")));
    let file = fs::read(dir_of(&root, &a).join(x.as_str())).unwrap();
    assert!(!String::from_utf8_lossy(&file).contains("hunter2"));
    assert!(!format!("{cache:?} {a:?} {x:?}").contains("hunter2"));
}

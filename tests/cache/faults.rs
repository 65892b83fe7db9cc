//! What is done to a cache's files from outside, and what the cache does then (table C of the faults).

use std::fs;
use std::path::{Path, PathBuf};

use futures_lite::future::block_on;
use kithara::cache::{Durability, FsStore, Store as _};
use kithara_test_support::{disk_bytes, disk_room};

use crate::{ROOM, asset, bytes, check, copy, dir_of, ordered, path};

/// Three assets, one of them pinned, and the index as a kill leaves it and as a close does.
struct Killed {
    dir: tempfile::TempDir,
}

impl Killed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let first = ordered(&root, ROOM);
        first.put_atomic(&asset("a"), &path("x"), bytes(100, 1)).unwrap();
        first.close();
        let second = ordered(&root, ROOM);
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
        let cache = ordered(&root, ROOM);
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
        let cache = ordered(&root, ROOM);
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
    let cache = ordered(root.path(), ROOM);
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
        for checked_at in [true, false] {
            cache.put_atomic(&a, &x, bytes(1000, 1)).unwrap();
            cache.put_atomic(&a, &path("other"), bytes(10, 2)).unwrap();
            damage();
            if checked_at {
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
        fs::write(file.join("full/of/things"), bytes(9000, 1)).unwrap();
        let cache = ordered(root.path(), ROOM);
        // If the last session ended in order, only the scan finds it.
        block_on(cache.progress().finished());
        cache.put_atomic(&a, &path("other"), bytes(10, 2)).unwrap();
        check(&cache, root.path());
        assert!(cache.stats().unwrap().asset_bytes > 9000);
        if put {
            cache.put_atomic(&a, &x, bytes(20, 3)).unwrap();
        } else {
            assert!(!cache.remove_entry(&a, &x).unwrap());
        }
        check(&cache, root.path());
        assert!(cache.stats().unwrap().asset_bytes < 9000);
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
    let cache = ordered(root.path(), ROOM);
    cache.put_atomic(&a, &path("other"), bytes(1000, 1)).unwrap();
    cache.put_atomic(&a, &x, bytes(20, 2)).unwrap();
    check(&cache, root.path());
    assert_eq!(cache.asset(&a).unwrap().unwrap().files, 2);
}

/// C3, fault C13: such a symlink that is removed was no entry, and is taken out of nothing.
#[test]
fn a_symlink_in_an_entrys_place_that_is_removed_was_never_counted() {
    let root = tempfile::tempdir().unwrap();
    let (a, x) = (asset("a"), path("x"));
    let cache = ordered(root.path(), ROOM);
    cache.put_atomic(&a, &path("other"), bytes(1000, 1)).unwrap();
    let link = dir_of(root.path(), &a).join("x");
    std::os::unix::fs::symlink("/somewhere/else/altogether", &link).unwrap();
    assert!(!cache.remove_entry(&a, &x).unwrap());
    assert!(link.symlink_metadata().is_err());
    check(&cache, root.path());
    assert_eq!(cache.asset(&a).unwrap().unwrap().files, 1);
}

/// Puts each thing in the trash's place that nothing can be moved into: nothing, a file, a symlink to nowhere.
fn without_trash(mut then: impl FnMut(&Path, &dyn Fn())) {
    let breaks: [fn(&Path); 3] = [
        |_| {},
        |trash| fs::write(trash, "").unwrap(),
        |trash| std::os::unix::fs::symlink("nowhere", trash).unwrap(),
    ];
    for put_there in breaks {
        let root = tempfile::tempdir().unwrap();
        then(root.path(), &|| {
            let trash = root.path().join("trash");
            fs::remove_dir_all(&trash).unwrap();
            put_there(&trash);
        });
    }
}

/// C5, fault C20: without a trash an evicted asset goes all the same, and the disk stays within the limit.
#[test]
fn an_asset_is_evicted_also_where_the_trash_is_no_directory() {
    without_trash(|root, take_trash| {
        let cache = ordered(root, 100_000);
        let names = ["a", "b", "c", "d"];
        cache
            .put_atomic(&asset("0"), &path("x"), bytes(60_000, 0))
            .unwrap();
        take_trash();
        for name in names {
            cache
                .put_atomic(&asset(name), &path("x"), bytes(60_000, 1))
                .unwrap();
            assert!(disk_bytes(root) <= 100_000, "{} bytes", disk_bytes(root));
        }
        assert!(cache.get(&asset("0"), &path("x")).unwrap().is_none());
        check(&cache, root);
    });
}

/// C2, faults C13, C20: without a trash a directory in an entry's place gives way to a put all the same.
#[test]
fn a_put_displaces_a_directory_also_where_the_trash_is_none() {
    without_trash(|root, take_trash| {
        let cache = ordered(root, ROOM);
        let (a, x) = (asset("a"), path("x"));
        cache.put_atomic(&a, &path("other"), bytes(1000, 1)).unwrap();
        let dir = dir_of(root, &a).join("x");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("foreign"), "foreign").unwrap();
        take_trash();
        cache.put_atomic(&a, &x, bytes(20, 2)).unwrap();
        assert_eq!(cache.get(&a, &x).unwrap().unwrap(), bytes(20, 2));
        check(&cache, root);
    });
}

/// C10, C11: foreign directories beside the assets are not listed, so they need not be readable.
#[test]
fn what_cannot_be_listed_beside_the_assets_fails_no_scan() {
    let root = tempfile::tempdir().unwrap();
    let assets = root.path().join("assets");
    fs::create_dir(&assets).unwrap();
    for name in ["foreign", "0G", "AB", "abc"] {
        // Not even root can list a symlink to itself.
        std::os::unix::fs::symlink(name, assets.join(name)).unwrap();
    }
    let cache = ordered(root.path(), ROOM);
    cache.put_atomic(&asset("a"), &path("x"), bytes(100, 1)).unwrap();
    check(&cache, root.path());
}

/// C2: cut off at every byte, an entry is whole or absent.
#[test]
fn a_truncated_entry_is_never_served() {
    let root = tempfile::tempdir().unwrap();
    let cache = ordered(root.path(), ROOM);
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
    let cache = ordered(root.path(), 100_000);
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
    let first = ordered(root.path(), ROOM);
    first.put_atomic(&asset("a"), &path("x"), bytes(1000, 1)).unwrap();
    first.put_atomic(&asset("a"), &path("y"), bytes(1000, 1)).unwrap();
    let time = fs::metadata(&dir).unwrap().modified().unwrap();
    first.close();
    fs::remove_file(dir.join("x")).unwrap();
    fs::File::open(&dir).unwrap().set_modified(time).unwrap();
    let second = ordered(root.path(), ROOM);
    block_on(second.progress().finished());
    assert_eq!(second.stats().unwrap().entries, 1);
    check(&second, root.path());
}

/// C10: foreign files stay, and what a killed session left is removed.
#[test]
fn opening_sweeps_our_leftovers_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let a = asset("a");
    let first = ordered(root.path(), ROOM);
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
    let second = ordered(root.path(), ROOM);
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
    let wanted = disk_room(&dir);
    assert_eq!(second.asset(&a).unwrap().unwrap().bytes, wanted);
}

/// C1, C10: an asset's folder in a place that is not its own is not its folder.
#[test]
fn a_folder_in_another_place_is_no_asset() {
    let root = tempfile::tempdir().unwrap();
    let store = FsStore::open(root.path(), Durability::Ordered).unwrap();
    store.put(&asset("a"), &path("x"), bytes(100, 1)).unwrap();
    let name = asset("a").name();
    let another = if name.starts_with("00") { "01" } else { "00" };
    for shard in ["zz", another] {
        let elsewhere = root.path().join("assets").join(shard).join(&name);
        copy(&dir_of(root.path(), &asset("a")), &elsewhere);
        let listed: Vec<_> = store.list().unwrap().into_iter().map(|info| info.id).collect();
        assert_eq!(listed, [asset("a")], "{shard}");
        assert!(elsewhere.join("x").exists());
    }
}

//! W25, W50, W52: the lock of a root, and what may stand in the places of its files, on the real file system.

use kithara::cache::CacheError;

use super::*;

fn put(cache: &AssetCache, name: &str) -> Result<(), CacheError> {
    cache.blocking().put_atomic(
        &AssetId::from_key(name).unwrap(),
        &CachePath::parse("x").unwrap(),
        bytes(1000, 1),
    )
}

fn open(root: &Path) -> Result<AssetCache, CacheError> {
    AssetCache::builder(root).open_blocking()
}

fn is_there(cache: &AssetCache, name: &str) -> bool {
    let entry = cache
        .blocking()
        .get(&AssetId::from_key(name).unwrap(), &CachePath::parse("x").unwrap());
    entry.unwrap().is_some()
}

/// W50, C9: the lock file is deleted and nobody comes. The cache goes on, and no second one gets in.
#[test]
fn w50_a_cache_whose_lock_file_is_deleted_goes_on_and_stays_alone() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path()).unwrap();
    put(&cache, "a").unwrap();
    fs::remove_file(root.path().join("lock")).unwrap();
    put(&cache, "b").unwrap();
    assert!(open(root.path()).unwrap_err().is_locked());
    assert!(is_there(&cache, "a") && is_there(&cache, "b"));
}

/// W50, C9: the lock file is deleted, and another cache opens the root. What the first one is writing stays for now, and
/// counts; the first one is told, writes nothing more, and reads on.
#[test]
fn w50_a_cache_that_has_lost_its_root_writes_no_more_and_its_staged_files_stay() {
    let root = tempfile::tempdir().unwrap();
    let first = open(root.path()).unwrap();
    put(&first, "a").unwrap();
    let (asset, path) = (AssetId::from_key("b").unwrap(), CachePath::parse("x").unwrap());
    let mut writer = futures_lite::future::block_on(first.writer(&asset, &path)).unwrap();
    futures_lite::future::block_on(writer.write(bytes(2 << 20, 2))).unwrap();
    fs::remove_file(root.path().join("lock")).unwrap();
    let second = open(root.path()).unwrap();
    put(&second, "c").unwrap();
    let staged = || {
        let names = fs::read_dir(dir_of(root.path(), &asset)).unwrap();
        names
            .flatten()
            .any(|name| name.file_name().to_string_lossy().starts_with(".stage"))
    };
    assert!(staged());
    assert!(second.blocking().asset(&asset).unwrap().unwrap().bytes >= 2 << 20);
    assert!(put(&first, "d").unwrap_err().is_locked());
    assert!(
        first
            .blocking()
            .remove(&asset)
            .is_err_and(|error| error.is_locked() || error.is_in_use())
    );
    assert!(first.blocking().pin(&asset).unwrap_err().is_locked());
    assert!(
        futures_lite::future::block_on(writer.commit())
            .unwrap_err()
            .is_locked()
    );
    assert!(is_there(&first, "a") && is_there(&second, "a"));
    first.blocking().clone().close();
    drop(first);
    second.blocking().clone().close();
    futures_lite::future::block_on(second.close());
}

/// W50, C10: what is left over is swept as ever where the lock file is the one that its writer held, or where it is old, or so
/// far in the future that its time says nothing.
#[test]
fn w50_leftovers_are_swept_if_their_writer_is_known_to_be_dead_or_they_are_old() {
    let (now, hours) = (
        std::time::SystemTime::now(),
        std::time::Duration::from_secs(2 * 3600),
    );
    for (lock, written, swept) in [
        (true, now, true),
        (false, now, false),
        (false, now - hours, true),
        (false, now + hours, true),
    ] {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path()).unwrap();
        put(&cache, "a").unwrap();
        futures_lite::future::block_on(cache.close());
        let dir = dir_of(root.path(), &AssetId::from_key("a").unwrap());
        let staged = dir.join(".stage-0123456789abcdef-0");
        fs::write(&staged, "left over").unwrap();
        let staged_file = fs::File::options().write(true).open(&staged).unwrap();
        staged_file
            .set_times(fs::FileTimes::new().set_modified(written))
            .unwrap();
        if !lock {
            fs::remove_file(root.path().join("lock")).unwrap();
        }
        let cache = open(root.path()).unwrap();
        futures_lite::future::block_on(cache.progress().finished());
        assert_eq!(!staged.exists(), swept, "lock {lock}, {written:?}");
        check(cache.blocking(), root.path());
    }
}

/// W25: an ordinary file system lacks nothing.
#[test]
fn w25_an_ordinary_file_system_lacks_nothing() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path()).unwrap();
    put(&cache, "a").unwrap();
    assert!(cache.missing_protection().is_empty() && !cache.is_read_only());
    let memory = AssetCache::memory(1 << 20);
    assert!(memory.missing_protection().is_empty() && !memory.is_read_only());
}

/// W50, C10: a partial file without a record is in use by the cache that lost its root, and is not removed under it.
#[test]
fn w50_a_partial_file_that_another_cache_writes_stays() {
    let root = tempfile::tempdir().unwrap();
    let first = open(root.path()).unwrap();
    let (asset, path) = (AssetId::from_key("b").unwrap(), CachePath::parse("x").unwrap());
    let partial = first.blocking().partial(&asset, &path).unwrap().unwrap();
    let resource = partial.open::<std::io::Error>().unwrap();
    let mut writer = resource.writer().unwrap();
    writer.write_at(0, &bytes(5000, 2)).unwrap();
    fs::remove_file(root.path().join("lock")).unwrap();
    let second = open(root.path()).unwrap();
    let file = dir_of(root.path(), &asset).join(".part-x");
    assert_eq!(
        second.blocking().asset(&asset).unwrap().unwrap().bytes,
        disk_room(&file)
    );
    assert!(file.exists());
    let error = partial.commit(&mut writer, 5000).unwrap_err();
    assert!(error.to_string().contains("commit"), "{error}");
    drop((writer, resource, partial, first));
}

/// Puts something at a path.
type Make<'a> = Box<dyn Fn(&Path) + 'a>;
/// What it is, and how it is made.
type Garbage<'a> = (&'static str, &'a dyn Fn(&Path));

/// What may stand in the place of a file or folder of the cache's. `elsewhere` is a folder of somebody else's.
fn strangers(elsewhere: &Path) -> Vec<(&'static str, Make<'_>)> {
    use std::os::unix::{fs::symlink, net::UnixListener};
    vec![
        (
            "link to a file",
            Box::new(move |at| symlink(elsewhere.join("file"), at).unwrap()),
        ),
        (
            "link to a folder",
            Box::new(move |at| symlink(elsewhere, at).unwrap()),
        ),
        (
            "dangling link",
            Box::new(move |at| symlink("nowhere", at).unwrap()),
        ),
        (
            "socket",
            Box::new(move |at| drop(UnixListener::bind(at).unwrap())),
        ),
        (
            "folder",
            Box::new(move |at| fs::create_dir_all(at.join("inner")).unwrap()),
        ),
        (
            "fifo",
            Box::new(move |at| {
                let made = std::process::Command::new("mkfifo").arg(at).status();
                assert!(made.unwrap().success());
            }),
        ),
    ]
}

/// A folder of somebody else's, with one file in it.
fn elsewhere() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "another's").unwrap();
    dir
}

fn untouched(elsewhere: &Path) {
    let names: Vec<_> = fs::read_dir(elsewhere)
        .unwrap()
        .flatten()
        .map(|name| name.file_name())
        .collect();
    assert_eq!(names, ["file"]);
    assert_eq!(fs::read(elsewhere.join("file")).unwrap(), b"another's");
}

fn remove(at: &Path) {
    let _ = fs::remove_file(at).or_else(|_| fs::remove_dir_all(at));
}

/// W49, C7: whatever stood in the pin's place, a pin that answers Ok is there in the next session.
#[test]
fn w49_a_pin_is_a_file_whatever_stood_in_its_place() {
    let other = elsewhere();
    for (what, make) in strangers(other.path()) {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path()).unwrap();
        put(&cache, "a").unwrap();
        let asset = asset("a");
        make(&dir_of(root.path(), &asset).join(".pin"));
        cache
            .blocking()
            .pin(&asset)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        futures_lite::future::block_on(cache.close());
        let cache = open(root.path()).unwrap();
        assert!(cache.blocking().asset(&asset).unwrap().unwrap().pinned, "{what}");
        assert!(cache.blocking().remove(&asset).unwrap_err().is_in_use(), "{what}");
        // Nor is it in the way of the opposite.
        remove(&dir_of(root.path(), &asset).join(".pin"));
        make(&dir_of(root.path(), &asset).join(".pin"));
        cache
            .blocking()
            .unpin(&asset)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(cache.blocking().remove(&asset).unwrap(), "{what}");
        untouched(other.path());
    }
}

/// W52: what stands in the place of a partial file or of its record is neither followed nor in the way.
#[test]
fn w52_a_partial_entry_is_begun_whatever_stands_in_its_place() {
    let other = elsewhere();
    for name in [".part-x", ".part-x~ranges", ".part-x~staged"] {
        for (what, make) in strangers(other.path()) {
            let what = format!("{what} as {name}");
            let root = tempfile::tempdir().unwrap();
            let cache = open(root.path()).unwrap();
            put(&cache, "a").unwrap();
            let (asset, path) = (asset("a"), path("x"));
            let place = dir_of(root.path(), &asset).join(name);
            make(&place);
            let partial = cache.blocking().partial(&asset, &path).unwrap().unwrap();
            let resource = partial
                .open::<std::io::Error>()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            let mut writer = resource.writer().unwrap();
            writer
                .write_at(0, &bytes(5000, 2))
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            writer
                .checkpoint()
                .run()
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(
                place
                    .with_file_name(".part-x")
                    .symlink_metadata()
                    .unwrap()
                    .is_file(),
                "{what}"
            );
            partial
                .commit(&mut writer, 5000)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            drop((writer, resource, partial));
            assert_eq!(
                cache.blocking().get(&asset, &path).unwrap().unwrap(),
                bytes(5000, 2),
                "{what}"
            );
            untouched(other.path());
        }
    }
}

/// W52: a partial file, or its record, that has another name too: what that name stands for is not written to.
#[test]
fn w52_a_partial_file_with_another_name_is_not_written_in_place() {
    for name in [".part-x", ".part-x~ranges"] {
        let (root, other) = (tempfile::tempdir().unwrap(), elsewhere());
        let cache = open(root.path()).unwrap();
        let (asset, path) = (asset("a"), path("x"));
        let begin = |seed| {
            let partial = cache.blocking().partial(&asset, &path).unwrap().unwrap();
            let resource = partial.open::<std::io::Error>().unwrap();
            let mut writer = resource.writer().unwrap();
            let present = writer.available();
            writer.write_at(0, &bytes(5000, seed)).unwrap();
            writer.write_at(9000, &bytes(100, seed)).unwrap();
            writer.checkpoint().run().unwrap();
            present
        };
        assert_eq!(begin(1), []);
        let (ours, theirs) = (
            dir_of(root.path(), &asset).join(name),
            other.path().join("theirs"),
        );
        fs::hard_link(&ours, &theirs).unwrap();
        let before = fs::read(&theirs).unwrap();
        // A record that is replaced by a rename does no harm: its partial file is gone on with.
        let present = begin(2);
        assert_eq!(present.is_empty(), name == ".part-x", "{present:?}");
        assert_eq!(fs::read(&theirs).unwrap(), before, "{name}");
        fs::remove_file(&theirs).unwrap();
        // The record of a file that was cut is forgotten: by its name alone.
        fs::hard_link(dir_of(root.path(), &asset).join(".part-x~ranges"), &theirs).unwrap();
        let before = fs::read(&theirs).unwrap();
        let partial = fs::File::options()
            .write(true)
            .open(dir_of(root.path(), &asset).join(".part-x"));
        partial.unwrap().set_len(10).unwrap();
        assert_eq!(begin(3), []);
        assert_eq!(fs::read(&theirs).unwrap(), before, "{name}");
        remove(&theirs);
        untouched(other.path());
    }
}

/// W52: links in the places of folders are not followed. What is in them is not touched, and the cache works.
#[test]
fn w52_folders_of_the_cache_are_folders_whatever_stood_in_their_place() {
    let shard = asset("a").name()[..2].to_owned();
    let of_asset = format!("assets/{shard}/{}", asset("a").name());
    for folder in ["assets", "trash", "index", &format!("assets/{shard}"), &of_asset] {
        let other = elsewhere();
        for (what, make) in strangers(other.path()) {
            // A folder in a folder's place is none of anybody's business.
            if what == "folder" {
                continue;
            }
            let what = format!("{what} as {folder}");
            let root = tempfile::tempdir().unwrap();
            let cache = open(root.path()).unwrap();
            put(&cache, "a").unwrap();
            put(&cache, "b").unwrap();
            futures_lite::future::block_on(cache.close());
            let place = root.path().join(folder);
            fs::remove_dir_all(&place).unwrap();
            make(&place);
            let cache = open(root.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
            futures_lite::future::block_on(cache.progress().finished());
            put(&cache, "a").unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(is_there(&cache, "a"), "{what}");
            assert!(cache.blocking().remove(&asset("a")).unwrap(), "{what}");
            put(&cache, "c").unwrap();
            cache.blocking().checkpoint().unwrap();
            check(cache.blocking(), root.path());
            futures_lite::future::block_on(cache.close());
            assert!(
                place.symlink_metadata().is_ok_and(|meta| meta.is_dir()) || folder == of_asset,
                "{what}"
            );
            untouched(other.path());
        }
    }
}

/// W52, C5: what stands under a shard's name and is no folder is counted nowhere, and so it goes. A link is not followed.
#[test]
fn w52_what_stands_under_the_name_of_a_shard_is_removed() {
    let other = elsewhere();
    let mut strangers = strangers(other.path());
    strangers.retain(|(what, _)| *what != "folder");
    strangers.push(("file", Box::new(|at| fs::write(at, vec![0; 100_000]).unwrap())));
    for (what, make) in strangers {
        let root = tempfile::tempdir().unwrap();
        futures_lite::future::block_on(open(root.path()).unwrap().close());
        let place = root.path().join("assets/00");
        make(&place);
        let cache = open(root.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        futures_lite::future::block_on(cache.progress().finished());
        assert!(place.symlink_metadata().is_err(), "{what}");
        untouched(other.path());
    }
}

/// W47, C3: garbage in the place of index files, more than half of the limit each. No asset is evicted for it, and no put refused.
#[test]
fn w47_a_garbage_index_evicts_nothing_and_refuses_nothing() {
    const LIMIT: u64 = 200_000;
    let garbage: [Garbage<'_>; 5] = [
        ("of zeros", &|at| fs::write(at, vec![0; 150_000]).unwrap()),
        ("that begins right", &|at| {
            let mut bytes = b"kithsnap\x01".to_vec();
            bytes.resize(22 + 65 * 2000, 7);
            fs::write(at, bytes).unwrap();
        }),
        ("longer than the limit", &|at| {
            fs::File::create(at).unwrap().set_len(3 << 30).unwrap();
        }),
        ("a folder", &|at| {
            fs::create_dir(at).unwrap();
            fs::write(at.join("a"), vec![0; 150_000]).unwrap();
        }),
        ("nothing at all", &|_| {}),
    ];
    for name in ["snapshot", "journal"] {
        for (what, make) in garbage {
            let root = tempfile::tempdir().unwrap();
            let cache = super::open(root.path(), LIMIT);
            for n in 0..8 {
                cache
                    .put_atomic(&asset(&n.to_string()), &path("x"), bytes(20_000, n))
                    .unwrap();
            }
            cache.close();
            let place = root.path().join("index").join(name);
            remove(&place);
            make(&place);
            let cache = super::open(root.path(), LIMIT);
            cache
                .put_atomic(&asset("9"), &path("x"), bytes(10_000, 9))
                .unwrap();
            for n in 0..8 {
                assert!(
                    cache.contains(&asset(&n.to_string()), &path("x")).unwrap(),
                    "{what} as {name}: {n}"
                );
            }
            cache.checkpoint().unwrap();
            check(&cache, root.path());
            cache.close();
            // The next index is one.
            let cache = super::open(root.path(), LIMIT);
            assert_eq!(cache.assets().unwrap().len(), 9);
        }
    }
}

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

/// W50, C10: what is left over is swept as ever where the lock file is the one that its writer held, or where it is old.
#[test]
fn w50_leftovers_are_swept_if_their_writer_is_known_to_be_dead_or_they_are_old() {
    for (lock, old, swept) in [(true, false, true), (false, false, false), (false, true, true)] {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path()).unwrap();
        put(&cache, "a").unwrap();
        futures_lite::future::block_on(cache.close());
        let dir = dir_of(root.path(), &AssetId::from_key("a").unwrap());
        let staged = dir.join(".stage-0123456789abcdef-0");
        fs::write(&staged, "left over").unwrap();
        if old {
            let times = fs::FileTimes::new()
                .set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200));
            fs::File::options()
                .write(true)
                .open(&staged)
                .unwrap()
                .set_times(times)
                .unwrap();
        }
        if !lock {
            fs::remove_file(root.path().join("lock")).unwrap();
        }
        let cache = open(root.path()).unwrap();
        futures_lite::future::block_on(cache.progress().finished());
        assert_eq!(!staged.exists(), swept, "lock {lock}, old {old}");
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
        disk_bytes(&file)
    );
    assert!(file.exists());
    let error = partial.commit(&mut writer, 5000).unwrap_err();
    assert!(error.to_string().contains("commit"), "{error}");
    drop((writer, resource, partial, first));
}

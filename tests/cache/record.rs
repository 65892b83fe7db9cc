//! W41: an asset's key and its record, told by what is on the disk.

use std::fs;

use bytes::Bytes;
use kithara::cache::{AssetCache, AssetId, BlockingCache, CacheError, CachePath, MemoryStore};
use url::Url;

use crate::{ROOM, asset, bytes, check, dir_of, ordered, path};

fn keys(cache: &BlockingCache) -> Vec<Option<String>> {
    let key = |id: &AssetId| id.key().map(str::to_owned);
    cache.assets().unwrap().iter().map(|info| key(&info.id)).collect()
}

fn in_memory() -> BlockingCache {
    let builder = AssetCache::builder("").store(MemoryStore::new());
    builder.open_blocking().unwrap().blocking().clone()
}

/// W41: keys of the app's own and URLs, of assets with entries, with a record alone, and with both.
#[test]
fn w41_a_listing_after_a_restart_knows_the_keys() {
    let root = tempfile::tempdir().unwrap();
    let url = AssetId::from_url(&Url::parse("https://host/track.m3u8?token=1").unwrap());
    let all = [asset("entries"), url, asset("record"), asset("both")];
    let cache = ordered(root.path(), ROOM);
    for id in &all[..2] {
        cache.put_atomic(id, &path("x"), bytes(10, 1)).unwrap();
    }
    for id in &all[2..] {
        cache.set_record(id, "title".into()).unwrap();
    }
    cache.put_atomic(&all[3], &path("x"), bytes(10, 1)).unwrap();
    cache.pin(&asset("pin alone")).unwrap();
    let mut due: Vec<_> = all.iter().map(|id| id.key().map(str::to_owned)).collect();
    due.push(None);
    assert_eq!(keys(&cache), due);
    cache.close();
    for index in ["kept", "lost"] {
        let cache = ordered(root.path(), ROOM);
        let mut found = keys(&cache);
        found.sort_by_key(|key| due.iter().position(|other| other == key));
        assert_eq!(found, due, "{index}");
        // As an app finds it by what a listing says.
        let id = AssetId::from_name(&all[0].name()).unwrap();
        assert_eq!(cache.asset(&id).unwrap().unwrap().id.key(), Some("entries"));
        cache.close();
        fs::remove_dir_all(root.path().join("index")).unwrap();
    }
}

/// W41, C14, C3: a key that is another's is not told; and none is shown in a log.
#[test]
fn w41_a_key_that_is_not_the_assets_is_not_told() {
    let root = tempfile::tempdir().unwrap();
    let cache = ordered(root.path(), ROOM);
    let (a, b) = (asset("a?secret"), asset("b"));
    for id in [&a, &b] {
        cache.put_atomic(id, &path("x"), bytes(10, 1)).unwrap();
    }
    fs::copy(
        dir_of(root.path(), &a).join("x"),
        dir_of(root.path(), &b).join("x"),
    )
    .unwrap();
    assert_eq!(keys(&cache), [Some("a?secret".to_owned()), None]);
    assert!(!format!("{:?}", cache.assets().unwrap()).contains("secret"));
}

/// W41: read, replaced and removed, on the disk and in memory; and never listed among the entries.
#[test]
fn w41_a_record_is_what_was_set_last() {
    let root = tempfile::tempdir().unwrap();
    let a = asset("a");
    for cache in [ordered(root.path(), ROOM), in_memory()] {
        assert_eq!(cache.record(&a).unwrap(), None);
        for len in [1, 4096, 17] {
            cache.set_record(&a, bytes(len, 3)).unwrap();
            assert_eq!(cache.record(&a).unwrap(), Some(bytes(len, 3)));
        }
        let error = cache.set_record(&a, bytes(4097, 3)).unwrap_err();
        assert!(matches!(
            error,
            CacheError::RecordTooLong {
                len: 4097,
                max_bytes: 4096
            }
        ));
        assert_eq!(cache.record(&a).unwrap(), Some(bytes(17, 3)));
        assert!(cache.entries(&a).unwrap().is_empty());
        assert_eq!(cache.stats().unwrap().entries, 1);
        cache.set_record(&a, Bytes::new()).unwrap();
        assert_eq!(cache.record(&a).unwrap(), None);
        assert!(cache.assets().unwrap().is_empty());
        cache.set_record(&a, "again".into()).unwrap();
        assert!(cache.remove(&a).unwrap());
        assert_eq!(cache.record(&a).unwrap(), None);
    }
    check(&ordered(root.path(), ROOM), root.path());
}

/// W41, C3: a record that is damaged, or of a later version, is none.
#[test]
fn w41_a_record_that_cannot_be_read_is_none() {
    let root = tempfile::tempdir().unwrap();
    let cache = ordered(root.path(), ROOM);
    let (a, stored) = (asset("a"), CachePath::parse(".record").unwrap());
    cache
        .put_atomic(&a, &stored, Bytes::from_static(&[2, 7]))
        .unwrap();
    assert_eq!(cache.record(&a).unwrap(), None);
    assert!(cache.contains(&a, &stored).unwrap());
    cache.set_record(&a, "title".into()).unwrap();
    let file = fs::read_dir(dir_of(root.path(), &a))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let mut damaged = fs::read(file.path()).unwrap();
    damaged[2] ^= 1;
    fs::write(file.path(), damaged).unwrap();
    assert_eq!(cache.record(&a).unwrap(), None);
    check(&cache, root.path());
}

/// C5, C6: a record counts, leaves with its asset, and is no access.
#[test]
fn a_record_counts_and_leaves_with_its_asset_and_reading_it_is_no_access() {
    let root = tempfile::tempdir().unwrap();
    let cache = ordered(root.path(), 100_000);
    let [first, second, third] = ["first", "second", "third"].map(asset);
    for id in [&first, &second] {
        cache.put_atomic(id, &path("x"), bytes(30_000, 1)).unwrap();
    }
    let before = cache.stats().unwrap().bytes;
    cache.set_record(&first, bytes(4000, 1)).unwrap();
    assert!(cache.stats().unwrap().bytes >= before + 4000);
    cache.record(&first).unwrap().unwrap();
    check(&cache, root.path());
    cache.put_atomic(&third, &path("x"), bytes(40_000, 1)).unwrap();
    assert_eq!(cache.record(&first).unwrap(), None, "evicted with its asset");
    assert!(cache.contains(&second, &path("x")).unwrap());
    let leases = [cache.lease(&second), cache.lease(&third)];
    cache.put_atomic(&second, &path("y"), bytes(24_000, 1)).unwrap();
    assert!(cache.set_record(&second, bytes(4000, 1)).unwrap_err().is_full());
    drop(leases);
    check(&cache, root.path());
}

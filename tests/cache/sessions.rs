//! What one session leaves to the next, and what it costs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_lite::future::block_on;
use kithara::cache::{AssetCache, AssetId, BlockingCache, CacheError, CachePath, Durability, MaxAge, Never};
use kithara_test_support::disk_bytes;

use crate::{ROOM, asset, bytes, check, copy, dir_of, ordered, path};

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
    let cache = ordered(root.path(), ROOM);
    assert_eq!(cache.stats().unwrap().entries, 30);
    check(&cache, root.path());
}

/// Fault C15: room for two segments is enough to play to the end, again and again.
#[test]
fn a_cache_of_two_segments_plays_to_the_end() {
    let root = tempfile::tempdir().unwrap();
    let cache = ordered(root.path(), 45_000);
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
    let first = ordered(root.path(), ROOM);
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
    let second = ordered(root.path(), ROOM);
    assert_eq!(order(&second), wanted);
    // What the scan writes down may say more than the checkpoint.
    block_on(second.progress().finished());
    second.get(&asset("5"), &path("x")).unwrap().unwrap();
    second.checkpoint().unwrap();
    let wanted = order(&second);
    second.get(&asset("6"), &path("x")).unwrap().unwrap();
    // What a kill now would leave.
    let killed = tempfile::tempdir().unwrap();
    copy(root.path(), killed.path());
    let third = ordered(killed.path(), ROOM);
    assert_eq!(order(&third), wanted);
}

/// C4, fault C11: however many assets there are, a put adds a few bytes to the journal, and the snapshot stays as it is.
#[test]
fn the_index_is_not_rewritten_for_a_put() {
    let mut grown = Vec::new();
    for assets in [60, 500] {
        let root = tempfile::tempdir().unwrap();
        let index = root.path().join("index");
        let first = ordered(root.path(), ROOM);
        for n in 0..assets {
            first
                .put_atomic(&asset(&n.to_string()), &path("x"), bytes(10, 1))
                .unwrap();
        }
        first.close();
        let second = ordered(root.path(), ROOM);
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
    let first = ordered(root.path(), ROOM);
    first.put_atomic(&asset("a"), &path("x"), bytes(10, 1)).unwrap();
    first.close();
    let before = fs::metadata(root.path().join("index"))
        .unwrap()
        .modified()
        .unwrap();
    let second = ordered(root.path(), ROOM);
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
    let first = ordered(root.path(), ROOM);
    for n in 0..20 {
        first
            .put_atomic(&asset(&n.to_string()), &path("x"), bytes(10_000, 1))
            .unwrap();
    }
    first.pin(&asset("0")).unwrap();
    first.close();
    let second = ordered(root.path(), 60_000);
    second.checkpoint().unwrap();
    assert!(disk_bytes(root.path()) <= 60_000, "{}", disk_bytes(root.path()));
    assert!(
        second.contains(&asset("0"), &path("x")).unwrap()
            && second.contains(&asset("19"), &path("x")).unwrap()
    );
    second.close();
    let third = ordered(root.path(), 5000);
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
    let cache = ordered(&root, ROOM);
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

//! C5, C6, C7: the limit, measured on the disk and not from the accounts.

use bytes::Bytes;
use kithara::cache::{AssetCache, CacheError};
use kithara_test_support::disk_bytes;

use crate::{asset, check, open, path};

fn bytes(len: usize) -> Bytes {
    crate::bytes(len, 0)
}

/// C5, faults C1, C2: 50 files an asset, and the disk decides.
#[test]
fn fifty_files_an_asset_stay_under_the_limit() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 300_000);
    for a in 0..6 {
        for n in 0..50 {
            cache
                .put_atomic(
                    &asset(&format!("track {a}")),
                    &path(&format!("seg-{n}")),
                    bytes(2000),
                )
                .unwrap();
            check(&cache, root.path());
        }
    }
    assert!(cache.get(&asset("track 5"), &path("seg-0")).unwrap().is_some());
    assert!(cache.get(&asset("track 0"), &path("seg-0")).unwrap().is_none());
}

/// C6: as many as needed, the least recently used first.
#[test]
fn one_put_evicts_several_assets_the_least_recently_used_first() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 100_000);
    for a in 0..9 {
        cache
            .put_atomic(&asset(&a.to_string()), &path("x"), bytes(10_000))
            .unwrap();
    }
    cache.get(&asset("0"), &path("x")).unwrap().unwrap();
    cache
        .put_atomic(&asset("big"), &path("x"), bytes(40_000))
        .unwrap();
    let there = |a: &str| cache.contains(&asset(a), &path("x")).unwrap();
    assert!(there("0") && there("big") && there("8"));
    assert!(!there("1") && !there("2") && !there("3"));
    assert!(disk_bytes(root.path()) <= 100_000);
}

/// C8, fault C24: nor does it where the asset is one of an earlier session, of which nothing was used yet.
#[test]
fn an_asset_of_an_earlier_session_that_is_written_to_keeps_its_place() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 66_000);
    for a in ["written", "played", "last"] {
        cache.put_atomic(&asset(a), &path("x"), bytes(15_000)).unwrap();
    }
    cache.close();
    let cache = open(root.path(), 66_000);
    cache
        .put_atomic(&asset("written"), &path("y"), bytes(5_000))
        .unwrap();
    cache
        .put_atomic(&asset("new"), &path("x"), bytes(25_000))
        .unwrap();
    let there = |a: &str| cache.contains(&asset(a), &path("x")).unwrap();
    assert!(!there("written") && there("played") && there("last") && there("new"));
}

/// C5, C7: a pin takes room while it is there, and none when it is gone.
#[test]
fn pins_that_come_and_go_leave_all_the_room_there_was() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 40_000);
    for n in 0..500 {
        cache.pin(&asset(&n.to_string())).unwrap();
        cache.unpin(&asset(&n.to_string())).unwrap();
    }
    cache.put_atomic(&asset("a"), &path("x"), bytes(20_000)).unwrap();
    check(&cache, root.path());
}

/// C5, C7: pins fill the cache like all else, and are refused when nothing can go for them.
#[test]
fn pins_fill_the_cache_and_are_refused_when_it_is_full() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 40_000);
    let refused = (0..500).find_map(|n| cache.pin(&asset(&n.to_string())).err());
    assert!(
        matches!(refused, Some(CacheError::CacheFull { .. })),
        "{refused:?}"
    );
    check(&cache, root.path());
}

/// C6, C7, faults C4, C16, C17.
#[test]
fn leased_and_pinned_assets_stay_and_the_put_that_does_not_fit_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 50_000);
    for a in ["leased", "pinned", "free"] {
        cache.put_atomic(&asset(a), &path("x"), bytes(15_000)).unwrap();
    }
    let lease = cache.lease(&asset("leased"));
    let second = cache.lease(&asset("leased"));
    cache.pin(&asset("pinned")).unwrap();
    let error = cache
        .put_atomic(&asset("new"), &path("x"), bytes(30_000))
        .unwrap_err();
    let CacheError::CacheFull { max_bytes, held, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(max_bytes, 50_000);
    assert!(held > 30_000 && held < 50_000, "{held}");
    assert!(
        cache.contains(&asset("free"), &path("x")).unwrap(),
        "a refusal removes nothing"
    );
    check(&cache, root.path());

    drop(lease);
    assert!(
        cache
            .put_atomic(&asset("new"), &path("x"), bytes(30_000))
            .is_err()
    );
    assert!(cache.remove(&asset("leased")).unwrap_err().is_in_use());
    drop(second);
    cache
        .put_atomic(&asset("new"), &path("x"), bytes(30_000))
        .unwrap();
    assert!(cache.contains(&asset("pinned"), &path("x")).unwrap());
    assert!(!cache.contains(&asset("leased"), &path("x")).unwrap());
}

/// C6: a put asks for all its room at once.
#[test]
fn a_put_that_is_refused_evicts_nothing_even_where_its_first_bytes_would_fit() {
    let root = tempfile::tempdir().unwrap();
    // No room for an index, which would take some of the little that is left.
    let cache = open(root.path(), 30_000);
    cache.put_atomic(&asset("free"), &path("x"), bytes(7900)).unwrap();
    cache
        .put_atomic(&asset("pinned"), &path("x"), bytes(22_000))
        .unwrap();
    cache.pin(&asset("pinned")).unwrap();
    assert!(
        cache
            .put_atomic(&asset("new"), &path("x"), bytes(9000))
            .unwrap_err()
            .is_full()
    );
    assert!(cache.contains(&asset("free"), &path("x")).unwrap());
}

/// Fault C24: what a prefetcher commits does not count as use, not even when room was made for it.
#[test]
fn an_asset_that_is_only_written_to_does_not_outlive_a_played_one() {
    for leased in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path(), 66_000);
        for a in ["written", "evicted", "played"] {
            cache.put_atomic(&asset(a), &path("x"), bytes(20_000)).unwrap();
        }
        let lease = leased.then(|| cache.lease(&asset("written")));
        for a in ["evicted", "played"] {
            cache.get(&asset(a), &path("x")).unwrap().unwrap();
        }
        let there = |a: &str| cache.contains(&asset(a), &path("x")).unwrap();
        // The oldest is in use, so the next goes.
        cache
            .put_atomic(&asset("written"), &path("y"), bytes(10_000))
            .unwrap();
        assert!(there("written") && !there("evicted") && there("played"));
        drop(lease);
        cache
            .put_atomic(&asset("new"), &path("x"), bytes(25_000))
            .unwrap();
        assert!(!there("written") && there("played") && there("new"));
    }
}

/// Fault C3, C23.
#[test]
fn overwrites_count_their_difference() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 100_000);
    for len in [30_000, 10, 45_000, 0, 45_000, 20_000] {
        cache.put_atomic(&asset("a"), &path("x"), bytes(len)).unwrap();
        assert_eq!(cache.get(&asset("a"), &path("x")).unwrap().unwrap(), bytes(len));
        check(&cache, root.path());
        assert_eq!(cache.stats().unwrap().entries, 1);
    }
}

/// C2, fault B13.
#[test]
fn a_dropped_writer_leaves_nothing_and_a_committed_one_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let cache = AssetCache::builder(root.path())
        .max_bytes(5_000_000)
        .open_blocking()
        .unwrap();
    let (a, x) = (asset("a"), path("x"));
    futures_lite::future::block_on(async {
        let empty = cache.stats().await.unwrap();
        let mut writer = cache.writer(&a, &x).await.unwrap();
        writer.write(bytes(600_000)).await.unwrap();
        assert!(!cache.contains(&a, &x).await.unwrap());
        assert!(
            disk_bytes(root.path()) >= 600_000
                && cache.stats().await.unwrap().bytes >= disk_bytes(root.path())
        );
        drop(writer);
        cache.checkpoint().await.unwrap();
        assert_eq!(disk_bytes(root.path().join("assets")), 0);
        assert_eq!(cache.stats().await.unwrap(), empty);

        let mut writer = cache.writer(&a, &x).await.unwrap();
        let mut whole = Vec::new();
        for n in 0..3000 {
            whole.extend_from_slice(&bytes(n % 700));
            writer.write(bytes(n % 700)).await.unwrap();
        }
        writer.commit().await.unwrap();
        assert_eq!(cache.get(&a, &x).await.unwrap().unwrap(), whole);
        let mut reader = cache.open(&a, &x).await.unwrap().unwrap();
        cache.remove(&a).await.unwrap();
        let mut read = Vec::new();
        while let Some(chunk) = reader.next_chunk().await.unwrap() {
            assert!(chunk.len() <= 256 * 1024);
            read.extend_from_slice(&chunk);
        }
        assert_eq!(read, whole, "who has it open reads on");
        assert!(cache.get(&a, &x).await.unwrap().is_none());
        cache.checkpoint().await.unwrap();
        assert_eq!(cache.stats().await.unwrap(), empty);
    });
}

/// C9, fault C26.
#[test]
fn a_second_cache_on_the_same_root_is_refused_until_the_first_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let first = open(root.path(), 1000);
    let second = AssetCache::builder(root.path()).open_blocking();
    assert!(second.unwrap_err().is_locked());
    drop(first);
    open(root.path(), 1000);
}

/// C3, C7: what is there is found again, pins included, leases not.
#[test]
fn a_reopened_cache_has_its_entries_and_pins() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 100_000);
    for a in ["a", "b"] {
        cache
            .put_atomic(&asset(a), &path("dir/x"), bytes(30_000))
            .unwrap();
    }
    cache.pin(&asset("a")).unwrap();
    let lease = cache.lease(&asset("b"));
    let before = cache.stats().unwrap();
    drop(cache);
    std::mem::forget(lease);
    let cache = open(root.path(), 100_000);
    let after = cache.stats().unwrap();
    assert_eq!(
        (after.bytes, after.entries, after.pinned, after.leased),
        (before.bytes, 2, 1, 0)
    );
    cache.put_atomic(&asset("c"), &path("x"), bytes(60_000)).unwrap();
    assert!(cache.contains(&asset("a"), &path("dir/x")).unwrap());
    assert!(!cache.contains(&asset("b"), &path("dir/x")).unwrap());
}

/// W12, C30: the limit of an open cache. Below what is pinned all else goes, and writes are refused until it is raised again.
#[test]
fn w12_a_lowered_limit_takes_all_that_may_go() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 200_000);
    for a in ["pinned", "leased", "free", "newest"] {
        cache.put_atomic(&asset(a), &path("x"), bytes(40_000)).unwrap();
    }
    cache.pin(&asset("pinned")).unwrap();
    let there = |a: &str| cache.contains(&asset(a), &path("x")).unwrap();
    // As far as needed, and no further.
    cache.set_max_bytes(140_000).unwrap();
    assert!(!there("leased") && there("free"), "the least recently used first");
    check(&cache, root.path());
    cache
        .put_atomic(&asset("leased"), &path("x"), bytes(10_000))
        .unwrap();
    let lease = cache.lease(&asset("leased"));
    cache.set_max_bytes(20_000).unwrap();
    assert!(there("pinned") && there("leased") && !there("free") && !there("newest"));
    assert_eq!(cache.stats().unwrap().max_bytes, 20_000);
    let full = cache.put_atomic(&asset("new"), &path("x"), bytes(10));
    assert!(full.unwrap_err().is_full());
    drop(lease);
    cache.set_max_bytes(200_000).unwrap();
    cache
        .put_atomic(&asset("new"), &path("x"), bytes(100_000))
        .unwrap();
    assert!(there("pinned") && there("new"));
    check(&cache, root.path());
}

/// W12, C30: the same where the cache is opened with a limit below what is pinned.
#[test]
fn w12_a_limit_below_what_is_pinned_takes_all_else_at_open() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 200_000);
    for a in ["pinned", "free"] {
        cache.put_atomic(&asset(a), &path("x"), bytes(40_000)).unwrap();
    }
    cache.pin(&asset("pinned")).unwrap();
    cache.close();
    let cache = open(root.path(), 35_000);
    cache.checkpoint().unwrap();
    let there = |a: &str| cache.contains(&asset(a), &path("x")).unwrap();
    assert!(there("pinned") && !there("free"));
}

/// W11, C33: an entry that never ends does not empty the cache: it evicts a quarter of the limit at most. What fits is kept.
#[test]
fn w11_a_write_of_unknown_length_evicts_its_share_and_no_more() {
    let root = tempfile::tempdir().unwrap();
    let cache = AssetCache::builder(root.path())
        .max_bytes(4_000_000)
        .open_blocking()
        .unwrap();
    futures_lite::future::block_on(async {
        for n in 0..38 {
            let id = asset(&n.to_string());
            cache.put_atomic(&id, &path("x"), bytes(100_000)).await.unwrap();
        }
        let mut endless = cache.writer(&asset("endless"), &path("x")).await.unwrap();
        let refused = loop {
            if let Err(error) = endless.write(bytes(50_000)).await {
                break error;
            }
        };
        assert!(refused.is_full(), "{refused}");
        drop(endless);
        cache.checkpoint().await.unwrap();
        let left = cache.stats().await.unwrap().assets;
        assert!((28..35).contains(&left), "{left}");

        let mut short = cache.writer(&asset("short"), &path("x")).await.unwrap();
        for _ in 0..30 {
            short.write(bytes(50_000)).await.unwrap();
        }
        short.commit().await.unwrap();
        check(cache.blocking(), root.path());
    });
}

/// W11, C33: what can never fit evicts nothing, and says so before its first byte.
#[test]
fn w11_a_put_larger_than_the_cache_evicts_nothing() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 100_000);
    for a in ["a", "b"] {
        cache.put_atomic(&asset(a), &path("x"), bytes(30_000)).unwrap();
    }
    let huge = cache.put_atomic(&asset("huge"), &path("x"), bytes(100_001));
    assert!(huge.unwrap_err().is_full());
    assert_eq!(cache.stats().unwrap().entries, 2);
}

/// W51, C14: a key may be a URL with its query.
#[test]
fn w51_what_is_listed_shows_no_key_to_a_log() {
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path(), 100_000);
    let id = asset("https://host/track?token=hunter2");
    cache.put_atomic(&id, &path("x"), bytes(10)).unwrap();
    let entries = cache.entries(&id).unwrap();
    assert_eq!(entries[0].asset_key.as_deref(), id.key());
    let shown = format!("{entries:?} {:?}", cache.assets().unwrap());
    assert!(!shown.contains("hunter2") && shown.contains("len"), "{shown}");
}

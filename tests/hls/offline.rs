//! H5: offline there is no connection attempt at all, and what is missing has a name.

use std::fmt::Write as _;

use kithara::cache::AssetCache;
use kithara::hls::{HlsError, HlsParams, ResourceKind, VariantChoice};
use kithara_test_support::Server;

use crate::rig::{Cache, Tape, Track, builder, offline, online, play};

fn missing(tape: &Tape) -> ResourceKind {
    let HlsError::OfflineMiss { resource } = tape.failed() else {
        panic!("{:?}", tape.error)
    };
    assert!(tape.failed().is_offline_miss() && !tape.failed().is_transient());
    resource.kind()
}

/// The server runs, and nobody connects to it.
#[test]
fn an_empty_cache_is_a_miss_without_a_connection() {
    let track = Track::plain(&[1000]);
    let tape = play(&track.list(), Cache::new().word_params(), offline());
    assert_eq!(missing(&tape), ResourceKind::Playlist);
    assert_eq!(track.server.connections(), 0);
}

/// What is missing in the middle is missed in the middle, whatever it is.
#[test]
fn each_kind_of_resource_is_missed_by_name() {
    for (path, kind, delivered) in [
        ("list.m3u8", ResourceKind::Playlist, 0),
        ("key", ResourceKind::Key, 0),
        ("1.ts", ResourceKind::Segment { media_sequence: 1 }, 1000),
    ] {
        let track = Track::encrypted(&[1000, 1000]);
        let cache = Cache::new();
        play(&track.list(), cache.word_params(), online()).whole();
        let connections = track.server.connections();
        let resource =
            kithara::cache::CachePath::from_url(&crate::rig::url(&track.server.url(&format!("/t/{path}"))));
        let asset = kithara::cache::AssetId::from_url(&crate::rig::url(&track.list()));
        futures_lite::future::block_on(cache.cache.remove_entry(&asset, &resource)).unwrap();
        let tape = play(&track.list(), cache.word_params(), offline());
        assert_eq!((missing(&tape), tape.bytes.len()), (kind, delivered));
        assert_eq!(track.server.connections(), connections);
    }
}

/// Three Variant Streams of two segments each, by bandwidth 2, 3, 1.
fn tree() -> Server {
    let server = Server::empty().unwrap();
    let mut master = "#EXTM3U\n".to_owned();
    for (index, bandwidth) in [2, 3, 1].into_iter().enumerate() {
        writeln!(
            master,
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}\nv{index}/list.m3u8"
        )
        .unwrap();
        let list = "#EXTM3U\n#EXTINF:6,\n0.ts\n#EXTINF:6,\n1.ts\n#EXT-X-ENDLIST\n";
        server.serve_bytes(format!("/v{index}/list.m3u8"), list.as_bytes());
        for segment in 0..2 {
            server.serve_bytes(
                format!("/v{index}/{segment}.ts"),
                format!("variant {index} segment {segment};").into_bytes(),
            );
        }
    }
    server.serve_bytes("/master.m3u8", master.into_bytes());
    server
}

fn heard(tape: &Tape) -> &str {
    std::str::from_utf8(&tape.bytes).unwrap()
}

#[test]
fn the_choice_of_a_variant_is_kept_online() {
    let server = tree();
    let url = server.url("/master.m3u8");
    for (choice, variant) in [
        (VariantChoice::First, 0),
        (VariantChoice::Highest, 1),
        (VariantChoice::Lowest, 2),
        (VariantChoice::Index(1), 1),
    ] {
        let tape = play(&url, Cache::new().word_params().variant(choice), online()).whole();
        assert_eq!(
            heard(&tape),
            format!("variant {variant} segment 0;variant {variant} segment 1;")
        );
        assert_eq!(tape.story[0], format!("0 variant {variant}"));
    }
    let tape = play(
        &url,
        Cache::new().word_params().variant(VariantChoice::Index(3)),
        online(),
    );
    assert!(matches!(
        tape.failed(),
        HlsError::NoSuchVariant { index: 3, count: 3 }
    ));
}

/// W37: which Variant Stream is whole is noted when it was played, and not asked for segment by segment. The note is void once
/// anything of the asset changes: what is missing is found, and what is whole is noted anew.
#[test]
fn w37_what_is_whole_is_noted_and_the_note_counts_while_nothing_changes() {
    let server = tree();
    let url = server.url("/master.m3u8");
    let cache = Cache::new();
    let asset = kithara::cache::AssetId::from_url(&crate::rig::url(&url));
    let note = || {
        let entries = futures_lite::future::block_on(cache.cache.entries(&asset)).unwrap();
        let note = entries
            .iter()
            .find(|entry| entry.path.as_str().ends_with("-whole"));
        let note = note.map(|note| futures_lite::future::block_on(cache.cache.get(&asset, &note.path)));
        note.map(|note| String::from_utf8(note.unwrap().unwrap().to_vec()).unwrap())
    };
    let heard_offline = || {
        let tape = play(&url, cache.word_params(), offline()).whole();
        tape.story[0].clone()
    };
    play(
        &url,
        cache.word_params().variant(VariantChoice::Index(2)),
        online(),
    )
    .whole();
    assert_eq!(note().unwrap().matches("list.m3u8").count(), 1);
    assert_eq!(heard_offline(), "0 variant 2");
    play(&url, cache.word_params(), online()).whole();
    assert_eq!(heard_offline(), "0 variant 0");
    // An entry more: the note counts no more, and is written anew when it is asked for.
    let more = kithara::cache::CachePath::parse("cover.jpg").unwrap();
    let put = cache
        .cache
        .put_atomic(&asset, &more, bytes::Bytes::from_static(b"cover"));
    futures_lite::future::block_on(put).unwrap();
    let before = note();
    assert_eq!(heard_offline(), "0 variant 0");
    assert_ne!(note(), before);
    // One segment less.
    let lost = kithara::cache::CachePath::from_url(&crate::rig::url(&server.url("/v0/1.ts")));
    assert!(futures_lite::future::block_on(cache.cache.remove_entry(&asset, &lost)).unwrap());
    assert_eq!(heard_offline(), "0 variant 2");
    // Damaged, the note is none.
    let entries = futures_lite::future::block_on(cache.cache.entries(&asset)).unwrap();
    let path = entries
        .iter()
        .find(|entry| entry.path.as_str().ends_with("-whole"))
        .unwrap();
    let put = cache
        .cache
        .put_atomic(&asset, &path.path, bytes::Bytes::from_static(b"whole 1"));
    futures_lite::future::block_on(put).unwrap();
    assert_eq!(heard_offline(), "0 variant 2");
}

/// E11, E12: a Variant Stream that lacks a single segment is not taken for whole; the asked one is asked for by number.
#[test]
fn offline_takes_a_variant_that_is_whole() {
    let server = tree();
    let url = server.url("/master.m3u8");
    let cache = Cache::new();
    play(&url, cache.word_params().variant(VariantChoice::Lowest), online()).whole();
    // The first one, all but its last segment.
    server.rule("/v0/1.ts", kithara_test_support::Rule::new().answer(404, ""));
    let first = cache.word_params().variant(VariantChoice::Index(0));
    assert!(play(&url, first, online()).failed().is_not_found());
    server.stop();
    for choice in [
        VariantChoice::First,
        VariantChoice::Highest,
        VariantChoice::Lowest,
        VariantChoice::Index(2),
    ] {
        let tape = play(&url, cache.word_params().variant(choice), offline()).whole();
        assert_eq!(
            heard(&tape),
            "variant 2 segment 0;variant 2 segment 1;",
            "{choice:?}"
        );
    }
    let tape = play(
        &url,
        cache.word_params().variant(VariantChoice::Index(0)),
        offline(),
    );
    assert_eq!(missing(&tape), ResourceKind::Segment { media_sequence: 1 });
    assert_eq!(heard(&tape), "variant 0 segment 0;");
    let tape = play(
        &url,
        cache.word_params().variant(VariantChoice::Index(1)),
        offline(),
    );
    assert_eq!(missing(&tape), ResourceKind::Playlist);
}

/// With none whole, the preferred one plays as far as it goes.
#[test]
fn offline_without_a_whole_variant_plays_the_preferred_one() {
    let server = tree();
    let url = server.url("/master.m3u8");
    let cache = Cache::new();
    server.rule("/v1/1.ts", kithara_test_support::Rule::new().answer(404, ""));
    assert!(
        play(
            &url,
            cache.word_params().variant(VariantChoice::Index(1)),
            online()
        )
        .failed()
        .is_not_found()
    );
    let tape = play(
        &url,
        cache.word_params().variant(VariantChoice::Highest),
        offline(),
    );
    assert_eq!(heard(&tape), "variant 1 segment 0;");
    missing(&tape);
}

/// A key missing makes a Variant Stream not whole, though all its segments are there, and though it was noted as whole (fault W37).
#[test]
fn a_variant_without_its_key_is_not_whole() {
    let server = tree();
    let list = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n#EXTINF:6,\n0.ts\n#EXT-X-ENDLIST\n";
    server.serve_bytes("/v0/list.m3u8", list.as_bytes());
    server.serve_bytes("/v0/key", crate::rig::KEY);
    server.serve_bytes("/v0/0.ts", crate::rig::encrypt(b"variant 0", crate::rig::KEY, 0));
    let url = server.url("/master.m3u8");
    let cache = Cache::new();
    play(&url, cache.word_params(), online()).whole();
    play(&url, cache.word_params().variant(VariantChoice::Lowest), online()).whole();
    assert_eq!(
        heard(&play(&url, cache.word_params(), offline()).whole()),
        "variant 0"
    );
    let asset = kithara::cache::AssetId::from_url(&crate::rig::url(&url));
    let key = kithara::cache::CachePath::from_url(&crate::rig::url(&server.url("/v0/key")));
    futures_lite::future::block_on(cache.cache.remove_entry(&asset, &key)).unwrap();
    assert!(heard(&play(&url, cache.word_params(), offline()).whole()).starts_with("variant 2"));
}

/// The asset is the URL's without its query, or the caller's own.
#[test]
fn the_asset_is_the_callers_if_given() {
    let track = Track::plain(&[1000]);
    let asset = kithara::cache::AssetId::from_key("track 7").unwrap();
    let cache = Cache::new();
    play(&track.list(), cache.word_params().asset(asset.clone()), online()).whole();
    let assets = futures_lite::future::block_on(cache.cache.assets()).unwrap();
    assert_eq!(assets.len(), 1);
    assert_eq!(
        play(&track.list(), cache.word_params().asset(asset), offline())
            .whole()
            .bytes,
        track.bytes()
    );
    assert!(
        play(&track.list(), cache.word_params(), offline())
            .failed()
            .is_offline_miss()
    );
}

/// C13: a cache in memory does as well.
#[test]
fn a_memory_cache_plays_offline() {
    let track = Track::encrypted(&[10_000, 20_000]);
    let cache = AssetCache::memory(1 << 20);
    let params = || HlsParams::new(builder().build().unwrap(), cache.clone());
    play(&track.list(), params(), online()).whole();
    track.server.stop();
    assert_eq!(
        play(&track.list(), params(), offline()).whole().bytes,
        track.bytes()
    );
}

//! A cache that is small, damaged or cannot write: the track plays all the same, and is told (C16).

use std::fs;

use futures_lite::{StreamExt, future};
use kithara::cache::{AssetId, CachePath};
use kithara::hls::{Bypass, HlsControl, HlsError, HlsSource, ResourceKind};
use kithara::media::NotMediaReason;
use kithara::net::Url;
use kithara::stream::Message;
use kithara_test_support::{Rule, disk_bytes};

use crate::rig::{
    Cache, KEY, Track, chain, drain, files_below, offline, online, open_at, play, resource_files, url,
};

fn asset(track: &Track) -> AssetId {
    AssetId::from_url(&url(&track.list()))
}

fn of(track: &Track, path: &str) -> Url {
    url(&track.server.url(path))
}

fn put(cache: &Cache, track: &Track, path: &str, bytes: &[u8]) {
    let name = CachePath::from_url(&of(track, path));
    future::block_on(
        cache
            .cache
            .put_atomic(&asset(track), &name, bytes.to_vec().into()),
    )
    .unwrap();
}

fn get(cache: &Cache, track: &Track, path: &str) -> Option<Vec<u8>> {
    let name = CachePath::from_url(&of(track, path));
    future::block_on(cache.cache.get(&asset(track), &name))
        .unwrap()
        .map(Into::into)
}

/// C15, C16: room for about two segments of eight; the track plays to the end, twice, with one word about it.
#[test]
fn a_tiny_cache_plays_to_the_end() {
    for track in [Track::plain(&[30_000; 8]), Track::encrypted(&[30_000; 8])] {
        let cache = Cache::of(70_000);
        for _ in 0..2 {
            let tape = play(&track.list(), cache.params(), online()).whole();
            assert!(tape.bytes == track.bytes());
            assert_eq!(tape.bypasses(), 1, "{:?}", tape.story);
            let bypassed = tape.controls.iter().find_map(|control| match control {
                HlsControl::CacheBypassed {
                    resource,
                    reason: Bypass::Refused(error),
                    ..
                } => Some((resource, error)),
                _ => None,
            });
            let (resource, error) = bypassed.unwrap();
            assert!(
                matches!(resource.kind(), ResourceKind::Segment { .. }) && error.is_full(),
                "{resource}: {error}"
            );
            assert!(disk_bytes(cache.dir.path()) <= 70_000);
        }
    }
}

/// C16: a segment that turns out not to fit when half of it has passed loses nothing.
#[test]
fn a_segment_that_outgrows_the_cache_is_passed_on() {
    for track in [Track::plain(&[900_000; 2]), Track::encrypted(&[900_000; 2])] {
        let cache = Cache::of(500_000);
        let tape = play(&track.list(), cache.params(), online()).whole();
        assert!(tape.bytes == track.bytes());
        assert_eq!(tape.bypasses(), 1, "{:?}", tape.story);
        assert!(disk_bytes(cache.dir.path()) <= 500_000);
    }
}

/// C16: no room for anything.
#[test]
fn a_cache_without_room_is_bypassed() {
    let track = Track::encrypted(&[30_000; 3]);
    let cache = Cache::of(1);
    let tape = play(&track.list(), cache.params(), online()).whole();
    assert!(tape.bytes == track.bytes());
    // H6: which Variant Stream plays is said first.
    assert_eq!(tape.story[0], "0 variant 0");
    assert!(tape.story[1].starts_with("0 bypassed"), "{:?}", tape.story);
    assert_eq!(tape.bypasses(), 1);
    // Where nothing plays, it is said all the same.
    track.server.rule("/t/0.ts", Rule::new().answer(404, ""));
    let tape = play(&track.list(), cache.params(), online());
    assert!(tape.failed().is_not_found());
    assert_eq!((tape.story.len(), tape.bypasses()), (1, 1), "{:?}", tape.story);
}

/// C16, fault C19: the cache's root is replaced by a file while the track plays: nothing can be written any more.
#[test]
fn a_cache_that_cannot_write_is_bypassed() {
    let track = Track::plain(&[30_000; 4]);
    let cache = Cache::new();
    let root = cache.dir.path();
    // The cache may write what it has found in it meanwhile.
    while root.exists() {
        fs::remove_dir_all(root).ok();
    }
    fs::write(root, b"not a directory").unwrap();
    let tape = play(&track.list(), cache.params(), online()).whole();
    fs::remove_file(root).unwrap();
    assert!(tape.bytes == track.bytes());
    assert_eq!(tape.bypasses(), 1, "{:?}", tape.story);
}

/// Faults C20, C21, B1: every entry, damaged in every way, is read past: the bytes are right, and the entry is good again.
#[test]
fn damaged_entries_are_fetched_again() {
    for track in [
        Track::plain(&[30_000, 40_000]),
        Track::encrypted(&[30_000, 40_000]),
    ] {
        let cache = Cache::new();
        play(&track.list(), cache.params(), online()).whole();
        // What the server said of the files is not asked again: the answer might be of another edition.
        let list = || resource_files(&cache.dir.path().join("assets"));
        let count = list().len();
        for index in 0..count {
            for damage in ["truncated", "empty", "flipped", "gone"] {
                let files = list();
                let file = &files[index];
                let bytes = fs::read(file).unwrap();
                let bytes = match damage {
                    "truncated" => bytes[..bytes.len() / 2].to_vec(),
                    "empty" => Vec::new(),
                    "gone" => {
                        fs::remove_file(file).unwrap();
                        Vec::new()
                    }
                    _ => bytes
                        .iter()
                        .enumerate()
                        .map(|(at, byte)| byte ^ u8::from(at == bytes.len() / 2))
                        .collect(),
                };
                if damage != "gone" {
                    fs::write(file, bytes).unwrap();
                }
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                let tape = play(&track.list(), cache.params(), online());
                assert!(tape.error.is_none(), "{damage} {name}: {}", chain(tape.failed()));
                assert!(tape.bytes == track.bytes(), "{damage} {name}");
                let tape = play(&track.list(), cache.params(), offline());
                assert!(
                    tape.error.is_none(),
                    "{damage} {name}, offline: {}",
                    chain(tape.failed())
                );
                assert!(tape.bytes == track.bytes(), "{damage} {name}");
            }
        }
    }
}

/// Fault C21: what stands in the cache as a playlist and is none is fetched once more, and no more than once.
#[test]
fn a_corrupt_playlist_is_fetched_once_more() {
    let track = Track::plain(&[1000, 1000]);
    let cache = Cache::new();
    play(&track.list(), cache.params(), online()).whole();
    let good = get(&cache, &track, "/t/list.m3u8").unwrap();
    for bad in [
        b"<html>".to_vec(),
        Vec::new(),
        good[..good.len() - 1].to_vec(),
        good[20..].to_vec(),
    ] {
        put(&cache, &track, "/t/list.m3u8", &bad);
        assert!(
            play(&track.list(), cache.params(), offline())
                .failed()
                .is_offline_miss()
        );
        let before = track.requests("/t/list.m3u8");
        let tape = play(&track.list(), cache.params(), online()).whole();
        assert_eq!(tape.bytes, track.bytes());
        assert_eq!(track.requests("/t/list.m3u8"), before + 1);
        // What is noted behind the text tells when it was fetched.
        let anew = get(&cache, &track, "/t/list.m3u8").unwrap();
        let text = |copy: &[u8]| {
            String::from_utf8(copy.to_vec())
                .unwrap()
                .split("#kithara-copy")
                .next()
                .map(str::to_owned)
        };
        assert_eq!(text(&anew), text(&good));
    }
    put(&cache, &track, "/t/list.m3u8", b"bad");
    track
        .server
        .rule("/t/list.m3u8", Rule::new().answer(200, "<html>login</html>"));
    let before = track.requests("/t/list.m3u8");
    let tape = play(&track.list(), cache.params(), online());
    assert!(matches!(tape.failed(), HlsError::Playlist { .. }));
    assert_eq!(track.requests("/t/list.m3u8"), before + 1);
}

/// Fault C21: a key of the wrong length in the cache.
#[test]
fn a_corrupt_key_is_fetched_once_more() {
    let track = Track::encrypted(&[1000, 1000]);
    let cache = Cache::new();
    play(&track.list(), cache.params(), online()).whole();
    put(&cache, &track, "/t/key", b"short");
    assert!(
        play(&track.list(), cache.params(), offline())
            .failed()
            .is_offline_miss()
    );
    let tape = play(&track.list(), cache.params(), online()).whole();
    assert_eq!((tape.bytes, track.requests("/t/key")), (track.bytes(), 2));
    assert_eq!(get(&cache, &track, "/t/key").unwrap(), KEY);
    // Of the right length, and wrong: it shows in the padding. Offline that is an error; the key is not kept.
    put(&cache, &track, "/t/key", &[7; 16]);
    let tape = play(&track.list(), cache.params(), offline());
    assert!(
        matches!(tape.failed(), HlsError::Decrypt { .. }),
        "{}",
        chain(tape.failed())
    );
    assert!(tape.bytes.is_empty());
    assert_eq!(
        play(&track.list(), cache.params(), online()).whole().bytes,
        track.bytes()
    );
}

/// Fault C22: a cached segment that cannot be whole ciphertext is fetched again before any byte of it is passed on.
#[test]
fn a_cached_segment_of_an_impossible_length_is_fetched_again() {
    let track = Track::encrypted(&[1000, 1000]);
    let cache = Cache::new();
    play(&track.list(), cache.params(), online()).whole();
    for bad in [b"".as_slice(), &[1; 999]] {
        put(&cache, &track, "/t/1.ts", bad);
        let tape = play(&track.list(), cache.params(), online()).whole();
        assert_eq!(tape.bytes, track.bytes());
        assert!(
            tape.story.contains(&"1000 fetched 1".to_owned()),
            "{:?}",
            tape.story
        );
    }
}

/// H7: of ciphertext that a seek passes over only the end is read, in the 128 KiB that one checksum covers, so what the
/// disk did to the rest is not noticed.
#[test]
fn cached_ciphertext_is_passed_over_unread() {
    let track = Track::encrypted(&[300_000, 400_000, 3000]);
    let cache = Cache::new();
    play(&track.list(), cache.params(), online()).whole();
    for file in files_below(&cache.dir.path().join("assets")) {
        if file.to_string_lossy().ends_with("-0.ts") || file.to_string_lossy().ends_with("-1.ts") {
            let mut bytes = fs::read(&file).unwrap();
            bytes[500] ^= 1;
            fs::write(&file, bytes).unwrap();
        }
    }
    let mut source = HlsSource::new(url(&track.list()), cache.params());
    let tape = future::block_on(drain(open_at(&mut source, 700_500, &offline()))).whole();
    assert_eq!(tape.bytes, track.bytes()[700_500..]);
    let tape = future::block_on(drain(open_at(&mut source, 0, &offline())));
    assert!(tape.failed().is_offline_miss());
}

/// Fault C17: a playing track is leased: another that needs the room is bypassed instead of evicting it.
#[test]
fn a_playing_track_is_not_evicted() {
    let (first, second) = (Track::plain(&[40_000]), Track::plain(&[40_000]));
    let cache = Cache::of(60_000);
    let mut source = HlsSource::new(url(&first.list()), cache.params());
    let playing = open_at(&mut source, 0, &online());
    assert!(
        future::block_on(drain(open_at(&mut source, 0, &online())))
            .whole()
            .bypasses()
            == 0
    );
    assert_eq!(
        play(&second.list(), cache.params(), online()).whole().bypasses(),
        1
    );
    first.server.stop();
    assert_eq!(
        play(&first.list(), cache.params(), offline()).whole().bytes,
        first.bytes()
    );
    // Stopped, it is as good a victim as any.
    drop(playing);
    assert_eq!(
        play(&second.list(), cache.params(), online()).whole().bypasses(),
        0
    );
}

/// Faults E15, C21: a page that says 200 is neither played nor kept.
#[test]
fn a_web_page_is_not_a_segment() {
    let track = Track::plain(&[1000, 1000]);
    let cache = Cache::new();
    let page = Rule::new().answer(200, "\n<!doctype HTML><html><body>Log in</body></html>");
    let portal = track.server.rule("/t/1.ts", page);
    let tape = play(&track.list(), cache.params(), online());
    let HlsError::NotMedia { source, .. } = tape.failed() else {
        panic!("{}", chain(tape.failed()))
    };
    assert_eq!(source.reason, NotMediaReason::Page);
    assert_eq!(tape.bytes, track.segments[0]);
    assert!(get(&cache, &track, "/t/1.ts").is_none());
    portal.remove();
    assert_eq!(
        play(&track.list(), cache.params(), online()).whole().bytes,
        track.bytes()
    );
}

/// C16, fault C20: an entry cut short while it is being read is read on from the network, at the byte where it failed.
#[test]
fn an_entry_that_fails_halfway_is_read_on_from_the_network() {
    for track in [Track::plain(&[900_000, 1000]), Track::encrypted(&[900_000, 1000])] {
        let cache = Cache::new();
        play(&track.list(), cache.params(), online()).whole();
        for mode in [online(), offline()] {
            let mut source = HlsSource::new(url(&track.list()), cache.params());
            let mut stream = open_at(&mut source, 0, &mode);
            let mut before = Vec::new();
            future::block_on(async {
                while before.is_empty() {
                    if let Message::Data(data) = stream.next().await.unwrap().unwrap() {
                        before.extend_from_slice(&data);
                    }
                }
            });
            let files = files_below(&cache.dir.path().join("assets"));
            let largest = files
                .iter()
                .max_by_key(|file| fs::metadata(file).unwrap().len())
                .unwrap();
            let whole = fs::read(largest).unwrap();
            fs::OpenOptions::new()
                .write(true)
                .open(largest)
                .unwrap()
                .set_len(300_000)
                .unwrap();
            let after = future::block_on(drain(stream));
            before.extend_from_slice(&after.bytes);
            if mode.is_offline() {
                assert!(
                    matches!(after.failed(), HlsError::OfflineCache { .. }),
                    "{:?}",
                    after.error
                );
                assert!(track.bytes().starts_with(&before) && before.len() < 900_000);
            } else {
                assert!(after.error.is_none(), "{}", chain(after.failed()));
                assert!(before == track.bytes());
                assert_eq!(after.bypasses(), 1);
            }
            fs::write(largest, whole).unwrap();
        }
    }
}

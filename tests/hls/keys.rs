//! H4: keys. What is added to key requests goes nowhere else; the processed key is kept, the wrapped one never; each is
//! fetched once; whatever is wrong with one is typed and ends the track before any ciphertext gets out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, path::Path};

use bytes::Bytes;
use futures_lite::future;
use kithara::cache::{AssetId, CachePath};
use kithara::hls::{CryptError, HlsError, HlsParams, HlsSource, KeyRejected, ResourceKind};
use kithara::stream::Source;
use kithara_test_support::Rule;

use crate::rig::{Cache, KEY, Track, chain, encrypt, offline, online, play, url};

/// Whether any file below `root` has `needle` in its name or in its bytes.
fn disk_holds(root: &Path, needle: &[u8]) -> bool {
    fs::read_dir(root).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let name = path
            .file_name()
            .unwrap()
            .as_encoded_bytes()
            .windows(needle.len())
            .any(|window| window == needle);
        name || if path.is_dir() {
            disk_holds(&path, needle)
        } else {
            fs::read(&path)
                .unwrap()
                .windows(needle.len())
                .any(|window| window == needle)
        }
    })
}

/// E2: one key, several segments, several IVs, seeks: one request.
#[test]
fn a_key_is_fetched_once() {
    let tags = |index: usize| format!("#EXT-X-KEY:METHOD=AES-128,URI=\"key\",IV=0x{index:x}\n");
    let track = Track::build(&[1000; 6], tags, |index, plain| {
        encrypt(plain, KEY, index as u128)
    });
    track.server.serve_bytes("/t/key", KEY);
    let cache = Cache::new();
    for _ in 0..2 {
        let tape = play(&track.list(), cache.params(), online()).whole();
        assert_eq!(tape.bytes, track.bytes());
    }
    assert_eq!(track.requests("/t/key"), 1);
    // Nor does a cache that keeps nothing make it two within one source.
    let cache = Cache::of(1);
    assert_eq!(
        play(&track.list(), cache.params(), online()).whole().bytes,
        track.bytes()
    );
    assert_eq!(track.requests("/t/key"), 2);
}

/// Rotation: each segment under a key of its own.
#[test]
fn every_segment_takes_its_own_key() {
    let key = |index: usize| [u8::try_from(index).unwrap() + 65; 16];
    let tags = |index: usize| format!("#EXT-X-KEY:METHOD=AES-128,URI=\"key{index}\"\n");
    let track = Track::build(&[1000; 4], tags, |index, plain| {
        encrypt(plain, key(index), index as u128)
    });
    for index in 0..4 {
        track.server.serve_bytes(format!("/t/key{index}"), key(index));
    }
    let cache = Cache::new();
    assert_eq!(
        play(&track.list(), cache.params(), online()).whole().bytes,
        track.bytes()
    );
    assert_eq!(
        play(&track.list(), cache.params(), offline()).whole().bytes,
        track.bytes()
    );
}

fn wrapped() -> [u8; 40] {
    let mut wrapped = [0; 40];
    for (byte, key) in wrapped[12..].iter_mut().zip(KEY) {
        *byte = key ^ 0x5a;
    }
    wrapped[..12].copy_from_slice(b"wrapped-key:");
    wrapped
}

fn unwrap(key: &Bytes) -> Bytes {
    key[12..28].iter().map(|byte| byte ^ 0x5a).collect()
}

/// H4, E20, C14: query, headers and processor are for key requests; only the processed key is on the disk, and no token.
#[test]
fn what_is_for_keys_goes_to_key_requests_only() {
    let track = Track::encrypted(&[1000, 2000]);
    track.server.serve_bytes("/t/key", wrapped());
    let cache = Cache::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let params = || {
        let calls = calls.clone();
        cache
            .params()
            .key_query("token", "sec ret&1")
            .key_header("x-license", "s3cret")
            .key_processor(move |key, context| {
                calls.fetch_add(1, Ordering::Relaxed);
                assert_eq!(context.url().path(), "/t/key");
                Ok(unwrap(&key))
            })
    };
    for mode in [online(), online(), offline()] {
        assert_eq!(play(&track.list(), params(), mode).whole().bytes, track.bytes());
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    for request in track.server.requests() {
        let is_key = request.path_only() == "/t/key";
        assert_eq!(
            request.path.contains("token=sec+ret%261"),
            is_key,
            "{}",
            request.path
        );
        assert_eq!(request.header("x-license"), is_key.then_some("s3cret"));
    }
    assert!(disk_holds(cache.dir.path(), &KEY));
    for secret in [
        &wrapped()[12..28],
        b"wrapped-key:",
        b"sec+ret",
        b"sec ret",
        b"s3cret",
    ] {
        assert!(
            !disk_holds(cache.dir.path(), secret),
            "{:?}",
            String::from_utf8_lossy(secret)
        );
    }
}

/// E20, C14: neither `Debug` nor an error shows a key, a token or a header.
#[test]
fn debug_and_errors_show_no_secrets() {
    let track = Track::encrypted(&[1000]);
    track.server.rule("/t/key", Rule::new().answer(403, "no"));
    let cache = Cache::new();
    let params = || {
        cache
            .params()
            .key_query("t", "secret")
            .key_header("x", "secret")
            .audio_language("de")
    };
    let address = format!("{}?secret=1", track.list()).replace("http://", "http://me:secret@");
    let mut source = HlsSource::new(url(&address), params());
    source.seek_bytes(7).unwrap();
    let shown = format!("{source:?} {:?}", params());
    assert!(
        shown.contains("/t/list.m3u8") && shown.contains("de") && !shown.contains("secret"),
        "{shown}"
    );
    let tape = play(&address, params(), online());
    let error = tape.failed();
    let shown = format!("{} {error:?}", chain(error));
    assert!(
        shown.contains("/t/key") && shown.contains("403") && !shown.contains("secret"),
        "{shown}"
    );
    for control in &tape.controls {
        assert!(!format!("{control:?}").contains("secret"));
    }
}

fn fails(track: &Track, params: HlsParams) -> HlsError {
    let tape = play(&track.list(), params, online());
    assert_eq!(tape.bytes.len(), 0, "nothing may get out");
    tape.error.unwrap()
}

/// E5: a key of the wrong length; it is not kept.
#[test]
fn a_key_of_another_length_is_refused() {
    for length in [0, 15, 17, 24, 32] {
        let track = Track::encrypted(&[1000]);
        track.server.serve_bytes("/t/key", vec![7; length]);
        let cache = Cache::new();
        let HlsError::KeyLength {
            length: told,
            resource,
        } = fails(&track, cache.params())
        else {
            panic!()
        };
        assert_eq!((told, resource.kind()), (length, ResourceKind::Key));
        track.server.serve_bytes("/t/key", KEY);
        assert_eq!(
            play(&track.list(), cache.params(), online()).whole().bytes,
            track.bytes()
        );
    }
    // The processor's result is what counts.
    let track = Track::encrypted(&[1000]);
    let params = Cache::new()
        .params()
        .key_processor(|_, _| Ok(Bytes::from_static(b"short")));
    assert!(matches!(
        fails(&track, params),
        HlsError::KeyLength { length: 5, .. }
    ));
}

#[test]
fn a_processor_may_refuse() {
    let track = Track::encrypted(&[1000]);
    let params = Cache::new()
        .params()
        .key_processor(|_, _| Err(KeyRejected::new("not paid")));
    let error = fails(&track, params);
    assert!(
        chain(&error).ends_with("was refused: not paid"),
        "{}",
        chain(&error)
    );
}

/// H17: a wrong key shows in the padding of the last block, before a byte is given out; neither the key nor the segment stays
/// in the cache.
#[test]
fn a_wrong_key_is_an_error_and_is_not_kept() {
    let track = Track::encrypted(&[1000, 1000]);
    let wrong = track.server.rule("/t/key", Rule::new().answer(200, [9; 16]));
    let cache = Cache::new();
    let tape = play(&track.list(), cache.params(), online());
    let HlsError::Decrypt {
        source: CryptError::Padding,
        ..
    } = tape.failed()
    else {
        panic!("{:?}", tape.error)
    };
    assert!(tape.bytes.is_empty());
    // Once more each, in case one of the two was stale.
    assert_eq!((track.requests("/t/key"), track.requests("/t/0.ts")), (2, 2));
    wrong.remove();
    assert_eq!(
        play(&track.list(), cache.params(), online()).whole().bytes,
        track.bytes()
    );
}

/// W35: a key server that puts a new key under the old URL, that answers with 16 bytes of JSON or with another track's key:
/// no noise, and the right key once it is there.
#[test]
fn w35_a_stale_key_is_seen_before_noise_and_fetched_again() {
    let other: [u8; 16] = *b"fifteen letters!";
    for first in [other, *br#"{"error":"late"}"#, [0; 16]] {
        let track = Track::encrypted(&[1000, 70_000]);
        track
            .server
            .rule("/t/key", Rule::new().first(1).answer(200, first));
        let cache = Cache::new();
        let tape = play(&track.list(), cache.params(), online()).whole();
        assert_eq!(tape.bytes, track.bytes());
        track.server.stop();
        let tape = play(&track.list(), cache.params(), offline()).whole();
        assert_eq!(tape.bytes, track.bytes());
    }
    // Kept under the old URL, from an earlier session.
    let track = Track::encrypted(&[1000, 70_000]);
    let cache = Cache::new();
    play(&track.list(), cache.params(), online()).whole();
    for (index, plain) in track.segments.iter().enumerate() {
        let anew = encrypt(plain, other, index as u128);
        track.server.serve_bytes(format!("/t/{index}.ts"), anew);
        let path = CachePath::from_url(&url(&track.server.url(&format!("/t/{index}.ts"))));
        future::block_on(
            cache
                .cache
                .remove_entry(&AssetId::from_url(&url(&track.list())), &path),
        )
        .unwrap();
    }
    track.server.serve_bytes("/t/key", other);
    let tape = play(&track.list(), cache.params(), online()).whole();
    assert_eq!(tape.bytes, track.bytes());
}

/// W70: what is said to be encrypted and is clear is refused by its length, before a byte of noise.
#[test]
fn w70_clear_media_said_to_be_encrypted_is_refused_by_its_length() {
    for (index, length) in [(0, 1003), (0, 7), (1, 1003)] {
        let track = Track::encrypted(&[1000, 1000]);
        let clear = vec![0x47; length];
        track.server.serve_bytes(format!("/t/{index}.ts"), clear);
        let cache = Cache::new();
        let tape = play(&track.list(), cache.params(), online());
        let HlsError::Decrypt { source, .. } = tape.failed() else {
            panic!("{:?}", tape.error)
        };
        let length = length as u64;
        assert_eq!(*source, CryptError::Length { length });
        assert_eq!(tape.bytes, track.bytes()[..index * 1000]);
    }
}

/// H4: bad padding and a length that is no multiple of 16, from the server: typed, and not kept.
#[test]
fn damaged_ciphertext_is_refused_and_not_kept() {
    for cut in [1, 16] {
        let track = Track::encrypted(&[1000, 1000]);
        let bytes = encrypt(&track.segments[1], KEY, 1);
        track.server.serve_bytes("/t/1.ts", &bytes[..bytes.len() - cut]);
        let cache = Cache::new();
        let tape = play(&track.list(), cache.params(), online());
        let HlsError::Decrypt { resource, .. } = tape.failed() else {
            panic!("{:?}", tape.error)
        };
        assert_eq!(resource.kind(), ResourceKind::Segment { media_sequence: 1 });
        assert!(track.bytes().starts_with(&tape.bytes));
        track.server.serve_bytes("/t/1.ts", bytes);
        assert_eq!(
            play(&track.list(), cache.params(), online()).whole().bytes,
            track.bytes()
        );
    }
}

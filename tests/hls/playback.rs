//! The main job: what ffmpeg and openssl say of the media is what comes out, online and offline.

use std::fmt::Write as _;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::hls::{HlsControl, HlsSource, VariantChoice};
use kithara::stream::{Source, Stream};
use kithara_test_support::{Ended, Rule, Server, expected, media};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::rig::{Cache, Tape, Track, media_requests, offline, online, play, url};

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn assert_is(tape: &Tape, variant: &Value, origin: &str) {
    assert_eq!(tape.bytes.len() as u64, variant["bytes"].as_u64().unwrap());
    assert_eq!(sha256(&tape.bytes), variant["sha256"].as_str().unwrap());
    // H6, H13: each section and each segment is announced where its first byte is.
    let mut at = variant["init"]["bytes"].as_u64().unwrap_or(0);
    let mut story = Vec::new();
    if at > 0 {
        story.push("0 section".to_owned());
    }
    for segment in variant["segments"].as_array().unwrap() {
        story.push(format!("{at} {origin} {}", segment["sequence"]));
        at += segment["bytes"].as_u64().unwrap();
    }
    assert!(tape.story[0].starts_with("0 variant"), "{:?}", tape.story);
    assert_eq!(tape.story[1..], story);
    let micros = |text: &Value| -> u128 {
        let (seconds, fraction) = text.as_str().unwrap().split_once('.').unwrap();
        format!("{seconds}{fraction:0<6}").parse().unwrap()
    };
    let durations: Vec<u128> = variant["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| micros(&s["duration"]))
        .collect();
    let mut total = 0;
    let mut told = Vec::new();
    for control in &tape.controls {
        match control {
            HlsControl::SegmentStart { duration, time, .. } => {
                assert_eq!(time.as_micros(), total);
                total += duration.as_micros();
                told.push(duration.as_micros());
            }
            HlsControl::VariantApplied {
                duration, bandwidth, ..
            } => {
                assert_eq!(duration.as_micros(), durations.iter().sum::<u128>());
                assert_eq!(*bandwidth, variant["bandwidth"].as_u64().unwrap_or(0));
            }
            HlsControl::InitializationSection { .. } | HlsControl::Buffered { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, durations);
}

/// Every variant of a tree: online into a fresh cache, then with the server stopped.
fn plays(tree: &str) {
    let tree = &expected()["trees"][tree];
    for (index, variant) in tree["variants"].as_array().unwrap().iter().enumerate() {
        let server = Server::start(media()).unwrap();
        let cache = Cache::new();
        let (path, choice) = match tree["master"].as_str() {
            Some(master) => (master, VariantChoice::Index(index)),
            None => (variant["playlist"].as_str().unwrap(), VariantChoice::First),
        };
        let url = server.url(&format!("/{path}"));
        let tape = play(&url, cache.params().variant(choice), online()).whole();
        assert_is(&tape, variant, "fetched");
        server.stop();
        let connections = server.connections();
        let tape = play(&url, cache.params().variant(choice), offline()).whole();
        assert_is(&tape, variant, "cached");
        assert_eq!(server.connections(), connections);
    }
}

/// H1, H5.
#[test]
fn the_plain_tree_is_what_ffmpeg_says() {
    plays("plain");
}

/// H1, H4, H5; E2, E4 and E6: key rotation, IVs given and made, sequence numbers beyond 32 bits.
#[test]
fn the_encrypted_tree_is_what_openssl_says() {
    plays("encrypted");
}

/// E3.
#[test]
fn an_encrypted_initialization_section_is_decrypted() {
    plays("encrypted-init");
}

/// E1.
#[test]
fn byte_ranges_of_one_file_are_what_ffmpeg_says() {
    plays("byterange");
}

#[test]
fn mpeg_ts_is_what_ffmpeg_says() {
    plays("ts");
}

/// E18.
#[test]
fn packed_audio_is_what_ffmpeg_says() {
    plays("packed");
}

/// A second time online, only what is not there is fetched: nothing of the media, and no key.
#[test]
fn what_is_cached_is_not_fetched_again() {
    let track = Track::encrypted(&[1000, 2000, 3000]);
    let cache = Cache::new();
    let first = play(&track.list(), cache.params(), online()).whole();
    let requests = media_requests(&track.server);
    let second = play(&track.list(), cache.params(), online()).whole();
    assert_eq!((first.bytes, second.bytes), (track.bytes(), track.bytes()));
    assert_eq!(media_requests(&track.server), requests);
    assert_eq!(
        second.story[1..],
        ["0 cached 0", "1000 cached 1", "3000 cached 2"]
    );
}

/// The dropped consumer asks for nothing more, and closes what it had (S1, A2).
#[test]
fn a_dropped_consumer_stops_the_requests() {
    let track = Track::plain(&[200_000; 10]);
    let cache = Cache::new();
    for segment in 2..10 {
        track
            .server
            .rule(format!("/t/{segment}.ts"), Rule::new().stall_after(100));
    }
    let mut stream = Stream::new(HlsSource::new(url(&track.list()), cache.params()), online());
    future::block_on(async {
        let mut seen = 0;
        while seen < 400_100 {
            seen += stream.next().await.unwrap().unwrap().len();
        }
    });
    // Four are on their way.
    track
        .server
        .wait_until(|log| log.to("/t/5.ts").any(|request| request.body_sent == 100));
    drop(stream);
    track.server.wait_until(|log| {
        (2..6).all(|segment| {
            log.to(&format!("/t/{segment}.ts"))
                .all(|request| request.ended == Ended::ClientClosed)
        })
    });
    assert_eq!(track.requests("/t/2.ts"), 1);
    let late = Duration::from_millis(150);
    assert!(
        !track
            .server
            .wait_within(late, |log| log.to("/t/6.ts").count() > 0)
    );
    // What was cut left nothing in the cache.
    let tape = play(&track.list(), cache.params(), offline());
    assert!(tape.failed().is_offline_miss());
    // Writes may have been dropped on their way to the disk. The first waits for what tells editions apart.
    assert!(
        [0, 1, 2]
            .iter()
            .any(|kept| tape.bytes == track.segments[..*kept].concat())
    );
}

/// A11: after the drop nothing holds the source's parts: here, the processor it was given.
#[test]
fn a_dropped_stream_leaves_no_cycle() {
    let track = Track::encrypted(&[1000, 2000]);
    let cache = Cache::new();
    let (witness, gone) = async_channel::bounded::<()>(1);
    let params = cache.params().key_processor(move |key, _| {
        let _ = &witness;
        Ok(key)
    });
    let mut source = HlsSource::new(url(&track.list()), params);
    let mut stream = source.open(&online()).unwrap();
    future::block_on(stream.next()).unwrap().unwrap();
    drop((stream, source));
    // The channel closes with the processor. A cycle would keep it for ever.
    assert!(future::block_on(gone.recv()).is_err());
}

/// What is being written when the last byte has come is there when the stream says that it has ended.
#[test]
fn the_end_comes_after_the_last_write() {
    for _ in 0..20 {
        let track = Track::encrypted(&[1000, 300_000]);
        let cache = Cache::new();
        play(&track.list(), cache.params(), online()).whole();
        assert!(play(&track.list(), cache.params(), offline()).whole().bytes == track.bytes());
    }
}

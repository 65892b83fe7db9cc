//! A server that misbehaves in the middle: resumed, or a typed error; never wrong bytes, never a clean end too early.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::cache::AssetCache;
use kithara::hls::{HlsError, HlsParams, HlsSource, ResourceKind};
use kithara::net::{HttpClient, RetryPolicy};
use kithara::stream::{Message, Source, Stream};
use kithara_test_support::{Ended, Rule};

use crate::rig::{Cache, KEY, Tape, Track, builder, chain, encrypt, offline, online, play, url};

const LENGTHS: [usize; 3] = [40_000, 50_000, 60_000];

fn tracks() -> [Track; 2] {
    [Track::plain(&LENGTHS), Track::encrypted(&LENGTHS)]
}

/// Every way of failing that a client can see: once after some bytes, and from then on.
fn broken() -> [(&'static str, Rule, Rule); 5] {
    let (once, then) = (Rule::new().first(1), Rule::new());
    [
        ("reset", once.clone().reset_after(20_000), then.clone().reset()),
        (
            "truncated",
            once.clone().truncate_after(20_000),
            then.clone().truncate_after(0),
        ),
        (
            "stalled",
            once.clone().stall_after(20_000),
            then.clone().stall_after(0),
        ),
        (
            "unavailable",
            once.clone().answer(503, "<html>busy</html>"),
            then.clone().answer(503, "<html>busy</html>"),
        ),
        ("reset at once", once.reset(), then.reset()),
    ]
}

/// A prefix of the truth and a typed error, nothing more; and nothing half-done in the cache.
fn assert_failed(track: &Track, tape: &Tape, cache: &Cache) {
    let HlsError::Network { resource, .. } = tape.failed() else {
        panic!("{}", chain(tape.failed()))
    };
    assert_eq!(resource.kind(), ResourceKind::Segment { media_sequence: 1 });
    assert!(tape.failed().is_transient(), "{}", chain(tape.failed()));
    assert!(track.bytes().starts_with(&tape.bytes));
    assert!(tape.bytes.len() >= LENGTHS[0] && tape.bytes.len() < LENGTHS[0] + LENGTHS[1]);
    let again = play(&track.list(), cache.params(), offline());
    assert!(
        matches!(again.failed(), HlsError::OfflineMiss { .. }),
        "{}",
        chain(again.failed())
    );
    assert_eq!(again.bytes, track.segments[0]);
}

/// D1, D3, D6, D9, D14, E15: a fault that passes is not heard.
#[test]
fn a_fault_that_passes_is_survived() {
    for (name, once, _) in broken() {
        for track in tracks() {
            let fault = track.server.rule("/t/1.ts", once.clone());
            let cache = Cache::new();
            let tape = play(&track.list(), cache.params(), online()).whole();
            assert_eq!(fault.hits(), 1, "{name}");
            assert!(tape.bytes == track.bytes(), "{name}");
            let tape = play(&track.list(), cache.params(), offline()).whole();
            assert!(tape.bytes == track.bytes(), "{name}");
        }
    }
}

/// The same faults for good: a typed error where the bytes end.
#[test]
fn a_fault_that_stays_ends_in_a_typed_error() {
    for (name, once, then) in broken() {
        for track in tracks() {
            track.server.rule("/t/1.ts", once.clone());
            track.server.rule("/t/1.ts", then.clone());
            let cache = Cache::new();
            let tape = play(&track.list(), cache.params(), online());
            println!(
                "{name}: {}",
                tape.error
                    .as_ref()
                    .map_or("a clean end".into(), |error| chain(error))
            );
            assert_failed(&track, &tape, &cache);
            // And the way back: the fault over, the same cache plays the whole track.
            track.server.clear_rules();
            assert!(play(&track.list(), cache.params(), online()).whole().bytes == track.bytes());
        }
    }
}

/// Faults C22, D1: a server that does not say how long the segment is, and breaks: nothing to resume with, nothing kept.
#[test]
fn a_break_without_a_length_is_never_kept() {
    let track = Track::plain(&LENGTHS);
    track
        .server
        .rule("/t/1.ts", Rule::new().no_length().truncate_after(20_000));
    let cache = Cache::new();
    let tape = play(&track.list(), cache.params(), online()).whole();
    // HTTP/1.0 offers no way to tell: the bytes pass, the cache does not believe them.
    assert_eq!(tape.bypasses(), 1);
    assert!(
        play(&track.list(), cache.params(), offline())
            .failed()
            .is_offline_miss()
    );

    // Ciphertext, and a byte range of known length, give it away.
    let track = Track::encrypted(&LENGTHS);
    track
        .server
        .rule("/t/1.ts", Rule::new().no_length().truncate_after(20_001));
    let tape = play(&track.list(), Cache::new().params(), online());
    assert!(
        matches!(tape.failed(), HlsError::Decrypt { .. }),
        "{}",
        chain(tape.failed())
    );
}

/// E12, D8: a byte range that comes too short or too long.
#[test]
fn a_byte_range_of_another_length_is_an_error() {
    let track = Track::plain(&LENGTHS);
    let list = "#EXTM3U\n#EXTINF:6,\n#EXT-X-BYTERANGE:30000@10\n0.ts\n#EXT-X-ENDLIST";
    track.server.serve_bytes("/t/range.m3u8", list.as_bytes());
    let good = play(
        &track.server.url("/t/range.m3u8"),
        Cache::new().params(),
        online(),
    )
    .whole();
    assert_eq!(good.bytes, track.bytes()[10..30_010]);
    for rule in [
        Rule::new().serve_range(10, 20_000),
        Rule::new().serve_range(10, 40_000),
        Rule::new().serve_range(11, 30_011),
        Rule::new().no_length().truncate_after(20_000),
    ] {
        track.server.clear_rules();
        track.server.rule("/t/0.ts", rule);
        let cache = Cache::new();
        let tape = play(&track.server.url("/t/range.m3u8"), cache.params(), online());
        assert!(good.bytes.starts_with(&tape.bytes));
        let again = play(&track.server.url("/t/range.m3u8"), cache.params(), offline());
        if let Some(error) = &tape.error {
            println!("{}", chain(error));
            assert!(again.failed().is_offline_miss());
        } else {
            // Only the last can be mended, and then it is.
            assert!(tape.bytes == good.bytes && again.whole().bytes == good.bytes);
        }
        // D2: a server that ignores the range is skipped through, or refused.
        track.server.clear_rules();
        track.server.rule("/t/0.ts", Rule::new().ignore_range());
        let tape = play(&track.server.url("/t/range.m3u8"), cache.params(), online());
        assert!(good.bytes.starts_with(&tape.bytes) && (tape.error.is_some() || tape.bytes == good.bytes));
    }
}

/// E12: a byte range that reaches beyond the end of its file: the server may send what there is, which is not all.
#[test]
fn a_byte_range_beyond_the_end_is_an_error() {
    let track = Track::plain(&[1000]);
    let list = "#EXTM3U\n#EXTINF:6,\n#EXT-X-BYTERANGE:1000@500\n0.ts\n#EXT-X-ENDLIST";
    track.server.serve_bytes("/t/range.m3u8", list.as_bytes());
    let cache = Cache::new();
    let tape = play(&track.server.url("/t/range.m3u8"), cache.params(), online());
    println!("{}", chain(tape.failed()));
    assert!(track.bytes()[500..].starts_with(&tape.bytes));
    let again = play(&track.server.url("/t/range.m3u8"), cache.params(), offline());
    assert!(again.failed().is_offline_miss());
}

/// E15: what is not there, or is not for us, is a status.
#[test]
fn a_missing_segment_is_told_from_a_broken_one() {
    let track = Track::plain(&LENGTHS);
    track.server.rule("/t/2.ts", Rule::new().answer(404, "no"));
    let tape = play(&track.list(), Cache::new().params(), online());
    assert!(tape.failed().is_not_found() && !tape.failed().is_transient());
    assert_eq!(tape.bytes, track.segments[..2].concat());
}

/// D6: a server that never answers a segment.
#[test]
fn a_silent_server_is_given_up() {
    let track = Track::plain(&LENGTHS);
    track.server.rule("/t/1.ts", Rule::new().never_answer());
    let cache = Cache::new();
    let client = builder()
        .head_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let tape = play(
        &track.list(),
        HlsParams::new(client, cache.cache.clone()),
        online(),
    );
    assert!(tape.failed().is_transient());
    assert_eq!(tape.bytes, track.segments[0]);
}

/// E14: a segment that is very late is awaited, not asked for in a loop: the stream is polled only when woken.
#[test]
fn a_late_segment_is_awaited_without_a_busy_loop() {
    let track = Track::plain(&LENGTHS);
    track.server.rule(
        "/t/0.ts",
        Rule::new().delay_after(1000, Duration::from_millis(300)),
    );
    let patient = HttpClient::builder().retry(RetryPolicy::none()).build().unwrap();
    let cache = Cache::new();
    let mut source = HlsSource::new(url(&track.list()), HlsParams::new(patient, cache.cache.clone()));
    let mut stream = source.open(&online()).unwrap();
    let mut polls = 0_u32;
    let mut bytes = 0;
    future::block_on(async {
        while bytes < LENGTHS[0] {
            let mut next = pin!(stream.next());
            let message = future::poll_fn(|context| {
                polls += 1;
                next.as_mut().poll(context)
            });
            if let Message::Data(data) = message.await.unwrap().unwrap() {
                bytes += data.len();
            }
        }
    });
    assert!(polls < 200, "{polls}");
}

/// With a single connection allowed, the segment ahead never keeps the current one from being resumed.
#[test]
fn looking_ahead_does_not_starve_a_resume() {
    let track = Track::plain(&LENGTHS);
    for index in 0..3 {
        track
            .server
            .rule(format!("/t/{index}.ts"), Rule::new().first(1).reset_after(10_000));
    }
    let client = builder().max_connections_per_host(1).build().unwrap();
    let params = HlsParams::new(client, AssetCache::memory(1 << 20));
    let tape = play(&track.list(), params, online()).whole();
    assert!(tape.bytes == track.bytes());
}

/// H11: an outage that only the look-ahead saw, and that is over before the segment's turn, is not heard. What it had
/// fetched on the way, here a key, is kept all the same.
#[test]
fn a_look_ahead_that_failed_early_is_not_the_end() {
    let track = Track::build(
        &LENGTHS,
        |index| format!("#EXT-X-KEY:METHOD=AES-128,URI=\"key{index}\"\n"),
        |index, plain| encrypt(plain, KEY, index as u128),
    );
    for index in 0..LENGTHS.len() {
        track.server.serve_bytes(format!("/t/key{index}"), KEY);
    }
    let gate = track.server.gate();
    track
        .server
        .rule("/t/1.ts", Rule::new().gate_after(10_000, &gate));
    // The client closes the connection when it has read the status.
    let outage = Rule::new().first(1).answer(503, [0; 1000]).stall_after(0);
    track.server.rule("/t/2.ts", outage);
    let client = builder()
        .retry(RetryPolicy::none())
        .idle_timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let cache = Cache::new();
    let params = HlsParams::new(client, cache.cache.clone());
    let mut stream = Stream::new(HlsSource::new(url(&track.list()), params), online());
    track.server.wait_until(|log| {
        log.to("/t/2.ts")
            .any(|request| request.ended == Ended::ClientClosed)
    });
    gate.open();
    let bytes = future::block_on(stream.try_fold(Vec::new(), |mut all, chunk| {
        all.extend_from_slice(&chunk);
        Ok(all)
    }));
    assert!(bytes.unwrap() == track.bytes());
    assert_eq!((track.requests("/t/key2"), track.requests("/t/2.ts")), (1, 2));
    track.server.stop();
    assert!(play(&track.list(), cache.params(), offline()).whole().bytes == track.bytes());
}

/// H11: with a single connection allowed, a segment read for longer than the ones ahead may queue is no reason to fail.
#[test]
fn a_look_ahead_that_found_no_connection_free_is_not_the_end() {
    let track = Track::plain(&LENGTHS);
    let gate = track.server.gate();
    track
        .server
        .rule("/t/1.ts", Rule::new().gate_after(10_000, &gate));
    let client = builder()
        .max_connections_per_host(1)
        .queue_timeout(Duration::from_millis(20))
        .retry(RetryPolicy::none())
        .idle_timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let params = HlsParams::new(client, AssetCache::memory(1 << 20));
    let mut stream = Stream::new(HlsSource::new(url(&track.list()), params), online());
    let bytes = future::block_on(async {
        let mut bytes = Vec::new();
        while bytes.len() < LENGTHS[0] + 10_000 {
            bytes.extend_from_slice(&stream.next().await.unwrap().unwrap());
        }
        // Long enough for the wait of those ahead to end, as no message tells.
        assert!(
            !track
                .server
                .wait_within(Duration::from_millis(100), |log| log.to("/t/2.ts").count() > 0)
        );
        gate.open();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        bytes
    });
    assert!(bytes == track.bytes());
}

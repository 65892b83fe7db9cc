//! What is fetched in front of a stream (H11; faults W36, W38).

use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::cache::AssetCache;
use kithara::hls::{Access, HlsControl, HlsParams, HlsSource};
use kithara::stream::{Message, Source, Stream, StreamParams};
use kithara_test_support::{Ended, Gate, Log, Rule};

use super::rig::{Cache, Track, builder, offline, online, play, url};

/// Long enough for what must not happen to be seen.
const LATE: Duration = Duration::from_millis(150);

/// A stream that nobody reads: its queue fills, and what is fetched beyond that is the look-ahead's.
fn unread(track: &Track, params: HlsParams) -> Stream<HlsSource> {
    let little = StreamParams::default().max_bytes(1000.try_into().unwrap());
    Stream::new(HlsSource::new(url(&track.list()), params), little)
}

fn rest(mut stream: Stream<HlsSource>) -> Vec<u8> {
    let bytes = stream.try_fold(Vec::new(), |mut all, chunk| {
        all.extend_from_slice(&chunk);
        Ok(all)
    });
    future::block_on(bytes).unwrap()
}

/// A client that waits while a server is silent.
pub(crate) fn patient(cache: &Cache) -> HlsParams {
    let client = builder().idle_timeout(Duration::from_secs(30)).build().unwrap();
    HlsParams::new(client, cache.cache.clone())
}

fn path(segment: usize) -> String {
    format!("/t/{segment}.ts")
}

fn wait_for(track: &Track, segment: usize) {
    let path = path(segment);
    let is_whole = |log: &Log| log.to(&path).any(|request| request.ended == Ended::Complete);
    track.server.wait_until(is_whole);
}

fn is_asked_for(track: &Track, segment: usize) -> bool {
    let path = path(segment);
    track.server.wait_within(LATE, |log| log.to(&path).count() > 0)
}

fn gated(track: &Track, segments: impl IntoIterator<Item = usize>) -> Gate {
    let gate = track.server.gate();
    for segment in segments {
        track
            .server
            .rule(path(segment), Rule::new().gate_after(100, &gate));
    }
    gate
}

/// W36: seconds and not messages. Nobody reads, and five minutes of short segments are fetched, and kept.
#[test]
fn w36_five_minutes_are_fetched_that_nobody_reads() {
    let track = Track::plain(&[500; 80]);
    let cache = Cache::new();
    let stream = unread(&track, cache.params());
    // Each segment lasts 6.006 s: 50 of them begin within 300 s behind the first.
    wait_for(&track, 49);
    assert!(!is_asked_for(&track, 54));
    drop(stream);
}

/// The same in bytes, and with as much time as the app says.
#[test]
fn as_much_as_the_app_says() {
    for params in [
        |params: HlsParams| params.look_ahead_bytes(100_000),
        |params: HlsParams| params.look_ahead(Duration::from_secs(30)),
    ] {
        let track = Track::plain(&[20_000; 40]);
        let cache = Cache::new();
        let stream = unread(&track, params(cache.params()));
        wait_for(&track, 4);
        assert!(!is_asked_for(&track, 12));
        drop(stream);
    }
    let track = Track::plain(&[20_000; 40]);
    let cache = Cache::new();
    let stream = unread(&track, cache.params().look_ahead(Duration::ZERO));
    wait_for(&track, 0);
    assert!(!is_asked_for(&track, 2));
    drop(stream);
}

/// Reading makes room for more, and each byte is fetched once.
#[test]
fn what_is_read_is_refilled() {
    let track = Track::plain(&[20_000; 40]);
    let cache = Cache::new();
    let params = cache.params().look_ahead(Duration::from_secs(30));
    let tape = play(&track.list(), params, online()).whole();
    assert!(tape.bytes == track.bytes());
    assert_eq!(track.requests("/t/*"), 41);
    assert!(play(&track.list(), cache.params(), offline()).whole().bytes == track.bytes());
}

/// Where segments come fast four are on their way, and in the order in which they play.
#[test]
fn several_are_on_their_way_where_they_come_fast() {
    let track = Track::plain(&[20_000; 12]);
    let cache = Cache::new();
    let gate = gated(&track, 1..12);
    let stream = unread(&track, cache.params());
    track.server.wait_until(|log| log.to("/t/4.ts").count() > 0);
    assert!(!is_asked_for(&track, 5));
    gate.open();
    assert!(rest(stream) == track.bytes());
    assert_eq!(track.requests("/t/*"), 13);
}

/// Before it is known how fast they come, and on a slow link, it is one body at a time: each would take from the other.
#[test]
fn one_is_on_its_way_where_they_come_slowly() {
    let track = Track::plain(&[20_000; 6]);
    let cache = Cache::new();
    // The first takes more than a second.
    track.server.rule(
        "/t/0.ts",
        Rule::new().delay_after(10_000, Duration::from_millis(1100)),
    );
    let gate = gated(&track, [1]);
    let stream = unread(&track, patient(&cache));
    track.server.wait_until(|log| log.to("/t/0.ts").count() > 0);
    assert!(!is_asked_for(&track, 1));
    track.server.wait_until(|log| log.to("/t/1.ts").count() > 0);
    assert!(!is_asked_for(&track, 2));
    gate.open();
    assert!(rest(stream) == track.bytes());
}

/// W36: key, initialization section and first segment are asked for side by side: none waits for another's answer.
#[test]
fn w36_what_a_track_begins_with_is_asked_for_at_once() {
    let tags = |index: usize| match index {
        0 => "#EXT-X-KEY:METHOD=AES-128,URI=\"key\",IV=0x0\n#EXT-X-MAP:URI=\"init\"\n".to_owned(),
        _ => String::new(),
    };
    let track = Track::build(&[5000; 3], tags, |_, plain| {
        super::rig::encrypt(plain, super::rig::KEY, 0)
    });
    track.server.serve_bytes("/t/key", super::rig::KEY);
    track
        .server
        .serve_bytes("/t/init", super::rig::encrypt(b"ID3 section", super::rig::KEY, 0));
    let gate = track.server.gate();
    for path in ["/t/key", "/t/init", "/t/0.ts"] {
        track.server.rule(path, Rule::new().gate(&gate));
    }
    let cache = Cache::new();
    let stream = unread(&track, cache.params());
    for path in ["/t/key", "/t/init", "/t/0.ts"] {
        track.server.wait_until(|log| log.to(path).count() > 0);
    }
    gate.open();
    assert!(rest(stream) == [b"ID3 section".as_slice(), &track.bytes()].concat());
    assert_eq!(track.requests("/t/key"), 1);
}

/// W38: two streams of one source fetch each segment once, from wherever they begin, and one that is dropped takes nothing from
/// the other.
#[test]
fn w38_streams_of_a_source_share_what_they_fetch() {
    for encrypted in [false, true] {
        let track = if encrypted {
            Track::encrypted(&[50_000; 8])
        } else {
            Track::plain(&[50_000; 8])
        };
        let cache = Cache::new();
        let gate = gated(&track, [0]);
        let source = HlsSource::new(url(&track.list()), cache.params());
        let open = || Stream::new(source.clone(), online());
        let first = open();
        track.server.wait_until(|log| log.to("/t/0.ts").count() > 0);
        let streams = [first, open(), open()];
        let mut dropped = open();
        future::block_on(future::poll_once(dropped.next()));
        drop(dropped);
        gate.open();
        for stream in streams {
            assert!(rest(stream) == track.bytes());
        }
        for segment in 0..8 {
            assert_eq!(track.requests(&path(segment)), 1, "{segment}");
        }
    }
}

/// Without a cache what is fetched ahead waits in memory: one segment of it.
#[test]
fn what_is_not_kept_is_not_fetched_far_ahead() {
    let track = Track::plain(&[20_000; 10]);
    let access = Access::default().client(builder().build().unwrap());
    let stream = unread(&track, HlsParams::with_access(access));
    wait_for(&track, 1);
    assert!(!is_asked_for(&track, 6));
    assert!(rest(stream) == track.bytes());
    assert_eq!(track.requests("/t/*"), 11);
}

/// A memory cache that holds a part of the track: every byte is right, and the cache stays under its limit.
#[test]
fn a_small_memory_cache_plays_the_whole_track() {
    for length in [900_000, 1_500_000] {
        small_memory_cache(length);
    }
}

fn small_memory_cache(length: usize) {
    let track = Track::plain(&[length; 12]);
    let cache = AssetCache::memory(4 << 20);
    let params = HlsParams::new(builder().build().unwrap(), cache.clone());
    let tape = play(&track.list(), params, online()).whole();
    assert!(tape.bytes == track.bytes());
    let kept = future::block_on(cache.assets()).unwrap();
    assert!(kept.iter().map(|asset| asset.bytes).sum::<u64>() <= 4 << 20);
}

/// A pause of the network that is over before anybody needs what was missing is not heard: the look-ahead tries again by itself.
#[test]
fn an_outage_ahead_is_over_before_it_is_heard() {
    let track = Track::plain(&[20_000; 10]);
    let cache = Cache::new();
    track
        .server
        .rule("/t/3.ts", Rule::new().first(2).answer(503, "later"));
    let stream = unread(&track, cache.params());
    wait_for(&track, 9);
    wait_for(&track, 3);
    drop(stream);
}

/// A segment larger than what is held in memory comes to a reader that takes its time, from the disk.
#[test]
fn a_slow_reader_of_large_segments_gets_each_byte_once() {
    for encrypted in [false, true] {
        let lengths = [3_000_000, 2_500_000, 3_000_000];
        let track = if encrypted {
            Track::encrypted(&lengths)
        } else {
            Track::plain(&lengths)
        };
        let cache = Cache::new();
        let stream = unread(&track, cache.params());
        // All of it is there before a byte is read.
        wait_for(&track, 2);
        assert!(rest(stream) == track.bytes());
        for segment in 0..3 {
            assert_eq!(track.requests(&path(segment)), 1, "{segment}");
        }
    }
}

/// A server that sends no length, of segments larger than what is held: nothing of them is kept, and each byte comes.
#[test]
fn large_segments_without_a_length_come_whole() {
    let track = Track::plain(&[3_000_000; 3]);
    for segment in 0..3 {
        track.server.rule(path(segment), Rule::new().no_length());
    }
    let cache = Cache::new();
    let stream = unread(&track, cache.params());
    track.server.wait_until(|log| log.to("/t/0.ts").count() > 0);
    assert!(rest(stream) == track.bytes());
}

/// Without a cache two streams of a source each get each byte, also while the other one rests.
#[test]
fn two_streams_without_a_cache_do_not_hold_each_other_up() {
    let track = Track::plain(&[3_000_000; 3]);
    let access = Access::default().client(builder().build().unwrap());
    let source = HlsSource::new(url(&track.list()), HlsParams::with_access(access));
    let mut first = Stream::new(source.clone(), online());
    let start = future::block_on(first.next()).unwrap().unwrap();
    assert!(rest(Stream::new(source, online())) == track.bytes());
    assert!([start.to_vec(), rest(first)].concat() == track.bytes());
}

/// A reader that is some megabytes behind what has come of a segment does not wait for the rest of it.
#[test]
fn a_reader_behind_in_a_large_segment_goes_on() {
    let track = Track::plain(&[6_000_000]);
    let cache = Cache::new();
    let gate = track.server.gate();
    track
        .server
        .rule("/t/0.ts", Rule::new().gate_after(3_000_000, &gate));
    let mut stream = unread(&track, patient(&cache));
    track
        .server
        .wait_until(|log| log.to("/t/0.ts").any(|request| request.body_sent == 3_000_000));
    future::block_on(async {
        let mut bytes = 0;
        while bytes < 2_990_000 {
            bytes += stream.next().await.unwrap().unwrap().len();
        }
    });
    gate.open();
}

/// An initialization section that does not come keeps the server from being asked for the first segment again and again.
#[test]
fn a_silent_section_is_no_reason_to_ask_on() {
    let tags = |index: usize| {
        if index == 0 {
            "#EXT-X-MAP:URI=\"init\"\n".to_owned()
        } else {
            String::new()
        }
    };
    let track = Track::build(&[5000; 4], tags, |_, plain| plain.to_vec());
    track.server.serve_bytes("/t/init", *b"ID3 section");
    let gate = track.server.gate();
    track.server.rule("/t/init", Rule::new().gate(&gate));
    let cache = Cache::new();
    let stream = unread(&track, patient(&cache));
    track.server.wait_until(|log| log.to("/t/init").count() > 0);
    // Beyond the time after which what is behind a silent part is given up.
    assert!(
        !track
            .server
            .wait_within(Duration::from_millis(3500), |log| log.to("/t/0.ts").count() > 1)
    );
    gate.open();
    assert!(rest(stream) == [b"ID3 section".as_slice(), &track.bytes()].concat());
}

/// A key processor that panics ends the stream, as code of the app's does elsewhere.
#[test]
fn a_panic_of_the_key_processor_ends_the_stream() {
    let track = Track::encrypted(&[5000; 3]);
    let cache = Cache::new();
    let params = cache.params().key_processor(|_, _| panic!("of the app"));
    let mut stream = Stream::new(HlsSource::new(url(&track.list()), params), online());
    let error = future::block_on(stream.next()).unwrap().unwrap_err();
    assert!(error.to_string().contains("of the app"), "{error}");
    assert!(future::block_on(stream.next()).is_none());
}

/// How much is there is told where a segment starts; a silence and its end are told where they are.
#[test]
fn what_is_buffered_is_told_and_a_stall() {
    let track = Track::plain(&[20_000; 6]);
    let cache = Cache::new();
    let gate = gated(&track, [3]);
    let mut source = HlsSource::new(url(&track.list()), patient(&cache));
    let mut stream = source.open(&online()).unwrap();
    let (mut bytes, mut told) = (0, Vec::new());
    future::block_on(async {
        while let Some(message) = stream.next().await {
            match message.unwrap() {
                Message::Data(data) => bytes += data.len(),
                Message::Control(HlsControl::Stalled) => {
                    told.push(("stalled", bytes));
                    gate.open();
                }
                Message::Control(HlsControl::Resumed) => told.push(("resumed", bytes)),
                Message::Control(_) => {}
            }
        }
    });
    assert_eq!(told, [("stalled", 60_100), ("resumed", 60_100)]);
    // Of a track that is all there, all that comes behind the segment, and nothing of it fetched.
    let tape = play(&track.list(), cache.params(), online()).whole();
    let ahead = tape.controls.iter().rev().find_map(|control| match control {
        HlsControl::Buffered { ahead, bytes, .. } => Some((*ahead, *bytes)),
        _ => None,
    });
    assert_eq!(ahead, Some((Duration::ZERO, 0)));
}

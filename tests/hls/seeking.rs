//! H7: the first byte after a seek is the one asked for, whatever is known about the track.

use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::hls::{HlsControl, HlsSource};
use kithara::stream::{Message, Source as _, Stream};
use kithara_test_support::{Recorded, Rule, Server};
use proptest::prelude::*;

use crate::published::{Published, init, whole};
use crate::rig::{Cache, Track, drain, is_question, offline, online, open_at, open_at_time, play, url};

const LENGTHS: [usize; 6] = [5000, 1, 16, 3, 70_000, 4096];

/// Every interesting position, each from a source that knows nothing yet.
fn every_edge(track: &Track) {
    let bytes = track.bytes();
    let mut edges = vec![0, bytes.len() as u64, bytes.len() as u64 + 1, u64::MAX];
    let mut at = 0;
    for segment in &track.segments {
        at += segment.len() as u64;
        edges.extend([at - 1, at, at + 1, at.saturating_sub(17)]);
    }
    for position in edges {
        let cache = Cache::new();
        let mut source = HlsSource::new(url(&track.list()), cache.params());
        let tape = future::block_on(drain(open_at(&mut source, position, &online()))).whole();
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        assert_eq!(tape.bytes, bytes[from..], "from {position}");
    }
}

#[test]
fn the_first_byte_is_the_one_sought_plain() {
    every_edge(&Track::plain(&LENGTHS));
}

#[test]
fn the_first_byte_is_the_one_sought_encrypted() {
    every_edge(&Track::encrypted(&LENGTHS));
}

/// The segment that holds the byte is announced, those before it are not.
#[test]
fn the_segment_sought_is_announced() {
    let track = Track::plain(&[100, 100, 100]);
    let cache = Cache::new();
    let mut source = HlsSource::new(url(&track.list()), cache.params());
    let tape = future::block_on(drain(open_at(&mut source, 150, &online()))).whole();
    assert_eq!(tape.story, ["0 variant 0", "0 fetched 1", "50 fetched 2"]);
    let tape = future::block_on(drain(open_at(&mut source, 300, &online()))).whole();
    assert_eq!(tape.story, [""; 0]);
}

/// What has been read once is passed over without being asked for or read again.
#[test]
fn known_sizes_are_passed_over() {
    for track in [Track::plain(&[1000; 5]), Track::encrypted(&[1000; 5])] {
        // A cache that keeps playlists and keys, and no room for segments: only the source can know the sizes.
        let cache = Cache::new();
        let mut source = HlsSource::new(url(&track.list()), cache.params());
        future::block_on(drain(open_at(&mut source, 0, &online()))).whole();
        future::block_on(cache.cache.clear()).unwrap();
        let before = track.server.requests().len();
        let tape = future::block_on(drain(open_at(&mut source, 3500, &online()))).whole();
        assert_eq!(tape.bytes, track.bytes()[3500..]);
        let mut fetched: Vec<_> = track.server.requests()[before..]
            .iter()
            .map(|request| request.path.clone())
            .collect();
        // Two may be on their way side by side.
        fetched.sort();
        assert_eq!(fetched, ["/t/3.ts", "/t/4.ts"]);
    }
}

/// Sizes in the cache, and those of byte ranges, need no request.
#[test]
fn sizes_in_the_cache_and_in_the_playlist_are_known() {
    let track = Track::plain(&[1000; 5]);
    let cache = Cache::new();
    play(&track.list(), cache.params(), online()).whole();
    let mut source = HlsSource::new(url(&track.list()), cache.params());
    let tape = future::block_on(drain(open_at(&mut source, 3500, &offline()))).whole();
    assert_eq!(tape.bytes, track.bytes()[3500..]);

    let list = "#EXTM3U\n#EXTINF:6,\n#EXT-X-BYTERANGE:600@0\n0.ts\n#EXTINF:6,\n#EXT-X-BYTERANGE:400\n0.ts\n#EXT-X-ENDLIST";
    track.server.serve_bytes("/t/ranges.m3u8", list.as_bytes());
    let mut source = HlsSource::new(url(&track.server.url("/t/ranges.m3u8")), cache.params());
    let tape = future::block_on(drain(open_at(&mut source, 700, &online()))).whole();
    assert_eq!(tape.bytes, track.bytes()[700..1000]);
    let ranges: Vec<_> = track
        .server
        .log()
        .to("/t/0.ts")
        .filter(|request| !is_question(request))
        .filter_map(Recorded::range_start)
        .collect();
    assert_eq!(ranges, [600]);
}

/// Through the driver: forward, back, to the end and past it.
#[test]
fn a_playing_stream_seeks() {
    let track = Track::encrypted(&[50_000, 60_000, 70_000]);
    let cache = Cache::new();
    let bytes = track.bytes();
    let source = HlsSource::new(url(&track.list()), cache.params());
    let mut stream = Stream::new(source, online());
    let handle = stream.handle();
    future::block_on(async {
        stream.next().await.unwrap().unwrap();
        for position in [120_000, 10, 179_999, 50_000, 0, 180_000, 60_000, 1 << 40, 49_999] {
            handle.seek_bytes(position).await.unwrap();
            // Once the end has been read there is nobody left to seek (S7): it is left unread.
            if position < 180_000 {
                let from = usize::try_from(position).unwrap();
                let chunk = stream.next().await.unwrap().unwrap();
                assert!(bytes[from..].starts_with(&chunk), "from {position}");
            }
        }
        handle.seek_bytes(175_000).await.unwrap();
        let mut rest = Vec::new();
        while let Some(chunk) = stream.next().await {
            rest.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(rest, bytes[175_000..]);
    });
}

/// H7: by time the segment that plays then comes first, whatever the sizes of those before, and nothing of them is asked for.
#[test]
fn the_segment_that_plays_then_comes_first() {
    for track in [Track::plain(&LENGTHS), Track::encrypted(&LENGTHS)] {
        // Each segment lasts 6.006 s.
        for (seconds, first) in [
            (0.0, 0),
            (6.005, 0),
            (6.006, 1),
            (20.0, 3),
            (36.035, 5),
            (36.036, 6),
            (1e9, 6),
        ] {
            let cache = Cache::new();
            let mut source = HlsSource::new(url(&track.list()), cache.params());
            let before = track.server.requests().len();
            let tape = future::block_on(drain(open_at_time(&mut source, seconds, &online()))).whole();
            assert_eq!(tape.bytes, track.segments[first..].concat(), "from {seconds} s");
            let mut segments: Vec<_> = track.server.requests()[before..]
                .iter()
                .filter(|request| !is_question(request))
                .map(|request| request.path.clone())
                .filter(|path| path != "/t/list.m3u8" && path != "/t/key")
                .collect();
            let wanted: Vec<_> = (first..LENGTHS.len())
                .map(|index| format!("/t/{index}.ts"))
                .collect();
            // The first one alone, then several side by side: each once.
            assert_eq!(segments.first(), wanted.first(), "from {seconds} s");
            segments.sort();
            assert_eq!(segments, wanted, "from {seconds} s");
            let start = tape.controls.iter().find_map(|control| match control {
                HlsControl::SegmentStart { time, .. } => Some(*time),
                _ => None,
            });
            let starts = u32::try_from(first).map(|first| Duration::from_millis(6006) * first);
            assert_eq!(start, starts.ok().filter(|_| first < LENGTHS.len()));
        }
    }
}

/// H7: a new decoder can begin there: the initialization section that is in force comes first, and no other. In a gap the gap
/// is told, with when it starts, and what comes after it is played.
#[test]
fn the_section_in_force_comes_before_the_segment_sought_by_time() {
    let server = Server::empty().unwrap();
    let list = "#EXTM3U\n#EXT-X-MAP:URI=\"i0\"\n#EXTINF:6,\ns0\n#EXTINF:6,\ns1\n#EXT-X-DISCONTINUITY\n#EXTINF:6,\ns2\n\
        #EXT-X-GAP\n#EXTINF:6,\ns3\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"i1\"\n#EXTINF:6,\ns4\n#EXT-X-GAP\n#EXTINF:6,\n\
        s5\n#EXTINF:6,\ns6\n#EXT-X-ENDLIST";
    server.serve_bytes("/list.m3u8", list.as_bytes());
    for name in ["i0", "i1", "s0", "s1", "s2", "s4", "s6"] {
        server.serve_bytes(format!("/{name}"), name.as_bytes());
    }
    let cache = Cache::new();
    let source = || HlsSource::new(url(&server.url("/list.m3u8")), cache.word_params());
    for (seconds, bytes, story) in [
        (
            0.0,
            "i0s0s1i0s2i1s4s6",
            "0 variant 0, 0 section, 2 fetched 0, 4 fetched 1",
        ),
        (
            6.0,
            "i0s1i0s2i1s4s6",
            "0 variant 0, 0 section, 2 cached 1, 4 discontinuity 1",
        ),
        (
            13.0,
            "i0s2i1s4s6",
            "0 variant 0, 0 discontinuity 1, 0 section, 2 cached 2",
        ),
        (
            18.0,
            "i1s4s6",
            "0 variant 0, 0 gap 3, 0 discontinuity 2, 0 section",
        ),
        (
            24.0,
            "i1s4s6",
            "0 variant 0, 0 discontinuity 2, 0 section, 2 cached 4",
        ),
        (30.0, "i1s6", "0 variant 0, 0 section, 2 gap 5, 2 cached 6"),
        (36.0, "i1s6", "0 variant 0, 0 section, 2 cached 6"),
        (42.0, "", ""),
    ] {
        let tape = future::block_on(drain(open_at_time(&mut source(), seconds, &online()))).whole();
        assert_eq!(String::from_utf8(tape.bytes).unwrap(), bytes, "from {seconds} s");
        let starts = tape.controls.iter().find_map(|control| match control {
            HlsControl::SegmentStart { time, .. } | HlsControl::Gap { time, .. } => Some(*time),
            _ => None,
        });
        // Each lasts 6 s.
        let plays_then = |start: Duration| (0.0..6.0).contains(&(seconds - start.as_secs_f64()));
        assert!(
            starts.map_or(bytes.is_empty(), plays_then),
            "from {seconds} s: {starts:?}"
        );
        // Each segment names its run of timestamps, whether or not the tag before it was played.
        let runs = tape.controls.iter().filter_map(|control| match control {
            HlsControl::SegmentStart {
                media_sequence,
                discontinuity_sequence,
                ..
            } => Some((*media_sequence, *discontinuity_sequence)),
            _ => None,
        });
        for (segment, run) in runs {
            assert_eq!(run, [0, 0, 1, 1, 2, 2, 2][usize::try_from(segment).unwrap()]);
        }
        let told: Vec<_> = tape.story.into_iter().take(4).collect();
        assert_eq!(told.join(", "), story, "from {seconds} s");
    }
    // Offline as well.
    server.stop();
    let tape = future::block_on(drain(open_at_time(&mut source(), 30.0, &offline()))).whole();
    assert_eq!(tape.bytes, b"i1s6");
}

/// H7, H13: a byte position may lie in a section; what comes is named, and the section that follows a discontinuity counts.
#[test]
fn a_byte_in_a_section_is_named_as_such() {
    let server = Server::empty().unwrap();
    let list = "#EXTM3U\n#EXT-X-MAP:URI=\"i0\"\n#EXTINF:6,\ns0\n#EXT-X-DISCONTINUITY\n#EXTINF:6,\ns1\n#EXT-X-ENDLIST";
    server.serve_bytes("/list.m3u8", list.as_bytes());
    for name in ["i0", "s0", "s1"] {
        server.serve_bytes(format!("/{name}"), name.as_bytes());
    }
    let cache = Cache::new();
    let mut source = HlsSource::new(url(&server.url("/list.m3u8")), cache.word_params());
    future::block_on(drain(open_at(&mut source, 0, &online()))).whole();
    for (position, bytes, story) in [
        (
            1,
            "0s0i0s1",
            "0 variant 0, 0 section, 1 cached 0, 3 discontinuity 1, 3 section, 5 cached 1",
        ),
        (
            3,
            "0i0s1",
            "0 variant 0, 0 cached 0, 1 discontinuity 1, 1 section, 3 cached 1",
        ),
        (5, "0s1", "0 variant 0, 0 discontinuity 1, 0 section, 1 cached 1"),
        (6, "s1", "0 variant 0, 0 cached 1"),
    ] {
        let tape = future::block_on(drain(open_at(&mut source, position, &online()))).whole();
        assert_eq!(String::from_utf8(tape.bytes).unwrap(), bytes, "from {position}");
        assert_eq!(tape.story.join(", "), story, "from {position}");
    }
}

/// H7, H11: while the section is read, the segment sought is on its way, not the one that comes after the section.
#[test]
fn the_segment_sought_is_on_its_way_while_its_section_is_read() {
    let track = Track::build(
        &[1000; 4],
        |index| {
            if index == 0 {
                "#EXT-X-MAP:URI=\"section\"\n".into()
            } else {
                String::new()
            }
        },
        |_, plain| plain.to_vec(),
    );
    let gate = track.server.gate();
    track.server.serve_bytes("/t/section", [7; 1000]);
    track
        .server
        .rule("/t/section", Rule::new().gate_after(500, &gate));
    let cache = Cache::new();
    let mut source = HlsSource::new(url(&track.list()), cache.params());
    source.seek_time(Duration::from_secs(13)).unwrap();
    let mut stream = Stream::new(source, online());
    track.server.wait_until(|log| log.to("/t/2.ts").count() == 1);
    gate.open();
    let bytes = future::block_on(stream.try_fold(Vec::new(), |mut all, chunk| {
        all.extend_from_slice(&chunk);
        Ok(all)
    }));
    assert!(bytes.unwrap() == [&[7; 1000], &track.segments[2][..], &track.segments[3]].concat());
    let log = track.server.log();
    let before = log.to("/t/0.ts").chain(log.to("/t/1.ts"));
    assert!(before.into_iter().all(is_question));
}

/// H7: by time and by byte in turn, through the driver; a byte position counts from the start of the track ever after.
#[test]
fn a_playing_stream_seeks_by_time() {
    let track = Track::encrypted(&[50_000, 60_000, 70_000]);
    let cache = Cache::new();
    let bytes = track.bytes();
    let mut stream = Stream::new(HlsSource::new(url(&track.list()), cache.params()), online());
    let handle = stream.handle();
    future::block_on(async {
        for (seconds, start, position) in [(13, 110_000, 70_000), (0, 0, 170_000), (7, 50_000, 12)] {
            handle.seek_time(Duration::from_secs(seconds)).await.unwrap();
            let chunk = stream.next().await.unwrap().unwrap();
            assert!(bytes[start..].starts_with(&chunk), "from {seconds} s");
            handle.seek_bytes(position).await.unwrap();
            let chunk = stream.next().await.unwrap().unwrap();
            assert!(bytes[usize::try_from(position).unwrap()..].starts_with(&chunk));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// E13, B1: any order of seeks and drops, at any depth of reading; every byte is the right one, and in the end the
    /// whole track plays, is cached and plays again without the server.
    #[test]
    fn random_seeks_and_drops_deliver_the_right_bytes(
        encrypted in any::<bool>(),
        lengths in prop::collection::vec(0_usize..30_000, 1..6),
        moves in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40_000, any::<bool>()), 1..12),
    ) {
        let track = if encrypted { Track::encrypted(&lengths) } else { Track::plain(&lengths) };
        let bytes = track.bytes();
        let cache = Cache::new();
        let mut source = HlsSource::new(url(&track.list()), cache.params());
        future::block_on(async {
            for (position, depth, fresh) in moves {
                if fresh {
                    source = HlsSource::new(url(&track.list()), cache.params());
                }
                let position = position.index(bytes.len() + 100);
                let mut stream = open_at(&mut source, position as u64, &online());
                let mut at = position.min(bytes.len());
                let end = at + depth;
                while at < end {
                    match stream.next().await {
                        None => {
                            assert_eq!(at, bytes.len());
                            break;
                        }
                        Some(Ok(Message::Data(data))) => {
                            assert!(bytes[at..].starts_with(&data));
                            at += data.len();
                        }
                        Some(Ok(Message::Control(_))) => {}
                        Some(Err(error)) => panic!("{error}"),
                    }
                }
            }
            let tape = drain(open_at(&mut source, 0, &online())).await.whole();
            assert!(tape.bytes == bytes);
            assert_eq!(tape.bypasses(), 0);
        });
        track.server.stop();
        let tape = play(&track.list(), cache.params(), offline()).whole();
        prop_assert!(tape.bytes == bytes);
    }
}

/// W61: a first segment that plays for no time is not left out.
#[test]
fn w61_a_segment_without_duration_plays() {
    for (durations, seconds, first) in [
        (vec![0, 6, 6], 0.0, 0),
        (vec![6, 0, 6], 6.0, 1),
        (vec![6, 0, 0, 6], 6.0, 1),
        (vec![6, 0, 6], 6.5, 2),
        (vec![6, 6, 0], 12.0, 2),
    ] {
        let track = Published::new();
        track.publish("old", &durations);
        let cache = Cache::new();
        let mut source = HlsSource::new(url(&track.url()), cache.params());
        let tape = future::block_on(drain(open_at_time(&mut source, seconds, &online()))).whole();
        let expected = [init("old"), whole("old", first..durations.len())].concat();
        assert!(
            tape.bytes == expected,
            "{durations:?} {seconds}: {:?}",
            tape.story
        );
    }
}

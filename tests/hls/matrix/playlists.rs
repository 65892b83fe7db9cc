//! Rows that are the playlist's: published anew, cut, written carelessly, with everything in it, above the limit.

use std::fmt::Write as _;

use futures_lite::future;
use kithara::hls::HlsSource;
use kithara::media::EntryNames;
use kithara_test_support::Rule;

use super::stage::{IV, SEGMENTS, SHAPES, Shape, Stage};
use super::{Ends, acts, all, assert_ends};
use crate::rig::{KEY, drain, offline, online, open_at_time, url};

/// W5: another edition under the same URLs, with the same list or another one, under the same key or another one. The old one
/// plays as far as it is kept, then the new one, and that is told.
#[test]
fn w5_a_track_published_anew() {
    for shape in SHAPES {
        for durations in [[6; SEGMENTS], [6, 6, 6, 7]] {
            for key in [KEY, *b"another key, 16."] {
                let what = format!("{durations:?} {shape:?} {key:?}");
                let mut stage = Stage::new(shape);
                stage.hear_half();
                stage.restart();
                stage.publish("anew", &durations, "", key);
                let old = shape.bytes("old", 0..2);
                let tape = stage.play(online());
                let expected = [old.clone(), shape.section("anew")].concat();
                let expected = [expected, tail(shape, "anew")].concat();
                assert_ends(&tape, &expected, Ends::Well, &what);
                let told = format!("{} edition", old.len());
                assert_eq!(
                    tape.story.iter().filter(|line| line.ends_with("edition")).count(),
                    1,
                    "{what}"
                );
                assert!(tape.story.contains(&told), "{what}: {:?}", tape.story);
                // Neither of the two is whole. Offline it is the old one.
                stage.restart();
                let tape = stage.play(offline());
                assert!(tape.failed().is_offline_miss() && tape.bytes == old, "{what}");
                let tape = stage.play(online());
                let anew = shape.bytes("anew", 0..SEGMENTS);
                assert!(!tape.story.iter().any(|line| line.ends_with("edition")), "{what}");
                assert_ends(&tape, &anew, Ends::Well, &what);
                acts(stage, &anew, Ends::Well, &what);
            }
        }
    }
}

/// Segments 2 and 3.
fn tail(shape: Shape, edition: &str) -> Vec<u8> {
    (2..SEGMENTS)
        .flat_map(|index| shape.segment(edition, index))
        .collect()
}

/// W6: another token in the query, from the second day on.
#[test]
fn w6_another_token_each_day() {
    for shape in SHAPES {
        let mut stage = Stage::new(shape);
        stage.names = EntryNames::without_query();
        for day in 0..3 {
            stage.query = format!("?token={day}");
            assert_ends(&stage.play(online()), &all(shape), Ends::Well, "online");
            stage.restart();
            stage.query = format!("?token={}", day + 100);
            assert_ends(&stage.play(offline()), &all(shape), Ends::Well, "offline");
        }
        let bodies = stage.media_bodies();
        assert_eq!(bodies, stage.media_names(), "{shape:?}: each is sent once");
        acts(stage, &all(shape), Ends::Well, "tokens");
    }
}

/// W7, `04-cut-vod-as-it-arrived.m3u8`: half of a playlist of type VOD, in a body without a length.
#[test]
fn w7_a_playlist_that_is_cut() {
    for shape in SHAPES {
        for is_half_heard in [false, true] {
            let stage = Stage::new(shape);
            if is_half_heard {
                stage.hear_half();
            }
            let mut list = format!(
                "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-PLAYLIST-TYPE:VOD\n{}",
                shape.tags("")
            );
            list += "#EXTINF:6,\n0.ts\n#EXTINF:6,\n1.ts\n";
            stage.fault("list.m3u8", Rule::new().answer(200, &list).no_length());
            acts(
                stage,
                &all(shape),
                Ends::WithAnError,
                &format!("{shape:?}, half heard: {is_half_heard}"),
            );
        }
    }
}

/// W32: a playlist written carelessly, as `unquoted-key-uri.m3u8`, `space-before-quoted-value.m3u8` and
/// `dangling-extinf.m3u8` are.
#[test]
fn w32_a_careless_playlist() {
    for shape in SHAPES {
        let tags = shape.tags("");
        for tags in [
            tags.replace('"', ""),
            tags.replace('=', " = "),
            tags.replace("URI=", "URI= "),
            tags.replace(',', " , "),
        ] {
            let stage = Stage::new(shape);
            let mut list = format!("#EXTM3U\n\n#EXT-X-TARGETDURATION: 10\n{tags}");
            for index in 0..SEGMENTS {
                write!(list, " #EXTINF:6\n{index}.ts \n").unwrap();
            }
            list += "#EXTINF:6,\n#EXT-X-ENDLIST\n";
            stage.serve("list.m3u8", list.as_bytes());
            acts(stage, &all(shape), Ends::Well, &format!("{tags} {shape:?}"));
        }
    }
}

/// W33: keys, sections and segments that stand in the playlist.
#[test]
fn w33_data_in_the_playlist() {
    let data = |bytes: &[u8]| {
        let digits = bytes.iter().map(|byte| format!("%{byte:02x}"));
        format!("data:application/octet-stream,{}", digits.collect::<String>())
    };
    for shape in SHAPES {
        let stage = Stage::new(shape);
        let section = shape.sent(&shape.section("old"), KEY, IV);
        let mut list = format!(
            "#EXTM3U\n{}",
            shape
                .tags("")
                .replace("\"init\"", &format!("\"{}\"", data(&section)))
                .replace("\"key\"", &format!("\"{}\"", data(&KEY)))
        );
        for index in 0..SEGMENTS {
            let segment = shape.sent(&shape.segment("old", index), KEY, index as u128);
            // One of them is fetched.
            let uri = if index == 1 {
                "1.ts".to_owned()
            } else {
                data(&segment)
            };
            write!(list, "#EXTINF:6,\n{uri}\n").unwrap();
        }
        stage.serve("list.m3u8", (list + "#EXT-X-ENDLIST\n").as_bytes());
        acts(stage, &all(shape), Ends::Well, &format!("{shape:?}"));
    }
}

/// W34, `08-same-map-after-discontinuity.m3u8`: the section comes again.
#[test]
fn w34_a_discontinuity_with_the_same_section() {
    for shape in SHAPES {
        let tags = shape.tags("");
        let stage = Stage::new(shape);
        let list = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n{tags}#EXTINF:6,\n0.ts\n#EXT-X-DISCONTINUITY\n{tags}#EXTINF:6,\n1.ts\n#EXT-X-ENDLIST\n"
        );
        stage.serve("list.m3u8", list.as_bytes());
        let expected = [
            shape.section("old"),
            shape.segment("old", 0),
            shape.section("old"),
            shape.segment("old", 1),
        ]
        .concat();
        acts(stage, &expected, Ends::Well, &format!("{shape:?}"));
    }
}

/// W43: a playlist larger than the app allows.
#[test]
fn w43_a_playlist_above_the_limit() {
    for shape in SHAPES {
        let mut stage = Stage::new(shape);
        let limit = 4000;
        stage.max_playlist_bytes = limit;
        let list = format!("#EXTM3U\n# {}\n#EXT-X-ENDLIST\n", "x".repeat(limit));
        stage.fault("list.m3u8", Rule::new().answer(200, list));
        acts(stage, &all(shape), Ends::WithAnError, &format!("{shape:?}"));
    }
}

/// W61: a first segment of no duration, from its start and by time.
#[test]
fn w61_a_first_segment_of_no_duration() {
    for shape in SHAPES {
        let mut stage = Stage::new(shape);
        stage.publish("old", &[0, 6, 6, 6], "", KEY);
        for mode in [online(), offline()] {
            stage.restart();
            let mut source = HlsSource::new(url(&stage.url()), stage.params());
            let tape = future::block_on(drain(open_at_time(&mut source, 0.0, &mode)));
            assert_ends(&tape, &all(shape), Ends::Well, &format!("{shape:?}"));
        }
        acts(stage, &all(shape), Ends::Well, &format!("{shape:?}"));
    }
}

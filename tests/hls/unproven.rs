//! Fault W7: what is believed and kept of a playlist that came without a length. Fault W43: the limits of what is read whole.

use kithara::hls::{HlsError, HlsParams, PlaylistError, VariantChoice};
use kithara::net::NetError;
use kithara_test_support::{Rule, Server};

use crate::rig::{Cache, KEY, Track, encrypt, files, offline, online, play};

const VOD: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:6,\n0.ts\n#EXTINF:6,\n1.ts\n\
    #EXTINF:6,\n2.ts\n#EXTINF:6,\n3.ts\n";

fn cut(text: &str, bytes: usize) -> Rule {
    let rule = Rule::new().answer(200, text).no_length();
    if bytes < text.len() {
        rule.truncate_after(bytes as u64)
    } else {
        rule
    }
}

/// 04-cut-vod-as-it-arrived.m3u8: half of the segments were played to a clean end, and the half was kept.
#[test]
fn a_cut_playlist_is_neither_played_nor_kept() {
    let track = Track::plain(&[1000, 2000, 300, 40]);
    let whole = format!("{VOD}#EXT-X-ENDLIST\n");
    // Behind a URI, in a URI, in a tag, before the last line.
    for at in ["2.ts\n", "2.t", "2.ts\n#EXTIN", "3.ts\n", "#EXT-X-ENDLIS"] {
        let at = whole.find(at).unwrap() + at.len();
        let rule = track.server.rule("/t/list.m3u8", cut(&whole, at));
        let cache = Cache::new();
        let tape = play(&track.list(), cache.params(), online());
        assert!(
            matches!(
                tape.failed(),
                HlsError::Playlist {
                    source: PlaylistError::MayBeCut,
                    ..
                }
            ),
            "{at}: {}",
            tape.failed()
        );
        assert!(tape.failed().is_transient());
        assert_eq!((tape.bytes.len(), files(&cache)), (0, 0), "{at}");
        // The same URL, whole the next time.
        rule.remove();
        assert_eq!(
            play(&track.list(), cache.params(), online()).whole().bytes,
            track.bytes()
        );
    }
}

/// One broken connection does not end a track: the playlist is asked for once more, and no oftener.
#[test]
fn a_cut_playlist_is_asked_for_once_more() {
    let track = Track::plain(&[1000, 2000, 300, 40]);
    let whole = format!("{VOD}#EXT-X-ENDLIST\n");
    for (cuts, requests) in [(1, 2), (2, 2)] {
        let before = track.requests("/t/list.m3u8");
        track.server.rule("/t/list.m3u8", cut(&whole, 90).first(cuts));
        let tape = play(&track.list(), Cache::new().params(), online());
        assert_eq!(track.requests("/t/list.m3u8") - before, requests);
        if cuts == 1 {
            assert_eq!(tape.whole().bytes, track.bytes());
        } else {
            assert!(tape.failed().is_transient());
        }
    }
}

/// Its own end proves a playlist as well as a length does: played, kept, played offline.
#[test]
fn a_playlist_that_ends_itself_is_believed_without_a_length() {
    let track = Track::plain(&[1000, 2000, 300, 40]);
    for text in [format!("{VOD}#EXT-X-ENDLIST\n"), format!("{VOD}#EXT-X-ENDLIST")] {
        track.server.rule("/t/list.m3u8", cut(&text, text.len()));
        let cache = Cache::new();
        for mode in [online(), offline()] {
            let tape = play(&track.list(), cache.params(), mode).whole();
            assert_eq!((tape.bypasses(), &tape.bytes), (0, &track.bytes()));
        }
    }
}

/// With a length, or in chunks, the type VOD is enough, as it was.
#[test]
fn a_proven_length_completes_a_playlist_of_type_vod() {
    let track = Track::plain(&[1000, 2000, 300, 40]);
    for rule in [
        Rule::new().answer(200, VOD),
        Rule::new().answer(200, VOD).chunked(),
    ] {
        track.server.clear_rules();
        track.server.rule("/t/list.m3u8", rule);
        let cache = Cache::new();
        for mode in [online(), offline()] {
            assert_eq!(
                play(&track.list(), cache.params(), mode).whole().bytes,
                track.bytes()
            );
        }
    }
}

/// A Multivariant Playlist that may be cut plays, and is not kept: the Variant Stream that it lost would be lost for ever.
#[test]
fn a_multivariant_playlist_without_a_length_plays_and_is_not_kept() {
    let track = Track::plain(&[1000]);
    let whole =
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=9\nhigh.m3u8\n";
    let url = track.server.url("/t/master.m3u8");
    let best = |params: HlsParams| params.variant(VariantChoice::Highest);
    // A URI that lost its tail, and a Variant Stream that lost its URI.
    for at in ["high.m3", "BANDWIDTH=9\n"] {
        let at = whole.find(at).unwrap() + at.len();
        let rule = track.server.rule("/t/master.m3u8", cut(whole, at));
        let cache = Cache::new();
        let tape = play(&url, best(cache.params()), online()).whole();
        assert_eq!(
            (
                tape.bytes,
                tape.story
                    .iter()
                    .filter(|line| line.contains("bypassed Playlist"))
                    .count()
            ),
            (track.bytes(), 1)
        );
        // The Media Playlist and the segment.
        assert_eq!(files(&cache), 2);
        assert!(play(&url, cache.params(), offline()).failed().is_offline_miss());
        // The whole one is asked for the next time, and its best Variant Stream plays.
        rule.remove();
        track.server.serve_bytes("/t/master.m3u8", whole.as_bytes());
        let before = track.requests("/t/high.m3u8");
        assert!(play(&url, best(cache.params()), online()).whole().bytes == track.bytes());
        assert_eq!(track.requests("/t/high.m3u8"), before + 1);
    }
    // Cut before the first one.
    track.server.rule("/t/master.m3u8", cut(whole, 40));
    let tape = play(&url, Cache::new().params(), online());
    assert!(matches!(
        tape.failed(),
        HlsError::Playlist {
            source: PlaylistError::MayBeCut,
            ..
        }
    ));
}

/// W43: larger than the default, and smaller.
#[test]
fn the_largest_playlist_is_a_setting() {
    let track = Track::plain(&[1000]);
    let line = format!("# {}\n", "x".repeat(1022));
    let text = format!(
        "#EXTM3U\n{}#EXTINF:6,\n0.ts\n#EXT-X-ENDLIST\n",
        line.repeat(17 << 10)
    );
    let bytes = text.len();
    track.server.serve_bytes("/t/list.m3u8", text.into_bytes());
    let params = || Cache::new().params();
    let too_large = |params: HlsParams, expected: usize| match play(&track.list(), params, online()).error {
        Some(HlsError::Network {
            source: NetError::TooLarge { limit, .. },
            ..
        }) => assert_eq!(limit, expected),
        other => panic!("{other:?}"),
    };
    too_large(params(), 16 << 20);
    too_large(params().max_playlist_bytes(bytes - 1), bytes - 1);
    let tape = play(&track.list(), params().max_playlist_bytes(bytes), online());
    assert_eq!(tape.whole().bytes, track.bytes());
}

/// W43.
#[test]
fn the_largest_key_is_a_setting() {
    let server = Server::empty().unwrap();
    server.serve_bytes("/k", [KEY.as_slice(), &vec![0; 70_000]].concat());
    server.serve_bytes("/0.ts", encrypt(b"words", KEY, 0));
    let list = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:6,\n0.ts\n#EXT-X-ENDLIST\n";
    server.serve_bytes("/list.m3u8", list.as_bytes());
    let params = || {
        let params = Cache::new().word_params();
        params.key_processor(|bytes, _| Ok(bytes.slice(..16)))
    };
    let tape = play(&server.url("/list.m3u8"), params(), online());
    assert!(matches!(
        tape.failed(),
        HlsError::Network {
            source: NetError::TooLarge { limit: 65_536, .. },
            ..
        }
    ));
    let tape = play(
        &server.url("/list.m3u8"),
        params().max_key_bytes(70_016),
        online(),
    );
    assert_eq!(tape.whole().bytes, b"words");
}

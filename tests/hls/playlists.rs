//! What playlists say is what is fetched: renditions, gaps, redirects, base URLs; and what is no VOD playlist is refused.

use futures_lite::future;
use kithara::hls::{HlsControl, HlsError, PlaylistError, VariantChoice};
use kithara_test_support::{Rule, Server};

use crate::rig::{Cache, KEY, Tape, Track, chain, encrypt, offline, online, play, url};

fn serve(server: &Server, path: &str, text: &str) -> String {
    server.serve_bytes(path, text.as_bytes());
    server.url(path)
}

fn refused(body: &str) -> PlaylistError {
    let server = Server::empty().unwrap();
    let cache = Cache::new();
    let url = serve(&server, "/list.m3u8", body);
    let tape = play(&url, cache.word_params(), online());
    let kept = future::block_on(cache.cache.assets()).unwrap();
    assert!(kept.iter().all(|asset| asset.files == 0), "{kept:?}");
    match tape.error {
        Some(HlsError::Playlist { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

/// H2, E7, E16, fault C21.
#[test]
fn what_is_no_vod_playlist_is_refused_and_not_kept() {
    let PlaylistError::NotAPlaylist { begins } = refused("<!DOCTYPE html><title>Log in") else {
        panic!()
    };
    assert_eq!(begins, "<!DOCTYPE html><title>Log in");
    assert_eq!(refused("#EXTM3U\n#EXTINF:6,\na.ts\n"), PlaylistError::Live);
    let sample = "#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST";
    assert!(matches!(
        refused(sample),
        PlaylistError::UnsupportedEncryption { line: 2, .. }
    ));
    assert!(matches!(
        refused("#EXTM3U\n#EXTINF:-6,\na.ts\n"),
        PlaylistError::Malformed { line: 2, .. }
    ));
    assert_eq!(
        refused(""),
        PlaylistError::NotAPlaylist {
            begins: String::new()
        }
    );
}

#[test]
fn a_multivariant_playlist_in_another_is_refused() {
    let server = Server::empty().unwrap();
    let url = serve(
        &server,
        "/a.m3u8",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nb.m3u8\n",
    );
    serve(
        &server,
        "/b.m3u8",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n",
    );
    let tape = play(&url, Cache::new().word_params(), online());
    assert!(matches!(
        tape.failed(),
        HlsError::Playlist {
            source: PlaylistError::Nested,
            ..
        }
    ));
}

/// A server that fails is not a playlist that is wrong.
#[test]
fn a_refused_playlist_is_a_network_error() {
    let server = Server::empty().unwrap();
    let tape = play(&server.url("/none.m3u8"), Cache::new().word_params(), online());
    assert!(tape.failed().is_not_found(), "{}", chain(tape.failed()));
    let address = server.url("/none.m3u8");
    server.stop();
    let tape = play(&address, Cache::new().word_params(), online());
    assert!(tape.failed().is_transient(), "{}", chain(tape.failed()));
}

/// E19: of two renditions the chosen one is fetched, and nothing of the other, nor of the Variant Stream's own media.
#[test]
fn the_chosen_rendition_is_played_and_no_other() {
    let server = Server::empty().unwrap();
    let master = "#EXTM3U\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"English\",LANGUAGE=\"en\",AUTOSELECT=YES,URI=\"en.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"Deutsch\",LANGUAGE=\"de\",DEFAULT=YES,URI=\"de.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=9,CODECS=\"avc1,mp4a\",AUDIO=\"a\"\nvideo.m3u8\n";
    let url = serve(&server, "/master.m3u8", master);
    for name in ["en", "de", "video"] {
        serve(
            &server,
            &format!("/{name}.m3u8"),
            &format!("#EXTM3U\n#EXTINF:6,\n{name}.ts\n#EXT-X-ENDLIST"),
        );
        serve(&server, &format!("/{name}.ts"), name);
    }
    let tape = play(&url, Cache::new().word_params(), online()).whole();
    assert_eq!(tape.bytes, b"de");
    let HlsControl::VariantApplied {
        rendition,
        codecs,
        bandwidth,
        ..
    } = &tape.controls[0]
    else {
        panic!()
    };
    assert_eq!(
        (rendition.as_deref(), codecs.as_deref(), *bandwidth),
        (Some("Deutsch"), Some("avc1,mp4a"), 9)
    );
    let tape = play(&url, Cache::new().word_params().audio_language("en"), online()).whole();
    assert_eq!(tape.bytes, b"en");
    assert_eq!(server.log().to("/video*").count(), 0);
    assert_eq!(
        (server.log().to("/en*").count(), server.log().to("/de*").count()),
        (2, 2)
    );
}

/// E9, H6: a gap is told and not fetched; a discontinuity is told where it is, before the new section's bytes.
#[test]
fn gaps_and_discontinuities_are_told_in_order() {
    let server = Server::empty().unwrap();
    let list = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-MAP:URI=\"i0\"\n#EXTINF:6,\ns0\n\
        #EXT-X-GAP\n#EXTINF:6,\ns1\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"i1\"\n#EXTINF:6,\ns2\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-GAP\n#EXTINF:6,\ns3\n#EXT-X-MAP:URI=\"i0\"\n#EXTINF:6,\ns4\n#EXT-X-MAP:URI=\"i0\"\n\
        #EXTINF:6,\ns5\n#EXT-X-ENDLIST";
    let url = serve(&server, "/list.m3u8", list);
    for name in ["i0", "i1", "s0", "s2", "s4", "s5"] {
        serve(&server, &format!("/{name}"), name);
    }
    let cache = Cache::new();
    let story = |origin: &str| {
        [
            "0 variant 0".to_owned(),
            "0 section".to_owned(),
            format!("2 {origin} 5"),
            "4 gap 6".to_owned(),
            "4 discontinuity 1".to_owned(),
            "4 section".to_owned(),
            format!("6 {origin} 7"),
            "8 discontinuity 2".to_owned(),
            "8 gap 8".to_owned(),
            "8 section".to_owned(),
            format!("10 {origin} 9"),
            format!("12 {origin} 10"),
        ]
    };
    for (mode, origin) in [(online(), "fetched"), (offline(), "cached")] {
        let tape = play(&url, cache.word_params(), mode).whole();
        assert_eq!(tape.bytes, b"i0s0i1s2i0s4s5");
        assert_eq!(tape.story, story(origin));
    }
    // E3, E9: each section once for each time it comes into force, unless its first copy is on the disk by then; what is
    // absent never.
    for (path, counts) in [("/i0", 1..=2), ("/i1", 1..=1), ("/s1", 0..=0), ("/s3", 0..=0)] {
        assert!(counts.contains(&server.log().to(path).count()), "{path}");
    }
}

/// Fault W34, H13: after a discontinuity the section comes again, though it is the same one, and a message names its bytes.
#[test]
fn the_same_section_comes_again_after_a_discontinuity() {
    let server = Server::empty().unwrap();
    for name in ["i0", "s0", "s1", "s2"] {
        serve(&server, &format!("/{name}"), name);
    }
    server.serve_bytes("/key", KEY);
    server.serve_bytes("/secret", encrypt(b"i1", KEY, 9));
    let key =
        "#EXT-X-KEY:METHOD=AES-128,URI=\"key\",IV=0x9\n#EXT-X-MAP:URI=\"secret\"\n#EXT-X-KEY:METHOD=NONE\n";
    let (map, range) = (
        "#EXT-X-MAP:URI=\"i0\"\n",
        "#EXT-X-MAP:URI=\"i0\",BYTERANGE=\"1@1\"\n",
    );
    for (lines, bytes, story) in [
        // The tag is repeated, as packagers do, or not.
        (
            format!("{map}#EXTINF:6,\ns0\n#EXT-X-DISCONTINUITY\n{map}#EXTINF:6,\ns1\n"),
            "i0s0i0s1",
            "0 variant 0, 0 section, 2 segment 0, 4 discontinuity 1, 4 section, 6 segment 1",
        ),
        (
            format!("{map}#EXTINF:6,\ns0\n#EXT-X-DISCONTINUITY\n#EXTINF:6,\ns1\n#EXTINF:6,\ns2\n"),
            "i0s0i0s1s2",
            "0 variant 0, 0 section, 2 segment 0, 4 discontinuity 1, 4 section, 6 segment 1, 8 segment 2",
        ),
        // A gap takes no section: it comes with the segment after it.
        (
            format!(
                "{map}#EXTINF:6,\ns0\n#EXT-X-DISCONTINUITY\n#EXT-X-GAP\n#EXTINF:6,\ns1\n#EXTINF:6,\ns2\n"
            ),
            "i0s0i0s2",
            "0 variant 0, 0 section, 2 segment 0, 4 discontinuity 1, 4 gap 1, 4 section, 6 segment 2",
        ),
        // The first segment has it before it anyway.
        (
            format!("#EXT-X-DISCONTINUITY\n{map}#EXTINF:6,\ns0\n#EXTINF:6,\ns1\n"),
            "i0s0s1",
            "0 variant 0, 0 discontinuity 1, 0 section, 2 segment 0, 4 segment 1",
        ),
        (
            format!("{range}#EXTINF:6,\ns0\n#EXT-X-DISCONTINUITY\n{range}#EXTINF:6,\ns1\n"),
            "0s00s1",
            "0 variant 0, 0 section, 1 segment 0, 3 discontinuity 1, 3 section, 4 segment 1",
        ),
        (
            format!("{key}#EXTINF:6,\ns0\n#EXT-X-DISCONTINUITY\n{key}#EXTINF:6,\ns1\n"),
            "i1s0i1s1",
            "0 variant 0, 0 section, 2 segment 0, 4 discontinuity 1, 4 section, 6 segment 1",
        ),
        // Without a discontinuity it does not.
        (
            format!("{map}#EXTINF:6,\ns0\n{map}#EXTINF:6,\ns1\n"),
            "i0s0s1",
            "0 variant 0, 0 section, 2 segment 0, 4 segment 1",
        ),
    ] {
        let url = serve(&server, "/list.m3u8", &format!("#EXTM3U\n{lines}#EXT-X-ENDLIST"));
        let cache = Cache::new();
        for mode in [online(), offline()] {
            let tape = play(&url, cache.word_params(), mode).whole();
            assert_eq!(String::from_utf8(tape.bytes).unwrap(), bytes, "{lines}");
            let told = tape.story.join(", ");
            assert_eq!(
                told.replace("fetched", "segment").replace("cached", "segment"),
                story,
                "{lines}"
            );
        }
    }
}

/// D11, H3: what a redirected playlist refers to stands where the redirect led, offline too.
#[test]
fn a_redirected_playlist_resolves_where_it_came_from() {
    let track = Track::plain(&[1000, 2000]);
    track
        .server
        .rule("/short", Rule::new().redirect(302, "/t/list.m3u8?session=1"));
    serve(
        &track.server,
        "/master.m3u8",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nshort?user=secret\n",
    );
    let cache = Cache::new();
    for start in ["/short", "/master.m3u8"] {
        let url = track.server.url(start);
        assert_eq!(
            play(&url, cache.word_params(), online()).whole().bytes,
            track.bytes()
        );
    }
    let addresses = [track.server.url("/short"), track.server.url("/master.m3u8")];
    track.server.stop();
    for url in addresses {
        assert_eq!(
            play(&url, cache.word_params(), offline()).whole().bytes,
            track.bytes()
        );
    }
}

/// E10: the playlist's token stays with the playlist; a segment's own query is its identity in the cache.
#[test]
fn queries_stay_where_they_belong() {
    let server = Server::empty().unwrap();
    serve(
        &server,
        "/list.m3u8",
        "#EXTM3U\n#EXTINF:6,\ns?part=1\n#EXTINF:6,\ns?part=2\n#EXTINF:6,\nt\n#EXT-X-ENDLIST",
    );
    server.rule("/s?part=1", Rule::new().answer(200, "one"));
    server.rule("/s?part=2", Rule::new().answer(200, "two"));
    serve(&server, "/t", "three");
    let url = format!("{}?token=1", server.url("/list.m3u8"));
    let cache = Cache::new();
    for mode in [online(), offline()] {
        assert_eq!(
            play(&url, cache.word_params(), mode).whole().bytes,
            b"onetwothree"
        );
    }
    let paths: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(paths, ["/list.m3u8?token=1", "/s?part=1", "/s?part=2", "/t"]);
}

/// H3: the caller's base goes before the playlist's own URL, for playlists, segments and keys.
#[test]
fn a_base_url_is_what_everything_resolves_against() {
    let track = Track::encrypted(&[1000, 2000]);
    let url_of_master = serve(
        &track.server,
        "/elsewhere/m.m3u8",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n",
    );
    let cache = Cache::new();
    for mode in [online(), offline()] {
        let params = cache.word_params().base_url(url(&track.server.url("/t/")));
        assert_eq!(play(&url_of_master, params, mode).whole().bytes, track.bytes());
    }
}

/// A URL that is a Media Playlist itself, and one that names a variant it does not have.
#[test]
fn a_media_playlist_is_a_track_by_itself() {
    let track = Track::plain(&[10]);
    let first = play(
        &track.list(),
        Cache::new().word_params().variant(VariantChoice::Index(0)),
        online(),
    );
    assert_eq!(first.whole().bytes, track.bytes());
    let second = play(
        &track.list(),
        Cache::new().word_params().variant(VariantChoice::Index(1)),
        online(),
    );
    assert!(matches!(
        second.failed(),
        HlsError::NoSuchVariant { index: 1, count: 1 }
    ));
}

/// Playlists may come compressed, media may not (N4, D10).
#[test]
fn only_playlists_may_be_compressed() {
    let track = Track::encrypted(&[1000]);
    play(&track.list(), Cache::new().word_params(), online()).whole();
    for request in track.server.requests() {
        let expected = if request.path == "/t/list.m3u8" {
            "gzip"
        } else {
            "identity"
        };
        assert_eq!(
            request.header("accept-encoding"),
            Some(expected),
            "{}",
            request.path
        );
    }
}

/// E16: the worst a lenient author does, played.
#[test]
fn a_sloppy_playlist_plays() {
    let server = Server::empty().unwrap();
    let list = "\u{feff}#EXTM3U\r\n\r\n#EXTINF:60 , t\u{c}\r\n\u{c}\r\n  a b.ts\t\r\n#EXT-X-ENDLIST";
    let address = serve(&server, "/list.m3u8", list);
    server.serve_bytes("/a b.ts", *b"bytes");
    let tape: Tape = play(&address, Cache::new().word_params(), online()).whole();
    assert_eq!(tape.bytes, b"bytes");
}

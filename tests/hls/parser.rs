//! The parser of playlists by itself: rows E10, E16 and E19 of the fault list, and what RFC 8216 says of tags together.

mod lenient;
mod segments;

use std::time::Duration;

use kithara::net::Url;
use proptest::prelude::*;

use crate::playlist::{
    BodyEnd, MediaPlaylist, MultivariantPlaylist, Playlist, PlaylistError, References, StartPoint, parse,
};

const BASE: &str = "http://host/music/list.m3u8?token=secret";

fn read_to(end: BodyEnd, text: impl AsRef<[u8]>) -> Result<Playlist, PlaylistError> {
    let url = Url::parse(BASE).unwrap();
    let references = References {
        url: &url,
        base: &url,
        imports: None,
    };
    parse(text.as_ref(), &references, end)
}

fn read(text: impl AsRef<[u8]>) -> Result<Playlist, PlaylistError> {
    read_to(BodyEnd::Proven, text)
}

fn media(text: impl AsRef<[u8]>) -> MediaPlaylist {
    match read(text) {
        Ok(Playlist::Media(playlist)) => playlist,
        Ok(Playlist::Multivariant(_)) => panic!("a multivariant playlist"),
        Err(error) => panic!("{error}"),
    }
}

fn multivariant(text: &str) -> MultivariantPlaylist {
    match read(text) {
        Ok(Playlist::Multivariant(playlist)) => playlist,
        Ok(Playlist::Media(_)) => panic!("a media playlist"),
        Err(error) => panic!("{error}"),
    }
}

/// A VOD Media Playlist of these lines.
fn vod(lines: &str) -> String {
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n{lines}\n#EXT-X-ENDLIST\n")
}

fn refused(text: &str) -> PlaylistError {
    read(text).err().unwrap_or_else(|| panic!("accepted: {text}"))
}

/// The line a playlist is refused at.
fn refused_line(text: &str) -> usize {
    match refused(text) {
        PlaylistError::Malformed { line, .. }
        | PlaylistError::UndefinedVariable { line, .. }
        | PlaylistError::UnsupportedEncryption { line, .. } => line,
        other => panic!("{other}"),
    }
}

/// E10: RFC 3986. The playlist's query goes with references to itself and nowhere else.
#[test]
fn references_resolve_as_rfc_3986_says() {
    let playlist = media(vod(
        "#EXTINF:6,\na.ts\n#EXTINF:6,\na.ts?x=1\n#EXTINF:6,\n/root.ts\n#EXTINF:6,\n//cdn/b.ts\n\
         #EXTINF:6,\n?only=query\n#EXTINF:6,\n../up.ts\n#EXTINF:6,\nhttps://other/c.ts\n#EXTINF:6,\nwith space.ts",
    ));
    let urls: Vec<_> = playlist.segments.iter().map(|s| s.locator.url.as_str()).collect();
    assert_eq!(
        urls,
        [
            "http://host/music/a.ts",
            "http://host/music/a.ts?x=1",
            "http://host/root.ts",
            "http://cdn/b.ts",
            "http://host/music/list.m3u8?only=query",
            "http://host/up.ts",
            "https://other/c.ts",
            "http://host/music/with%20space.ts",
        ]
    );
}

/// H3: with a base of the caller's, the playlist's own URL only serves QUERYPARAM.
#[test]
fn a_base_url_replaces_the_playlists_own() {
    let (url, base) = (
        Url::parse(BASE).unwrap(),
        Url::parse("http://mirror/deep/").unwrap(),
    );
    let text = vod("#EXT-X-DEFINE:QUERYPARAM=\"token\"\n#EXTINF:6,\na.ts?t={$token}");
    let parsed = parse(
        text.as_bytes(),
        &References {
            url: &url,
            base: &base,
            imports: None,
        },
        BodyEnd::Proven,
    );
    let Ok(Playlist::Media(playlist)) = parsed else {
        panic!("refused")
    };
    assert_eq!(
        playlist.segments[0].locator.url.as_str(),
        "http://mirror/deep/a.ts?t=secret"
    );
}

/// Variables reach URI lines and the attributes of every tag, and cross from one playlist to the next.
#[test]
fn variables_are_substituted() {
    let master = multivariant(
        "#EXTM3U\n#EXT-X-DEFINE:NAME=\"host\",VALUE=\"cdn\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"{$host}\"\nhttp://{$host}/v.m3u8",
    );
    assert_eq!(master.variants[0].locator.url.as_str(), "http://cdn/v.m3u8");
    assert_eq!(master.variants[0].codecs.as_deref(), Some("cdn"));
    let url = Url::parse(BASE).unwrap();
    let text = vod(
        "#EXT-X-DEFINE:IMPORT=\"host\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"/{$host}.key\"\n#EXTINF:6,\n{$host}.ts",
    );
    let references = References {
        url: &url,
        base: &url,
        imports: Some(&master.variables),
    };
    let Ok(Playlist::Media(playlist)) = parse(text.as_bytes(), &references, BodyEnd::Proven) else {
        panic!("refused")
    };
    assert_eq!(playlist.segments[0].locator.url.path(), "/music/cdn.ts");
    assert_eq!(
        playlist.segments[0].encryption.as_ref().unwrap().key.url.path(),
        "/cdn.key"
    );
    assert_eq!(refused_line(&vod("#EXTINF:6,\n{$gone}.ts")), 4);
}

/// E16: what a lenient reader shrugs off.
#[test]
fn sloppy_playlists_are_tolerated() {
    let sloppy = "\u{feff}#EXTM3U\r\n\r\n   \r\n# a comment\r\n#EXT\r\n#EXT-X-UNKNOWN:{$what}\r\n#EXT-X-VERSION:99999999999999999999\r\n\
                  \u{c}\r\n  #EXTINF:600.5 , Title \u{c}\r\n\u{c}\r\n#EXT-X-KEY:METHOD = AES-128, URI=\"k\" ,\r\n\t a b.ts \t\r\n#EXT-X-ENDLIST \r\n";
    let playlist = media(sloppy);
    assert_eq!(playlist.segments.len(), 1);
    assert_eq!(playlist.segments[0].locator.url.path(), "/music/a%20b.ts");
    assert_eq!(playlist.segments[0].duration, Duration::from_millis(600_500));
    // A title in Latin-1.
    assert_eq!(
        media(b"#EXTM3U\n#EXTINF:6,caf\xe9\na.ts\n#EXT-X-ENDLIST")
            .segments
            .len(),
        1
    );
}

/// E16: what cannot be understood names its line.
#[test]
fn broken_lines_are_named() {
    for (line, lines) in [
        (3, "#EXTINF:-1,\na"),
        (3, "#EXTINF:99999999999999999999999,\na"),
        (3, "#EXTINF:,\na"),
        (3, "#EXTINF 6,\na"),
        (3, "#EXTINF:6,\n#EXT-X-BYTERANGE:1@0\n#EXTINF:6,\na"),
        (3, "#EXTINF:6,\n#EXT-X-GAP\n#EXTINF:6,\na"),
        (4, "#EXT-X-BYTERANGE:1@0\na\n#EXTINF:6,\nb"),
        (3, "#EXT-X-MEDIA-SEQUENCE:99999999999999999999\n#EXTINF:6,\na"),
        (3, "#EXT-X-MEDIA-SEQUENCE:-1\n#EXTINF:6,\na"),
        (3, "#EXT-X-BYTERANGE:x\n#EXTINF:6,\na"),
        (3, "#EXT-X-BYTERANGE:0@5\n#EXTINF:6,\na"),
        (3, "#EXT-X-BYTERANGE:0@5\n#EXTINF:6,\na\n#EXTINF:6,\nb"),
        (
            3,
            "#EXT-X-BYTERANGE:18446744073709551615@18446744073709551615\n#EXTINF:6,\na",
        ),
        (3, "#EXT-X-KEY\n#EXTINF:6,\na"),
        (3, "#EXT-X-KEY:URI=\"k\"\n#EXTINF:6,\na"),
        (3, "#EXT-X-KEY:METHOD=AES-128\n#EXTINF:6,\na"),
        (3, "#EXT-X-KEY:METHOD=AES-128,URI=\n#EXTINF:6,\na"),
        (3, "#EXT-X-KEY:METHOD=AES-128,URI=\"k\n#EXTINF:6,\na"),
        (3, "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",URI=\"l\"\n#EXTINF:6,\na"),
        (3, "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=\"0x1\n#EXTINF:6,\na"),
        (
            3,
            "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x123456789012345678901234567890123\n#EXTINF:6,\na",
        ),
        (3, "#EXT-X-MAP:BYTERANGE=\"1@0\"\n#EXTINF:6,\na"),
        (3, "#EXT-X-MAP:URI=\"m\",BYTERANGE=1.5@0\n#EXTINF:6,\na"),
        (3, "#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXTINF:6,\na"),
        (4, "#EXTINF:6,\nhttp://[bad"),
        (3, "#EXT-X-STREAM-INF:BANDWIDTH=1\na"),
    ] {
        assert_eq!(refused_line(&vod(lines)), line, "{lines}");
    }
    assert!(matches!(
        read(b"#EXTM3U\n#EXTINF:6,\ncaf\xe9.ts\n"),
        Err(PlaylistError::Malformed { line: 3, .. })
    ));
    assert_eq!(
        refused_line(&vod(
            "#EXTINF:18446744073709551615,\na\n#EXTINF:18446744073709551615,\nb"
        )),
        5
    );
}

/// H2: what is no playlist shows how it began.
#[test]
fn an_html_page_shows_how_it_began() {
    let page = format!("<!DOCTYPE html>\n<html>{}</html>", "x".repeat(10_000));
    let PlaylistError::NotAPlaylist { begins } = refused(&page) else {
        panic!()
    };
    assert!(begins.starts_with("<!DOCTYPE html> <html>xxx"), "{begins}");
    assert!(begins.chars().count() <= 60);
    for other in [
        "",
        "\u{1f}\u{8b}\u{8}",
        "EXTM3U",
        "#EXTM3U8\n#EXT-X-ENDLIST",
        "a.ts\n#EXTM3U\n",
    ] {
        assert!(
            matches!(refused(other), PlaylistError::NotAPlaylist { .. }),
            "{other}"
        );
    }
}

/// H2: live, and empty.
#[test]
fn a_playlist_that_may_grow_is_refused() {
    let open = "#EXTM3U\n#EXTINF:6,\na.ts\n";
    assert_eq!(refused(open), PlaylistError::Live);
    assert_eq!(
        refused(&format!("{open}#EXT-X-PLAYLIST-TYPE:EVENT\n")),
        PlaylistError::Live
    );
    assert_eq!(
        media(format!("{open}#EXT-X-PLAYLIST-TYPE:VOD\n")).segments.len(),
        1
    );
    assert_eq!(refused("#EXTM3U\n#EXT-X-ENDLIST"), PlaylistError::NoSegments);
}

/// W7: a body whose end is not proven is believed only as far as it proves itself, wherever it was cut.
#[test]
fn a_cut_playlist_is_never_taken_for_a_whole_one() {
    let whole = "#EXTM3U\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:6,\nseg0.ts\n#EXTINF:6,\nseg1.ts\n#EXT-X-ENDLIST";
    let unproven = |text: &str| read_to(BodyEnd::Unproven, text);
    for text in [
        whole.to_owned(),
        format!("{whole}\n"),
        format!("{whole}\r\n\r\n# end"),
    ] {
        assert!(
            matches!(unproven(&text), Ok(Playlist::Media(list)) if list.segments.len() == 2),
            "{text}"
        );
    }
    for at in "#EXTM3U".len()..whole.len() {
        let error = unproven(&whole[..at]).err();
        let expected = if at < 33 {
            [PlaylistError::MayBeCut, PlaylistError::MayBeCut]
        } else {
            [PlaylistError::MayBeCut, PlaylistError::Live]
        };
        assert!(
            error.as_ref().is_some_and(|error| expected.contains(error)),
            "{at}: {error:?}"
        );
    }
    // EXT-X-ENDLIST may stand anywhere: only behind the last segment it proves that there is none after it.
    let early = "#EXTM3U\n#EXT-X-ENDLIST\n#EXTINF:6,\nseg0.ts\n";
    assert_eq!(unproven(early).err(), Some(PlaylistError::MayBeCut));
    assert_eq!(media(early).segments.len(), 1);
    // Without the type it may as well be live.
    assert_eq!(
        unproven("#EXTM3U\n#EXTINF:6,\na.ts\n").err(),
        Some(PlaylistError::Live)
    );
}

/// W7: of a Multivariant Playlist a shortened last line is not believed; a shortened URL would lead elsewhere.
#[test]
fn a_cut_multivariant_playlist_keeps_its_whole_lines() {
    let whole =
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=200\nhigh.m3u8\n";
    let first = whole.find("low.m3u8\n").unwrap() + "low.m3u8\n".len();
    for at in "#EXTM3U".len()..=whole.len() {
        match read_to(BodyEnd::Unproven, &whole[..at]) {
            Err(error) => assert!(error == PlaylistError::MayBeCut && at < first, "{at}: {error}"),
            Ok(Playlist::Media(_)) => panic!("{at}"),
            Ok(Playlist::Multivariant(playlist)) => {
                let paths: Vec<_> = playlist.variants.iter().map(|v| v.locator.url.path()).collect();
                let expected = ["/music/low.m3u8", "/music/high.m3u8"];
                assert_eq!(paths, expected[..=usize::from(at == whole.len())], "{at}");
            }
        }
    }
}

#[test]
fn a_start_point_is_signed_and_decimal() {
    let start = media(vod("#EXT-X-START:TIME-OFFSET=-2.5,PRECISE=YES\n#EXTINF:6,\na"))
        .start
        .unwrap();
    assert_eq!(
        start,
        StartPoint {
            offset: Duration::from_millis(2500),
            from_end: true,
            precise: true
        }
    );
}

const MASTER: &str = "#EXTM3U\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI=\"skd://x\"\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"English\",LANGUAGE=\"en\",AUTOSELECT=YES,URI=\"en.m3u8\"\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"Deutsch\",LANGUAGE=\"de\",DEFAULT=YES,URI=\"de.m3u8\"\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"in\",NAME=\"Muxed\",DEFAULT=YES\n\
    #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"aac\",NAME=\"Subs\",DEFAULT=YES,URI=\"subs.m3u8\"\n\
    #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=5,URI=\"iframes.m3u8\"\n\
    #EXT-X-STREAM-INF:BANDWIDTH=300000,CODECS=\"mp4a.40.2,avc1.1\",AUDIO=\"aac\"\nhigh.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=100000,AUDIO=\"in\"\n\nlow.m3u8\n";

#[test]
fn a_multivariant_playlist_lists_its_streams() {
    let playlist = multivariant(MASTER);
    let variants: Vec<_> = playlist
        .variants
        .iter()
        .map(|v| (v.locator.url.path(), v.bandwidth))
        .collect();
    assert_eq!(
        variants,
        [("/music/high.m3u8", 300_000), ("/music/low.m3u8", 100_000)]
    );
    assert_eq!(playlist.variants[0].codecs.as_deref(), Some("mp4a.40.2,avc1.1"));
    assert_eq!(playlist.renditions.len(), 3);
}

/// E19: one audio rendition, the chosen one, of the variant's own group.
#[test]
fn the_audio_rendition_is_the_one_that_fits() {
    let playlist = multivariant(MASTER);
    let name = |variant: usize, language| {
        playlist
            .audio(&playlist.variants[variant], language)
            .map(|r| r.name.as_str())
    };
    assert_eq!(name(0, None), Some("Deutsch"));
    assert_eq!(name(0, Some("EN")), Some("English"));
    assert_eq!(name(0, Some("fr")), Some("Deutsch"));
    assert_eq!(name(1, Some("en")), Some("Muxed"));
}

#[test]
fn broken_multivariant_playlists_name_the_line() {
    for (line, text) in [
        (2, "#EXTM3U\n#EXT-X-STREAM-INF:AUDIO=\"a\na"),
        (3, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://[bad"),
        (2, "#EXTM3U\n#EXT-X-STREAM-INF:AUDIO=\"{$gone}\"\na"),
        (4, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na\n#EXTINF:6,\nb"),
        (
            2,
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",URI=\"\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\na",
        ),
    ] {
        assert_eq!(refused_line(text), line, "{text}");
    }
    for none in [
        "#EXTM3U\n#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID=\"v\",NAME=\"x\"",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n",
    ] {
        assert_eq!(refused(none), PlaylistError::NoVariants, "{none}");
    }
}

/// E20, C14: a playlist's URLs hold tokens.
#[test]
fn debug_and_errors_show_no_query() {
    let playlist = media(vod(
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k?token=secret\"\n#EXTINF:6,\nhttp://me:secret@host/a?t=secret",
    ));
    assert!(!format!("{playlist:?}").contains("secret"));
    let error = refused(&vod(
        "#EXT-X-KEY:METHOD=AES-128,URI=\"http://[secret\"\n#EXTINF:6,\na",
    ));
    assert!(!format!("{error:?} {error}").contains("secret"));
}

/// A playlist with every tag there is something to get wrong about.
const EVERYTHING: &str = "#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:18446744073709551000\n\
    #EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"x\"\n#EXT-X-START:TIME-OFFSET=-1.5\n\
    #EXT-X-KEY:METHOD=AES-128,URI=\"k{$v}\",IV=0x00000000000000000000000000000001\n#EXT-X-MAP:URI=\"m\",BYTERANGE=\"10@5\"\n\
    #EXT-X-PROGRAM-DATE-TIME:2025-08-05T21:59:42.417-05:00\n#EXTINF:5.99999,t\n#EXT-X-BYTERANGE:10@15\ns\n#EXT-X-DISCONTINUITY\n\
    #EXTINF:6.1,\n#EXT-X-BYTERANGE:20\ns\n#EXT-X-GAP\n#EXTINF:1,\nu\n#EXT-X-DATERANGE:ID=\"a\",START-DATE=\"x\"\n#EXT-X-ENDLIST\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// E16: bytes cut out, repeated, swapped or overwritten anywhere: a playlist or an error, never a panic.
    #[test]
    fn mutated_playlists_never_panic(
        master in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, 0_usize..5,
            prop::sample::select(vec!["", "\"", ",", "=", ":", "\n", "\r", "@", "9999999999999999999999", "-", "{$", "}", "#EXT", "\u{c}", "\u{feff}"])), 1..8),
        raw in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut body = if master { MASTER } else { EVERYTHING }.as_bytes().to_vec();
        for (at, length, copies, text) in edits {
            let at = at.index(body.len());
            let cut: Vec<u8> = body.drain(at..(at + length).min(body.len())).collect();
            let mut insert = cut.repeat(copies);
            insert.extend_from_slice(text.as_bytes());
            body.splice(at..at, insert);
            if body.is_empty() {
                body.push(b'#');
            }
        }
        for (at, byte) in raw {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = read_to(BodyEnd::Unproven, &body);
        if let Ok(Playlist::Media(playlist)) = read(&body) {
            prop_assert!(!playlist.segments.is_empty());
            for segment in &playlist.segments {
                prop_assert!(segment.locator.range.as_ref().is_none_or(|range| range.start < range.end));
            }
        }
    }

    /// E16: any bytes at all.
    #[test]
    fn any_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&body);
        let _ = read([b"#EXTM3U\n#EXT-X-KEY:".as_slice(), &body].concat());
        let _ = read([b"#EXTM3U\n#EXTINF:".as_slice(), &body].concat());
    }
}

/// A playlist of a few megabytes must not take gigabytes when it is resolved.
#[test]
fn long_uris_are_bounded() {
    let long = "a".repeat(70_000);
    for text in [
        format!("#EXTM3U\n#EXTINF:6,\n{long}\n#EXT-X-ENDLIST"),
        format!("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"{long}\"\n#EXTINF:6,\na\n#EXT-X-ENDLIST"),
        format!("#EXTM3U\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{long}\"\n#EXTINF:6,\n{{$v}}\n#EXT-X-ENDLIST"),
    ] {
        refused(&text);
    }
    let half = "a".repeat(60_000);
    let line = "#EXTINF:6,\n{$v}\n";
    let text = |lines| {
        let define = format!("#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{half}\"\n");
        format!("#EXTM3U\n{define}{}#EXT-X-ENDLIST", line.repeat(lines))
    };
    assert_eq!(media(text(100)).segments.len(), 100);
    refused(&text(5000));
}

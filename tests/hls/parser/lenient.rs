//! Fault W32, H18: what players take is no reason to refuse a playlist, and each tolerated line is logged; what would lead to
//! other bytes is refused still.

use std::{cell::RefCell, sync::Once};

use super::*;

/// Keeps what is logged, for the thread that logs it: tests run side by side.
struct Keep;

thread_local! {
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl log::Log for Keep {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if text.starts_with("tolerated") {
            LOGGED.with_borrow_mut(|lines| lines.push(text));
        }
    }

    fn flush(&self) {}
}

/// What was made of `text`, and the lines that were logged as tolerated.
fn tolerated(text: &str) -> (Playlist, Vec<usize>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Keep).expect("the one logger of these tests");
        log::set_max_level(log::LevelFilter::Debug);
    });
    LOGGED.take();
    let playlist = read(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let logged = LOGGED.take();
    for line in &logged {
        for secret in ["secret", "http", ".ts", ".m3u8", ".bin", "128000"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
    let number = |line: &String| line.split(' ').nth(5)?.strip_suffix(':')?.parse().ok();
    let lines = logged
        .iter()
        .map(|line| number(line).unwrap_or_else(|| panic!("{line}")))
        .collect();
    (playlist, lines)
}

/// What plays, segment by segment: `path[range] key/iv`.
fn played(playlist: &MediaPlaylist) -> String {
    let segments = playlist.segments.iter().map(|segment| {
        let range = segment.locator.range.as_ref();
        let range = range.map_or_else(String::new, |range| format!("[{range:?}]"));
        let key = segment.encryption.as_ref().map_or_else(String::new, |key| {
            let path = key.key.url.path();
            format!(" {path}/{}", u128::from_be_bytes(key.iv))
        });
        format!("{}{range}{key}", segment.locator.url.path())
    });
    segments.collect::<Vec<_>>().join(", ")
}

/// Checks what plays of a Media Playlist, and which of its lines are logged.
fn check_media(lines: &str, plays: &str, logged: &[usize]) {
    let (playlist, told) = tolerated(&vod(lines));
    let Playlist::Media(playlist) = playlist else {
        panic!("{lines}")
    };
    assert_eq!(played(&playlist), plays, "{lines}");
    assert_eq!(told, logged, "{lines}");
}

#[test]
fn attributes_that_players_take_are_taken() {
    let key = "#EXT-X-KEY:METHOD=AES-128,";
    for (lines, plays, logged) in [
        // unquoted-key-uri.m3u8: a music service's own assets.
        (
            format!("{key}URI=track.key,IV=0x01\n#EXTINF:4,\nseg0.ts"),
            "/music/seg0.ts /music/track.key/1",
            vec![3],
        ),
        (
            format!("{key}IV=0x2,URI=k?secret=1\n#EXTINF:4,\na.ts"),
            "/music/a.ts /music/k/2",
            vec![3],
        ),
        (
            "#EXT-X-MAP:URI=i.mp4\n#EXTINF:4,\na.ts".into(),
            "/music/a.ts",
            vec![3],
        ),
        (
            "#EXT-X-MAP:URI=\"i.mp4\",BYTERANGE=7@1\n#EXTINF:4,\na.ts".into(),
            "/music/a.ts",
            vec![3],
        ),
        // Spaces around `=`.
        (
            format!("{key}URI = \"a,b=c\"\n#EXTINF:4,\na.ts"),
            "/music/a.ts /music/a,b=c/0",
            vec![3],
        ),
        (
            "#EXT-X-KEY: METHOD =AES-128 , URI= \"k\" , IV =0x3\n#EXTINF:4,\na.ts".into(),
            "/music/a.ts /music/k/3",
            vec![3, 3, 3],
        ),
        // Words that belong to no attribute, and attributes that are unknown.
        (
            format!("{key},secret,URI=\"k\"secret,NEW=1,\n#EXTINF:4,\na.ts"),
            "/music/a.ts /music/k/0",
            vec![3, 3],
        ),
        (
            format!("{key}URI=\"k\",secret\n#EXTINF:4,\na.ts"),
            "/music/a.ts /music/k/0",
            vec![3],
        ),
        // The same twice is said once.
        (
            format!("{key}URI=\"k\",URI=\"k\"\n#EXTINF:4,\na.ts"),
            "/music/a.ts /music/k/0",
            vec![],
        ),
    ] {
        check_media(&lines, plays, &logged);
    }
}

#[test]
fn lines_that_players_skip_are_skipped() {
    let key = "#EXT-X-KEY:METHOD=AES-128,";
    for (lines, plays, logged) in [
        // dangling-extinf.m3u8, and one before the next EXTINF.
        (
            "#EXTINF:4,\nseg0.ts\n#EXTINF:4,".into(),
            "/music/seg0.ts",
            vec![5],
        ),
        (
            "#EXTINF:4,\n#EXTINF:5,\na.ts\n#EXTINF:4,\nb.ts".into(),
            "/music/a.ts, /music/b.ts",
            vec![3],
        ),
        // Stray URI lines: before, between, behind.
        (
            "stray.ts\n#EXTINF:4,\na.ts\nhttp://cdn/stray.ts?secret\n#EXTINF:4,\nb.ts\n../stray.ts".into(),
            "/music/a.ts, /music/b.ts",
            vec![3, 6, 9],
        ),
        // What a stray line stands in front of keeps its tags.
        (
            "#EXTINF:4,\n#EXT-X-BYTERANGE:5@1\na.ts\nstray.ts\n#EXTINF:4,\n#EXT-X-BYTERANGE:2\na.ts".into(),
            "/music/a.ts[1..6], /music/a.ts[6..8]",
            vec![6],
        ),
        // What ffmpeg writes behind the last fragment of one file, which holds all that was left.
        (
            "#EXTINF:4,\n#EXT-X-BYTERANGE:5@1\na.mp4\n#EXTINF:0.1,\n#EXT-X-BYTERANGE:0@6\na.mp4".into(),
            "/music/a.mp4[1..6]",
            vec![7],
        ),
        // A fraction where a default IV is made of the number.
        (
            format!("#EXT-X-MEDIA-SEQUENCE:7.0\n{key}URI=\"k\"\n#EXTINF:4,\na.ts"),
            "/music/a.ts /music/k/7",
            vec![3],
        ),
        // Advice.
        (
            "#EXT-X-START:TIME-OFFSET=soon\n#EXTINF:4,\na.ts".into(),
            "/music/a.ts",
            vec![3],
        ),
        ("#EXT-X-START\n#EXTINF:4,\na.ts".into(), "/music/a.ts", vec![3]),
        (
            "#EXT-X-DISCONTINUITY-SEQUENCE:-1\n#EXTINF:4,\na.ts".into(),
            "/music/a.ts",
            vec![3],
        ),
        (
            "#EXT-X-DEFINE:secret\n#EXT-X-DEFINE:IMPORT=\"gone\"\n#EXT-X-DEFINE:QUERYPARAM=\"gone\"\n#EXTINF:4,\na.ts"
                .into(),
            "/music/a.ts",
            vec![3, 3, 4, 5],
        ),
        // Low-Latency HLS.
        (
            "#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-PART:DURATION=1,URI=\"a.0.ts\"\n#EXTINF:4,\na.ts\n\
             #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"b.0.ts\"\n#EXT-X-RENDITION-REPORT:URI=\"x.m3u8\""
                .into(),
            "/music/a.ts",
            vec![4, 7, 8],
        ),
    ] {
        check_media(&lines, plays, &logged);
    }
}

/// Fault W32: a discontinuity above a stray line is the next segment's.
#[test]
fn a_stray_line_takes_no_discontinuity() {
    let (playlist, _) = tolerated(&vod(
        "#EXTINF:4,\na.ts\n#EXT-X-DISCONTINUITY\nstray.ts\n#EXTINF:4,\nb.ts",
    ));
    let Playlist::Media(playlist) = playlist else {
        panic!()
    };
    assert_eq!(
        playlist
            .segments
            .iter()
            .map(|s| s.discontinuity)
            .collect::<Vec<_>>(),
        [false, true]
    );
}

/// Multivariant Playlists: the lines, each `path bandwidth codecs audio`, and the lines that are logged.
#[test]
fn multivariant_playlists_that_players_take_are_played() {
    for (lines, plays, logged) in [
        // 10-bandwidth-with-a-fraction.m3u8
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=128000.5\nlist.m3u8",
            "/music/list.m3u8 128000",
            vec![2],
        ),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=128000.\nlist.m3u8",
            "/music/list.m3u8 128000",
            vec![2],
        ),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=fast\nlist.m3u8",
            "/music/list.m3u8 0",
            vec![2],
        ),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=99999999999999999999\nlist.m3u8",
            "/music/list.m3u8 0",
            vec![2],
        ),
        // space-before-quoted-value.m3u8
        (
            "#EXT-X-STREAM-INF:BANDWIDTH = 128000,CODECS = \"mp4a.40.2\"\nmedia.m3u8",
            "/music/media.m3u8 128000 mp4a.40.2",
            vec![2, 2],
        ),
        // Without quotes: a list of codecs ends at its comma.
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=mp4a.40.2,AUDIO=a\nlist.m3u8",
            "/music/list.m3u8 1 mp4a.40.2 a",
            vec![2, 2],
        ),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"mp4a.40.2\nlist.m3u8",
            "/music/list.m3u8 1",
            vec![2],
        ),
        // stray-uri-in-master.m3u8
        (
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",DEFAULT=YES,URI=\"media.m3u8\"\nmedia.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=128000,AUDIO=\"a\"\nmedia.m3u8\n\
             #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"iframes.m3u8\"\niframes.m3u8",
            "/music/media.m3u8 128000 a",
            vec![3, 6, 7],
        ),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\nlist.m3u8\nhttp://[secret",
            "/music/list.m3u8 1",
            vec![4, 5],
        ),
        // Variant Streams without a URI: in between, and at the end.
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=2\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=3",
            "/music/list.m3u8 1",
            vec![2, 5],
        ),
        // Renditions of other types, and one in no group.
        (
            "#EXT-X-MEDIA:TYPE=SUBTITLES,URI=\"\n#EXT-X-MEDIA:URI=\"\n#EXT-X-MEDIA:TYPE=AUDIO,URI=\"x.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8",
            "/music/list.m3u8 1",
            vec![4],
        ),
        (
            "#EXT-X-CONTENT-STEERING:SERVER-URI=\"secret\",PATHWAY-ID=\"x\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8",
            "/music/list.m3u8 1",
            vec![2],
        ),
    ] {
        let (playlist, told) = tolerated(&format!("#EXTM3U\n{lines}\n"));
        let Playlist::Multivariant(playlist) = playlist else {
            panic!("{lines}")
        };
        let variants = playlist.variants.iter().map(|variant| {
            let mut shown = format!("{} {}", variant.locator.url.path(), variant.bandwidth);
            for text in [&variant.codecs, &variant.audio].into_iter().flatten() {
                shown.push(' ');
                shown.push_str(text);
            }
            shown
        });
        assert_eq!(variants.collect::<Vec<_>>().join(", "), plays, "{lines}");
        assert_eq!(told, logged, "{lines}");
    }
}

/// Fault W32: what describes a Rendition may be broken; what it is found by may not.
#[test]
fn a_rendition_is_found_in_spite_of_its_description() {
    let (playlist, _) = tolerated(
        "#EXTM3U\n#EXT-X-MEDIA:TYPE=\"AUDIO\",GROUP-ID= a ,NAME=\"{$gone}\",LANGUAGE=en,DEFAULT=\"YES\",URI=en.m3u8\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO = \"a\"\nlist.m3u8\n",
    );
    let Playlist::Multivariant(playlist) = playlist else {
        panic!()
    };
    let rendition = playlist.audio(&playlist.variants[0], Some("en")).unwrap();
    assert_eq!(rendition.locator.as_ref().unwrap().url.path(), "/music/en.m3u8");
    assert_eq!((rendition.name.as_str(), rendition.default), ("", true));
}

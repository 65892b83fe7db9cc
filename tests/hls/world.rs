//! What real servers and networks answer with in place of a segment, and how transfers break. The rows are those of the fault
//! list.

use kithara::hls::HlsError;
use kithara::media::NotMediaReason::{
    self, ContentType, Document, Empty, Page, Picture, Playlist, Status, Text,
};
use kithara_test_support::{Rule, Server};

use crate::rig::{Cache, KEY, Tape, Track, chain, encrypt, offline, online, play};

/// What came in place of media, and what it is told as.
pub(crate) fn foreign() -> Vec<(&'static str, Rule, NotMediaReason)> {
    let page = "<!-- portal --><html><body>Log in</body></html>";
    vec![
        ("a page", Rule::new().answer(200, page), Page),
        (
            "a page in capitals",
            Rule::new().answer(200, "\u{feff}\n<HTML>"),
            Page,
        ),
        ("a page as 202", Rule::new().answer(202, page), Status),
        ("a page as 203", Rule::new().answer(203, page), Status),
        ("204", Rule::new().answer(204, ""), Status),
        ("205", Rule::new().answer(205, ""), Status),
        ("207", Rule::new().answer(207, "<multistatus/>"), Status),
        ("nothing", Rule::new().answer(200, ""), Empty),
        ("nothing, in chunks", Rule::new().answer(200, "").chunked(), Empty),
        (
            "nothing, unframed",
            Rule::new().answer(200, "").no_length(),
            Empty,
        ),
        ("JSON", Rule::new().answer(200, r#"{"error":"expired"}"#), Text),
        ("a message", Rule::new().answer(200, "Too many streams.\n"), Text),
        (
            "a playlist",
            Rule::new().answer(200, "#EXTM3U\n#EXTINF:6,\n1.ts"),
            Playlist,
        ),
        (
            "a picture",
            Rule::new().answer(200, b"GIF89a\x01\0\x01\0\0\0\0"),
            Picture,
        ),
        (
            "an archive",
            Rule::new().answer(200, b"PK\x03\x04\x14\0\0\0"),
            Document,
        ),
        (
            "binary called JSON",
            Rule::new()
                .answer(200, [0x93; 600])
                .header("content-type", "application/json"),
            ContentType,
        ),
    ]
}

fn refused(tape: &Tape) -> NotMediaReason {
    match tape.failed() {
        HlsError::NotMedia { source, .. } => source.reason,
        other => panic!("{}", chain(other)),
    }
}

/// A plain track and an encrypted one, whose second part is a section or a segment.
fn tracks() -> Vec<Track> {
    let section = |index| match index {
        1 => "#EXT-X-MAP:URI=\"1.ts\"\n".to_owned(),
        _ => String::new(),
    };
    vec![
        Track::plain(&[1000, 1000]),
        Track::build(&[1000, 1000], section, |_, plain| plain.to_vec()),
    ]
}

/// W1, W2, W3: what is no media is not given out, and never kept: the track plays on once the server has it again.
#[test]
fn w3_what_is_no_media_is_neither_played_nor_kept() {
    for (name, rule, reason) in foreign() {
        for track in tracks() {
            let cache = Cache::new();
            let instead = track.server.rule("/t/1.ts", rule.clone());
            let tape = play(&track.list(), cache.params(), online());
            assert_eq!(refused(&tape), reason, "{name}");
            assert_eq!(tape.bytes, track.segments[0], "{name}");
            let tape = play(&track.list(), cache.params(), offline());
            assert!(tape.failed().is_offline_miss(), "{name}");
            instead.remove();
            play(&track.list(), cache.params(), online()).whole();
            track.server.stop();
            play(&track.list(), cache.params(), offline()).whole();
        }
    }
}

/// W1: a portal answers for the segment's host, after a redirect.
#[test]
fn w1_a_portal_behind_a_redirect_is_no_segment() {
    let portal = Server::empty().unwrap();
    portal.serve_bytes("/login", *b"<!DOCTYPE html><title>Hotel</title>");
    for code in [301, 302, 303, 307, 308] {
        let track = Track::plain(&[1000, 1000]);
        track.server.rule(
            "/t/1.ts",
            Rule::new().first(1).redirect(code, portal.url("/login")),
        );
        let cache = Cache::new();
        let tape = play(&track.list(), cache.params(), online());
        assert_eq!(refused(&tape), Page, "{code}");
        assert!(chain(tape.failed()).contains("/login"), "{code}");
        let tape = play(&track.list(), cache.params(), online()).whole();
        assert_eq!(tape.bytes, track.bytes());
    }
}

/// H17: ciphertext may begin with anything. It is judged after decryption, and then as plain text is.
#[test]
fn h17_ciphertext_is_judged_after_decryption() {
    // The first block of the ciphertext looks like a page: the plaintext that encrypts to it, by way of the decryptor.
    let track = Track::encrypted(&[1000, 1000]);
    for (plain, reason) in [
        (b"{\"error\":\"gone\"}".as_slice(), Text),
        (b"<html>", Page),
        (b"", Empty),
        (b"#EXTM3U\n", Playlist),
    ] {
        let cache = Cache::new();
        let instead = track
            .server
            .rule("/t/1.ts", Rule::new().answer(200, encrypt(plain, KEY, 1)));
        let tape = play(&track.list(), cache.params(), online());
        assert_eq!(refused(&tape), reason);
        assert_eq!(tape.bytes, track.segments[0]);
        instead.remove();
        let tape = play(&track.list(), cache.params(), online()).whole();
        assert_eq!(tape.bytes, track.bytes());
    }
    // An unknown format is media, once its padding is right.
    let unknown = vec![0x93; 5_000_000];
    let instead = encrypt(&unknown, KEY, 1);
    for length in [16, 5000, unknown.len()] {
        let track = Track::encrypted(&[1000, 1000]);
        let instead = if length == unknown.len() {
            instead.clone()
        } else {
            encrypt(&unknown[..length], KEY, 1)
        };
        track.server.serve_bytes("/t/1.ts", instead);
        let cache = Cache::new();
        for mode in [online(), offline()] {
            let tape = play(&track.list(), cache.params(), mode).whole();
            assert!(tape.bytes[1000..] == unknown[..length]);
        }
    }
}

/// F1's list of what must not be refused, as segments: each under types that servers really send.
#[test]
fn no_format_is_refused_for_its_type() {
    let starts: [&[u8]; 9] = [
        b"G\x40\x11\x10\0",
        b"\0\0\0\x18styp",
        b"\0\0\0\x1cftyp",
        b"ID3\x04",
        b"\xff\xf1\x50\x80",
        b"\xff\xfb\x90\0",
        b"OggS",
        b"fLaC",
        b"RIFF\0\0\0\0WAVE",
    ];
    let types = [
        None,
        Some("text/plain"),
        Some("application/octet-stream"),
        Some("binary/octet-stream"),
        Some("video/mp4"),
        Some("audio/aac"),
    ];
    for start in starts {
        for kind in types {
            let track = Track::plain(&[1000]);
            let mut bytes = vec![0x11; 1000];
            bytes[..start.len()].copy_from_slice(start);
            let rule = Rule::new().answer(200, &bytes);
            let rule = match kind {
                Some(kind) => rule.header("content-type", kind),
                None => rule.without_header("content-type"),
            };
            track.server.rule("/t/0.ts", rule);
            let tape = play(&track.list(), Cache::new().params(), online()).whole();
            assert!(tape.bytes == bytes, "{start:?} {kind:?}");
        }
    }
}

/// W8: a transfer that breaks and cannot be resumed, at any byte, before the first one too, by a reset, by a close, or by
/// silence: asked for again at the same URL, once.
#[test]
fn w8_a_broken_transfer_without_validator_is_begun_again() {
    const LENGTHS: [usize; 2] = [40_000, 50_000];
    for at in [0, 1, 15, 20_000, 49_999] {
        let breaks = [
            Rule::new().reset_after(at),
            Rule::new().truncate_after(at),
            Rule::new().stall_after(at),
            Rule::new().chunked().reset_after(at),
        ];
        for rule in breaks {
            for track in [Track::plain(&LENGTHS), Track::encrypted(&LENGTHS)] {
                for path in ["/t/0.ts", "/t/1.ts", "/t/list.m3u8", "/t/key"] {
                    track
                        .server
                        .rule(path, rule.clone().first(1).without_validators());
                    track.server.rule(path, Rule::new().without_validators());
                }
                let cache = Cache::new();
                let tape = play(&track.list(), cache.params(), online()).whole();
                assert!(tape.bytes == track.bytes(), "{at}");
                for path in ["/t/0.ts", "/t/1.ts", "/t/list.m3u8"] {
                    assert!(track.requests(path) <= 2, "{at} {path}");
                }
                track.server.stop();
                let tape = play(&track.list(), cache.params(), offline()).whole();
                assert!(tape.bytes == track.bytes(), "{at}");
            }
        }
    }
}

/// W8, H14: what comes again may be another file. Bytes of the two are not mixed.
#[test]
fn w8_what_comes_again_is_compared() {
    for (at, other) in [(20_000, 50_000), (20_000, 10_000), (49_999, 50_000), (1, 50_000)] {
        let track = Track::plain(&[40_000, 50_000]);
        let broken = Rule::new().first(1).without_validators().reset_after(at);
        track.server.rule("/t/1.ts", broken);
        let anew = vec![0x47; other];
        track
            .server
            .rule("/t/1.ts", Rule::new().without_validators().answer(200, &anew));
        let cache = Cache::new();
        let tape = play(&track.list(), cache.params(), online());
        assert!(
            matches!(tape.failed(), HlsError::Changed { .. }),
            "{}",
            chain(tape.failed())
        );
        assert!(track.bytes().starts_with(&tape.bytes), "{at}");
        assert!(tape.bytes.len() <= 40_000 + usize::try_from(at).unwrap());
        assert!(
            play(&track.list(), cache.params(), offline())
                .failed()
                .is_offline_miss()
        );
    }
}

/// W1: an entry that is damaged is fetched again, and a portal answers in its place, with a page of the same length.
#[test]
fn w1_a_portal_in_the_place_of_a_damaged_entry_is_refused() {
    for track in [Track::plain(&[1000, 1000]), Track::encrypted(&[1000, 1000])] {
        let cache = Cache::new();
        play(&track.list(), cache.params(), online()).whole();
        let assets = cache.dir.path().join("assets");
        for file in crate::rig::resource_files(&assets) {
            if file.to_str().unwrap().ends_with("-1.ts") {
                let mut bytes = std::fs::read(&file).unwrap();
                bytes[500] ^= 1;
                std::fs::write(&file, bytes).unwrap();
            }
        }
        let length = track.server.log().to("/t/1.ts").next().unwrap().body_sent;
        let mut page = b"<!DOCTYPE html><title>Hotel</title>".to_vec();
        page.resize(usize::try_from(length).unwrap(), b' ');
        let portal = track.server.rule("/t/1.ts", Rule::new().answer(200, &page));
        let tape = play(&track.list(), cache.params(), online());
        assert_eq!(tape.bytes, track.segments[0]);
        assert!(tape.error.is_some());
        portal.remove();
        let tape = play(&track.list(), cache.params(), online()).whole();
        assert_eq!(tape.bytes, track.bytes());
    }
}

//! F1: nothing that is not media takes a file's place, whatever answers; and nothing that is media is refused.

use std::io::{Read, Seek, SeekFrom};

use futures_lite::StreamExt as _;
use futures_lite::future::block_on;
use kithara::cache::CachePath;
use kithara::file::{
    FileControl, FileError, FileParams, FileSource, NotMediaReason, OpenMode, Origin, Verdict,
};
use kithara::stream::{Source as _, Stream, StreamParams};
use kithara_test_support::{Content, Rule};

use crate::cached::{names, open_offline, partial_files};
use crate::revalidated::asked;
use crate::*;

const LEN: u64 = 2 * MIB;
const PAGE: &str = "<!DOCTYPE html><html><body>Log in to the hotel's network</body></html>";

/// What a portal, a broken backend or a mistaken link answers in place of a file. The last part is how the path `/login`
/// is served.
fn answers() -> Vec<(&'static str, Rule)> {
    let ok = |body: &str| Rule::new().answer(200, body);
    let html = |status: u16| {
        Rule::new()
            .answer(status, PAGE)
            .header("Content-Type", "text/html; charset=utf-8")
    };
    vec![
        ("a page", html(200)),
        ("a page without a type", ok(PAGE)),
        (
            "a page called audio",
            ok(PAGE).header("Content-Type", "audio/mpeg"),
        ),
        (
            "a page behind a comment",
            ok("\n<!-- v1 -->\n<html><body>hello</body></html>"),
        ),
        (
            "a page in another encoding",
            Rule::new().answer(200, b"<html>\xfcber</html>"),
        ),
        ("a page in chunks", html(200).chunked()),
        ("a page in pieces", html(200).trickle(2000)),
        (
            "a long page",
            ok(&format!("{PAGE}{}", "<p>words</p>".repeat(100_000))),
        ),
        (
            "a page with validators and ranges",
            Rule::new().content(Content::bytes(PAGE.as_bytes())),
        ),
        ("a page after a redirect", Rule::new().redirect(302, "/login")),
        (
            "bytes called a page",
            Rule::new()
                .answer(200, pattern().range(0, 3000))
                .header("Content-Type", "text/html"),
        ),
        (
            "status 202",
            Rule::new()
                .answer(202, r#"{"state":"waiting"}"#)
                .header("Content-Type", "application/json"),
        ),
        ("status 203", html(203)),
        (
            "status 202 with bytes",
            Rule::new().answer(202, pattern().range(0, 3000)),
        ),
        ("status 207", Rule::new().answer(207, "<a/>\n")),
        ("status 299", Rule::new().answer(299, pattern().range(0, 3000))),
        (
            "JSON",
            ok(r#"{"error":"no such track"}"#).header("Content-Type", "application/json"),
        ),
        ("JSON without a type", ok(r#"[{"error":"no such track"}]"#)),
        (
            "text",
            ok("Not available in your region.\n").header("Content-Type", "text/plain"),
        ),
        (
            "XML",
            ok("<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>"),
        ),
        (
            "a picture",
            Rule::new()
                .answer(200, b"GIF89a\x01\0\x01\0\x80\0\0")
                .header("Content-Type", "image/gif"),
        ),
        (
            "another picture",
            Rule::new().answer(200, b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
        ),
        (
            "a playlist",
            ok("#EXTM3U\n#EXTINF:-1,A\nhttp://h/stream\n").header("Content-Type", "audio/x-mpegurl"),
        ),
        ("a list of stations", ok("[playlist]\nFile1=http://h/stream\n")),
    ]
}

/// Those without a body. Some of them end a resumed request in other ways.
fn empty_answers() -> Vec<(&'static str, Rule)> {
    vec![
        ("an empty body", Rule::new().answer(200, "")),
        ("an empty body in chunks", Rule::new().answer(200, "").chunked()),
        ("status 204", Rule::new().answer(204, "")),
        ("status 205", Rule::new().answer(205, "")),
        ("an empty 202", Rule::new().answer(202, "")),
    ]
}

fn all_answers() -> Vec<(&'static str, Rule)> {
    answers().into_iter().chain(empty_answers()).collect()
}

fn stage() -> Stage {
    let stage = Stage::new(LEN);
    stage.server.serve("/login", Content::bytes(PAGE.as_bytes()));
    let html = Rule::new().header("Content-Type", "text/html");
    stage.server.rule("/login", html);
    stage
}

/// Plays the file of `source` to its end, with its driver.
pub fn play(source: &FileSource) -> Result<(Vec<u8>, Vec<FileControl>), FileError> {
    let mut parts = block_on(source.open_parts(OpenMode::Online))?;
    let thread = std::thread::spawn(move || block_on(parts.driver));
    let mut bytes = Vec::new();
    let read = parts.reader.read_to_end(&mut bytes);
    drop(parts.reader);
    thread.join().unwrap();
    let events = std::iter::from_fn(|| parts.events.try_next()).collect();
    match read {
        Ok(_) => Ok((bytes, events)),
        Err(error) => {
            assert_eq!(bytes, b"", "bytes of something else");
            Err(FileError::of(&error).unwrap().clone())
        }
    }
}

/// Typed, and no byte was given out.
#[track_caller]
fn assert_refused(what: &str, played: Result<(Vec<u8>, Vec<FileControl>), FileError>) {
    match played {
        Err(error) => assert!(is_typed(&error), "{what}: {error:?}"),
        Ok((bytes, _)) => panic!("{what}: {} bytes", bytes.len()),
    }
}

/// By the judge; or by the client, for a status that stands for no file.
fn is_typed(error: &FileError) -> bool {
    let status = matches!(error, FileError::Net { source } if source.status().is_some());
    error.not_media().is_some() || status
}

/// Faults W1, W2, W3: a new file never becomes what is none, neither with a reader nor with a stream.
#[test]
fn w1_a_new_file_does_not_become_what_is_no_media() {
    for (what, answer) in all_answers() {
        let stage = stage();
        let rule = stage.server.rule("/a.bin", answer);
        assert_refused(what, play(&stage.source()));
        let streamed = block_on(async {
            use futures_lite::StreamExt as _;
            Stream::new(stage.source(), StreamParams::default()).next().await
        });
        let error = streamed.unwrap_or_else(|| panic!("{what}: an end")).unwrap_err();
        assert!(is_typed(error.source_error().unwrap()), "{what}: {error:?}");
        let (asset, path) = names(&stage);
        assert!(!block_on(stage.cache.contains(&asset, &path)).unwrap(), "{what}");
        rule.remove();
        let (bytes, _) = play(&stage.source()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            (bytes.len() as u64, pattern().first_difference(0, &bytes)),
            (LEN, None),
            "{what}"
        );
    }
}

/// Faults W1, W2: nothing is left of a refused file, not even in part.
#[test]
fn w2_what_was_refused_leaves_nothing_on_the_disk() {
    for (what, answer) in all_answers() {
        let mut stage = stage();
        stage.server.rule("/a.bin", answer);
        assert_refused(what, play(&stage.source()));
        stage.restart();
        assert_eq!(partial_files(&stage.root.path().join("assets")), 0, "{what}");
        assert!(open_offline(&stage).unwrap_err().is_offline_miss(), "{what}");
    }
}

/// Fault W1: nor of one whose middle was read first, where its bytes may look like anything.
#[test]
fn w1_nothing_is_left_of_a_page_that_was_read_from_its_middle() {
    let mut stage = stage();
    let page = format!("{PAGE}{}", "<p>words</p>".repeat(100_000));
    let rule = Rule::new().content(Content::bytes(page.as_bytes()));
    stage.server.rule("/a.bin", rule.without_header("Content-Type"));
    let mut source = stage.source();
    source.seek_bytes(page.len() as u64 / 2).unwrap();
    let mut stream = Stream::new(source, StreamParams::default());
    assert!(block_on(stream.next()).unwrap().is_ok(), "nothing tells it apart");
    // Another source of the same download is told when it ends. Where it has ended already, this one is refused itself.
    if let Ok(mut parts) = block_on(stage.source().open_parts(OpenMode::Online)) {
        block_on(parts.driver);
        let last = std::iter::from_fn(|| parts.events.try_next()).last();
        assert!(matches!(last, Some(FileControl::Incomplete { .. })), "{last:?}");
    }
    drop(stream);
    stage.restart();
    assert_eq!(partial_files(&stage.root.path().join("assets")), 0);
}

/// Fault W1: the half that an earlier session left is not given up for a page.
#[test]
fn w1_a_half_is_kept_whatever_answers_for_the_rest() {
    for (what, answer) in all_answers() {
        let mut stage = stage();
        let gate = stage.server.gate();
        let whole = stage.server.rule("/a.bin", Rule::new().gate_after(MIB, &gate));
        assert_at(&mut stage.reader(), 0, MIB as usize);
        whole.remove();
        stage.restart();
        let rule = stage.server.rule("/a.bin", answer);
        match block_on(stage.source().open_reader(OpenMode::Online)) {
            Err(error) => assert!(is_typed(&error) || error.is_changed(), "{what}: {error:?}"),
            Ok(mut reader) => {
                reader.seek(SeekFrom::Start(MIB)).unwrap();
                let error = reader.read(&mut [0; 10]).unwrap_err();
                let error = FileError::of(&error).unwrap();
                assert!(is_typed(error), "{what}: {error:?}");
            }
        }
        rule.remove();
        stage.restart();
        let before = stage.requests();
        assert_rest(&mut stage.reader(), 0, LEN);
        let requests = stage.server.requests().split_off(before);
        let starts: Vec<_> = requests
            .iter()
            .map(kithara_test_support::Recorded::range_start)
            .collect();
        assert_eq!(starts, [Some(MIB)], "{what}");
    }
}

/// Fault W1: so is what was fetched before the network changed under a running download.
#[test]
fn w1_a_download_that_falls_into_a_portal_keeps_what_it_has() {
    for (what, answer) in all_answers() {
        let mut stage = stage();
        let gate = stage.server.gate();
        let slow = stage
            .server
            .rule("/a.bin", Rule::new().first(1).gate_after(64 * KIB, &gate));
        let mut reader = stage.reader();
        assert_at(&mut reader, 0, 64 * KIB as usize);
        let rule = stage.server.rule("/a.bin", answer);
        reader.seek(SeekFrom::Start(LEN - 100)).unwrap();
        let error = reader.read(&mut [0; 10]).unwrap_err();
        let error = FileError::of(&error).unwrap();
        let is_net = matches!(error, FileError::Net { .. });
        assert!(
            is_typed(error) || is_net || error.is_changed(),
            "{what}: {error:?}"
        );
        drop(reader);
        slow.remove();
        rule.remove();
        stage.restart();
        let before = stage.requests();
        assert_rest(&mut stage.reader(), 0, LEN);
        let requests = stage.server.requests().split_off(before);
        assert_eq!(requests[0].range_start(), Some(64 * KIB), "{what}");
    }
}

/// Fault W1: a complete file that is pinned plays behind a portal, and stays.
#[test]
fn w1_a_complete_file_is_not_replaced_when_the_server_is_asked() {
    for (what, answer) in all_answers() {
        let stage = stage();
        assert_eq!(asked(&stage, pattern(), LEN), Origin::Network);
        let (asset, _) = names(&stage);
        block_on(stage.cache.pin(&asset)).unwrap();
        let rule = stage.server.rule("/a.bin", answer);
        assert_eq!(asked(&stage, pattern(), LEN), Origin::Cache, "{what}");
        assert_rest(&mut open_offline(&stage).unwrap(), 0, LEN);
        rule.remove();
        assert_eq!(asked(&stage, pattern(), LEN), Origin::Cache, "{what}");
    }
}

/// F1, fault W3: what is refused says what came.
#[test]
fn w3_an_error_says_what_came() {
    let stage = stage();
    for (rule, reason) in [
        (
            Rule::new().answer(200, PAGE).header("Content-Type", "text/html"),
            NotMediaReason::Page,
        ),
        (
            Rule::new()
                .answer(200, "{\"a\":1}")
                .header("Content-Type", "application/json"),
            NotMediaReason::Text,
        ),
        (
            Rule::new()
                .answer(200, "#EXTM3U\n")
                .header("Content-Type", "audio/x-mpegurl"),
            NotMediaReason::Playlist,
        ),
        (
            Rule::new()
                .answer(200, "GIF89a\0")
                .header("Content-Type", "image/gif"),
            NotMediaReason::Picture,
        ),
        (
            Rule::new()
                .answer(200, "%PDF-1.7")
                .header("Content-Type", "application/pdf"),
            NotMediaReason::Document,
        ),
        (
            Rule::new().answer(200, "").header("Content-Type", "audio/mpeg"),
            NotMediaReason::Empty,
        ),
    ] {
        let rule = stage.server.rule("/a.bin", rule);
        let error = play(&stage.source()).unwrap_err();
        let refusal = error.not_media().unwrap();
        assert_eq!((refusal.reason, refusal.status), (reason, 200));
        let kind = refusal.content_type.clone().unwrap();
        let text = error.to_string();
        assert!(text.contains("status 200") && text.contains(&kind), "{text}");
        rule.remove();
    }
    stage.server.rule("/a.bin", Rule::new().answer(200, PAGE));
    let error = play(&stage.source()).unwrap_err();
    assert!(error.not_media().unwrap().start.starts_with(b"<!DOCTYPE html>"));
    assert!(error.to_string().contains("<!DOCTYPE html>"), "{error}");
    assert!(!error.is_transient() && !error.is_changed());
}

/// How files begin: by the book, with tags first, and with junk before the first frame.
fn beginnings() -> Vec<(&'static str, Vec<u8>)> {
    let mp3 = b"\xff\xfb\x90\x64".to_vec();
    let behind = |junk: &[u8]| [junk, &mp3].concat();
    let mut tag = b"ID3\x04\0\0\0\0\x1f\x76".to_vec();
    tag.extend_from_slice("<html> lyrics, line for line\n".repeat(139).as_bytes());
    let mut ts = vec![0xff; 3 * 188];
    for packet in ts.chunks_mut(188) {
        packet[0] = 0x47;
    }
    vec![
        ("mp3", mp3.clone()),
        ("mp3 behind ID3", behind(&tag)),
        ("mp3 behind zeros", behind(&[0; 1500])),
        ("mp3 behind noise", behind(&pattern().range(77, 700))),
        (
            "mp3 behind text",
            behind("icy junk, a line of it\r\n".repeat(40).as_bytes()),
        ),
        ("ADTS", b"\xff\xf1\x50\x80\x02\x1f\xfc".to_vec()),
        ("Ogg", b"OggS\0\x02\0\0\0\0\0\0\0\0".to_vec()),
        ("FLAC", b"fLaC\0\0\0\x22".to_vec()),
        ("WAV", b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0".to_vec()),
        ("MP4", b"\0\0\0\x20ftypisom\0\0\x02\0".to_vec()),
        ("TS", ts),
        ("unknown", b"\x01\x02unknown".to_vec()),
    ]
}

/// F1, fault W3: no false refusal. What is media plays and is kept, whatever it is called.
#[test]
fn w3_media_plays_and_is_kept_under_any_type() {
    let stage = Stage::new(0);
    let types = [
        None,
        Some("text/plain"),
        Some("application/octet-stream"),
        Some("binary/octet-stream"),
        Some("video/mp4"),
    ];
    for (what, mut bytes) in beginnings() {
        bytes.extend_from_slice(&pattern().range(0, 40_000));
        for (number, kind) in types.iter().enumerate() {
            let path = format!("/{}-{number}", what.replace(' ', "-"));
            stage.server.serve_bytes(path.clone(), bytes.clone());
            let rule = match kind {
                Some(kind) => Rule::new().header("Content-Type", *kind),
                None => Rule::new().without_header("Content-Type"),
            };
            stage.server.rule(path.clone(), rule);
            let url = Url::parse(&stage.server.url(&path)).unwrap();
            let source = FileSource::new(url, stage.params());
            let (played, events) = play(&source).unwrap_or_else(|error| panic!("{what}, {kind:?}: {error}"));
            assert!(played == bytes, "{what}, {kind:?}");
            let kept = events.iter().any(|event| matches!(event, FileControl::Cached));
            assert!(kept, "{what}, {kind:?}: {events:?}");
        }
    }
}

/// F1: nor where the type names something else, if the bytes are media.
#[test]
fn the_bytes_overrule_the_type() {
    for (what, mut bytes) in beginnings() {
        if what.contains("behind") && !what.contains("ID3") || what == "unknown" {
            continue;
        }
        bytes.extend_from_slice(&pattern().range(0, 40_000));
        let stage = Stage::new(0);
        stage.server.serve_bytes("/a.bin", bytes.clone());
        stage
            .server
            .rule("/a.bin", Rule::new().header("Content-Type", "text/html"));
        let (played, _) = play(&stage.source()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(played == bytes, "{what}");
    }
}

/// A beginning that comes byte by byte, and one that breaks off while it is judged.
#[test]
fn a_beginning_in_pieces_is_judged_all_the_same() {
    let mut bytes = "junk\r\n".repeat(30).into_bytes();
    bytes.extend_from_slice(&pattern().range(0, 40_000));
    for validators in [true, false] {
        let stage = Stage::new(0);
        stage.server.serve_bytes("/a.bin", bytes.clone());
        let mut rule = Rule::new().first(1).truncate_after(100).trickle(4000);
        if validators {
            stage.server.rule("/a.bin", rule);
        } else {
            rule = rule.without_validators();
            stage.server.rule("/a.bin", rule);
            stage.server.rule("/a.bin", Rule::new().without_validators());
        }
        let (played, _) = play(&stage.source()).unwrap();
        assert!(played == bytes);
    }
}

/// F1: the app has the last word on what its servers send, except on nothing at all.
#[test]
fn an_app_judges_by_itself() {
    let stage = stage();
    let params = |judge: fn(Option<NotMediaReason>) -> Verdict| {
        FileParams::with_access(
            kithara::file::Access::new(client(), stage.cache.clone())
                .judge(move |received| judge(received.not_media)),
        )
        .cache_path(CachePath::parse("own").unwrap())
    };
    let accepting = FileSource::new(stage.url(), params(|_| Verdict::Media));
    let refusing = FileSource::new(stage.url(), params(|_| Verdict::NotMedia));
    let error = play(&refusing).unwrap_err();
    assert_eq!(error.not_media().unwrap().reason, NotMediaReason::App);
    let empty = stage.server.rule("/a.bin", Rule::new().answer(200, ""));
    assert_refused("empty", play(&accepting));
    empty.remove();
    let text = stage
        .server
        .rule("/a.bin", Rule::new().answer(200, "a text that is wanted"));
    assert_refused("text", play(&refusing));
    let (bytes, _) = play(&accepting).unwrap();
    assert_eq!(bytes, b"a text that is wanted");
    text.remove();
    wait_cached_as(&stage, "own");
}

fn wait_cached_as(stage: &Stage, name: &str) {
    let (asset, _) = names(stage);
    let path = CachePath::parse(name).unwrap();
    assert!(block_on(stage.cache.contains(&asset, &path)).unwrap());
}

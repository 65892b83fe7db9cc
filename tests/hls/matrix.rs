//! Each row of the world that concerns HLS, against each shape of a track (plain and AES-128, transport stream and fragmented
//! MP4), each kind of resource, and a cache that is empty or has half of the track; online, after a restart of the cache, and
//! offline. The rows one by one, with what exactly is told, are in the files beside this one.
//!
//! A row plays or fails. Where it fails nothing wrong is given out, nothing wrong is kept, and the track plays once the fault is
//! over.

mod playlists;
mod stage;

use std::fmt::Write as _;
use std::time::Duration;

use kithara::media::EntryNames;
use kithara_test_support::{Rule, Server};

use self::stage::{SEGMENTS, SHAPES, Shape, Stage};
use crate::rig::{KEY, Tape, chain, offline, online};
use crate::world::foreign;

/// How a session must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Well,
    WithAnError,
}

fn assert_ends(tape: &Tape, expected: &[u8], ends: Ends, what: &str) {
    if let Some(error) = &tape.error {
        assert_eq!(ends, Ends::WithAnError, "{what}: {}", chain(error));
        assert!(expected.starts_with(&tape.bytes), "{what}: wrong bytes");
        return;
    }
    assert_eq!(ends, Ends::Well, "{what}: no error, {:?}", tape.story);
    assert!(tape.bytes == expected, "{what}: {:?}", tape.story);
}

/// What of the track is there offline: a part of it and an error, or all of it.
fn assert_kept(stage: &Stage, expected: &[u8], what: &str) {
    let tape = stage.play(offline());
    let ends = match &tape.error {
        Some(error) if error.is_offline_miss() => Ends::WithAnError,
        _ => Ends::Well,
    };
    assert_ends(&tape, expected, ends, what);
}

/// A fault that is there from now on, and what follows.
fn acts(mut stage: Stage, expected: &[u8], ends: Ends, what: &str) {
    // Online, with the fault; in one session, and, where not all is kept then, in one after a restart.
    let sessions = if ends == Ends::Well { 1 } else { 2 };
    for _ in 0..sessions {
        assert_ends(&stage.play(online()), expected, ends, what);
        assert_kept(&stage, expected, what);
        stage.restart();
        assert_kept(&stage, expected, what);
    }
    // The fault is over.
    stage.recover();
    assert_ends(&stage.play(online()), expected, Ends::Well, what);
    stage.server.stop();
    for _ in 0..2 {
        assert_ends(&stage.play(offline()), expected, Ends::Well, what);
        stage.restart();
    }
}

/// The track of `shape`, whole.
fn all(shape: Shape) -> Vec<u8> {
    shape.bytes("old", 0..SEGMENTS)
}

/// A rule in place of each resource of each shape, with an empty cache and with half of the track kept. What is kept is not
/// asked for: then the rule is not felt. A playlist is, before what is missing is fetched.
fn in_place_of_each(name: &str, rule: impl Fn(&Stage) -> Rule, ends: Ends) {
    in_place_in_each(&SHAPES, name, rule, ends);
}

fn in_place_in_each(shapes: &[Shape], name: &str, rule: impl Fn(&Stage) -> Rule, ends: Ends) {
    for shape in shapes.iter().copied() {
        for target in shape.targets() {
            for is_half_heard in [false, true] {
                let stage = Stage::new(shape);
                if is_half_heard {
                    stage.hear_half();
                }
                stage.fault(target, rule(&stage));
                let ends = if is_half_heard && !["list.m3u8", "2.ts"].contains(&target) {
                    Ends::Well
                } else {
                    ends
                };
                let what = format!("{name} for {target}, {shape:?}, half heard: {is_half_heard}");
                acts(stage, &all(shape), ends, &what);
            }
        }
    }
}

/// W1: a portal answers, itself or behind a redirect.
#[test]
fn w1_a_portal() {
    let page = "<!DOCTYPE html><html><title>Hotel</title></html>";
    let portal = Server::empty().unwrap();
    portal.serve_bytes("/login", page.as_bytes());
    let page = Rule::new().answer(200, page).header("content-type", "text/html");
    in_place_of_each("a page", |_| page.clone(), Ends::WithAnError);
    let login = portal.url("/login");
    in_place_of_each(
        "a redirect",
        |_| Rule::new().redirect(302, &login),
        Ends::WithAnError,
    );
}

/// W2, W3: statuses without a body, nothing, and what is no media. `13-empty-segment.http` and `14-json-segment.http` are among
/// them.
#[test]
fn w2_w3_what_is_no_media() {
    let expired = r#"{"error":{"code":"TokenExpired","message":"please sign in again"}}"#;
    let json = Rule::new()
        .answer(200, expired)
        .header("content-type", "application/json");
    let rules = foreign().into_iter().map(|(name, rule, _)| (name, rule));
    // Each against two shapes, which together have everything that a shape can have.
    let [plain, plain_section, encrypted, encrypted_section] = SHAPES;
    let shapes = [[plain, encrypted_section], [plain_section, encrypted]];
    let rules = rules.chain([("JSON, as such", json)]);
    for ((name, rule), shapes) in rules.zip(shapes.iter().cycle()) {
        in_place_in_each(shapes, name, |_| rule.clone(), Ends::WithAnError);
    }
}

/// W4, `01-signed-segments.m3u8`: what a playlist names is refused, and a new playlist names it under other URLs.
#[test]
fn w4_urls_that_expire() {
    for shape in SHAPES {
        for status in [401, 403, 404, 410] {
            for is_half_heard in [false, true] {
                let what = format!("{status}, {shape:?}, half heard: {is_half_heard}");
                let mut stage = Stage::new(shape);
                stage.names = EntryNames::from_fn(|url| {
                    let name = url.path().rsplit('/').next().unwrap_or_default();
                    name.to_owned()
                });
                if is_half_heard {
                    stage.hear_half();
                } else {
                    // The playlist alone.
                    for name in ["0.ts", "init", "key"] {
                        stage.fault(name, Rule::new().answer(503, ""));
                    }
                    stage.play(online());
                    stage.recover();
                }
                stage.publish("old", &[6; SEGMENTS], "signed-2/", KEY);
                for name in ["0.ts", "1.ts", "2.ts", "3.ts", "init", "key"] {
                    stage.fault(name, Rule::new().answer(status, "expired"));
                }
                acts(stage, &all(shape), Ends::Well, &what);
            }
        }
    }
}

/// W4, `12-cross-host-presigned.m3u8`: everything on another host, signed in the query.
#[test]
fn w4_signed_media_of_another_host() {
    for shape in SHAPES {
        let mut stage = Stage::new(shape);
        stage.names = EntryNames::without_query();
        let host = Stage::new(shape);
        for day in 1..4 {
            let signed = |name: &str| format!("{}?X-Sig={day}", host.server.url(&format!("/t/{name}")));
            let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
            list += &shape
                .tags("")
                .replace("\"init\"", &format!("\"{}\"", signed("init")))
                .replace("\"key\"", &format!("\"{}\"", signed("key")));
            for index in 0..SEGMENTS {
                write!(list, "#EXTINF:6,\n{}\n", signed(&format!("{index}.ts"))).unwrap();
            }
            stage.serve("list.m3u8", (list + "#EXT-X-ENDLIST\n").as_bytes());
            if day == 1 {
                stage.hear_half_of(&host.server);
            }
            for past in 1..day {
                for name in ["0.ts", "1.ts", "2.ts", "3.ts", "init", "key"] {
                    host.fault(
                        &format!("{name}?X-Sig={past}"),
                        Rule::new().answer(403, "expired"),
                    );
                }
            }
            stage.restart();
            assert_ends(
                &stage.play(online()),
                &all(shape),
                Ends::Well,
                &format!("{day}, {shape:?}"),
            );
        }
        assert_eq!(host.media_bodies(), host.media_names(), "{shape:?}");
        acts(stage, &all(shape), Ends::Well, &format!("{shape:?}"));
    }
}

/// W8, `15-break-without-validator.http`: a transfer that breaks once, from a server without validators or with a weak one.
#[test]
fn w8_a_transfer_that_breaks() {
    for answer in [
        Rule::new().without_validators(),
        Rule::new().without_validators().header("etag", "W/\"1\""),
    ] {
        for shape in SHAPES {
            for (target, at) in shape
                .targets()
                .into_iter()
                .zip([0, 1, 7, 150, 15].into_iter().cycle())
            {
                for is_half_heard in [false, true] {
                    let mut stage = Stage::new(shape);
                    stage.manner = Some(answer.clone());
                    if is_half_heard {
                        stage.hear_half();
                    }
                    stage.fault(target, answer.clone().first(1).reset_after(at));
                    let what = format!("{target}, {at} {shape:?}, half heard: {is_half_heard}");
                    acts(stage, &all(shape), Ends::Well, &what);
                }
            }
        }
    }
}

/// W35: a key that is not the track's, the first time, or for as long as the fault lasts.
#[test]
fn w35_a_stale_key() {
    for shape in SHAPES.into_iter().filter(|shape| shape.is_encrypted) {
        for key in [*b"yesterday's key.", *br#"{"error":"late"}"#] {
            for times in [1, usize::MAX] {
                let stage = Stage::new(shape);
                stage.fault("key", Rule::new().first(times).answer(200, key));
                let ends = if times == 1 { Ends::Well } else { Ends::WithAnError };
                acts(stage, &all(shape), ends, &format!("{times} {shape:?}"));
            }
            // One that was kept. The track is encrypted anew, under another key.
            let mut stage = Stage::new(shape);
            stage.hear_half();
            stage.restart();
            stage.serve_media("old", SEGMENTS, "", key);
            // What is kept under the old key is found out one part after the other, each when it is played again.
            for (session, mode) in [online(), online(), offline(), offline()].into_iter().enumerate() {
                let what = format!("kept, session {session}, {shape:?}");
                assert_ends(&stage.play(mode), &all(shape), Ends::Well, &what);
                stage.restart();
            }
        }
    }
}

/// W70: what is said to be encrypted, and is not.
#[test]
fn w70_clear_media_said_to_be_encrypted() {
    for shape in SHAPES.into_iter().filter(|shape| shape.is_encrypted) {
        for is_half_heard in [false, true] {
            let targets = shape.targets().into_iter();
            for target in targets.filter(|target| ["2.ts", "init"].contains(target)) {
                let stage = Stage::new(shape);
                if is_half_heard {
                    stage.hear_half();
                }
                let clear = [b"\0\0\0\x18ftypclear".as_slice(), &[0x11; 1000]].concat();
                assert_ne!(clear.len() % 16, 0);
                stage.fault(target, Rule::new().answer(200, clear));
                // Another section is another edition, whatever is wrong with it.
                let what = format!("{target} {shape:?}, half heard: {is_half_heard}");
                acts(stage, &all(shape), Ends::WithAnError, &what);
            }
        }
    }
}

/// `16-content-encoding-utf-8.http` (fault W24): a coding that is none, on all that there is.
#[test]
fn w24_a_content_encoding_that_is_none() {
    for coding in ["utf-8", "none", "identity"] {
        in_place_of_each(
            coding,
            |_| Rule::new().header("content-encoding", coding),
            Ends::Well,
        );
    }
}

/// W37: what answers offline is the cache alone, though the server answers nothing for long.
#[test]
fn w37_offline_asks_nobody() {
    for shape in SHAPES {
        let mut stage = Stage::new(shape);
        assert_ends(&stage.play(online()), &all(shape), Ends::Well, "online");
        stage.restart();
        stage.fault("*", Rule::new().never_answer());
        let connections = stage.server.connections();
        let tape = stage.play(offline());
        assert_ends(&tape, &all(shape), Ends::Well, "offline");
        assert_eq!(stage.server.connections(), connections);
        // Online a silent server is felt in what is asked beside only.
        let begin = std::time::Instant::now();
        assert_ends(&stage.play(online()), &all(shape), Ends::Well, "online");
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}

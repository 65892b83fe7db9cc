//! Everything at once: processes that play files and HLS tracks, keep entries and tidy up in one cache, four threads
//! each, and one that downloads beside them (feature `offline`); a server that breaks off, stalls, lies about ranges, changes a file, is away for a while, redirects, or is
//! replaced by a login page, that lets URLs expire and publishes tracks anew, and that serves what it serves in each way that servers have; kills; damage between the sessions.
//!
//! Whatever comes, no byte is wrong, no end false, no reader gets two versions of a file, every call returns, and the
//! disk stays under the limit. Errors are allowed, panics are not.
//!
//! `KITHARA_SOAK_ROUNDS=1000` runs it for longer, `KITHARA_SOAK_SEED` elsewhere.

#![cfg(all(feature = "file", feature = "hls", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a test fails by panicking; a child process answers on its standard output"
)]

#[cfg(feature = "offline")]
mod downloader;
mod player;
mod published;
mod random;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use kithara_test_support::{Content, Rule, Server, media};

use crate::player::{CHANGING, FILES, MAX_BYTES, Scene, TREES, VERSIONS};
use crate::published::{EDITIONS, Publisher};
use crate::random::Random;

/// No call takes as long: the client gives up after less.
const SILENCE: Duration = Duration::from_secs(60);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_that_happens_to_a_cache_in_use_makes_a_wrong_byte() {
    let rounds = setting("KITHARA_SOAK_ROUNDS").unwrap_or(12);
    let seed = setting("KITHARA_SOAK_SEED").unwrap_or(1);
    let mut random = Random::new(seed);
    let server = Server::start(media()).unwrap();
    for (index, len) in FILES.iter().enumerate() {
        server.serve(
            player::path(index),
            Content::pattern(&player::pattern(index, 0), *len),
        );
        server.serve(copy_of(index), Content::pattern(&player::pattern(index, 0), *len));
    }
    server.rule(LOGIN, portal());
    let dir = tempfile::tempdir().unwrap();
    let references = dir.path().join("references");
    fs::create_dir(&references).unwrap();
    for tree in TREES {
        player::keep_reference(tree, &server, &references);
    }
    let mut publisher = Publisher::default();
    publisher.publish(0, &server);
    for round in 0..rounds {
        let scene = Scene {
            root: dir.path().join("cache"),
            references: references.clone(),
            server: server.url(""),
            seed: random.next(),
            offline: random.one_in(5),
        };
        server.clear_rules();
        server.rule(LOGIN, portal());
        publisher.rule(&mut random, &server);
        if random.one_in(3) {
            publisher.publish(random.below(EDITIONS), &server);
        }
        for _ in 0..random.below(4) {
            misbehave(&mut random, &server);
        }
        let lines = random.one_in(2).then(|| random.below(60));
        session(&scene, lines, || {
            if random.one_in(30) {
                server.outage(Duration::from_millis(10 + random.below(200)));
            }
            if random.one_in(12) {
                server.clear_rules();
                server.rule(LOGIN, portal());
                publisher.renew(&mut random, &server);
            }
            if random.one_in(4) {
                let version = Content::pattern(
                    &player::pattern(CHANGING, random.below(VERSIONS)),
                    FILES[CHANGING],
                );
                server.serve(player::path(CHANGING), version);
            }
        });
        let bytes = stored(&scene.root);
        assert!(
            bytes <= MAX_BYTES,
            "{bytes} bytes after round {round} of seed {seed}"
        );
        if random.one_in(3) {
            harm(&mut random, &scene.root);
        }
    }
}

/// One process, killed after it has said so many lines, if a number is given.
fn session(scene: &Scene, lines: Option<u64>, mut on_line: impl FnMut()) {
    let mut child = scene.command().stdout(Stdio::piped()).spawn().unwrap();
    let said = listen(&mut child);
    let mut count = 0;
    loop {
        if lines == Some(count) {
            child.kill().unwrap();
            child.wait().unwrap();
            return;
        }
        match said.recv_timeout(SILENCE) {
            Ok(_) => {
                count += 1;
                on_line();
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("a call does not return: {scene:?}");
            }
        }
    }
    assert!(child.wait().unwrap().success(), "{scene:?}");
}

fn listen(child: &mut Child) -> mpsc::Receiver<String> {
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    said
}

fn misbehave(random: &mut Random, server: &Server) {
    let index = random.below(FILES.len() as u64 + 1) as usize;
    let path = if index < FILES.len() {
        player::path(index)
    } else {
        SEGMENTS[random.below(SEGMENTS.len() as u64) as usize].to_owned()
    };
    let at = random.below(400_000);
    if index == FILES.len() && random.one_in(3) {
        let rule = foreign_segment(random);
        server.rule(path, rule.first(1 + random.below(3) as usize));
        return;
    }
    // Some are for files that do not change.
    if index < FILES.len() && random.one_in(2) {
        let rule = if random.one_in(2) {
            foreign(random, index)
        } else {
            odd(random, index)
        };
        server.rule(path, rule.first(1 + random.below(4) as usize));
        return;
    }
    let rule = match random.below(11) {
        0 => Rule::new().trickle(400_000 + at),
        1 => Rule::new().reset_after(at),
        2 => Rule::new().truncate_after(at),
        // Each costs the patience of a client: with few bytes in between a call would take minutes.
        3 => Rule::new().stall_after(200_000 + at),
        4 => Rule::new().ignore_range(),
        5 => Rule::new().close(),
        6 => Rule::new().answer(503, "busy"),
        7 => Rule::new().chunked(),
        8 => Rule::new().no_length(),
        // Of a file that changes nobody could tell then.
        9 if index != CHANGING => Rule::new().without_validators(),
        _ => Rule::new().close_after(),
    };
    let rule = if random.one_in(2) {
        rule.first(1 + random.below(3) as usize)
    } else {
        rule
    };
    server.rule(path, rule);
}

/// Where a network sends those that have not logged in.
const LOGIN: &str = "/login";

/// The same file under another path.
fn copy_of(index: usize) -> String {
    format!("/copy{index}")
}

fn portal() -> Rule {
    Rule::new()
        .answer(200, "<!DOCTYPE html><html><body>Log in</body></html>")
        .header("Content-Type", "text/html")
}

/// Of two kinds of tree, and an initialization section.
const SEGMENTS: [&str; 4] = [
    "/hls/plain/aac-80/init.mp4",
    "/hls/plain/aac-80/seg-001.m4s",
    "/hls/plain/aac-80/seg-003.m4s",
    "/hls/ts/seg-002.ts",
];

/// What answers in place of a segment or a section.
fn foreign_segment(random: &mut Random) -> Rule {
    match random.below(7) {
        0 => portal(),
        1 => Rule::new().answer([202, 203, 207][random.below(3) as usize], "soon"),
        2 => Rule::new().answer([200, 204, 205][random.below(3) as usize], ""),
        // An address that has expired: the playlists are loaded again.
        3 => Rule::new().answer([401, 403, 404, 410][random.below(4) as usize], ""),
        4 => Rule::new().answer(200, r#"{"error":"quota"}"#),
        5 => Rule::new().redirect(302, LOGIN),
        _ => Rule::new().without_validators().reset_after(random.below(60_000)),
    }
}

/// What answers in place of a file, or calls it something else.
fn foreign(random: &mut Random, index: usize) -> Rule {
    match random.below(13) {
        0 => portal(),
        1 => Rule::new().answer([202, 203, 207][random.below(3) as usize], "soon"),
        2 => Rule::new().answer([200, 204, 205][random.below(3) as usize], ""),
        3 => Rule::new().answer([401, 403, 404, 410][random.below(4) as usize], ""),
        // Not where parts hide the length: such a refusal behind one of them is how a shorter file ends.
        4 if index.is_multiple_of(2) => Rule::new().range_from(1).answer(416, ""),
        5 => Rule::new().header("Cache-Control", "no-store"),
        6 => Rule::new().header("Content-Type", "text/plain"),
        7 if index != CHANGING => Rule::new().redirect(302, copy_of(index)),
        // A machine of many, with a tag of its own.
        _ if index != CHANGING => Rule::new().header(
            "ETag",
            format!("\"node {}\"", random.below(1000)).replace(' ', "-"),
        ),
        9 => Rule::new().answer(200, r#"{"error":"quota"}"#),
        10 => Rule::new().answer(200, b"GIF89a\x01\x00\x01\x00"),
        11 => Rule::new().redirect(302, LOGIN),
        12 => Rule::new()
            .redirect(302, player::path(index))
            .header("Set-Cookie", "session=1"),
        _ => Rule::new(),
    }
}

/// The file itself, in a way of its own.
fn odd(random: &mut Random, index: usize) -> Rule {
    let last = FILES[index] - 1;
    match random.below(13) {
        0 => Rule::new().max_part(1 + random.below(200_000)),
        1 => Rule::new()
            .whole_blocks(65_536)
            .max_part(65_536 * (1 + random.below(4))),
        2 if !index.is_multiple_of(2) => Rule::new().max_part(10_000 + random.below(200_000)).hide_total(),
        // A range from the first byte is refused. What is asked for then is served, if no rule stands in its way.
        3 => Rule::new()
            .range_from(0)
            .answer([400, 403, 405, 501][random.below(4) as usize], ""),
        // A part under status 200, and the whole called a part.
        4 => Rule::new().ignore_range().content_range(format!(
            "bytes {}-{last}/{}",
            random.below(last),
            last + 1
        )),
        5 => Rule::new().header(
            "Content-Encoding",
            ["none", "binary", "utf-8", "aws-chunked"][random.below(4) as usize],
        ),
        6 => Rule::new().no_length().header(
            "Transfer-Encoding",
            ["gzip", "xchunked"][random.below(2) as usize],
        ),
        7 => Rule::new().header("Content-Type", "multipart/byteranges; boundary=X"),
        8 => Rule::new()
            .range_from(1)
            .answer(416, "")
            .content_range(format!("bytes */{}", random.below(last))),
        9 => Rule::new().header("Accept-Ranges", "none"),
        // A connection that has died while it was kept.
        10 => Rule::new().reused().never_answer(),
        // A mirror with a date of its own. Of a file that changes the tag decides, too.
        11 => {
            let day = 1 + random.below(28);
            Rule::new().header("Last-Modified", format!("Sun, {day:02} Nov 2020 08:49:37 GMT"))
        }
        _ => Rule::new().header("Content-Type", "application/octet-stream"),
    }
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files_below(root, &mut found);
    found.sort();
    found
}

/// Bytes in files; of a partial one, the blocks it has but for those that its ranges fill in part only, 8 of them at
/// most. To the byte the limit is tested elsewhere.
fn stored(root: &Path) -> u64 {
    let bytes = |path: &PathBuf| {
        let metadata = fs::metadata(path).unwrap();
        let is_partial = path.file_name().unwrap().to_string_lossy().starts_with(".part-");
        let blocks = (metadata.blocks() * 512).saturating_sub(8 * 4096);
        if is_partial {
            metadata.len().min(blocks)
        } else {
            metadata.len()
        }
    };
    files(root).iter().map(bytes).sum()
}

/// Cuts, removes or turns a bit of a file.
fn harm(random: &mut Random, root: &Path) {
    let files = files(root);
    if files.is_empty() {
        return;
    }
    let path = &files[random.below(files.len() as u64) as usize];
    let mut bytes = fs::read(path).unwrap();
    let at = random.below(bytes.len() as u64 + 1) as usize;
    match random.below(4) {
        0 => bytes.truncate(at),
        1 => return fs::remove_file(path).unwrap(),
        _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        _ => {}
    }
    fs::write(path, bytes).unwrap();
}

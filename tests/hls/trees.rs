//! The trees of real media, whole: byte for byte what ffmpeg and openssl say, however the transfers and the processes end.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use futures_lite::{StreamExt, future};
use kithara::cache::AssetCache;
use kithara::hls::{HlsParams, HlsSource};
use kithara::stream::Stream;
use kithara_test_support::{Recorded, Rule, Server, expected, media};
use serde_json::Value;

use crate::playback::sha256;
use crate::rig::{Cache, Tape, builder, offline, online, play, url};

pub(crate) const TREES: [&str; 6] = [
    "plain",
    "encrypted",
    "encrypted-init",
    "byterange",
    "ts",
    "packed",
];

/// Where a tree begins, and how many bytes its first Variant Stream has.
pub(crate) fn start_of(tree: &str, server: &Server) -> (String, usize) {
    let tree = &expected()["trees"][tree];
    let variant = &tree["variants"][0];
    let path = tree["master"].as_str().or(variant["playlist"].as_str()).unwrap();
    let bytes = variant["bytes"].as_u64().unwrap();
    (server.url(&format!("/{path}")), usize::try_from(bytes).unwrap())
}

fn variant(tree: &str) -> Value {
    expected()["trees"][tree]["variants"][0].clone()
}

fn assert_is(tape: Tape, variant: &Value, what: &str) {
    let tape = tape.whole();
    assert_eq!(
        tape.bytes.len() as u64,
        variant["bytes"].as_u64().unwrap(),
        "{what}"
    );
    assert_eq!(sha256(&tape.bytes), variant["sha256"].as_str().unwrap(), "{what}");
    assert!(
        !tape
            .story
            .iter()
            .any(|line| line.contains("edition") || line.contains("bypassed")),
        "{what}: {:?}",
        tape.story
    );
}

/// The same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// A part of a tree, as it is asked for.
struct Part {
    path: String,
    start: Option<u64>,
    len: u64,
}

fn parts(variant: &Value) -> Vec<Part> {
    let segments = variant["segments"].as_array().unwrap().iter();
    segments
        .chain(Some(&variant["init"]).filter(|init| init.is_object()))
        .map(|part| Part {
            path: format!("/{}", part["path"].as_str().unwrap()),
            start: part["range"][0].as_u64(),
            len: part["wire_bytes"].as_u64().unwrap(),
        })
        .collect()
}

/// H14, W8: each segment's transfer breaks once, at any byte, and nothing that the server says proves that the rest would be of the
/// same file. Every byte is right, and no segment is asked for more than twice.
#[test]
fn w8_a_break_in_every_segment_costs_one_request_each() {
    for seed in 0..4 {
        let mut numbers = Numbers(seed);
        for tree in TREES {
            let variant = variant(tree);
            let server = Server::start(media()).unwrap();
            let parts = parts(&variant);
            let mut breaks = Vec::new();
            for part in &parts {
                let at = numbers.below(part.len);
                let mut once = Rule::new().first(1).without_validators();
                if let Some(start) = part.start {
                    once = once.range_start(start);
                }
                let once = match numbers.below(4) {
                    0 => once.truncate_after(at),
                    1 => once.chunked().truncate_after(at),
                    _ => once.reset_after(at),
                };
                breaks.push(server.rule(&part.path, once));
            }
            for part in &parts {
                server.rule(&part.path, Rule::new().without_validators());
            }
            let cache = Cache::new();
            let (url, _) = start_of(tree, &server);
            let what = format!("{tree}, seed {seed}");
            assert_is(play(&url, cache.params(), online()), &variant, &what);
            assert!(breaks.iter().all(|once| once.hits() == 1), "{what}");
            for part in &parts {
                let is_part = |request: &&Recorded| {
                    request.path_only() == part.path && (request.range_start() == part.start)
                };
                let requests = server.requests().iter().filter(is_part).count();
                assert_eq!(requests, 2, "{what}: {}", part.path);
            }
            server.stop();
            assert_is(play(&url, cache.params(), offline()), &variant, &what);
        }
    }
}

const KILLED: &str = "KITHARA_HLS_KILLED";

/// Plays a track, and says again and again how many bytes of it were given out.
#[test]
#[ignore = "the test below starts it as a process of its own"]
fn child() {
    let Ok(task) = std::env::var(KILLED) else { return };
    let (root, track) = task.split_once('\n').unwrap();
    let cache = future::block_on(AssetCache::builder(root).open()).unwrap();
    let params = HlsParams::new(builder().build().unwrap(), cache);
    let mut stream = Stream::new(HlsSource::new(url(track), params), online());
    let mut bytes = 0;
    while let Some(chunk) = future::block_on(stream.next()) {
        bytes += chunk.unwrap().len();
        println!("{bytes}");
    }
}

fn start(root: &std::path::Path, track: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trees::child", "--ignored", "--nocapture", "-q"])
        .env(KILLED, format!("{}\n{track}", root.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A process that is killed while it plays keeps whole segments or none: what is there offline is right as far as it goes, the
/// next process plays all of it, and then all of it is there.
///
/// `KITHARA_KILLS=50` kills more of them.
#[test]
fn a_process_killed_while_it_plays_leaves_no_wrong_byte() {
    let kills = std::env::var("KITHARA_KILLS").map_or(TREES.len(), |kills| kills.parse().unwrap());
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let mut numbers = Numbers(seed.into());
    for tree in TREES.into_iter().cycle().take(kills) {
        let variant = variant(tree);
        let server = Server::start(media()).unwrap();
        let (track, len) = start_of(tree, &server);
        // Slow enough that there is something to be killed in the middle of.
        let slow: Vec<_> = parts(&variant)
            .iter()
            .map(|part| {
                server.rule(
                    &part.path,
                    Rule::new().trickle(1_000_000 + numbers.below(4_000_000)),
                )
            })
            .collect();
        let root = tempfile::tempdir().unwrap();
        let at = numbers.below(len as u64);
        let mut child = start(root.path(), &track);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // What the harness says of itself is no number.
            if line.unwrap().parse().is_ok_and(|heard: u64| heard >= at) {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        slow.iter().for_each(kithara_test_support::RuleHandle::remove);

        let what = format!("{tree} killed after {at} bytes, seed {seed}");
        let cache = future::block_on(AssetCache::builder(root.path()).open()).unwrap();
        let params = || HlsParams::new(builder().build().unwrap(), cache.clone());
        let kept = play(&track, params(), offline());
        assert!(kept.error.is_none() || kept.failed().is_offline_miss(), "{what}");
        let all = play(&track, params(), online());
        assert!(all.bytes.starts_with(&kept.bytes), "{what}");
        assert_is(all, &variant, &what);
        server.stop();
        assert_is(play(&track, params(), offline()), &variant, &what);
    }
}

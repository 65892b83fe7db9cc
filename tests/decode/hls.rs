//! HLS through the whole of it: playlists, server, cache, stream, demuxers and decoders.

use std::time::Duration;

use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::decode::{DecodeEvent, DecodeParams, Decoder};
use kithara::media::{Access, OpenMode};
use kithara::net::HttpClient;
use kithara_test_support::{Rule, Server, media};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::pcm::rest;
use crate::seeks::{How, seeks, sought};

struct Player {
    server: Server,
    params: DecodeParams,
    _dir: TempDir,
}

impl Player {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        let cache = block_on(AssetCache::builder(dir.path()).max_bytes(1 << 30).open()).unwrap();
        Self {
            server: Server::start(media()).unwrap(),
            params: DecodeParams::new().access(Access::new(HttpClient::new().unwrap(), cache)),
            _dir: dir,
        }
    }

    fn open(&self, tree: &str, mode: OpenMode) -> Decoder {
        let url = self.server.url(&format!("/segments/{tree}/playlist.m3u8"));
        block_on(Decoder::open(url.as_str(), &self.params, mode)).unwrap()
    }
}

fn trees() -> Value {
    serde_json::from_slice(&std::fs::read(media().join("segments.json")).unwrap()).unwrap()
}

/// P1, P3: online and, with the server gone, from the cache: as many frames as the container declares, and the same ones.
#[test]
fn trees_are_heard_whole_online_and_offline() {
    let player = Player::new();
    let mut heard = Vec::new();
    let trees = trees();
    let known = trees.as_object().unwrap().iter().filter(|(name, _)| {
        let features = [
            ("opus", cfg!(feature = "opus")),
            ("he-aac", cfg!(feature = "he-aac")),
        ];
        features
            .iter()
            .all(|(codec, built)| *built || !name.starts_with(codec))
    });
    for (name, row) in known.clone() {
        let mut decoder = player.open(name, OpenMode::Online);
        let channels = usize::from(decoder.spec().channels.count());
        let samples = rest(&mut decoder);
        assert_eq!(
            (samples.len() / channels) as u64,
            row["frames"].as_u64().unwrap(),
            "{name}"
        );
        heard.push(samples);
    }
    player.server.stop();
    for ((name, _), online) in known.zip(heard) {
        assert!(
            rest(&mut player.open(name, OpenMode::Offline)) == online,
            "{name}"
        );
    }
}

/// Bytes are decoded as they come: some packets of the first segment, and not all of it, are awaited.
#[test]
fn the_first_sound_needs_a_part_of_a_segment() {
    let player = Player::new();
    for (tree, segment) in [
        ("hls/ts", "seg-000.ts"),
        ("hls/packed", "seg-000.aac"),
        ("hls/plain/aac-48", "seg-000.m4s"),
    ] {
        let gate = player.server.gate();
        let rule = Rule::new().gate_after(8 * 1024, &gate);
        player.server.rule(format!("/{tree}/{segment}"), rule);
        let url = player.server.url(&format!("/{tree}/playlist.m3u8"));
        let mut decoder = block_on(Decoder::open(url.as_str(), &player.params, OpenMode::Online)).unwrap();
        assert!(decoder.next_block().unwrap().is_some(), "{tree}");
        gate.open();
    }
}

/// P2: each kind of segment, clear and encrypted, in random order and back from the end.
#[test]
fn p2_trees_can_be_sought_in() {
    let player = Player::new();
    let player = &player;
    let few = seeks(12);
    let sought_in = |name: &str, how: How| {
        let open = || {
            let url = player.server.url(&format!("/{name}/playlist.m3u8"));
            block_on(Decoder::open(url.as_str(), &player.params, OpenMode::Online)).unwrap()
        };
        let all = rest(&mut open());
        sought(name, &mut open(), &all, few, how);
    };
    for (name, how) in [
        ("segments/ladder/flac", How::Equal),
        ("segments/alac", How::Equal),
        ("hls/encrypted/flac", How::Equal),
        ("segments/ladder/aac-128", How::Within(1e-4)),
        ("segments/ts-aac", How::Within(1e-4)),
        ("segments/ts-mp3", How::Within(1e-4)),
        ("segments/packed-mp3", How::Within(1e-4)),
        // With perceptual noise.
        ("hls/encrypted/aac-112", How::Aligned),
        ("hls/ts", How::Aligned),
        ("hls/packed", How::Aligned),
    ] {
        sought_in(name, how);
    }
    if cfg!(feature = "opus") {
        sought_in("segments/opus", How::Within(1e-4));
    }
    if cfg!(feature = "he-aac") {
        for name in ["he-aac-1/ts", "he-aac-1/packed", "he-aac-2/ts", "he-aac-2/packed"] {
            sought_in(&format!("segments/{name}"), How::Aligned);
        }
    }
}

/// P2: the stream has ended and is closed; a seek back begins another one of the same source.
#[test]
fn a_seek_back_from_the_end_goes_on() {
    let player = Player::new();
    let mut decoder = player.open("ladder/flac", OpenMode::Online);
    let whole = rest(&mut decoder);
    for frame in [0_usize, 100_000, 264_000] {
        decoder
            .seek(Duration::from_secs_f64(frame as f64 / 44_100.0))
            .unwrap();
        assert!(rest(&mut decoder) == whole[frame * 2..], "frame {frame}");
    }
}

/// P3, fault W5: a track that was published anew while half of it is kept. The old edition is heard as far as it is kept, the new
/// one from there on, another codec or not: no frame is lost, doubled or noise.
#[test]
fn w5_an_edition_goes_over_into_the_next_one() {
    for (first, second) in [("aac-80", "aac-112"), ("aac-80", "flac"), ("flac", "aac-48")] {
        let player = Player::new();
        let publish = |edition: &str| {
            let dir = media().join("hls/plain").join(edition);
            for file in std::fs::read_dir(dir).unwrap() {
                let path = file.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                player
                    .server
                    .serve_bytes(format!("/t/{name}"), std::fs::read(path).unwrap());
            }
        };
        publish(first);
        let url = player.server.url("/t/playlist.m3u8");
        let open = || block_on(Decoder::open(url.as_str(), &player.params, OpenMode::Online)).unwrap();
        // Up to the sixth segment, which is not there yet, and back: five are on the disk.
        let gone = player.server.rule("/t/seg-005.m4s", Rule::new().answer(404, ""));
        let mut decoder = open();
        while decoder.next_block().is_ok_and(|block| block.is_some()) {}
        drop(decoder);
        gone.remove();
        publish(second);
        let mut decoder = open();
        let (seconds, damaged) = heard(&mut decoder);
        assert_eq!(damaged, 0, "{first} {second}");
        let alone = player.server.url(&format!("/hls/plain/{second}/playlist.m3u8"));
        let alone = Decoder::open(alone.as_str(), &player.params, OpenMode::Online);
        let (whole, _) = heard(&mut block_on(alone).unwrap());
        // Frames of two sample rates lie at most one apart.
        assert!(
            (seconds - whole).abs() < 1e-4,
            "{first} {second}: {seconds} of {whole}"
        );
    }
}

/// How many seconds of sound, and how many damages.
fn heard(decoder: &mut Decoder) -> (f64, usize) {
    let (mut seconds, mut damaged) = (0.0, 0);
    while let Some(block) = decoder.next_block().unwrap() {
        let spec = block.spec();
        let frames = block.samples().len() / usize::from(spec.channels.count());
        seconds += frames as f64 / f64::from(spec.sample_rate);
        assert!(block.samples().iter().all(|sample| sample.abs() <= 1.5));
    }
    while let Some(event) = decoder.next_event() {
        damaged += usize::from(matches!(event, DecodeEvent::Damaged { .. }));
    }
    (seconds, damaged)
}

/// W28, P3: a segment that is lost in one Variant Stream is heard from another: no frame is missing and none comes twice.
#[test]
fn w28_another_variant_is_heard_in_the_place_of_a_lost_segment() {
    let trees = trees();
    let frames = trees["ladder/aac-128"]["frames"].as_u64().unwrap();
    for lost in ["seg-1.m4s", "seg-0.m4s", "seg-2.m4s"] {
        let player = Player::new();
        let master = "#EXTM3U\n\
            #EXT-X-STREAM-INF:BANDWIDTH=128000,CODECS=\"mp4a.40.2\"\nladder/aac-128/playlist.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS=\"mp4a.40.2\"\nladder/aac-64/playlist.m3u8\n";
        player
            .server
            .serve_bytes("/segments/ladder.m3u8", master.as_bytes());
        let path = format!("/segments/ladder/aac-128/{lost}");
        player.server.rule(path, Rule::new().answer(404, ""));
        let url = player.server.url("/segments/ladder.m3u8");
        let mut decoder = block_on(Decoder::open(url.as_str(), &player.params, OpenMode::Online)).unwrap();
        let channels = usize::from(decoder.spec().channels.count());
        let samples = rest(&mut decoder);
        assert_eq!((samples.len() / channels) as u64, frames, "{lost}");
    }
}

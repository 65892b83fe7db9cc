//! The door: from a URL or a path to PCM, online and offline.

use std::time::Duration;

use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::decode::{Codec, Container, DecodeError, DecodeEvent, DecodeParams, Decoder, OutputParams};
use kithara::file::{FileParams, FileSource, Location};
use kithara::media::{Access, OpenMode};
use kithara::net::HttpClient;
use kithara::stream::{Stream, StreamParams};
use kithara_test_support::{Content, Rule, Server, media};
use tempfile::{TempDir, tempdir};

use crate::pcm::{bundled, rest, whole};

struct World {
    server: Server,
    cache: AssetCache,
    params: DecodeParams,
    _dir: TempDir,
}

fn world() -> World {
    let server = Server::start(media()).unwrap();
    let dir = tempdir().unwrap();
    let cache = AssetCache::builder(dir.path()).max_bytes(1 << 30).open();
    let cache = block_on(cache).unwrap();
    let params = DecodeParams::new().access(Access::new(HttpClient::new().unwrap(), cache.clone()));
    World {
        server,
        cache,
        params,
        _dir: dir,
    }
}

impl World {
    fn open(&self, path: &str, mode: OpenMode) -> Result<Decoder, DecodeError> {
        let url = self.server.url(path);
        block_on(Decoder::open(url.as_str(), &self.params, mode))
    }
}

#[test]
fn files_over_http_are_those_on_the_disk() {
    let world = world();
    for name in [
        "piece.mp3",
        "piece-moov-at-end.m4a",
        "piece.ogg",
        "piece.flac",
        "piece.wav",
    ] {
        let mut decoder = world.open(&format!("/files/{name}"), OpenMode::Online).unwrap();
        assert!(rest(&mut decoder) == whole(&bundled(name)).0, "{name}");
    }
}

/// A file's and a station's: half a second of 128 kbit/s, and no more, before there is sound.
#[test]
fn the_first_sound_needs_a_few_frames() {
    let world = world();
    for path in ["/files/piece.mp3", "/hls/packed/seg-000.aac"] {
        let gate = world.server.gate();
        world.server.rule(path, Rule::new().gate_after(8 * 1024, &gate));
        let mut decoder = world.open(path, OpenMode::Online).unwrap();
        assert!(decoder.next_block().unwrap().is_some(), "{path}");

        let file = FileParams::new(HttpClient::new().unwrap(), world.cache.clone());
        let source = FileSource::new(world.server.url(path).as_str(), file);
        let stream = Stream::new(source, StreamParams::default());
        let mut station = Decoder::from_stream(stream, &DecodeParams::new()).unwrap();
        assert!(station.next_block().unwrap().is_some(), "{path}");
        gate.open();
    }
}

/// P7.
#[test]
fn p7_what_has_arrived_can_be_shown() {
    let world = world();
    let gate = world.server.gate();
    let held = Rule::new().gate_after(200_000, &gate);
    world.server.rule("/files/piece.mp3", held);
    let decoder = world.open("/files/piece.mp3", OpenMode::Online).unwrap();
    let whole = decoder.duration().unwrap();
    let [part] = &decoder.buffered()[..] else {
        panic!("one stretch from the start on")
    };
    assert!(part.start.is_zero() && part.end > Duration::ZERO && part.end < whole);

    let mut output = decoder.into_output(OutputParams::default()).unwrap();
    let handle = output.handle();
    gate.open();
    let mut buffer = [0.0; 4096];
    while !output.is_ended() {
        if output.pull(&mut buffer) == 0 {
            std::thread::yield_now();
        }
    }
    assert_eq!(handle.buffered(), [Duration::ZERO..whole]);

    let local = block_on(Decoder::open(
        bundled("piece.mp3"),
        &DecodeParams::new(),
        OpenMode::Online,
    ));
    assert_eq!(local.unwrap().buffered(), [Duration::ZERO..whole]);
}

#[test]
fn paths_are_opened_as_well() {
    let path = bundled("piece.flac");
    let opened = block_on(Decoder::open(
        path.as_path(),
        &DecodeParams::new(),
        OpenMode::Online,
    ));
    assert!(rest(&mut opened.unwrap()) == whole(&path).0);
    let missing = block_on(Decoder::open(
        Location::parse("no such file.flac"),
        &DecodeParams::new(),
        OpenMode::Online,
    ));
    assert!(matches!(missing, Err(DecodeError::File { .. })));
}

#[test]
fn s11_what_was_played_plays_offline_and_what_was_not_is_a_typed_error() {
    let world = world();
    for path in ["/files/piece.mp3", "/hls/ts/playlist.m3u8"] {
        let refused = world.open(path, OpenMode::Offline).map(drop).unwrap_err();
        assert!(
            matches!(refused, DecodeError::File { .. } | DecodeError::Hls { .. }),
            "{refused}"
        );
        let online = rest(&mut world.open(path, OpenMode::Online).unwrap());
        let before = world.server.requests().len();
        let offline = rest(&mut world.open(path, OpenMode::Offline).unwrap());
        assert!(online == offline, "{path}");
        assert_eq!(world.server.requests().len(), before, "no request");
    }
}

#[test]
fn hls_is_known_by_its_name_and_by_its_first_bytes() {
    let world = world();
    let playlist = std::fs::read(media().join("hls/ts/playlist.m3u8")).unwrap();
    world.server.serve("/hls/ts/listen", Content::bytes(playlist));
    for path in ["/hls/ts/playlist.m3u8", "/hls/ts/listen"] {
        let mut decoder = world.open(path, OpenMode::Online).unwrap();
        let format = decoder.format();
        assert_eq!(
            (format.codec, format.container),
            (Codec::AacLc, Container::MpegTs)
        );
        assert_eq!(rest(&mut decoder).len(), 2 * 790_528, "{path}");
    }
}

#[test]
fn hls_tells_its_variant_and_can_be_sought_in() {
    let world = world();
    let mut decoder = world.open("/hls/plain/master.m3u8", OpenMode::Online).unwrap();
    decoder.next_block().unwrap();
    let mut variants = Vec::new();
    while let Some(event) = decoder.next_event() {
        if let DecodeEvent::VariantChanged { variant, .. } = event {
            variants.push(variant);
        }
    }
    // The adaptive selector knows nothing of the network, and begins low.
    assert_eq!(variants, [1]);
    decoder.seek(Duration::from_secs(31)).unwrap();
    let block = decoder.next_block().unwrap().unwrap();
    // In frames of its own: the lowest Variant Stream has half the sample rate, and may be the one that is chosen.
    assert_eq!(block.position(), 31 * u64::from(block.spec().sample_rate));
}

#[test]
fn a_track_from_each_kind_follows_the_other() {
    let world = world();
    let params = world.params.clone().sample_rate(48_000).channels(2);
    let open = |path: &str| {
        let url = world.server.url(path);
        block_on(Decoder::open(url.as_str(), &params, OpenMode::Online)).unwrap()
    };
    let mut first = open("/files/piece.wav");
    first.then(open("/hls/packed/playlist.m3u8"));
    first.then(open("/files/piece.mp3"));
    let mut frames = 0;
    while let Some(block) = first.next_block().unwrap() {
        frames += block.frames();
    }
    // Each at 48 kHz, rounded to the frame where a resampler ends.
    let want = [(66_150.0, 22_050.0), (790_528.0, 44_100.0), (882_000.0, 44_100.0)]
        .map(|(frames, rate): (f64, f64)| frames * 48_000.0 / rate)
        .iter()
        .sum::<f64>();
    assert!((frames as f64 - want).abs() <= 2.0, "{frames} is not {want}");
}

/// P5: whatever is waited for, a drop ends it, and the connections with it.
#[test]
fn p5_a_drop_closes_the_connections() {
    // More than the opening asks for, and less than there is.
    for (path, given) in [("/files/piece.mp3", 100_000), ("/hls/ts/seg-001.ts", 20_000)] {
        let world = world();
        let gate = world.server.gate();
        world.server.rule(path, Rule::new().gate_after(given, &gate));
        let url = if path.starts_with("/files") {
            path
        } else {
            "/hls/ts/playlist.m3u8"
        };
        let decoder = world.open(url, OpenMode::Online).unwrap();
        let mut output = decoder
            .into_output(OutputParams::new().ring(Duration::from_secs(30)))
            .unwrap();
        gate.wait_arrived(1);
        output.pull(&mut [0.0; 512]);
        drop(output);
        // Others may be idle in the client's pool, which lives on.
        world.server.wait_until(|log| {
            log.to(path)
                .all(|request| log.connections[request.connection].closed_at.is_some())
        });
        gate.open();
    }
}

#[test]
fn an_open_that_is_given_up_closes_its_connection() {
    let world = world();
    let gate = world.server.gate();
    world
        .server
        .rule("/files/piece.mp3", Rule::new().gate_after(100, &gate));
    let url = world.server.url("/files/piece.mp3");
    let opening = Decoder::open(url.as_str(), &world.params, OpenMode::Online);
    let stalled = async {
        // After the other future's first poll.
        futures_lite::future::yield_now().await;
        gate.wait_arrived(1);
        None
    };
    let opened = block_on(futures_lite::future::or(async { Some(opening.await) }, stalled));
    assert!(opened.is_none());
    world.server.wait_until(|log| log.open_connections() == 0);
    gate.open();
}

//! From opening to the first frame: a cached file, and HLS on loopback beside the stream of its first segment.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_lite::{StreamExt, future::block_on};
use kithara::cache::{AssetCache, AssetId};
use kithara::decode::{DecodeParams, Decoder};
use kithara::hls::{HlsParams, HlsSource};
use kithara::media::{Access, OpenMode};
use kithara::net::{HttpClient, Url};
use kithara::stream::{Stream, StreamParams};
use kithara_test_support::Server;

use crate::made;
use crate::report::{Report, load, percentile};

const ROUNDS: u32 = 60;

pub(crate) fn run(report: &mut Report) {
    println!("figure load {}", load());
    cached(report);
    for kind in ["ts", "fmp4"] {
        match made::tree(kind) {
            Some(tree) => hls(kind, &tree, report),
            None => println!("figure first_frame_hls_{kind} left out: no ffmpeg"),
        }
    }
}

/// Nothing is counted twice: what a round leaves to be done is over when the next one begins.
fn settle() {
    std::thread::sleep(Duration::from_millis(20));
}

fn cached(report: &mut Report) {
    let track = made::tracks()
        .into_iter()
        .find_map(|(format, path)| (format == "mp3").then_some(path))
        .unwrap();
    let server = Server::start(track.parent().unwrap()).unwrap();
    let name = track.file_name().unwrap().to_str().unwrap();
    let url = server.url(&format!("/{name}"));
    let root = tempfile::tempdir().unwrap();
    let params = crate::params(root.path());
    let open = |mode| block_on(Decoder::open(url.as_str(), &params, mode)).unwrap();
    let mut whole = open(OpenMode::Online);
    while whole.next_block().unwrap().is_some() {}
    drop(whole);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        settle();
        let started = Instant::now();
        let mut decoder = open(OpenMode::Offline);
        assert!(decoder.next_block().unwrap().is_some());
        times.push(started.elapsed());
    }
    report.at_most("first_frame_cached_mp3", percentile(&mut times, 50), 5.0, "ms");
}

fn hls(kind: &str, tree: &Path, report: &mut Report) {
    let server = Server::start(tree).unwrap();
    let url = server.url("/playlist.m3u8");
    let length = |name: &str| std::fs::metadata(tree.join(name)).map_or(0, |file| file.len());
    let first = if kind == "ts" {
        length("seg-000.ts")
    } else {
        length("init.mp4") + length("seg-000.m4s")
    };
    let root = tempfile::tempdir().unwrap();
    let cache = AssetCache::builder(root.path())
        .max_bytes(4 << 30)
        .open_blocking()
        .unwrap();
    let client = HttpClient::new().unwrap();
    // Each time a track that the cache has never heard of.
    let access =
        |key: String| Access::new(client.clone(), cache.clone()).asset(AssetId::from_key(&key).unwrap());
    let segment = |round: u32| {
        let params = HlsParams::with_access(access(format!("stream-{round}")));
        settle();
        let started = Instant::now();
        let source = HlsSource::new(Url::parse(&url).unwrap(), params);
        let mut stream = Stream::new(source, StreamParams::default());
        let mut bytes = 0;
        while bytes < first {
            bytes += block_on(stream.next()).unwrap().unwrap().len() as u64;
        }
        started.elapsed()
    };
    let frame = |round: u32| {
        let params = DecodeParams::new().access(access(format!("decoded-{round}")));
        settle();
        let started = Instant::now();
        let mut decoder = block_on(Decoder::open(url.as_str(), &params, OpenMode::Online)).unwrap();
        assert!(decoder.next_block().unwrap().is_some());
        started.elapsed()
    };
    let (mut segments, mut frames) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            segments.push(segment(round));
            frames.push(frame(round));
        } else {
            frames.push(frame(round));
            segments.push(segment(round));
        }
    }
    let (segment, frame) = (percentile(&mut segments, 50), percentile(&mut frames, 50));
    println!("figure hls_{kind} first_segment={segment:.2}ms first_frame={frame:.2}ms");
    let name = format!("first_frame_hls_{kind}_vs_first_segment");
    report.at_most(&name, frame / segment, 1.3, "x");
}

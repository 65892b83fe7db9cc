//! A track at real time from a server that stalls for less than the look-ahead: no pull finds less than it asks for.

use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::decode::{DecodeParams, Decoder, OutputParams};
use kithara::file::{FileParams, LookAhead};
use kithara::media::OpenMode;
use kithara::net::HttpClient;
use kithara_test_support::{Rule, Server};

use crate::made;
use crate::report::{Report, load};

/// How often a sound card asks.
const PERIOD: Duration = Duration::from_millis(10);
/// 16 seconds of 128 kbit/s.
const LOOK_AHEAD: u64 = 256 * 1024;
/// A response stops whenever it has given so many bytes, some 6 seconds of sound, for so long.
const EVERY: u64 = 100_000;
const STALL: Duration = Duration::from_secs(5);

pub(crate) fn run(report: &mut Report, whole: bool) {
    let minutes = if whole { 10 } else { 1 };
    let Some(track) = made::minutes(minutes) else {
        println!("figure starvation left out: no ffmpeg");
        return;
    };
    let server = Server::start(track.parent().unwrap()).unwrap();
    let path = format!("/{}", track.file_name().unwrap().to_str().unwrap());
    let stalls = std::fs::metadata(&track).unwrap().len() / EVERY;
    let rule = (1..=stalls).fold(Rule::new(), |rule, stall| rule.delay_after(stall * EVERY, STALL));
    server.rule(path.as_str(), rule);
    let root = tempfile::tempdir().unwrap();
    let cache = AssetCache::builder(root.path())
        .max_bytes(1 << 30)
        .open_blocking()
        .unwrap();
    let file = FileParams::new(HttpClient::new().unwrap(), cache).look_ahead(LookAhead::Bytes(LOOK_AHEAD));
    let params = DecodeParams::new().file(file).sample_rate(48_000).channels(2);
    let decoder = block_on(Decoder::open(
        server.url(&path).as_str(),
        &params,
        OpenMode::Online,
    ))
    .unwrap();
    let ring = OutputParams::new().ring(Duration::from_millis(200));
    let mut output = decoder.into_output(ring).unwrap();
    let (started, mut periods, mut frames) = (Instant::now(), 0, 0);
    let mut latest = Duration::ZERO;
    let mut block = [0.0; 2 * 480];
    while !output.is_ended() {
        latest = latest.max(started.elapsed().saturating_sub(PERIOD * periods));
        frames += output.pull(&mut block) / 2;
        periods += 1;
        // By the clock, as a sound card: a sleep that was too long is made up for.
        let next = started + PERIOD * periods;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    println!(
        "figure starvation {minutes} min, {frames} frames, {stalls} stalls, load {}, pulls up to {:.0}ms late",
        load(),
        latest.as_secs_f64() * 1e3
    );
    // Pulls that were as late as the ring is long asked for more at once than it holds: that is the machine, and not the ring.
    let missing = output.handle().missing_frames();
    report.at_most("missing_frames", missing as f64, 0.0, "");
}

//! HLS tracks: how fast they are fetched, beside curl, and how long they take to give their first byte, offline, from an open
//! cache: a short one, long ones, and a day's (fault W37).
//!
//! `cargo bench --features hls --bench hls` (behind `--`: `offline`, `start`, `latency`, `loopback`, `slow`, `memory`) prints a table, and one line a bar, `bar NAME figure=… limit=… ok|short`. The
//! tracks take turns in each round, so that they see the same machine; figures are medians, with the load beside them. Each
//! track has two Variant Streams, of which the second, the better one, is whole in the cache: offline it has to be found. The
//! cache lies in the temporary directory (`TMPDIR`); in one that is in memory the 24 000 entries are written sooner.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints, and may panic"
)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::{StreamExt, future::block_on};
use kithara::cache::{AssetCache, CachePath};
use kithara::hls::{Access, HlsParams, HlsSource, OpenMode, VariantChoice};
use kithara::net::{HttpClient, Url};
use kithara::stream::{Message, Source, StreamParams};
use kithara_test_support::Server;

const ROUNDS: usize = 41;

/// Segments, and the milliseconds that the track may take longer than the shortest one.
const TRACKS: [(usize, f64); 3] = [(20, 0.0), (2_000, 2.0), (21_600, 15.0)];
/// Segments of the playlist that is resolved, and the milliseconds that it may take.
const RESOLVED: (usize, f64) = (10_000, 5.0);

fn list_of(segments: usize) -> String {
    let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
    for index in 0..segments {
        write!(list, "#EXTINF:4.0,\nsegment-{index:05}.ts\n").unwrap();
    }
    list.push_str("#EXT-X-ENDLIST\n");
    list
}

/// Keeps a track of so many segments: its last one is played, which keeps the playlists too, and the others are put beside it.
fn keep(server: &Server, cache: &AssetCache, segments: usize) -> Url {
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=64000\nlow/list.m3u8\n\
        #EXT-X-STREAM-INF:BANDWIDTH=128000\nhigh/list.m3u8\n";
    server.serve_bytes(format!("/{segments}/master.m3u8"), master.as_bytes());
    let high = format!("/{segments}/high");
    server.serve_bytes(format!("{high}/list.m3u8"), list_of(segments).into_bytes());
    let segment = |index| format!("{high}/segment-{index:05}.ts");
    let bytes = [b"ID3".as_slice(), &[0x11; 61]].concat();
    server.serve_bytes(segment(segments - 1), bytes.clone());
    let parse = |path: &str| Url::parse(&server.url(path)).unwrap();
    let url = parse(&format!("/{segments}/master.m3u8"));
    let params = HlsParams::new(HttpClient::new().unwrap(), cache.clone()).variant(VariantChoice::Highest);
    let mut source = HlsSource::new(url.clone(), params);
    let last = Duration::from_secs(4 * (segments as u64 - 1));
    source.seek_time(last).unwrap();
    let stream = source.open(&StreamParams::default());
    let messages = block_on(stream.unwrap().try_fold(0, |messages, _| Ok(messages + 1)));
    assert!(messages.unwrap() > 1);
    for index in 0..segments - 1 {
        let path = CachePath::from_url(&parse(&segment(index)));
        let put = cache
            .blocking()
            .put_atomic(source.asset(), &path, bytes.clone().into());
        put.unwrap();
    }
    url
}

/// Milliseconds to the first byte.
fn first_byte(url: &Url, cache: &AssetCache) -> f64 {
    let client = HttpClient::new().unwrap();
    let begin = Instant::now();
    let params = HlsParams::new(client, cache.clone());
    let mut source = HlsSource::new(url.clone(), params);
    let mut stream = source.open(&StreamParams::default().offline_mode(true)).unwrap();
    block_on(async {
        loop {
            if let Message::Data(_) = stream.next().await.unwrap().unwrap() {
                return begin.elapsed().as_secs_f64() * 1000.0;
            }
        }
    })
}

/// Milliseconds from a playlist's text to a track that is laid out, with neither network nor cache.
fn resolve(list: &str) -> f64 {
    let url = Url::parse("https://example.com/music/album/track/list.m3u8").unwrap();
    let list = Bytes::copy_from_slice(list.as_bytes());
    let begin = Instant::now();
    let source = HlsSource::from_playlist(list, url, HlsParams::with_access(Access::default()));
    let seen = block_on(source.inspect(OpenMode::Offline)).unwrap();
    let time = begin.elapsed().as_secs_f64() * 1000.0;
    assert!(seen.duration.is_some());
    time
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

mod fetched;
mod memory;

fn report(name: &str, figure: f64, limit: f64) {
    let verdict = if figure <= limit { "ok" } else { "short" };
    println!("bar hls.{name} figure={figure:.2} limit={limit:.2} {verdict}");
}

fn main() {
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if memory::child() {
        return;
    }
    let sections: [(&str, fn()); 6] = [
        ("offline", offline),
        ("start", fetched::start),
        ("memory", memory::memory),
        ("latency", fetched::latency),
        ("loopback", fetched::loopback),
        ("slow", fetched::slow),
    ];
    if let [job, url, folder] = arguments.as_slice()
        && job == "play"
    {
        return fetched::play(url, folder.as_ref());
    }
    for (name, section) in sections {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            section();
        }
    }
}

fn offline() {
    let server = Server::empty().unwrap();
    let root = tempfile::tempdir().unwrap();
    let cache = block_on(AssetCache::builder(root.path()).max_bytes(1 << 30).open()).unwrap();
    let urls = TRACKS.map(|(segments, _)| keep(&server, &cache, segments));
    // Offline for certain.
    server.stop();
    // The first time each segment is asked for, and what was found is noted: as it is at the end of a track that is played.
    for url in &urls {
        println!(
            "figure hls.offline_first_byte_unnoted {:.2} ms",
            first_byte(url, &cache)
        );
    }
    let mut figures = TRACKS.map(|_| Vec::new());
    let (segments, limit) = RESOLVED;
    let (long, mut resolved) = (list_of(segments), Vec::new());
    for _ in 0..ROUNDS {
        for (url, figures) in urls.iter().zip(&mut figures) {
            figures.push(first_byte(url, &cache));
        }
        resolved.push(resolve(&long));
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "offline, open to first byte, median of {ROUNDS}, load {}",
        load.trim()
    );
    println!("{:>9} {:>9}", "segments", "ms");
    let medians = figures.each_mut().map(|figures| median(figures));
    for ((segments, _), median) in TRACKS.iter().zip(medians) {
        println!("{segments:>9} {median:>9.2}");
    }
    for ((segments, more), figure) in TRACKS.iter().zip(medians).skip(1) {
        let limit = medians[0] + more;
        report(&format!("offline_first_byte_{segments}"), figure, limit);
    }
    let figure = median(&mut resolved);
    report(&format!("playlist_resolved_{segments}"), figure, limit);
}

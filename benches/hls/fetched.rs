//! A track fetched into the cache, beside curl, which writes the same segments to files (faults W36, W38).
//!
//! Each takes its turn in a process of its own, against one server. `curl -Z` has several transfers at once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::{StreamExt, future::block_on};
use kithara::cache::{AssetCache, Durability};
use kithara::hls::{HlsParams, HlsSource};
use kithara::net::{HttpClient, Url};
use kithara::stream::{Message, Source, Stream, StreamParams};
use kithara_test_support::{Pattern, Rule, Server, encrypted};

use super::{list_of, median, report};

const SEGMENT: usize = 200 << 10;
/// Bytes a second of the slow link.
const SLOW: f64 = 16_000.0;

#[derive(Default)]
struct Run {
    seconds: f64,
    first: f64,
    cpu: f64,
}

/// Plays the track at `url` to its end, into a cache in `folder`: as a process of its own.
pub(super) fn play(url: &str, folder: &Path) {
    let cache = AssetCache::builder(folder)
        .max_bytes(1 << 30)
        .durability(Durability::Ordered)
        .open_blocking()
        .unwrap();
    let params = HlsParams::new(HttpClient::new().unwrap(), cache);
    let begin = Instant::now();
    let source = HlsSource::new(Url::parse(url).unwrap(), params);
    let mut stream = Stream::new(source, StreamParams::default());
    let (mut bytes, mut first) = (0, None);
    block_on(async {
        while let Some(chunk) = stream.next().await {
            bytes += chunk.unwrap().len();
            first.get_or_insert_with(|| begin.elapsed().as_secs_f64());
        }
    });
    let seconds = begin.elapsed().as_secs_f64();
    println!("{bytes} {seconds} {} {}", first.unwrap(), cpu(11));
}

/// Seconds of the processor, of this process or of those that it has waited for: two fields of `/proc/self/stat`, in ticks of
/// 10 ms.
fn cpu(field: usize) -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(field).take(2);
    ticks.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn ours(url: &str, bytes: usize) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["play", url])
        .arg(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let figures: Vec<f64> = text
        .split_whitespace()
        .map(|figure| figure.parse().unwrap())
        .collect();
    assert!((figures[0] - bytes as f64).abs() < 0.5, "{text}");
    Run {
        seconds: figures[1],
        first: figures[2],
        cpu: figures[3],
    }
}

/// Segments and the playlist, `parallel` at once.
fn curl(base: &str, segments: usize, parallel: usize) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("curl");
    command
        .args(["-s", "-f", "-o", "#1"])
        .stderr(std::process::Stdio::null());
    if parallel > 1 {
        command.args(["-Z", "--parallel-max", &parallel.to_string()]);
    }
    command.arg(format!("{base}/segment-[00000-{:05}].ts", segments - 1));
    let (begin, before) = (Instant::now(), cpu(13));
    let status = command.current_dir(folder.path()).status().unwrap();
    assert!(status.success());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), segments);
    Run {
        seconds: begin.elapsed().as_secs_f64(),
        first: 0.0,
        cpu: cpu(13) - before,
    }
}

/// Serves a track of segments of 200 KiB under `/t`, and encrypted under `/e`.
fn serve(server: &Server, segments: usize) {
    let pattern = Pattern::new(5);
    let list = list_of(segments);
    let with_key = list.replacen("#EXTINF", "#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n#EXTINF", 1);
    server.serve_bytes("/t/list.m3u8", list.into_bytes());
    server.serve_bytes("/e/list.m3u8", with_key.into_bytes());
    server.serve_bytes("/e/key", KEY);
    for index in 0..segments {
        let mut bytes = pattern.range((index * SEGMENT) as u64, SEGMENT);
        bytes[..3].copy_from_slice(b"ID3");
        server.serve_bytes(
            format!("/e/segment-{index:05}.ts"),
            encrypted(&bytes, KEY, index as u128),
        );
        server.serve_bytes(format!("/t/segment-{index:05}.ts"), bytes);
    }
}

const KEY: [u8; 16] = *b"sixteen  letters";

fn medians(rounds: usize, mut run: impl FnMut() -> Run) -> Run {
    let runs: Vec<_> = (0..rounds).map(|_| run()).collect();
    let of = |figure: fn(&Run) -> f64| median(&mut runs.iter().map(figure).collect::<Vec<_>>());
    Run {
        seconds: of(|run| run.seconds),
        first: of(|run| run.first),
        cpu: of(|run| run.cpu),
    }
}

/// A hundred segments from a server that waits before each answer.
pub(super) fn latency() {
    println!("\n100 segments of 200 KiB, seconds (a server that waits before each answer)");
    println!(
        "{:>8} {:>8} {:>8} {:>8} {:>8}",
        "wait ms", "ours", "curl", "curl -Z 3", "curl -Z 4"
    );
    for (wait, limit) in [(20, 0.36), (100, 0.33)] {
        let server = Server::empty().unwrap();
        serve(&server, 100);
        server.rule("*", Rule::new().delay(Duration::from_millis(wait)));
        let base = server.url("/t");
        let (url, bytes) = (format!("{base}/list.m3u8"), 100 * SEGMENT);
        let ours = medians(3, || ours(&url, bytes));
        let curls =
            [1, 3, 4].map(|parallel| medians(if wait > 50 { 1 } else { 3 }, || curl(&base, 100, parallel)));
        println!(
            "{wait:>8} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
            ours.seconds, curls[0].seconds, curls[1].seconds, curls[2].seconds
        );
        report(
            &format!("fetch_{wait}_ms_vs_curl"),
            ours.seconds / curls[0].seconds,
            limit,
        );
    }
}

/// Three hundred segments over loopback.
pub(super) fn loopback() {
    let server = Server::empty().unwrap();
    serve(&server, 300);
    let mut runs = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..7 {
        runs[0].push(curl(&server.url("/t"), 300, 1));
        for (at, path) in [(1, "/t/list.m3u8"), (2, "/e/list.m3u8")] {
            runs[at].push(ours(&server.url(path), 300 * SEGMENT));
        }
    }
    let of =
        |at: usize, figure: fn(&Run) -> f64| median(&mut runs[at].iter().map(figure).collect::<Vec<_>>());
    let (curl, curl_cpu) = (of(0, |run| run.seconds), of(0, |run| run.cpu));
    println!("\n300 segments of 200 KiB over loopback");
    println!("{:>10} {:>8} {:>8}", "", "seconds", "CPU");
    for (at, name) in ["curl", "ours", "AES-128"].into_iter().enumerate() {
        println!(
            "{name:>10} {:>8.3} {:>8.3}",
            of(at, |run| run.seconds),
            of(at, |run| run.cpu)
        );
    }
    report("loopback_vs_curl", of(1, |run| run.seconds) / curl, 1.1);
    report("loopback_cpu_vs_curl", of(1, |run| run.cpu) / curl_cpu, 1.5);
    report("loopback_aes_cpu_vs_curl", of(2, |run| run.cpu) / curl_cpu, 2.5);
}

/// Ten segments over 128 kbit/s, which all connections share.
pub(super) fn slow() {
    let server = Server::empty().unwrap();
    serve(&server, 10);
    let link = shaped(server.addr());
    let base = format!("http://{link}/t");
    let ours = ours(&format!("{base}/list.m3u8"), 10 * SEGMENT);
    let curl_all = curl(&base, 10, 1);
    let curl_first = curl(&base, 1, 1);
    println!(
        "\n10 segments of 200 KiB over 128 kbit/s: ours {:.1} s, curl {:.1} s",
        ours.seconds, curl_all.seconds
    );
    report("slow_link_vs_curl", ours.seconds / curl_all.seconds, 1.02);
    println!(
        "first byte {:.2} s; curl has the first segment after {:.2} s",
        ours.first, curl_first.seconds
    );
}

/// A proxy that passes what the server sends at [`SLOW`], to all connections together.
fn shaped(server: std::net::SocketAddr) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bucket = Arc::new(Mutex::new(Instant::now()));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let upstream = TcpStream::connect(server).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let bucket = bucket.clone();
            thread::spawn(move || pass(upstream, client, &bucket));
        }
    });
    address
}

fn pass(mut from: TcpStream, mut to: TcpStream, bucket: &Mutex<Instant>) {
    let mut buffer = [0; 1600];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let wait = {
            let mut free = bucket.lock().unwrap();
            let now = Instant::now();
            *free = (*free).max(now) + Duration::from_secs_f64(count as f64 / SLOW);
            free.duration_since(now)
        };
        thread::sleep(wait);
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// The first byte of an encrypted track with an initialization section, behind a Multivariant Playlist, where each request takes
/// 100 ms; and of the same track in the cache.
pub(super) fn start() {
    let server = Server::empty().unwrap();
    let mut list = list_of(20).replacen(
        "#EXTINF",
        "#EXT-X-KEY:METHOD=AES-128,URI=\"key\",IV=0x0\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF",
        1,
    );
    list = list.replace(".ts", ".m4s");
    server.serve_bytes(
        "/t/master.m3u8",
        *b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=128000\nlist.m3u8\n",
    );
    server.serve_bytes("/t/list.m3u8", list.into_bytes());
    server.serve_bytes("/t/key", KEY);
    let boxed = |name: &[u8; 4], len: usize| {
        [
            b"\0\0\0\x18ftypiso5\0\0\0\0iso5dash".as_slice(),
            name,
            &vec![7; len],
        ]
        .concat()
    };
    server.serve_bytes("/t/init.mp4", encrypted(&boxed(b"moov", 600), KEY, 0));
    for index in 0..20 {
        let segment = encrypted(&boxed(b"moof", 96_000), KEY, 0);
        server.serve_bytes(format!("/t/segment-{index:05}.m4s"), segment);
    }
    let delay = server.rule("*", Rule::new().delay(Duration::from_millis(100)));
    let url = Url::parse(&server.url("/t/master.m3u8")).unwrap();
    let first_byte = |cache: &AssetCache| {
        let params = HlsParams::new(HttpClient::new().unwrap(), cache.clone());
        let begin = Instant::now();
        let mut stream = HlsSource::new(url.clone(), params)
            .open(&StreamParams::default())
            .unwrap();
        block_on(async {
            let mut is_segment = false;
            loop {
                match stream.next().await.unwrap().unwrap() {
                    Message::Control(kithara::hls::HlsControl::SegmentStart { .. }) => is_segment = true,
                    Message::Data(_) if is_segment => return begin.elapsed().as_secs_f64() * 1000.0,
                    _ => {}
                }
            }
        })
    };
    let mut figures: Vec<_> = (0..21)
        .map(|_| {
            let root = tempfile::tempdir().unwrap();
            let cache = block_on(AssetCache::builder(root.path()).max_bytes(1 << 30).open()).unwrap();
            first_byte(&cache)
        })
        .collect();
    let figure = median(&mut figures);
    println!("\nfirst media byte at 100 ms a request: {figure:.1} ms");
    report("start_100_ms", figure, 330.0);
    delay.remove();
    let root = tempfile::tempdir().unwrap();
    let cache = block_on(AssetCache::builder(root.path()).max_bytes(1 << 30).open()).unwrap();
    let params = HlsParams::new(HttpClient::new().unwrap(), cache.clone());
    let mut stream = Stream::new(HlsSource::new(url.clone(), params), StreamParams::default());
    block_on(async { while stream.next().await.is_some() {} });
    let figure = median(&mut (0..41).map(|_| first_byte(&cache)).collect::<Vec<_>>());
    report("replay_start_ms", figure, 5.0);
}

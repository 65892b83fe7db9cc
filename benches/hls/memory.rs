//! How much memory a track takes that is fetched far ahead, beside a process with client and cache open and nothing playing.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use futures_lite::{StreamExt, future::block_on};
use kithara::cache::AssetCache;
use kithara::hls::{HlsParams, HlsSource};
use kithara::net::{HttpClient, Url};
use kithara::stream::{Message, Source, StreamParams};
use kithara_test_support::Server;

use super::{median, report};

/// What a child is told: the folder of its cache, and the track, if it plays one.
const CACHE: &str = "KITHARA_BENCH_CACHE";
const TRACK: &str = "KITHARA_BENCH_TRACK";

/// Ten minutes of FLAC at 1 Mbit/s, in segments of six seconds.
const SEGMENTS: usize = 100;
const SEGMENT: usize = 750_000;
const ROUNDS: usize = 5;

/// Does what the environment says, if this is a child. Whether it is.
pub(crate) fn child() -> bool {
    let Ok(folder) = std::env::var(CACHE) else {
        return false;
    };
    block_on(async {
        let cache = AssetCache::builder(folder)
            .max_bytes(1 << 30)
            .open()
            .await
            .unwrap();
        let client = HttpClient::new().unwrap();
        if let Ok(url) = std::env::var(TRACK) {
            let mut source = HlsSource::new(Url::parse(&url).unwrap(), HlsParams::new(client, cache));
            let mut stream = source.open(&StreamParams::default()).unwrap();
            let mut bytes = 0;
            while let Some(message) = stream.next().await {
                let Message::Data(data) = message.unwrap() else {
                    continue;
                };
                if bytes == 0 {
                    // All of the 32 MiB come while nobody reads.
                    std::thread::sleep(Duration::from_secs(4));
                }
                bytes += data.len();
            }
            assert_eq!(bytes, SEGMENTS * SEGMENT);
        }
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!("{}", peak.unwrap().trim().trim_end_matches(" kB"));
    true
}

/// MiB at most, in a process of its own.
fn peak(track: Option<&str>) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(CACHE, folder.path());
    if let Some(track) = track {
        command.env(TRACK, track);
    }
    let said = command.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let kib: f64 = String::from_utf8(said.stdout).unwrap().trim().parse().unwrap();
    kib / 1024.0
}

pub(crate) fn memory() {
    let server = Server::empty().unwrap();
    let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
    let mut segment = vec![0x11; SEGMENT];
    segment[..3].copy_from_slice(b"ID3");
    for index in 0..SEGMENTS {
        write!(list, "#EXTINF:6,\n{index}.ts\n").unwrap();
        server.serve_bytes(format!("/{index}.ts"), segment.clone());
    }
    list.push_str("#EXT-X-ENDLIST\n");
    server.serve_bytes("/list.m3u8", list.into_bytes());
    let url = server.url("/list.m3u8");
    let (mut idle, mut playing): (Vec<_>, Vec<_>) =
        (0..ROUNDS).map(|_| (peak(None), peak(Some(&url)))).unzip();
    let (idle, playing) = (median(&mut idle), median(&mut playing));
    println!(
        "memory: {playing:.1} MiB with a track of 1 Mbit/s and 32 MiB ahead, {idle:.1} MiB with client and cache alone"
    );
    report("memory_ahead_mib", playing - idle, 12.0);
}

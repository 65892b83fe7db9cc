//! Ten tracks, files and HLS, beside curl, which writes the same bytes to files over as many connections.
//!
//! Each takes its turn in a process of its own, against one server.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_lite::future::{self, block_on};
use kithara::media::Access;
use kithara::net::{HttpClient, Url};
use kithara::offline::{DownloadRequest, Downloads};
use kithara_test_support::{Content, Pattern, Rule, Server};

use super::{at_least, median, open_cache};

const TRACKS: usize = 10;
const FILE: usize = 20 << 20;
const SEGMENT: usize = 200 << 10;
const SEGMENTS: usize = 50;
/// Connections to the server, of both.
const CONNECTIONS: usize = 5;

/// Downloads what `urls` names, one in a line, into a cache in `folder`: as a process of its own.
pub(super) fn fetch(urls: &str, folder: &Path, parallel: usize) {
    // One more is kept for what is played.
    let client = HttpClient::builder()
        .max_connections_per_host(CONNECTIONS + 1)
        .build()
        .unwrap();
    let access = Access::new(client, open_cache(folder));
    let begin = Instant::now();
    let downloads = block_on(Downloads::builder(access).parallel(parallel).open()).unwrap();
    for url in urls.lines() {
        let parsed = Url::parse(url).unwrap();
        let request = if url.ends_with(".m3u8") {
            DownloadRequest::hls(parsed)
        } else {
            DownloadRequest::file(parsed)
        };
        block_on(downloads.add(request)).unwrap();
    }
    block_on(future::or(
        async { downloads.run().await.unwrap() },
        downloads.idle(),
    ));
    let seconds = begin.elapsed().as_secs_f64();
    let infos = block_on(downloads.list()).unwrap();
    let bytes: u64 = infos.iter().map(|info| info.progress.bytes).sum();
    assert!(infos.iter().all(|info| info.progress.is_complete), "{infos:?}");
    println!("{bytes} {seconds}");
}

fn ours(urls: &[String], bytes: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["fetch", &urls.join("\n")])
        .arg(folder.path())
        .arg(CONNECTIONS.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (came, seconds) = text.trim().split_once(' ').unwrap();
    assert_eq!(came.parse::<usize>().unwrap(), bytes);
    seconds.parse().unwrap()
}

fn curl(urls: &[String]) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("curl");
    command
        .args(["-s", "-f", "-Z", "--parallel-immediate", "--parallel-max"])
        .arg(CONNECTIONS.to_string())
        .stderr(Stdio::null());
    for url in urls {
        command.args(["-o", &url.replace(['/', ':'], "_"), url]);
    }
    let begin = Instant::now();
    assert!(command.current_dir(folder.path()).status().unwrap().success());
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), urls.len());
    seconds
}

pub(super) fn throughput() {
    let server = Server::empty().unwrap();
    let pattern = Pattern::new(5);
    let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
    for number in 0..SEGMENTS {
        writeln!(list, "#EXTINF:6,\n{number}.ts").unwrap();
    }
    list += "#EXT-X-ENDLIST\n";
    let (mut files, mut tracks, mut segments) = (Vec::new(), Vec::new(), Vec::new());
    for track in 0..TRACKS {
        let file = format!("/f{track}.mp3");
        server.serve(&file, Content::bytes(pattern.range((track * FILE) as u64, FILE)));
        files.push(server.url(&file));
        server.serve_bytes(format!("/t{track}/list.m3u8"), list.clone().into_bytes());
        tracks.push(server.url(&format!("/t{track}/list.m3u8")));
        for number in 0..SEGMENTS {
            let path = format!("/t{track}/{number}.ts");
            let at = (track * SEGMENTS + number) * SEGMENT;
            let body = [b"ID3".as_slice(), &pattern.range(at as u64, SEGMENT - 3)].concat();
            server.serve_bytes(&path, body);
            segments.push(server.url(&path));
        }
    }
    println!("\nten tracks over {CONNECTIONS} connections, seconds, medians");
    println!(
        "{:>10} {:>6} {:>8} {:>8} {:>6}",
        "wait ms", "", "ours", "curl", "ratio"
    );
    for wait in [0, 20] {
        let rule = (wait > 0).then(|| server.rule("*", Rule::new().delay(Duration::from_millis(wait))));
        for (name, asked, peers, bytes) in [
            ("files", &files, &files, TRACKS * FILE),
            ("hls", &tracks, &segments, TRACKS * SEGMENTS * SEGMENT),
        ] {
            let (mut our, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..7 {
                our.push(ours(asked, bytes));
                theirs.push(curl(peers));
                ratios.push(theirs[theirs.len() - 1] / our[our.len() - 1]);
            }
            let ratio = median(&mut ratios);
            let (our, theirs) = (median(&mut our), median(&mut theirs));
            println!("{wait:>10} {name:>6} {our:>8.3} {theirs:>8.3} {ratio:>6.2}");
            at_least(&format!("{name}_{wait}_ms_vs_curl"), ratio, 0.9);
        }
        if let Some(rule) = rule {
            rule.remove();
        }
    }
}

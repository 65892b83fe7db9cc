//! A file from a URL onto the disk and read in order, by kithara and by others:
//! `cargo run --release --manifest-path benches/peers/Cargo.toml --bin file`.
//!
//! 512 MiB over loopback. The server is a process of its own, and so is each client in each round; rounds alternate, and
//! figures are medians. CPU time is that of the client's process, peak memory too. One line per bar:
//! `bar NAME figure=… limit=… ok|short`.
//!
//! - `kithara`: `FileSource` into a cache on the disk, read through `Read`.
//! - `stream-download`, with its storage in a temporary file or in memory, read through `Read`; as its README has it.
//! - `reqwest`: the body written to a plain file as it comes; nobody reads it.
//! - `curl`: the same by the program, where it is installed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use futures_lite::StreamExt;
use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::file::{FileParams, FileSource, OpenMode};
use kithara::net::{HttpClient, Url};
use kithara_test_support::{Content, Pattern, Server};
use stream_download::storage::StorageProvider;
use stream_download::storage::memory::MemoryStorageProvider;
use stream_download::storage::temp::TempStorageProvider;
use stream_download::{Settings, StreamDownload};

const MIB: u64 = 1024 * 1024;
const LEN: u64 = 512 * MIB;
const ROUNDS: usize = 7;
const KINDS: [&str; 5] = [
    "kithara",
    "stream-download-temp",
    "stream-download-memory",
    "reqwest",
    "curl",
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(),
        Some("job") => job(&arguments[1], &arguments[2], Path::new(&arguments[3])),
        _ => run(),
    }
}

fn serve() {
    let server = Server::empty().expect("a port");
    server.serve("/a.bin", Content::pattern(&Pattern::new(3), LEN));
    println!("{}", server.url("/a.bin"));
    // Until the parent closes our input.
    let _ = std::io::stdin().read(&mut [0]);
}

struct ServerProcess {
    child: Child,
    url: String,
}

impl ServerProcess {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a path"))
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut url)
            .expect("a url");
        Self {
            child,
            url: url.trim().to_owned(),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// One client: seconds, CPU seconds and peak memory in MiB on one line.
fn job(kind: &str, url: &str, folder: &Path) {
    let start = Instant::now();
    let bytes = match kind {
        "kithara" => kithara(url, folder),
        "stream-download-temp" => stream_download(url, TempStorageProvider::new_in(folder)),
        "stream-download-memory" => stream_download(url, MemoryStorageProvider),
        "reqwest" => reqwest(url, folder),
        "curl" => curl(url, folder),
        other => panic!("no job {other}"),
    };
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(bytes, LEN, "{kind}");
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // User and system time of this process and of the children that it has waited for.
    let ticks: f64 = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .trim()
                .split(' ')
                .next()?
                .parse::<f64>()
                .ok()
        })
        .unwrap_or(0.0);
    println!("{seconds} {} {}", ticks / 100.0, peak / 1024.0);
}

fn kithara(url: &str, folder: &Path) -> u64 {
    let cache = AssetCache::builder(folder.join("cache"))
        .max_bytes(4 << 30)
        .open_blocking()
        .expect("a cache");
    let params = FileParams::new(HttpClient::new().expect("a client"), cache);
    let source = FileSource::new(Url::parse(url).expect("a url"), params);
    drain(&mut block_on(source.open_reader(OpenMode::Online)).expect("a reader"))
}

fn stream_download<P>(url: &str, storage: P) -> u64
where
    P: StorageProvider + 'static,
    P::Reader: Send,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let url = url.parse().expect("a url");
    let opened = runtime.block_on(StreamDownload::new_http(url, storage, Settings::default()));
    let Ok(mut reader) = opened else {
        panic!("stream-download cannot open the file")
    };
    drain(&mut reader)
}

fn reqwest(url: &str, folder: &Path) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut body = client.get(url).send().await.expect("a response").bytes_stream();
        let mut file = std::fs::File::create(folder.join("plain")).expect("a file");
        let mut bytes = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.expect("bytes");
            file.write_all(&chunk).expect("written");
            bytes += chunk.len() as u64;
        }
        bytes
    })
}

fn curl(url: &str, folder: &Path) -> u64 {
    let plain = folder.join("plain");
    let done = Command::new("curl")
        .args(["-s", "--noproxy", "*", "-o"])
        .arg(&plain)
        .arg(url)
        .status();
    match done {
        Ok(status) if status.success() => std::fs::metadata(plain).expect("a file").len(),
        other => panic!("no curl: {other:?}"),
    }
}

fn drain(reader: &mut impl Read) -> u64 {
    let mut buffer = vec![0; 128 * 1024];
    let mut bytes = 0;
    loop {
        match reader.read(&mut buffer).expect("bytes") {
            0 => return bytes,
            count => bytes += count as u64,
        }
    }
}

/// Seconds, CPU seconds, MiB.
type Figures = [f64; 3];

fn spawn(kind: &str, url: &str) -> Option<Figures> {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(std::env::current_exe().expect("a path"))
        .args(["job", kind, url])
        .arg(folder.path())
        .stderr(Stdio::null())
        .output()
        .expect("a client");
    let text = String::from_utf8(output.stdout).ok()?;
    let mut figures = text.split_whitespace().map_while(|figure| figure.parse().ok());
    Some([figures.next()?, figures.next()?, figures.next()?])
}

fn run() {
    let server = ServerProcess::start();
    let mut rounds: [Vec<Figures>; KINDS.len()] = Default::default();
    for round in 0..ROUNDS {
        // In turns the first, so that none always finds the disk as the same other one left it.
        for at in 0..KINDS.len() {
            let at = (at + round) % KINDS.len();
            rounds[at].extend(spawn(KINDS[at], &server.url));
        }
    }
    let median = |at: usize, figure: usize| {
        let mut values: Vec<f64> = rounds[at].iter().map(|round| round[figure]).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    for (at, kind) in KINDS.iter().enumerate() {
        match (median(at, 0), median(at, 1), median(at, 2)) {
            (Some(seconds), Some(cpu), Some(peak)) => println!(
                "figure {kind} {:.0} MiB/s, {:.2} CPU s/GiB, {peak:.0} MiB at most",
                (LEN / MIB) as f64 / seconds,
                cpu * (1024 * MIB) as f64 / LEN as f64,
            ),
            _ => println!("figure {kind} did not run"),
        }
    }
    let ratio = |figure: usize, ours: usize, theirs: usize| {
        let (ours, theirs) = (median(ours, figure)?, median(theirs, figure)?);
        Some(ours / theirs)
    };
    bar("throughput_vs_stream_download_temp", ratio(0, 1, 0), 1.3, true);
    bar("cpu_vs_stream_download_temp", ratio(1, 0, 1), 0.5, false);
}

fn bar(name: &str, figure: Option<f64>, limit: f64, at_least: bool) {
    let Some(figure) = figure else { return };
    let ok = if at_least {
        figure >= limit
    } else {
        figure <= limit
    };
    let verdict = if ok { "ok" } else { "short" };
    println!("bar {name} figure={figure:.2}x limit={limit}x {verdict}");
}

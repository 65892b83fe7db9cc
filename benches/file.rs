//! What a file through `FileSource` costs, against the bare client and plain files in the same run.
//!
//! `cargo bench --features file --bench file` prints one line per bar, `bar NAME figure=… limit=… ok|short`, and figures
//! without a bar as `figure NAME …`. Sections can be chosen: `-- throughput syscalls first seeks close replay slow`. Server and
//! clients are processes of their own, so that a figure is the client's alone; `close` needs both in one. Figures are
//! medians over rounds of one right after the other. System calls are counted by `strace`, where it is installed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench prints, and may panic"
)]

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use futures_lite::future::block_on;
use kithara::cache::{AssetCache, AssetId};
use kithara::file::{FileControl, FileParams, FileSource, LookAhead, OpenMode};
use kithara::net::{ByteRange, HttpClient, Request, Url};
use kithara::stream::{Stream, StreamParams};
use kithara_test_support::{Content, Pattern, Rule, Server};

const MIB: u64 = 1024 * 1024;
const LEN: u64 = 512 * MIB;
/// A short file, and how many bytes of it come in a second of a slow link.
const SHORT: u64 = 16 * MIB;
const SLOW: u64 = MIB;
const ROUNDS: usize = 7;
/// How many bytes one checksum covers.
const BLOCK: usize = 128 * 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(),
        Some("job") => job(&arguments[1], &arguments[2], Path::new(&arguments[3])),
        _ => {
            let wants = |section: &str| arguments.is_empty() || arguments.iter().any(|a| a == section);
            run(wants);
        }
    }
}

fn run(wants: impl Fn(&str) -> bool) {
    let mut report = Report::default();
    let server = ServerProcess::start();
    if wants("throughput") {
        throughput(&server, &mut report);
    }
    if wants("syscalls") {
        syscalls(&server, &mut report);
    }
    if wants("replay") {
        replay(&server, &mut report);
    }
    if wants("slow") {
        slow(&server);
    }
    // What is still to be written back of all that would be paid for by whoever makes files and folders now.
    let synced = Command::new("sync").status();
    assert!(synced.is_ok_and(|status| status.success()), "no sync");
    if wants("first") {
        first_byte(&server, &mut report);
    }
    if wants("seeks") {
        seeks(&server, &mut report);
    }
    if wants("close") {
        close(&mut report);
    }
    if report.short > 0 {
        println!("{} short", report.short);
    }
}

// The server's process.

fn serve() {
    let server = Server::empty().unwrap();
    server.serve("/a.bin", Content::pattern(&Pattern::new(3), LEN));
    server.serve("/short.bin", Content::pattern(&Pattern::new(3), SHORT));
    server.serve("/slow.bin", Content::pattern(&Pattern::new(3), SHORT));
    server.rule("/slow.bin", Rule::new().trickle(SLOW));
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
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
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

// One client's process: `job KIND URL FOLDER`, then seconds, CPU seconds and peak RSS in KiB on one line.

fn job(kind: &str, url: &str, folder: &Path) {
    let start = Instant::now();
    let bytes = match kind {
        "bare" => block_on(bare(url, folder)),
        "file" => file(url, folder),
        "fill" => {
            let bytes = fill(url, folder);
            let mut plain = std::fs::File::create(folder.join("plain")).unwrap();
            let pattern = Pattern::new(3);
            for at in (0..bytes).step_by(MIB as usize) {
                plain.write_all(&pattern.range(at, MIB as usize)).unwrap();
            }
            bytes
        }
        other => panic!("no job {other}"),
    };
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(bytes, if url.ends_with("/a.bin") { LEN } else { SHORT });
    let cpu = cpu_seconds();
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
    println!("{seconds} {cpu} {peak}");
}

/// The processor's time that the threads of this process have had. `/proc/self/stat` has it in ticks of 10 ms, which is a
/// twentieth of what is measured; the threads' own files have nanoseconds.
fn cpu_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let nanos = threads.flatten().filter_map(|thread| {
        let times = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        times.split(' ').next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e9
}

async fn bare(url: &str, folder: &Path) -> u64 {
    let client = HttpClient::new().unwrap();
    let mut body = client
        .send(Request::get(Url::parse(url).unwrap()))
        .await
        .unwrap()
        .into_body();
    let mut file = std::fs::File::create(folder.join("bare")).unwrap();
    let mut bytes = 0;
    while let Some(chunk) = body.try_next().await.unwrap() {
        file.write_all(&chunk).unwrap();
        bytes += chunk.len() as u64;
    }
    bytes
}

fn file(url: &str, folder: &Path) -> u64 {
    let cache = AssetCache::builder(folder.join("cache"))
        .max_bytes(4 << 30)
        .open_blocking()
        .unwrap();
    let params = FileParams::new(HttpClient::new().unwrap(), cache);
    let source = FileSource::new(Url::parse(url).unwrap(), params);
    drain(&mut block_on(source.open_reader(OpenMode::Online)).unwrap())
}

/// As `file`, until it is an entry of the cache.
fn fill(url: &str, folder: &Path) -> u64 {
    let cache = AssetCache::builder(folder.join("cache"))
        .max_bytes(4 << 30)
        .open_blocking()
        .unwrap();
    let params = FileParams::new(HttpClient::new().unwrap(), cache);
    let source = FileSource::new(Url::parse(url).unwrap(), params);
    let mut parts = block_on(source.open_parts(OpenMode::Online)).unwrap();
    let driver = std::thread::spawn(|| block_on(parts.driver));
    let bytes = drain(&mut parts.reader);
    while !matches!(block_on(parts.events.next()).unwrap(), FileControl::Cached) {}
    driver.join().unwrap();
    bytes
}

fn drain(reader: &mut impl Read) -> u64 {
    let mut buffer = vec![0; 128 * 1024];
    let mut bytes = 0;
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => return bytes,
            count => bytes += count as u64,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Figures {
    seconds: f64,
    cpu: f64,
    peak_kib: f64,
}

fn spawn(kind: &str, url: &str, folder: &Path) -> Figures {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["job", kind, url])
        .arg(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let figures: Vec<f64> = text.split_whitespace().map(|f| f.parse().unwrap()).collect();
    Figures {
        seconds: figures[0],
        cpu: figures[1],
        peak_kib: figures[2],
    }
}

fn throughput(server: &ServerProcess, report: &mut Report) {
    let (mut speed, mut cpu, mut peak) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bare_speed, mut bare_cpu) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Each on a disk that has nothing else to write, and in turns the first.
        let fresh = |kind: &str| spawn(kind, &server.url, tempfile::tempdir().unwrap().path());
        let (bare, ours) = if round % 2 == 0 {
            (fresh("bare"), fresh("file"))
        } else {
            let ours = fresh("file");
            (fresh("bare"), ours)
        };
        speed.push(bare.seconds / ours.seconds);
        cpu.push(ours.cpu / bare.cpu);
        peak.push(ours.peak_kib / 1024.0);
        bare_speed.push(LEN as f64 / MIB as f64 / bare.seconds);
        bare_cpu.push(bare.cpu * 2.0);
    }
    println!("figure bare_mib_per_s {:.0}", median(bare_speed));
    println!("figure bare_cpu_s_per_gib {:.2}", median(bare_cpu));
    report.at_least("sequential_vs_bare", median(speed), 0.9, "x");
    report.at_most("cpu_vs_bare", median(cpu), 1.3, "x");
    report.at_most("peak_rss", median(peak), 16.0, "MiB");
}

fn syscalls(server: &ServerProcess, report: &mut Report) {
    let count = |kind: &str| -> Option<f64> {
        let folder = tempfile::tempdir().ok()?;
        let counts = folder.path().join("counts");
        let status = Command::new("strace")
            .args(["-f", "-c", "-o"])
            .arg(&counts)
            .arg(std::env::current_exe().ok()?)
            .args(["job", kind, &server.url])
            .arg(folder.path())
            .stdout(Stdio::null())
            .status()
            .ok()?;
        let text = std::fs::read_to_string(counts)
            .ok()
            .filter(|_| status.success())?;
        // The last line: time share, seconds, per call, calls, errors, "total".
        let total = text.lines().last()?;
        total
            .split_whitespace()
            .filter(|word| !word.contains('.'))
            .filter_map(|word| word.parse::<f64>().ok())
            .reduce(f64::max)
    };
    match (count("bare"), count("file")) {
        (Some(bare), Some(ours)) => {
            println!("figure syscalls bare={bare} file={ours}");
            report.at_most("syscalls_vs_bare", ours / bare, 3.0, "x");
        }
        _ => println!("figure syscalls not counted: no strace"),
    }
}

fn replay(server: &ServerProcess, report: &mut Report) {
    let (plain, checked) = replayed(&server.url, LEN);
    println!("figure replay_vs_plain_file {plain:.2}");
    report.at_least("replay_vs_read_and_checksum", checked, 0.95, "x");
}

/// What comes in small pieces is written in small pieces, and the page cache it lies in then is dearer to read.
fn slow(server: &ServerProcess) {
    for name in ["short", "slow"] {
        let url = server.url.replace("/a.bin", &format!("/{name}.bin"));
        let (plain, checked) = replayed(&url, SHORT);
        println!("figure replay_16_mib_{name} vs_plain_file={plain:.2} vs_read_and_checksum={checked:.2}");
    }
}

/// The speed of a file that is complete in the cache, as a share of a plain file's: one that is read, and one that is read
/// and checked by hand. The cache verifies what it gives out, so the second is the same work.
fn replayed(url: &str, len: u64) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    spawn("fill", url, folder.path());
    // The cache is open once in an application, so it is here; the file is opened each time.
    let cache = AssetCache::builder(folder.path().join("cache"))
        .max_bytes(4 << 30)
        .open_blocking()
        .unwrap();
    let params = FileParams::new(HttpClient::new().unwrap(), cache);
    let source = FileSource::new(Url::parse(url).unwrap(), params);
    let timed = |read: &dyn Fn() -> u64| {
        let start = Instant::now();
        assert_eq!(read(), len);
        start.elapsed().as_secs_f64()
    };
    let path = folder.path().join("plain");
    let expected = checksums(&path);
    let plain = || drain(&mut std::fs::File::open(&path).unwrap());
    let by_hand = || read_and_checksum(&path, &expected);
    let ours = || drain(&mut block_on(source.open_reader(OpenMode::Offline)).unwrap());
    for read in [&plain as &dyn Fn() -> u64, &by_hand, &ours] {
        read();
    }
    let rounds: Vec<(f64, f64)> = (0..ROUNDS * 3)
        .map(|_| {
            let ours = timed(&ours);
            (timed(&plain) / ours, timed(&by_hand) / ours)
        })
        .collect();
    let (to_plain, to_checked) = rounds.into_iter().unzip();
    (median(to_plain), median(to_checked))
}

/// The checksum of each block, as an app would keep them beside its file.
fn checksums(path: &Path) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks(BLOCK).map(crc32fast::hash).collect()
}

/// Reads block by block, and compares the checksum of each with the one that is expected.
fn read_and_checksum(path: &Path, expected: &[u32]) -> u64 {
    let mut file = std::fs::File::open(path).unwrap();
    let mut buffer = vec![0; BLOCK];
    let mut bytes = 0;
    for expected in expected {
        // The lengths are whole blocks.
        file.read_exact(&mut buffer).unwrap();
        assert_eq!(crc32fast::hash(&buffer), *expected);
        bytes += buffer.len() as u64;
    }
    bytes
}

fn first_byte(server: &ServerProcess, report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    let cache = AssetCache::builder(folder.path())
        .max_bytes(4 << 30)
        .open_blocking()
        .unwrap();
    let client = HttpClient::new().unwrap();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for round in 0..60 {
        let url = Url::parse(&format!("{}?{round}", server.url)).unwrap();
        let start = Instant::now();
        let response = block_on(client.send(Request::get(url.clone()))).unwrap();
        let chunk = block_on(response.into_body().next());
        bare.push(start.elapsed());
        assert!(chunk.is_some());
        // Each time a track that the cache has never heard of, as when one is first played.
        let params = FileParams::new(client.clone(), cache.clone())
            .asset(AssetId::from_key(&format!("track-{round}")).unwrap())
            .look_ahead(LookAhead::Bytes(64 * 1024));
        let source = FileSource::new(url, params);
        let start = Instant::now();
        let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
        reader.read_exact(&mut [0]).unwrap();
        ours.push(start.elapsed());
        // What is left to do after the last reader, a record on the disk, is nobody's first byte.
        drop(reader);
        std::thread::sleep(Duration::from_millis(20));
    }
    let (bare, ours) = (percentile(&mut bare, 50), percentile(&mut ours, 50));
    println!("figure first_byte bare={bare:.0}us file={ours:.0}us");
    report.at_most("first_byte_vs_bare", ours / bare, 1.3, "x");
}

/// A jump wakes two threads that the bare client does not have: the reader wakes the driver, and the driver the reader. Both
/// clients are woken by the thread that polls the reactor. And a jump requests more than the reader asked for, 64 KiB:
/// `bare_64_kib` tells what that many bytes cost the bare client.
fn seeks(server: &ServerProcess, report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    let cache = AssetCache::builder(folder.path())
        .max_bytes(4 << 30)
        .open_blocking()
        .unwrap();
    // Each has its own connections: of one pool, each would take the one that the other has left there.
    let client = HttpClient::new().unwrap();
    let url = Url::parse(&server.url).unwrap();
    let params = FileParams::new(HttpClient::new().unwrap(), cache).look_ahead(LookAhead::Bytes(16 * 1024));
    let mut reader = block_on(FileSource::new(url.clone(), params).open_reader(OpenMode::Online)).unwrap();
    let mut buffer = vec![0; 4096];
    let (mut bare, mut bare_long) = (Vec::new(), Vec::new());
    let (mut ours, mut again) = (Vec::new(), Vec::new());
    // Users seek seconds apart: what one of them leaves going is over when the next comes.
    let settle = || std::thread::sleep(Duration::from_millis(5));
    for round in 0..200_u64 {
        let at = (round * 104_729 + 7) % 500 * MIB + 512 * 1024;
        for (len, times) in [(4096, &mut bare), (64 * 1024, &mut bare_long)] {
            settle();
            let start = Instant::now();
            let request = Request::get(url.clone()).range(ByteRange::new(at, at + len));
            let response = block_on(client.send(request)).unwrap();
            let bytes = block_on(response.bytes(64 * 1024)).unwrap();
            times.push(start.elapsed());
            assert_eq!(bytes.len() as u64, len);
        }
        settle();
        let start = Instant::now();
        reader.seek(SeekFrom::Start(at)).unwrap();
        reader.read_exact(&mut buffer).unwrap();
        ours.push(start.elapsed());
        let start = Instant::now();
        reader.seek(SeekFrom::Start(at)).unwrap();
        reader.read_exact(&mut buffer).unwrap();
        again.push(start.elapsed());
    }
    let (bare, ours) = (percentile(&mut bare, 50), percentile(&mut ours, 50));
    let bare_long = percentile(&mut bare_long, 50);
    println!("figure seek_unfetched bare={bare:.0}us bare_64_kib={bare_long:.0}us file={ours:.0}us");
    report.at_most("seek_unfetched_vs_bare", ours / bare, 1.3, "x");
    report.at_most("seek_fetched", percentile(&mut again, 50), 5.0, "us");
}

/// From the drop of the consumer to the moment at which the server sees the connection close.
fn close(report: &mut Report) {
    let server = Server::empty().unwrap();
    let pattern = Pattern::new(3);
    let folder = tempfile::tempdir().unwrap();
    let cache = AssetCache::builder(folder.path())
        .max_bytes(1 << 30)
        .open_blocking()
        .unwrap();
    let client = HttpClient::new().unwrap();
    let states = ["running", "silent", "full", "stream"];
    let (mut ours, mut bare) = (states.map(|_| Vec::new()), states.map(|_| Vec::new()));
    for round in 0..100_u64 {
        for (which, state) in states.into_iter().enumerate() {
            for is_bare in [round % 2 == 0, round % 2 != 0] {
                let path = format!("/{state}{round}{is_bare}");
                server.serve(path.clone(), Content::pattern(&pattern, 64 * MIB));
                let gate = server.gate();
                if state != "running" {
                    server.rule(path.clone(), Rule::new().gate_after(MIB, &gate));
                }
                let reader: Box<dyn std::any::Any> = if is_bare {
                    Box::new(bare_reader(&server, &path, state == "silent"))
                } else {
                    let mut params = FileParams::new(client.clone(), cache.clone());
                    if state == "full" {
                        params = params.look_ahead(LookAhead::Bytes(64 * 1024));
                    }
                    let source = FileSource::new(Url::parse(&server.url(&path)).unwrap(), params);
                    if state == "stream" {
                        let mut stream = Stream::new(source, StreamParams::default());
                        block_on(stream.next()).unwrap().unwrap();
                        Box::new(stream)
                    } else {
                        let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
                        reader.read_exact(&mut [0]).unwrap();
                        Box::new(reader)
                    }
                };
                let connection = server.log().to(&path).last().unwrap().connection;
                if state != "running" {
                    gate.wait_arrived(1);
                }
                let start = Instant::now();
                drop(reader);
                server.wait_until(|log| log.connections[connection].closed_at.is_some());
                let seen = server.log().connections[connection].closed_at.unwrap();
                let times = if is_bare { &mut bare } else { &mut ours };
                times[which].push(seen.saturating_duration_since(start));
            }
        }
    }
    for (state, (ours, bare)) in states.iter().zip(ours.iter_mut().zip(&mut bare)) {
        let figure = |times: &mut Vec<Duration>| (percentile(times, 50), percentile(times, 99));
        let (ours, bare) = (figure(ours), figure(bare));
        println!(
            "figure close_{state} p50={:.0}us p99={:.0}us bare_p50={:.0}us bare_p99={:.0}us",
            ours.0, ours.1, bare.0, bare.1
        );
    }
    let (mut ours, mut bare) = (ours.concat(), bare.concat());
    println!(
        "figure close p50={:.0}us bare_p50={:.0}us",
        percentile(&mut ours, 50),
        percentile(&mut bare, 50)
    );
    let (ours, bare) = (percentile(&mut ours, 99), percentile(&mut bare, 99));
    let load = load();
    println!("figure close_p99 file={ours:.0}us bare={bare:.0}us load={load:.2}");
    // What else runs has its share in a time, and the same one in both. On a busy machine only the ratio says something.
    if load > 1.0 {
        report.at_most("close_p99_vs_bare", ours / bare, 1.3, "x");
    } else {
        report.at_most("close_p99", ours, 1000.0, "us");
    }
}

/// The machine's load over the last minute. 0 where the system does not tell.
fn load() -> f64 {
    let told = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = told.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(0.0)
}

/// A socket on which the answer comes: what the server's end of the measuring costs by itself.
fn bare_reader(server: &Server, path: &str, reads: bool) -> TcpStream {
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: bare\r\n\r\n").unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let mut left = if reads { MIB as usize } else { 1 };
    while left > 0 {
        left = left.saturating_sub(socket.read(&mut buffer).unwrap());
    }
    socket
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn percentile(times: &mut [Duration], part: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() * part / 100).min(times.len() - 1)].as_nanos() as f64 / 1000.0
}

#[derive(Default)]
struct Report {
    short: usize,
}

impl Report {
    fn at_most(&mut self, name: &str, figure: f64, limit: f64, unit: &str) {
        self.bar(name, figure, limit, unit, figure <= limit);
    }

    fn at_least(&mut self, name: &str, figure: f64, limit: f64, unit: &str) {
        self.bar(name, figure, limit, unit, figure >= limit);
    }

    fn bar(&mut self, name: &str, figure: f64, limit: f64, unit: &str, ok: bool) {
        self.short += usize::from(!ok);
        let verdict = if ok { "ok" } else { "short" };
        println!("bar {name} figure={figure:.2}{unit} limit={limit}{unit} {verdict}");
    }
}

//! What the HTTP client costs, against a bare socket in the same run.
//!
//! `cargo bench --features net --bench net` prints one line per bar: `bar NAME figure=… limit=… ok|short`. The server is
//! nginx with Debian's settings (`sendfile`, `tcp_nopush`) if it is installed, and the test server otherwise. Rounds
//! alternate between the client and a blocking socket that reads into one buffer and throws the bytes away, so both see
//! the same machine; figures are medians, CPU time is that of this process. Sections can be chosen:
//! `cargo bench --features net --bench net -- body files ranges first close`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints, and may panic"
)]

mod server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use futures_lite::{StreamExt, future};
use kithara::net::{ByteRange, HttpClient, Request, Url};
use kithara_test_support::{Content, Pattern, Rule, Server};

use server::{FILE, SMALL, Web};

const ROUNDS: usize = 9;
const GIB: f64 = (1_u64 << 30) as f64;

fn main() {
    // All of it in one call, as a player has it: between calls the reactor moves to a thread of its own, and each wake-up
    // would cross threads.
    async_io::block_on(run());
}

async fn run() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    let web = Web::start();
    println!("server {}", web.name());
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if chosen("body") {
        body(&web).await;
    }
    if chosen("files") {
        files(&web).await;
    }
    if chosen("ranges") {
        ranges(&web).await;
    }
    if chosen("first") {
        first(&web).await;
    }
    if chosen("close") {
        close().await;
    }
}

/// 1 GiB in one body.
async fn body(web: &Web) {
    let client = HttpClient::new().unwrap();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(Cost::of(async { assert_eq!(fetch(&client, &web.url("/large")).await, 1 << 30) }).await);
        bare.push(Cost::of(async { assert_eq!(Bare::connect(web.addr).get("/large", None), 1 << 30) }).await);
    }
    let (ours, bare) = (Cost::median(ours), Cost::median(bare));
    println!(
        "     bare socket {:.2} GB/s {:.3} CPU s/GiB",
        bare.rate(GIB),
        bare.cpu.as_secs_f64()
    );
    println!(
        "     client      {:.2} GB/s {:.3} CPU s/GiB",
        ours.rate(GIB),
        ours.cpu.as_secs_f64()
    );
    at_least("net.body.rate_to_bare", ours.rate(GIB) / bare.rate(GIB), 0.85);
    at_most(
        "net.body.cpu_to_bare",
        ours.cpu.as_secs_f64() / bare.cpu.as_secs_f64(),
        1.4,
    );
}

/// 300 files of 200 KiB, one after the other on one connection.
async fn files(web: &Web) {
    const COUNT: usize = 300;
    let client = HttpClient::new().unwrap();
    let url = web.url("/small");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let all = async {
            for _ in 0..COUNT {
                assert_eq!(fetch(&client, &url).await, FILE);
            }
        };
        ours.push(Cost::of(all).await);
        let all = async {
            let mut socket = Bare::connect(web.addr);
            for _ in 0..COUNT {
                assert_eq!(socket.get("/small", None), FILE);
            }
        };
        bare.push(Cost::of(all).await);
    }
    let (ours, bare) = (Cost::median(ours), Cost::median(bare));
    let count = COUNT as f64 * 1e9;
    println!(
        "     bare socket {:.0} requests/s, client {:.0} requests/s",
        bare.rate(count),
        ours.rate(count)
    );
    at_least("net.files.rate_to_bare", ours.rate(count) / bare.rate(count), 0.6);
}

/// 64 KiB ranges, one after the other on one connection.
async fn ranges(web: &Web) {
    let client = HttpClient::new().unwrap();
    let url = web.url("/large");
    let mut socket = Bare::connect(web.addr);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for i in 0..2000_u64 {
        let start = i * 400_000;
        let (end, started) = (start + SMALL, Instant::now());
        assert_eq!(socket.get("/large", Some((start, end))), SMALL);
        bare.push(started.elapsed());
        let started = Instant::now();
        let request = Request::get(url.clone()).range(ByteRange::new(start, end));
        assert_eq!(read(&client, request).await, SMALL);
        ours.push(started.elapsed());
    }
    show("ranges", &mut ours, &mut bare);
    at_most("net.ranges.p50_to_bare", ratio(&mut ours, &mut bare), 1.6);
    at_most("net.ranges.p99_ms", millis(percentile(&mut ours, 99)), 10.0);
}

/// From nothing to the first byte, on a connection of its own.
async fn first(web: &Web) {
    let url = web.url("/small");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let started = Instant::now();
        let mut socket = Bare::connect(web.addr);
        socket.send("/small", None);
        assert!(socket.stream.read(&mut socket.buffer).unwrap() > 0);
        bare.push(started.elapsed());
        drop(socket);
        let client = HttpClient::new().unwrap();
        let started = Instant::now();
        let mut body = client.send(Request::get(url.clone())).await.unwrap().into_body();
        body.next().await.unwrap().unwrap();
        ours.push(started.elapsed());
    }
    show("first byte", &mut ours, &mut bare);
    at_most("net.first.p50_to_bare", ratio(&mut ours, &mut bare), 1.6);
}

/// From the drop to the server's seeing it: a body in full flow, one that stalls, and a request without an answer.
async fn close() {
    let server = Server::empty().unwrap();
    server.serve("/flow", Content::pattern(&Pattern::new(1), 1 << 40));
    server.serve("/stall", Content::pattern(&Pattern::new(1), 1 << 20));
    server.serve("/silent", Content::pattern(&Pattern::new(1), 1));
    server.rule("/stall", Rule::new().stall_after(1000));
    server.rule("/silent", Rule::new().never_answer());
    for path in ["/flow", "/stall", "/silent"] {
        let url = Url::parse(&server.url(path)).unwrap();
        let mut times = Vec::new();
        for _ in 0..200 {
            times.push(close_once(&server, &url).await);
        }
        println!(
            "     drop to close, {path}: p50 {:.3} ms",
            millis(percentile(&mut times, 50))
        );
        let name = format!("net.close{}.p99_ms", path.replace('/', "."));
        at_most(&name, millis(percentile(&mut times, 99)), 1.0);
    }
}

async fn close_once(server: &Server, url: &Url) -> Duration {
    let client = HttpClient::new().unwrap();
    let number = server.connections();
    let mut sent = Box::pin(client.send(Request::get(url.clone())));
    let dropped = if url.path() == "/silent" {
        let asked = || {
            server
                .log()
                .connections
                .get(number)
                .is_some_and(|connection| connection.requests == 1)
        };
        while !asked() {
            assert!(future::poll_once(&mut sent).await.is_none());
            future::yield_now().await;
        }
        let dropped = Instant::now();
        drop(sent);
        dropped
    } else {
        let mut body = sent.await.unwrap().into_body();
        body.next().await.unwrap().unwrap();
        let dropped = Instant::now();
        drop(body);
        dropped
    };
    server.wait_until(|log| log.connections[number].closed_at.is_some());
    let closed = server.log().connections[number].closed_at;
    closed.unwrap().saturating_duration_since(dropped)
}

async fn read(client: &HttpClient, request: Request) -> u64 {
    let mut body = client.send(request).await.unwrap().into_body();
    let mut length = 0;
    while let Some(chunk) = body.next().await {
        length += chunk.unwrap().len() as u64;
    }
    length
}

async fn fetch(client: &HttpClient, url: &Url) -> u64 {
    read(client, Request::get(url.clone())).await
}

/// A blocking socket that knows as much HTTP as it must.
struct Bare {
    stream: TcpStream,
    addr: SocketAddr,
    buffer: Vec<u8>,
}

impl Bare {
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            addr,
            buffer: vec![0; 128 << 10],
        }
    }

    fn send(&mut self, path: &str, range: Option<(u64, u64)>) {
        let range = range.map_or(String::new(), |(start, end)| {
            format!("Range: bytes={start}-{}\r\n", end - 1)
        });
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{range}\r\n", self.addr);
        self.stream.write_all(head.as_bytes()).unwrap();
    }

    /// Sends a request and reads the body, whose length it returns.
    fn get(&mut self, path: &str, range: Option<(u64, u64)>) -> u64 {
        self.send(path, range);
        let mut filled = 0;
        let head = loop {
            #[cfg(target_os = "linux")]
            socket2::SockRef::from(&self.stream)
                .set_tcp_quickack(true)
                .unwrap();
            filled += self.stream.read(&mut self.buffer[filled..]).unwrap();
            if let Some(at) = self.buffer[..filled]
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break at + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])
            .unwrap()
            .to_ascii_lowercase();
        let length = text
            .split("content-length: ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let length: u64 = length.parse().unwrap();
        let mut read = (filled - head) as u64;
        while read < length {
            read += self.stream.read(&mut self.buffer).unwrap() as u64;
        }
        read
    }
}

#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    cpu: Duration,
}

impl Cost {
    async fn of(work: impl Future<Output = ()>) -> Self {
        let (started, cpu) = (Instant::now(), cpu_time());
        work.await;
        Self {
            time: started.elapsed(),
            cpu: cpu_time().saturating_sub(cpu),
        }
    }

    fn median(mut costs: Vec<Self>) -> Self {
        let middle = costs.len() / 2;
        costs.sort_by_key(|cost| cost.time);
        let time = costs[middle].time;
        costs.sort_by_key(|cost| cost.cpu);
        Self {
            time,
            cpu: costs[middle].cpu,
        }
    }

    /// `amount` in billions a second.
    fn rate(&self, amount: f64) -> f64 {
        amount / 1e9 / self.time.as_secs_f64()
    }
}

/// User and system time of all threads of this process, in steps of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

fn ratio(ours: &mut [Duration], bare: &mut [Duration]) -> f64 {
    percentile(ours, 50).as_secs_f64() / percentile(bare, 50).as_secs_f64()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn show(what: &str, ours: &mut [Duration], bare: &mut [Duration]) {
    for (who, times) in [("bare socket", bare), ("client     ", ours)] {
        let (half, most) = (percentile(times, 50), percentile(times, 99));
        println!(
            "     {what}, {who} p50 {:.1} µs p99 {:.1} µs",
            millis(half) * 1e3,
            millis(most) * 1e3
        );
    }
}

fn at_least(name: &str, figure: f64, limit: f64) {
    println!(
        "bar {name} figure={figure:.2} limit={limit} {}",
        if figure >= limit { "ok" } else { "short" }
    );
}

fn at_most(name: &str, figure: f64, limit: f64) {
    println!(
        "bar {name} figure={figure:.2} limit={limit} {}",
        if figure <= limit { "ok" } else { "short" }
    );
}

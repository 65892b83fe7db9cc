//! kithara's client beside reqwest: `cargo run --release --manifest-path benches/peers/Cargo.toml --bin net`.
//!
//! Each runs on the executor it is made for, in one thread, against the server of `benches/net`. Rounds alternate; figures
//! are medians, CPU time is that of this process.

#[path = "../../../net/server.rs"]
mod server;

use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use kithara::net::{HttpClient, Request};

use server::{FILE, SMALL, Web};

const ROUNDS: usize = 9;
const FILES: usize = 300;

fn main() {
    let web = Web::start();
    println!("server {}, files of {FILE} bytes, ranges of {SMALL}", web.name());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(smol::block_on(kithara(&web)));
        theirs.push(runtime.block_on(reqwest(&web)));
    }
    show("kithara", ours);
    show("reqwest", theirs);
}

/// What one round took.
struct Round {
    /// 1 GiB in one body.
    body: (Duration, Duration),
    /// Files one after the other on one connection.
    files: (Duration, Duration),
}

async fn kithara(web: &Web) -> Round {
    let client = HttpClient::new().expect("a client");
    let fetch = async |path: &str| {
        let mut body = client
            .send(Request::get(web.url(path)))
            .await
            .expect("a response")
            .into_body();
        let mut length = 0;
        while let Some(chunk) = body.next().await {
            length += chunk.expect("bytes").len() as u64;
        }
        length
    };
    round(fetch).await
}

async fn reqwest(web: &Web) -> Round {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let fetch = async |path: &str| {
        let response = client
            .get(web.url(path).as_str())
            .send()
            .await
            .expect("a response");
        let mut body = response.bytes_stream();
        let mut length = 0;
        while let Some(chunk) = body.next().await {
            length += chunk.expect("bytes").len() as u64;
        }
        length
    };
    round(fetch).await
}

async fn round(fetch: impl AsyncFn(&str) -> u64) -> Round {
    let started = (Instant::now(), cpu_time());
    assert_eq!(fetch("/large").await, 1 << 30);
    let body = since(started);
    let started = (Instant::now(), cpu_time());
    for _ in 0..FILES {
        assert_eq!(fetch("/small").await, FILE);
    }
    Round {
        body,
        files: since(started),
    }
}

fn since((time, cpu): (Instant, Duration)) -> (Duration, Duration) {
    (time.elapsed(), cpu_time().saturating_sub(cpu))
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

fn show(name: &str, rounds: Vec<Round>) {
    let median = |of: fn(&Round) -> Duration| {
        let mut values: Vec<_> = rounds.iter().map(of).collect();
        values.sort_unstable();
        values[values.len() / 2].as_secs_f64()
    };
    println!(
        "{name} body {:.2} GB/s {:.2} CPU s/GiB, files {:.0} requests/s {:.2} CPU s",
        1.073_741_824 / median(|round| round.body.0),
        median(|round| round.body.1),
        FILES as f64 / median(|round| round.files.0),
        median(|round| round.files.1),
    );
}

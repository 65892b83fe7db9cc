//! One GiB over loopback HTTP: a body by itself, and the same body through a stream.

#[allow(dead_code, reason = "the bench of `net` uses the rest")]
#[path = "../net/server.rs"]
mod server;

use std::fs;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_lite::{StreamExt, future};
use kithara::net::{Body, HttpClient, NetError, Request, Url};
use kithara::stream::{Message, Source, SourceStream, Stream, StreamError, StreamParams};

use crate::{Report, median, paired};
use server::{FILE, Web};

const ROUNDS: usize = 21;
const FIRSTS: usize = 500;
const LARGE: u64 = 1 << 30;

/// A body as a source.
struct Http {
    client: HttpClient,
    url: Url,
}

enum Opened {
    Asking(Pin<Box<dyn Future<Output = Result<Body, NetError>> + Send>>),
    Reading(Body),
}

impl futures_core::Stream for Opened {
    type Item = Result<Message<()>, StreamError<NetError>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut *self {
                Self::Asking(response) => match ready!(response.as_mut().poll(cx)) {
                    Ok(body) => *self = Self::Reading(body),
                    Err(error) => return Poll::Ready(Some(Err(StreamError::source(error)))),
                },
                Self::Reading(body) => {
                    let chunk = ready!(Pin::new(body).poll_next(cx));
                    return Poll::Ready(
                        chunk.map(|chunk| chunk.map(Message::Data).map_err(StreamError::source)),
                    );
                }
            }
        }
    }
}

impl Source for Http {
    type Error = NetError;
    type Control = ();

    fn open(&mut self, _: &StreamParams) -> Result<SourceStream<(), NetError>, StreamError<NetError>> {
        let (client, url) = (self.client.clone(), self.url.clone());
        let body = async move { Ok(client.send(Request::get(url)).await?.into_body()) };
        Ok(Box::pin(Opened::Asking(Box::pin(body))))
    }
}

/// The ways that are compared, the bare body first.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Bare,
    Inline,
    /// The driver as a task on the consumer's thread.
    Task,
    Spawned,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Bare, "bare"),
    (Way::Inline, "inline"),
    (Way::Task, "task"),
    (Way::Spawned, "spawned"),
];

/// Reads all of `url`, and says when its first bytes came.
async fn read(
    way: Way,
    client: &HttpClient,
    url: &Url,
    executor: &async_executor::LocalExecutor<'_>,
) -> (u64, Duration) {
    async fn drain<E: std::fmt::Debug>(
        chunks: impl futures_core::Stream<Item = Result<bytes::Bytes, E>>,
        started: Instant,
    ) -> (u64, Duration) {
        let mut chunks = std::pin::pin!(chunks);
        let (mut bytes, mut first) = (0, None);
        while let Some(chunk) = chunks.next().await {
            first.get_or_insert_with(|| started.elapsed());
            bytes += black_box(chunk.unwrap()).len() as u64;
        }
        (bytes, first.unwrap_or_default())
    }
    let started = Instant::now();
    let source = Http {
        client: client.clone(),
        url: url.clone(),
    };
    let params = StreamParams::default();
    match way {
        Way::Bare => {
            let response = client.send(Request::get(url.clone())).await.unwrap();
            drain(response.into_body(), started).await
        }
        Way::Inline => drain(Stream::inline(source, params), started).await,
        Way::Task => {
            let (stream, driver) = Stream::with_driver(source, params);
            executor.spawn(driver).detach();
            drain(stream, started).await
        }
        Way::Spawned => drain(Stream::new(source, params), started).await,
    }
}

/// Time on a processor of all threads that are alive.
fn cpu_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

pub(crate) fn http(report: &mut Report) {
    let web = Web::start();
    println!("http server: {}", web.name());
    let client = HttpClient::new().unwrap();
    let (large, small) = (web.url("/large"), web.url("/small"));
    let executor = async_executor::LocalExecutor::new();
    let (mut seconds, mut cpu, mut firsts) = (
        [const { Vec::new() }; 4],
        [const { Vec::new() }; 4],
        [const { Vec::new() }; 4],
    );
    // In one call: between calls the reactor moves to a thread of its own, and each wake-up would cross threads.
    async_io::block_on(executor.run(async {
        for round in 0..ROUNDS {
            for turn in 0..WAYS.len() {
                // Nobody is always first.
                let at = (round + turn) % WAYS.len();
                let way = WAYS[at].0;
                let (started, before) = (Instant::now(), cpu_time());
                assert_eq!(read(way, &client, &large, &executor).await.0, LARGE);
                seconds[at].push(started.elapsed().as_secs_f64());
                cpu[at].push(cpu_time().saturating_sub(before).as_secs_f64());
                future::yield_now().await;
            }
        }
        for _ in 0..FIRSTS {
            for (at, (way, _)) in WAYS.into_iter().enumerate() {
                let (bytes, first) = read(way, &client, &small, &executor).await;
                assert_eq!(bytes, FILE);
                firsts[at].push(first.as_secs_f64() * 1e6);
            }
        }
    }));
    for (at, (_, name)) in WAYS.into_iter().enumerate() {
        println!(
            "http {name}: {:.2} GB/s, {:.3} CPU s/GiB, first byte {:.0} us",
            LARGE as f64 / 1e9 / median(seconds[at].clone()),
            median(cpu[at].clone()),
            median(firsts[at].clone())
        );
    }
    for (at, (way, name)) in WAYS.into_iter().enumerate().skip(1) {
        let ratio = |ours: f64, bare: f64| ours / bare;
        // Stated as time, so that less is better as everywhere here: 1 / 0.95.
        report.bar(
            &format!("http_time_{name}"),
            paired(&seconds[at], &seconds[0], ratio),
            1.053,
            "x",
        );
        // Across threads each wake-up costs what it costs; the figures above tell how much.
        if way != Way::Spawned {
            report.bar(
                &format!("http_cpu_{name}"),
                paired(&cpu[at], &cpu[0], ratio),
                1.1,
                "x",
            );
            report.bar(
                &format!("http_first_byte_{name}"),
                paired(&firsts[at], &firsts[0], |ours, bare| ours - bare),
                30.0,
                "us",
            );
        }
    }
}

//! What a stream costs, against limits measured in the same run.
//!
//! `cargo bench --bench stream` prints one line per bar: `bar NAME figure=… limit=… ok|short`. Figures are medians of
//! rounds that alternate between a stream and what it is compared with, so that both see the same machine. Sections can be
//! chosen: `cargo bench --bench stream -- throughput allocations seeks stops memory`, and with
//! `--features net` also `http`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints, and may panic"
)]

#[cfg(feature = "net")]
#[path = "stream/http.rs"]
mod http;

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use bytes::Bytes;
use futures_lite::{StreamExt, future};
use kithara::stream::{Message, Source, SourceStream, Stream, StreamError, StreamParams};

/// Yields `chunk` for `count` times, from memory. Cloning `Bytes` is a reference count, so what is measured is the way.
struct Memory {
    chunk: Bytes,
    count: usize,
    /// Reports when the source was dropped.
    dropped: Option<async_channel::Sender<Instant>>,
}

impl Memory {
    fn new(size: usize, count: usize) -> Self {
        Self {
            chunk: vec![7; size].into(),
            count,
            dropped: None,
        }
    }
}

struct Repeat {
    chunk: Bytes,
    left: usize,
}

impl futures_core::Stream for Repeat {
    type Item = Result<Message<()>, StreamError<Infallible>>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Message::Data(self.chunk.clone()))))
    }
}

impl Source for Memory {
    type Error = Infallible;
    type Control = ();

    fn open(&mut self, _: &StreamParams) -> Result<SourceStream<(), Infallible>, StreamError<Infallible>> {
        Ok(Box::pin(Repeat {
            chunk: self.chunk.clone(),
            left: self.count,
        }))
    }

    fn seek_bytes(&mut self, position: u64) -> Result<(), StreamError<Infallible>> {
        // The chunk tells which seek it answers.
        self.chunk = vec![u8::try_from(position % 251).unwrap(); self.chunk.len()].into();
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            let _ = dropped.try_send(Instant::now());
        }
    }
}

/// A source that never yields.
struct Idle(Option<async_channel::Sender<Instant>>);

impl Source for Idle {
    type Error = Infallible;
    type Control = ();

    fn open(&mut self, _: &StreamParams) -> Result<SourceStream<(), Infallible>, StreamError<Infallible>> {
        Ok(Box::pin(futures_lite::stream::pending()))
    }

    fn seek_bytes(&mut self, _: u64) -> Result<(), StreamError<Infallible>> {
        Ok(())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        if let Some(dropped) = &self.0 {
            let _ = dropped.try_send(Instant::now());
        }
    }
}

/// An executor on `n` threads.
struct Pool {
    executor: Arc<async_executor::Executor<'static>>,
    stop: Option<async_channel::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    fn new(threads: usize) -> Self {
        let executor = Arc::new(async_executor::Executor::new());
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let threads = (0..threads)
            .map(|_| {
                let (executor, stopped) = (Arc::clone(&executor), stopped.clone());
                thread::spawn(move || {
                    let _ = future::block_on(executor.run(stopped.recv()));
                })
            })
            .collect();
        Self {
            executor,
            stop: Some(stop),
            threads,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop.take();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What `join` says of each round's two figures, which were taken one after the other: the median of that.
fn paired(ours: &[f64], bare: &[f64], join: impl Fn(f64, f64) -> f64) -> f64 {
    median(
        ours.iter()
            .zip(bare)
            .map(|(&ours, &bare)| join(ours, bare))
            .collect(),
    )
}

fn percentile(figures: &mut [Duration], part: usize) -> Duration {
    figures.sort_unstable();
    figures[(figures.len() * part / 100).min(figures.len() - 1)]
}

struct Report {
    short: usize,
}

impl Report {
    fn bar(&mut self, name: &str, figure: f64, limit: f64, unit: &str) {
        let verdict = if figure <= limit { "ok" } else { "short" };
        self.short += usize::from(figure > limit);
        println!("bar {name} figure={figure:.3}{unit} limit={limit}{unit} {verdict}");
    }
}

const ROUNDS: usize = 15;

/// Nanoseconds per chunk through a bare `bounded(16)` between two tasks.
fn bare(pool: &Pool, size: usize, count: usize) -> f64 {
    let chunk = Bytes::from(vec![7; size]);
    let started = Instant::now();
    let (sender, receiver) = async_channel::bounded(16);
    pool.executor
        .spawn(async move {
            for _ in 0..count {
                sender.send(chunk.clone()).await.unwrap();
            }
        })
        .detach();
    let consumer = pool.executor.spawn(async move {
        let mut bytes = 0;
        while let Ok(chunk) = receiver.recv().await {
            bytes += black_box(chunk).len();
        }
        bytes
    });
    assert_eq!(future::block_on(consumer), size * count);
    started.elapsed().as_nanos() as f64 / count as f64
}

/// The same through a stream whose driver runs on the same executor.
fn ours(pool: &Pool, size: usize, count: usize) -> f64 {
    let source = Memory::new(size, count);
    let started = Instant::now();
    let (mut stream, driver) = Stream::with_driver(source, StreamParams::default());
    pool.executor.spawn(driver).detach();
    let consumer = pool.executor.spawn(async move {
        let mut bytes = 0;
        while let Some(chunk) = stream.next().await {
            bytes += black_box(chunk.unwrap()).len();
        }
        bytes
    });
    assert_eq!(future::block_on(consumer), size * count);
    started.elapsed().as_nanos() as f64 / count as f64
}

/// The boxed source polled directly: what there is to beat.
fn direct(size: usize, count: usize) -> f64 {
    let mut source = Memory::new(size, count);
    let started = Instant::now();
    let mut opened = source.open(&StreamParams::default()).unwrap();
    let bytes = future::block_on(async {
        let mut bytes = 0;
        while let Some(Ok(Message::Data(chunk))) = opened.next().await {
            bytes += black_box(chunk).len();
        }
        bytes
    });
    assert_eq!(bytes, size * count);
    started.elapsed().as_nanos() as f64 / count as f64
}

fn inline(size: usize, count: usize) -> f64 {
    let source = Memory::new(size, count);
    let started = Instant::now();
    let mut stream = Stream::inline(source, StreamParams::default());
    let bytes = future::block_on(async {
        let mut bytes = 0;
        while let Some(chunk) = stream.next().await {
            bytes += black_box(chunk.unwrap()).len();
        }
        bytes
    });
    assert_eq!(bytes, size * count);
    started.elapsed().as_nanos() as f64 / count as f64
}

fn throughput(report: &mut Report) {
    for threads in [1, 4] {
        let pool = Pool::new(threads);
        for (size, limit) in [(64 * 1024, 1.3), (1024, 1.5)] {
            let count = 100_000;
            let (mut bare_figures, mut our_figures) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                bare_figures.push(bare(&pool, size, count));
                our_figures.push(ours(&pool, size, count));
            }
            let ratio = paired(&our_figures, &bare_figures, |ours, bare| ours / bare);
            let (bare, ours) = (median(bare_figures), median(our_figures));
            let direct = median((0..ROUNDS).map(|_| direct(size, count)).collect());
            println!(
                "chunk of {} KiB, {threads} thread(s): stream {ours:.0} ns, channel {bare:.0} ns, direct {direct:.0} ns",
                size / 1024
            );
            report.bar(&format!("chunk_{}k_{threads}t", size / 1024), ratio, limit, "x");
        }
    }
    let (mut direct_figures, mut inline_figures) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        direct_figures.push(direct(64 * 1024, 200_000));
        inline_figures.push(inline(64 * 1024, 200_000));
    }
    let above = paired(&inline_figures, &direct_figures, |inline, direct| inline - direct);
    report.bar("inline_above_direct", above, 150.0, "ns");
}

/// Driver and consumer take turns on this thread, which is where allocations are counted.
fn allocations(report: &mut Report) {
    let count = |chunks: usize| {
        let (mut stream, driver) = Stream::with_driver(Memory::new(1024, chunks), StreamParams::default());
        let info = measure(|| {
            future::block_on(future::zip(
                async { while stream.next().await.is_some() {} },
                driver,
            ));
        });
        info.count_total
    };
    count(1000);
    let steady = (count(20_000) - count(10_000)) as f64 / 10_000.0;
    report.bar("allocations_per_chunk", steady, 0.0, "");

    let inlined = |chunks: usize| {
        let mut stream = Stream::inline(Memory::new(1024, chunks), StreamParams::default());
        measure(|| future::block_on(async { while stream.next().await.is_some() {} })).count_total
    };
    report.bar(
        "allocations_per_chunk_inline",
        (inlined(20_000) - inlined(10_000)) as f64 / 10_000.0,
        0.0,
        "",
    );

    let channel = |chunks: usize| {
        let chunk = Bytes::from(vec![7; 1024]);
        let (sender, receiver) = async_channel::bounded(16);
        let send = async move {
            for _ in 0..chunks {
                sender.send(chunk.clone()).await.unwrap();
            }
        };
        let info = measure(|| {
            future::block_on(future::zip(send, async {
                while receiver.recv().await.is_ok() {}
            }));
        });
        info.count_total
    };
    channel(1000);
    println!(
        "a bare channel allocates {:.3} per chunk",
        (channel(20_000) - channel(10_000)) as f64 / 10_000.0
    );
}

/// From asking to holding the first byte from there, with the queue full.
fn seeks(report: &mut Report) {
    let mut measure = |name: &str, spawn: &dyn Fn(Memory) -> Stream<Memory>, p50: f64, p99: f64| {
        future::block_on(async {
            let mut stream = spawn(Memory::new(64 * 1024, usize::MAX));
            let handle = stream.handle();
            let mut figures = Vec::new();
            for target in 1..=5000_u64 {
                while future::poll_once(stream.next()).await.is_none() {
                    thread::yield_now();
                }
                // Until the driver has filled the queue and rests.
                thread::sleep(Duration::from_micros(200));
                let started = Instant::now();
                handle.seek_bytes(target).await.unwrap();
                let chunk = stream.next().await.unwrap().unwrap();
                figures.push(started.elapsed());
                assert_eq!(u64::from(chunk[0]), target % 251);
            }
            let (half, most) = (percentile(&mut figures, 50), percentile(&mut figures, 99));
            report.bar(
                &format!("seek_{name}_p50"),
                half.as_nanos() as f64 / 1e3,
                p50,
                "us",
            );
            report.bar(
                &format!("seek_{name}_p99"),
                most.as_nanos() as f64 / 1e3,
                p99,
                "us",
            );
        });
    };
    measure(
        "spawned",
        &|source| Stream::new(source, StreamParams::default()),
        50.0,
        1000.0,
    );
    measure(
        "inline",
        &|source| Stream::inline(source, StreamParams::default()),
        50.0,
        1000.0,
    );

    // Consumer and driver as two tasks of one executor thread.
    let pool = Pool::new(1);
    let executor = Arc::clone(&pool.executor);
    let mut figures = future::block_on(pool.executor.spawn(async move {
        let (mut stream, driver) =
            Stream::with_driver(Memory::new(64 * 1024, usize::MAX), StreamParams::default());
        executor.spawn(driver).detach();
        let handle = stream.handle();
        let mut figures = Vec::new();
        for target in 1..=5000_u64 {
            stream.next().await.unwrap().unwrap();
            future::yield_now().await;
            let started = Instant::now();
            handle.seek_bytes(target).await.unwrap();
            let chunk = stream.next().await.unwrap().unwrap();
            figures.push(started.elapsed());
            assert_eq!(u64::from(chunk[0]), target % 251);
        }
        figures
    }));
    report.bar(
        "seek_one_thread_p50",
        percentile(&mut figures, 50).as_nanos() as f64 / 1e3,
        50.0,
        "us",
    );
    report.bar(
        "seek_one_thread_p99",
        percentile(&mut figures, 99).as_nanos() as f64 / 1e3,
        1000.0,
        "us",
    );
}

/// From dropping the consumer to the source's own drop, spawned.
fn stops(report: &mut Report) {
    const TIMES: usize = 1000;
    type State = (
        &'static str,
        fn(async_channel::Sender<Instant>) -> Box<dyn FnOnce()>,
    );
    fn memory(count: usize, dropped: async_channel::Sender<Instant>) -> Stream<Memory> {
        let mut source = Memory::new(1024, count);
        source.dropped = Some(dropped);
        Stream::new(source, StreamParams::default())
    }
    let states: [State; 5] = [
        ("idle", |dropped| {
            let stream = Stream::new(Idle(Some(dropped)), StreamParams::default());
            Box::new(move || drop(stream))
        }),
        ("full", |dropped| {
            let stream = memory(usize::MAX, dropped);
            Box::new(move || drop(stream))
        }),
        ("ended_unread", |dropped| {
            let stream = memory(3, dropped);
            Box::new(move || drop(stream))
        }),
        ("handles_alive", |dropped| {
            let stream = Stream::new(Idle(Some(dropped)), StreamParams::default());
            let handle = stream.handle();
            Box::new(move || {
                drop(stream);
                std::mem::forget(handle);
            })
        }),
        ("seek_in_flight", |dropped| {
            let stream = memory(usize::MAX, dropped);
            let handle = stream.handle();
            Box::new(move || {
                let mut seek = pin!(handle.seek_bytes(5));
                let _ = future::block_on(future::poll_once(&mut seek));
                drop(stream);
            })
        }),
    ];
    for (state, make) in states {
        let mut figures = Vec::new();
        for _ in 0..TIMES {
            let (sender, receiver) = async_channel::bounded(1);
            let stop = make(sender);
            thread::sleep(Duration::from_micros(100));
            let started = Instant::now();
            stop();
            let dropped = receiver.recv_blocking().unwrap();
            figures.push(dropped.saturating_duration_since(started));
        }
        println!(
            "stop {state}: p50 {:?}, worst {:?}",
            percentile(&mut figures, 50),
            percentile(&mut figures, 100)
        );
        report.bar(
            &format!("stop_{state}_p99"),
            percentile(&mut figures, 99).as_nanos() as f64 / 1e3,
            1000.0,
            "us",
        );
    }
}

/// Fresh memory for every chunk, as a socket would.
struct Fresh(u64);

impl Source for Fresh {
    type Error = Infallible;
    type Control = ();

    fn open(&mut self, _: &StreamParams) -> Result<SourceStream<(), Infallible>, StreamError<Infallible>> {
        let chunks = (0..self.0).map(|n| Ok(Message::Data(vec![n.to_le_bytes()[0]; 64 * 1024].into())));
        Ok(Box::pin(futures_lite::stream::iter(chunks)))
    }
}

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn memory(report: &mut Report) {
    const STREAMS: u64 = 1000;
    let read = |gib: u64, peak: &Mutex<u64>| {
        future::block_on(async {
            let mut stream = Stream::new(Fresh(gib * 16 * 1024), StreamParams::default());
            let mut chunks = 0_u64;
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.unwrap();
                // Slower than the source.
                black_box(chunk.iter().map(|&byte| u64::from(byte)).sum::<u64>());
                black_box(chunk.iter().fold(0_u8, |all, &byte| all.wrapping_mul(31) ^ byte));
                chunks += 1;
                if chunks.is_multiple_of(512) {
                    let mut peak = peak.lock().unwrap();
                    *peak = (*peak).max(status("VmRSS:").unwrap_or(0));
                }
            }
            assert_eq!(chunks, gib * 16 * 1024);
        });
    };
    // Threads and arenas first.
    read(1, &Mutex::new(0));
    let before = status("VmRSS:").unwrap_or(0);
    let peak = Mutex::new(0);
    read(10, &peak);
    let growth = peak.into_inner().unwrap().saturating_sub(before);
    report.bar("resident_growth_10gib", growth as f64, 1024.0 + 1024.0, "KiB");

    let threads = status("Threads:").unwrap_or(0);
    let executor = async_executor::LocalExecutor::new();
    let mut streams = Vec::with_capacity(1000);
    let info = measure(|| {
        for _ in 0..STREAMS {
            let (stream, driver) = Stream::with_driver(Idle(None), StreamParams::default());
            executor.spawn(driver).detach();
            streams.push(stream);
        }
        while executor.try_tick() {}
        for stream in &mut streams {
            assert!(future::block_on(future::poll_once(stream.next())).is_none());
        }
    });
    report.bar(
        "idle_stream_bytes",
        info.bytes_current as f64 / STREAMS as f64,
        4096.0,
        "B",
    );
    let started = status("Threads:").unwrap_or(0).saturating_sub(threads);
    report.bar("idle_streams_threads", started as f64, 0.0, "");
    drop(streams);
    while executor.try_tick() {}
}

fn main() {
    type Section = (&'static str, fn(&mut Report));
    const SECTIONS: &[Section] = &[
        ("throughput", throughput),
        ("allocations", allocations),
        ("seeks", seeks),
        ("stops", stops),
        ("memory", memory),
        #[cfg(feature = "net")]
        ("http", http::http),
    ];
    // Cargo adds flags of its own.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut report = Report { short: 0 };
    for &(name, section) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted.as_str() == name) {
            section(&mut report);
        }
    }
    println!("{} bar(s) short", report.short);
}

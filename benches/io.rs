//! What a reader and a streaming resource cost, against plain files in the same run.
//!
//! `cargo bench --features io --bench io` prints one line per bar, `bar NAME figure=… limit=… ok|short`, and figures
//! without a bar as `figure NAME …`. Comparisons are medians over rounds of one right after the other, so that
//! both see the same machine. Sections can be chosen: `-- seeks sequential writes wakes`. Files are made in the temporary
//! directory (`TMPDIR`) and stand in the page cache.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints, and may panic"
)]

use std::fs::File;
use std::hint::black_box;
use std::io::{Error, Read, Seek, SeekFrom, Write};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use kithara::io::Reader;
use kithara::storage::{StreamingOptions, StreamingResource, Writer};
use tempfile::TempDir;

const MIB: usize = 1024 * 1024;
const ROUNDS: usize = 15;

type Resource = StreamingResource<Error>;

fn content(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at * 31 + at / 977) % 251).unwrap())
        .collect()
}

fn open(dir: &TempDir, name: &str) -> (Resource, Writer<Error>) {
    let track = Resource::open(dir.path().join(name)).unwrap();
    let writer = track.writer().unwrap();
    (track, writer)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn microseconds(times: &mut [Duration], part: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() * part / 100).min(times.len() - 1)].as_nanos() as f64 / 1000.0
}

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

    fn bar(&mut self, name: &str, figure: f64, limit: f64, unit: &str, holds: bool) {
        let verdict = if holds { "ok" } else { "short" };
        self.short += usize::from(!holds);
        println!("bar {name} figure={figure:.3}{unit} limit={limit}{unit} {verdict}");
    }
}

/// Microseconds of 20 000 seeks to present bytes, each with a read of 4 KiB, and of the same on the plain file.
fn seek_times(reader: &mut (impl Read + Seek), len: usize) -> Vec<Duration> {
    let mut buffer = vec![0; 4096];
    let mut random = 1_u64;
    (0..20_000)
        .map(|_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // A page inside one of the 8 KiB pieces that are there.
            let piece = (random >> 33) % (len as u64 / 16_384);
            let started = Instant::now();
            reader
                .seek(SeekFrom::Start(piece * 16_384 + random % 4096))
                .unwrap();
            reader.read_exact(&mut buffer).unwrap();
            let took = started.elapsed();
            black_box(&buffer);
            took
        })
        .collect()
}

fn seeks(report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    let len = 64 * MIB;
    let bytes = content(len);
    let (track, mut writer) = open(&dir, "holes");
    writer.set_len(len as u64).unwrap();
    // Every other 8 KiB: 4096 ranges, as many as a wild listener leaves.
    for start in (0..len).step_by(16_384) {
        writer
            .write_at(start as u64, &bytes[start..start + 8192])
            .unwrap();
    }
    let mut times = seek_times(&mut Reader::new(&track), len);
    report.at_most(
        "seek_to_a_fetched_part_4kib_p50",
        microseconds(&mut times, 50),
        5.0,
        "us",
    );
    println!(
        "figure seek_to_a_fetched_part_4kib_p99 {:.3}us",
        microseconds(&mut times, 99)
    );

    // With a fetcher that is told of every jump.
    let mut reader = Reader::new(&track);
    let mut demand = writer.demand();
    let fetcher = thread::spawn(move || {
        let mut changes = 0_u64;
        while block_on(demand.changed()).is_some() {
            changes += 1;
        }
        changes
    });
    drop(track);
    let mut times = seek_times(&mut reader, len);
    drop(reader);
    let heard = fetcher.join().unwrap();
    report.at_most(
        "seek_while_a_fetcher_listens_4kib_p50",
        microseconds(&mut times, 50),
        5.0,
        "us",
    );
    println!("figure demand_changes_heard {heard} of 20000");

    std::fs::write(dir.path().join("plain"), &bytes).unwrap();
    let mut times = seek_times(&mut File::open(dir.path().join("plain")).unwrap(), len);
    println!(
        "figure plain_file_seek_4kib_p50 {:.3}us",
        microseconds(&mut times, 50)
    );
}

/// MiB a second.
fn drain(mut from: impl Read, buffer: &mut [u8], len: usize) -> f64 {
    let started = Instant::now();
    let mut total = 0;
    loop {
        match from.read(buffer).unwrap() {
            0 => break,
            read => total += read,
        }
        black_box(&buffer);
    }
    assert_eq!(total, len);
    (len / MIB) as f64 / started.elapsed().as_secs_f64()
}

fn sequential(report: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    let len = 512 * MIB;
    let piece = content(MIB);
    let path = dir.path().join("complete");
    let mut file = File::create(&path).unwrap();
    for _ in 0..len / MIB {
        file.write_all(&piece).unwrap();
    }
    let track: Resource = StreamingOptions::new(&path).open_finished(None).unwrap();
    for size in [64 * 1024, 8 * 1024] {
        let mut buffer = vec![0; size];
        let rounds: Vec<(f64, f64)> = (0..ROUNDS)
            .map(|_| {
                let ours = drain(Reader::new(&track), &mut buffer, len);
                (ours, drain(File::open(&path).unwrap(), &mut buffer, len))
            })
            .collect();
        let ours = median(rounds.iter().map(|round| round.0).collect());
        let plain = median(rounds.iter().map(|round| round.1).collect());
        let ratio = median(rounds.iter().map(|round| round.0 / round.1).collect());
        let kib = size / 1024;
        println!("figure sequential_512mib_{kib}kib ours {ours:.0} MiB/s, plain file {plain:.0} MiB/s");
        report.at_least(&format!("sequential_512mib_{kib}kib_to_plain"), ratio, 0.9, "");
    }
}

/// Not a bar of its own: what `write_at`, its checksum included, adds to writing a plain file.
fn writes(_: &mut Report) {
    let len = 256 * MIB;
    let piece = content(64 * 1024);
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let (_track, mut writer) = open(&dir, "ours");
        let started = Instant::now();
        for start in (0..len).step_by(piece.len()) {
            writer.write_at(start as u64, &piece).unwrap();
        }
        ours.push((len / MIB) as f64 / started.elapsed().as_secs_f64());
        let mut file = File::create(dir.path().join("plain")).unwrap();
        let started = Instant::now();
        for _ in (0..len).step_by(piece.len()) {
            file.write_all(&piece).unwrap();
        }
        plain.push((len / MIB) as f64 / started.elapsed().as_secs_f64());
    }
    let (ours, plain) = (median(ours), median(plain));
    println!(
        "figure write_at_64kib ours {ours:.0} MiB/s, plain file {plain:.0} MiB/s, ratio {:.3}",
        ours / plain
    );
}

/// Not a bar of its own: from `write_at` to the blocked reader having its bytes.
fn wakes(_: &mut Report) {
    let dir = tempfile::tempdir().unwrap();
    let (track, mut writer) = open(&dir, "wakes");
    let rounds = 2000;
    let mut reader = Reader::new(&track);
    let (sender, receiver) = std::sync::mpsc::channel();
    let blocked = thread::spawn(move || {
        let mut buffer = [0; 4096];
        for _ in 0..rounds {
            reader.read_exact(&mut buffer).unwrap();
            sender.send(Instant::now()).unwrap();
        }
    });
    let mut times: Vec<_> = (0..rounds)
        .map(|round| {
            while track.demand().waiting.is_empty() {
                thread::yield_now();
            }
            let started = Instant::now();
            writer.write_at(round * 4096, &[1; 4096]).unwrap();
            receiver.recv().unwrap() - started
        })
        .collect();
    blocked.join().unwrap();
    let p50 = microseconds(&mut times, 50);
    println!(
        "figure write_to_blocked_read_p50 {p50:.1}us p99 {:.1}us",
        microseconds(&mut times, 99)
    );
}

fn main() {
    type Section = (&'static str, fn(&mut Report));
    const SECTIONS: [Section; 4] = [
        ("seeks", seeks),
        ("sequential", sequential),
        ("writes", writes),
        ("wakes", wakes),
    ];
    // Cargo adds flags of its own.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut report = Report { short: 0 };
    for (name, section) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            section(&mut report);
        }
    }
    println!("{} bar(s) short", report.short);
}

//! The side that an audio callback pulls from: what it allocates, which system calls it makes, and how long it takes.

use std::hint::black_box;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kithara::decode::{DecodeParams, Decoder, Output, OutputParams};

use crate::made;
use crate::report::{Report, percentile};

/// Samples of a pull: 512 frames of two channels.
const BLOCK: usize = 1024;
/// How long a pull of these lasts on a sound card, about.
const PERIOD: Duration = Duration::from_millis(5);
const PULLS: usize = 4000;

/// Names that no file has: to ask for them marks a place in a list of system calls.
const MARKS: [&str; 2] = ["/kithara-pull-begins", "/kithara-pull-ends"];

pub(crate) fn run(report: &mut Report) {
    let track = made::tracks()
        .into_iter()
        .find_map(|(format, path)| (format == "mp3").then_some(path))
        .unwrap();
    let mut output = play(&track);
    let mut block = [0.0; BLOCK];
    let counted = allocation_counter::measure(|| {
        for _ in 0..PULLS {
            output.pull(&mut block);
            output.next();
        }
    });
    report.at_most("pull_allocations", counted.count_total as f64, 0.0, "");
    match system_calls(&track) {
        Some((futexes, all)) => {
            println!("figure pull_system_calls {all} in {PULLS} pulls, without the sleeps between them");
            report.at_most("pull_futex_calls", futexes as f64, 0.0, "");
        }
        None => println!("figure pull_futex_calls not counted: no strace"),
    }
    let mut pulled = pulled(&track);
    let mut copied = copied(&track);
    let mut figure = |pull, part| {
        let times = if pull { &mut pulled } else { &mut copied };
        percentile(times, part) * 1e6
    };
    let (typical, slowest) = (figure(false, 50), figure(false, 99));
    println!(
        "figure pull p50={:.0}ns; memcpy p50={typical:.0}ns p99={slowest:.0}ns",
        figure(true, 50)
    );
    // One in a hundred against one in a hundred: what the machine does to one it does to the other.
    report.at_most("pull_p99", figure(true, 99), 4.0 * slowest, "ns");
    report.at_most("pull_p50", figure(true, 50), 4.0 * typical, "ns");
}

fn play(track: &Path) -> Output {
    let reader = Cursor::new(made::bytes(track));
    let decoder = Decoder::from_reader(reader, &DecodeParams::new()).unwrap();
    decoder.into_output(OutputParams::new()).unwrap()
}

/// Pulls as a sound card does, between two marks.
pub(crate) fn job(track: &Path) {
    let mut output = play(track);
    let mut block = [0.0; BLOCK];
    assert!(std::fs::metadata(MARKS[0]).is_err());
    for _ in 0..PULLS {
        black_box(output.pull(&mut block));
        thread::sleep(PERIOD / 10);
    }
    assert!(std::fs::metadata(MARKS[1]).is_err());
}

/// How many calls of `futex`, and of anything but `clock_nanosleep`, the pulling thread makes between the marks; `None`
/// without strace.
fn system_calls(track: &Path) -> Option<(usize, usize)> {
    let list = tempfile::NamedTempFile::new().ok()?;
    let status = Command::new("strace")
        .args(["-f", "-o"])
        .arg(list.path())
        .arg(std::env::current_exe().ok()?)
        .args(["job", "pull"])
        .arg(track)
        .stdout(Stdio::null())
        .status()
        .ok()?;
    let text = std::fs::read_to_string(list.path()).ok()?;
    let mut lines = text.lines().filter(|_| status.success());
    let begins = lines.find(|line| line.contains(MARKS[0]))?;
    // Each line begins with the number of its thread.
    let thread = begins.split(' ').next()?;
    let calls: Vec<&str> = lines
        .take_while(|line| !line.contains(MARKS[1]))
        .filter(|line| line.split(' ').next() == Some(thread) && !line.contains("clock_nanosleep"))
        .collect();
    let futexes = calls.iter().filter(|line| line.contains("futex")).count();
    Some((futexes, calls.len()))
}

fn pulled(track: &Path) -> Vec<Duration> {
    let mut output = play(track);
    let mut block = [0.0; BLOCK];
    let mut times = Vec::with_capacity(PULLS);
    while times.len() < PULLS && !output.is_ended() {
        thread::sleep(PERIOD / 10);
        let started = Instant::now();
        let count = output.pull(&mut block);
        let took = started.elapsed();
        // One that finds less is no measure of one that finds all.
        if count == BLOCK {
            times.push(took);
        }
        black_box(&block);
    }
    assert_eq!(times.len(), PULLS, "the track is too short");
    times
}

/// A copy of a block that another thread has just written. Both sides do what those of a pull do: that thread decodes, as fast
/// as its block is taken, and this one sleeps before each copy. So both begin with the same cold caches, and a clock that has
/// just been raised.
fn copied(track: &Path) -> Vec<Duration> {
    let reader = Cursor::new(made::bytes(track));
    let mut decoder = Decoder::from_reader(reader, &DecodeParams::new()).unwrap();
    let shared = Arc::new((Mutex::new(vec![0.0_f32; BLOCK]), AtomicBool::new(false)));
    let writer = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            for _ in 0..PULLS {
                let block = decoder.next_block().unwrap().unwrap();
                let mut written = shared.0.lock().unwrap();
                for (to, from) in written.iter_mut().zip(block.samples().iter().cycle()) {
                    *to = *from;
                }
                drop(written);
                shared.1.store(true, Ordering::Release);
                // Until that one is copied.
                while shared.1.load(Ordering::Acquire) {
                    thread::sleep(PERIOD / 50);
                }
            }
        })
    };
    let mut block = [0.0; BLOCK];
    let mut times = Vec::with_capacity(PULLS);
    while times.len() < PULLS {
        thread::sleep(PERIOD / 10);
        if !shared.1.load(Ordering::Acquire) {
            continue;
        }
        let from = shared.0.lock().unwrap();
        let started = Instant::now();
        block.copy_from_slice(&from);
        times.push(started.elapsed());
        black_box(&block);
        shared.1.store(false, Ordering::Release);
    }
    writer.join().unwrap();
    times
}

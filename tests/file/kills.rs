//! F3: processes that are really killed, at any moment of a download.
//!
//! `KITHARA_KILLS=50` kills more of them.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use futures_lite::future::block_on;
use kithara::file::{FileParams, FileSource, OpenMode};
use kithara_test_support::Rule;

use crate::*;

const ROOT: &str = "KITHARA_KILLED_ROOT";
const URL: &str = "KITHARA_KILLED_URL";
/// Under 8 MiB, which was the distance of checkpoints once.
const LEN: u64 = 7 * MIB + 4321;
/// What came for so long may be fetched again, if it is more than 1 MiB.
const LOST: Duration = Duration::from_secs(2);

/// Plays a file, and says again and again how many bytes of it have come.
#[test]
#[ignore = "the test below starts it as a process of its own"]
fn child() {
    let (Ok(root), Ok(url)) = (std::env::var(ROOT), std::env::var(URL)) else {
        return;
    };
    let cache = open_cache(&PathBuf::from(root), 256 * MIB);
    let source = FileSource::new(Url::parse(&url).unwrap(), FileParams::new(client(), cache));
    let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    let resource = reader.resource().clone();
    std::thread::spawn(move || {
        let mut before = 0;
        loop {
            let came = resource
                .available()
                .iter()
                .map(|range| range.end - range.start)
                .sum();
            if came != before {
                println!("{came}");
                before = came;
            }
            std::thread::yield_now();
        }
    });
    let mut buffer = vec![0; 100_000];
    while reader.read(&mut buffer).unwrap() > 0 {}
}

fn start(stage: &Stage) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::child", "--ignored", "--nocapture", "-q"])
        .env(ROOT, stage.root.path())
        .env(URL, stage.url().as_str())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills a download of so many bytes a second when `at` bytes of it have come. Returns how many of them are fetched again,
/// and how many may be.
fn kill_at(at: u64, rate: u64) -> (u64, u64) {
    let mut stage = Stage::new(LEN);
    let rule = stage.server.rule("/a.bin", Rule::new().trickle(rate));
    // The cache is the child's.
    block_on(std::mem::replace(&mut stage.cache, AssetCache::memory(1)).closed());
    let mut child = start(&stage);
    let mut history = vec![(Instant::now(), 0)];
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // What the harness says of itself is no number.
        let Ok(came) = line.unwrap().parse::<u64>() else {
            continue;
        };
        history.push((Instant::now(), came));
        if came >= at {
            break;
        }
    }
    child.kill().unwrap();
    let killed = Instant::now();
    child.wait().unwrap();
    rule.remove();
    let came = history.last().unwrap().1;
    assert!(came >= at.min(LEN), "{came} of {at}");
    let long_ago = history.iter().rev().find(|(at, _)| killed - *at > LOST);
    let recent = came - long_ago.map_or(0, |(_, then)| *then);

    stage.cache = open_cache(stage.root.path(), 256 * MIB);
    let before = stage.requests();
    assert_rest(&mut stage.reader(), 0, LEN);
    let requests = stage.server.requests();
    let fetched: u64 = requests[before..]
        .iter()
        .map(|request| LEN - request.range_start().unwrap_or_default())
        .max()
        .unwrap_or_default();
    ((came + fetched).saturating_sub(LEN), recent.max(MIB))
}

/// Fault W26.
#[test]
fn w26_a_killed_process_fetches_little_twice() {
    let kills = std::env::var("KITHARA_KILLS").map_or(6, |kills| kills.parse().unwrap());
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let mut state = u64::from(seed);
    let mut next = |below: u64| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) % below
    };
    let moments: Vec<(u64, u64)> = (0..kills)
        .map(|_| (1 + next(LEN), ((MIB / 2) << next(3)) + next(MIB / 2)))
        .collect();
    let mut twice = Vec::new();
    for batch in moments.chunks(3) {
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = batch
                .iter()
                .map(|(at, rate)| scope.spawn(|| (*at, *rate, kill_at(*at, *rate))))
                .collect();
            running.into_iter().map(|kill| kill.join().unwrap()).collect()
        });
        for (at, rate, (lost, allowed)) in outcomes {
            // One read more than promised may be on its way to the disk.
            assert!(
                lost <= allowed + 256 * KIB,
                "seed {seed}: {lost} and not {allowed}, killed at {at} with {rate} a second"
            );
            twice.push((lost, allowed));
        }
    }
    let most = |slow: bool| {
        let of_them = twice.iter().filter(|(_, allowed)| (*allowed == MIB) == slow);
        of_them.map(|(lost, _)| *lost).max().unwrap_or_default()
    };
    println!(
        "{kills} kills: at most {} bytes fetched twice, or {} where less than 1 MiB came in two seconds",
        most(false),
        most(true)
    );
}

//! What many files, and many damaged blocks, take of the pool that all blocking work shares. Each test is a process of its
//! own: the pool is one for all tests of a process.

use std::process::Command;

use futures_lite::future::block_on;
use kithara::file::{FileParams, FileReader, FileSource, OpenMode};
use kithara::io::Reader;
use kithara::storage::BLOCK;
use kithara_test_support::{Content, Rule, Server};

use crate::damaged::{entry, turn_a_bit};
use crate::*;

/// Files with a thread of their own, and the threads of all others.
const BOUND: usize = 32 + 4;
/// Cache calls under way, and threads that have not ended yet.
const OTHERS: usize = 12;

/// Threads of the pool.
fn pool_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("blocking")).count()
}

/// Runs one of the ignored tests below, with as many open files as the system allows.
#[track_caller]
fn run_alone(test: &str) {
    let status = Command::new("sh")
        .args(["-c", "ulimit -n $(ulimit -Hn); exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "-q"])
        .status()
        .unwrap();
    assert!(status.success(), "{test}");
}

#[test]
fn w66_open_files_share_their_threads() {
    run_alone("shared_threads::five_hundred_files");
}

#[test]
fn w58_damaged_blocks_share_one_thread() {
    run_alone("shared_threads::many_damaged_blocks");
}

/// Fault W66: files that all stand still. Each goes on when its bytes come, and the cache answers meanwhile.
#[test]
#[ignore = "a test above starts it as a process of its own"]
fn five_hundred_files() {
    const FILES: usize = 500;
    const LEN: u64 = 256 * KIB;
    let server = Server::empty().unwrap();
    let gate = server.gate();
    let root = tempfile::tempdir().unwrap();
    let cache = open_cache(root.path(), 256 * MIB);
    let client = builder().max_connections_per_host(FILES + 2).build().unwrap();
    let mut readers: Vec<FileReader> = (0..FILES)
        .map(|file| {
            let path = format!("/{file}");
            server.serve(&path, Content::pattern(pattern(), LEN));
            server.rule(&path, Rule::new().gate_after(64 * KIB, &gate));
            let params = FileParams::new(client.clone(), cache.clone());
            let url = Url::parse(&server.url(&path)).unwrap();
            block_on(FileSource::new(url, params).open_reader(OpenMode::Online)).unwrap()
        })
        .collect();
    let threads = pool_threads();
    assert!((BOUND - 2..=BOUND + OTHERS).contains(&threads), "{threads}");
    let asset = kithara::cache::AssetId::from_key("another").unwrap();
    let path = kithara::cache::CachePath::parse("entry").unwrap();
    let calls = cache.clone();
    in_time(move || block_on(calls.put_atomic(&asset, &path, "bytes".into())).unwrap());
    gate.open();
    for reader in &mut readers {
        assert_rest(reader, 0, LEN);
    }
    let threads = pool_threads();
    assert!(threads <= BOUND + OTHERS, "{threads}");
    drop(readers);
    in_time(move || block_on(cache.closed()));
}

/// Fault W58: each block of a file is damaged, and as many readers wait, each for its own.
#[test]
#[ignore = "a test above starts it as a process of its own"]
fn many_damaged_blocks() {
    const BLOCKS: u64 = 40;
    const LEN: u64 = BLOCKS * BLOCK as u64;
    let mut stage = Stage::new(LEN);
    crate::damaged::fill(&stage);
    stage.restart();
    for block in 0..BLOCKS {
        turn_a_bit(&entry(&stage), block * BLOCK as u64 + 5);
    }
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate(&gate));
    let reader = stage.reader();
    let before = pool_threads();
    std::thread::scope(|scope| {
        for block in 0..BLOCKS {
            let mut reader = Reader::new(reader.resource());
            scope.spawn(move || assert_at(&mut reader, block * BLOCK as u64, BLOCK));
        }
        while (reader.resource().demand().waiting.len() as u64) < BLOCKS {
            std::thread::yield_now();
        }
        gate.wait_arrived(1);
        assert_eq!(gate.arrived(), 1, "one request after another");
        let threads = pool_threads();
        assert!(threads <= before + 3, "{threads} and not {before}");
        gate.open();
    });
    let requests = stage.server.requests();
    let repairs = requests.iter().filter(|request| request.range_start().is_some());
    assert!(repairs.count() as u64 >= BLOCKS);
}

//! What is kept: whole files, parts of them, and what happens where there is no room.

use std::io::{Read, Seek, SeekFrom};

use futures_lite::StreamExt;
use futures_lite::future::block_on;
use kithara::cache::{AssetId, CachePath};
use kithara::file::{Bypass, FileControl, FileError, FileParams, FileReader, FileSource, OpenMode};
use kithara::stream::{Message, Stream, StreamParams};
use kithara_test_support::{Content, Pattern, Rule};

use crate::*;

pub fn open_offline(stage: &Stage) -> Result<FileReader, FileError> {
    block_on(stage.source().open_reader(OpenMode::Offline))
}

pub fn names(stage: &Stage) -> (AssetId, CachePath) {
    (AssetId::from_url(&stage.url()), CachePath::from_url(&stage.url()))
}

/// Waits until the file is an entry.
pub fn wait_cached(stage: &Stage) {
    let (asset, path) = names(stage);
    let start = std::time::Instant::now();
    while !block_on(stage.cache.contains(&asset, &path)).unwrap() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
}

/// R3: an entry like any other, and no connection any more.
#[test]
fn a_whole_file_plays_from_the_cache_without_a_connection() {
    let mut stage = Stage::new(3 * MIB);
    assert_rest(&mut stage.reader(), 0, stage.len);
    wait_cached(&stage);
    let (asset, path) = names(&stage);
    let entry = stage.cache.blocking().open(&asset, &path).unwrap().unwrap();
    assert!(entry.verify(&asset, &path).unwrap());
    let connections = stage.server.connections();
    assert_rest(&mut stage.reader(), 0, stage.len);
    stage.restart();
    stage.server.stop();
    assert_rest(&mut open_offline(&stage).unwrap(), 0, stage.len);
    block_on(async {
        let params = StreamParams::default().offline_mode(true);
        let mut stream = Stream::new(stage.source(), params);
        let mut at = 0;
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.unwrap();
            assert_eq!(pattern().first_difference(at, &bytes), None);
            at += bytes.len() as u64;
        }
        assert_eq!(at, stage.len);
    });
    assert_eq!(stage.server.connections(), connections);
}

/// H5's rule for files: no connection, and what is missing is told.
#[test]
fn offline_an_incomplete_file_says_what_is_missing() {
    let mut stage = Stage::new(4 * MIB);
    match open_offline(&stage) {
        Err(FileError::OfflineMiss {
            missing, len: None, ..
        }) => assert!(missing.is_empty()),
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.server.connections(), 0);

    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate_after(MIB, &gate));
    let mut reader = stage.reader();
    assert_at(&mut reader, 0, 1024 * 1024);
    drop(reader);
    stage.restart();
    let connections = stage.server.connections();
    match open_offline(&stage) {
        Err(error @ FileError::OfflineMiss { .. }) => {
            assert!(error.is_offline_miss());
            let FileError::OfflineMiss { missing, len, .. } = error else {
                unreachable!()
            };
            assert_eq!((missing, len), (vec![MIB..4 * MIB], Some(4 * MIB)));
        }
        other => panic!("{other:?}"),
    }
    block_on(async {
        let params = StreamParams::default().offline_mode(true);
        let mut stream = Stream::new(stage.source(), params);
        let error = stream.next().await.unwrap().unwrap_err();
        assert!(error.source_error().unwrap().is_offline_miss(), "{error}");
        assert!(stream.next().await.is_none());
    });
    assert_eq!(stage.server.connections(), connections);
}

/// R3: only what is missing is fetched after a restart, with proof that it is the same file.
#[test]
fn a_restart_resumes_from_what_was_fetched() {
    let mut stage = Stage::new(8 * MIB);
    let gate = stage.server.gate();
    let rule = stage
        .server
        .rule("/a.bin", Rule::new().gate_after(2 * MIB, &gate));
    let mut reader = stage.reader();
    assert_at(&mut reader, 0, 2 * 1024 * 1024);
    drop(reader);
    rule.remove();
    stage.restart();
    let before = stage.requests();
    assert_rest(&mut stage.reader(), 0, stage.len);
    let requests = stage.server.requests().split_off(before);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].range_start(), Some(2 * MIB));
    assert!(requests[0].header("if-range").is_some());
}

/// Fault D4: a file that changed between two sessions is downloaded anew.
#[test]
fn d4_a_file_that_changed_between_sessions_is_fetched_anew() {
    let mut stage = Stage::new(8 * MIB);
    let gate = stage.server.gate();
    let rule = stage
        .server
        .rule("/a.bin", Rule::new().gate_after(2 * MIB, &gate));
    assert_at(&mut stage.reader(), 0, 2 * 1024 * 1024);
    rule.remove();
    stage.restart();
    let other = Pattern::new(77);
    stage.server.serve("/a.bin", Content::pattern(&other, 8 * MIB));
    let mut bytes = Vec::new();
    stage.reader().read_to_end(&mut bytes).unwrap();
    assert_eq!(
        (bytes.len() as u64, other.first_difference(0, &bytes)),
        (8 * MIB, None)
    );
}

/// Fault D4 in the middle: never mixed, typed, and the next one gets the new file.
#[test]
fn d4_a_file_that_changes_while_it_is_read_is_never_mixed() {
    let stage = Stage::new(8 * MIB);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).gate_after(MIB, &gate));
    let mut reader = stage.reader();
    assert_at(&mut reader, 0, 4096);
    let other = Pattern::new(77);
    stage.server.serve("/a.bin", Content::pattern(&other, 8 * MIB));
    reader.seek(SeekFrom::Start(5 * MIB)).unwrap();
    let error = reader.read(&mut [0; 4096]).unwrap_err();
    assert!(FileError::of(&error).unwrap().is_changed(), "{error:?}");
    // R4: what is there stays readable.
    assert_at(&mut reader, 0, 4096);
    drop(reader);
    let mut bytes = Vec::new();
    stage.reader().read_to_end(&mut bytes).unwrap();
    assert_eq!(
        (bytes.len() as u64, other.first_difference(0, &bytes)),
        (8 * MIB, None)
    );
}

/// C16, fault C19: a cache without room does not stop the music, and says so.
#[test]
fn c19_a_full_cache_is_passed_by() {
    const LEN: u64 = 12 * MIB;
    for room in [2 * MIB, 40 * KIB] {
        let stage = Stage::with_cache(LEN, room);
        let parts = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
        let (mut reader, mut events) = (parts.reader, parts.events);
        let thread = std::thread::spawn(move || block_on(parts.driver));
        assert_rest(&mut reader, 0, LEN);
        assert_at(&mut reader, 100, 4096);
        assert_at(&mut reader, 9 * MIB, 4096);
        assert_at(&mut reader, 3 * MIB, 4096);
        let mut bypassed = false;
        while let Some(message) = events.try_next() {
            if let FileControl::CacheBypassed { reason } = message {
                bypassed = true;
                match reason {
                    Bypass::Failed(error) => assert!(error.is_full(), "{error}"),
                    Bypass::Refused(error) => assert!(error.is_full(), "{error}"),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(bypassed);
        drop(reader);
        thread.join().unwrap();
    }
}

pub fn partial_files(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let count = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => partial_files(&entry.path()),
        _ => usize::from(entry.file_name().to_string_lossy().starts_with(".part-")),
    };
    entries.map(count).sum()
}

/// C16: whatever happens to the cache's folder, before or while a file is read, the bytes come, and it is said that they
/// are not kept.
#[test]
fn c16_a_cache_that_fails_never_stops_playback() {
    const LEN: u64 = 3 * MIB;
    enum Ruin {
        /// The cache's folder is gone before the file is opened.
        Gone,
        /// There is something else in its place.
        Replaced,
        /// It goes while the file is read, so that the file cannot become an entry.
        GoneMeanwhile,
    }
    // By one step: the cache may be writing there.
    let elsewhere = tempfile::tempdir().unwrap();
    let remove =
        |path: &std::path::Path, name: &str| std::fs::rename(path, elsewhere.path().join(name)).unwrap();
    for ruin in [Ruin::Gone, Ruin::Replaced, Ruin::GoneMeanwhile] {
        let stage = Stage::new(LEN);
        let gate = stage.server.gate();
        stage.server.rule("/a.bin", Rule::new().gate_after(MIB, &gate));
        match ruin {
            Ruin::Gone => remove(stage.root.path(), "gone"),
            Ruin::Replaced => {
                remove(&stage.root.path().join("assets"), "replaced");
                std::fs::write(stage.root.path().join("assets"), "no folder").unwrap();
            }
            Ruin::GoneMeanwhile => {}
        }
        let parts = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
        let (mut reader, mut events) = (parts.reader, parts.events);
        let thread = std::thread::spawn(move || block_on(parts.driver));
        assert_at(&mut reader, 0, 4096);
        if matches!(ruin, Ruin::GoneMeanwhile) {
            // What is read may not be on the disk yet; a folder that goes before is made anew.
            while partial_files(&stage.root.path().join("assets")) == 0 {
                std::thread::yield_now();
            }
            remove(&stage.root.path().join("assets"), "meanwhile");
        }
        gate.open();
        reader.seek(SeekFrom::Start(0)).unwrap();
        assert_rest(&mut reader, 0, LEN);
        assert_at(&mut reader, MIB, 4096);
        drop(reader);
        thread.join().unwrap();
        let told = std::iter::from_fn(|| events.try_next()).collect::<Vec<_>>();
        let bypassed = |told: &FileControl| matches!(told, FileControl::CacheBypassed { .. });
        assert!(told.iter().any(bypassed), "{told:?}");
        assert!(
            !told.iter().any(|told| matches!(told, FileControl::Cached)),
            "{told:?}"
        );
    }
}

#[test]
fn a_stream_says_that_the_cache_is_passed_by_and_flows_on() {
    let stage = Stage::with_cache(6 * MIB, MIB);
    block_on(async {
        let mut messages = Stream::new(stage.source(), StreamParams::default()).into_messages();
        let (mut at, mut bypassed) = (0, false);
        while let Some(message) = messages.next().await {
            match message.unwrap() {
                Message::Data(bytes) => {
                    assert_eq!(pattern().first_difference(at, &bytes), None);
                    at += bytes.len() as u64;
                }
                Message::Control(control) => bypassed |= matches!(control, FileControl::CacheBypassed { .. }),
            }
        }
        assert!(bypassed);
        assert_eq!(at, 6 * MIB);
    });
}

#[test]
fn without_a_cache_a_window_is_held_in_memory() {
    let stage = Stage::new(24 * MIB);
    let params = FileParams::uncached(client()).window_bytes(MIB);
    let source = FileSource::new(stage.url(), params);
    let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    let mut buffer = vec![0; 10_000];
    let mut at = 0;
    loop {
        let count = reader.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        assert_eq!(pattern().first_difference(at, &buffer[..count]), None);
        at += count as u64;
        assert!(reader.resource().stored_bytes() <= 2 * MIB);
    }
    assert_eq!(at, stage.len);
    assert_at(&mut reader, 1000, 4096);
}

/// The radio: chunks without an end, with no range to go back to. A slow reader gets every byte from a bounded window, and
/// nothing else is driven out of the cache.
#[test]
fn an_endless_stream_is_heard_through_a_window() {
    let stage = Stage::with_cache(u64::MAX, 8 * MIB);
    stage.server.rule("/a.bin", Rule::new().ignore_range().chunked());
    let kept = AssetId::from_key("kept").unwrap();
    let path = CachePath::parse("a").unwrap();
    block_on(stage.cache.put_atomic(&kept, &path, vec![1; 1024 * 1024].into())).unwrap();
    let params = stage.params().window_bytes(MIB).unknown_length_limit(2 * MIB);
    let mut reader = block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap();
    let mut buffer = vec![0; 50_000];
    for at in (0..24 * MIB).step_by(buffer.len()) {
        reader.read_exact(&mut buffer).unwrap();
        assert_eq!(pattern().first_difference(at, &buffer), None, "after {at}");
        let held = reader.resource().stored_bytes();
        assert!(held <= 6 * MIB, "{held}");
    }
    assert_eq!(reader.len(), None);
    reader.seek(SeekFrom::Start(4 * MIB)).unwrap();
    let error = reader.read(&mut buffer).unwrap_err();
    assert!(
        matches!(FileError::of(&error), Some(FileError::NotSeekable { .. })),
        "{error:?}"
    );
    drop(reader);
    stage.server.wait_until(|log| log.open_connections() == 0);
    assert!(block_on(stage.cache.contains(&kept, &path)).unwrap());
    // A stream that cannot be resumed leaves nothing.
    let (asset, _) = names(&stage);
    let start = std::time::Instant::now();
    while block_on(stage.cache.asset(&asset)).unwrap().is_some() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
}

/// A cache in memory takes what fits the window, also what was jumped over, and plays it without a connection.
#[test]
fn a_cache_in_memory_keeps_files_that_fit_the_window() {
    const LEN: u64 = 3 * MIB;
    let stage = Stage::new(LEN);
    let cache = AssetCache::memory(64 * MIB);
    let params = || FileParams::new(client(), cache.clone());
    let play = |params: FileParams| {
        let parts = block_on(FileSource::new(stage.url(), params).open_parts(OpenMode::Online)).unwrap();
        let thread = std::thread::spawn(move || block_on(parts.driver));
        let mut reader = parts.reader;
        assert_at(&mut reader, 1000, 4096);
        assert_at(&mut reader, 2 * MIB, 4096);
        (reader, thread, parts.events)
    };
    // Longer than the window.
    let (mut reader, thread, mut events) = play(params().window_bytes(MIB));
    reader.seek(SeekFrom::Start(0)).unwrap();
    assert_rest(&mut reader, 0, LEN);
    drop(reader);
    thread.join().unwrap();
    let told = std::iter::from_fn(|| events.try_next()).collect::<Vec<_>>();
    assert!(matches!(
        told[..],
        [
            FileControl::Opened { .. },
            FileControl::CacheBypassed {
                reason: Bypass::NoCache
            }
        ]
    ));
    // It fits, and is fetched to its end whether or not it is read.
    let (mut reader, thread, mut events) = play(params());
    thread.join().unwrap();
    let told = std::iter::from_fn(|| events.try_next()).collect::<Vec<_>>();
    assert!(
        matches!(told[..], [FileControl::Opened { .. }, FileControl::Cached]),
        "{told:?}"
    );
    reader.seek(SeekFrom::Start(0)).unwrap();
    assert_rest(&mut reader, 0, LEN);
    let connections = stage.server.connections();
    let mut offline =
        block_on(FileSource::new(stage.url(), params()).open_reader(OpenMode::Offline)).unwrap();
    assert_rest(&mut offline, 0, LEN);
    assert_at(&mut offline, MIB, 4096);
    assert_eq!(stage.server.connections(), connections);
    // C16: one that is too small says so, and the music plays.
    let small = FileParams::new(client(), AssetCache::memory(MIB));
    let (mut reader, thread, mut events) = play(small);
    thread.join().unwrap();
    reader.seek(SeekFrom::Start(0)).unwrap();
    assert_rest(&mut reader, 0, LEN);
    let told = std::iter::from_fn(|| events.try_next()).collect::<Vec<_>>();
    assert!(
        matches!(
            told[..],
            [
                FileControl::Opened { .. },
                FileControl::CacheBypassed {
                    reason: Bypass::Refused(_)
                }
            ]
        ),
        "{told:?}"
    );
}

//! A complete file of which the disk has turned a bit: no byte of it reaches a decoder (C3, faults C20 and C21). With a
//! network it is fetched again while the file plays (C16); without one the reader is told where it is.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use futures_lite::StreamExt;
use futures_lite::future::block_on;
use kithara::cache::{AssetId, CachePath};
use kithara::file::{Bypass, FileControl, FileError, FileReader, OpenMode};
use kithara::storage::{BLOCK, StreamingError};
use kithara::stream::{Stream, StreamError, StreamParams};
use kithara_test_support::{Content, Pattern, Recorded, Rule};
use proptest::prelude::*;

use crate::cached::open_offline;
use crate::*;

const BLOCK_LEN: u64 = BLOCK as u64;
/// Four blocks and a bit.
const LEN: u64 = 4 * BLOCK_LEN + 1000;

/// Where a bit may turn: the ends of the file, and both sides of a border between blocks.
const PLACES: [u64; 6] = [
    0,
    BLOCK_LEN - 1,
    BLOCK_LEN,
    2 * BLOCK_LEN + 777,
    4 * BLOCK_LEN,
    LEN - 1,
];

fn names(stage: &Stage) -> (AssetId, CachePath) {
    (AssetId::from_url(&stage.url()), CachePath::from_url(&stage.url()))
}

fn contains(stage: &Stage) -> bool {
    let (asset, path) = names(stage);
    stage.cache.blocking().contains(&asset, &path).unwrap()
}

/// A file that is complete in the cache.
fn cached() -> Stage {
    let stage = Stage::new(LEN);
    fill(&stage);
    stage
}

pub fn fill(stage: &Stage) {
    let mut parts = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
    let thread = std::thread::spawn(move || block_on(parts.driver));
    assert_rest(&mut parts.reader, 0, stage.len);
    thread.join().unwrap();
    assert!(contains(stage));
}

/// The files of entries under `dir`.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(entries(&path));
        } else if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            found.push(path);
        }
    }
    found
}

pub fn entry(stage: &Stage) -> PathBuf {
    let found = entries(&stage.root.path().join("assets"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

/// Turns a bit in the file as it stands. Readers that have it open see it too.
pub fn turn_a_bit(path: &Path, at: u64) {
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 8]).unwrap();
}

fn block_of(at: u64) -> Range<u64> {
    let start = at / BLOCK_LEN * BLOCK_LEN;
    start..(start + BLOCK_LEN).min(LEN)
}

/// What the error says is damaged.
fn damage(error: &std::io::Error) -> Range<u64> {
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    match error.get_ref().unwrap().downcast_ref() {
        Some(StreamingError::Damaged { path, range }) => {
            assert!(path.to_str().unwrap().contains("assets"));
            range.clone()
        }
        other => panic!("{other:?}"),
    }
}

/// Reads what can be read from `at` on, in steps, and checks it.
fn read_on(reader: &mut FileReader, mut at: u64, step: usize) -> Result<u64, std::io::Error> {
    reader.seek(SeekFrom::Start(at)).unwrap();
    let mut buffer = vec![0; step];
    loop {
        let count = reader.read(&mut buffer)?;
        assert_eq!(pattern().first_difference(at, &buffer[..count]), None, "at {at}");
        at += count as u64;
        if count == 0 {
            return Ok(at);
        }
    }
}

/// C3: offline every byte before the damaged block is right, then comes an error that says where, and the rest of the
/// file can still be read. The entry is no longer taken for whole.
#[test]
fn offline_a_turned_bit_is_an_error_that_names_the_block_and_never_an_end() {
    for at in PLACES {
        for step in [4096, 100_000, BLOCK, 3 * BLOCK] {
            let stage = cached();
            turn_a_bit(&entry(&stage), at);
            assert!(contains(&stage), "its bytes were not looked at yet");
            let mut reader = open_offline(&stage).unwrap();
            let error = read_on(&mut reader, 0, step).unwrap_err();
            assert_eq!(damage(&error), block_of(at), "at {at} in steps of {step}");
            assert_eq!(reader.position(), block_of(at).start);
            assert!(!contains(&stage), "found out");
            // R4, and again the same answer.
            for start in [0, BLOCK_LEN - 10, 2 * BLOCK_LEN + 5, LEN - 10] {
                let read = read_on(&mut reader, start, step);
                if start < block_of(at).end {
                    assert_eq!(damage(&read.unwrap_err()), block_of(at));
                } else {
                    assert_eq!(read.unwrap(), LEN);
                }
            }
            drop(reader);
            assert!(open_offline(&stage).unwrap_err().is_offline_miss());
        }
    }
}

/// C3: as a stream.
#[test]
fn offline_a_stream_ends_with_an_error_before_the_damaged_block() {
    for at in PLACES {
        let stage = cached();
        turn_a_bit(&entry(&stage), at);
        let params = StreamParams::default().offline_mode(true);
        let mut stream = Stream::new(stage.source(), params);
        let mut reached = 0;
        let error = block_on(async {
            loop {
                match stream.next().await.expect("no end") {
                    Ok(bytes) => {
                        assert_eq!(pattern().first_difference(reached, &bytes), None);
                        reached += bytes.len() as u64;
                    }
                    Err(error) => break error,
                }
            }
        });
        assert_eq!(reached, block_of(at).start);
        let StreamError::Source { source, .. } = error else {
            panic!("{error:?}")
        };
        let FileError::Stored { source } = source else {
            panic!("{source:?}")
        };
        assert!(source.is_damaged(), "{source}");
        assert!(!contains(&stage));
    }
}

/// C3: a footer that is not whole is no entry at all.
#[test]
fn a_turned_bit_in_the_footer_is_a_miss() {
    let stage = cached();
    let file = entry(&stage);
    let end = std::fs::metadata(&file).unwrap().len();
    for at in (LEN..end).step_by(3) {
        let whole = std::fs::read(&file).unwrap();
        turn_a_bit(&file, at);
        let missed = open_offline(&stage);
        assert!(missed.unwrap_err().is_offline_miss(), "at {at}");
        assert!(!file.exists());
        std::fs::write(&file, whole).unwrap();
    }
    let mut reader = open_offline(&stage).unwrap();
    assert_rest(&mut reader, 0, LEN);
}

fn asked(requests: &[Recorded]) -> Vec<String> {
    let range = |request: &Recorded| request.header("range").unwrap_or_default().to_owned();
    requests.iter().map(range).collect()
}

fn header(range: &Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
}

/// C16: with a network the damaged block is asked for again, and nothing else; readers see nothing but the file.
#[test]
fn c16_online_the_damaged_block_is_fetched_and_the_music_plays_on() {
    for at in PLACES {
        for step in [4096, 100_000, BLOCK, 3 * BLOCK] {
            let stage = cached();
            turn_a_bit(&entry(&stage), at);
            let before = stage.requests();
            let mut parts = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
            block_on(parts.driver);
            let mut reader = parts.reader;
            assert_eq!(read_on(&mut reader, 0, step).unwrap(), LEN);
            assert_eq!(read_on(&mut reader, 0, step).unwrap(), LEN, "once more");
            let requests = stage.server.requests().split_off(before);
            assert_eq!(
                asked(&requests),
                [header(&block_of(at))],
                "at {at} in steps of {step}"
            );
            // And the app is told.
            assert!(matches!(
                parts.events.try_next(),
                Some(FileControl::Opened { .. })
            ));
            match parts.events.try_next().unwrap() {
                FileControl::CacheBypassed {
                    reason: Bypass::Failed(error),
                } => assert!(error.is_damaged(), "{error}"),
                other => panic!("{other:?}"),
            }
            drop(reader);
            // The next session has all of it anew.
            assert!(!contains(&stage));
            fill(&stage);
            assert_rest(&mut open_offline(&stage).unwrap(), 0, LEN);
        }
    }
}

/// C16: every block is bad, and a stream plays.
#[test]
fn c16_online_a_stream_of_a_file_in_ruins_plays() {
    let stage = cached();
    let file = entry(&stage);
    for block in 0..=4 {
        turn_a_bit(&file, block * BLOCK_LEN + 999);
    }
    let mut stream = Stream::new(stage.source(), StreamParams::default());
    let mut bytes = Vec::new();
    block_on(async {
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
    });
    assert_eq!(
        (bytes.len() as u64, pattern().first_difference(0, &bytes)),
        (LEN, None)
    );
}

/// N5, A11: a reader dropped meanwhile leaves nothing behind.
#[test]
fn what_is_fetched_again_ends_with_its_last_reader() {
    let stage = cached();
    turn_a_bit(&entry(&stage), BLOCK_LEN);
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate(&gate));
    let before = stage.server.log().connections.len();
    let mut reader = stage.reader();
    assert_at(&mut reader, 0, 4096);
    let interrupter = reader.interrupter();
    let thread = std::thread::spawn(move || {
        reader.seek(SeekFrom::Start(BLOCK_LEN)).unwrap();
        reader.read(&mut [0; 10]).unwrap_err()
    });
    gate.wait_arrived(1);
    interrupter.interrupt();
    thread.join().unwrap();
    stage
        .server
        .wait_until(|log| log.connections[before..].iter().all(|it| it.closed_at.is_some()));
}

/// Fault W55: a damaged block in an outage is an error for the reader that needs it, and its next read tries again.
#[test]
fn w55_a_block_is_fetched_again_when_the_network_is_back() {
    let stage = cached();
    turn_a_bit(&entry(&stage), BLOCK_LEN);
    let outage = stage.server.rule("/a.bin", Rule::new().close());
    let quick = RetryPolicy::default()
        .max_attempts(2)
        .base_delay(Duration::from_millis(1));
    let client = HttpClient::builder().retry(quick).build().unwrap();
    let params = FileParams::new(client, stage.cache.clone());
    let source = FileSource::new(stage.url(), params);
    let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    assert_at(&mut reader, 0, 4096);
    for _ in 0..2 {
        reader.seek(SeekFrom::Start(BLOCK_LEN)).unwrap();
        let error = reader.read(&mut [0; 10]).unwrap_err();
        assert!(FileError::of(&error).unwrap().is_transient(), "{error:?}");
    }
    outage.remove();
    assert_at(&mut reader, BLOCK_LEN, 4096);
}

/// What cannot be fetched again is an error with its cause; the rest plays.
#[test]
fn a_block_that_cannot_be_fetched_again_is_an_error_with_its_cause() {
    let stage = cached();
    turn_a_bit(&entry(&stage), BLOCK_LEN);
    stage.server.rule("/a.bin", Rule::new().answer(404, "gone"));
    let mut reader = stage.reader();
    let error = read_on(&mut reader, 0, 4096).unwrap_err();
    assert!(FileError::of(&error).unwrap().is_not_found(), "{error:?}");
    assert_eq!(reader.position(), BLOCK_LEN);
    assert_eq!(read_on(&mut reader, 2 * BLOCK_LEN, 4096).unwrap(), LEN);
}

/// Fault D4: the server has another version by now, and says nothing of it.
#[test]
fn d4_a_block_of_another_version_is_not_taken() {
    let stage = cached();
    turn_a_bit(&entry(&stage), BLOCK_LEN);
    stage
        .server
        .serve("/a.bin", Content::pattern(&Pattern::new(77), LEN));
    let mut reader = stage.reader();
    let error = read_on(&mut reader, 0, 4096).unwrap_err();
    assert!(FileError::of(&error).unwrap().is_changed(), "{error:?}");
    assert_eq!(reader.position(), BLOCK_LEN);
}

/// R3, C3: what an earlier session left of a file that is not complete is checked too, and fetched again.
#[test]
fn a_bit_turned_between_two_sessions_of_a_download_is_fetched_again() {
    const LONG: u64 = 40 * BLOCK_LEN;
    for (at, offline_after) in [(0, false), (BLOCK_LEN, true), (8 * BLOCK_LEN - 1, false)] {
        let mut stage = Stage::new(LONG);
        let gate = stage.server.gate();
        let rule = stage
            .server
            .rule("/a.bin", Rule::new().gate_after(8 * BLOCK_LEN, &gate));
        assert_at(&mut stage.reader(), 0, 8 * BLOCK);
        rule.remove();
        stage.restart();
        let mut parts = Vec::new();
        for dir in walk(stage.root.path()) {
            let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with(".part-") && !name.ends_with("~ranges") {
                parts.push(dir);
            }
        }
        assert_eq!(parts.len(), 1, "{parts:?}");
        turn_a_bit(&parts[0], at);
        let before = stage.requests();
        let opened = block_on(stage.source().open_parts(OpenMode::Online)).unwrap();
        let thread = std::thread::spawn(move || block_on(opened.driver));
        let mut reader = opened.reader;
        assert_eq!(read_on(&mut reader, 0, 50_000).unwrap(), LONG);
        thread.join().unwrap();
        drop(reader);
        let requests = stage.server.requests().split_off(before);
        assert!(
            requests
                .iter()
                .all(|request| request.header("if-range").is_some()),
            "{requests:?}"
        );
        if offline_after {
            let mut reader = open_offline(&stage).unwrap();
            assert_eq!(read_on(&mut reader, 0, 50_000).unwrap(), LONG);
        }
        let (asset, path) = names(&stage);
        let entry = stage.cache.blocking().open(&asset, &path).unwrap().unwrap();
        assert!(
            entry.verify(&asset, &path).unwrap(),
            "committed as it is upstream"
        );
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[derive(Debug, Clone)]
enum Act {
    Turn(u64),
    Read { at: u64, len: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let about = (0_u64..5, 0_u64..4).prop_map(|(block, about)| (block * BLOCK_LEN + about).saturating_sub(2));
    let place = prop_oneof![about, 0..LEN].prop_map(|at| at.min(LEN - 1));
    prop_oneof![
        1 => place.clone().prop_map(Act::Turn),
        5 => (place, prop_oneof![1_usize..5000, 1..2 * BLOCK]).prop_map(|(at, len)| Act::Read { at, len }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// C3, B1: bits turn before and while the file is read, by two readers in turns: what is read is the file, whatever
    /// order it is read in.
    #[test]
    fn whatever_turns_and_whatever_is_read_the_bytes_are_those_of_the_file(
        acts in proptest::collection::vec(act(), 1..20),
        online in any::<bool>(),
    ) {
        let stage = cached();
        let file = entry(&stage);
        let source = stage.source();
        let mode = if online { OpenMode::Online } else { OpenMode::Offline };
        let mut readers = vec![block_on(source.open_reader(mode)).unwrap()];
        if let Ok(second) = block_on(source.open_reader(mode)) {
            readers.push(second);
        }
        let hold = std::fs::OpenOptions::new().write(true).read(true).open(&file).unwrap();
        for (n, act) in acts.into_iter().enumerate() {
            match act {
                Act::Turn(at) => {
                    // The name may be gone by now; readers that have the file open read on.
                    let mut byte = [0];
                    let mut hold = &hold;
                    hold.seek(SeekFrom::Start(at)).unwrap();
                    hold.read_exact(&mut byte).unwrap();
                    hold.seek(SeekFrom::Start(at)).unwrap();
                    hold.write_all(&[byte[0] ^ 1]).unwrap();
                    // Once a block was found right it is not looked at again; so no reader may have read it yet.
                    readers.clear();
                    if let Ok(reader) = block_on(source.open_reader(mode)) {
                        readers.push(reader);
                    }
                }
                Act::Read { at, len } => {
                    let count = readers.len();
                    if count == 0 {
                        continue;
                    }
                    let reader = &mut readers[n % count];
                    reader.seek(SeekFrom::Start(at)).unwrap();
                    let mut buffer = vec![0; len];
                    match reader.read(&mut buffer) {
                        Ok(read) => {
                            prop_assert!(read > 0, "a false end at {}", at);
                            prop_assert_eq!(pattern().first_difference(at, &buffer[..read]), None);
                        }
                        Err(error) => {
                            prop_assert!(!online, "{:?}", error);
                            prop_assert_eq!(damage(&error), block_of(at));
                        }
                    }
                }
            }
        }
    }
}

//! F6: what makes two answers bytes of the same file.

use std::io::{Read, Seek, SeekFrom};

use futures_lite::StreamExt as _;
use futures_lite::future::block_on;
use kithara::file::{FileError, FileParams, FileSource, LookAhead, OpenMode, SameFile};
use kithara::stream::{Source as _, Stream, StreamParams};
use kithara_test_support::{Content, Pattern, Rule};

use crate::cached::open_offline;
use crate::*;

const LEN: u64 = 40 * MIB;

/// Machines behind one name: each answer has another strong tag for the same bytes.
fn nodes(stage: &Stage) {
    for node in 0..200 {
        let tag = format!("\"inode-{node}\"");
        stage.server.rule(
            "/a.bin",
            Rule::new()
                .first(1)
                .header("ETag", tag)
                .without_header("Last-Modified"),
        );
    }
}

fn short(params: FileParams) -> FileParams {
    params.look_ahead(LookAhead::Bytes(16 * KIB))
}

fn open(stage: &Stage, params: FileParams) -> FileReader {
    block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap()
}

fn failure(reader: &mut FileReader, at: u64) -> FileError {
    reader.seek(SeekFrom::Start(at)).unwrap();
    let error = reader.read(&mut [0; 10]).unwrap_err();
    FileError::of(&error).unwrap().clone()
}

/// Fault W22: it is told as what it is, and not as a change of the file.
#[test]
fn w22_validators_that_differ_by_machine_are_told() {
    let stage = Stage::new(LEN);
    nodes(&stage);
    let mut reader = open(&stage, short(stage.params()));
    assert_at(&mut reader, 0, 4096);
    let error = failure(&mut reader, 20 * MIB);
    assert!(matches!(error, FileError::UnstableValidators { .. }), "{error:?}");
    assert!(!error.is_changed());
    assert_at(&mut reader, 0, 4096);
}

/// Fault W22: the app says that the length tells.
#[test]
fn w22_by_its_length_a_file_of_many_machines_is_one() {
    let mut stage = Stage::new(4 * MIB);
    nodes(&stage);
    let params = |stage: &Stage| stage.params().same_file(SameFile::by_length()).revalidate(true);
    let mut reader = open(&stage, short(params(&stage)));
    for at in [0, 3 * MIB, MIB, 2 * MIB] {
        assert_at(&mut reader, at, 4096);
    }
    drop(reader);
    // A later session goes on from there, and one after it plays the file as it is.
    stage.restart();
    let sent = stage.server.bytes_sent();
    assert_rest(&mut open(&stage, params(&stage)), 0, stage.len);
    assert!(
        stage.server.bytes_sent() - sent < stage.len,
        "some of it was there"
    );
    while open_offline(&stage).is_err() {
        std::thread::yield_now();
    }
    for _ in 0..3 {
        let sent = stage.server.bytes_sent();
        assert_rest(&mut open(&stage, params(&stage)), 0, stage.len);
        assert!(stage.server.bytes_sent() - sent <= 1);
    }
    // Another length is another file.
    let other = Content::pattern(&Pattern::new(9), stage.len + 1);
    stage.server.serve("/a.bin", other);
    let reader = open(&stage, params(&stage));
    assert_eq!(reader.len(), Some(stage.len + 1));
}

/// Fault W22: a body that breaks off goes on at another machine.
#[test]
fn w22_a_break_goes_on_at_another_machine() {
    let stage = Stage::new(4 * MIB);
    let tagged = |tag: &str| Rule::new().first(1).header("ETag", tag);
    stage.server.rule("/a.bin", tagged("\"one\"").truncate_after(MIB));
    stage.server.rule("/a.bin", tagged("\"two\""));
    stage.server.rule("/a.bin", tagged("\"three\""));
    let mut reader = open(&stage, stage.params().same_file(SameFile::by_length()));
    assert_rest(&mut reader, 0, stage.len);
}

/// Fault W22: the app's own key, by which a new version of the same length is noticed.
#[test]
fn w22_by_the_apps_own_key() {
    let by_key = || {
        SameFile::by_key(|headers| {
            let key = headers.get("x-checksum")?.to_str().ok()?;
            Some(key.to_owned())
        })
    };
    let mut stage = Stage::new(LEN);
    let keyed = |key: &str, node: usize| {
        let tag = format!("\"inode-{node}\"");
        Rule::new().first(1).header("X-Checksum", key).header("ETag", tag)
    };
    for node in 0..3 {
        stage.server.rule("/a.bin", keyed("aaaa", node));
    }
    let mut reader = open(&stage, short(stage.params().same_file(by_key())));
    for at in [0, 30 * MIB] {
        assert_at(&mut reader, at, 4096);
    }
    drop(reader);
    stage.restart();
    let mut reader = open(&stage, short(stage.params().same_file(by_key())));
    assert_at(&mut reader, 30 * MIB, 4096);
    assert_at(&mut reader, 10 * MIB, 4096);
    stage.server.clear_rules();
    let other = Content::pattern(&Pattern::new(9), LEN);
    stage
        .server
        .rule("/a.bin", Rule::new().header("X-Checksum", "bbbb").content(other));
    let error = failure(&mut reader, 20 * MIB);
    assert!(matches!(error, FileError::Changed { .. }), "{error:?}");
}

/// Fault D4, by default: a file that did change has one new validator, and is told as a change.
#[test]
fn a_change_is_still_a_change() {
    let stage = Stage::new(LEN);
    let mut reader = open(&stage, short(stage.params()));
    assert_at(&mut reader, 0, 4096);
    stage
        .server
        .serve("/a.bin", Content::pattern(&Pattern::new(9), LEN));
    let error = failure(&mut reader, 20 * MIB);
    assert!(matches!(error, FileError::Changed { .. }), "{error:?}");
}

/// The answer with the beginning contradicts what a jump has brought, and the next one does not: the file is asked for once
/// more, and no read waits for ever.
#[test]
fn a_beginning_that_contradicts_once_is_asked_for_again() {
    let stage = Stage::new(4 * MIB);
    let tagged = |tag: &str| {
        let rule = Rule::new().header("ETag", tag);
        rule.without_header("Last-Modified")
    };
    let other = tagged("W/\"b\"").range_start(0).first(1);
    let other = stage.server.rule("/a.bin", other);
    stage.server.rule("/a.bin", tagged("W/\"a\""));
    let mut source = FileSource::new(stage.url(), short(stage.params()));
    source.seek_bytes(3 * MIB).unwrap();
    let bytes = in_time(move || {
        let mut stream = Stream::new(source, StreamParams::default());
        assert!(block_on(stream.next()).unwrap().is_ok());
        block_on(stream.handle().seek_bytes(0)).unwrap();
        block_on(stream.next()).unwrap().unwrap()
    });
    assert_eq!(pattern().first_difference(0, &bytes), None);
    assert_eq!(other.hits(), 1);
}

/// Fault W56: mirrors with one strong tag, and each with a date of its own.
#[test]
fn w56_one_strong_tag_decides_whatever_the_dates() {
    let stage = Stage::new(LEN);
    for day in 1..20 {
        let date = format!("Sun, {day:02} Nov 2020 08:49:37 GMT");
        let rule = Rule::new()
            .first(1)
            .header("ETag", "\"one\"")
            .header("Last-Modified", date);
        stage.server.rule("/a.bin", rule);
    }
    let mut reader = open(&stage, short(stage.params()));
    for at in [0, 30, 10, 20] {
        assert_at(&mut reader, at * MIB, 4096);
    }
}

/// Fault W64: a file that grows keeps its validator or has none. It is told that the length is another one.
#[test]
fn w64_a_file_that_grows_is_told_as_such() {
    for validators in [true, false] {
        let stage = Stage::new(LEN);
        let rule = || {
            if validators {
                Rule::new()
                    .header("ETag", "\"growing\"")
                    .without_header("Last-Modified")
            } else {
                Rule::new().without_validators()
            }
        };
        stage.server.rule("/a.bin", rule());
        let mut reader = open(&stage, short(stage.params()));
        assert_at(&mut reader, 0, 4096);
        stage
            .server
            .serve("/a.bin", Content::pattern(pattern(), LEN + MIB));
        let error = failure(&mut reader, 20 * MIB);
        assert!(
            matches!(error, FileError::LengthChanged { before: LEN, now: Some(now), .. } if now == LEN + MIB),
            "{error:?}"
        );
        assert!(error.is_changed());
        drop(reader);
        let mut reader = open(&stage, short(stage.params()));
        assert_at(&mut reader, 30 * MIB, 4096);
        assert_eq!(reader.len(), Some(LEN + MIB));
    }
}

/// Fault W64: the length was a guess, and the file ends before it.
#[test]
fn w64_a_length_that_was_a_guess_is_told_as_such() {
    let stage = Stage::new(4 * MIB);
    let guess = 4 * MIB + 1000;
    stage.server.rule(
        "/a.bin",
        Rule::new().first(1).ignore_range().content_length(guess),
    );
    let mut reader = open(&stage, stage.params());
    let mut bytes = Vec::new();
    let error = reader.read_to_end(&mut bytes).unwrap_err();
    let error = FileError::of(&error).unwrap().clone();
    assert!(
        matches!(error, FileError::LengthChanged { before, now: Some(now), .. } if before == guess && now == 4 * MIB),
        "{error:?}"
    );
    assert_eq!(bytes.len() as u64, 4 * MIB, "all there is was read");
    assert_eq!(pattern().first_difference(0, &bytes), None);
}

//! Outages: the network is gone, and comes back. A rule that closes each connection stands for it, and its end is the
//! test's to say. How the pauses grow is tested beside the code, in `src/file/outage.rs`, where time is a number.

use std::io::{Read, Seek, SeekFrom};

use futures_lite::StreamExt as _;
use futures_lite::future::block_on;
use kithara::file::{
    FileControl, FileError, FileEvents, FileParams, FileParts, FileSource, NotMediaReason, OpenMode,
};
use kithara::storage::Condition;
use kithara::stream::{Message, Source as _, Stream, StreamParams};
use kithara_test_support::{Rule, RuleHandle};

use crate::*;

const LEN: u64 = 4 * MIB;

/// Gives up after two tries.
fn hasty(stage: &Stage) -> FileParams {
    let quick = RetryPolicy::default()
        .max_attempts(2)
        .base_delay(Duration::from_millis(1));
    let client = HttpClient::builder().retry(quick).build().unwrap();
    FileParams::new(client, stage.cache.clone())
}

/// The first response breaks off after 1 MiB, and whatever comes then is closed without an answer.
fn cut_off() -> (Stage, RuleHandle) {
    let stage = Stage::new(LEN);
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).truncate_after(MIB));
    let outage = stage.server.rule("/a.bin", Rule::new().close());
    (stage, outage)
}

fn open(source: &FileSource) -> (FileReader, FileEvents, std::thread::JoinHandle<()>) {
    let FileParts {
        reader,
        driver,
        events,
        ..
    } = block_on(source.open_parts(OpenMode::Online)).unwrap();
    (reader, events, std::thread::spawn(|| block_on(driver)))
}

#[track_caller]
fn wait_for(events: &mut FileEvents, wanted: impl Fn(&FileControl) -> bool) -> FileControl {
    block_on(async {
        loop {
            match events.next().await {
                Some(event) if wanted(&event) => return event,
                Some(_) => {}
                None => panic!("it is not told"),
            }
        }
    })
}

fn begins(event: &FileControl) -> bool {
    matches!(event, FileControl::OutageBegan { .. })
}

fn error_of(error: &std::io::Error) -> FileError {
    FileError::of(error).unwrap().clone()
}

/// Fault W55: what is there plays. An error is for the reader that waits for more, and its next read tries again.
#[test]
fn w55_an_outage_is_told_and_ends_nobody_who_has_bytes() {
    let (stage, outage) = cut_off();
    let (mut reader, mut events, driver) = open(&FileSource::new(stage.url(), hasty(&stage)));
    let began = wait_for(&mut events, begins);
    assert!(
        matches!(began, FileControl::OutageBegan { cause } if cause.is_transient()),
        "and why"
    );
    let mut buffered = vec![0; MIB as usize];
    reader.read_exact(&mut buffered).unwrap();
    assert_eq!(pattern().first_difference(0, &buffered), None);
    let condition = reader.resource().status().condition;
    assert!(matches!(condition, Condition::Writing), "{condition:?}");
    for _ in 0..3 {
        let before = outage.hits();
        let error = error_of(&reader.read(&mut [0; 10]).unwrap_err());
        assert!(error.is_transient(), "{error:?}");
        assert!(outage.hits() > before, "each read has it tried again");
    }
    outage.remove();
    assert_rest(&mut reader, MIB, LEN);
    wait_for(&mut events, |event| matches!(event, FileControl::OutageEnded));
    wait_for(&mut events, |event| matches!(event, FileControl::Cached));
    driver.join().unwrap();
}

/// Fault W55: nobody has to read for the download to go on.
#[test]
fn w55_a_download_goes_on_by_itself() {
    let (stage, outage) = cut_off();
    let (reader, mut events, driver) = open(&FileSource::new(stage.url(), hasty(&stage)));
    wait_for(&mut events, begins);
    outage.remove();
    wait_for(&mut events, |event| matches!(event, FileControl::Cached));
    driver.join().unwrap();
    assert_eq!(reader.resource().missing(0..LEN), []);
}

/// Fault W55: a reader that may wait gets no error at all, on either face, and is told in the stall (fault W58).
#[test]
fn w55_a_reader_that_may_wait_sits_the_outage_out() {
    let (stage, outage) = cut_off();
    let params = hasty(&stage).outage_limit(Duration::MAX);
    let source = FileSource::new(stage.url(), params.clone());
    let (mut reader, mut events, driver) = open(&source);
    let reading = std::thread::spawn(move || assert_rest(&mut reader, 0, LEN));
    wait_for(&mut events, begins);
    // Not by spinning: that would keep the lock, and with it the server, busy.
    stage.server.wait_until(|log| log.requests.len() > 8);
    outage.remove();
    reading.join().unwrap();
    driver.join().unwrap();

    let (stage, outage) = cut_off();
    let params = hasty(&stage).outage_limit(Duration::MAX);
    let stream = Stream::new(FileSource::new(stage.url(), params), StreamParams::default());
    let mut messages = stream.into_messages();
    let (mut at, mut told) = (0, Vec::new());
    while let Some(message) = block_on(messages.next()) {
        match message.unwrap() {
            Message::Data(bytes) => {
                assert_eq!(pattern().first_difference(at, &bytes), None);
                at += bytes.len() as u64;
            }
            Message::Control(event) => {
                // Only this ends it: told behind the stall, it would never be.
                if begins(&event) {
                    outage.remove();
                }
                told.push(event);
            }
        }
    }
    assert_eq!(at, LEN);
    assert!(
        matches!(
            told.as_slice(),
            [
                FileControl::Opened { .. },
                FileControl::OutageBegan { .. },
                FileControl::OutageEnded,
                FileControl::Cached
            ]
        ),
        "{told:?}"
    );
}

/// Faults W55, W39: each of those that share a download is told, and one that opens the file in an outage goes on with it.
#[test]
fn w55_sources_that_share_a_download_share_its_outage() {
    let (stage, outage) = cut_off();
    let (mut first, mut events, driver) = open(&FileSource::new(stage.url(), hasty(&stage)));
    let (second, mut others, _) = open(&FileSource::new(stage.url(), hasty(&stage)));
    wait_for(&mut events, begins);
    let (mut third, _, _) = open(&FileSource::new(stage.url(), hasty(&stage)));
    assert_at(&mut third, 0, 4096);
    outage.remove();
    third.seek(SeekFrom::Start(0)).unwrap();
    assert_rest(&mut third, 0, LEN);
    assert_rest(&mut first, 0, LEN);
    wait_for(&mut others, |event| matches!(event, FileControl::Cached));
    drop(second);
    driver.join().unwrap();
}

/// Fault W39: after an error that does not pass, opening the file again goes on with what is there, for those that have it
/// open still, too.
#[test]
fn w39_opening_again_revives_what_is_there() {
    let stage = Stage::new(LEN);
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).truncate_after(MIB));
    let refused = stage.server.rule("/a.bin", Rule::new().answer(403, ""));
    let (mut reader, _, driver) = open(&FileSource::new(stage.url(), hasty(&stage)));
    let mut bytes = Vec::new();
    let error = error_of(&reader.read_to_end(&mut bytes).unwrap_err());
    assert!(
        matches!(&error, FileError::Net { source, .. } if source.status() == Some(403)),
        "{error:?}"
    );
    assert_eq!(bytes.len() as u64, MIB, "what is there was read");
    driver.join().unwrap();
    refused.remove();
    let before = stage.requests();
    let (mut again, _, driver) = open(&FileSource::new(stage.url(), hasty(&stage)));
    assert_rest(&mut again, 0, LEN);
    assert_rest(&mut reader, MIB, LEN);
    driver.join().unwrap();
    let requests = stage.server.requests();
    assert_eq!(requests.len(), before + 1);
    assert_eq!(requests[before].range_start(), Some(MIB));
}

/// Fault W39: a stream that ended with an error is followed by one that begins where it stopped, and asks for the rest.
#[test]
fn w39_a_new_stream_goes_on_where_the_last_one_failed() {
    let (stage, outage) = cut_off();
    let stream = |at: u64| {
        let mut source = FileSource::new(stage.url(), hasty(&stage));
        source.seek_bytes(at).unwrap();
        Stream::new(source, StreamParams::default())
    };
    let mut read = Vec::new();
    let mut first = stream(0);
    let failed = loop {
        match block_on(first.next()).unwrap() {
            Ok(bytes) => read.extend_from_slice(&bytes),
            Err(error) => break error,
        }
    };
    assert!(failed.source_error().unwrap().is_transient(), "{failed:?}");
    assert_eq!(read.len() as u64, MIB);
    drop(first);
    outage.remove();
    let before = stage.requests();
    let mut second = stream(MIB);
    while let Some(item) = block_on(second.next()) {
        read.extend_from_slice(&item.unwrap());
    }
    assert_eq!(read.len() as u64, LEN);
    assert_eq!(pattern().first_difference(0, &read), None);
    assert_eq!(stage.requests(), before + 1);
}

/// Fault W55, F1: the train has a network of its own, which answers everything with its login page until the user has
/// logged in.
#[test]
fn w55_a_login_page_on_the_way_is_an_outage_too() {
    let stage = Stage::new(LEN);
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).truncate_after(MIB));
    let portal = stage.server.rule(
        "/a.bin",
        Rule::new()
            .answer(200, "<!DOCTYPE html><html></html>")
            .header("Content-Type", "text/html"),
    );
    let (mut reader, mut events, driver) = open(&FileSource::new(stage.url(), hasty(&stage)));
    let began = wait_for(&mut events, begins);
    let is_page = |error: &FileError| {
        let refusal = error.not_media().unwrap_or_else(|| panic!("{error:?}"));
        matches!(refusal.reason, NotMediaReason::Page)
    };
    assert!(matches!(began, FileControl::OutageBegan { cause } if is_page(&cause)));
    let mut buffered = vec![0; MIB as usize];
    reader.read_exact(&mut buffered).unwrap();
    assert!(is_page(&error_of(&reader.read(&mut [0]).unwrap_err())));
    portal.remove();
    assert_rest(&mut reader, MIB, LEN);
    driver.join().unwrap();
}

/// A driver in an outage holds no connection, and ends with its last reader.
#[test]
fn a_driver_in_an_outage_ends_with_its_reader() {
    let (stage, _outage) = cut_off();
    let (reader, mut events, driver) = open(&FileSource::new(stage.url(), hasty(&stage)));
    wait_for(&mut events, begins);
    stage.server.wait_until(|log| log.open_connections() == 0);
    drop(reader);
    driver.join().unwrap();
    let last = std::iter::from_fn(|| events.try_next()).last();
    assert!(
        matches!(last, Some(FileControl::Incomplete { missing: Some(missing) }) if missing == LEN - MIB),
        "{last:?}"
    );
}

/// Fault W54: a server without ranges is read from its start again after a break, whatever kind of validator it sends.
#[test]
fn w54_a_break_without_ranges_starts_over() {
    for tag in ["\"strong\"", "W/\"weak\""] {
        let stage = Stage::new(LEN);
        let rule = || Rule::new().ignore_range().header("ETag", tag);
        stage.server.rule("/a.bin", rule().first(1).reset_after(MIB));
        stage
            .server
            .rule("/a.bin", rule().first(1).truncate_after(2 * MIB));
        stage.server.rule("/a.bin", rule());
        let (mut reader, mut events, driver) = open(&stage.source());
        assert_rest(&mut reader, 0, LEN);
        wait_for(&mut events, |event| matches!(event, FileControl::Cached));
        driver.join().unwrap();
    }
}

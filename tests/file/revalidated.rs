//! Asking the server whether a file that is complete in the cache is still the same.

use std::io::Read;

use futures_lite::future::{block_on, poll_once};
use kithara::file::{FileControl, FileSource, OpenMode, Origin};
use kithara_test_support::{Content, Ended, Log, Pattern, Rule};

use crate::cached::open_offline;
use crate::*;

/// Opens with the server asked, reads all and compares. Where the bytes came from.
pub fn asked(stage: &Stage, content: &Pattern, len: u64) -> Origin {
    let source = FileSource::new(stage.url(), stage.params().revalidate(true));
    let mut parts = block_on(source.open_parts(OpenMode::Online)).unwrap();
    let thread = std::thread::spawn(move || block_on(parts.driver));
    let mut reader = parts.reader;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(
        (bytes.len() as u64, content.first_difference(0, &bytes)),
        (len, None)
    );
    // The driver ends when the file, and its validators, are kept.
    thread.join().unwrap();
    match parts.events.try_next().unwrap() {
        FileControl::Opened { origin, .. } => origin,
        other => panic!("{other:?}"),
    }
}

/// A complete file is not asked about unless the application wants it; then with the server's own words, and a body only if
/// it changed.
#[test]
fn a_complete_file_is_revalidated_where_that_is_asked_for() {
    let stage = Stage::new(2 * MIB);
    let other = Pattern::new(77);
    assert_eq!(asked(&stage, pattern(), stage.len), Origin::Network);
    // The client may know of an answer before it is written down.
    let written_down = || {
        let ended = |log: &Log| log.requests.iter().all(|request| request.ended != Ended::Not);
        stage.server.wait_until(ended);
    };
    written_down();
    let (requests, sent) = (stage.requests(), stage.server.bytes_sent());
    assert_eq!(asked(&stage, pattern(), stage.len), Origin::Cache);
    written_down();
    assert_eq!(
        (stage.requests(), stage.server.bytes_sent()),
        (requests + 1, sent)
    );
    let question = stage.server.requests().pop().unwrap();
    assert!(question.header("if-none-match").is_some());
    assert_eq!(question.status, Some(304));

    // Of the same length, so that only the tag tells.
    stage.server.serve("/a.bin", Content::pattern(&other, stage.len));
    let before = stage.requests();
    let mut unasked = Vec::new();
    stage.reader().read_to_end(&mut unasked).unwrap();
    assert_eq!(
        (pattern().first_difference(0, &unasked), stage.requests()),
        (None, before)
    );
    assert_eq!(asked(&stage, &other, stage.len), Origin::Network);
    assert_eq!(asked(&stage, &other, stage.len), Origin::Cache);
    let mut kept = Vec::new();
    open_offline(&stage).unwrap().read_to_end(&mut kept).unwrap();
    assert_eq!(other.first_difference(0, &kept), None);
}

/// By its date, or by its length alone, where there is nothing better.
#[test]
fn a_complete_file_is_revalidated_by_what_there_is() {
    let other = Pattern::new(77);
    let dated = |date: &str| Rule::new().without_header("ETag").header("Last-Modified", date);
    let stage = Stage::new(MIB);
    let rule = stage
        .server
        .rule("/a.bin", dated("Mon, 02 Jan 2023 00:00:00 GMT"));
    asked(&stage, pattern(), MIB);
    assert_eq!(asked(&stage, pattern(), MIB), Origin::Cache);
    let question = stage.server.requests().pop().unwrap();
    assert_eq!(
        question.header("if-modified-since"),
        Some("Mon, 02 Jan 2023 00:00:00 GMT")
    );
    rule.remove();
    stage.server.serve("/a.bin", Content::pattern(&other, MIB));
    stage
        .server
        .rule("/a.bin", dated("Mon, 02 Jan 2023 00:00:01 GMT"));
    assert_eq!(asked(&stage, &other, MIB), Origin::Network);

    let stage = Stage::new(MIB);
    stage.server.rule("/a.bin", Rule::new().without_validators());
    asked(&stage, pattern(), MIB);
    assert_eq!(asked(&stage, pattern(), MIB), Origin::Cache);
    stage.server.serve("/a.bin", Content::pattern(&other, MIB + 1));
    assert_eq!(asked(&stage, &other, MIB + 1), Origin::Network);
}

/// A server that is away, unwell or silent does not keep the file from being played. One that has no such file any more
/// does. Offline no server is asked.
#[test]
fn a_server_that_cannot_say_does_not_stop_a_complete_file() {
    let stage = Stage::new(MIB);
    asked(&stage, pattern(), MIB);
    for fault in [
        Rule::new().answer(503, "busy"),
        Rule::new().reset(),
        Rule::new().never_answer(),
    ] {
        let fault = stage.server.rule("/a.bin", fault);
        assert_eq!(asked(&stage, pattern(), MIB), Origin::Cache);
        assert_eq!(fault.hits(), 1, "asked once");
        fault.remove();
    }
    let gone = stage.server.rule("/a.bin", Rule::new().answer(404, "gone"));
    let source = FileSource::new(stage.url(), stage.params().revalidate(true));
    assert!(
        block_on(source.open_reader(OpenMode::Online))
            .unwrap_err()
            .is_not_found()
    );
    gone.remove();
    let connections = stage.server.connections();
    let mut reader = block_on(source.open_reader(OpenMode::Offline)).unwrap();
    assert_rest(&mut reader, 0, MIB);
    assert_eq!(stage.server.connections(), connections);
    stage.server.stop();
    assert_eq!(asked(&stage, pattern(), MIB), Origin::Cache);
}

/// The old file is played until the new one is whole: a download that breaks off takes no track away.
#[test]
fn a_changed_file_stays_until_the_new_one_is_whole() {
    let stage = Stage::new(4 * MIB);
    asked(&stage, pattern(), stage.len);
    stage
        .server
        .serve("/a.bin", Content::pattern(&Pattern::new(77), stage.len));
    let gate = stage.server.gate();
    // The first is the question.
    stage
        .server
        .rule("/a.bin", Rule::new().skip(1).gate_after(MIB, &gate));
    let source = FileSource::new(stage.url(), stage.params().revalidate(true));
    let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    let mut bytes = vec![0; 4096];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(Pattern::new(77).first_difference(0, &bytes), None);
    assert_rest(&mut open_offline(&stage).unwrap(), 0, stage.len);
    drop(reader);
    assert_rest(&mut open_offline(&stage).unwrap(), 0, stage.len);
}

/// S1, N5: a caller that gives up while the server is asked leaves no connection.
#[test]
fn dropping_the_caller_closes_the_connection() {
    let stage = Stage::new(MIB);
    asked(&stage, pattern(), MIB);
    let gate = stage.server.gate();
    stage.server.rule("/a.bin", Rule::new().gate(&gate));
    let source = FileSource::new(stage.url(), stage.params().revalidate(true));
    let mut opening = Box::pin(source.open_reader(OpenMode::Online));
    while gate.arrived() == 0 {
        assert!(block_on(poll_once(opening.as_mut())).is_none());
    }
    drop(opening);
    stage.server.wait_until(|log| log.open_connections() == 0);
}

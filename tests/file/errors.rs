//! N12: what errors say, and what an app decides by, whichever face they come out of.

use std::error::Error;
use std::io::Read;

use futures_lite::StreamExt as _;
use futures_lite::future::block_on;
use kithara::file::{FileError, FileParams, FileSource, OpenMode};
use kithara::io::StreamReader;
use kithara::net::{Change, HttpClient};
use kithara::stream::{Stream, StreamParams};
use kithara_test_support::{Content, Pattern, Rule};

use crate::*;

const LEN: u64 = 2 * MIB;

/// A client that tries twice, so that the answer to a body that broke off is the cause, and no cache.
fn source(stage: &Stage) -> FileSource {
    let twice = RetryPolicy::default()
        .max_attempts(2)
        .base_delay(Duration::from_millis(1));
    let client = HttpClient::builder().retry(twice).build().unwrap();
    FileSource::new(stage.url(), FileParams::uncached(client))
}

fn of_reader(stage: &Stage) -> (String, FileError) {
    let mut reader = match block_on(source(stage).open_reader(OpenMode::Online)) {
        Ok(reader) => reader,
        Err(error) => return (chain(&error), error),
    };
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    (chain(&error), FileError::of(&error).unwrap().clone())
}

fn of_stream(stage: &Stage) -> (String, FileError) {
    let mut stream = Stream::new(source(stage), StreamParams::default());
    loop {
        match block_on(stream.next()).unwrap() {
            Ok(_) => {}
            Err(error) => return (chain(&error), error.source_error().unwrap().clone()),
        }
    }
}

fn of_stream_reader(stage: &Stage) -> (String, FileError) {
    let stream = Stream::new(source(stage), StreamParams::default());
    let error = StreamReader::new(stream)
        .read_to_end(&mut Vec::new())
        .unwrap_err();
    // What it is was told by the others.
    (chain(&error), FileError::Stopped)
}

/// The lines of an error and of those below it. None of them may be said twice.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        assert!(!text.contains(&error.to_string()), "{text}: {error}");
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// Fault W40: the first line names the cause, whether the file does not open or breaks off later, and the chain repeats
/// nothing.
#[test]
fn w40_the_first_line_names_the_cause_on_each_face() {
    type Face = fn(&Stage) -> (String, FileError);
    let faces: [Face; 3] = [of_reader, of_stream, of_stream_reader];
    for (what, rule, cause) in [
        ("a status", Rule::new().answer(403, ""), "status 403"),
        ("no answer", Rule::new().close(), "no response"),
        (
            "a part of another place",
            Rule::new().content_range(format!("bytes 90-{}/{LEN}", LEN + 89)),
            "asked for bytes",
        ),
        (
            "a page",
            Rule::new().answer(200, "<!DOCTYPE html><html></html>"),
            "page",
        ),
        (
            "another file",
            Rule::new().content(Content::pattern(&Pattern::new(9), LEN)),
            "has changed on the server",
        ),
    ] {
        for begins_well in [false, true] {
            if what == "another file" && !begins_well || what == "a page" && begins_well {
                continue;
            }
            for face in faces {
                let stage = Stage::new(LEN);
                if begins_well {
                    let broken = Rule::new().first(1).truncate_after(MIB);
                    stage.server.rule("/a.bin", broken);
                }
                stage.server.rule("/a.bin", rule.clone());
                let (text, _) = face(&stage);
                let first = text.split(": ").take(3).collect::<Vec<_>>().join(": ");
                assert!(
                    first.starts_with("http://127.0.0.1"),
                    "{what}, {begins_well}: {text}"
                );
                assert!(first.contains(cause), "{what}, {begins_well}: {text}");
                assert_eq!(text.matches("http://").count(), 1, "{what}: {text}");
            }
        }
    }
}

/// Fault W40: a station that hangs up may be there again, however its bodies are framed. The reader that reads on all the
/// same is not left to spin: only an outage is worth another read.
#[test]
fn w40_a_station_that_hung_up_is_worth_another_call() {
    for (what, rule) in [
        ("the close ends it", Rule::new().no_length()),
        (
            "of a station",
            Rule::new().no_length().header("icy-name", "a station"),
        ),
        ("in chunks", Rule::new().chunked().truncate_after(LEN / 2)),
    ] {
        let rule = rule.ignore_range().without_validators();
        let stage = Stage::new(LEN);
        stage.server.rule("/a.bin", rule.clone());
        let (text, error) = of_stream(&stage);
        assert!(error.is_transient(), "{what}: {text}");

        let stage = Stage::new(LEN);
        stage.server.rule("/a.bin", rule);
        let mut reader = block_on(source(&stage).open_reader(OpenMode::Online)).unwrap();
        let last = in_time(move || {
            loop {
                let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
                let error = FileError::of(&error).unwrap().clone();
                if !error.is_outage() {
                    return error;
                }
            }
        });
        assert!(last.is_transient(), "{what}: {last}");
        assert!(matches!(last, FileError::EndUnproven { .. }), "{what}: {last}");
    }
}

/// Fault W40: a seek by time in a file is refused in words that fit it.
#[test]
fn w40_a_seek_by_time_is_not_refused_as_one_by_bytes() {
    let stage = Stage::new(LEN);
    let stream = Stream::new(source(&stage), StreamParams::default());
    let error = block_on(stream.handle().seek_time(Duration::from_secs(1))).unwrap_err();
    assert!(!error.to_string().contains("bytes"), "{error}");
    drop(stream);
}

/// N12: the file's error answers as the client's does, at the opening and later.
#[test]
fn n12_predicates_see_through_what_carries_an_error() {
    for (status, forbidden, gone, not_found, transient) in [
        (401, true, false, false, false),
        (403, true, false, false, false),
        (404, false, false, true, false),
        (407, true, false, false, false),
        (410, false, true, true, false),
        (451, true, false, false, false),
        (503, false, false, false, true),
    ] {
        for begins_well in [false, true] {
            for face in [of_reader, of_stream] {
                let stage = Stage::new(LEN);
                if begins_well {
                    let broken = Rule::new().first(1).truncate_after(MIB);
                    stage.server.rule("/a.bin", broken);
                }
                stage.server.rule("/a.bin", Rule::new().answer(status, ""));
                let (text, error) = face(&stage);
                assert_eq!(
                    (
                        error.is_forbidden(),
                        error.is_gone(),
                        error.is_not_found(),
                        error.is_transient()
                    ),
                    (forbidden, gone, not_found, transient),
                    "{status}, {begins_well}: {text}"
                );
            }
        }
    }
}

/// N12: a change says what is another, where the server told it.
#[test]
fn n12_a_change_says_what_is_another() {
    let changed = |stage: &Stage| match of_reader(stage) {
        (_, FileError::Changed { change, .. }) => change,
        (text, _) => panic!("{text}"),
    };
    let broken = |stage: &Stage| {
        stage
            .server
            .rule("/a.bin", Rule::new().first(1).truncate_after(MIB));
    };
    let stage = Stage::new(LEN);
    broken(&stage);
    let other = Content::pattern(&Pattern::new(9), LEN);
    stage.server.rule("/a.bin", Rule::new().content(other));
    assert_eq!(changed(&stage), Some(Change::Validator));
    let stage = Stage::new(LEN);
    broken(&stage);
    let longer = Content::pattern(&Pattern::new(9), LEN + 1);
    stage.server.rule("/a.bin", Rule::new().content(longer));
    let (expected, received) = (LEN, LEN + 1);
    assert_eq!(changed(&stage), Some(Change::Length { expected, received }));
}

/// N12: a local file that may not be read is forbidden, and one that is not there is not found.
#[cfg(unix)]
#[test]
fn n12_local_files_answer_the_same_questions() {
    let dir = tempfile::tempdir().unwrap();
    let missing = FileError::Local {
        path: dir.path().into(),
        source: std::io::Error::from(std::io::ErrorKind::NotFound).into(),
    };
    assert!(missing.is_not_found() && !missing.is_forbidden() && !missing.is_gone());
    let refused = FileError::Local {
        path: dir.path().into(),
        source: std::io::Error::from(std::io::ErrorKind::PermissionDenied).into(),
    };
    assert!(refused.is_forbidden() && !refused.is_not_found() && !refused.is_transient());
}

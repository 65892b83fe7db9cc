//! Every row of table D against a sequential reader, one that jumps about, and a stream: never a wrong byte, never a
//! false end, a typed error or the whole file, and no more requests than it takes.
//!
//! D11 (relative URLs) is the playlist's: a file has no references. Its redirect is here all the same.

use std::io::{self, Read, Seek, SeekFrom};

use futures_lite::StreamExt;
use futures_lite::future::block_on;
use kithara::file::{FileError, FileParams, FileSource, OpenMode};
use kithara::net::NetError;
use kithara::stream::{Stream, StreamParams};
use kithara_test_support::{Content, Ended, Pattern, Rule};

use crate::*;

const LEN: u64 = 4 * MIB;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Consumer {
    Sequential,
    Random,
    Stream,
}

pub const CONSUMERS: [Consumer; 3] = [Consumer::Sequential, Consumer::Random, Consumer::Stream];

fn cause(error: &io::Error) -> FileError {
    FileError::of(error)
        .unwrap_or_else(|| panic!("{error:?}"))
        .clone()
}

/// Reads the file to its end, or to the error.
fn consume(consumer: Consumer, source: FileSource, len: u64) -> Result<(), FileError> {
    consume_in(consumer, source, len, OpenMode::Online)
}

pub fn consume_in(consumer: Consumer, source: FileSource, len: u64, mode: OpenMode) -> Result<(), FileError> {
    match consumer {
        Consumer::Sequential => {
            let mut reader = block_on(source.open_reader(mode))?;
            let (mut buffer, mut at) = (vec![0; 50_000], 0);
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        assert_eq!(
                            pattern().first_difference(at, &buffer[..count]),
                            None,
                            "after {at}"
                        );
                        at += count as u64;
                    }
                    Err(error) => return Err(cause(&error)),
                }
            }
            assert_eq!(at, len, "a false end");
        }
        Consumer::Random => {
            let mut reader = block_on(source.open_reader(mode))?;
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            let mut next = |below: u64| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (state >> 33) % below
            };
            for _ in 0..40 {
                let at = next(len);
                let want = next(100_000).min(len - at);
                let mut bytes = vec![0; usize::try_from(want).unwrap()];
                reader.seek(SeekFrom::Start(at)).unwrap();
                reader.read_exact(&mut bytes).map_err(|error| cause(&error))?;
                assert_eq!(pattern().first_difference(at, &bytes), None, "at {at}");
            }
            reader.seek(SeekFrom::Start(len)).unwrap();
            assert_eq!(reader.read(&mut [0; 10]).map_err(|error| cause(&error))?, 0);
        }
        Consumer::Stream => block_on(async {
            let params = StreamParams::default().offline_mode(mode == OpenMode::Offline);
            let mut stream = Stream::new(source, params);
            let mut at = 0;
            while let Some(item) = stream.next().await {
                let bytes = item.map_err(|error| error.source_error().unwrap().clone())?;
                assert_eq!(pattern().first_difference(at, &bytes), None, "after {at}");
                at += bytes.len() as u64;
            }
            assert_eq!(at, len, "a false end");
            Ok::<_, FileError>(())
        })?,
    }
    Ok(())
}

/// Few tries. Silence is short only in the rows that are about it: elsewhere a busy machine would make some.
fn impatient(id: &str) -> HttpClientBuilder {
    let silent = ["D6", "D14", "B12"].iter().any(|row| id.starts_with(row));
    let silence = Duration::from_millis(if silent { 150 } else { 10_000 });
    builder().head_timeout(silence).idle_timeout(silence).retry(
        RetryPolicy::default()
            .max_attempts(3)
            .base_delay(Duration::from_millis(2)),
    )
}

/// A stage with one rule.
fn ruled(rule: Rule) -> impl Fn(&Stage) {
    move |stage| {
        stage.server.rule("/a.bin", rule.clone());
    }
}

/// Runs one row with each consumer on a stage of its own and hands its outcome on.
#[track_caller]
fn row(
    id: &str,
    most_requests: usize,
    set_up: impl Fn(&Stage),
    judge: impl Fn(Consumer, Result<(), FileError>),
) {
    for consumer in CONSUMERS {
        let stage = Stage::new(LEN);
        set_up(&stage);
        let params = FileParams::new(impatient(id).build().unwrap(), stage.cache.clone());
        let outcome = consume(consumer, FileSource::new(stage.url(), params), LEN);
        judge(consumer, outcome);
        // D12: few connections, and none left behind in the middle of a response.
        stage
            .server
            .wait_until(|log| log.requests.iter().all(|request| request.ended != Ended::Not));
        let requests = stage.requests();
        assert!(
            requests <= most_requests,
            "{id} {consumer:?}: {requests} requests"
        );
        assert!(stage.server.connections() <= most_requests + 2);
    }
}

fn plays(id: &'static str) -> impl Fn(Consumer, Result<(), FileError>) {
    move |consumer, outcome| {
        if let Err(error) = outcome {
            panic!("{id} {consumer:?}: {error:?}");
        }
    }
}

fn fails(
    id: &'static str,
    as_expected: impl Fn(&FileError) -> bool,
) -> impl Fn(Consumer, Result<(), FileError>) {
    move |consumer, outcome| match outcome {
        Ok(()) => panic!("{id} {consumer:?} plays"),
        Err(error) => assert!(as_expected(&error), "{id} {consumer:?}: {error:?}"),
    }
}

fn net(error: &FileError) -> &NetError {
    match error {
        FileError::Net { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn d1_a_reset_on_the_way_is_resumed() {
    row(
        "D1",
        60,
        ruled(Rule::new().first(1).reset_after(MIB)),
        plays("D1"),
    );
    // Nothing to prove the rest with but the length.
    let set_up = |stage: &Stage| {
        stage.server.rule(
            "/a.bin",
            Rule::new().first(1).without_validators().truncate_after(MIB),
        );
        stage.server.rule("/a.bin", Rule::new().without_validators());
    };
    row(
        "D1 without validators",
        60,
        set_up,
        plays("D1 without validators"),
    );
}

#[test]
fn d2_a_server_without_ranges_plays() {
    row("D2", 3, ruled(Rule::new().ignore_range()), plays("D2"));
    // Only the first answer is a range.
    let set_up = |stage: &Stage| {
        stage.server.rule("/a.bin", Rule::new().skip(1).ignore_range());
    };
    row(
        "D2 from the second on",
        10,
        set_up,
        plays("D2 from the second on"),
    );
}

#[test]
fn d3_an_error_page_is_no_audio() {
    let set_up = |stage: &Stage| {
        stage.server.rule("/a.bin", Rule::new().first(1).reset_after(MIB));
        stage
            .server
            .rule("/a.bin", Rule::new().first(1).answer(503, "<html>busy</html>"));
    };
    row("D3", 60, set_up, plays("D3"));
    let set_up = |stage: &Stage| {
        stage
            .server
            .rule("/a.bin", Rule::new().first(1).truncate_after(MIB));
        stage
            .server
            .rule("/a.bin", Rule::new().answer(503, "<html>busy</html>"));
    };
    row(
        "D3 for good",
        10,
        set_up,
        fails("D3 for good", |error| net(error).status() == Some(503)),
    );
}

#[test]
fn d4_two_versions_are_never_mixed() {
    let set_up = |stage: &Stage| {
        stage
            .server
            .rule("/a.bin", Rule::new().first(1).truncate_after(MIB));
        let other = Content::pattern(&Pattern::new(99), LEN);
        stage.server.rule("/a.bin", Rule::new().content(other));
    };
    row("D4", 10, set_up, fails("D4", FileError::is_changed));
    // With a date or a weak tag, which prove nothing and still contradict.
    let set_up = |stage: &Stage| {
        let weak = |tag: &str| Rule::new().without_header("Last-Modified").header("ETag", tag);
        stage
            .server
            .rule("/a.bin", weak("W/\"one\"").first(1).truncate_after(MIB));
        let other = Content::pattern(&Pattern::new(99), LEN);
        stage.server.rule("/a.bin", weak("W/\"two\"").content(other));
    };
    row("D4 weak", 10, set_up, fails("D4 weak", FileError::is_changed));
    let set_up = |stage: &Stage| {
        stage.server.rule(
            "/a.bin",
            Rule::new().first(1).without_validators().truncate_after(MIB),
        );
        let other = Content::pattern(&Pattern::new(99), LEN + 1);
        stage
            .server
            .rule("/a.bin", Rule::new().without_validators().content(other));
    };
    row("D4 length", 10, set_up, fails("D4 length", FileError::is_changed));
}

#[test]
fn d5_a_server_that_resets_every_range_is_not_stormed() {
    for without in [false, true] {
        let set_up = |stage: &Stage| {
            let rule = |rule: Rule| if without { rule.without_validators() } else { rule };
            stage
                .server
                .rule("/a.bin", rule(Rule::new().first(1).truncate_after(MIB)));
            stage.server.rule("/a.bin", rule(Rule::new().truncate_after(0)));
        };
        row("D5", 30, set_up, fails("D5", FileError::is_transient));
    }
}

#[test]
fn d6_a_server_that_never_answers_is_given_up() {
    let set_up = ruled(Rule::new().never_answer());
    row(
        "D6",
        3,
        set_up,
        fails("D6", |error| matches!(net(error), NetError::Timeout { .. })),
    );
}

#[test]
fn d7_416_at_the_end_is_the_end() {
    for consumer in CONSUMERS {
        let stage = Stage::new(LEN);
        let range = format!("bytes 0-{}/*", LEN - 1);
        stage
            .server
            .rule("/a.bin", Rule::new().first(1).content_range(range));
        consume(consumer, stage.source(), LEN).unwrap();
        if consumer != Consumer::Random {
            // The client may know the answer before it is written down.
            stage
                .server
                .wait_until(|log| log.requests.last().is_some_and(|last| last.status == Some(416)));
        }
    }
}

#[test]
fn d8_a_wrong_range_is_refused() {
    for wrong in [
        "bytes 9-3/10",
        "bytes 5-4194303/4194304",
        "bytes 0-1/2",
        "nonsense",
    ] {
        let set_up = ruled(Rule::new().content_range(wrong));
        row(
            "D8",
            3,
            set_up,
            fails("D8", |error| matches!(net(error), NetError::RangeMismatch { .. })),
        );
    }
}

#[test]
fn d9_an_outage_is_sat_out() {
    for consumer in CONSUMERS {
        let stage = Stage::new(LEN);
        stage.server.rule("/a.bin", Rule::new().first(1).reset_after(MIB));
        stage.server.rule("/a.bin", Rule::new().first(6).close());
        let retry = RetryPolicy::default()
            .max_attempts(10)
            .base_delay(Duration::from_millis(20))
            .max_delay(Duration::from_millis(500));
        let client = HttpClient::builder().retry(retry).build().unwrap();
        let params = FileParams::new(client, stage.cache.clone());
        consume(consumer, FileSource::new(stage.url(), params), LEN).unwrap();
    }
}

/// The real thing: the server is away for two seconds, and the client has the settings that it comes with.
#[test]
fn d9_two_seconds_without_a_server_are_sat_out() {
    const AWAY: Duration = Duration::from_secs(2);
    std::thread::scope(|scope| {
        for consumer in CONSUMERS {
            for validators in [true, false] {
                scope.spawn(move || {
                    let stage = Stage::new(LEN);
                    let gate = stage.server.gate();
                    let rule = |rule: Rule| {
                        if validators {
                            rule
                        } else {
                            rule.without_validators()
                        }
                    };
                    let first = rule(Rule::new().first(1).gate_after(MIB, &gate));
                    stage.server.rule("/a.bin", first);
                    stage.server.rule("/a.bin", rule(Rule::new()));
                    let params = FileParams::new(HttpClient::new().unwrap(), stage.cache.clone());
                    let source = FileSource::new(stage.url(), params);
                    let start = std::time::Instant::now();
                    std::thread::scope(|scope| {
                        let playing = scope.spawn(|| consume(consumer, source, LEN));
                        gate.wait_arrived(1);
                        stage.server.outage(AWAY);
                        playing.join().unwrap().unwrap();
                    });
                    assert!(start.elapsed() >= AWAY, "{consumer:?}");
                });
            }
        }
    });
}

#[test]
fn d10_gzipped_media_is_refused() {
    let set_up = |stage: &Stage| {
        stage
            .server
            .rule("/a.bin", Rule::new().header("Content-Encoding", "gzip"));
    };
    row(
        "D10",
        3,
        set_up,
        fails("D10", |error| {
            matches!(net(error), NetError::UnexpectedEncoding { .. })
        }),
    );
}

#[test]
fn d11_redirects_are_followed_by_each_request() {
    let set_up = |stage: &Stage| {
        stage.server.serve("/b.bin", Content::pattern(pattern(), LEN));
        stage.server.rule("/a.bin", Rule::new().redirect(302, "/b.bin"));
    };
    row("D11", 120, set_up, plays("D11"));
}

#[test]
fn d13_a_retry_is_a_fresh_request_for_the_same_bytes() {
    let stage = Stage::new(LEN);
    stage.server.rule("/a.bin", Rule::new().first(2).answer(503, ""));
    consume(Consumer::Sequential, stage.source(), LEN).unwrap();
    let requests = stage.server.requests();
    assert_eq!(requests.len(), 3);
    assert!(
        requests
            .iter()
            .all(|request| request.header("range") == Some("bytes=0-"))
    );
}

#[test]
fn d14_silence_after_the_head_is_not_waited_for() {
    let set_up = ruled(Rule::new().first(1).stall_after(1000));
    row("D14", 60, set_up, plays("D14"));
    let set_up = ruled(Rule::new().stall_after(0));
    row(
        "D14 for good",
        10,
        set_up,
        fails("D14", |error| matches!(net(error), NetError::Timeout { .. })),
    );
}

/// B6, B7, fault C22: a length that was not announced is known at the proven end, and the file is kept; a close proves
/// nothing.
#[test]
fn b6_an_unknown_length_ends_where_it_is_proven() {
    let chunked = ruled(Rule::new().ignore_range().chunked());
    row("chunked", 3, chunked, plays("chunked"));
    let closed = ruled(Rule::new().ignore_range().no_length());
    row("closed", 3, &closed, |consumer, outcome| match outcome {
        Err(FileError::EndUnproven { position, .. }) => assert_eq!(position, LEN),
        other => panic!("{consumer:?}: {other:?}"),
    });
    for consumer in CONSUMERS {
        let stage = Stage::new(LEN);
        closed(&stage);
        let params = stage.params().accept_unproven_end(true).window_bytes(2 * LEN);
        consume(consumer, FileSource::new(stage.url(), params), LEN).unwrap();
    }
}

/// R5, fault B12: an announced length allocates nothing.
#[test]
fn b12_an_absurd_length_is_an_error_and_costs_nothing() {
    let set_up = |stage: &Stage| {
        stage.server.rule(
            "/a.bin",
            Rule::new().ignore_range().content_length(1_000_000_000_000_000),
        );
    };
    row("B12", 10, set_up, |consumer, outcome| {
        assert!(outcome.is_err(), "{consumer:?}");
    });
}

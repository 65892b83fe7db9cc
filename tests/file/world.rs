//! What servers and networks do, row by row, against each consumer: online, after a restart, and offline. The rows of table
//! W that end well; those that end with an error have tests of their own.

use futures_lite::future::block_on;
use kithara::file::{FileParams, FileParts, FileSource, OpenMode, SameFile};
use kithara_test_support::{Content, Rule};

use crate::matrix::{CONSUMERS, consume_in};
use crate::*;

const LEN: u64 = 4 * MIB;

type Row = (&'static str, fn(&Stage), fn(FileParams) -> FileParams);

fn as_it_is(params: FileParams) -> FileParams {
    params
}

/// Faults W3, W21, W22, W54, W55, W56, W67, W68.
const ROWS: [Row; 10] = [
    (
        "W3: media called text",
        |stage| {
            stage
                .server
                .rule("/a.bin", Rule::new().header("Content-Type", "text/plain"));
        },
        as_it_is,
    ),
    (
        "W21: a chain of redirects, whose end moves on the way",
        |stage| {
            stage.server.serve("/one", Content::pattern(pattern(), LEN));
            stage.server.serve("/two", Content::pattern(pattern(), LEN));
            stage.server.rule("/a.bin", Rule::new().redirect(302, "/b"));
            stage
                .server
                .rule("/b", Rule::new().first(1).redirect(307, "/one"));
            stage.server.rule("/b", Rule::new().redirect(301, "/two"));
            stage
                .server
                .rule("/one", Rule::new().first(1).truncate_after(MIB));
            stage.server.rule("/one", Rule::new().answer(410, ""));
        },
        as_it_is,
    ),
    (
        "W22: a tag for each machine",
        |stage| {
            for node in 0..40 {
                let rule = Rule::new().first(1).header("ETag", format!("\"{node}\""));
                stage.server.rule("/a.bin", rule);
            }
        },
        |params| params.same_file(SameFile::by_length()),
    ),
    (
        "W54: breaks without ranges",
        |stage| {
            for at in [MIB, 2 * MIB] {
                let rule = Rule::new().ignore_range().first(1).reset_after(at);
                stage.server.rule("/a.bin", rule);
            }
            stage.server.rule("/a.bin", Rule::new().ignore_range());
        },
        as_it_is,
    ),
    (
        "W55: an outage that the reader sits out",
        |stage| {
            stage.server.rule("/a.bin", Rule::new().first(1).reset_after(MIB));
            stage.server.rule("/a.bin", Rule::new().first(12).close());
        },
        |params| params.outage_limit(Duration::MAX),
    ),
    (
        "W55: a login page on the way",
        |stage| {
            stage.server.rule("/a.bin", Rule::new().first(1).reset_after(MIB));
            let page = Rule::new().answer(200, "<!DOCTYPE html><html></html>");
            stage
                .server
                .rule("/a.bin", page.header("Content-Type", "text/html").first(5));
        },
        |params| params.outage_limit(Duration::MAX),
    ),
    (
        "W55: refused for a while",
        |stage| {
            stage.server.rule("/a.bin", Rule::new().first(1).reset_after(MIB));
            stage
                .server
                .rule("/a.bin", Rule::new().first(12).answer(503, "busy"));
        },
        |params| params.outage_limit(Duration::MAX),
    ),
    (
        "W56: one tag and many dates",
        |stage| {
            for day in 1..29 {
                let date = format!("Sun, {day:02} Nov 2020 08:49:37 GMT");
                let rule = Rule::new()
                    .header("ETag", "\"one\"")
                    .header("Last-Modified", date);
                stage.server.rule("/a.bin", rule.first(1));
            }
            stage.server.rule("/a.bin", Rule::new().header("ETag", "\"one\""));
        },
        as_it_is,
    ),
    (
        "W67: not to be stored, says a server that is not heard",
        |stage| {
            stage
                .server
                .rule("/a.bin", Rule::new().header("Cache-Control", "no-store"));
        },
        as_it_is,
    ),
    (
        "W68: a length and no ranges",
        |stage| {
            stage.server.rule("/a.bin", Rule::new().ignore_range());
        },
        as_it_is,
    ),
];

#[test]
fn each_row_plays_online_after_a_restart_and_offline() {
    for (row, set_up, with) in ROWS {
        for consumer in CONSUMERS {
            let mut stage = Stage::new(LEN);
            set_up(&stage);
            let source = |stage: &Stage| FileSource::new(stage.url(), with(stage.params()));
            let play = |stage: &Stage, mode| {
                if let Err(error) = consume_in(consumer, source(stage), LEN, mode) {
                    panic!("{row}, {consumer:?}, {mode:?}: {error:?}");
                }
            };
            play(&stage, OpenMode::Online);
            stage.restart();
            play(&stage, OpenMode::Online);
            let FileParts { driver, reader, .. } =
                block_on(source(&stage).open_parts(OpenMode::Online)).unwrap();
            block_on(driver);
            drop(reader);
            stage.restart();
            let requests = stage.requests();
            play(&stage, OpenMode::Offline);
            assert_eq!(stage.requests(), requests, "{row}, {consumer:?}");
        }
    }
}

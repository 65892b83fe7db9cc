//! What servers and networks do, row by row, against each consumer: without a cache, with one, after a restart, and offline.
//! The rows of table W that files and the client can meet and that end well; those that end with an error stand in
//! `world_errors`. Rows that are no server's doing (a kill, a drop, threads, an app's setting) have tests of their own.

use futures_lite::future::block_on;
use kithara::file::{FileParams, FileSource, OpenMode, SameFile};
use kithara_test_support::{Content, Rule};

use crate::matrix::{CONSUMERS, Consumer, consume_in};
use crate::*;

pub const LEN: u64 = 4 * MIB;

/// What a server or a network does.
#[derive(Clone, Copy)]
pub struct Row {
    pub what: &'static str,
    set_up: fn(&Stage),
    client: fn(HttpClientBuilder) -> HttpClientBuilder,
    with: fn(FileParams) -> FileParams,
    url: fn(&Stage) -> Url,
}

impl Row {
    pub const fn new(what: &'static str, set_up: fn(&Stage)) -> Self {
        Self {
            what,
            set_up,
            client: |builder| builder,
            with: |params| params,
            url: Stage::url,
        }
    }

    const fn client(mut self, client: fn(HttpClientBuilder) -> HttpClientBuilder) -> Self {
        self.client = client;
        self
    }

    pub const fn with(mut self, with: fn(FileParams) -> FileParams) -> Self {
        self.with = with;
        self
    }

    pub const fn url(mut self, url: fn(&Stage) -> Url) -> Self {
        self.url = url;
        self
    }

    pub fn stage(&self) -> Stage {
        let stage = Stage::new(LEN);
        (self.set_up)(&stage);
        stage
    }

    pub fn source(&self, stage: &Stage, is_cached: bool) -> FileSource {
        let client = (self.client)(builder()).build().unwrap();
        let params = if is_cached {
            FileParams::new(client, stage.cache.clone())
        } else {
            FileParams::uncached(client)
        };
        FileSource::new((self.url)(stage), (self.with)(params))
    }
}

fn rule(stage: &Stage, rule: Rule) {
    stage.server.rule("/a.bin", rule);
}

/// The first answer breaks off, so that the row meets a file on its way.
pub fn broken_then(stage: &Stage, then: Rule) {
    rule(stage, Rule::new().first(1).reset_after(MIB));
    rule(stage, then);
}

fn patient(params: FileParams) -> FileParams {
    params.outage_limit(Duration::MAX)
}

/// Faults W1–W3, W9, W10, W14–W16, W20–W22, W24, W44, W54–W56, W64, W67, W68.
pub const ROWS: [Row; 27] = [
    Row::new(
        "W1: a login page answers whether the file is still the same",
        |stage| {
            let page = Rule::new().answer(200, "<!DOCTYPE html><html></html>");
            let page = page.header("Content-Type", "text/html");
            // The first request of all is the file's. The question has a range of one byte from the first.
            rule(stage, page.range_start(0).skip(1));
        },
    )
    .with(|params| params.revalidate(true)),
    Row::new("W1: a redirect to a login page on the way", |stage| {
        let page = Rule::new().answer(200, "<!DOCTYPE html><html></html>");
        stage.server.rule("/login", page);
        broken_then(stage, Rule::new().first(4).redirect(302, "/login"));
    })
    .with(patient),
    Row::new("W2: answers that stand for no file, on the way", |stage| {
        rule(stage, Rule::new().first(1).reset_after(MIB));
        for status in [202, 203, 204, 205, 207] {
            rule(stage, Rule::new().first(1).answer(status, ""));
        }
    })
    .with(patient),
    Row::new("W2: an empty body on the way", |stage| {
        broken_then(stage, Rule::new().first(3).answer(200, ""));
    })
    .with(patient),
    Row::new("W3: media called text", |stage| {
        rule(stage, Rule::new().header("Content-Type", "text/plain"));
    }),
    Row::new("W3: JSON on the way", |stage| {
        let error = Rule::new().first(3).answer(200, r#"{"error":"quota"}"#);
        broken_then(stage, error.header("Content-Type", "application/json"));
    })
    .with(patient),
    Row::new("W9: kept connections that have died", |stage| {
        rule(stage, Rule::new().first(4).reused().never_answer());
    })
    .client(|builder| builder.kept_head_timeout(Duration::from_millis(100))),
    Row::new("W14: parts shorter than asked", |stage| {
        rule(stage, Rule::new().max_part(700_000));
    }),
    Row::new("W14: parts in whole blocks", |stage| {
        rule(stage, Rule::new().whole_blocks(65_536).max_part(655_360));
    }),
    Row::new("W15: a range from the first byte is refused", |stage| {
        rule(stage, Rule::new().range_from(0).first(1).answer(416, ""));
        rule(stage, Rule::new().ignore_range());
    }),
    Row::new("W15: 403 to every range", |stage| {
        rule(stage, Rule::new().range_from(0).answer(403, ""));
        rule(stage, Rule::new().ignore_range());
    }),
    Row::new("W16: an account in the URL, and an absolute redirect", |stage| {
        let to = stage.server.url("/a.bin");
        stage.server.rule("/feed", Rule::new().redirect(302, to));
    })
    .url(|stage| {
        let mut url = Url::parse(&stage.server.url("/feed")).unwrap();
        url.set_username("user").unwrap();
        url.set_password(Some("secret")).unwrap();
        url
    }),
    Row::new("W20: a cookie, set by a redirect to itself", |stage| {
        let first = Rule::new().first(1).redirect(302, "/a.bin");
        rule(stage, first.header("Set-Cookie", "session=1"));
    }),
    Row::new("W21: a chain of redirects, whose end moves on the way", |stage| {
        stage.server.serve("/one", Content::pattern(pattern(), LEN));
        stage.server.serve("/two", Content::pattern(pattern(), LEN));
        rule(stage, Rule::new().redirect(302, "/b"));
        let moves = Rule::new().first(1).redirect(307, "/one");
        stage.server.rule("/b", moves);
        stage.server.rule("/b", Rule::new().redirect(301, "/two"));
        let breaks = Rule::new().first(1).truncate_after(MIB);
        stage.server.rule("/one", breaks);
        stage.server.rule("/one", Rule::new().answer(410, ""));
    }),
    Row::new("W22: a tag for each machine", |stage| {
        for node in 0..40 {
            let tag = format!("\"{node}\"");
            rule(stage, Rule::new().first(1).header("ETag", tag));
        }
    })
    .with(|params| params.same_file(SameFile::by_length())),
    Row::new("W24: codings that are none", |stage| {
        for coding in ["none", "binary", "utf-8", "aws-chunked", "identity"] {
            rule(stage, Rule::new().first(1).header("Content-Encoding", coding));
        }
    }),
    Row::new("W44: a trickle, given up for another connection", |stage| {
        rule(stage, Rule::new().first(1).trickle(2_000));
    })
    .client(|builder| builder.least_speed(20_000, Duration::from_millis(300))),
    Row::new("W54: breaks without ranges", |stage| {
        for at in [MIB, 2 * MIB] {
            rule(stage, Rule::new().ignore_range().first(1).reset_after(at));
        }
        rule(stage, Rule::new().ignore_range());
    }),
    Row::new("W54: breaks without ranges, and a weak tag", |stage| {
        let weak = || Rule::new().ignore_range().header("ETag", "W/\"weak\"");
        rule(stage, weak().first(1).truncate_after(MIB));
        rule(stage, weak());
    }),
    Row::new("W55: an outage that the reader sits out", |stage| {
        broken_then(stage, Rule::new().first(12).close());
    })
    .with(patient),
    Row::new("W55: a login page on the way", |stage| {
        let page = Rule::new().answer(200, "<!DOCTYPE html><html></html>");
        broken_then(stage, page.header("Content-Type", "text/html").first(5));
    })
    .with(patient),
    Row::new("W55: refused for a while", |stage| {
        broken_then(stage, Rule::new().first(12).answer(503, "busy"));
    })
    .with(patient),
    Row::new("W56: one tag and many dates", |stage| {
        for day in 1..29 {
            let date = format!("Sun, {day:02} Nov 2020 08:49:37 GMT");
            let mirror = Rule::new().header("ETag", "\"one\"");
            rule(stage, mirror.header("Last-Modified", date).first(1));
        }
        rule(stage, Rule::new().header("ETag", "\"one\""));
    }),
    Row::new("W64: no answer tells the length", |stage| {
        rule(stage, Rule::new().max_part(700_000).hide_total());
    }),
    Row::new(
        "W67: not to be stored, says a server that is not heard",
        |stage| {
            rule(stage, Rule::new().header("Cache-Control", "no-store"));
        },
    ),
    Row::new("W68: a length and no ranges", |stage| {
        rule(stage, Rule::new().ignore_range());
    }),
    Row::new("W68: ranges denied in words, and served", |stage| {
        rule(stage, Rule::new().header("Accept-Ranges", "none"));
    }),
];

#[track_caller]
fn play(row: &Row, consumer: Consumer, source: FileSource, mode: OpenMode) {
    if let Err(error) = consume_in(consumer, source, LEN, mode) {
        panic!("{}, {consumer:?}, {mode:?}: {error:?}", row.what);
    }
}

#[test]
fn each_row_plays_without_a_cache() {
    for row in &ROWS {
        for consumer in CONSUMERS {
            let stage = row.stage();
            play(row, consumer, row.source(&stage, false), OpenMode::Online);
        }
    }
}

#[test]
fn each_row_plays_online_after_a_restart_and_offline() {
    for row in &ROWS {
        for consumer in CONSUMERS {
            let mut stage = row.stage();
            play(row, consumer, row.source(&stage, true), OpenMode::Online);
            stage.restart();
            play(row, consumer, row.source(&stage, true), OpenMode::Online);
            let source = row.source(&stage, true);
            // To the end of the driver: what is whole then is kept.
            let mut parts = block_on(source.open_parts(OpenMode::Online)).unwrap();
            let driving = std::thread::spawn(move || block_on(parts.driver));
            assert_rest(&mut parts.reader, 0, LEN);
            driving.join().unwrap();
            drop((parts.reader, source));
            stage.restart();
            let requests = stage.requests();
            play(row, consumer, row.source(&stage, true), OpenMode::Offline);
            assert_eq!(stage.requests(), requests, "{}, {consumer:?}", row.what);
        }
    }
}

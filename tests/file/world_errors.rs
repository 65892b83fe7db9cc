//! What servers do that ends with an error, row by row, against each consumer: with a cache, and without. The cause is typed,
//! no byte is wrong, no end false, nothing of it is kept, and no secret is told.

use kithara::file::{FileError, OpenMode};
use kithara::net::NetError;
use kithara_test_support::{Content, Pattern, Rule};

use crate::matrix::{CONSUMERS, consume_in};
use crate::world::{LEN, Row, broken_then};
use crate::*;

fn net(error: &FileError) -> Option<&NetError> {
    match error {
        FileError::Net { source } => Some(source),
        _ => None,
    }
}

/// Its URL has a secret.
const fn secret(what: &'static str, set_up: fn(&Stage)) -> Row {
    Row::new(what, set_up).url(with_token)
}

fn answers(stage: &Stage, rule: Rule) {
    stage.server.rule("/a.bin", rule);
}

/// Whether an error is the one that the row ends with.
pub type IsRight = fn(&FileError) -> bool;

/// Faults W1–W3, W13, W18, W40, W42, W53, W60, W62, W64, W69.
pub const ROWS: [(Row, IsRight); 19] = [
    (
        secret("W1: a login page", |stage| {
            answers(stage, Rule::new().answer(200, "<!DOCTYPE html><html></html>"));
        }),
        |error| error.not_media().is_some(),
    ),
    (
        secret("W1: a redirect to a login page", |stage| {
            let page = Rule::new().answer(200, "<!DOCTYPE html><html></html>");
            stage.server.rule("/login", page);
            answers(stage, Rule::new().redirect(302, "/login?secret"));
        }),
        |error| error.not_media().is_some(),
    ),
    (
        secret("W2: 202", |stage| answers(stage, Rule::new().answer(202, "soon"))),
        |error| error.not_media().is_some(),
    ),
    (
        secret("W2: 204", |stage| answers(stage, Rule::new().answer(204, ""))),
        |error| error.not_media().is_some(),
    ),
    (
        secret("W2: an empty body", |stage| {
            answers(stage, Rule::new().answer(200, ""));
        }),
        |error| error.not_media().is_some(),
    ),
    (
        secret("W3: JSON", |stage| {
            answers(stage, Rule::new().answer(200, r#"{"error":"quota"}"#));
        }),
        |error| error.not_media().is_some(),
    ),
    (
        secret("W3: a picture", |stage| {
            answers(stage, Rule::new().answer(200, b"GIF89a\x01\x00\x01\x00"));
        }),
        |error| error.not_media().is_some(),
    ),
    (
        secret("W13: a part under status 200", |stage| {
            let lie = Rule::new().content(Content::pattern(&Pattern::new(9), LEN - 1000));
            let range = format!("bytes 1000-{}/{LEN}", LEN - 1);
            answers(stage, lie.ignore_range().content_range(range));
        }),
        |error| matches!(net(error), Some(NetError::RangeMismatch { status: 200, .. })),
    ),
    (
        secret("W18, W40: 403 to a URL with a token", |stage| {
            answers(stage, Rule::new().answer(403, ""));
        }),
        FileError::is_forbidden,
    ),
    (
        secret("W40: 410 on the way", |stage| {
            broken_then(stage, Rule::new().answer(410, ""));
        }),
        FileError::is_gone,
    ),
    (
        secret("W40: a station that hangs up", |stage| {
            let station = Rule::new().no_length().ignore_range();
            answers(stage, station.without_validators());
        }),
        |error| matches!(error, FileError::EndUnproven { .. }) && error.is_transient(),
    ),
    (
        secret("W42: another scheme", |_| {}).url(|_| Url::parse("ftp://secret@host/a.bin?secret").unwrap()),
        |error| matches!(error, FileError::UnsupportedUrl { scheme } if scheme == "ftp"),
    ),
    (
        secret("W53: a coded transfer", |stage| {
            let coded = Rule::new().no_length().ignore_range();
            answers(stage, coded.header("Transfer-Encoding", "gzip"));
        }),
        |error| matches!(net(error), Some(NetError::UnexpectedTransferCoding { .. })),
    ),
    (
        secret("W53: a coding that nobody knows", |stage| {
            let coded = Rule::new().no_length().ignore_range();
            answers(stage, coded.header("Transfer-Encoding", "xchunked"));
        }),
        |error| matches!(net(error), Some(NetError::UnexpectedTransferCoding { .. })),
    ),
    (
        secret("W60: several ranges in one body", |stage| {
            let kind = "multipart/byteranges; boundary=X";
            answers(stage, Rule::new().header("Content-Type", kind));
        }),
        |error| matches!(net(error), Some(NetError::Multipart { .. })),
    ),
    (
        secret("W62: nothing there any more, of a shorter file", |stage| {
            let nothing = Rule::new().answer(416, "");
            broken_then(stage, nothing.content_range(format!("bytes */{}", MIB / 2)));
        }),
        FileError::is_changed,
    ),
    (
        secret("W64: a file that grows under one tag", |stage| {
            let tagged = || Rule::new().header("ETag", "\"growing\"");
            answers(stage, tagged().first(1).reset_after(MIB));
            let longer = Content::pattern(pattern(), LEN + 1000);
            answers(stage, tagged().content(longer));
        }),
        |error| matches!(error, FileError::LengthChanged { now: Some(now), .. } if *now == LEN + 1000),
    ),
    (
        secret("W69: another file on the way", |stage| {
            let other = Content::pattern(&Pattern::new(9), LEN);
            broken_then(stage, Rule::new().content(other));
        }),
        |error| matches!(error, FileError::Changed { change: Some(_), .. }),
    ),
    (
        secret("W22, W69: a tag for each machine", |stage| {
            for node in 0..40 {
                let rule = Rule::new().first(1).header("ETag", format!("\"{node}\""));
                answers(stage, if node == 0 { rule.reset_after(MIB) } else { rule });
            }
        }),
        |error| matches!(error, FileError::UnstableValidators { .. }),
    ),
];

#[test]
fn each_row_ends_with_its_cause() {
    for (row, is_right) in &ROWS {
        for consumer in CONSUMERS {
            for is_cached in [true, false] {
                let stage = row.stage();
                let what = format!("{}, {consumer:?}, cached: {is_cached}", row.what);
                let error = match consume_in(consumer, row.source(&stage, is_cached), LEN, OpenMode::Online) {
                    Ok(()) => panic!("{what} plays"),
                    Err(error) => error,
                };
                assert!(is_right(&error), "{what}: {error:?}");
                let told = format!("{error} {error:?}");
                assert!(!told.contains("secret"), "{what}: {told}");
                let offline = consume_in(consumer, row.source(&stage, true), LEN, OpenMode::Offline);
                let error = offline.expect_err(&what);
                let is_miss = error.is_offline_miss() || matches!(error, FileError::UnsupportedUrl { .. });
                assert!(is_miss, "{what}: {error:?}");
            }
        }
    }
}

/// A URL with a secret.
fn with_token(stage: &Stage) -> Url {
    Url::parse(&stage.server.url("/a.bin?token=secret")).unwrap()
}

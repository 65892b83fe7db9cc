//! N8: what is the file, which part of it, and how a server says so.

use futures_lite::{StreamExt, future};
use kithara::net::{ByteRange, Change, NetError, Request};
use kithara_test_support::{Content, Pattern, Rule, Server};

use crate::raw::{Raw, header};
use crate::{assert_pattern, client, drain, fetch, one_try, pattern, server_with, url};

const LEN: usize = 3 << 20;

fn get(server: &Server) -> Request {
    Request::get(url(server, "/a.bin"))
}

/// N8: a status of success other than 200 and 206 brings no file.
#[test]
fn n8_other_successes_are_no_file() {
    let server = server_with(1000);
    for status in [201, 202, 203, 204, 205, 207, 226, 299] {
        for request in [get(&server), get(&server).range(ByteRange::from_start(0))] {
            let answer = Rule::new()
                .answer(status, "{}")
                .header("content-type", "application/json");
            let rule = server.rule("/a.bin", answer);
            let error = fetch(&client(), request).unwrap_err();
            match &error {
                NetError::Status {
                    status: told,
                    content_type,
                    ..
                } => {
                    assert_eq!(
                        (*told, content_type.as_deref()),
                        (status, Some("application/json"))
                    );
                }
                other => panic!("{other:?}"),
            }
            assert_eq!((rule.hits(), error.is_transient()), (1, false), "{status}");
            rule.remove();
        }
    }
}

/// W13: 200, a `Content-Range`, and only the part.
#[test]
fn w13_a_200_that_names_a_part_is_not_the_whole() {
    let server = server_with(LEN);
    let part = |start: u64, end: u64| {
        let bytes = Content::bytes(pattern().range(start, usize::try_from(end - start).unwrap()));
        Rule::new()
            .content(bytes)
            .ignore_range()
            .content_range(format!("bytes {start}-{}/{LEN}", end - 1))
    };
    let rest = LEN as u64;
    let same = Rule::new().ignore_range();
    for (name, answer) in [
        ("the part that was asked for", part(100_000, rest)),
        ("in chunks", part(100_000, rest).chunked()),
        ("to the close", part(100_000, rest).no_length()),
        ("another part", part(200_000, 300_000)),
        ("the beginning of it", part(0, 200_000)),
        ("the beginning in chunks", part(0, 200_000).chunked()),
        ("another length", same.clone().content_range("bytes 0-99/100")),
        ("an unsatisfied range", same.clone().content_range("bytes */100")),
        (
            "no unit",
            same.clone().content_range(format!("100000-{}/{LEN}", LEN - 1)),
        ),
    ] {
        let answer = server.rule("/a.bin", answer);
        for request in [get(&server), get(&server).range(ByteRange::from_start(100_000))] {
            let error = fetch(&client(), request).unwrap_err();
            assert!(
                matches!(error, NetError::RangeMismatch { status: 200, .. }),
                "{name}: {error}"
            );
        }
        assert_eq!(answer.hits(), 2, "{name}");
        answer.remove();
    }
    // One that says the same as the status contradicts nothing.
    for range in [
        format!("bytes 0-{}/{LEN}", LEN - 1),
        format!("bytes 0-{}/*", LEN - 1),
        format!("bytes */{LEN}"),
    ] {
        for answer in [same.clone(), same.clone().chunked()] {
            let rule = server.rule("/a.bin", answer.content_range(range.clone()));
            let bytes = fetch(&client(), get(&server).range(ByteRange::from_start(100_000))).unwrap();
            assert_eq!(bytes.len(), LEN - 100_000);
            assert_pattern(100_000, &bytes);
            rule.remove();
        }
    }
}

/// W14: proxies cap a range, caches send whole blocks. A part says itself which one it is.
#[test]
fn w14_a_part_is_taken_for_what_it_is_and_the_rest_is_asked_for() {
    let server = server_with(LEN);
    let (cap, block) = (512 * 1024, 64 * 1024);
    for (name, answer, weak) in [
        ("capped", Rule::new().max_part(cap), false),
        ("in blocks", Rule::new().whole_blocks(block), false),
        (
            "in capped blocks",
            Rule::new().whole_blocks(block).max_part(cap),
            false,
        ),
        ("in chunks", Rule::new().max_part(cap).chunked(), false),
        ("without a length", Rule::new().max_part(cap).hide_total(), false),
        (
            "without validators",
            Rule::new().max_part(cap).without_validators(),
            true,
        ),
    ] {
        let rule = server.rule("/a.bin", answer);
        for (start, end) in [
            (0, None),
            (100_000, None),
            (LEN as u64 - 5, None),
            (0, Some(2_000_000)),
            (1_500_000, Some(2_500_000)),
            (65_536, Some(131_072)),
            (2_900_000, Some(9_000_000)),
        ] {
            let range = end.map_or(ByteRange::from_start(start), |end| ByteRange::new(start, end));
            let goal = end.unwrap_or(u64::MAX).min(LEN as u64);
            let log_from = server.requests().len();
            let response = future::block_on(client().send(get(&server).range(range))).unwrap();
            // A length that the server hides is not known before the end.
            if let Some(length) = response.content_length() {
                assert_eq!(length, goal - start, "{name} {range}");
                assert_eq!(response.content_range().unwrap().end(), goal);
            } else {
                assert_eq!(name, "without a length");
            }
            let (bytes, error) = future::block_on(drain(response.into_body()));
            assert!(error.is_none(), "{name} {range}: {error:?}");
            assert_eq!(bytes.len() as u64, goal - start, "{name} {range}");
            assert_pattern(start, &bytes);
            let requests = server.requests();
            for follow in requests.iter().skip(log_from + 1) {
                assert_eq!(follow.header("if-range").is_none(), weak, "{name} {range}");
            }
        }
        rule.remove();
    }
}

/// W14, for what is read whole.
#[test]
fn w14_a_capped_body_is_read_whole() {
    let server = server_with(10_000);
    server.rule("/a.bin", Rule::new().max_part(3000));
    let read = async {
        let response = client()
            .send(get(&server).range(ByteRange::new(1000, 9000)))
            .await?;
        response.bytes(8000).await
    };
    assert_eq!(future::block_on(read).unwrap(), pattern().range(1000, 8000));
    assert_eq!(server.requests().len(), 3);
}

/// W14: a plain request may be answered with a part as well, if it is the first.
#[test]
fn w14_a_206_to_a_plain_request_is_taken_if_it_begins_at_the_beginning() {
    let server = server_with(1000);
    for (start, end, taken) in [(0, 1000, true), (0, 400, true), (100, 1000, false)] {
        let rule = server.rule("/a.bin", Rule::new().without_range().serve_range(start, end));
        match fetch(&client(), get(&server)) {
            Ok(bytes) => assert!(taken && bytes == pattern().range(0, 1000)),
            Err(NetError::RangeMismatch {
                asked: None,
                received,
                ..
            }) => {
                assert_eq!(received.as_deref(), Some("bytes 100-999/1000"));
                assert!(!taken);
            }
            Err(error) => panic!("{error}"),
        }
        rule.remove();
    }
}

/// W14: more than may be skipped in front of what was asked for.
#[test]
fn w14_a_part_that_begins_far_before_is_refused() {
    let server = server_with(LEN);
    server.rule("/a.bin", Rule::new().whole_blocks(1 << 20));
    let error = fetch(&client(), get(&server).range(ByteRange::from_start(1_500_000))).unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("1500000..") && told.contains("206") && told.contains("1048576-"),
        "{told}"
    );
    let near = ByteRange::from_start((1 << 20) + 100_000);
    assert_eq!(
        fetch(&client(), get(&server).range(near)).unwrap().len(),
        LEN - (1 << 20) - 100_000
    );
}

/// W14, fault D4: parts of two files do not become one.
#[test]
fn w14_parts_of_two_files_are_not_joined() {
    let other = |length: usize| Content::bytes(Pattern::new(8).range(0, length));
    for (name, first, second) in [
        ("by their tags", Rule::new(), Rule::new().content(other(LEN))),
        (
            "by their lengths",
            Rule::new().without_validators(),
            Rule::new().content(other(LEN - 1)).without_validators(),
        ),
        (
            "by their weak tags",
            Rule::new()
                .header("etag", "W/\"1\"")
                .without_header("last-modified"),
            Rule::new()
                .content(other(LEN))
                .header("etag", "W/\"2\"")
                .without_header("last-modified"),
        ),
        (
            "by their dates",
            Rule::new().without_header("etag"),
            Rule::new()
                .content(other(LEN))
                .without_header("etag")
                .header("last-modified", "Wed, 01 Jan 2025 00:00:00 GMT"),
        ),
    ] {
        let server = server_with(LEN);
        server.rule("/a.bin", first.first(1).max_part(1 << 20));
        server.rule("/a.bin", second);
        let response = future::block_on(client().send(get(&server).range(ByteRange::from_start(0)))).unwrap();
        let (bytes, error) = future::block_on(drain(response.into_body()));
        assert_eq!(bytes.len(), 1 << 20, "{name}");
        assert_pattern(0, &bytes);
        assert!(
            error.as_ref().is_some_and(NetError::is_changed),
            "{name}: {error:?}"
        );
    }
}

/// W56: two mirrors with one strong tag and dates of their own.
#[test]
fn w56_a_strong_tag_outweighs_the_date() {
    let server = server_with(LEN);
    let mirror = |date: &str| Rule::new().header("last-modified", date).max_part(1 << 20);
    server.rule("/a.bin", mirror("Wed, 01 Jan 2025 00:00:00 GMT").first(1));
    server.rule("/a.bin", mirror("Thu, 02 Jan 2025 00:00:00 GMT"));
    let bytes = fetch(&client(), get(&server).range(ByteRange::from_start(0))).unwrap();
    assert_eq!(bytes, pattern().range(0, LEN));
    server.clear_rules();
    server.rule("/a.bin", Rule::new().first(1).truncate_after(1000));
    server.rule(
        "/a.bin",
        Rule::new().header("last-modified", "Thu, 02 Jan 2025 00:00:00 GMT"),
    );
    assert_eq!(
        fetch(&client(), get(&server)).unwrap(),
        pattern().range(0, LEN),
        "resumed"
    );
}

/// N8: a 416 without a length, just behind all that came.
#[test]
fn n8_a_bare_416_behind_everything_is_the_end() {
    let server = server_with(1000);
    server.rule("/a.bin", Rule::new().hide_total());
    // By itself it says nothing of where the file ends, unless the length is known.
    let behind = || get(&server).range(ByteRange::from_start(1000));
    let error = fetch(&client(), behind()).unwrap_err();
    assert!(
        matches!(
            error,
            NetError::RangeNotSatisfiable {
                start: 1000,
                total: None,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(fetch(&client(), behind().expect_total(1000)).unwrap(), b"");
    let beyond = get(&server).range(ByteRange::from_start(1001)).expect_total(1000);
    let error = fetch(&client(), beyond).unwrap_err();
    assert!(matches!(error, NetError::RangeNotSatisfiable { .. }), "{error}");
}

/// N8: where a body broke off, that the server has nothing from there on proves no end: it may refuse every range, and what
/// it had announced is missing.
#[test]
fn n8_a_bare_416_to_a_resume_is_no_end() {
    let breaks = [
        (
            "the whole, without a length",
            Rule::new().chunked().truncate_after(500),
            true,
        ),
        (
            "all of it came, and no end",
            Rule::new().chunked().truncate_after(1000),
            true,
        ),
        (
            "a part of unknown length",
            Rule::new().hide_total().truncate_after(500),
            false,
        ),
        ("a known length", Rule::new().truncate_after(500), true),
    ];
    for (name, broken, plain) in breaks {
        for range in [None, Some("bytes */500")] {
            let server = server_with(1000);
            server.rule("/a.bin", broken.clone().first(1));
            let refused = match range {
                Some(range) => Rule::new().answer(416, "").header("content-range", range),
                None => Rule::new().answer(416, ""),
            };
            server.rule("/a.bin", refused);
            let request = if plain {
                get(&server)
            } else {
                get(&server).range(ByteRange::from_start(0))
            };
            let outcome = fetch(&client(), request);
            // Without any announcement the server's word on the length is the first one there is.
            let is_told = range.is_some() && name == "the whole, without a length";
            assert_eq!(outcome.is_ok(), is_told, "{name} {range:?}: {outcome:?}");
        }
    }
}

/// W62: a 416 that tells another length.
#[test]
fn w62_a_416_with_another_length_is_a_change() {
    let server = server_with(1000);
    for start in [1000, 1500, 2000] {
        let request = get(&server)
            .range(ByteRange::from_start(start))
            .expect_total(2000);
        let error = fetch(&client(), request).unwrap_err();
        assert!(error.is_changed(), "{error}");
        let change = Change::Length {
            expected: 2000,
            received: 1000,
        };
        assert!(matches!(error, NetError::Changed { change: told, .. } if told == change));
    }
    let response = future::block_on(client().send(get(&server).range(ByteRange::new(0, 1)))).unwrap();
    let validator = response.validator().unwrap();
    server.serve("/a.bin", Content::bytes(Pattern::new(8).range(0, 500)));
    // If-Range does not hold, and this server does not look at it.
    server.rule("/a.bin", Rule::new().answer(416, "").header("etag", "\"other\""));
    let request = get(&server)
        .range(ByteRange::from_start(1000))
        .if_range(validator);
    let error = fetch(&client(), request).unwrap_err();
    assert!(
        matches!(
            error,
            NetError::Changed {
                change: Change::Validator,
                ..
            }
        ),
        "{error}"
    );
}

/// W15: `bytes=0-` refused, and the whole to who asks for no range.
#[test]
fn w15_a_refused_range_from_the_first_byte_is_done_without() {
    let server = server_with(1000);
    for refusal in [
        Rule::new().answer(416, ""),
        Rule::new().answer(416, "").header("content-range", "bytes */*"),
        Rule::new().answer(400, ""),
        Rule::new().answer(403, ""),
        Rule::new().answer(405, ""),
        Rule::new().answer(501, ""),
        Rule::new().serve_range(0, 1000).without_header("content-range"),
    ] {
        let rule = server.rule("/a.bin", refusal.range_from(0));
        let asked = server.requests().len();
        for (range, length) in [(ByteRange::from_start(0), 1000), (ByteRange::new(0, 10), 10)] {
            let bytes = fetch(&client(), get(&server).range(range).optional_range()).unwrap();
            assert_eq!(bytes, pattern().range(0, length));
        }
        assert_eq!((rule.hits(), server.requests().len() - asked), (2, 4));
        assert_eq!(server.requests().last().unwrap().header("range"), None);
        // From elsewhere there is no way around it, and not where the caller needs a part.
        for request in [
            get(&server).range(ByteRange::from_start(1)).optional_range(),
            get(&server).range(ByteRange::from_start(0)),
        ] {
            let before = server.requests().len();
            fetch(&one_try(), request).unwrap_err();
            assert_eq!(server.requests().len() - before, 1);
        }
        rule.remove();
    }
}

/// W15: what refuses both is asked twice, and no other status is asked again.
#[test]
fn w15_one_more_try_at_most() {
    let server = server_with(1000);
    for (status, requests) in [(403, 2), (501, 2), (401, 1), (404, 1), (410, 1), (202, 1)] {
        let rule = server.rule("/a.bin", Rule::new().answer(status, ""));
        let request = get(&server).range(ByteRange::from_start(0)).optional_range();
        let error = fetch(&client(), request).unwrap_err();
        assert_eq!((error.status(), rule.hits()), (Some(status), requests), "{error}");
        rule.remove();
    }
    // A file that changed meanwhile is noticed without a range, too.
    let tag = future::block_on(client().send(get(&server)))
        .unwrap()
        .validator()
        .unwrap();
    server.serve("/a.bin", Content::bytes(Pattern::new(8).range(0, 1000)));
    server.rule("/a.bin", Rule::new().answer(405, "").range_from(0));
    let request = get(&server).range(ByteRange::from_start(0)).optional_range();
    let error = fetch(&client(), request.if_range(tag)).unwrap_err();
    assert!(
        matches!(
            error,
            NetError::Changed {
                change: Change::Whole,
                ..
            }
        ),
        "{error}"
    );
}

/// W53: a coding left in, and a close that proves nothing.
#[test]
fn w53_a_transfer_coding_other_than_chunked_is_an_error() {
    for (codings, told) in [
        ("gzip", "gzip"),
        ("gzip, chunked", "gzip"),
        ("xchunked", "xchunked"),
        ("chunked, identity", "chunked"),
        ("chunked\r\nTransfer-Encoding: deflate", "chunked"),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {codings}\r\n\r\n");
        let server = Raw::always(format!("{head}5\r\nsound\r\n0\r\n\r\n"));
        let error = fetch(&client(), Request::get(server.url())).unwrap_err();
        match &error {
            NetError::UnexpectedTransferCoding { coding, .. } => assert_eq!(coding, told),
            other => panic!("{codings}: {other:?}"),
        }
        assert!(error.to_string().contains(told) && !error.is_transient());
        assert_eq!(server.heads().len(), 1, "it would come again");
    }
}

/// W53: nothing that frames the body.
#[test]
fn w53_identity_and_nothing_leave_the_end_unproven() {
    for codings in ["identity", "", "identity, identity"] {
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {codings}\r\n");
        let server = Raw::always(format!("{head}\r\nsound"));
        future::block_on(async {
            let body = client()
                .send(Request::get(server.url()))
                .await
                .unwrap()
                .into_body();
            assert!(body.ends_with_connection(), "{codings:?}");
            assert_eq!(drain(body).await.0, b"sound");
        });
        // A length beside it is one.
        let server = Raw::always(format!("{head}Content-Length: 10\r\n\r\nsound"));
        let error = fetch(&one_try(), Request::get(server.url())).unwrap_err();
        assert!(
            matches!(
                error,
                NetError::Truncated {
                    received: 5,
                    expected: 10,
                    ..
                }
            ),
            "{error}"
        );
    }
}

/// W60: several ranges in one body.
#[test]
fn w60_multipart_is_no_part() {
    let server = server_with(1000);
    for content_type in [
        "multipart/byteranges; boundary=X",
        "Multipart/ByteRanges;boundary=\"X\"",
        "multipart/x-byteranges; boundary=X",
    ] {
        let part = Rule::new().header("content-type", content_type);
        for answer in [
            part.clone(),
            part.clone().ignore_range(),
            part.without_header("content-range"),
        ] {
            let rule = server.rule("/a.bin", answer);
            let error = fetch(&client(), get(&server).range(ByteRange::new(0, 100))).unwrap_err();
            assert!(matches!(error, NetError::Multipart { .. }), "{error}");
            rule.remove();
        }
    }
}

/// W69: what differs is told.
#[test]
fn w69_each_change_says_what_changed() {
    let server = server_with(1000);
    let first = future::block_on(client().send(get(&server))).unwrap();
    let (tag, total) = (first.validator().unwrap(), first.total_length().unwrap());
    let part = || get(&server).range(ByteRange::new(10, 20));
    let change = |request| match fetch(&client(), request).unwrap_err() {
        NetError::Changed { change, .. } => change,
        other => panic!("{other:?}"),
    };
    server.serve("/a.bin", Content::bytes(Pattern::new(8).range(0, 1001)));
    let length = Change::Length {
        expected: 1000,
        received: 1001,
    };
    assert_eq!(change(part().expect_total(total)), length);
    assert_eq!(change(part().if_range(tag.clone())), Change::Whole);
    server.rule("/a.bin", Rule::new().serve_range(10, 20));
    assert_eq!(change(part().if_range(tag)), Change::Validator);
    // More than was announced is no change.
    let long = Raw::start(|head| {
        assert_eq!(header(head, "range"), Some("bytes=0-9"));
        let head = "HTTP/1.1 206 OK\r\nContent-Range: bytes 0-9/100\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}14\r\n01234567890123456789\r\n0\r\n\r\n").into_bytes()
    });
    let request = Request::get(long.url()).range(ByteRange::new(0, 10));
    let mut body = future::block_on(one_try().send(request)).unwrap().into_body();
    let error = future::block_on(body.next()).unwrap().unwrap_err();
    assert!(matches!(error, NetError::Overlong { end: 10, .. }), "{error}");
}

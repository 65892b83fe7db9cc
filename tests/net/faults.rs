//! Faults D1 to D9: ways in which HTTP went wrong elsewhere. The other ones are in `requests.rs`.

use std::thread;
use std::time::{Duration, Instant};

use futures_lite::{StreamExt, future};
use kithara::net::{ByteRange, HttpClient, NetError, Phase, Request, RetryPolicy};
use kithara_test_support::{Content, Ended, Pattern, Rule, Server};

use crate::{assert_pattern, builder, client, drain, fetch, one_try, pattern, server_with, url};

const MIB: usize = 1 << 20;

/// Fault D1: a reset after 1 of 4 MiB was taken for the end. It is resumed where it stopped.
#[test]
fn d1_a_body_that_breaks_off_is_resumed_where_it_stopped() {
    for fault in [
        Rule::new().reset_after(1 << 20),
        Rule::new().truncate_after(1 << 20),
    ] {
        let server = server_with(4 * MIB);
        let fault = server.rule("/a.bin", fault.first(1));
        let bytes = fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap();
        assert_eq!((bytes.len(), fault.hits()), (4 * MIB, 1));
        assert_pattern(0, &bytes);
        let requests = server.requests();
        assert_eq!(requests.len(), 2);
        let resumed_at = requests[1].range_start().unwrap();
        assert!(0 < resumed_at && resumed_at <= 1 << 20, "{resumed_at}");
        assert!(requests[1].header("if-range").unwrap().starts_with('"'));
    }
}

/// Fault D1: without proof that it would be the same file, or without tries left, it is an error.
#[test]
fn d1_a_body_that_cannot_be_resumed_is_an_error() {
    for (fault, client, ends_short) in [
        (
            Rule::new().reset_after(1 << 20).without_validators(),
            client(),
            false,
        ),
        (
            Rule::new().truncate_after(1 << 20).without_validators(),
            client(),
            true,
        ),
        (Rule::new().reset_after(1 << 20), one_try(), false),
        (Rule::new().truncate_after(1 << 20).chunked(), one_try(), true),
        (
            Rule::new().truncate_after(1 << 20).header("etag", "W/\"weak\""),
            client(),
            true,
        ),
    ] {
        let server = server_with(4 * MIB);
        server.rule("/a.bin", fault);
        future::block_on(async {
            let response = client.send(Request::get(url(&server, "/a.bin"))).await.unwrap();
            let (bytes, error) = drain(response.into_body()).await;
            let error = error.expect("no end before the end");
            assert!(
                matches!(error, NetError::Interrupted { received, .. } if received == bytes.len() as u64),
                "{error}"
            );
            assert!(error.is_transient());
            // A reset may throw away what had arrived; a close does not.
            assert!(if ends_short {
                bytes.len() == MIB
            } else {
                bytes.len() <= MIB
            });
            assert_pattern(0, &bytes);
        });
        assert_eq!(server.requests().len(), 1);
    }
}

/// Fault D1, for what is read whole: nobody has seen a byte, so it may start over without proof.
#[test]
fn d1_a_small_body_read_whole_starts_over() {
    let server = server_with(1000);
    server.rule(
        "/a.bin",
        Rule::new().without_validators().truncate_after(500).first(2),
    );
    server.rule("/a.bin", Rule::new().without_validators());
    let read = |client: HttpClient| {
        future::block_on(async {
            client
                .send(Request::get(url(&server, "/a.bin")))
                .await?
                .bytes(1000)
                .await
        })
    };
    assert_eq!(read(client()).unwrap(), pattern().range(0, 1000));
    assert_eq!(server.requests().len(), 3);
    server.rule("/b.bin", Rule::new());
    let server_gone_for_good = server_with(1000);
    server_gone_for_good.rule("/a.bin", Rule::new().without_validators().truncate_after(500));
    let url = url(&server_gone_for_good, "/a.bin");
    let error =
        future::block_on(async { client().send(Request::get(url)).await?.bytes(1000).await }).unwrap_err();
    assert!(matches!(error, NetError::Interrupted { .. }), "{error}");
    assert_eq!(server_gone_for_good.requests().len(), 6);
}

/// Fault D2: the start of the file was served at the place of a range in its middle.
#[test]
fn d2_a_server_that_ignores_the_range_is_skipped_through_or_refused() {
    let server = server_with(4 * MIB);
    let get = |range| Request::get(url(&server, "/a.bin")).range(range);
    for framing in [Rule::new().ignore_range(), Rule::new().ignore_range().chunked()] {
        let rule = server.rule("/a.bin", framing);
        for (start, end) in [
            (1, Some(2)),
            (200_000, Some(300_000)),
            (256 * 1024, None),
            (5, Some(5_000_000)),
        ] {
            let range = end.map_or(ByteRange::from_start(start), |end| ByteRange::new(start, end));
            let bytes = fetch(&client(), get(range)).unwrap();
            assert_eq!(bytes.len() as u64, end.unwrap_or(u64::MAX).min(4 << 20) - start);
            assert_pattern(start, &bytes);
        }
        let error = fetch(&client(), get(ByteRange::from_start(1 << 20))).unwrap_err();
        assert!(
            matches!(error, NetError::RangeIgnored { start, .. } if start == 1 << 20),
            "{error}"
        );
        rule.remove();
    }
}

/// Fault D2: a range beyond a file that the server sends whole is beyond it still.
#[test]
fn d2_a_range_beyond_a_whole_file_is_not_there() {
    let server = server_with(1000);
    for framing in [Rule::new().ignore_range(), Rule::new().ignore_range().chunked()] {
        let rule = server.rule("/a.bin", framing);
        let get = |start| {
            fetch(
                &client(),
                Request::get(url(&server, "/a.bin")).range(ByteRange::from_start(start)),
            )
        };
        assert!(get(1000).unwrap().is_empty(), "the exact end");
        let error = get(1001).unwrap_err();
        assert!(
            matches!(
                error,
                NetError::RangeNotSatisfiable {
                    start: 1001,
                    total: Some(1000),
                    ..
                }
            ),
            "{error}"
        );
        rule.remove();
    }
}

/// Fault D3: the page of a 503 that met the reconnect became audio.
#[test]
fn d3_the_status_counts_when_resuming_too() {
    let server = server_with(4 * MIB);
    server.rule("/a.bin", Rule::new().reset_after(1 << 20).first(1));
    let busy = server.rule(
        "/a.bin",
        Rule::new().answer(503, "<html>busy</html>".repeat(1000)).first(2),
    );
    let bytes = fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap();
    assert_eq!((bytes.len(), busy.hits()), (4 * MIB, 2));
    assert_pattern(0, &bytes);

    let server = server_with(4 * MIB);
    server.rule("/a.bin", Rule::new().reset_after(1 << 20).first(1));
    server.rule("/a.bin", Rule::new().answer(404, "<html>gone</html>"));
    future::block_on(async {
        let response = client().send(Request::get(url(&server, "/a.bin"))).await.unwrap();
        let (bytes, error) = drain(response.into_body()).await;
        assert!(error.unwrap().is_not_found());
        assert_pattern(0, &bytes);
    });
    assert_eq!(server.requests().len(), 2, "a 404 does not pass by itself");
}

/// Fault D4: two versions of a file were mixed.
#[test]
fn d4_a_file_that_changed_on_the_way_is_an_error() {
    for (length, answer) in [
        (4 * MIB, Rule::new()),
        (2 * MIB, Rule::new()),
        // A server that takes no notice of If-Range, with the new file's tag or with none.
        (2 * MIB, Rule::new().serve_range(1 << 20, 2 << 20)),
        (
            2 * MIB,
            Rule::new().serve_range(1 << 20, 2 << 20).without_validators(),
        ),
        (4 * MIB, Rule::new().ignore_range().without_validators()),
    ] {
        let server = server_with(4 * MIB);
        server.rule("/a.bin", Rule::new().truncate_after(1 << 20).first(1));
        let other = Content::bytes(Pattern::new(8).range(0, length));
        let changed = server.rule("/a.bin", answer.content(other));
        future::block_on(async {
            let response = client().send(Request::get(url(&server, "/a.bin"))).await.unwrap();
            let (bytes, error) = drain(response.into_body()).await;
            let error = error.unwrap();
            assert!(
                error.is_changed() || matches!(error, NetError::RangeMismatch { .. }),
                "{error}"
            );
            assert_eq!(bytes.len(), MIB);
            assert_pattern(0, &bytes);
        });
        assert_eq!(changed.hits(), 1, "no further try");
    }
}

/// Fault D4, for ranges that the caller asks for one by one.
#[test]
fn d4_ranges_of_two_versions_are_told_apart() {
    let server = server_with(1000);
    let client = client();
    future::block_on(async {
        let first = client
            .send(Request::get(url(&server, "/a.bin")).range(ByteRange::new(0, 10)))
            .await
            .unwrap();
        let (validator, total) = (first.validator().unwrap(), first.total_length().unwrap());
        let next = || Request::get(url(&server, "/a.bin")).range(ByteRange::new(10, 20));
        assert_eq!(
            client
                .send(next().if_range(validator.clone()))
                .await
                .unwrap()
                .status(),
            206
        );
        server.serve("/a.bin", Content::bytes(Pattern::new(8).range(0, 1001)));
        let error = client.send(next().if_range(validator)).await.unwrap_err();
        assert!(error.is_changed(), "{error}");
        let error = client.send(next().expect_total(total)).await.unwrap_err();
        assert!(error.is_changed(), "{error}");
    });
}

/// Fault D5: a server that reset every range was asked 25 000 times in five seconds.
#[test]
fn d5_without_progress_the_tries_are_few() {
    for fault in [
        Rule::new().reset(),
        Rule::new().reset_after(0),
        Rule::new().close(),
    ] {
        let server = server_with(MIB);
        server.rule("/a.bin", Rule::new().first(1).truncate_after(1000));
        let fault = server.rule("/a.bin", fault);
        future::block_on(async {
            let response = client().send(Request::get(url(&server, "/a.bin"))).await.unwrap();
            let (bytes, error) = drain(response.into_body()).await;
            assert_eq!(bytes.len(), 1000);
            assert!(error.unwrap().is_transient());
        });
        assert_eq!(fault.hits(), 5, "six failures in a row, the first included");
    }
}

/// Fault D5: what is read again only to be thrown away is no progress.
#[test]
fn d5_skipping_is_no_progress() {
    let server = server_with(MIB);
    server.rule(
        "/a.bin",
        Rule::new().ignore_range().first(1).truncate_after(200_000),
    );
    let fault = server.rule("/a.bin", Rule::new().ignore_range().truncate_after(100_000));
    future::block_on(async {
        let response = client().send(Request::get(url(&server, "/a.bin"))).await.unwrap();
        let (bytes, error) = drain(response.into_body()).await;
        assert_eq!(bytes.len(), 200_000);
        assert!(error.unwrap().is_transient());
    });
    assert_eq!(fault.hits(), 5);
}

/// Fault D5, N3: a little progress each time brings the file in, but never without a wait.
#[test]
fn d5_progress_resets_the_count_and_keeps_the_wait() {
    let server = server_with(20_000);
    server.rule("/a.bin", Rule::new().truncate_after(1000));
    let wait = Duration::from_millis(10);
    let policy = RetryPolicy::default()
        .max_attempts(2)
        .base_delay(wait)
        .jitter(0.0);
    let client = builder().retry(policy).build().unwrap();
    let started = Instant::now();
    let bytes = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap();
    assert_eq!((bytes.len(), server.requests().len()), (20_000, 20));
    assert_pattern(0, &bytes);
    assert!(started.elapsed() >= 19 * wait, "{:?}", started.elapsed());
}

/// Fault D6: a server that never answers was waited for without end.
#[test]
fn d6_a_server_that_never_answers_has_a_limit() {
    let server = server_with(10);
    server.rule("/a.bin", Rule::new().never_answer());
    let limit = Duration::from_millis(30);
    let policy = RetryPolicy::default()
        .base_delay(Duration::from_millis(1))
        .max_attempts(3);
    let client = builder().head_timeout(limit).retry(policy).build().unwrap();
    let error = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap_err();
    assert!(
        matches!(error, NetError::Timeout { phase: Phase::Head, limit: l, .. } if l == limit),
        "{error}"
    );
    // Not every one of them need have been read by the time it was given up.
    server.wait_until(|log| log.connections.len() == 3 && log.open_connections() == 0);
}

/// Fault D6: and dropping the request ended nothing.
#[test]
fn d6_a_dropped_request_is_gone_at_once() {
    let server = server_with(10);
    server.rule("/a.bin", Rule::new().never_answer());
    let client = client();
    let mut request = Box::pin(client.send(Request::get(url(&server, "/a.bin"))));
    future::block_on(async {
        while server.requests().is_empty() {
            assert!(future::poll_once(&mut request).await.is_none());
        }
    });
    drop(request);
    server.wait_until(|log| log.requests[0].ended == Ended::ClientClosed && log.open_connections() == 0);
}

/// Fault D7: what comes after the last byte is nothing, and was taken for a failure.
#[test]
fn d7_a_range_at_the_exact_end_is_empty() {
    let server = server_with(1000);
    let client = client();
    future::block_on(async {
        for range in [ByteRange::from_start(1000), ByteRange::new(1000, 2000)] {
            let response = client
                .send(Request::get(url(&server, "/a.bin")).range(range))
                .await
                .unwrap();
            assert_eq!((response.status(), response.content_length()), (416, Some(0)));
            let at = response.content_range().unwrap();
            assert_eq!((at.start(), at.end(), at.total()), (1000, 1000, Some(1000)));
            assert!(response.into_body().next().await.is_none());
        }
        let error = client
            .send(Request::get(url(&server, "/a.bin")).range(ByteRange::from_start(1001)))
            .await;
        let error = error.unwrap_err();
        assert!(
            matches!(
                error,
                NetError::RangeNotSatisfiable {
                    start: 1001,
                    total: Some(1000),
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(error.status(), Some(416));
    });
}

/// Fault D7: a chunked body that breaks off after its last byte, before its end mark: the resume proves the end.
#[test]
fn d7_a_resume_at_the_exact_end_is_the_end() {
    let server = server_with(1000);
    server.rule("/a.bin", Rule::new().chunked().truncate_after(1000).first(1));
    let bytes = fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap();
    assert_eq!(bytes, pattern().range(0, 1000));
    let statuses: Vec<_> = server.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(200), Some(416)]);
}

/// Fault D8: an inverted or otherwise wrong `Content-Range` was believed.
#[test]
fn d8_a_wrong_content_range_is_an_error() {
    let server = server_with(1000);
    let asked = ByteRange::new(100, 200);
    for lie in [
        Rule::new().content_range("bytes 199-100/1000"),
        Rule::new().content_range("bytes 0-99/1000"),
        Rule::new().content_range("bytes 100-199/150"),
        Rule::new().content_range("bytes 100-198/1000"),
        Rule::new().content_range("bytes 100-200/1000"),
        Rule::new().content_range("nonsense"),
        Rule::new().without_header("content-range"),
        Rule::new().serve_range(0, 100),
        Rule::new().serve_range(200, 300),
    ] {
        let shown = format!("{lie:?}");
        let lie = server.rule("/a.bin", lie);
        let error = fetch(&client(), Request::get(url(&server, "/a.bin")).range(asked)).unwrap_err();
        assert!(
            matches!(error, NetError::RangeMismatch { .. }),
            "{error}: {shown}"
        );
        assert_eq!(lie.hits(), 1, "a lie is not asked for again");
        lie.remove();
    }
}

/// Fault D8: a body that is not as long as its `Content-Range` says.
#[test]
fn d8_a_part_of_another_length_than_it_says_is_an_error() {
    let server = server_with(1000);
    for (announced, body) in [("bytes 100-199/1000", 99_u64), ("bytes 100-199/1000", 101)] {
        let rule = Rule::new()
            .chunked()
            .serve_range(100, 100 + body)
            .content_range(announced);
        let rule = server.rule("/a.bin", rule);
        let asked = Request::get(url(&server, "/a.bin")).range(ByteRange::new(100, 200));
        let error = fetch(&one_try(), asked).unwrap_err();
        assert!(
            matches!(error, NetError::Truncated { .. } | NetError::Overlong { .. }),
            "{error}"
        );
        rule.remove();
    }
}

/// Fault D8: a part that nobody asked for.
#[test]
fn d8_a_part_in_place_of_the_whole_is_an_error() {
    let server = server_with(1000);
    server.rule("/a.bin", Rule::new().serve_range(100, 200));
    let error = fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap_err();
    assert!(matches!(error, NetError::RangeMismatch { .. }), "{error}");
}

/// Fault D9: two seconds without the server ended the track. With the default policy, both in the middle of a body and before.
#[test]
fn d9_an_outage_of_two_seconds_is_sat_out() {
    // A file on disk is there, and the same, from the moment the server is back.
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.bin"), pattern().range(0, 4 * MIB)).unwrap();
    let server = Server::start(root.path()).unwrap();
    let addr = server.addr();
    let gate = server.gate();
    server.rule("/a.bin", Rule::new().gate_after(1 << 20, &gate));
    let client = HttpClient::new().unwrap();
    let (whole, other) = (url(&server, "/a.bin"), url(&server, "/a.bin"));
    let on_the_way = {
        let client = client.clone();
        thread::spawn(move || fetch(&client, Request::get(whole)).unwrap())
    };
    server.wait_until(|log| {
        log.requests
            .first()
            .is_some_and(|request| request.body_sent == 1 << 20)
    });
    server.stop();
    let before_the_head = thread::spawn(move || fetch(&client, Request::get(other)).unwrap());
    // The outage itself; nothing is waited for.
    thread::sleep(Duration::from_secs(2));
    let _back = Server::start_at(root.path(), addr).unwrap();
    for bytes in [on_the_way.join().unwrap(), before_the_head.join().unwrap()] {
        assert_eq!(bytes.len(), 4 * MIB);
        assert_pattern(0, &bytes);
    }
}

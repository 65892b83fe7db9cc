//! Faults D10 to D14: what is asked for, how often, over how many connections, and for how long.

use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future;
use kithara::net::{ByteRange, NetError, Phase, Request, RetryPolicy};
use kithara_test_support::{Rule, Server};

use crate::{builder, client, fetch, pattern, server_with, url};

/// Fault D10: gzipped media were counted as bytes of the file.
#[test]
fn d10_media_is_asked_for_as_it_is_and_taken_no_other_way() {
    let server = server_with(1000);
    fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap();
    assert_eq!(server.requests()[0].header("accept-encoding"), Some("identity"));
    for (encoding, compressed) in [
        ("gzip", false),
        ("br", true),
        ("gzip, gzip", true),
        ("deflate", false),
    ] {
        let rule = server.rule("/a.bin", Rule::new().header("content-encoding", encoding));
        let request = Request::get(url(&server, "/a.bin"));
        let request = if compressed { request.compressed() } else { request };
        let error = fetch(&client(), request).unwrap_err();
        assert!(matches!(error, NetError::UnexpectedEncoding { .. }), "{error}");
        rule.remove();
    }
    let rule = server.rule("/a.bin", Rule::new().header("content-encoding", "identity"));
    assert_eq!(
        fetch(&client(), Request::get(url(&server, "/a.bin")))
            .unwrap()
            .len(),
        1000
    );
    rule.remove();
}

/// Fault D11: relative URLs were resolved against the URL before the redirect.
#[test]
fn d11_the_url_that_answered_is_told() {
    let elsewhere = server_with(1000);
    let server = Server::empty().unwrap();
    server.rule("/old/a.bin", Rule::new().redirect(302, "/mid/a.bin?token=1"));
    server.rule(
        "/mid/a.bin",
        Rule::new().redirect(307, elsewhere.url("/a.bin?token=2")),
    );
    future::block_on(async {
        let response = client()
            .send(Request::get(url(&server, "/old/a.bin")))
            .await
            .unwrap();
        assert_eq!(response.url().as_str(), elsewhere.url("/a.bin?token=2"));
        assert_eq!(response.bytes(1000).await.unwrap(), pattern().range(0, 1000));
    });
}

/// Fault D12: 200 requests took as many connections, until no port was left.
#[test]
fn d12_connections_are_shared_and_few() {
    let server = server_with(10_000);
    let client = client();
    for _ in 0..200 {
        fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap();
    }
    assert_eq!(server.connections(), 1, "one after the other");
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let (client, url) = (client.clone(), url(&server, "/a.bin"));
            thread::spawn(move || fetch(&client, Request::get(url)).unwrap().len())
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 10_000));
    assert!(server.connections() <= 6, "all at once: {}", server.connections());
    drop(client);
    server.wait_until(|log| log.open_connections() == 0);
}

/// Fault D13: a second try used up what was left of the first. Each try is a whole request.
#[test]
fn d13_each_try_is_a_fresh_request() {
    let server = server_with(1000);
    server.rule("/a.bin", Rule::new().first(1).answer(500, "oh"));
    server.rule("/a.bin", Rule::new().first(1).reset());
    server.rule("/a.bin", Rule::new().first(1).answer(408, ""));
    let request = Request::get(url(&server, "/a.bin"))
        .range(ByteRange::new(5, 10))
        .header("x-player", "demo");
    assert_eq!(fetch(&client(), request).unwrap(), pattern().range(5, 5));
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(
        requests
            .iter()
            .all(|request| request.headers == requests[0].headers)
    );
    assert_eq!(
        (requests[0].header("range"), requests[0].header("x-player")),
        (Some("bytes=5-9"), Some("demo"))
    );
}

/// Fault D14: 200, the headers, and then nothing.
#[test]
fn d14_silence_within_a_body_has_a_limit() {
    let limit = Duration::from_millis(200);
    for at in [0, 500] {
        let server = server_with(1000);
        server.rule("/a.bin", Rule::new().first(1).stall_after(at));
        let client = builder().idle_timeout(limit).build().unwrap();
        let started = Instant::now();
        let bytes = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap();
        assert_eq!(bytes, pattern().range(0, 1000), "resumed");
        assert!(started.elapsed() >= limit);
        assert_eq!(server.requests()[1].range_start(), Some(at));

        let server = server_with(1000);
        server.rule("/a.bin", Rule::new().without_validators().stall_after(at));
        let error = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap_err();
        assert!(
            matches!(
                error,
                NetError::Timeout {
                    phase: Phase::Body,
                    ..
                }
            ),
            "{error}"
        );
        server.wait_until(|log| log.open_connections() == 0);
    }
}

/// Fault D14: the limit is for gaps. A body that trickles in for longer than that arrives.
#[test]
fn d14_a_slow_body_is_no_silent_one() {
    let server = server_with(3000);
    server.rule("/a.bin", Rule::new().trickle(1200));
    let limit = Duration::from_secs(1);
    let client = builder()
        .idle_timeout(limit)
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let started = Instant::now();
    assert_eq!(
        fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap(),
        pattern().range(0, 3000)
    );
    assert!(started.elapsed() > 2 * limit);
}

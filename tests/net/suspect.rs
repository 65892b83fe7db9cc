//! N9: connections that died without a word, servers that take their time, and bodies that hardly move.

use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future;
use kithara::net::{HttpClient, NetError, Request, RetryPolicy, Url};
use kithara_test_support::{Rule, RuleHandle, Server};

use crate::{builder, client, drain, fetch, one_try, pattern, server_with, url};

/// Leaves `count` idle connections in the pool of `client`.
fn fill(client: &HttpClient, server: &Server, count: usize) {
    let gate = server.gate();
    let held = server.rule("/a.bin", Rule::new().gate(&gate));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let (client, url) = (client.clone(), url(server, "/a.bin"));
            thread::spawn(move || fetch(&client, Request::get(url)).unwrap())
        })
        .collect();
    gate.wait_arrived(count);
    gate.open();
    for thread in threads {
        thread.join().unwrap();
    }
    held.remove();
    server.wait_until(|log| log.open_connections() == count);
}

fn get(server: &Server) -> Request {
    Request::get(url(server, "/a.bin"))
}

/// What is kept is silent from now on. New connections are answered.
fn kill_kept(server: &Server) -> RuleHandle {
    server.rule("/a.bin", Rule::new().reused().never_answer())
}

/// W9: six connections that died without a word, default limits: one of them is waited for, and not for long.
#[test]
fn w9_of_six_dead_connections_one_is_waited_for() {
    let server = server_with(1000);
    let client = HttpClient::new().unwrap();
    fill(&client, &server, 6);
    let dead = kill_kept(&server);
    let started = Instant::now();
    assert_eq!(fetch(&client, get(&server)).unwrap(), pattern().range(0, 1000));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(dead.hits(), 1);
    // The one given up and the five that nobody tried are closed.
    server.wait_until(|log| log.open_connections() == 1);
}

/// W9: neither tries nor the kind of request matter, nor what was read over the connections before.
#[test]
fn w9_silence_on_a_kept_connection_costs_no_try() {
    let server = server_with(2 << 20);
    let limit = Duration::from_millis(500);
    let client = builder()
        .kept_head_timeout(limit)
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    for request in [get(&server), Request::head(url(&server, "/a.bin"))] {
        fill(&client, &server, 4);
        let dead = kill_kept(&server);
        let started = Instant::now();
        fetch(&client, request).unwrap();
        assert_eq!(dead.hits(), 1);
        assert!(started.elapsed() >= limit);
        dead.remove();
    }
}

/// W9: several requests at once on dead connections.
#[test]
fn w9_requests_side_by_side_each_give_up_their_own() {
    let server = server_with(1000);
    let client = builder()
        .kept_head_timeout(Duration::from_millis(200))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    fill(&client, &server, 6);
    let dead = kill_kept(&server);
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let (client, request) = (client.clone(), get(&server));
            thread::spawn(move || fetch(&client, request).unwrap().len())
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 1000));
    assert!(dead.hits() <= 6, "{}", dead.hits());
}

/// N9: a server that takes its time for each head is no dead one. It is asked twice at most, and once when it is known.
#[test]
fn n9_a_slow_server_is_asked_twice_at_most() {
    let server = server_with(1000);
    let (limit, slow) = (Duration::from_millis(300), Duration::from_millis(900));
    let client = builder()
        .kept_head_timeout(limit)
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    fetch(&client, get(&server)).unwrap();
    // Quick until now.
    let rule = server.rule("/a.bin", Rule::new().delay(slow));
    assert_eq!(fetch(&client, get(&server)).unwrap().len(), 1000);
    assert_eq!(rule.hits(), 2);
    for hits in [3, 4] {
        assert_eq!(fetch(&client, get(&server)).unwrap().len(), 1000);
        assert_eq!(rule.hits(), hits, "the last head took as long");
    }
    server.wait_until(|log| log.open_connections() == 1);
}

/// N9: silence on a fresh connection counts as a try, for the whole limit.
#[test]
fn n9_a_fresh_connection_has_the_whole_limit() {
    let server = server_with(1000);
    server.rule("/a.bin", Rule::new().delay(Duration::from_millis(300)));
    let client = builder()
        .kept_head_timeout(Duration::from_millis(50))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    assert_eq!(fetch(&client, get(&server)).unwrap().len(), 1000);
    assert_eq!(server.requests().len(), 1);
}

/// N9: the app says that the network changed.
#[test]
fn n9_forgotten_connections_are_closed_and_not_used_again() {
    let server = server_with(1000);
    let client = client();
    fill(&client, &server, 3);
    client.forget_connections();
    server.wait_until(|log| log.open_connections() == 0);
    // One in use at that time serves its body, and nothing after it.
    let gate = server.gate();
    server.rule("/a.bin", Rule::new().first(1).gate_after(500, &gate));
    future::block_on(async {
        let body = client.send(get(&server)).await.unwrap().into_body();
        client.forget_connections();
        gate.open();
        let (bytes, error) = drain(body).await;
        assert!(error.is_none() && bytes.len() == 1000);
    });
    server.wait_until(|log| log.open_connections() == 0);
    let before = server.connections();
    for _ in 0..2 {
        fetch(&client, get(&server)).unwrap();
    }
    assert_eq!(server.connections(), before + 1, "those made since are kept");
}

/// W44: a byte now and then is not silence, and was held on to for ever.
#[test]
fn w44_a_trickle_is_given_up_for_a_new_connection() {
    let server = server_with(100_000);
    server.rule("/a.bin", Rule::new().first(1).trickle(1000));
    let client = builder()
        .least_speed(10_000, Duration::from_millis(300))
        .build()
        .unwrap();
    assert_eq!(fetch(&client, get(&server)).unwrap(), pattern().range(0, 100_000));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].range_start().unwrap() > 0, "resumed");
}

/// W44: slow bytes are no progress. A server that is slow each time is told after the tries that may fail.
#[test]
fn w44_a_server_that_stays_slow_is_told() {
    for (rule, tries) in [
        (Rule::new().trickle(1000), 3),
        (Rule::new().trickle(1000).chunked(), 3),
        (Rule::new().trickle(1000).without_validators(), 1),
    ] {
        let server = server_with(100_000);
        let rule = server.rule("/a.bin", rule);
        let policy = RetryPolicy::default()
            .max_attempts(3)
            .base_delay(Duration::from_millis(5));
        let client = builder()
            .least_speed(10_000, Duration::from_millis(200))
            .retry(policy)
            .build()
            .unwrap();
        future::block_on(async {
            let body = client.send(get(&server)).await.unwrap().into_body();
            let (bytes, error) = drain(body).await;
            assert_eq!(bytes, pattern().range(0, bytes.len()));
            assert!(!bytes.is_empty(), "what came is given out");
            let error = error.unwrap();
            assert!(
                matches!(error, NetError::TooSlow { received, .. } if received < 2500),
                "{error}"
            );
            assert!(error.is_transient());
        });
        assert_eq!(rule.hits(), tries);
    }
}

/// W44: no limit where none is wanted, and none for a consumer that takes its time.
#[test]
fn w44_only_waiting_counts() {
    let server = server_with(1000);
    server.rule("/a.bin", Rule::new().trickle(1000));
    let unlimited = builder()
        .least_speed(0, Duration::from_millis(100))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    assert_eq!(fetch(&unlimited, get(&server)).unwrap().len(), 1000);
    // By default a second is too short to judge by.
    assert_eq!(fetch(&one_try(), get(&server)).unwrap().len(), 1000);
}

/// W10: a server that serves one connection at a time, and waits for a request on the one that has just come to be idle. A
/// request that waits on another one by then is not left to its head limit.
#[test]
fn w10_a_connection_that_is_idle_does_not_keep_another_ones_answer() {
    use std::io::{Read as _, Write as _};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    // Ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            // Until the client closes it.
            while let (Ok(1), byte) = {
                let mut byte = [0];
                (stream.read(&mut byte), byte)
            } {
                head.push(byte[0]);
                if head.ends_with(b"\r\n\r\n") {
                    head.clear();
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na")
                        .unwrap();
                    // The second one finds the channel closed.
                    let _ = may_go_on.recv();
                    stream.write_all(b"b").unwrap();
                }
            }
        }
    });
    let client = builder()
        .kept_head_timeout(Duration::from_millis(200))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let second = client.clone();
    let (one, other) = (Request::get(url.clone()), Request::get(url));
    future::block_on(async {
        let first = client.send(one).await.unwrap();
        let second = thread::spawn(move || fetch(&second, other));
        // The second request stands in line before the first connection comes to be idle.
        while client.traffic().connections < 2 {
            thread::yield_now();
        }
        drop(go_on);
        assert_eq!(first.bytes(2).await.unwrap().len(), 2);
        let started = Instant::now();
        assert_eq!(second.join().unwrap().unwrap().len(), 2);
        assert!(
            started.elapsed() < Duration::from_secs(8),
            "{:?}",
            started.elapsed()
        );
    });
}

//! N5: connections are closed with what they serve, kept where they can be, and bounded.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::net::{ByteRange, NetError, Request, RetryPolicy, Url};
use kithara_test_support::{Content, Ended, Rule, Server};

use crate::{assert_pattern, builder, client, fetch, one_try, pattern, raw, server_with, url};

const MIB: usize = 1 << 20;

/// N5: a body dropped in the middle, stalled or in full flow.
#[test]
fn n5_a_dropped_body_closes_its_connection() {
    for rule in [Rule::new().stall_after(1000), Rule::new()] {
        let server = Server::empty().unwrap();
        server.serve("/a.bin", Content::pattern(&pattern(), 1 << 60));
        server.rule("/a.bin", rule);
        let client = client();
        let mut body = future::block_on(client.send(Request::get(url(&server, "/a.bin"))))
            .unwrap()
            .into_body();
        let chunk = future::block_on(body.next()).unwrap().unwrap();
        assert_pattern(0, &chunk);
        drop(body);
        server.wait_until(|log| log.requests[0].ended == Ended::ClientClosed && log.open_connections() == 0);
    }
}

/// N5: a response whose body nobody wants.
#[test]
fn n5_a_dropped_response_closes_its_connection() {
    let server = Server::empty().unwrap();
    server.serve("/a.bin", Content::pattern(&pattern(), 1 << 60));
    let client = client();
    drop(future::block_on(client.send(Request::get(url(&server, "/a.bin")))).unwrap());
    server.wait_until(|log| log.open_connections() == 0);
}

/// N5: a body dropped while it waits to be resumed asks no more.
#[test]
fn n5_a_body_dropped_between_two_tries_asks_no_more() {
    let server = server_with(MIB);
    server.rule("/a.bin", Rule::new().truncate_after(1000).first(1));
    let never = RetryPolicy::default()
        .base_delay(Duration::from_secs(3600))
        .max_delay(Duration::from_secs(3600));
    let client = builder().retry(never).build().unwrap();
    future::block_on(async {
        let mut body = client
            .send(Request::get(url(&server, "/a.bin")))
            .await
            .unwrap()
            .into_body();
        assert_eq!(body.next().await.unwrap().unwrap().len(), 1000);
        server.wait_until(|log| log.open_connections() == 0);
        assert!(future::poll_once(body.next()).await.is_none(), "waits");
    });
    drop(client);
    assert_eq!(server.connections(), 1);
}

/// N5: the server closed a kept connection; that costs no try.
#[test]
fn n5_a_kept_connection_that_died_costs_no_try() {
    let server = server_with(1000);
    let client = one_try();
    let get = || {
        fetch(&client, Request::get(url(&server, "/a.bin")))
            .unwrap()
            .len()
    };
    server.rule("/a.bin", Rule::new().close_after());
    assert_eq!((get(), get(), get()), (1000, 1000, 1000));
    server.clear_rules();
    assert_eq!(get(), 1000);
    // It looks alive, takes the request, and is closed for an answer; once, and then it is an error.
    for fault in [Rule::new().reused().close(), Rule::new().reused().reset()] {
        let fault = server.rule("/a.bin", fault);
        assert_eq!((get(), fault.hits()), (1000, 1));
        fault.remove();
    }
    let always = server.rule("/a.bin", Rule::new().close());
    let error = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap_err();
    assert!(matches!(error, NetError::NoResponse { .. }), "{error}");
    assert_eq!(always.hits(), 2, "the kept one and a fresh one");
}

/// N5: what a server sends after its response belongs to no response.
#[test]
fn n5_a_connection_with_bytes_left_over_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let server = thread::spawn(move || {
        let answer = |junk: &[u8]| {
            let (mut socket, _) = listener.accept().unwrap();
            assert!(socket.read(&mut [0; 4096]).unwrap() > 0);
            socket
                .write_all(&[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", junk].concat())
                .unwrap();
            socket
        };
        let first = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
        let second = answer(b"");
        drop((first, second));
    });
    let client = one_try();
    for _ in 0..2 {
        assert_eq!(fetch(&client, Request::get(url.clone())).unwrap(), b"ok");
    }
    server.join().unwrap();
}

/// N5: a server that has sent one answer too many. On its connection each answer is one behind, and another request's.
#[test]
fn n5_the_answer_to_an_earlier_request_is_asked_for_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let server = thread::spawn(move || {
        let accept = || listener.accept().unwrap().0;
        let answer = |socket: &mut TcpStream, first: usize| {
            assert!(raw::read_head(socket).is_some());
            let part = format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-length: 2\r\ncontent-range: bytes {first}-{}/8\r\n\r\n{first}{first}",
                first + 1
            );
            socket.write_all(part.as_bytes()).unwrap();
        };
        let mut kept = accept();
        answer(&mut kept, 0);
        answer(&mut kept, 0);
        let mut fresh = accept();
        answer(&mut fresh, 4);
        // Wrong on a fresh connection, it is the server's answer.
        answer(&mut fresh, 0);
        answer(&mut accept(), 0);
    });
    let client = one_try();
    let part = |first| {
        fetch(
            &client,
            Request::get(url.clone()).range(ByteRange::new(first, first + 2)),
        )
    };
    assert_eq!(part(0).unwrap(), b"00");
    assert_eq!(part(4).unwrap(), b"44");
    let error = part(2).unwrap_err();
    assert!(matches!(error, NetError::RangeMismatch { .. }), "{error}");
    server.join().unwrap();
}

/// N5: one connection allowed; a request that waits for it gets it, and one that gives up leaves the queue.
#[test]
fn n5_connections_to_a_host_are_bounded_and_handed_on() {
    let server = server_with(1000);
    let gate = server.gate();
    server.rule("/a.bin", Rule::new().first(1).gate(&gate));
    let client = builder().max_connections_per_host(1).build().unwrap();
    let get = || {
        let (client, url) = (client.clone(), url(&server, "/a.bin"));
        thread::spawn(move || fetch(&client, Request::get(url)).unwrap().len())
    };
    let first = get();
    server.wait_until(|log| log.requests.len() == 1);
    let mut gives_up = Box::pin(client.send(Request::get(url(&server, "/a.bin"))));
    assert!(future::block_on(future::poll_once(&mut gives_up)).is_none());
    let others: Vec<_> = (0..5).map(|_| get()).collect();
    drop(gives_up);
    gate.open();
    assert!(
        others
            .into_iter()
            .chain([first])
            .all(|thread| thread.join().unwrap() == 1000)
    );
    assert_eq!((server.connections(), server.requests().len()), (1, 7 - 1));
}

/// N2, N5: a body that nobody reads on holds the only connection; a request that waits for it fails, once and in time.
#[test]
fn n5_waiting_for_a_connection_has_a_limit() {
    let server = server_with(32 * MIB);
    let limit = Duration::from_secs(1);
    let client = builder()
        .max_connections_per_host(1)
        .queue_timeout(limit)
        .build()
        .unwrap();
    let get = || client.send(Request::get(url(&server, "/a.bin")));
    let paused = future::block_on(get()).unwrap().into_body();
    let start = std::time::Instant::now();
    let error = future::block_on(get()).unwrap_err();
    assert!(error.is_transient() && start.elapsed() >= limit);
    assert!(
        start.elapsed() < 4 * limit,
        "waited once, not at each of six tries"
    );
    match error {
        NetError::NoneFree {
            host,
            connections,
            limit: told,
            ..
        } => assert_eq!((host.as_str(), connections, told), ("127.0.0.1", 1, limit)),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.requests().len(), 1);
    drop(paused);
    future::block_on(get()).unwrap();
}

/// N5: the short body of a redirect or of an error does not cost the connection; a long one does.
#[test]
fn n5_short_bodies_that_nobody_reads_keep_the_connection() {
    let server = server_with(1000);
    server.rule(
        "/from",
        Rule::new()
            .answer(302, "moved ".repeat(100))
            .header("location", "/a.bin"),
    );
    server.rule("/gone", Rule::new().answer(404, "gone ".repeat(100)));
    let client = one_try();
    fetch(&client, Request::get(url(&server, "/from"))).unwrap();
    fetch(&client, Request::get(url(&server, "/gone"))).unwrap_err();
    fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap();
    assert_eq!(server.connections(), 1);
    server.rule("/long", Rule::new().answer(404, vec![0; 32 * MIB]));
    fetch(&client, Request::get(url(&server, "/long"))).unwrap_err();
    fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap();
    assert_eq!(server.connections(), 2);
}

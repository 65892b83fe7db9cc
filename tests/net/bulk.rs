//! Bodies of a megabyte and more, which are read past hyper: what holds for short ones holds for them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use futures_lite::{StreamExt, future};
use kithara::net::{NetError, Phase, Request, Url};
use kithara_test_support::{Ended, Rule};

use crate::{assert_pattern, builder, client, drain, fetch, one_try, pattern, server_with, url};

const MIB: usize = 1 << 20;
const LEN: usize = 3 * MIB + 11;

fn listen() -> (TcpListener, Url) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    (listener, url)
}

/// The next request on `socket`, or `None` if the client closed it.
fn request(socket: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(())
}

fn head(more: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {LEN}\r\n{more}\r\n").into_bytes()
}

/// N5: read to its end, a long body gives its connection back.
#[test]
fn n5_the_connection_of_a_long_body_is_kept() {
    let server = server_with(LEN);
    let client = client();
    for _ in 0..3 {
        let bytes = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap();
        assert_eq!(bytes.len(), LEN);
        assert_pattern(0, &bytes);
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 3));
}

/// N5: unless the server said that it would close it, or spoke HTTP/1.0.
#[test]
fn n5_a_server_that_wants_no_more_requests_gets_none() {
    let body = pattern().range(0, LEN);
    for head in [
        head("Connection: Close\r\n"),
        head("connection: keep-alive, close\r\n"),
        format!("HTTP/1.0 200 OK\r\ncontent-length: {LEN}\r\n\r\n").into_bytes(),
    ] {
        let (listener, url) = listen();
        let answer = [head, body.clone()].concat();
        let server = thread::spawn(move || {
            let mut kept_open = Vec::new();
            for _ in 0..2 {
                let (mut socket, _) = listener.accept().unwrap();
                request(&mut socket).unwrap();
                socket.write_all(&answer).unwrap();
                kept_open.push(socket);
            }
            // It would wait here for ever if the connections were still open.
            for mut socket in kept_open {
                assert!(request(&mut socket).is_none());
            }
        });
        let client = one_try();
        for _ in 0..2 {
            assert_eq!(fetch(&client, Request::get(url.clone())).unwrap(), body);
        }
        drop(client);
        server.join().unwrap();
    }
}

/// N5: what a server sends after its response belongs to no response.
#[test]
fn n5_a_long_bodys_connection_with_bytes_left_over_is_not_used_again() {
    let body = pattern().range(0, LEN);
    let (listener, url) = listen();
    let answer = [head(""), body.clone()].concat();
    let server = thread::spawn(move || {
        let answer = |junk: &[u8]| {
            let (mut socket, _) = listener.accept().unwrap();
            request(&mut socket).unwrap();
            socket.write_all(&[&answer, junk].concat()).unwrap();
            socket
        };
        let first = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
        let second = answer(b"");
        drop((first, second));
    });
    let client = one_try();
    for _ in 0..2 {
        assert_eq!(fetch(&client, Request::get(url.clone())).unwrap(), body);
    }
    server.join().unwrap();
}

/// However head and body are cut into segments, and however much of the body came with the head.
#[test]
fn a_long_body_is_the_same_however_it_comes() {
    let body = pattern().range(0, LEN);
    let answer = [head(""), body.clone()].concat();
    let start = answer.len() - LEN;
    for segments in [
        vec![],
        vec![start],
        vec![start - 1, start + 1],
        vec![start + 1, start + 2, start + 3],
        (1..start + 40).collect(),
        vec![start + 10_000, start + MIB, start + MIB + 1, start + LEN - 1],
        vec![start + LEN - MIB - 1, start + LEN - MIB, start + LEN - MIB + 1],
    ] {
        let (listener, url) = listen();
        let answer = answer.clone();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_nodelay(true).unwrap();
            request(&mut socket).unwrap();
            let mut from = 0;
            for to in segments.into_iter().chain([answer.len()]) {
                socket.write_all(&answer[from..to]).unwrap();
                thread::yield_now();
                from = to;
            }
        });
        assert!(fetch(&one_try(), Request::get(url)).unwrap() == body);
        server.join().unwrap();
    }
}

/// N1, fault D1: cut anywhere, it gives out what came and then an error that may pass, with the place.
#[test]
fn d1_a_long_body_cut_anywhere_is_no_end() {
    let server = server_with(LEN);
    let client = one_try();
    for cut in [
        0,
        1,
        7_000,
        40_000,
        600_000,
        MIB,
        LEN - MIB - 1,
        LEN - MIB,
        LEN - 100_000,
        LEN - 1,
    ] {
        let rule = server.rule("/a.bin", Rule::new().truncate_after(cut as u64));
        future::block_on(async {
            let response = client.send(Request::get(url(&server, "/a.bin"))).await.unwrap();
            let (bytes, error) = drain(response.into_body()).await;
            let error = error.expect("no end before the end");
            assert!(
                matches!(error, NetError::Interrupted { received, .. } if received == cut as u64),
                "{cut}: {error}"
            );
            assert!(error.is_transient());
            assert_eq!(bytes.len(), cut);
            assert_pattern(0, &bytes);
        });
        rule.remove();
    }
}

/// N5: in whatever state it is dropped, its connection is closed; a body that had ended keeps it.
#[test]
fn n5_a_long_body_dropped_closes_its_connection() {
    for stall in [Some(0), Some(1000), Some(MIB), Some(LEN - 5), None] {
        for wanted in [0, 1, MIB / 2, MIB, LEN - 5] {
            let stalls_before = stall.is_some_and(|stall| stall < wanted);
            if stalls_before {
                continue;
            }
            let server = server_with(LEN);
            if let Some(stall) = stall {
                server.rule("/a.bin", Rule::new().stall_after(stall as u64));
            }
            let client = client();
            future::block_on(async {
                let response = client.send(Request::get(url(&server, "/a.bin"))).await;
                let mut body = response.unwrap().into_body();
                let mut seen = 0;
                while seen < wanted {
                    seen += body.next().await.unwrap().unwrap().len();
                }
                // All of it may have come by then where nothing stalls.
                if stall == Some(wanted) {
                    assert!(future::poll_once(body.next()).await.is_none(), "waits");
                }
                let whole = seen == LEN;
                drop(body);
                server.wait_until(|log| log.open_connections() == usize::from(whole));
                if !whole && stall.is_some() {
                    server.wait_until(|log| log.requests[0].ended == Ended::ClientClosed);
                }
            });
        }
    }
}

/// Fault D14: silence in its midst has a limit, and it goes on where it stopped.
#[test]
fn d14_silence_within_a_long_body_has_a_limit() {
    let limit = Duration::from_millis(200);
    for at in [1000, MIB as u64, LEN as u64 - 1] {
        let server = server_with(LEN);
        server.rule("/a.bin", Rule::new().first(1).stall_after(at));
        let client = builder().idle_timeout(limit).build().unwrap();
        let bytes = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap();
        assert_eq!(bytes.len(), LEN);
        assert_pattern(0, &bytes);
        assert_eq!(server.requests()[1].range_start(), Some(at));

        let server = server_with(LEN);
        server.rule("/a.bin", Rule::new().without_validators().stall_after(at));
        let error = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap_err();
        let phase_is_body = matches!(
            error,
            NetError::Timeout {
                phase: Phase::Body,
                ..
            }
        );
        assert!(phase_is_body, "{error}");
        server.wait_until(|log| log.open_connections() == 0);
    }
}

/// What is received is counted, whether hyper reads it or the bulk reader.
#[test]
fn the_bytes_of_a_long_body_are_counted() {
    let server = server_with(LEN);
    let client = client();
    fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap();
    let over = client.traffic().received_bytes - LEN as u64;
    assert!((1..1000).contains(&over), "{over} bytes of head");
}

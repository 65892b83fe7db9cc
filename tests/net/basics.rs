//! What works when nothing goes wrong.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use futures_lite::future;
use kithara::net::{ByteRange, Request, Traffic, Url};
use kithara_test_support::{Rule, Server};

use crate::{assert_pattern, client, drain, fetch, one_try, pattern, server_with, url};

const MIB: usize = 1 << 20;

#[test]
fn a_file_arrives_whole() {
    let server = server_with(3 * MIB + 17);
    let bytes = fetch(&client(), Request::get(url(&server, "/a.bin"))).unwrap();
    assert_eq!(bytes.len(), 3 * MIB + 17);
    assert_pattern(0, &bytes);
}

/// What compiles: every future may move to another thread, as an executor's tasks do.
#[test]
fn requests_and_bodies_are_send() {
    fn is_send(value: impl Send) -> impl Send {
        value
    }
    let server = server_with(10);
    let client = client();
    drop(is_send(async {
        let response = client.send(Request::get(url(&server, "/a.bin"))).await.unwrap();
        response.bytes(10).await
    }));
}

#[test]
fn a_client_counts_its_connections_and_what_came_over_them() {
    let server = server_with(MIB);
    let client = client();
    assert_eq!(client.traffic(), Traffic::default());
    for _ in 0..2 {
        fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap();
    }
    let traffic = client.clone().traffic();
    assert_eq!(
        traffic.connections, 1,
        "the second request reused the first one's"
    );
    let heads = traffic.received_bytes - 2 * MIB as u64;
    assert!(
        (50..2000).contains(&heads),
        "two bodies and two heads: {traffic:?}"
    );
}

#[test]
fn chunked_bodies_and_bodies_that_end_with_the_connection_arrive_whole() {
    let server = server_with(MIB);
    for (rule, ends_with_connection) in [(Rule::new().chunked(), false), (Rule::new().no_length(), true)] {
        let rule = server.rule("/a.bin", rule);
        future::block_on(async {
            let response = client().send(Request::get(url(&server, "/a.bin"))).await.unwrap();
            assert_eq!(response.content_length(), None);
            let body = response.into_body();
            assert_eq!(body.ends_with_connection(), ends_with_connection);
            let (bytes, error) = drain(body).await;
            assert!(error.is_none() && bytes.len() == MIB);
            assert_pattern(0, &bytes);
        });
        assert_eq!(rule.hits(), 1);
        rule.remove();
    }
}

#[test]
fn a_range_arrives_and_says_where_it_is_from() {
    let server = server_with(1000);
    future::block_on(async {
        for (range, start, end) in [
            (ByteRange::new(0, 1), 0, 1),
            (ByteRange::new(10, 20), 10, 20),
            (ByteRange::from_start(990), 990, 1000),
            (ByteRange::new(990, 5000), 990, 1000),
        ] {
            let response = client()
                .send(Request::get(url(&server, "/a.bin")).range(range))
                .await
                .unwrap();
            let got = response.content_range().unwrap();
            assert_eq!((response.status(), got.start(), got.end()), (206, start, end));
            assert_eq!(
                (response.content_length(), response.total_length()),
                (Some(end - start), Some(1000))
            );
            let (bytes, error) = drain(response.into_body()).await;
            assert!(error.is_none() && bytes.len() as u64 == end - start);
            assert_pattern(start, &bytes);
        }
    });
}

#[test]
fn a_head_request_tells_the_length_and_keeps_the_connection() {
    let server = server_with(1000);
    let client = client();
    future::block_on(async {
        for _ in 0..3 {
            let response = client.send(Request::head(url(&server, "/a.bin"))).await.unwrap();
            assert_eq!(
                (response.content_length(), response.total_length()),
                (Some(1000), Some(1000))
            );
            assert!(response.validator().is_some());
        }
    });
    assert_eq!(server.connections(), 1);
    assert_eq!(server.bytes_sent(), 0);
}

#[test]
fn bytes_read_whole_have_a_limit() {
    let server = server_with(1000);
    for rule in [Rule::new(), Rule::new().chunked()] {
        let rule = server.rule("/a.bin", rule);
        future::block_on(async {
            let client = client();
            let get = || Request::get(url(&server, "/a.bin"));
            assert_eq!(
                client.send(get()).await.unwrap().bytes(1000).await.unwrap(),
                pattern().range(0, 1000)
            );
            let error = client.send(get()).await.unwrap().bytes(999).await.unwrap_err();
            assert!(
                matches!(error, kithara::net::NetError::TooLarge { limit: 999, .. }),
                "{error}"
            );
        });
        rule.remove();
    }
}

#[test]
fn an_empty_file_is_empty() {
    let server = Server::empty().unwrap();
    server.serve_bytes("/empty", Vec::new());
    assert!(
        fetch(&client(), Request::get(url(&server, "/empty")))
            .unwrap()
            .is_empty()
    );
}

/// N6: without the feature the error names it.
#[cfg(not(feature = "tls"))]
#[test]
fn n6_without_tls_an_https_url_says_what_is_missing() {
    let url = kithara::net::Url::parse("https://localhost:1/").unwrap();
    let error = fetch(&client(), Request::get(url)).unwrap_err();
    assert!(
        matches!(error, kithara::net::NetError::TlsDisabled { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("feature `tls`"));
}

/// An old radio server: its own greeting, in pieces, and a body that ends with the connection.
#[test]
fn shoutcast_is_understood() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/;", listener.local_addr().unwrap())).unwrap();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        assert!(socket.read(&mut [0; 4096]).unwrap() > 0);
        socket.set_nodelay(true).unwrap();
        for piece in [
            "IC",
            "Y 200 O",
            "K\r\nicy-name: Radio\r\ncontent-type: audio/mpeg\r\n\r\nsou",
            "nd",
        ] {
            socket.write_all(piece.as_bytes()).unwrap();
            thread::yield_now();
        }
    });
    future::block_on(async {
        let response = one_try().send(Request::get(url)).await.unwrap();
        assert_eq!((response.status(), response.content_length()), (200, None));
        assert_eq!(response.headers()["icy-name"], "Radio");
        let body = response.into_body();
        assert!(body.ends_with_connection());
        assert_eq!(drain(body).await.0, b"sound");
    });
    server.join().unwrap();
}

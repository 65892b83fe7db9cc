//! Each behaviour of the server, seen by a client that is nothing but a socket.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kithara_test_support::{Content, Ended, Pattern, Rule, Server};

struct Client(TcpStream);

#[derive(Clone, Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

impl Client {
    fn new(server: &Server) -> Self {
        let socket = TcpStream::connect(server.addr()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(socket)
    }

    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        self.0.write_all((head + "\r\n").as_bytes())
    }

    fn head(&mut self) -> io::Result<Reply> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Reply {
            status,
            headers,
            body: Vec::new(),
        })
    }

    /// A reply whose body has the announced length.
    fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.head()?;
        reply
            .body
            .resize(reply.header("Content-Length").unwrap().parse().unwrap(), 0);
        self.0.read_exact(&mut reply.body)?;
        Ok(reply)
    }

    /// A reply whose body ends with the connection.
    fn reply_to_end(&mut self) -> io::Result<Reply> {
        let mut reply = self.head()?;
        self.0.read_to_end(&mut reply.body)?;
        Ok(reply)
    }

    fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<Reply> {
        self.send("GET", path, headers)?;
        self.reply()
    }
}

/// A server with `/f`, of which these are the bytes.
fn server() -> (Server, Vec<u8>) {
    let bytes = Pattern::new(1).range(0, 100_000);
    let server = Server::empty().unwrap();
    server.serve_bytes("/f", bytes.clone());
    (server, bytes)
}

fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> io::Result<Reply> {
    Client::new(server).get(path, headers)
}

#[test]
fn files_are_served_with_type_and_validators_and_nothing_outside_the_root_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    fs::write(dir.path().join("secret"), "no").unwrap();
    fs::write(dir.path().join("root/a b.m3u8"), "#EXTM3U\n").unwrap();
    let server = Server::start(dir.path().join("root")).unwrap();
    let reply = get(&server, "/a%20b.m3u8?token=1", &[]).unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"#EXTM3U\n"[..]));
    assert_eq!(
        reply.header("Content-Type"),
        Some("application/vnd.apple.mpegurl")
    );
    assert!(reply.header("ETag").unwrap().starts_with('"'));
    assert!(reply.header("Last-Modified").unwrap().ends_with(" GMT"));
    assert_eq!(reply.header("Accept-Ranges"), Some("bytes"));
    for path in ["/../secret", "/%2e%2e/secret", "/..%2fsecret", "/nothing", "/"] {
        assert_eq!(get(&server, path, &[]).unwrap().status, 404, "{path}");
    }
    assert_eq!(server.url("/x"), format!("http://{}/x", server.addr()));
}

#[test]
fn ranges_are_cut_as_rfc_9110_says() {
    let (server, bytes) = server();
    let size = bytes.len();
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=99990-", 99_990, size),
        ("bytes=99990-200000", 99_990, size),
        ("bytes=-5", size - 5, size),
        ("bytes=-200000", 0, size),
    ] {
        let reply = get(&server, "/f", &[("Range", range)]).unwrap();
        assert_eq!(reply.status, 206, "{range}");
        assert_eq!(reply.body, bytes[from..to], "{range}");
        assert_eq!(
            reply.header("Content-Range").unwrap(),
            format!("bytes {from}-{}/{size}", to - 1)
        );
    }
    for range in ["bytes=100000-", "bytes=100000-100001", "bytes=-0"] {
        let reply = get(&server, "/f", &[("Range", range)]).unwrap();
        assert_eq!(
            (reply.status, reply.header("Content-Range")),
            (416, Some("bytes */100000")),
            "{range}"
        );
        assert!(reply.body.is_empty());
    }
    for ignored in ["bytes=5-2", "bytes=0-1,4-5", "lines=1-2"] {
        assert_eq!(
            get(&server, "/f", &[("Range", ignored)]).unwrap().status,
            200,
            "{ignored}"
        );
    }
    server.serve_bytes("/empty", []);
    assert_eq!(
        get(&server, "/empty", &[("Range", "bytes=0-")]).unwrap().status,
        416
    );
    assert_eq!(get(&server, "/empty", &[]).unwrap().status, 200);
}

#[test]
fn if_range_and_if_none_match_compare_strongly() {
    let (server, bytes) = server();
    let whole = get(&server, "/f", &[]).unwrap();
    let (etag, date) = (
        whole.header("ETag").unwrap(),
        whole.header("Last-Modified").unwrap(),
    );
    let range =
        |validator: &str| get(&server, "/f", &[("Range", "bytes=5-"), ("If-Range", validator)]).unwrap();
    assert_eq!(range(etag).body, bytes[5..]);
    assert_eq!(range(date).status, 206);
    assert_eq!(range("\"other\"").status, 200);
    assert_eq!(range(&format!("W/{etag}")).status, 200);
    let mut same = Client::new(&server);
    same.send("GET", "/f", &[("If-None-Match", etag)]).unwrap();
    assert_eq!(same.head().unwrap().status, 304);
    assert_eq!(same.get("/f", &[]).unwrap().body, bytes, "the connection goes on");

    server.rule("/f", Rule::new().header("ETag", "W/\"weak\""));
    assert_eq!(range("W/\"weak\"").status, 200, "a weak validator never matches");
}

#[test]
fn connections_are_kept_and_everything_is_written_down() {
    let (server, bytes) = server();
    let mut client = Client::new(&server);
    client.send("HEAD", "/f", &[]).unwrap();
    let head = client.head().unwrap();
    assert_eq!(head.header("Content-Length"), Some("100000"));
    client
        .get("/f?q=1", &[("Range", "bytes=1-2"), ("X-Thing", "yes")])
        .unwrap();
    assert_eq!(client.get("/f", &[("Connection", "close")]).unwrap().body, bytes);
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0, "closed as asked");
    client.send("POST", "/f", &[]).ok();
    let mut other = Client::new(&server);
    other.send("POST", "/f", &[]).unwrap();
    assert_eq!(other.reply().unwrap().status, 405);

    server
        .wait_until(|log| log.requests.len() == 4 && log.requests.iter().all(|r| r.ended == Ended::Complete));
    let log = server.log();
    let seen: Vec<_> = log
        .requests
        .iter()
        .map(|r| (&*r.method, &*r.path, r.status, r.body_sent, r.connection))
        .collect();
    assert_eq!(
        seen,
        [
            ("HEAD", "/f", Some(200), 0, 0),
            ("GET", "/f?q=1", Some(206), 2, 0),
            ("GET", "/f", Some(200), 100_000, 0),
            ("POST", "/f", Some(405), 19, 1),
        ]
    );
    assert_eq!(log.requests[1].header("x-thing"), Some("yes"));
    assert_eq!(log.requests[1].range_start(), Some(1));
    assert_eq!(log.to("/f").count(), 4);
    assert_eq!(log.to("/*").count(), 4);
    assert_eq!(log.to("/").count(), 0);
    assert!(!log.requests[0].reused && log.requests[1].reused);
    assert_eq!((server.connections(), server.bytes_sent()), (2, 100_021));
    server.wait_until(|log| log.open_connections() == 1);
    drop(other);
    server.wait_until(|log| log.open_connections() == 0);
    assert_eq!(server.log().connections[0].requests, 3);
}

#[test]
fn rules_take_requests_in_turn() {
    let (server, _) = server();
    let skipped = server.rule("/f", Rule::new().skip(1).first(1).answer(500, ""));
    let ranged = server.rule("/f", Rule::new().range_start(7).answer(501, ""));
    let behind = server.rule("/f", Rule::new().range_from(50).answer(502, ""));
    let query = server.rule("/f?a", Rule::new().answer(503, ""));
    let prefix = server.rule("/g*", Rule::new().answer(504, ""));
    let head = server.rule("/f", Rule::new().method("HEAD").answer(405, ""));
    let whole = server.rule("/f", Rule::new().without_range().first(1).answer(429, ""));
    let mut client = Client::new(&server);
    let mut status = |path: &str, range: &str| {
        let headers: &[_] = if range.is_empty() {
            &[]
        } else {
            &[("Range", range)]
        };
        client.get(path, headers).unwrap().status
    };
    assert_eq!(status("/f", "bytes=0-1"), 206);
    assert_eq!(status("/f", "bytes=0-1"), 500);
    assert_eq!(status("/f", "bytes=7-8"), 501);
    assert_eq!(status("/f", "bytes=6-8"), 206);
    assert_eq!(status("/f", "bytes=51-52"), 502);
    assert_eq!(status("/f?a", ""), 503);
    assert_eq!(status("/gold", ""), 504);
    assert_eq!(status("/f", ""), 429);
    assert_eq!(status("/f", ""), 200);
    ranged.remove();
    assert_eq!(status("/f", "bytes=7-8"), 206);
    server.clear_rules();
    assert_eq!(status("/f?a", ""), 200);
    let hits = [skipped, ranged, behind, query, prefix, head, whole].map(|rule| rule.hits());
    assert_eq!(hits, [1, 1, 1, 1, 1, 0, 1]);
}

#[test]
fn a_gate_holds_requests_before_the_head_and_within_the_body() {
    let (server, bytes) = server();
    let gate = server.gate();
    server.rule("/f", Rule::new().first(2).gate(&gate));
    let (mut one, mut two) = (Client::new(&server), Client::new(&server));
    one.send("GET", "/f", &[]).unwrap();
    two.send("GET", "/f", &[]).unwrap();
    gate.wait_arrived(2);
    assert!(server.requests().iter().all(|request| request.status.is_none()));
    gate.pass(1);
    server.wait_until(|log| log.requests.iter().filter(|r| r.ended == Ended::Complete).count() == 1);
    assert_eq!(
        server
            .requests()
            .iter()
            .filter(|request| request.ended == Ended::Not)
            .count(),
        1
    );
    gate.open();
    assert_eq!(one.reply().unwrap().body, bytes);
    assert_eq!(two.reply().unwrap().body, bytes);

    let inner = server.gate();
    server.rule("/f", Rule::new().gate_after(600, &inner));
    one.send("GET", "/f", &[]).unwrap();
    inner.wait_arrived(1);
    assert_eq!(server.requests()[2].body_sent, 600);
    inner.open();
    assert_eq!(one.reply().unwrap().body, bytes);
    inner.close();
    one.send("GET", "/f", &[]).unwrap();
    inner.wait_arrived(2);
    inner.pass(1);
    assert_eq!(one.reply().unwrap().body, bytes);
    assert_eq!(inner.arrived(), 2);
}

/// On a connection that has been watched before, too: its watcher must not miss the second wait.
#[test]
fn a_close_is_seen_in_every_kind_of_wait() {
    let (server, bytes) = server();
    let gate = server.gate();
    let minute = Duration::from_secs(60);
    for (number, rule) in [
        Rule::new().gate(&gate),
        Rule::new().gate_after(10, &gate),
        Rule::new().never_answer(),
        Rule::new().stall_after(10),
        Rule::new().delay(minute),
        Rule::new().delay_after(10, minute),
        Rule::new().trickle(1),
    ]
    .into_iter()
    .enumerate()
    {
        for round in 0..20 {
            server.clear_rules();
            let mut client = Client::new(&server);
            if round > 0 {
                server.rule("/f", Rule::new().first(1).delay(Duration::from_nanos(1)));
                assert_eq!(client.get("/f", &[]).unwrap().body, bytes);
            }
            let hit = server.rule("/f", rule.clone());
            client.send("GET", "/f", &[]).unwrap();
            server.wait_until(|log| {
                log.requests
                    .last()
                    .is_some_and(|request| request.ruled && request.reused == (round > 0))
            });
            drop(client);
            server.wait_until(|log| {
                log.requests.last().unwrap().ended == Ended::ClientClosed && log.open_connections() == 0
            });
            assert_eq!(hit.hits(), 1, "rule {number}");
        }
    }
}

#[test]
fn a_delay_and_a_trickle_take_their_time() {
    let (server, bytes) = server();
    server.rule(
        "/f",
        Rule::new()
            .first(1)
            .delay(Duration::from_millis(50))
            .delay_after(3, Duration::from_millis(50)),
    );
    server.rule("/f", Rule::new().first(1).trickle(1_000_000));
    for _ in 0..2 {
        let started = Instant::now();
        assert_eq!(get(&server, "/f", &[]).unwrap().body, bytes);
        assert!(
            started.elapsed() >= Duration::from_millis(75),
            "{:?}",
            started.elapsed()
        );
    }
}

#[test]
fn a_stall_sends_what_it_says_and_then_nothing() {
    let (server, bytes) = server();
    server.rule("/f", Rule::new().stall_after(1234));
    let mut client = Client::new(&server);
    client.send("GET", "/f", &[]).unwrap();
    assert_eq!(client.head().unwrap().header("Content-Length"), Some("100000"));
    let mut body = vec![0; 1234];
    client.0.read_exact(&mut body).unwrap();
    assert_eq!(body, bytes[..1234]);
    client.0.set_nonblocking(true).unwrap();
    assert_eq!(
        client.0.read(&mut [0]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    server.wait_until(|log| log.requests[0].body_sent == 1234 && log.requests[0].ended == Ended::Not);
}

#[test]
fn a_reset_is_a_reset() {
    let (server, bytes) = server();
    let gate = server.gate();
    server.rule("/f", Rule::new().first(1).reset());
    server.rule("/f", Rule::new().first(1).gate_after(500, &gate).reset_after(500));
    let error = get(&server, "/f", &[]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    // Behind a wait, so that there is a watcher that has to let go of the socket.
    let mut client = Client::new(&server);
    client.send("GET", "/f", &[]).unwrap();
    client.head().unwrap();
    let mut body = vec![0; 500];
    client.0.read_exact(&mut body).unwrap();
    assert_eq!(body, bytes[..500]);
    gate.open();
    assert_eq!(
        client.0.read(&mut [0]).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    server.wait_until(|log| log.open_connections() == 0);
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.ended == Ended::Fault));
    assert_eq!(
        requests
            .iter()
            .map(|request| (request.status, request.body_sent))
            .collect::<Vec<_>>(),
        [(None, 0), (Some(200), 500)]
    );
}

#[test]
fn a_truncation_is_a_clean_close() {
    let (server, bytes) = server();
    server.rule("/f", Rule::new().first(1).close());
    server.rule("/f", Rule::new().first(1).truncate_after(77));
    assert_eq!(
        get(&server, "/f", &[]).unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
    let mut client = Client::new(&server);
    client.send("GET", "/f", &[]).unwrap();
    let reply = client.reply_to_end().unwrap();
    assert_eq!(
        (reply.header("Content-Length"), reply.body.as_slice()),
        (Some("100000"), &bytes[..77])
    );
    server.wait_until(|log| log.requests.iter().all(|request| request.ended == Ended::Fault));
}

#[test]
fn an_idle_connection_can_be_closed_without_a_word() {
    let (server, bytes) = server();
    server.rule("/f", Rule::new().first(1).close_after());
    server.rule("/f", Rule::new().reused().reset());
    let mut client = Client::new(&server);
    let reply = client.get("/f", &[]).unwrap();
    assert_eq!(
        (reply.header("Connection"), reply.body.clone()),
        (None, bytes.clone())
    );
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
    let mut client = Client::new(&server);
    assert_eq!(client.get("/f", &[]).unwrap().body, bytes);
    assert!(client.get("/f", &[]).is_err(), "only the reused one is reset");
}

#[test]
fn lengths_and_ranges_can_lie() {
    let (server, bytes) = server();
    server.rule("/f", Rule::new().first(1).content_length(1_000_000_000_000_000));
    server.rule("/f", Rule::new().first(1).header("content-length", "many"));
    server.rule("/f", Rule::new().first(1).content_length(10));
    server.rule("/f", Rule::new().first(1).content_range("bytes 9-3/10"));
    server.rule("/f", Rule::new().first(1).serve_range(0, 10));
    server.rule("/f", Rule::new().first(1).ignore_range());
    let to_end = || {
        let mut client = Client::new(&server);
        client.send("GET", "/f", &[("Range", "bytes=100-")]).unwrap();
        client.reply_to_end().unwrap()
    };
    for length in ["1000000000000000", "many", "10"] {
        let reply = to_end();
        assert_eq!(
            (reply.header("Content-Length"), reply.body.as_slice()),
            (Some(length), &bytes[100..])
        );
    }
    let mut client = Client::new(&server);
    let mut range = || client.get("/f", &[("Range", "bytes=100-")]).unwrap();
    let inverted = range();
    assert_eq!(
        (inverted.header("Content-Range"), inverted.body.as_slice()),
        (Some("bytes 9-3/10"), &bytes[100..])
    );
    let other = range();
    assert_eq!(
        (other.header("Content-Range"), other.body.as_slice()),
        (Some("bytes 0-9/100000"), &bytes[..10])
    );
    let ignored = range();
    assert_eq!(
        (
            ignored.status,
            ignored.header("Accept-Ranges"),
            ignored.body.clone()
        ),
        (200, None, bytes)
    );
    assert_eq!(range().status, 206);
}

#[test]
fn a_body_can_come_without_a_length() {
    let (server, bytes) = server();
    server.rule("/f", Rule::new().first(1).no_length());
    server.rule("/f", Rule::new().first(1).chunked());
    let mut client = Client::new(&server);
    client.send("GET", "/f", &[]).unwrap();
    let reply = client.reply_to_end().unwrap();
    assert_eq!(
        (
            reply.header("Content-Length"),
            reply.header("Connection"),
            reply.body.clone()
        ),
        (None, Some("close"), bytes.clone())
    );

    let mut client = Client::new(&server);
    client.send("GET", "/f", &[("Connection", "close")]).unwrap();
    let reply = client.reply_to_end().unwrap();
    assert_eq!(
        (reply.header("Transfer-Encoding"), reply.header("Content-Length")),
        (Some("chunked"), None)
    );
    let (mut rest, mut body) = (reply.body.as_slice(), Vec::new());
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[line + 2..line + 2 + len]);
        assert_eq!(rest[line + 2 + len..][..2], *b"\r\n");
        rest = &rest[line + 4 + len..];
        if len == 0 {
            break;
        }
    }
    assert_eq!((body, rest), (bytes, &[][..]));
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.body_sent == 100_000)
    );
}

#[test]
fn anything_can_be_answered_and_files_can_change() {
    let (server, bytes) = server();
    server.rule("/r", Rule::new().redirect(307, "http://elsewhere.test/x?y"));
    server.rule(
        "/busy",
        Rule::new().answer(503, "later").header("Retry-After", "2"),
    );
    server.rule("/f", Rule::new().first(1).without_validators());
    let redirect = get(&server, "/r", &[]).unwrap();
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (307, Some("http://elsewhere.test/x?y"))
    );
    let busy = get(&server, "/busy", &[("Range", "bytes=1-")]).unwrap();
    assert_eq!(
        (busy.status, busy.header("Retry-After"), busy.body.as_slice()),
        (503, Some("2"), &b"later"[..])
    );
    let bare = get(&server, "/f", &[]).unwrap();
    assert_eq!((bare.header("ETag"), bare.header("Last-Modified")), (None, None));

    let other = Pattern::new(2).range(0, 50_000);
    server.rule("/f", Rule::new().skip(1).content(Content::bytes(other.clone())));
    let before = get(&server, "/f", &[]).unwrap();
    assert_eq!(before.body, bytes);
    let etag = before.header("ETag").unwrap();
    let after = get(&server, "/f", &[("Range", "bytes=10-"), ("If-Range", etag)]).unwrap();
    assert_eq!((after.status, after.body.clone()), (200, other));
    assert_ne!(after.header("ETag"), Some(etag));
}

#[test]
fn stop_ends_everything_a_wedged_client_too() {
    let (server, _) = server();
    let gate = server.gate();
    server.serve("/endless", Content::pattern(&Pattern::new(1), u64::MAX));
    server.rule("/held", Rule::new().gate(&gate));
    server.rule("/dead", Rule::new().never_answer());
    let clients: Vec<_> = ["/endless", "/held", "/dead", "/idle"]
        .iter()
        .map(|path| {
            let mut client = Client::new(&server);
            client.send("GET", path, &[]).unwrap();
            client
        })
        .collect();
    let silent = Client::new(&server);
    server.wait_until(|log| {
        log.requests.len() == 4
            && log.connections.len() == 5
            && log.to("/endless").all(|request| request.body_sent > 0)
            && log.to("/idle").all(|request| request.ended == Ended::Complete)
    });
    let addr = server.addr();
    server.stop();
    assert!(TcpStream::connect(addr).is_err(), "nobody listens");
    assert_eq!((server.connections(), server.open_connections()), (5, 0));
    let ended: Vec<_> = ["/endless", "/held", "/dead", "/idle"]
        .iter()
        .map(|path| server.log().to(path).next().unwrap().ended)
        .collect();
    assert_eq!(
        ended,
        [Ended::Stopped, Ended::Stopped, Ended::Stopped, Ended::Complete]
    );
    server.stop();
    drop((clients, silent));

    let again = Server::start_at(".", addr).unwrap();
    assert_eq!(
        get(&again, "/Cargo.toml", &[]).unwrap().status,
        200,
        "the port is free again"
    );
}

#[test]
fn a_cut_ends_connections_and_lets_new_ones_in() {
    let (server, bytes) = server();
    server.rule("/f", Rule::new().first(1).stall_after(5));
    let mut client = Client::new(&server);
    client.send("GET", "/f", &[]).unwrap();
    server.wait_until(|log| log.bytes_sent() == 5);
    server.cut();
    let mut rest = Vec::new();
    _ = client.0.read_to_end(&mut rest);
    assert!(rest.ends_with(&bytes[..5]));
    assert_eq!(get(&server, "/f", &[]).unwrap().body, bytes);
    server.wait_until(|log| log.requests[0].ended == Ended::Stopped);
}

#[test]
fn an_outage_ends_connections_and_refuses_new_ones_until_it_is_over() {
    let (server, bytes) = server();
    server.rule("/f", Rule::new().first(1).stall_after(5));
    let mut client = Client::new(&server);
    client.send("GET", "/f", &[]).unwrap();
    server.wait_until(|log| log.bytes_sent() == 5);
    let start = Instant::now();
    let time = Duration::from_millis(300);
    server.outage(time);
    let mut rest = Vec::new();
    _ = client.0.read_to_end(&mut rest);
    let mut refused = 0;
    while let Err(error) = TcpStream::connect(server.addr()) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        refused += 1;
        std::thread::yield_now();
    }
    assert!(refused > 0 && start.elapsed() >= time);
    assert_eq!(get(&server, "/f", &[]).unwrap().body, bytes);
    // One that is stopped while it is away does not wait for its end.
    server.outage(Duration::from_secs(3600));
    server.stop();
}

#[test]
fn a_client_that_leaves_a_full_pipe_is_noticed() {
    let server = Server::empty().unwrap();
    let pattern = Pattern::new(5);
    server.serve("/big", Content::pattern(&pattern, 1 << 30));
    let mut client = Client::new(&server);
    client
        .send("GET", "/big", &[("Range", "bytes=123456789-")])
        .unwrap();
    assert_eq!(client.head().unwrap().header("Content-Length"), Some("950285035"));
    let mut body = vec![0; 3_000_000];
    client.0.read_exact(&mut body).unwrap();
    assert_eq!(pattern.first_difference(123_456_789, &body), None);
    drop(client);
    server.wait_until(|log| log.requests[0].ended == Ended::ClientClosed && log.open_connections() == 0);
}

#[test]
fn waits_end_when_nothing_can_come_any_more() {
    let (server, _) = server();
    let gate = server.gate();
    assert!(!server.wait_within(Duration::from_millis(1), |log| log.connections.len() == 99));
    drop(server);
    gate.open();
    assert_eq!(gate.arrived(), 0);
}

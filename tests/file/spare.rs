//! The connection that a source has ready for its next jump.

use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use kithara::file::{FileError, FileParams, FileSource, LookAhead, OpenMode};
use kithara::net::{HttpClient, NetError, RetryPolicy, Url};
use kithara_test_support::{Content, Rule, Server};

use crate::*;

/// On which connection each request came.
fn connections(server: &Server) -> Vec<usize> {
    server
        .requests()
        .iter()
        .map(|request| request.connection)
        .collect()
}

/// Waits until the client has an idle connection: the server may see it before the client does.
fn wait_for_spare(client: &HttpClient) {
    let start = Instant::now();
    while !format!("{client:?}").contains("idle_connections: 1") {
        assert!(start.elapsed() < Duration::from_secs(20), "{client:?}");
        std::thread::yield_now();
    }
}

/// Each body stops after 64 KiB, so that no connection becomes free by itself.
fn stuck(stage: &Stage) {
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().gate_after(64 * KIB, &gate));
}

#[test]
fn a_jump_leaves_a_connection_ready_for_the_next_one() {
    let stage = Stage::new(40 * MIB);
    stuck(&stage);
    let client = client();
    let params = FileParams::new(client.clone(), stage.cache.clone());
    let mut reader = block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap();
    assert_at(&mut reader, 0, 4096);
    assert_at(&mut reader, 10 * MIB, 4096);
    wait_for_spare(&client);
    assert_at(&mut reader, 20 * MIB, 4096);
    wait_for_spare(&client);
    assert_at(&mut reader, 30 * MIB, 4096);
    assert_eq!(
        connections(&stage.server),
        [0, 1, 2, 3],
        "a spare makes no request"
    );
}

#[test]
fn a_source_that_only_plays_has_one_connection() {
    let stage = Stage::new(3 * MIB);
    let mut reader = stage.reader();
    assert_rest(&mut reader, 0, stage.len);
    drop(reader);
    // The server takes connections in their order: another one comes after whatever the source made.
    let mut last = TcpStream::connect(stage.server.addr()).unwrap();
    last.write_all(b"HEAD /a.bin HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    stage.server.wait_until(|log| log.requests.len() == 2);
    assert_eq!(connections(&stage.server), [0, 1]);
}

/// N5, S1. What waits in the pool is the client's, as after any request.
#[test]
fn no_connection_outlives_source_and_client() {
    let stage = Stage::new(40 * MIB);
    stuck(&stage);
    let client = client();
    let params = FileParams::new(client.clone(), stage.cache.clone());
    let mut reader = block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap();
    assert_at(&mut reader, 10 * MIB, 4096);
    assert_at(&mut reader, 20 * MIB, 4096);
    wait_for_spare(&client);
    drop((reader, client));
    stage.server.wait_until(|log| log.open_connections() == 0);
}

/// The bytes come from where the front host redirects to, and so do those of the next jump.
#[test]
fn a_spare_goes_where_the_redirect_led() {
    let stage = Stage::new(40 * MIB);
    stuck(&stage);
    let front = Server::empty().unwrap();
    front.rule("/", Rule::new().redirect(302, stage.url().as_str()));
    let url = Url::parse(&front.url("/")).unwrap();
    let mut reader = block_on(FileSource::new(url, stage.params()).open_reader(OpenMode::Online)).unwrap();
    assert_at(&mut reader, 0, 4096);
    assert_at(&mut reader, 10 * MIB, 4096);
    stage.server.wait_until(|log| log.connections.len() == 3);
    assert_eq!(stage.requests(), 2);
    assert_eq!(front.connections(), 1);
}

/// A server closes a connection without requests early. Some send a 408 before.
#[test]
fn a_spare_that_the_server_has_closed_is_replaced_unseen() {
    for farewell in [
        "",
        "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a.bin", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (close, told) = mpsc::channel::<()>();
        let (closed, is_closed) = mpsc::channel();
        let log = Arc::clone(&asked);
        // Ends with the process: it serves every connection.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                if number == 2 {
                    told.recv().unwrap();
                    stream.write_all(farewell.as_bytes()).unwrap();
                    drop(stream);
                    closed.send(()).unwrap();
                    continue;
                }
                let log = Arc::clone(&log);
                std::thread::spawn(move || serve(stream, number, &log));
            }
        });
        let cache = tempfile::tempdir().unwrap();
        let client = builder().retry(RetryPolicy::none()).build().unwrap();
        let params = FileParams::new(client.clone(), open_cache(cache.path(), 256 * MIB));
        let source = FileSource::new(Url::parse(&url).unwrap(), params);
        let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
        assert_at(&mut reader, 0, 4096);
        assert_at(&mut reader, 10 * MIB, 4096);
        wait_for_spare(&client);
        close.send(()).unwrap();
        is_closed.recv().unwrap();
        assert_at(&mut reader, 20 * MIB, 4096);
        assert_eq!(*asked.lock().unwrap(), [0, 1, 3]);
    }
}

/// Sends 64 KiB of what is asked for and waits for the end.
fn serve(mut stream: TcpStream, number: usize, log: &Mutex<Vec<usize>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    log.lock().unwrap().push(number);
    let head = String::from_utf8(head).unwrap();
    let start = head.split("bytes=").nth(1).unwrap().split('-').next().unwrap();
    let (start, len): (u64, u64) = (start.parse().unwrap(), 40 * MIB);
    let (last, rest) = (len - 1, len - start);
    let answer = format!(
        "HTTP/1.1 206 Partial Content\r\netag: \"a\"\r\ncontent-length: {rest}\r\ncontent-range: bytes {start}-{last}/{len}\r\n\r\n"
    );
    let bytes = pattern().range(start, 64 * KIB as usize);
    let _ = stream
        .write_all(answer.as_bytes())
        .and_then(|()| stream.write_all(&bytes));
    let _ = stream.read(&mut [0]);
}

/// Where little is wanted ahead, a jump asks for little: its connection is free again for the next one, and no bytes are
/// sent for nothing.
#[test]
fn short_jumps_share_their_connections_and_bring_no_more_than_is_wanted() {
    let stage = Stage::new(40 * MIB);
    let params = stage.params().look_ahead(LookAhead::Bytes(16 * KIB));
    let mut reader = block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap();
    assert_at(&mut reader, 0, 4096);
    for jump in 1..=10 {
        let at = jump * 3 * MIB;
        assert_at(&mut reader, at, 4096);
        let start = Instant::now();
        while !reader.resource().missing(at..at + 64 * KIB).is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        let range = format!("bytes={at}-{}", at + 64 * KIB - 1);
        assert_eq!(
            stage.server.requests().last().unwrap().header("range"),
            Some(range.as_str())
        );
    }
    assert_eq!(stage.requests(), 11);
    assert!(
        stage.server.connections() <= 3,
        "the first, the jump's, and a spare"
    );
}

/// A reader that stays after a jump costs few requests.
#[test]
fn each_contiguous_request_after_a_jump_asks_for_more() {
    let stage = Stage::new(40 * MIB);
    let params = stage.params().look_ahead(LookAhead::Bytes(16 * KIB));
    let mut reader = block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap();
    assert_at(&mut reader, 0, 4096);
    reader.seek(SeekFrom::Start(10 * MIB)).unwrap();
    assert_rest(&mut reader, 10 * MIB, stage.len);
    // One before the jump; 64 KiB to 8 MiB in eight; the rest.
    assert_eq!(stage.requests(), 10);
}

/// As many connections as sources are enough, wherever they jump.
#[test]
fn a_source_makes_do_with_one_connection() {
    for count in [1, 2] {
        let stage = Stage::new(40 * MIB);
        let client = builder()
            .max_connections_per_host(count)
            .queue_timeout(Duration::from_secs(3600))
            .build()
            .unwrap();
        let mut readers = ["b", "c"]
            .map(|name| {
                let path = format!("/{name}.bin");
                stage
                    .server
                    .serve(path.clone(), Content::pattern(pattern(), stage.len));
                let gate = stage.server.gate();
                stage.server.rule(&path, Rule::new().gate_after(64 * KIB, &gate));
                let params = FileParams::new(client.clone(), stage.cache.clone());
                FileSource::new(Url::parse(&stage.server.url(&path)).unwrap(), params)
            })
            .into_iter()
            .take(count)
            .map(|source| block_on(source.open_reader(OpenMode::Online)).unwrap())
            .collect::<Vec<_>>();
        in_time(move || {
            for at in [0, stage.len - 8 * KIB, 1000, 20 * MIB, stage.len - 4 * MIB, MIB] {
                for reader in &mut readers {
                    assert_at(reader, at, 4096);
                }
            }
        });
    }
}

/// Two readers of one file take turns on it.
#[test]
fn one_connection_serves_two_readers() {
    let stage = Stage::new(24 * MIB);
    stage.server.rule("/a.bin", Rule::new().trickle(16 * MIB));
    let client = builder()
        .max_connections_per_host(1)
        .queue_timeout(Duration::from_secs(3600))
        .build()
        .unwrap();
    let params = FileParams::new(client, stage.cache.clone());
    let mut first = block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap();
    let mut second = FileReader::new(first.resource());
    in_time(move || {
        let far = std::thread::spawn(move || {
            second.seek(SeekFrom::Start(16 * MIB)).unwrap();
            assert_rest(&mut second, 16 * MIB, 24 * MIB);
        });
        assert_rest(&mut first, 0, 24 * MIB);
        far.join().unwrap();
    });
}

/// What fails beside the download under way is tried once more in its place before the file fails.
#[test]
fn a_small_jump_that_fails_is_asked_for_once_more() {
    let stage = Stage::new(40 * MIB);
    let (tail, len) = (stage.len - 8 * KIB, 4096);
    let refused = Rule::new().range_from(tail).first(1).answer(503, "");
    let refused = stage.server.rule("/a.bin", refused);
    stuck(&stage);
    let client = builder().retry(RetryPolicy::none()).build().unwrap();
    let params = FileParams::new(client, stage.cache.clone());
    let mut reader = block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap();
    assert_at(&mut reader, 0, len);
    assert_at(&mut reader, tail, len);
    assert_eq!(refused.hits(), 1);
}

/// Sources at rest keep their connections. A source that finds none free fails in time, and opens when one is dropped.
#[test]
fn where_all_connections_rest_the_next_source_fails_in_time() {
    let stage = Stage::new(40 * MIB);
    let client = builder()
        .max_connections_per_host(2)
        .queue_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let open = |name: &str| {
        let path = format!("/{name}.bin");
        stage
            .server
            .serve(path.clone(), Content::pattern(pattern(), stage.len));
        let params =
            FileParams::new(client.clone(), stage.cache.clone()).look_ahead(LookAhead::Bytes(16 * KIB));
        let url = Url::parse(&stage.server.url(&path)).unwrap();
        block_on(FileSource::new(url, params).open_reader(OpenMode::Online))
    };
    let (first, second) = (open("b").unwrap(), open("c").unwrap());
    match open("d").err().unwrap() {
        FileError::Net { source, .. } if matches!(*source, NetError::NoneFree { connections: 2, .. }) => {}
        other => panic!("{other}"),
    }
    drop(first);
    assert_at(&mut open("d").unwrap(), 0, 4096);
    drop(second);
}

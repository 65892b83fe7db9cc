//! F4: a server that serves one connection at a time. It accepts the next one when the last is closed; until then a
//! connection is made by the system, and nobody answers on it.

use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_lite::future::block_on;
use kithara::file::{FileParams, FileSource, OpenMode};
use kithara::net::{HttpClient, Url};

use crate::*;

const LEN: u64 = 12 * MIB;

/// The server's URL, and how many requests it has had.
fn serve_one_at_a_time() -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.bin", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    // Ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that closes in the middle is none of the server's business.
            drop(serve(stream.unwrap(), &count));
        }
    });
    (Url::parse(&url).unwrap(), requests)
}

fn serve(mut stream: TcpStream, count: &AtomicUsize) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        count.fetch_add(1, Ordering::SeqCst);
        let head = String::from_utf8(head).unwrap();
        let range = head.split("bytes=").nth(1).unwrap();
        let (first, last) = range.split_once("\r\n").unwrap().0.split_once('-').unwrap();
        let first: u64 = first.parse().unwrap();
        let last: u64 = last.parse().unwrap_or(LEN - 1);
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\netag: \"a\"\r\ncontent-length: {}\r\n\
             content-range: bytes {first}-{last}/{LEN}\r\n\r\n",
            last + 1 - first
        )?;
        let mut at = first;
        while at <= last {
            let piece = (last + 1 - at).min(64 * KIB);
            stream.write_all(&pattern().range(at, piece as usize))?;
            at += piece;
        }
    }
}

/// Fault W10: head, then tail, as probes do. With the settings that a client comes with.
#[test]
fn w10_the_tail_does_not_wait_for_the_head_limit() {
    let (url, requests) = serve_one_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let params = FileParams::new(HttpClient::new().unwrap(), open_cache(root.path(), 256 * MIB))
        .look_ahead(kithara::file::LookAhead::Bytes(MIB));
    let mut reader = block_on(FileSource::new(url, params).open_reader(OpenMode::Online)).unwrap();
    assert_at(&mut reader, 0, 4096);
    let start = Instant::now();
    assert_at(&mut reader, LEN - 8192, 8192);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    // And it costs that once.
    assert_at(&mut reader, 4096, 200_000);
    let start = Instant::now();
    assert_at(&mut reader, LEN - 100_000, 8192);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    reader.seek(SeekFrom::Start(0)).unwrap();
    assert_rest(&mut reader, 0, LEN);
    assert!(requests.load(Ordering::SeqCst) < 20);
}

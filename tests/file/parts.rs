//! Parts and lengths as servers send them: a file comes whole, is kept, and plays with the server gone; or the cause is typed.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpListener;

use futures_lite::future::block_on;
use futures_lite::{StreamExt, future};
use kithara::file::{FileError, FileParams, FileSource, LookAhead, OpenMode};
use kithara::net::NetError;
use kithara::stream::{Stream, StreamParams};
use kithara_test_support::{Content, Rule};

use crate::cached::open_offline;
use crate::not_media::play;
use crate::*;

const LEN: u64 = MIB + 12_345;

/// Plays the file whole, and again with the server gone.
#[track_caller]
fn assert_kept(what: &str, stage: &Stage) {
    let (bytes, _) = play(&stage.source()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!(bytes.len() as u64, stage.len, "{what}");
    assert_eq!(pattern().first_difference(0, &bytes), None, "{what}");
    stage.server.stop();
    assert_rest(&mut open_offline(stage).unwrap(), 0, stage.len);
}

fn net(error: &FileError) -> &NetError {
    match error {
        FileError::Net { source } => source,
        other => panic!("{other:?}"),
    }
}

/// W14: a server that caps each answer, or sends whole blocks.
#[test]
fn w14_a_file_that_comes_in_parts_is_whole() {
    for (what, rule) in [
        ("capped", Rule::new().max_part(200_000)),
        ("in blocks", Rule::new().whole_blocks(65_536).max_part(131_072)),
        (
            "without validators",
            Rule::new().max_part(200_000).without_validators(),
        ),
        ("without a length", Rule::new().max_part(200_000).hide_total()),
        ("in chunks", Rule::new().max_part(200_000).hide_total().chunked()),
    ] {
        let stage = Stage::new(LEN);
        stage.server.rule("/a.bin", rule.clone());
        assert_kept(what, &stage);
        let stage = Stage::new(LEN);
        stage.server.rule("/a.bin", rule);
        let mut reader = stage.reader();
        for at in [700_000, 100_001, 1_000_000] {
            assert_at(&mut reader, at, 20_000);
        }
    }
}

/// N8, B1: where no part tells the length, a refused range may be the first to do so. It is believed if the last byte ends
/// the part that it comes in.
#[test]
fn n8_the_length_of_a_refused_range_is_no_false_end() {
    const LEN: u64 = 8 * MIB;
    const AT: u64 = 6 * MIB;
    let refusal = |told: u64| {
        let rule = Rule::new().answer(416, "").first(1);
        rule.content_range(format!("bytes */{told}"))
    };
    let opened = |at: u64, told: u64| {
        let stage = Stage::new(LEN);
        stage.server.rule("/a.bin", refusal(told).range_start(at));
        // A part that tells the length.
        stage.server.rule("/a.bin", Rule::new().range_start(MIB - 1));
        stage.server.rule("/a.bin", Rule::new().hide_total());
        let params = stage.params().look_ahead(LookAhead::Bytes(16 * KIB));
        let source = FileSource::new(stage.url(), params);
        let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
        assert_eq!(reader.len(), None);
        reader.seek(SeekFrom::Start(at)).unwrap();
        (stage, reader)
    };
    for told in [AT + 1, LEN - 1, 5 * MIB] {
        let (_stage, mut reader) = opened(AT, told);
        let refused = reader.read(&mut [0; 10]).unwrap_err();
        let refused = FileError::of(&refused).unwrap().clone();
        assert!(
            matches!(net(&refused), NetError::RangeNotSatisfiable { total: Some(total), .. } if *total == told),
            "{refused:?}"
        );
        assert_eq!(reader.len(), None, "{told}");
    }
    let (_stage, mut reader) = opened(AT, MIB);
    assert_at(&mut reader, AT, 4096);
    assert_eq!(reader.len(), Some(LEN));
    let (_stage, mut reader) = opened(LEN + 10, LEN);
    assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0);
    assert_eq!(reader.len(), Some(LEN));
}

/// N8: the end of a file whose length no answer tells, where the file ends just where a part does.
#[test]
fn n8_a_file_without_a_length_ends_at_a_bare_416() {
    for len in [200_000, 400_000, 400_001] {
        let stage = Stage::new(len);
        stage
            .server
            .rule("/a.bin", Rule::new().max_part(200_000).hide_total());
        assert_kept("a multiple of the part", &stage);
    }
}

/// N8: and where the question for what follows has failed at first, so that it is the download that asks again, and not the
/// body.
#[test]
fn n8_the_end_is_found_after_an_outage_that_began_there() {
    let stage = Stage::new(400_000);
    let busy = Rule::new().range_from(400_000).first(12).answer(503, "busy");
    stage.server.rule("/a.bin", busy);
    stage
        .server
        .rule("/a.bin", Rule::new().max_part(200_000).hide_total());
    let params = stage.params().outage_limit(Duration::MAX);
    let (bytes, _) = play(&FileSource::new(stage.url(), params)).unwrap();
    assert_eq!(bytes.len() as u64, stage.len);
    assert_eq!(pattern().first_difference(0, &bytes), None);
    let asked = stage.server.requests();
    let behind = asked
        .iter()
        .filter(|request| request.range_start() == Some(stage.len));
    assert!(behind.count() > 12);
}

/// W15: a server that cannot stand a range from the first byte.
#[test]
fn w15_a_file_plays_where_ranges_are_refused() {
    for (what, refusal) in [
        ("bare 416", Rule::new().answer(416, "")),
        ("400", Rule::new().answer(400, "")),
        ("403", Rule::new().answer(403, "")),
        ("405", Rule::new().answer(405, "")),
        ("501", Rule::new().answer(501, "")),
        (
            "a 206 that says no range",
            Rule::new().serve_range(0, LEN).without_header("content-range"),
        ),
    ] {
        let stage = Stage::new(LEN);
        let refused = stage.server.rule("/a.bin", refusal.range_from(0));
        stage.server.rule("/a.bin", Rule::new().ignore_range());
        assert_kept(what, &stage);
        assert_eq!((refused.hits(), stage.requests()), (1, 2), "{what}");
    }
}

/// W13: the part under status 200, as the first act of a stream and of a reader: no wrong byte.
#[test]
fn w13_a_part_under_status_200_gives_no_byte() {
    let stage = Stage::new(LEN);
    let (first, last) = (100_000, LEN - 1);
    let part = Content::bytes(pattern().range(first, usize::try_from(LEN - first).unwrap()));
    let lie = Rule::new()
        .content(part)
        .ignore_range()
        .content_range(format!("bytes {first}-{last}/{LEN}"));
    stage.server.rule("/a.bin", lie);
    let error = play(&stage.source()).unwrap_err();
    assert!(
        matches!(net(&error), NetError::RangeMismatch { status: 200, .. }),
        "{error:?}"
    );
    block_on(async {
        let mut stream = Stream::new(stage.source(), StreamParams::default());
        let handle = stream.handle();
        let seek = async { drop(handle.seek_bytes(150_000).await) };
        let (item, ()) = future::zip(stream.next(), seek).await;
        let error = item.expect("no end").expect_err("no byte");
        let error = error.source_error().expect("the file's");
        assert!(matches!(net(error), NetError::RangeMismatch { .. }), "{error:?}");
    });
    assert!(open_offline(&stage).unwrap_err().is_offline_miss());
}

/// W56: mirrors with one strong tag and dates of their own.
#[test]
fn w56_seeks_across_mirrors_are_one_file() {
    let stage = Stage::new(20 * MIB);
    let dates = [
        "Wed, 01 Jan 2025 00:00:00 GMT",
        "Thu, 02 Jan 2025 00:00:00 GMT",
        "Fri, 03 Jan 2025 00:00:00 GMT",
    ];
    for date in dates {
        stage
            .server
            .rule("/a.bin", Rule::new().first(1).header("last-modified", date));
    }
    let mut reader = stage.reader();
    for at in [0, 12 * MIB, 5 * MIB] {
        assert_at(&mut reader, at, 20_000);
    }
    assert!(stage.requests() >= 3);
}

/// W53, W60: what is no file's bytes is refused before one of them is given out, and is not kept.
#[test]
fn w53_w60_codings_and_boundaries_are_no_bytes_of_a_file() {
    for rule in [
        Rule::new().header("content-type", "multipart/byteranges; boundary=X"),
        Rule::new().no_length().header("transfer-encoding", "gzip"),
        Rule::new().no_length().header("transfer-encoding", "xchunked"),
    ] {
        let stage = Stage::new(LEN);
        stage.server.rule("/a.bin", rule);
        let error = play(&stage.source()).unwrap_err();
        assert!(
            matches!(
                net(&error),
                NetError::Multipart { .. } | NetError::UnexpectedTransferCoding { .. }
            ),
            "{error:?}"
        );
        assert!(open_offline(&stage).unwrap_err().is_offline_miss());
    }
}

/// W16: an account in the source's URL, and a redirect that writes the origin out.
#[test]
fn w16_a_source_keeps_its_account_over_redirects() {
    let stage = Stage::new(LEN);
    stage
        .server
        .rule("/feed", Rule::new().redirect(302, stage.server.url("/a.bin")));
    let mut url = Url::parse(&stage.server.url("/feed")).unwrap();
    url.set_username("user").unwrap();
    url.set_password(Some("secret")).unwrap();
    play(&FileSource::new(url, stage.params())).unwrap();
    for request in stage.server.requests() {
        assert_eq!(request.header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
    }
}

/// W20: each source has cookies of its own, for as long as it lives.
#[test]
fn w20_a_source_brings_its_cookie_back_and_no_others() {
    let stage = Stage::new(LEN);
    stage.server.rule(
        "/login",
        Rule::new()
            .redirect(302, "/a.bin")
            .header("set-cookie", "session=1; Path=/"),
    );
    let login = || FileSource::new(Url::parse(&stage.server.url("/login")).unwrap(), stage.params());
    play(&login()).unwrap();
    let sent = |at: usize| stage.server.requests()[at].header("cookie").map(str::to_owned);
    assert_eq!((sent(0), sent(1).as_deref()), (None, Some("session=1")));
    let before = stage.requests();
    let other = FileSource::new(
        Url::parse(&stage.server.url("/a.bin?other")).unwrap(),
        stage.params(),
    );
    play(&other).unwrap();
    assert_eq!(sent(before), None);
}

/// A body in chunks of one byte. Were each a piece of its own, the file would take many times its length in memory, and a
/// time that grows with the square of it.
#[test]
fn a_file_in_chunks_of_a_byte_is_read_in_time() {
    const LEN: usize = 200_000;
    let body = pattern().range(0, LEN);
    let chunks: Vec<u8> = body
        .iter()
        .flat_map(|byte| [b'1', 13, 10, *byte, 13, 10])
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.bin", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let read = socket.read(&mut [0; 4096]).unwrap();
        assert!(read > 0);
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\ntransfer-encoding: chunked\r\ncontent-range: bytes 0-{}/{LEN}\r\n\r\n",
            LEN - 1
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&chunks).unwrap();
        socket.write_all(b"0\r\n\r\n").unwrap();
        // Until the client closes.
        let _ = socket.read(&mut [0]);
    });
    let bytes = in_time(move || {
        let source = FileSource::new(Url::parse(&url).unwrap(), FileParams::uncached(client()));
        let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    });
    assert!(bytes == body);
}

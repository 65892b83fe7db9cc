//! Many seeks over a file that is still arriving.

use std::io::{Read, Seek, SeekFrom};

use futures_lite::StreamExt as _;
use futures_lite::future::block_on;
use kithara::stream::{Source as _, Stream, StreamParams};
use kithara_test_support::Rule;

use crate::*;

/// B2, B4: thousands of seeks over a file that trickles in, and every byte is the file's.
#[test]
fn b2_20_000_random_seeks_over_a_trickling_file() {
    const LEN: u64 = 12 * MIB;
    let stage = Stage::new(LEN);
    stage.server.rule("/a.bin", Rule::new().trickle(4 * MIB));
    let mut reader = stage.reader();
    let mut chance = 7_u64;
    let mut buffer = vec![0; 4096];
    for round in 0..20_000_u32 {
        chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let at = (chance >> 20) % LEN;
        reader.seek(SeekFrom::Start(at)).unwrap();
        let count = reader.read(&mut buffer).unwrap();
        assert!(count > 0, "a false end at {at}, round {round}");
        assert_eq!(
            pattern().first_difference(at, &buffer[..count]),
            None,
            "round {round}"
        );
    }
    let requests = stage.requests();
    // At most one for each seek that found nothing; most find what earlier ones brought.
    assert!(requests < 2000, "{requests} requests");
    // A seek may overtake the request of the one before, whose connection is then closed unused.
    assert!(stage.server.connections() < 2000);
    reader.seek(SeekFrom::Start(0)).unwrap();
    assert_rest(&mut reader, 0, LEN);
}

/// Fault D12: jumping about holds few connections at a time.
#[test]
fn d12_scrubbing_holds_few_connections() {
    let stage = Stage::new(64 * MIB);
    stage.server.rule("/a.bin", Rule::new().trickle(2 * MIB));
    let mut reader = stage.reader();
    for round in 0..100_u64 {
        let at = round * 7_919_993 % (60 * MIB);
        assert_at(&mut reader, at, 1000);
        // Main, side, the one made for the next jump, and one idle. The server may take a moment to see what is closed.
        stage.server.wait_until(|log| log.open_connections() <= 4);
    }
}

/// B2 with two readers of one file, which the driver serves in turn.
#[test]
fn two_readers_of_one_file_do_not_starve_each_other() {
    let stage = Stage::new(24 * MIB);
    stage.server.rule("/a.bin", Rule::new().trickle(8 * MIB));
    let first = stage.reader();
    let mut second = FileReader::new(first.resource());
    let mut first = first;
    let far = std::thread::spawn(move || {
        second.seek(SeekFrom::Start(16 * MIB)).unwrap();
        assert_rest(&mut second, 16 * MIB, 24 * MIB);
    });
    assert_rest(&mut first, 0, 24 * MIB);
    far.join().unwrap();
    assert!(stage.requests() < 40, "{}", stage.requests());
}

/// Fault W57: a stream whose first act is a seek to the end, or beyond it, ends there.
#[test]
fn w57_a_stream_may_begin_beyond_the_end() {
    for at in [MIB, MIB + 1, 100 * MIB] {
        for rule in [
            Rule::new(),
            Rule::new().ignore_range(),
            Rule::new().ignore_range().chunked(),
        ] {
            let stage = Stage::new(MIB);
            stage.server.rule("/a.bin", rule.clone());
            let mut source = stage.source();
            source.seek_bytes(at).unwrap();
            let mut stream = Stream::new(source, StreamParams::default());
            let first = block_on(stream.next());
            assert!(first.is_none(), "at {at}: {rule:?}: {first:?}");
        }
    }
}

/// Fault W57: with a reader, and where the server does not say how long the file is.
#[test]
fn w57_a_bare_416_says_where_nothing_is() {
    let stage = Stage::new(MIB);
    stage
        .server
        .rule("/a.bin", Rule::new().range_from(MIB).answer(416, ""));
    let mut source = stage.source();
    source.seek_bytes(2 * MIB).unwrap();
    let mut stream = Stream::new(source, StreamParams::default());
    assert!(block_on(stream.next()).is_none());
}

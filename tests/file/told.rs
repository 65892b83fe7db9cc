//! F2: whether a file is kept is always said, to the stream as to the owner of the driver.

use futures_lite::StreamExt as _;
use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::file::{FileControl, FileParams, FileSource, LookAhead, OpenMode, Origin};
use kithara::stream::{Message, Source as _, Stream, StreamParams};
use kithara_test_support::Rule;

use crate::cached::{names, partial_files};
use crate::*;

/// Reads a stream to its end. What it told, and how many bytes it gave.
fn told_by(source: FileSource) -> (Vec<FileControl>, u64) {
    let mut messages = Stream::new(source, StreamParams::default()).into_messages();
    let (mut told, mut len) = (Vec::new(), 0);
    while let Some(message) = block_on(messages.next()) {
        match message.unwrap() {
            Message::Control(event) => told.push(event),
            Message::Data(bytes) => len += bytes.len() as u64,
        }
    }
    (told, len)
}

#[track_caller]
fn assert_cached(told: &[FileControl]) {
    let network = Origin::Network;
    assert!(
        matches!(told, [FileControl::Opened { origin, .. }, FileControl::Cached] if *origin == network),
        "{told:?}"
    );
}

/// Fault W27: the end of the stream does not overtake the commit.
#[test]
fn w27_a_stream_tells_that_the_file_is_kept_before_it_ends() {
    for chunked in [false, true] {
        for round in 0..20 {
            let stage = Stage::new(64 * KIB);
            if chunked {
                stage.server.rule("/a.bin", Rule::new().chunked());
            }
            let (told, len) = told_by(stage.source());
            assert_eq!(len, stage.len, "round {round}");
            assert_cached(&told);
            let (asset, path) = names(&stage);
            assert!(
                block_on(stage.cache.contains(&asset, &path)).unwrap(),
                "round {round}"
            );
        }
    }
}

/// Fault W27: nor for a stream that shares the download of another source.
#[test]
fn w27_each_stream_of_a_shared_download_is_told() {
    for _ in 0..10 {
        let stage = Stage::new(256 * KIB);
        let gate = stage.server.gate();
        stage
            .server
            .rule("/a.bin", Rule::new().gate_after(64 * KIB, &gate));
        let first = stage.reader();
        let streams: Vec<_> = (0..3)
            .map(|_| {
                let mut messages = Stream::new(stage.source(), StreamParams::default()).into_messages();
                let opened = block_on(messages.next()).unwrap().unwrap();
                assert!(
                    matches!(opened, Message::Control(FileControl::Opened { .. })),
                    "{opened:?}"
                );
                messages
            })
            .collect();
        gate.open();
        for mut messages in streams {
            let mut is_told = false;
            while let Some(message) = block_on(messages.next()) {
                is_told |= matches!(message.unwrap(), Message::Control(FileControl::Cached));
            }
            assert!(is_told);
        }
        drop(first);
        assert_eq!(stage.requests(), 1);
    }
}

/// Fault W27: and where it is not kept, the reason comes before the end too.
#[test]
fn w27_a_stream_tells_that_the_file_is_not_kept() {
    let bypassed = |told: &[FileControl]| {
        let is_bypass = |event: &&FileControl| matches!(event, FileControl::CacheBypassed { .. });
        assert_eq!(told.iter().filter(is_bypass).count(), 1, "{told:?}");
        assert!(
            !told.iter().any(|event| matches!(event, FileControl::Cached)),
            "{told:?}"
        );
    };
    let full = Stage::with_cache(4 * MIB, MIB);
    bypassed(&told_by(full.source()).0);
    let stage = Stage::new(256 * KIB);
    let uncached = FileParams::uncached(client());
    bypassed(&told_by(FileSource::new(stage.url(), uncached)).0);

    // The commit fails: the folder goes when the last bytes are still to come.
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().gate_after(128 * KIB, &gate));
    let elsewhere = tempfile::tempdir().unwrap();
    let assets = stage.root.path().join("assets");
    let reading = std::thread::spawn({
        let source = stage.source();
        move || told_by(source)
    });
    while partial_files(&assets) == 0 {
        std::thread::yield_now();
    }
    std::fs::rename(&assets, elsewhere.path().join("assets")).unwrap();
    gate.open();
    let (told, len) = reading.join().unwrap();
    assert_eq!(len, stage.len);
    bypassed(&told);
}

/// A cache in memory takes the file when it is whole, and says so.
#[test]
fn a_cache_in_memory_tells_too() {
    let stage = Stage::new(256 * KIB);
    for _ in 0..10 {
        let params = FileParams::new(client(), AssetCache::memory(16 * MIB));
        assert_cached(&told_by(FileSource::new(stage.url(), params)).0);
    }
}

/// Only a commit is waited for. A stream that began in the middle ends at the end, whatever is still missing before it;
/// and so does one whose file is kept already.
#[test]
fn a_stream_waits_for_nothing_but_the_commit() {
    let mut stage = Stage::new(MIB);
    let gate = stage.server.gate();
    let held = stage
        .server
        .rule("/a.bin", Rule::new().range_start(0).gate(&gate));
    let mut source = FileSource::new(stage.url(), stage.params().look_ahead(LookAhead::Bytes(MIB)));
    source.seek_bytes(512 * KIB).unwrap();
    let (told, len) = in_time(move || told_by(source));
    assert_eq!(len, 512 * KIB);
    // It is not kept, and that is told: what lies before is still missing.
    let last = told.last().unwrap();
    assert!(
        matches!(last, FileControl::Incomplete { missing: Some(missing) } if *missing == 512 * KIB),
        "{told:?}"
    );
    held.remove();
    gate.open();
    stage.restart();
    assert_rest(&mut stage.reader(), 0, stage.len);
    let source = stage.source();
    let (told, _) = in_time(move || told_by(source));
    assert!(matches!(told[0], FileControl::Opened { .. }));
    assert!(block_on(stage.source().open_reader(OpenMode::Offline)).is_ok());
}

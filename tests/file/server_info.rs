//! F7: what the server said of a file, and what the cache calls it.

use futures_lite::StreamExt as _;
use futures_lite::future::block_on;
use kithara::file::{Bypass, FileControl, FileParts, FileSource, OpenMode, ServerInfo};
use kithara::stream::{Stream, StreamParams};
use kithara_test_support::{Content, Rule};

use crate::cached::{names, open_offline, partial_files};
use crate::*;

fn told(source: &FileSource) -> ServerInfo {
    assert!(source.server_info().is_none(), "nobody was asked");
    let _reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    ServerInfo::clone(&source.server_info().unwrap())
}

/// F7: a stream takes its source, and a clone shows what it was told.
#[test]
fn a_clone_shows_what_the_stream_was_told() {
    let stage = Stage::new(MIB);
    let source = stage.source();
    let shown = source.clone();
    let mut stream = Stream::new(source, StreamParams::default());
    while let Some(item) = block_on(stream.next()) {
        item.unwrap();
    }
    assert_eq!(shown.server_info().unwrap().len, Some(MIB));
    let mut again = Stream::new(shown, StreamParams::default());
    let first = block_on(again.next()).unwrap().unwrap();
    assert_eq!(pattern().first_difference(0, &first), None);
}

/// F7.
#[test]
fn the_source_shows_what_the_server_said() {
    let stage = Stage::new(MIB);
    stage.server.rule(
        "/a.bin",
        Rule::new()
            .header("Content-Type", "audio/x-mine; a=b")
            .header("Content-Disposition", "attachment; filename=\"../Folge 7.mp3\"")
            .header("icy-name", "Radio Eins")
            .header("ICY-BR", "128"),
    );
    let source = stage.source();
    let info = told(&source);
    assert_eq!((info.len, info.serves_ranges), (Some(MIB), true));
    assert_eq!(info.content_type.as_deref(), Some("audio/x-mine; a=b"));
    assert_eq!(info.file_name.as_deref(), Some("Folge 7.mp3"));
    let mut station = info.station;
    station.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(station, [pair("icy-br", "128"), pair("icy-name", "Radio Eins")]);
}

/// F7: what is not said is not made up; and a source that shares a download knows what the other one was told.
#[test]
fn what_was_not_said_is_none() {
    let stage = Stage::new(8 * MIB);
    let gate = stage.server.gate();
    stage.server.rule(
        "/a.bin",
        Rule::new()
            .without_header("Content-Type")
            .ignore_range()
            .chunked()
            .gate_after(MIB, &gate),
    );
    let source = stage.source();
    let _reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    let info = source.server_info().unwrap();
    assert_eq!((info.len, info.serves_ranges), (None, false));
    assert_eq!((&info.content_type, &info.file_name), (&None, &None));
    assert!(info.station.is_empty());
    assert_eq!(told(&stage.source()), *info);
}

/// F7: the names under which the file is found in the cache.
#[test]
fn the_source_shows_its_names_in_the_cache() {
    let stage = Stage::new(MIB);
    let source = stage.source();
    let (asset, path) = names(&stage);
    assert_eq!((source.asset(), source.path()), (Some(asset), Some(path)));
}

/// Fault W68: whether ranges are served is not whether the length is known. Without ranges a format reader must not jump to
/// the end while it opens.
#[test]
fn w68_seekable_is_told_apart_from_a_known_length() {
    let stage = Stage::new(8 * MIB);
    let gate = stage.server.gate();
    let held = stage
        .server
        .rule("/a.bin", Rule::new().ignore_range().gate_after(MIB, &gate));
    let source = stage.source();
    let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    assert_eq!(reader.len(), Some(8 * MIB));
    assert!(!source.server_info().unwrap().serves_ranges);
    assert!(reader.resource().is_sequential());
    gate.open();
    assert_rest(&mut reader, 0, stage.len);
    while reader.resource().is_sequential() {
        std::thread::yield_now();
    }
    held.remove();

    // Ranges are served at first, and then no more.
    let stage = Stage::new(8 * MIB);
    let reader = stage.reader();
    assert!(!reader.resource().is_sequential());
    let stage = Stage::new(40 * MIB);
    let gate = stage.server.gate();
    stage
        .server
        .rule("/a.bin", Rule::new().first(1).gate_after(MIB, &gate));
    stage.server.rule("/a.bin", Rule::new().ignore_range());
    let source = stage.source();
    let mut reader = block_on(source.open_reader(OpenMode::Online)).unwrap();
    assert!(source.server_info().unwrap().serves_ranges);
    let far = std::thread::spawn(move || {
        assert_at(&mut reader, 20 * MIB, 4096);
        reader
    });
    while source.server_info().unwrap().serves_ranges {
        std::thread::yield_now();
    }
    gate.open();
    far.join().unwrap();
}

/// Fault W67: by default a file is kept whatever `Cache-Control` says. An app may have it respected.
#[test]
fn w67_no_store_is_respected_if_the_app_says_so() {
    let stage = Stage::new(MIB);
    let no_store = Rule::new().header("Cache-Control", "private, no-store");
    stage.server.rule("/a.bin", no_store);
    let source = FileSource::new(stage.url(), stage.params().respect_no_store(true));
    let FileParts {
        mut reader,
        driver,
        events,
        ..
    } = block_on(source.open_parts(OpenMode::Online)).unwrap();
    let driver = std::thread::spawn(|| block_on(driver));
    assert_rest(&mut reader, 0, stage.len);
    drop(reader);
    driver.join().unwrap();
    let told: Vec<_> = block_on(events.collect());
    let is_no_store = |event: &FileControl| {
        matches!(
            event,
            FileControl::CacheBypassed {
                reason: Bypass::NoStore
            }
        )
    };
    assert!(told.iter().any(is_no_store), "{told:?}");
    assert!(open_offline(&stage).is_err());
    while partial_files(stage.root.path()) > 0 {
        std::thread::yield_now();
    }
    let mut stream = Stream::new(stage.source(), StreamParams::default());
    while let Some(item) = block_on(stream.next()) {
        item.unwrap();
    }
    assert!(open_offline(&stage).is_ok(), "kept");
}

/// Fault W67: nor in a cache in memory.
#[test]
fn w67_no_store_holds_for_a_cache_in_memory() {
    let stage = Stage::new(256 * KIB);
    stage
        .server
        .rule("/a.bin", Rule::new().header("Cache-Control", "no-store"));
    let cache = kithara::cache::AssetCache::memory(16 * MIB);
    let params = kithara::file::FileParams::new(client(), cache.clone()).respect_no_store(true);
    let source = FileSource::new(stage.url(), params);
    let mut stream = Stream::new(source, StreamParams::default());
    while let Some(item) = block_on(stream.next()) {
        item.unwrap();
    }
    let (asset, path) = names(&stage);
    assert!(!block_on(cache.contains(&asset, &path)).unwrap());
    stage.server.serve("/a.bin", Content::bytes(Vec::new()));
}

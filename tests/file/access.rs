//! What `Access` says is kept: the name of the entry (H10's rule for files), and headers by origin (N10).

use std::fs;
use std::path::{Path, PathBuf};

use futures_lite::StreamExt;
use futures_lite::future::block_on;
use kithara::cache::AssetId;
use kithara::file::{Access, EntryNames, FileError, FileParams, FileSource, OpenMode};
use kithara::storage::BLOCK;
use kithara::stream::{Stream, StreamError, StreamParams};
use kithara_test_support::{Content, Rule, Server};

use crate::*;

const LEN: u64 = 2 * BLOCK as u64 + 1000;

/// Downloads the whole file, until it is kept.
fn keep(source: &FileSource) {
    let mut parts = block_on(source.open_parts(OpenMode::Online)).unwrap();
    let thread = std::thread::spawn(move || block_on(parts.driver));
    assert_rest(&mut parts.reader, 0, LEN);
    thread.join().unwrap();
}

fn play_offline(url: Url, params: FileParams) -> Result<u64, StreamError<FileError>> {
    let mut stream = Stream::new(
        FileSource::new(url, params),
        StreamParams::default().offline_mode(true),
    );
    block_on(async {
        let mut at = 0;
        while let Some(bytes) = stream.try_next().await? {
            assert_eq!(pattern().first_difference(at, &bytes), None);
            at += bytes.len() as u64;
        }
        Ok(at)
    })
}

/// Fault W6: kept under yesterday's token, played under today's.
#[test]
fn a_file_kept_under_one_token_plays_under_another() {
    let stage = Stage::new(LEN);
    let url = |token: &str| Url::parse(&format!("{}?{token}", stage.url())).unwrap();
    let (yesterday, today) = (url("id=7&token=1"), url("token=2&id=7"));
    for names in [
        EntryNames::without_query(),
        EntryNames::parameters(["id"]),
        EntryNames::from_fn(|url| url.path().to_owned()),
    ] {
        block_on(stage.cache.clear()).unwrap();
        let params = || stage.params().entry_names(names.clone());
        keep(&FileSource::new(yesterday.clone(), params()));
        let requests = stage.requests();
        keep(&FileSource::new(today.clone(), params()));
        assert_eq!(stage.requests(), requests, "{names:?}");
        assert_eq!(play_offline(today.clone(), params()).unwrap(), LEN, "{names:?}");
        let entry = names.entry(&today, None);
        let asset = AssetId::from_url(&today);
        assert!(block_on(stage.cache.contains(&asset, &entry)).unwrap());
        // The whole URL, which is the default, is another name each day.
        assert!(play_offline(today.clone(), stage.params()).is_err());
    }
}

fn largest_file(dir: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push((fs::metadata(&path).unwrap().len(), path));
            }
        }
    }
    found.into_iter().max().unwrap().1
}

/// N10: on every request of the source, whatever it is for: the download, the question whether the file is the same, and
/// the repair of a damaged block.
#[test]
fn headers_of_a_source_are_on_each_of_its_requests() {
    let stage = Stage::new(LEN);
    let source = || {
        FileSource::new(
            stage.url(),
            stage.params().revalidate(true).header("x-token", "s3cret"),
        )
    };
    keep(&source());
    let entry = largest_file(&stage.root.path().join("assets"));
    let mut bytes = fs::read(&entry).unwrap();
    bytes[BLOCK + 7] ^= 1;
    fs::write(&entry, bytes).unwrap();
    let before = stage.requests();
    assert_rest(
        &mut block_on(source().open_reader(OpenMode::Online)).unwrap(),
        0,
        LEN,
    );
    let requests = stage.server.requests();
    // One for the question, one for the block.
    assert_eq!(requests.len(), before + 2, "{requests:?}");
    for request in requests {
        assert_eq!(request.header("x-token"), Some("s3cret"), "{request:?}");
    }
}

/// N10: not where a redirect leads.
#[test]
fn headers_of_a_source_do_not_follow_a_redirect() {
    let stage = Stage::new(LEN);
    let elsewhere = Server::empty().unwrap();
    elsewhere.serve("/b.bin", Content::pattern(pattern(), LEN));
    stage
        .server
        .rule("/a.bin", Rule::new().redirect(302, elsewhere.url("/b.bin")));
    keep(&FileSource::new(
        stage.url(),
        stage.params().header("x-token", "s3cret"),
    ));
    let sent = |server: &Server| {
        server
            .requests()
            .iter()
            .any(|request| request.header("x-token").is_some())
    };
    assert!(sent(&stage.server) && !sent(&elsewhere));
}

/// An `Access` for several sources, and one that is not complete.
#[test]
fn access_may_lack_a_client_or_a_cache() {
    let stage = Stage::new(LEN);
    let access = Access::new(client(), stage.cache.clone());
    keep(&FileSource::new(
        stage.url(),
        FileParams::with_access(access.clone()),
    ));
    let without_client = Access::default().cache(stage.cache.clone());
    let params = FileParams::with_access(without_client);
    assert_rest(
        &mut block_on(FileSource::new(stage.url(), params.clone()).open_reader(OpenMode::Online)).unwrap(),
        0,
        LEN,
    );
    block_on(stage.cache.clear()).unwrap();
    let error = block_on(FileSource::new(stage.url(), params).open_reader(OpenMode::Online)).unwrap_err();
    assert!(matches!(error, FileError::NoClient { .. }), "{error}");
    let without_cache = FileParams::with_access(Access::default().client(client()));
    assert_rest(
        &mut block_on(FileSource::new(stage.url(), without_cache).open_reader(OpenMode::Online)).unwrap(),
        0,
        LEN,
    );
    assert!(block_on(stage.cache.assets()).unwrap().is_empty());
}

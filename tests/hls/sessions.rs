//! What whole sessions leave on the disk, counted there and not by the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_lite::{StreamExt, future};
use kithara::cache::{AssetCache, AssetId};
use kithara::hls::{HlsParams, HlsSource, VariantChoice};
use kithara::stream::{Message, Stream};
use kithara_test_support::{Server, disk_bytes, expected, media};

use crate::rig::{
    Cache, KEY, Track, builder, drain, files_below, offline, online, open_at, play, resource_files, url,
};
use crate::trees::{TREES, start_of};

fn open(root: &Path, max_bytes: u64) -> AssetCache {
    future::block_on(AssetCache::builder(root).max_bytes(max_bytes).open()).unwrap()
}

fn params(cache: &AssetCache) -> HlsParams {
    HlsParams::new(builder().build().unwrap(), cache.clone())
}

/// Reads at least `wanted` bytes and leaves in the middle.
fn listen(url: &str, params: HlsParams, wanted: usize) -> usize {
    let source = HlsSource::new(crate::rig::url(url), params);
    let mut stream = Stream::new(source, online());
    future::block_on(async {
        let mut read = 0;
        while read < wanted {
            read += stream.next().await.unwrap().unwrap().len();
        }
        read
    })
}

/// Files of assets, and their bytes.
fn assets_below(root: &Path) -> (usize, u64) {
    let assets = root.join("assets");
    (files_below(&assets).len(), disk_bytes(&assets))
}

/// Whatever the tree, and however much of it is heard; whether anything is fetched again is not said here.
#[test]
fn a_session_that_has_read_some_bytes_leaves_files_and_so_does_the_next_on_the_same_root() {
    const WANTED: usize = 70_000;
    for tree in TREES {
        let server = Server::start(media()).unwrap();
        let (url, bytes) = start_of(tree, &server);
        let root = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let cache = open(root.path(), 1 << 30);
            let read = listen(&url, params(&cache), WANTED.min(bytes));
            assert!(read >= WANTED.min(bytes));
            future::block_on(cache.closed());
            let (files, bytes) = assets_below(root.path());
            assert!(files > 0 && bytes > 0, "{tree}: {files} files, {bytes} bytes");
        }
    }
}

/// Not at the end of a segment, nor when the cache is closed: whatever is heard is on its way to the disk.
#[test]
fn a_persistent_session_has_files_on_disk_after_its_first_bytes() {
    for tree in TREES {
        let server = Server::start(media()).unwrap();
        let (url, _) = start_of(tree, &server);
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path(), 1 << 30);
        let mut stream = Stream::new(HlsSource::new(crate::rig::url(&url), params(&cache)), online());
        let first = future::block_on(stream.next()).unwrap().unwrap();
        assert!(!first.is_empty());
        assert!(assets_below(root.path()).0 > 0, "{tree}");
    }
}

const CHILD: &str = "KITHARA_MEMORY_SESSION";

/// C13: a process of its own, whose every folder to write to is watched.
#[test]
fn memory_mode_leaves_no_segment_files_however_much_is_read() {
    if std::env::var_os(CHILD).is_some() {
        return everything_in_memory();
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args([
            "--exact",
            "sessions::memory_mode_leaves_no_segment_files_however_much_is_read",
        ])
        .env(CHILD, "1")
        .current_dir(dir.path());
    for variable in ["TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
        child.env(variable, dir.path());
    }
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let files = files_below(dir.path());
    let may = |file: &PathBuf| {
        let (end, name) = (file.extension(), file.file_name().unwrap());
        end.is_some_and(|end| end == "m3u8" || end == "key") || name == "key"
    };
    assert!(files.iter().all(may), "{files:?}");
}

fn everything_in_memory() {
    let server = Server::start(media()).unwrap();
    let cache = AssetCache::memory(64 << 20);
    for tree in TREES {
        let variants = expected()["trees"][tree]["variants"].as_array().unwrap().len();
        let (url, _) = start_of(tree, &server);
        for variant in 0..variants {
            let choice = VariantChoice::Index(variant);
            play(&url, params(&cache).variant(choice), online()).whole();
        }
    }
    assert!(cache.blocking().stats().unwrap().bytes > 2 << 20);
}

/// C5, C6: one segment needs the room of several tracks.
#[test]
fn one_segment_drives_out_several_tracks() {
    let cache = Cache::of(150_000);
    let small: Vec<_> = (0..5).map(|_| Track::plain(&[9_000, 9_000])).collect();
    for track in &small {
        play(&track.list(), cache.params(), online()).whole();
    }
    let tracks = || {
        let files = files_below(&cache.dir.path().join("assets"));
        let mut folders: Vec<_> = files.iter().map(|file| file.parent().unwrap()).collect();
        folders.dedup();
        folders.len()
    };
    assert_eq!(tracks(), 5);
    let large = Track::plain(&[10, 110_000]);
    let tape = play(&large.list(), cache.params(), online()).whole();
    assert!(tape.bytes == large.bytes() && tape.bypasses() == 0);
    assert!(tracks() <= 3, "{} tracks", tracks());
    assert!(disk_bytes(cache.dir.path()) <= 150_000);
    // The one heard last is still there, and so is what drove the others out.
    for track in [&small[4], &large] {
        track.server.stop();
        assert!(play(&track.list(), cache.params(), offline()).whole().bytes == track.bytes());
    }
}

/// C6, C7: whatever else is played, through two sessions.
#[test]
fn what_is_pinned_and_what_is_playing_is_never_driven_out() {
    let root = tempfile::tempdir().unwrap();
    let pinned = Track::encrypted(&[20_000, 20_000]);
    let playing = Track::plain(&[20_000, 20_000]);
    for session in 0..2 {
        let cache = open(root.path(), 150_000);
        if session == 0 {
            play(&pinned.list(), params(&cache), online()).whole();
            future::block_on(cache.pin(&AssetId::from_url(&url(&pinned.list())))).unwrap();
        }
        let mut source = HlsSource::new(url(&playing.list()), params(&cache));
        // Two readers of it: one stays in the first segment while the other plays to the end.
        let mut stays = open_at(&mut source, 0, &online());
        let first = future::block_on(async {
            loop {
                if let Message::Data(data) = stays.next().await.unwrap().unwrap() {
                    break data;
                }
            }
        });
        future::block_on(drain(open_at(&mut source, 0, &online()))).whole();
        for _ in 0..6 {
            let other = Track::plain(&[20_000, 20_000]);
            play(&other.list(), params(&cache), online()).whole();
            assert!(disk_bytes(root.path()) <= 150_000);
        }
        for track in [&pinned, &playing] {
            let tape = play(&track.list(), params(&cache), offline()).whole();
            assert!(tape.bytes == track.bytes());
        }
        let rest = future::block_on(drain(stays));
        assert_eq!(first.len() + rest.whole().bytes.len(), 40_000);
        drop(source);
        future::block_on(cache.closed());
    }
}

/// H4, H5: counted by name, and played by a cache that was opened anew.
#[test]
fn processed_keys_playlists_and_segments_are_all_there_for_offline() {
    let track = Track::encrypted(&[30_000; 4]);
    let reversed: Vec<u8> = KEY.iter().rev().copied().collect();
    track.server.serve_bytes("/t/key", reversed);
    let root = tempfile::tempdir().unwrap();
    let processed =
        |cache: &AssetCache| params(cache).key_processor(|key, _| Ok(key.iter().rev().copied().collect()));
    let cache = open(root.path(), 1 << 30);
    play(&track.list(), processed(&cache), online()).whole();
    future::block_on(cache.closed());
    let names: Vec<String> = files_below(&root.path().join("assets"))
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let count = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
    assert_eq!(
        (count("list.m3u8"), count("key"), count(".ts")),
        (1, 1, 4),
        "{names:?}"
    );
    // And what the server said of the first segment, by which editions are told.
    assert_eq!((names.len(), count("-witness")), (7, 1), "{names:?}");

    let connections = track.server.connections();
    track.server.stop();
    let cache = open(root.path(), 1 << 30);
    // Without the processor: what is kept has been through it.
    let tape = play(&track.list(), params(&cache), offline()).whole();
    assert!(tape.bytes == track.bytes());
    assert_eq!(track.server.connections(), connections);
}

/// The same for a tree of real media: a Multivariant Playlist, a Media Playlist, keys, initialization sections, segments.
#[test]
fn every_file_of_a_variant_stream_is_there_for_offline() {
    for tree in TREES {
        let server = Server::start(media()).unwrap();
        let (url, bytes) = start_of(tree, &server);
        let root = tempfile::tempdir().unwrap();
        let cache = open(root.path(), 1 << 30);
        play(&url, params(&cache), online()).whole();
        future::block_on(cache.closed());
        let distinct: std::collections::HashSet<_> = server
            .requests()
            .into_iter()
            .map(|request| (request.path.clone(), request.header("range").map(str::to_owned)))
            .collect();
        let files = resource_files(&root.path().join("assets"));
        assert_eq!(files.len(), distinct.len(), "{tree}: {distinct:?}");
        server.stop();
        let cache = open(root.path(), 1 << 30);
        let tape = play(&url, params(&cache), offline()).whole();
        assert_eq!(tape.bytes.len(), bytes, "{tree}");
    }
}

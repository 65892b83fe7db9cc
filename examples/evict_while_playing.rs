//! An album under a limit it does not fit: while a track plays, the ones heard longest ago leave. It starts the test
//! server of this repository (`kithara-test-support`, which is not published).
//!
//! ```text
//! cargo run --example evict_while_playing --features hls            the bundled tracks under 400 000 bytes
//! cargo run --example evict_while_playing --features hls -- N       under N bytes
//! ```
//!
//! A line for each segment: what the cache holds, on the disk and by its own account. `>` is the track that plays: its source
//! leases it, so that it is never the one to go.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use futures_lite::{StreamExt, future::block_on};
use kithara::cache::{AssetCache, AssetId};
use kithara::hls::{HlsControl, HlsParams, HlsSource};
use kithara::net::{HttpClient, Url};
use kithara::stream::{Message, Stream, StreamParams};
use kithara_test_support::{Server, media};

const ALBUM: [&str; 4] = ["byterange", "packed", "ts", "encrypted-init"];

const USAGE: &str = "\
usage: evict_while_playing [N]     the bundled tracks under N bytes (default: 400 000)";

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match options().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("evict_while_playing: {}", in_one_line(&*failure));
            ExitCode::FAILURE
        }
    }
}

/// The limit in bytes.
fn options() -> Result<u64, Failure> {
    use lexopt::{Arg, ValueExt as _};
    let mut max_bytes = 400_000;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Value(bytes) => max_bytes = bytes.parse()?,
            Arg::Long("help") | Arg::Short('h') => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(max_bytes)
}

fn run(max_bytes: u64) -> Result<(), Failure> {
    let server = Server::start(media())?;
    let folder = tempfile::tempdir()?;
    block_on(async {
        let cache = AssetCache::builder(folder.path())
            .max_bytes(max_bytes)
            .open()
            .await?;
        let client = HttpClient::new()?;
        let mut tracks = Vec::new();
        for name in ALBUM {
            let url: Url = server.url(&format!("/hls/{name}/playlist.m3u8")).parse()?;
            tracks.push((name, AssetId::from_url(&url)));
            println!("\n{name}");
            let source = HlsSource::new(url, HlsParams::new(client.clone(), cache.clone()));
            let mut messages = Stream::new(source, StreamParams::default()).into_messages();
            while let Some(message) = messages.try_next().await? {
                match message {
                    Message::Control(HlsControl::SegmentStart { media_sequence, .. }) => {
                        println!(
                            "  segment {media_sequence}: {}",
                            holds(&cache, &tracks, folder.path()).await?
                        );
                    }
                    Message::Control(HlsControl::CacheBypassed { reason, .. }) => {
                        println!("  played without being kept: {reason}");
                    }
                    _ => {}
                }
            }
            println!("  heard:     {}", holds(&cache, &tracks, folder.path()).await?);
            if on_disk(folder.path()) > max_bytes {
                return Err("the cache takes more than its limit".into());
            }
        }
        cache.close().await;
        Ok(())
    })
}

/// What the cache holds, the least recently used first.
async fn holds(cache: &AssetCache, tracks: &[(&str, AssetId)], root: &Path) -> Result<String, Failure> {
    let mut line = format!("{:>7} bytes on disk", on_disk(root));
    for asset in cache.assets().await? {
        let name = tracks
            .iter()
            .find(|(_, id)| *id == asset.id)
            .map_or("?", |(name, _)| name);
        let mark = if asset.leased { ">" } else { " " };
        write!(line, " {mark}{name} {}", asset.bytes)?;
    }
    Ok(line)
}

/// Bytes of all files below the root: the limit is about these, whatever the accounts say.
fn on_disk(root: &Path) -> u64 {
    // The trash first: what moves there while we look is then not seen twice.
    ["trash", "assets", "index"]
        .iter()
        .map(|dir| bytes_in(&root.join(dir)))
        .sum()
}

fn bytes_in(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
            Ok(meta) => meta.len(),
            // Evicted while we looked.
            Err(_) => 0,
        })
        .sum()
}

/// An error and its causes, in one line.
fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // A transparent error has the text of its cause.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

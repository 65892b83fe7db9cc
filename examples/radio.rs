//! Listens to a stream without an end in bounded memory, and keeps nothing on the disk. Without a URL it starts the test
//! server of this repository (`kithara-test-support`, which is not published); with one it needs none.
//!
//! ```text
//! cargo run --example radio --features file                   sixty-four MiB of an endless loopback stream
//! cargo run --example radio --features file,tls -- URL        any stream; --mib N to stop after so much of it
//! ```
//!
//! The exit code is 0 only if the memory held and the disk used stayed within their limits.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::io::Read;
use std::process::ExitCode;

use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::file::{FileControl, FileParams, FileParts, FileSource, Location, OpenMode};
use kithara::net::HttpClient;
use kithara_test_support::{Content, Pattern, Rule, Server, disk_bytes};

const MIB: u64 = 1024 * 1024;
const WINDOW: u64 = MIB;
const DISK: u64 = 8 * MIB;

const USAGE: &str = "\
usage: radio [URL] [--mib N]     without a URL: an endless stream from a loopback server

  --mib N    stop after N MiB (default: 64)";

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("radio: {}", in_one_line(&*failure));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let (url, mib) = options()?;
    let (_server, url) = if let Some(url) = url {
        (None, url)
    } else {
        let server = Server::empty()?;
        // Chunks and no length, as a radio station sends it: it never ends.
        server.serve("/radio", Content::pattern(&Pattern::new(1), u64::MAX));
        server.rule("/radio", Rule::new().ignore_range().chunked());
        let url = server.url("/radio");
        (Some(server), url)
    };

    let folder = tempfile::tempdir()?;
    let cache = AssetCache::builder(folder.path())
        .max_bytes(DISK)
        .open_blocking()?;
    let params = FileParams::new(HttpClient::new()?, cache)
        .window_bytes(WINDOW)
        // What is longer and has no length goes past the cache.
        .unknown_length_limit(2 * MIB);
    let source = FileSource::new(Location::parse(&url), params);
    let FileParts {
        mut reader,
        driver,
        mut events,
        ..
    } = block_on(source.open_parts(OpenMode::Online))?;
    let fetching = std::thread::spawn(move || block_on(driver));

    let (mut heard, mut most_held, mut most_disk) = (0, 0, 0);
    let mut buffer = vec![0; 64 * 1024];
    while heard < mib * MIB {
        heard += reader.read(&mut buffer)? as u64;
        if heard % MIB < buffer.len() as u64 {
            most_disk = most_disk.max(disk_bytes(folder.path()));
            most_held = most_held.max(reader.resource().stored_bytes());
            print!("\r{} MiB", heard / MIB);
        }
    }
    println!();
    while let Some(event) = events.try_next() {
        if let FileControl::CacheBypassed { reason } = event {
            println!("not kept: {reason:?}");
        }
    }
    drop(reader);
    fetching.join().map_err(|_| "the fetcher panicked")?;
    println!("heard {heard} bytes; held at most {most_held} and {most_disk} of them on the disk");
    if most_disk > DISK || most_held > DISK + 2 * WINDOW {
        return Err("more than the limits allow".into());
    }
    Ok(())
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

fn options() -> Result<(Option<String>, u64), Failure> {
    use lexopt::{Arg, ValueExt as _};
    let (mut url, mut mib) = (None, 64);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Value(text) => url = Some(text.string()?),
            Arg::Long("mib") => mib = arguments.value()?.parse()?,
            Arg::Long("help") | Arg::Short('h') => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok((url, mib))
}

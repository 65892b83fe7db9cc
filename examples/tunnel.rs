//! A train through a tunnel: a file plays while the network goes away and comes back. The reader waits, the player is told,
//! and nothing has to be opened again. It starts the test server of this repository (`kithara-test-support`, which is
//! not published), and needs no network.
//!
//! ```text
//! cargo run --example tunnel --features file                  three seconds without a server
//! cargo run --example tunnel --features file -- --seconds 20  a longer one
//! ```
//!
//! The exit code is 0 only if every byte was right.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use futures_lite::StreamExt;
use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::file::{FileControl, FileParams, FileParts, FileSource, Location, OpenMode};
use kithara::net::{HttpClient, RetryPolicy};
use kithara_test_support::{Content, Pattern, Rule, Server};

const LEN: u64 = 4 * 1024 * 1024;

const USAGE: &str = "\
usage: tunnel [--seconds N]     plays a file while its server goes away and comes back

  --seconds N    how long it is away (default: 3)";

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tunnel: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let tunnel = Duration::from_secs(options()?);
    let pattern = Pattern::new(1);
    let server = Server::empty()?;
    server.serve("/a.mp3", Content::pattern(&pattern, LEN));
    // Slow enough that the tunnel comes in the middle.
    server.rule("/a.mp3", Rule::new().trickle(2 * 1024 * 1024));

    let folder = tempfile::tempdir()?;
    let cache = AssetCache::builder(folder.path()).open_blocking()?;
    // A player that wants to show soon that there is no network lets the client give up soon: the download does not.
    let client = HttpClient::builder()
        .retry(RetryPolicy::default().max_attempts(2))
        .build()?;
    let params = FileParams::new(client, cache).outage_limit(Duration::MAX);
    let source = FileSource::new(Location::parse(&server.url("/a.mp3")), params);
    let FileParts {
        mut reader,
        driver,
        mut events,
        ..
    } = block_on(source.open_parts(OpenMode::Online))?;
    let fetching = std::thread::spawn(move || block_on(driver));
    let telling = std::thread::spawn(move || {
        while let Some(event) = block_on(events.next()) {
            match event {
                FileControl::OutageBegan { cause } => println!("no network: {cause}"),
                FileControl::OutageEnded => println!("the network is back"),
                FileControl::Cached => println!("the file is complete in the cache"),
                _ => {}
            }
        }
    });

    let (mut heard, mut buffer) = (0, vec![0; 64 * 1024]);
    let mut is_before_tunnel = true;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        if pattern
            .first_difference(heard, buffer.get(..count).unwrap_or_default())
            .is_some()
        {
            return Err(format!("a wrong byte behind {heard}").into());
        }
        heard += count as u64;
        if is_before_tunnel && heard > LEN / 4 {
            is_before_tunnel = false;
            println!("after {heard} bytes: into the tunnel for {tunnel:?}");
            server.outage(tunnel);
        }
    }
    drop(reader);
    fetching.join().map_err(|_| "the fetcher panicked")?;
    telling.join().map_err(|_| "the listener panicked")?;
    println!(
        "heard {heard} of {LEN} bytes, in {} requests",
        server.requests().len()
    );
    if heard != LEN {
        return Err("a false end".into());
    }
    Ok(())
}

fn options() -> Result<u64, Failure> {
    use lexopt::{Arg, ValueExt as _};
    let mut seconds = 3;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("seconds") => seconds = arguments.value()?.parse()?,
            Arg::Long("help") | Arg::Short('h') => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(seconds)
}

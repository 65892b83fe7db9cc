//! Plays an HLS track into a cache, then the same track again with the network gone. Without a URL it starts the test
//! server of this repository (`kithara-test-support`, which is not published); with one it needs none.
//!
//! ```text
//! cargo run --example hls_offline --features hls                     the bundled track, online, then offline
//! cargo run --example hls_offline --features hls,tls -- URL          any track
//! cargo run --example hls_offline --features hls -- inspect [URL]    what there is, as a table; plays nothing
//!
//!   --cache DIR      keep the bytes here (default: a folder that is deleted at the end)
//!   --variant N      play Variant Stream N, from 0 (default: the playlist's first)
//!   --from SECONDS   begin with the segment that plays then (with a URL)
//!   --offline        open no connection: play what --cache DIR holds
//!   --max-bytes N    the cache's limit in bytes (default: 1 GiB)
//!   --out FILE       write the track's bytes here
//! ```
//!
//! With the bundled track, the exit code is 0 only if both passes delivered exactly the bytes that FFmpeg wrote.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use futures_lite::{StreamExt, future::block_on};
use kithara::cache::AssetCache;
use kithara::hls::{Cached, HlsControl, HlsParams, HlsSource, OpenMode, Presentation, VariantChoice};
use kithara::net::{HttpClient, Url};
use kithara::stream::{Message, Stream, StreamParams};
use kithara_test_support::{Server, expected, media};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The bundled track, below the folder of the test media.
const BUNDLED: &str = "hls/plain/master.m3u8";

const USAGE: &str = "\
usage: hls_offline [inspect] [URL] [options]     without a URL: the bundled track, from a loopback server

  inspect          show what there is, and what of it is in the cache; play nothing
  --cache DIR      keep the bytes here (default: a folder that is deleted at the end)
  --variant N      play Variant Stream N, from 0 (default: the playlist's first)
  --from SECONDS   begin with the segment that plays then (with a URL)
  --offline        open no connection: play what --cache DIR holds
  --max-bytes N    the cache's limit in bytes (default: 1 GiB)
  --out FILE       write the track's bytes here";

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match Options::parse().and_then(|options| block_on(run(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("hls_offline: {}", in_one_line(&*failure));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    if options.offline && (options.url.is_none() || options.cache.is_none()) {
        return Err("--offline needs a URL and --cache DIR, the folder that holds its track".into());
    }
    if options.from.is_some() && options.url.is_none() {
        return Err("--from needs a URL: the bundled track is compared as a whole".into());
    }
    // Deleted when it is dropped, which is why it must outlive the cache.
    let fresh = if options.cache.is_none() {
        Some(tempfile::tempdir()?)
    } else {
        None
    };
    let folder = options
        .cache
        .as_deref()
        .or(fresh.as_ref().map(TempDir::path))
        .ok_or("no cache folder")?;
    let cache = AssetCache::builder(folder)
        .max_bytes(options.max_bytes)
        .open()
        .await?;

    if options.inspect {
        let server = Server::start(media())?;
        let bundled = server.url(&format!("/{BUNDLED}")).parse()?;
        let url = options.url.as_ref().unwrap_or(&bundled);
        let source = HlsSource::new(url.clone(), Player::new(url, &cache, &options)?.params);
        let mode = if options.offline {
            OpenMode::Offline
        } else {
            OpenMode::Online
        };
        print!("{}", table(&source.inspect(mode).await?)?);
        return Ok(());
    }

    if let Some(url) = &options.url {
        let session = Player::new(url, &cache, &options)?;
        let played = session.play(options.offline).await?;
        let pass = if options.offline { "offline" } else { "online" };
        println!("{pass:8} {played} {}", session.costs(&cache).await?);
        return Ok(());
    }

    let server = Server::start(media())?;
    let url: Url = server.url(&format!("/{BUNDLED}")).parse()?;

    let session = Player::new(&url, &cache, &options)?;
    let online = session.play(false).await?;
    println!("online   {online} {}", session.costs(&cache).await?);

    server.stop();
    let session = Player::new(&url, &cache, &options)?;
    let offline = session.play(true).await?;
    println!(
        "offline  {offline} connections={}",
        session.client.traffic().connections
    );

    let right = expected_sha256(online.variant)?;
    for (pass, played) in [("online", &online), ("offline", &offline)] {
        if played.sha256 != right {
            return Err(format!("the {pass} pass delivered other bytes than expected.json says").into());
        }
    }
    println!("identical");
    Ok(())
}

/// A track's Variant Streams and Renditions, one in a line. What plays is marked.
fn table(track: &Presentation) -> Result<String, fmt::Error> {
    let mark = |plays| if plays { '*' } else { ' ' };
    let cached = |cached: Option<Cached>| {
        cached.map_or("-".to_owned(), |cached| {
            let Cached {
                parts,
                all_parts,
                bytes,
                ..
            } = cached;
            format!("{parts}/{all_parts} parts, {} KiB", bytes / 1024)
        })
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let length = track.duration.map_or("live".to_owned(), |duration| {
        format!("{:.1} s", duration.as_secs_f64())
    });
    let locked = if track.is_encrypted { ", encrypted" } else { "" };
    let mut table =
        format!("{length}{locked}\n\n  variant  kbit/s  content         codecs                  cached\n");
    for (number, variant) in track.variants.iter().enumerate() {
        let mark = mark(number == track.variant);
        let (rate, content) = (variant.bandwidth / 1000, format!("{:?}", variant.content));
        let (codecs, cached) = (text(&variant.codecs), cached(variant.cached));
        writeln!(
            table,
            "{mark} {number:>7} {rate:>7}  {content:<15} {codecs:<23} {cached}"
        )?;
    }
    if !track.renditions.is_empty() {
        table += "\n  rendition  language  channels  name                    cached\n";
    }
    for (number, rendition) in track.renditions.iter().enumerate() {
        let mark = mark(Some(number) == track.rendition);
        let (language, channels) = (text(&rendition.language), text(&rendition.channels));
        let (name, cached) = (&rendition.name, cached(rendition.cached));
        writeln!(
            table,
            "{mark} {number:>9}  {language:<8}  {channels:<8}  {name:<23} {cached}"
        )?;
    }
    for data in &track.session_data {
        writeln!(table, "\n{}: {}", data.id, text(&data.value))?;
    }
    Ok(table)
}

/// The sum of what FFmpeg wrote for a Variant Stream of the bundled track.
fn expected_sha256(variant: usize) -> Result<String, Failure> {
    let expected = expected();
    let sum = expected
        .pointer(&format!("/trees/plain/variants/{variant}/sha256"))
        .and_then(|sum| sum.as_str());
    Ok(sum
        .ok_or("expected.json has no sum for this variant stream")?
        .to_owned())
}

/// Plays one track, once or more often.
struct Player {
    url: Url,
    params: HlsParams,
    client: HttpClient,
    from: Option<Duration>,
    out: Option<PathBuf>,
}

/// What one pass delivered.
#[derive(Default)]
struct Played {
    variant: usize,
    segments: usize,
    bytes: u64,
    sha256: String,
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            variant,
            segments,
            bytes,
            sha256,
        } = self;
        write!(
            f,
            "variant={variant} segments={segments} bytes={bytes} sha256={sha256}"
        )
    }
}

impl Player {
    fn new(url: &Url, cache: &AssetCache, options: &Options) -> Result<Self, Failure> {
        // A client of its own, so that its traffic is this player's alone.
        let client = HttpClient::new()?;
        let choice = options.variant.map_or(VariantChoice::First, VariantChoice::Index);
        let params = HlsParams::new(client.clone(), cache.clone()).variant(choice);
        Ok(Self {
            url: url.clone(),
            params,
            client,
            from: options.from,
            out: options.out.clone(),
        })
    }

    async fn play(&self, offline: bool) -> Result<Played, Failure> {
        let source = HlsSource::new(self.url.clone(), self.params.clone());
        let params = StreamParams::default().offline_mode(offline);
        let mut messages = Stream::new(source, params).into_messages();
        if let Some(time) = self.from {
            messages.handle().seek_time(time).await?;
        }

        let mut out = self
            .out
            .as_ref()
            .map(File::create)
            .transpose()?
            .map(BufWriter::new);
        let mut progress = Progress::new(if offline { "offline" } else { "online" });
        let (mut played, mut at) = (Played::default(), 0);
        let mut hash = Sha256::new();
        while let Some(message) = messages.try_next().await? {
            match message {
                Message::Data(data) => {
                    hash.update(&data);
                    played.bytes += data.len() as u64;
                    if let Some(out) = &mut out {
                        out.write_all(&data)?;
                    }
                    progress.show(at, played.bytes);
                }
                Message::Control(HlsControl::VariantApplied {
                    variant, duration, ..
                }) => {
                    played.variant = variant;
                    progress.total = duration.as_secs();
                }
                Message::Control(HlsControl::SegmentStart { time, .. }) => {
                    played.segments += 1;
                    at = time.as_secs();
                }
                Message::Control(HlsControl::CacheBypassed { resource, reason, .. }) => {
                    progress.clear();
                    eprintln!("hls_offline: not cached: {resource}: {reason}");
                }
                Message::Control(_) => {}
            }
        }
        if let Some(mut out) = out {
            out.flush()?;
        }
        progress.clear();
        for byte in hash.finalize() {
            write!(played.sha256, "{byte:02x}")?;
        }
        Ok(played)
    }

    async fn costs(&self, cache: &AssetCache) -> Result<String, Failure> {
        let network = self.client.traffic().received_bytes;
        Ok(format!(
            "network_bytes={network} cache_bytes={}",
            cache.stats().await?.bytes
        ))
    }
}

/// How far a pass is, in seconds of sound. On a terminal it is one line, which is written again and again; elsewhere
/// nothing is shown.
struct Progress {
    pass: &'static str,
    terminal: bool,
    total: u64,
}

impl Progress {
    fn new(pass: &'static str) -> Self {
        Self {
            pass,
            terminal: std::io::stderr().is_terminal(),
            total: 0,
        }
    }

    fn show(&self, seconds: u64, bytes: u64) {
        if self.terminal {
            let Self { pass, total, .. } = self;
            eprint!("\r{pass:8} {seconds:>4}/{total} s  {} KiB", bytes / 1024);
        }
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
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

struct Options {
    url: Option<Url>,
    cache: Option<PathBuf>,
    variant: Option<usize>,
    from: Option<Duration>,
    offline: bool,
    max_bytes: u64,
    out: Option<PathBuf>,
    inspect: bool,
}

impl Options {
    fn parse() -> Result<Self, Failure> {
        use lexopt::prelude::{Long, Short, Value, ValueExt};

        let mut options = Self {
            url: None,
            cache: None,
            variant: None,
            from: None,
            offline: false,
            max_bytes: 1 << 30,
            out: None,
            inspect: false,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("cache") => options.cache = Some(arguments.value()?.into()),
                Long("variant") => options.variant = Some(arguments.value()?.parse()?),
                Long("from") => {
                    let seconds = arguments.value()?.parse()?;
                    options.from = Some(Duration::try_from_secs_f64(seconds)?);
                }
                Long("offline") => options.offline = true,
                Long("max-bytes") => options.max_bytes = arguments.value()?.parse()?,
                Long("out") => options.out = Some(arguments.value()?.into()),
                Long("help") | Short('h') => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                Value(command) if command == "inspect" && !options.inspect => options.inspect = true,
                Value(url) if options.url.is_none() => {
                    let url = url.string()?;
                    options.url =
                        Some(Url::parse(&url).map_err(|error| format!("not a URL: {url:?}: {error}"))?);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }
}

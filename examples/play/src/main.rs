//! Plays anything: URLs, paths, and lists of them, files and HLS, one after another without a pause. Without a track it
//! starts the test server of this repository (`kithara-test-support`, which is not published); with one it needs none.
//!
//! ```text
//! cargo run -p play                                 the bundled tracks, from a loopback server, into a WAV file
//! cargo run -p play -- URL|FILE|LIST…               any tracks
//! cargo run --manifest-path examples/device/Cargo.toml -- [URL|FILE|LIST]…      to the sound card
//!
//!   --wav FILE        write the sound here (without a sound card: play.wav in the temporary directory)
//!   --rate HERTZ      bring every track to this sample rate (default: the card's; in a file, that of a single track,
//!                     and 44100 for several)
//!   --channels N      mix every track to so many channels (likewise, and 2)
//!   --cache DIR       keep what is fetched here (default: a folder that is deleted at the end)
//!   --offline         open no connection: play what --cache DIR holds
//!   --from SECONDS    begin the first track there
//! ```
//!
//! A LIST is a file of the disk that ends in .m3u, .m3u8 or .txt and has a URL or a path in each line.
//!
//! The bar shows what is heard (`|`), what of the track is there (`#`) and what is not (`.`). In a terminal the left and
//! right arrows jump five seconds, up and down thirty, `n` skips to the next track, space pauses, `q` and Ctrl-C end.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

mod bar;
#[cfg(feature = "device")]
mod device;
mod keys;
mod queue;
mod wav;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use kithara::cache::AssetCache;
use kithara::decode::DecodeParams;
use kithara::media::{Access, OpenMode};
use kithara::net::HttpClient;
use kithara_test_support::{Server, media};

use bar::Bar;
use keys::Keys;
use queue::Queue;

const BUNDLED: [&str; 4] = [
    "/files/piece.mp3",
    "/files/piece.flac",
    "/hls/plain/master.m3u8",
    "/hls/ts/playlist.m3u8",
];

const USAGE: &str = "\
usage: play [URL|FILE|LIST]... [options]     without a track: the bundled ones, from a loopback server

  LIST              a file of the disk (.m3u, .m3u8, .txt) with a URL or a path in each line
  --wav FILE        write the sound here (without a sound card: play.wav in the temporary directory)
  --rate HERTZ      bring every track to this sample rate (default: the card's; in a file, that of a single
                    track, and 44100 for several)
  --channels N      mix every track to so many channels (likewise, and 2)
  --cache DIR       keep what is fetched here (default: a folder that is deleted at the end)
  --offline         open no connection: play what --cache DIR holds
  --from SECONDS    begin the first track there

keys: left and right jump 5 s, up and down 30 s, n skips, space pauses, q and Ctrl-C end";

/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match Options::parse().and_then(|options| run(&options)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("play: {}", in_one_line(&*failure));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut tracks = Vec::new();
    for track in &options.tracks {
        add(track, &mut tracks)?;
    }
    let mut server = None;
    if options.tracks.is_empty() {
        let server = server.insert(Server::start(media())?);
        tracks.extend(BUNDLED.map(|path| server.url(path)));
    }

    let fresh = tempfile::tempdir()?;
    let folder = options.cache.as_deref().unwrap_or(fresh.path());
    let cache = AssetCache::builder(folder).open_blocking()?;
    let params = DecodeParams::new().access(Access::new(HttpClient::new()?, cache));
    let mode = if options.offline {
        OpenMode::Offline
    } else {
        OpenMode::Online
    };

    let keys = Keys::new()?;
    let mut bar = Bar::new();
    let several = tracks.len() > 1;
    let mut queue = Queue::new(tracks, params, mode, keys.quit().clone());
    let played = play(options, several, &mut queue, &keys, &mut bar);
    bar.clear();
    let quit = keys.quit().is_asked();
    // The terminal is as it was before anything else is said.
    drop(keys);
    played?;
    Ok(match queue.failures() {
        0 if !quit => ExitCode::SUCCESS,
        _ if quit => ExitCode::from(INTERRUPTED),
        _ => ExitCode::FAILURE,
    })
}

fn play(
    options: &Options,
    several: bool,
    queue: &mut Queue,
    keys: &Keys,
    bar: &mut Bar,
) -> Result<(), Failure> {
    #[cfg(feature = "device")]
    if options.wav.is_none() {
        return device::play(queue, keys, bar, options.from);
    }
    if let Some((rate, channels)) = options.format(several) {
        queue.convert(rate, channels);
    }
    let default = std::env::temp_dir().join("play.wav");
    let out = options.wav.as_deref().unwrap_or(&default);
    let written = wav::write(queue, keys, bar, out, options.from)?;
    if !written.is_zero() {
        bar.say(&format!("{} of sound: {}", bar::clock(written), out.display()));
    }
    Ok(())
}

/// Adds what an argument names: a track, or those of a list.
fn add(argument: &str, tracks: &mut Vec<String>) -> Result<(), Failure> {
    let path = Path::new(argument);
    let extension = path.extension().and_then(|extension| extension.to_str());
    let is_list = extension.is_some_and(|extension| ["m3u", "m3u8", "txt"].contains(&extension));
    if !is_list || argument.contains("://") {
        tracks.push(argument.to_owned());
        return Ok(());
    }
    let list = std::fs::read_to_string(path).map_err(|error| format!("{argument}: {error}"))?;
    if list.contains("#EXT-X-") {
        return Err(format!("{argument}: HLS is played from a URL, not from the disk").into());
    }
    let lines = list.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.contains("://") {
            tracks.push(line.to_owned());
        } else {
            let folder = path.parent().unwrap_or(Path::new(""));
            tracks.push(folder.join(line).to_string_lossy().into_owned());
        }
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

#[derive(Default)]
struct Options {
    tracks: Vec<String>,
    wav: Option<PathBuf>,
    rate: Option<u32>,
    channels: Option<u16>,
    cache: Option<PathBuf>,
    offline: bool,
    from: Duration,
}

impl Options {
    fn parse() -> Result<Self, Failure> {
        use lexopt::{Arg, ValueExt as _};
        let mut options = Self::default();
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Value(track) => options.tracks.push(track.string()?),
                Arg::Long("wav") => options.wav = Some(arguments.value()?.into()),
                Arg::Long("rate") => options.rate = Some(arguments.value()?.parse()?),
                Arg::Long("channels") => options.channels = Some(arguments.value()?.parse()?),
                Arg::Long("cache") => options.cache = Some(arguments.value()?.into()),
                Arg::Long("offline") => options.offline = true,
                Arg::Long("from") => {
                    options.from = Duration::try_from_secs_f64(arguments.value()?.parse()?)?;
                }
                Arg::Long("help") | Arg::Short('h') => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if options.offline && options.cache.is_none() {
            return Err("--offline needs --cache DIR, the folder that holds the tracks".into());
        }
        Ok(options)
    }

    /// The sample rate and channels of all tracks; `None` for a single track's own.
    fn format(&self, several: bool) -> Option<(u32, u16)> {
        let fixed = several || self.rate.is_some() || self.channels.is_some();
        fixed.then(|| (self.rate.unwrap_or(44_100), self.channels.unwrap_or(2)))
    }
}

//! Decodes a track while it arrives: Symphonia on a reader that seeks anywhere, at any time. Without a URL it starts the
//! test server of this repository (`kithara-test-support`, which is not published); with one it needs none.
//!
//! ```text
//! cargo run -p play_url                           the bundled MP3, slowly, from a loopback server
//! cargo run -p play_url -- URL|FILE               any track
//! cargo run --manifest-path examples/device/Cargo.toml -- --device [URL|FILE]   to the sound card
//!
//!   --out FILE        the WAV file to write (default: play_url.wav in the temporary directory)
//!   --cache DIR       keep the bytes here (default: a folder that is deleted at the end)
//!   --seek SECONDS    begin there: the bytes before are fetched last
//!   --offline         open no connection: decode what --cache DIR holds
//!   --device          play it through rodio; a crate of its own, as it needs the system's sound library to build
//! ```
//!
//! The bar shows what has arrived (`#`), what has not (`.`), and where the decoder reads (`|`). In a terminal the left and
//! right arrows jump five seconds, up and down thirty, space pauses, `q` ends.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

mod bar;
#[cfg(feature = "device")]
mod device;
mod keys;
mod wav;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::file::{FileError, FileParams, FileReader, FileSource, Location, OpenMode};
use kithara::net::HttpClient;
use kithara::storage::StreamingResource;
use kithara_test_support::{Rule, Server, media};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::Time;

use bar::Bar;
use keys::{Key, Keys};
use wav::Wav;

const BUNDLED: &str = "/files/piece.mp3";

const USAGE: &str = "\
usage: play_url [URL|FILE] [options]     without a track: the bundled MP3, from a loopback server

  --out FILE        the WAV file to write (default: play_url.wav in the temporary directory)
  --cache DIR       keep the bytes here (default: a folder that is deleted at the end)
  --seek SECONDS    begin there: the bytes before are fetched last
  --offline         open no connection: decode what --cache DIR holds
  --device          play it through rodio instead; only as examples/device";

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match Options::parse().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("play_url: {}", in_one_line(&*failure));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let (_server, text) = if let Some(track) = &options.track {
        (None, track.clone())
    } else {
        let server = Server::start(media())?;
        // Four times as fast as it plays, so that there is something to see.
        server.rule(BUNDLED, Rule::new().trickle(40_000));
        let url = server.url(BUNDLED);
        (Some(server), url)
    };
    let location = Location::parse(&text);
    println!("{location}");

    let fresh = tempfile::tempdir()?;
    let folder = options.cache.as_deref().unwrap_or(fresh.path());
    let cache = AssetCache::builder(folder).open_blocking()?;
    let params = FileParams::new(HttpClient::new()?, cache);
    let start = Instant::now();
    let mode = if options.offline {
        OpenMode::Offline
    } else {
        OpenMode::Online
    };
    let reader = block_on(FileSource::new(location, params).open_reader(mode))?;
    let resource = reader.resource().clone();
    let extension = text.rsplit_once('.').map(|(_, extension)| extension);
    match options.device {
        false => decode(options, reader, &resource, extension, start),
        #[cfg(feature = "device")]
        true => device::play(options.seek, reader, &resource, extension),
        #[cfg(not(feature = "device"))]
        true => {
            Err("for the sound card: cargo run --manifest-path examples/device/Cargo.toml -- --device".into())
        }
    }
}

/// Decodes into the WAV file as fast as the bytes come.
fn decode(
    options: &Options,
    reader: FileReader,
    resource: &StreamingResource<FileError>,
    extension: Option<&str>,
    start: Instant,
) -> Result<(), Failure> {
    let mut hint = Hint::new();
    if let Some(extension) = extension {
        hint.with_extension(extension);
    }
    let keys = Keys::new(reader.interrupter());
    let stream = MediaSourceStream::new(Box::new(reader), MediaSourceStreamOptions::default());
    let mut format = symphonia::default::get_probe().probe(
        &hint,
        stream,
        FormatOptions::default(),
        MetadataOptions::default(),
    )?;
    let track = format.default_track(TrackType::Audio).ok_or("no audio track")?;
    let params = track.codec_params.as_ref().and_then(|params| params.audio());
    let (id, base) = (track.id, track.time_base);
    let params = params.ok_or("no audio parameters")?.clone();
    let mut decoder =
        symphonia::default::get_codecs().make_audio_decoder(&params, &AudioDecoderOptions::default())?;
    if options.seek > 0 {
        seek(&mut *format, id, f64::from(options.seek))?;
    }

    let mut wav = Wav::create(&options.out)?;
    let bar = Bar::new(resource)?;
    let (mut samples, mut first) = (Vec::<i16>::new(), None);
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(_) if keys.quit() => break,
            Err(error) => return Err(error.into()),
        };
        if packet.track_id != id {
            continue;
        }
        let at = base
            .and_then(|base| base.calc_time(packet.pts))
            .map_or_else(|| wav.seconds(), |time| time.as_secs_f64());
        let sound = decoder.decode(&packet)?;
        let (rate, channels) = (sound.spec().rate(), sound.num_planes());
        sound.copy_to_vec_interleaved(&mut samples);
        wav.write(&samples, rate, channels)?;
        first.get_or_insert_with(|| start.elapsed());
        bar.show(at);
        let mut key = keys.within(Duration::ZERO);
        if key == Some(Key::Pause) {
            key = keys.next();
        }
        match key {
            Some(Key::Jump(by)) => {
                // Past the end there is nothing: the track is over.
                if seek(&mut *format, id, at + by).is_err() {
                    break;
                }
                decoder.reset();
            }
            Some(Key::Quit) => break,
            Some(Key::Pause) | None => {}
        }
    }
    bar.finish();
    drop(keys);
    let seconds = wav.seconds();
    wav.finish()?;
    let first: Duration = first.ok_or("no sound")?;
    println!(
        "{seconds:.1} s of sound in {:.1} s, the first after {} ms, stalled {} times: {}",
        start.elapsed().as_secs_f64(),
        first.as_millis(),
        resource.status().stalls,
        options.out.display()
    );
    Ok(())
}

fn seek(format: &mut dyn FormatReader, track: u32, seconds: f64) -> Result<(), Failure> {
    let to = SeekTo::Time {
        time: Time::try_from_secs_f64(seconds.max(0.0)).ok_or("no such time")?,
        track_id: Some(track),
    };
    format.seek(SeekMode::Coarse, to)?;
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

struct Options {
    track: Option<String>,
    out: PathBuf,
    cache: Option<PathBuf>,
    seek: u32,
    offline: bool,
    device: bool,
}

impl Options {
    fn parse() -> Result<Self, Failure> {
        use lexopt::{Arg, ValueExt as _};
        let mut options = Self {
            track: None,
            out: std::env::temp_dir().join("play_url.wav"),
            cache: None,
            seek: 0,
            offline: false,
            device: false,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Value(track) => options.track = Some(track.string()?),
                Arg::Long("out") => options.out = arguments.value()?.into(),
                Arg::Long("cache") => options.cache = Some(arguments.value()?.into()),
                Arg::Long("seek") => options.seek = arguments.value()?.parse()?,
                Arg::Long("offline") => options.offline = true,
                Arg::Long("device") => options.device = true,
                Arg::Long("help") | Arg::Short('h') => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }
}

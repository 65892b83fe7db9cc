//! Decodes a track while it arrives: Symphonia on a reader that can be sought anywhere, any time.
//!
//! ```text
//! cargo run --example play_url --features file,symphonia                  the bundled MP3, slowly, from a loopback server
//! cargo run --example play_url --features file,symphonia,tls -- URL|FILE  any track
//!
//!   --out FILE        the WAV file to write (default: play_url.wav in the temporary directory)
//!   --cache DIR       keep the bytes here (default: a folder that is deleted at the end)
//!   --seek SECONDS    begin there: the bytes before are fetched last
//!   --offline         open no connection: decode what --cache DIR holds
//! ```
//!
//! The bar shows what has arrived (`#`), what has not (`.`), and where the decoder reads (`|`). A sound card instead of a
//! WAV file takes the same reader: `rodio::Decoder::new(reader)`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use indicatif::{ProgressBar, ProgressStyle};
use kithara::cache::AssetCache;
use kithara::file::{FileError, FileParams, FileSource, Location};
use kithara::net::HttpClient;
use kithara::storage::StreamingResource;
use kithara_test_support::{Rule, Server, media};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, SeekMode, SeekTo, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::Time;

const BUNDLED: &str = "/files/piece.mp3";
const CELLS: u64 = 48;

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match Options::parse().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("play_url: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let server = Server::start(media())?;
    // Four times as fast as it plays, so that there is something to see.
    server.rule(BUNDLED, Rule::new().trickle(40_000));
    let text = options.track.clone().unwrap_or_else(|| server.url(BUNDLED));
    let location = Location::parse(&text);
    println!("{location}");

    let fresh = tempfile::tempdir()?;
    let folder = options.cache.as_deref().unwrap_or(fresh.path());
    let cache = AssetCache::builder(folder).open_blocking()?;
    let params = FileParams::new(HttpClient::new()?, cache).offline_mode(options.offline);
    let start = Instant::now();
    let reader = block_on(FileSource::new(location, params).open_reader())?;
    let resource = reader.resource().clone();

    let mut hint = Hint::new();
    if let Some((_, extension)) = text.rsplit_once('.') {
        hint.with_extension(extension);
    }
    let stream = MediaSourceStream::new(Box::new(reader), MediaSourceStreamOptions::default());
    let mut format = symphonia::default::get_probe().probe(
        &hint,
        stream,
        FormatOptions::default(),
        MetadataOptions::default(),
    )?;
    let track = format.default_track(TrackType::Audio).ok_or("no audio track")?;
    let params = track.codec_params.as_ref().and_then(|params| params.audio());
    let (id, params) = (track.id, params.ok_or("no audio parameters")?.clone());
    let mut decoder =
        symphonia::default::get_codecs().make_audio_decoder(&params, &AudioDecoderOptions::default())?;
    if options.seek > 0 {
        let time = Time::try_from_secs_f64(f64::from(options.seek)).ok_or("no such time")?;
        let to = SeekTo::Time {
            time,
            track_id: Some(id),
        };
        format.seek(SeekMode::Coarse, to)?;
    }

    let mut wav = Wav::create(&options.out)?;
    let bar = ProgressBar::new(1);
    bar.set_style(ProgressStyle::with_template("{msg}")?);
    let (mut samples, mut first) = (Vec::<i16>::new(), None);
    while let Some(packet) = format.next_packet()? {
        if packet.track_id != id {
            continue;
        }
        let sound = decoder.decode(&packet)?;
        let (rate, channels) = (sound.spec().rate(), sound.num_planes());
        sound.copy_to_vec_interleaved(&mut samples);
        wav.write(&samples, rate, channels)?;
        first.get_or_insert_with(|| start.elapsed());
        bar.set_message(format!("[{}] {:.1} s", picture(&resource), wav.seconds()));
    }
    bar.finish();
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

/// What has arrived, and where the decoder is.
fn picture(resource: &StreamingResource<FileError>) -> String {
    let len = resource.len().unwrap_or(0).max(CELLS);
    let (available, readers) = (resource.available(), resource.demand().positions);
    let cell = |cell: u64| {
        let (from, to) = (cell * len / CELLS, (cell + 1) * len / CELLS);
        if readers.iter().any(|at| (from..to).contains(at)) {
            '|'
        } else if available
            .iter()
            .any(|there| there.start <= from && to <= there.end)
        {
            '#'
        } else {
            '.'
        }
    };
    (0..CELLS).map(cell).collect()
}

/// Sixteen bits a sample. The lengths in its head are put in at the end.
struct Wav {
    file: BufWriter<File>,
    rate: u32,
    channels: u16,
    bytes: u32,
}

impl Wav {
    fn create(path: &PathBuf) -> Result<Self, Failure> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&[0; 44])?;
        Ok(Self {
            file,
            rate: 1,
            channels: 1,
            bytes: 0,
        })
    }

    fn write(&mut self, samples: &[i16], rate: u32, channels: usize) -> Result<(), Failure> {
        (self.rate, self.channels) = (rate, u16::try_from(channels)?);
        for sample in samples {
            self.file.write_all(&sample.to_le_bytes())?;
        }
        self.bytes += u32::try_from(samples.len() * 2)?;
        Ok(())
    }

    fn seconds(&self) -> f64 {
        f64::from(self.bytes) / f64::from(self.rate * u32::from(self.channels) * 2)
    }

    fn finish(mut self) -> Result<(), Failure> {
        let frame = self.channels * 2;
        let mut head = Vec::with_capacity(44);
        head.extend(b"RIFF");
        head.extend((self.bytes + 36).to_le_bytes());
        head.extend(b"WAVEfmt ");
        head.extend(16_u32.to_le_bytes());
        head.extend(1_u16.to_le_bytes());
        head.extend(self.channels.to_le_bytes());
        head.extend(self.rate.to_le_bytes());
        head.extend((self.rate * u32::from(frame)).to_le_bytes());
        head.extend(frame.to_le_bytes());
        head.extend(16_u16.to_le_bytes());
        head.extend(b"data");
        head.extend(self.bytes.to_le_bytes());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&head)?;
        self.file.flush()?;
        Ok(())
    }
}

struct Options {
    track: Option<String>,
    out: PathBuf,
    cache: Option<PathBuf>,
    seek: u32,
    offline: bool,
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
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Value(track) => options.track = Some(track.string()?),
                Arg::Long("out") => options.out = arguments.value()?.into(),
                Arg::Long("cache") => options.cache = Some(arguments.value()?.into()),
                Arg::Long("seek") => options.seek = arguments.value()?.parse()?,
                Arg::Long("offline") => options.offline = true,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }
}

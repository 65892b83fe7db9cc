//! Draws the waveform of a track into a PNG file: the left channel upwards, the right one downwards, peaks light and
//! loudness dark, the loudest peak as high as the picture. Without a track it starts the test server of this repository (`kithara-test-support`, which is not
//! published); with one it needs none.
//!
//! ```text
//! cargo run --example waveform --features decode,file,hls                 a minute of bundled HLS
//! cargo run --example waveform --features decode,file,hls,tls -- TRACK    a URL or a path, of a file or of HLS
//!
//!   --out FILE       the PNG file to write (default: waveform.png in the temporary directory)
//!   --width N        its width in pixels (default: 1200)
//!   --height N       its height in pixels (default: 120)
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use flate2::{Compression, Crc, write::ZlibEncoder};
use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::decode::{DecodeParams, Decoder};
use kithara::media::{Access, OpenMode};
use kithara::net::HttpClient;
use kithara_test_support::{Server, media};

const USAGE: &str = "\
usage: waveform [URL|FILE] [options]     without a track: a bundled one, from a loopback server

  --out FILE       the PNG file to write (default: waveform.png in the temporary directory)
  --width N        its width in pixels (default: 1200)
  --height N       its height in pixels (default: 120)";

/// Pixels from one bar to the next, and how many of them are drawn.
const STEP: usize = 4;
const BAR: usize = 3;

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match Options::parse().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("waveform: {}", in_one_line(&*failure));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut server = None;
    let track = match &options.track {
        Some(track) => track.clone(),
        None => server
            .insert(Server::start(media())?)
            .url("/hls/plain/master.m3u8"),
    };
    let folder = tempfile::tempdir()?;
    let cache = AssetCache::builder(folder.path()).open_blocking()?;
    let params = DecodeParams::new()
        .channels(2)
        .access(Access::new(HttpClient::new()?, cache));
    let mut decoder = block_on(Decoder::open(track.as_str(), &params, OpenMode::Online))?;

    let mut slices = Slices::default();
    while let Some(block) = decoder.next_block()? {
        for frame in block.samples().chunks_exact(2) {
            slices.add(frame);
        }
    }
    let frames = slices.frames;
    let png = picture(&slices.into_bars(options.width / STEP), options)?;
    std::fs::write(&options.out, png)?;
    println!("{frames} frames: {}", options.out.display());
    Ok(())
}

/// How loud a stretch of one channel is.
#[derive(Clone, Copy, Default)]
struct Level {
    peak: f32,
    squares: f64,
}

/// The levels of both channels, slice by slice. The length of a track need not be known: slices are joined in pairs when
/// there are many.
struct Slices {
    levels: Vec<[Level; 2]>,
    length: u64,
    frames: u64,
}

impl Default for Slices {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            length: 64,
            frames: 0,
        }
    }
}

impl Slices {
    const MOST: usize = 1 << 15;

    fn add(&mut self, frame: &[f32]) {
        if self.frames.is_multiple_of(self.length) {
            if self.levels.len() == Self::MOST {
                self.levels = self.levels.chunks(2).map(joined).collect();
                self.length *= 2;
            }
            self.levels.push(Default::default());
        }
        self.frames += 1;
        let levels = self.levels.last_mut().into_iter().flatten();
        for (level, sample) in levels.zip(frame) {
            level.peak = level.peak.max(sample.abs());
            level.squares += f64::from(*sample).powi(2);
        }
    }

    /// So many bars: peak and loudness (RMS) of both channels.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "pixels"
    )]
    fn into_bars(self, count: usize) -> Vec<[(f32, f32); 2]> {
        let slices = self.levels.len();
        let bar = |bar: usize| {
            let (from, to) = (bar * slices / count, (bar + 1) * slices / count);
            let levels = self.levels.get(from..to.max(from + 1)).unwrap_or_default();
            let frames = levels.len().max(1) as f64 * self.length as f64;
            joined(levels).map(|level| (level.peak, (level.squares / frames).sqrt() as f32))
        };
        (0..count.min(slices)).map(bar).collect()
    }
}

fn joined(levels: &[[Level; 2]]) -> [Level; 2] {
    let join = |all: [Level; 2], one: &[Level; 2]| {
        let mut all = all;
        for (all, one) in all.iter_mut().zip(one) {
            all.peak = all.peak.max(one.peak);
            all.squares += one.squares;
        }
        all
    };
    levels.iter().fold(Default::default(), join)
}

/// A PNG file of one byte a pixel (PNG, third edition): how opaque two colours are, on nothing.
fn picture(bars: &[[(f32, f32); 2]], options: &Options) -> Result<Vec<u8>, Failure> {
    let peaks = bars.iter().flatten().map(|(peak, _)| *peak);
    let loudest = peaks.fold(f32::MIN_POSITIVE, f32::max);
    let mut lines = ZlibEncoder::new(Vec::new(), Compression::best());
    for line in 0..options.height {
        // No filter.
        let mut pixels = vec![0_u8; options.width + 1];
        for (number, bar) in bars.iter().enumerate() {
            let from = number * STEP + 1;
            if let Some(pixels) = pixels.get_mut(from..from + BAR) {
                pixels.fill(colour(bar, loudest, line, options.height));
            }
        }
        lines.write_all(&pixels)?;
    }

    let mut head = Vec::new();
    head.extend(u32::try_from(options.width)?.to_be_bytes());
    head.extend(u32::try_from(options.height)?.to_be_bytes());
    // Eight bits, indices into a palette, nothing interlaced.
    head.extend([8, 3, 0, 0, 0]);
    // Index 0 is nothing; then sixteen shades of the peaks' colour, and sixteen of the loudness's over it.
    let shades = 0..SHADES;
    let palette = [PEAK; 1].into_iter().chain(shades.clone().map(|_| PEAK));
    let palette = palette.chain(shades.clone().map(|shade| between(PEAK, LOUD, shade)));
    let opacity = shades.map(|shade| (u16::from(shade + 1) * 255 / u16::from(SHADES)).to_be_bytes()[1]);

    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut png, *b"IHDR", &head)?;
    chunk(&mut png, *b"PLTE", &palette.flatten().collect::<Vec<_>>())?;
    // What is not listed is opaque.
    chunk(
        &mut png,
        *b"tRNS",
        &[0].into_iter().chain(opacity).collect::<Vec<_>>(),
    )?;
    chunk(&mut png, *b"IDAT", &lines.finish()?)?;
    chunk(&mut png, *b"IEND", &[])?;
    Ok(png)
}

const PEAK: [u8; 3] = [0x7f, 0xb2, 0xe5];
const LOUD: [u8; 3] = [0x1f, 0x6f, 0xb8];
const SHADES: u8 = 16;

/// The colour so far from the first one to the second.
fn between(first: [u8; 3], second: [u8; 3], shade: u8) -> [u8; 3] {
    let mix = |first: u8, second: u8| {
        let (first, second) = (u16::from(first), u16::from(second));
        let parts = u16::from(shade + 1);
        let mixed = (first * (u16::from(SHADES) - parts) + second * parts) / u16::from(SHADES);
        u8::try_from(mixed).unwrap_or(u8::MAX)
    };
    let mut mixed = [0; 3];
    for (mixed, (first, second)) in mixed.iter_mut().zip(first.into_iter().zip(second)) {
        *mixed = mix(first, second);
    }
    mixed
}

/// The palette's index for a pixel of a bar.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "pixels"
)]
fn colour(bar: &[(f32, f32); 2], loudest: f32, line: usize, height: usize) -> u8 {
    let middle = height as f32 / 2.0;
    let [left, right] = bar;
    let away = line as f32 + 0.5 - middle;
    let (peak, loud) = if away < 0.0 { *left } else { *right };
    // How much of the pixel lies within: the end of a bar is as opaque as the pixel is covered.
    let covered = |level: f32| {
        let reach = (level / loudest * middle).max(0.75);
        ((reach - away.abs() + 0.5).clamp(0.0, 1.0) * f32::from(SHADES)) as u8
    };
    match (covered(peak), covered(loud)) {
        (0, _) => 0,
        (peak, 0) => peak,
        (_, loud) => SHADES + loud,
    }
}

fn chunk(png: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) -> Result<(), Failure> {
    png.extend(u32::try_from(data.len())?.to_be_bytes());
    let mut sum = Crc::new();
    for part in [&kind[..], data] {
        sum.update(part);
        png.extend(part);
    }
    png.extend(sum.sum().to_be_bytes());
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
    width: usize,
    height: usize,
}

impl Options {
    fn parse() -> Result<Self, Failure> {
        use lexopt::{Arg, ValueExt as _};
        let mut options = Self {
            track: None,
            out: std::env::temp_dir().join("waveform.png"),
            width: 1200,
            height: 120,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Value(track) if options.track.is_none() => options.track = Some(track.string()?),
                Arg::Long("out") => options.out = arguments.value()?.into(),
                Arg::Long("width") => options.width = arguments.value()?.parse()?,
                Arg::Long("height") => options.height = arguments.value()?.parse()?,
                Arg::Long("help") | Arg::Short('h') => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if options.width < STEP || options.height < 2 {
            return Err("a picture is at least 4 pixels wide and 2 high".into());
        }
        Ok(options)
    }
}

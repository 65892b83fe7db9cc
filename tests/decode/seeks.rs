//! P2: after a seek the frame of that time comes, equal to the same place of an uninterrupted decode.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kithara::decode::{DecodeParams, Decoder};
use kithara_test_support::media;
use tempfile::tempdir;

use crate::pcm::{bundled, ffmpeg, has, open, rest};

/// A small generator: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// How what is heard behind a seek is to be like the same place of an uninterrupted decode.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    Equal,
    Within(f32),
    /// At the same place: noise that a codec makes up depends on all that came before.
    Aligned,
}

/// How many seeks a test makes: a few, or as many as `KITHARA_SEEKS` says.
pub(crate) fn seeks(few: usize) -> usize {
    let told = std::env::var("KITHARA_SEEKS").ok();
    told.and_then(|told| told.parse().ok()).unwrap_or(few)
}

/// Seeks in random order, from the end too, and compares some frames behind each.
pub(crate) fn seek_about(path: &Path, few: usize, tolerance: f32) {
    let all = rest(&mut open(path, &DecodeParams::new()));
    let how = if tolerance == 0.0 {
        How::Equal
    } else {
        How::Within(tolerance)
    };
    let name = path.file_name().unwrap().to_string_lossy();
    sought(
        &name,
        &mut open(path, &DecodeParams::new()),
        &all,
        seeks(few),
        how,
    );
}

/// Seeks about in a track whose samples are `all`, and says how far off the worst sample was.
pub(crate) fn sought(name: &str, decoder: &mut Decoder, all: &[f32], seeks: usize, how: How) {
    let spec = decoder.spec();
    let channels = usize::from(spec.channels.count());
    let frames = (all.len() / channels) as u64;
    let mut random = Random(7);
    let (mut worst, mut least) = (0.0_f32, 1.0_f64);
    for number in 0..seeks {
        if number % 16 == 9 {
            rest(decoder);
        }
        let near = frames.min(3000);
        let frame = match number % 8 {
            0 => random.below(near),
            1 => frames - 1 - random.below(near),
            _ => random.below(frames),
        };
        let time = Duration::from_nanos(frame * 1_000_000_000 / u64::from(spec.sample_rate) + 1);
        decoder.seek(time).unwrap();
        let mut heard = Vec::new();
        while heard.len() < 6000 * channels {
            let Some(block) = decoder.next_block().unwrap() else {
                break;
            };
            if heard.is_empty() {
                assert_eq!(block.position(), frame, "{name}, seek {number}");
            }
            heard.extend_from_slice(block.samples());
        }
        let want = &all[frame as usize * channels..];
        let length = heard.len().min(want.len());
        assert!(
            length >= 6000 * channels || heard.len() == want.len(),
            "{name}, seek {number} to {frame}: {} of {} samples",
            heard.len(),
            want.len()
        );
        let (heard, want) = (&heard[..length], &want[..length]);
        if matches!(how, How::Aligned) {
            least = least.min(aligned(name, heard, all, frame as usize, channels));
            continue;
        }
        let (at, off) = heard
            .iter()
            .zip(want)
            .map(|(heard, want)| (heard - want).abs())
            .enumerate()
            .fold((0, 0.0), |most, now| if now.1 > most.1 { now } else { most });
        let most = if let How::Within(most) = how { most } else { 0.0 };
        assert!(
            off <= most,
            "{name}, seek {number} to {frame}, {} frames on: {off:e} off",
            at / channels
        );
        worst = worst.max(off);
    }
    match how {
        How::Aligned => println!("{name}: {seeks} seeks, correlation at least {least:.4}, its peak at 0"),
        _ => println!("{name}: {seeks} seeks, {worst:.1e} off at most"),
    }
}

/// What is heard is most like the place that was sought, and less like those around it; how much so. Silence is like
/// anything.
fn aligned(name: &str, heard: &[f32], all: &[f32], frame: usize, channels: usize) -> f64 {
    let like = |lag: isize| {
        let from = frame.checked_add_signed(lag)? * channels;
        let there = all.get(from..from + heard.len())?;
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let power = dot(heard, heard) * dot(there, there);
        (power > 1e-6).then(|| dot(heard, there) / power.sqrt())
    };
    let Some(here) = like(0) else {
        return 1.0;
    };
    for lag in (-40..=40).chain([-2048, -1024, -960, 960, 1024, 2048]) {
        let there = like(lag).unwrap_or(-1.0);
        assert!(
            lag == 0 || there <= here,
            "{name}, {frame}: {here} at 0, {there} at {lag}"
        );
    }
    here
}

#[test]
fn p2_lossless_files() {
    seek_about(&bundled("piece.flac"), 200, 0.0);
    seek_about(&bundled("piece.wav"), 200, 0.0);
}

#[test]
fn p2_vorbis() {
    seek_about(&bundled("piece.ogg"), 60, 1e-4);
}

#[test]
fn p2_mp3() {
    seek_about(&bundled("piece.mp3"), 60, 1e-4);
}

/// Symphonia's reader alone stops, or plays from elsewhere, after every second of these.
#[test]
fn p2_flac_with_a_dense_seek_table() {
    if !has("flac") || !has("ffmpeg") {
        return;
    }
    let dir = tempdir().unwrap();
    let (wav, flac) = (dir.path().join("piece.wav"), dir.path().join("piece.flac"));
    ffmpeg(
        &[
            "-stream_loop",
            "10",
            "-i",
            bundled("piece.flac").to_str().unwrap(),
        ],
        &wav,
    );
    let status = std::process::Command::new("flac")
        .args(["-s", "-f", "--no-preserve-modtime", "-S", "0.2s", "-o"])
        .args([&flac, &wav])
        .status()
        .unwrap();
    assert!(status.success());
    seek_about(&flac, 100, 0.0);
    // And without one.
    let plain = dir.path().join("plain.flac");
    ffmpeg(&["-i", wav.to_str().unwrap(), "-c:a", "flac"], &plain);
    seek_about(&plain, 100, 0.0);
}

#[test]
fn p2_seeks_in_another_sample_rate_than_the_tracks() {
    let params = DecodeParams::new().sample_rate(48_000).channels(1);
    let path = bundled("piece.flac");
    let all = rest(&mut open(&path, &params));
    assert_eq!(all.len(), 288_000);
    let mut decoder = open(&path, &params);
    let mut random = Random(3);
    for _ in 0..100 {
        let frame = random.below(288_000 - 5000);
        decoder
            .seek(Duration::from_nanos(frame * 1_000_000_000 / 48_000 + 1))
            .unwrap();
        let block = decoder.next_block().unwrap().unwrap();
        assert_eq!(block.position(), frame);
        for (heard, want) in block.samples().iter().zip(&all[frame as usize..]) {
            assert!((heard - want).abs() < 1e-5, "at {frame}: {heard} is not {want}");
        }
    }
}

#[test]
fn p2_past_the_end_is_the_end() {
    for name in ["piece.flac", "piece.wav", "piece.ogg"] {
        let mut decoder = open(&bundled(name), &DecodeParams::new());
        for time in [decoder.duration().unwrap(), Duration::from_secs(1_000_000)] {
            decoder.seek(time).unwrap();
            assert!(decoder.next_block().unwrap().is_none(), "{name}");
        }
        decoder.seek(Duration::ZERO).unwrap();
        assert_eq!(decoder.next_block().unwrap().unwrap().position(), 0, "{name}");
    }
}

/// Counts the bytes that are read of a file.
struct Counted {
    bytes: Cursor<Vec<u8>>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

/// What is read of a file by seeks to these seconds, one after another.
fn read_by_seeks(bytes: Vec<u8>, seconds: &[u64]) -> Vec<u64> {
    let read = Arc::new(AtomicU64::new(0));
    let file = Counted {
        bytes: Cursor::new(bytes),
        read: Arc::clone(&read),
    };
    let mut decoder = Decoder::from_reader(file, &DecodeParams::new()).unwrap();
    seconds
        .iter()
        .map(|seconds| {
            read.store(0, Ordering::Relaxed);
            decoder.seek(Duration::from_secs(*seconds)).unwrap();
            let block = decoder.next_block().unwrap().unwrap();
            assert_eq!(block.position(), seconds * u64::from(block.spec().sample_rate));
            read.load(Ordering::Relaxed)
        })
        .collect()
}

/// Nothing in an MP3 file says which frame stands where, exactly: where each frame is as long as the others it is calculated,
/// and where they are not, the frames between are read, once.
#[test]
fn p2_mp3_is_read_between_two_places_only_where_that_is_needed() {
    let table = media().join("table");
    // At 48 kHz every frame of 96 kbit/s has 288 bytes. The first one holds no sound.
    let mut constant = std::fs::read(table.join("48k.mp3")).unwrap();
    let info = constant.windows(4).position(|four| four == b"Info").unwrap() - 36;
    constant.drain(..info + 288);
    let read = read_by_seeks(constant.repeat(150), &[200, 20, 250]);
    assert!(read.iter().all(|bytes| *bytes <= 4 * 65_536), "{read:?}");

    let variable = std::fs::read(table.join("tagless-vbr.mp3")).unwrap().repeat(150);
    let all = variable.len() as u64;
    let read = read_by_seeks(variable, &[200, 20, 250, 100, 240]);
    assert!(read[0] > all / 2 && read[0] < all, "{read:?} of {all}");
    // Back, on a little, and about in what was read already.
    assert!(read[1] <= 4 * 65_536, "{read:?}");
    assert!(read[2] < all / 4, "{read:?}");
    assert!(read[3..].iter().all(|bytes| *bytes <= 4 * 65_536), "{read:?}");
}

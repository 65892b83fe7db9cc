//! P2: after a seek the frame of that time comes, equal to the same place of an uninterrupted decode.

use std::path::Path;
use std::time::Duration;

use kithara::decode::DecodeParams;
use tempfile::tempdir;

use crate::pcm::{bundled, ffmpeg, has, open, rest, whole};

/// A small generator: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// Seeks in random order, from the end too, and compares some frames behind each.
pub(crate) fn seek_about(path: &Path, seeks: usize, tolerance: f32) {
    let (all, spec) = whole(path);
    let channels = usize::from(spec.channels.count());
    let frames = (all.len() / channels) as u64;
    let mut decoder = open(path, &DecodeParams::new());
    let mut random = Random(7);
    for number in 0..seeks {
        if number % 16 == 9 {
            rest(&mut decoder);
        }
        let frame = match number % 8 {
            0 => random.below(3000),
            1 => frames - 1 - random.below(3000),
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
                assert_eq!(block.position(), frame, "{}, seek {number}", path.display());
            }
            heard.extend_from_slice(block.samples());
        }
        let want = &all[frame as usize * channels..];
        let length = heard.len().min(want.len());
        assert!(heard.len() >= length && (length >= 6000 * channels || heard.len() == want.len()));
        for (at, (heard, want)) in heard.iter().zip(want).enumerate() {
            assert!(
                (heard - want).abs() <= tolerance,
                "{}, seek {number} to {frame}, {} frames on: {heard} is not {want}",
                path.display(),
                at / channels
            );
        }
    }
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

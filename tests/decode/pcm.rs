//! What tests have in common: tracks as vectors of samples, and what ffmpeg makes of them.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kithara::decode::{DecodeParams, Decoder, Spec};
use kithara_test_support::media;
use sha2::{Digest, Sha256};

/// A bundled file.
pub(crate) fn bundled(name: &str) -> PathBuf {
    media().join("files").join(name)
}

/// A decoder over a file in memory.
pub(crate) fn open(path: &Path, params: &DecodeParams) -> Decoder {
    Decoder::from_reader(Cursor::new(std::fs::read(path).unwrap()), params)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All that is left of a decoder, interleaved; its blocks follow each other.
pub(crate) fn rest(decoder: &mut Decoder) -> Vec<f32> {
    let mut samples = Vec::new();
    let mut next: Option<(u64, Spec)> = None;
    while let Some(block) = decoder.next_block().unwrap() {
        assert!(block.frames() > 0, "no block is empty");
        if let Some((position, spec)) = next.filter(|(_, spec)| *spec == block.spec()) {
            assert!(
                block.position() == position || block.position() == 0,
                "{} follows {position} ({spec:?})",
                block.position()
            );
        }
        next = Some((block.position() + block.frames() as u64, block.spec()));
        samples.extend_from_slice(block.samples());
    }
    samples
}

/// A file from its start to its end, in its own sample rate and channels.
pub(crate) fn whole(path: &Path) -> (Vec<f32>, Spec) {
    let mut decoder = open(path, &DecodeParams::new());
    let samples = rest(&mut decoder);
    (samples, decoder.spec())
}

/// The checksum of samples of 16 bits, as `expected.json` has it. Every sample must be one.
pub(crate) fn sha256_s16(samples: &[f32]) -> String {
    let mut sum = Sha256::new();
    for sample in samples {
        let whole = sample * 32_768.0;
        assert_eq!(whole, whole.round(), "a sample of 16 bits");
        sum.update((whole as i16).to_le_bytes());
    }
    hex(&sum.finalize())
}

/// Bytes as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Whether a tool is there. Tests that need one that is not say so and pass.
pub(crate) fn has(tool: &str) -> bool {
    let there = Command::new(tool)
        .arg(if tool.starts_with("ff") {
            "-version"
        } else {
            "--version"
        })
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !there {
        println!("skipped: no {tool}");
    }
    there
}

/// Runs ffmpeg; the file it makes.
pub(crate) fn ffmpeg(arguments: &[&str], output: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(arguments)
        .arg(output)
        .status()
        .unwrap();
    assert!(status.success(), "ffmpeg {arguments:?}");
}

/// What ffmpeg decodes a file to, as floats. Opus by its authors' library: ffmpeg's own decoder is less exact.
pub(crate) fn ffmpeg_pcm(path: &Path) -> Vec<f32> {
    let name = path.to_str().unwrap();
    let opus = name.contains("opus");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error"])
        .args(if opus { &["-c:a", "libopus"][..] } else { &[] })
        .arg("-i")
        .arg(path)
        .args(["-f", "f32le", "-c:a", "pcm_f32le", "-"])
        .output()
        .unwrap();
    let (samples, rest) = output.stdout.as_chunks::<4>();
    assert!(rest.is_empty());
    samples.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The largest difference between two tracks of the same length.
pub(crate) fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len(), "samples");
    ours.iter()
        .zip(theirs)
        .map(|(ours, theirs)| (ours - theirs).abs())
        .fold(0.0, f32::max)
}

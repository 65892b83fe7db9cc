//! PCM: what ffmpeg hears at the URL, and in the bytes that came out; and what this crate decodes.

use std::fs;
use std::time::Duration;

use futures_lite::future;
use kithara::decode::{DecodeParams, Decoder, TrimRule};
use kithara::hls::{HlsParams, HlsSource};
use kithara::media::OpenMode;
use kithara::net::Url;

use crate::tool::{ffmpeg, run};
use crate::tree::assert_same;

/// 16 bits, stereo.
const PCM: [&str; 7] = ["-map", "0:a:0", "-ac", "2", "-f", "s16le", "-"];

/// ffmpeg hears the same at the URL and in the bytes. What it decodes of them, with priming and padding, interleaved.
pub(crate) fn by_ffmpeg(url: &str, bytes: &[u8], what: &str) -> Vec<i16> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bytes");
    fs::write(&file, bytes).unwrap();
    let of_url = run(ffmpeg().args(["-allowed_extensions", "ALL", "-i", url]).args(PCM));
    let of_bytes = run(ffmpeg().arg("-i").arg(&file).args(PCM));
    assert!(
        of_url.len() > 15 * 44_100 * 4,
        "{what}: {} bytes of PCM",
        of_url.len()
    );
    assert_same(&of_bytes, &of_url, &format!("{what}, as ffmpeg hears it"));
    let whole = run(ffmpeg()
        .args(["-flags2", "skip_manual", "-i"])
        .arg(&file)
        .args(PCM));
    let samples = whole.chunks_exact(2);
    samples
        .map(|sample| i16::from_le_bytes([sample[0], sample[1]]))
        .collect()
}

/// The frames of one packet, at most.
const PACKET: usize = 1152;
/// Samples whose energy is compared.
const WINDOW: usize = 1024;

/// This crate decodes as many frames, offline, but for those that an edit list leaves out; and it is the same sound, without a
/// hole.
pub(crate) fn assert_decodes(url: &str, params: HlsParams, heard: &[i16], what: &str) {
    let source = HlsSource::new(Url::parse(url).unwrap(), params);
    let opened = future::block_on(async {
        let params = DecodeParams::new();
        Decoder::from_hls(source, &params, OpenMode::Offline).await
    });
    let mut decoder = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut samples = Vec::new();
    while let Some(block) = decoder.next_block().unwrap() {
        samples.extend_from_slice(block.samples());
    }
    let trim = decoder.format().trim;
    let heard = &heard[usize::try_from(trim.start).unwrap() * 2..];
    let (ours, theirs) = (samples.len() / 2, heard.len() / 2);
    // The padding is within the last packet.
    let padding = if trim.rule == TrimRule::EditList {
        PACKET
    } else {
        1
    };
    assert!(
        ours <= theirs && ours + padding > theirs,
        "{what}: {ours} frames of {theirs}, {trim:?}"
    );
    let energy = |samples: &mut dyn Iterator<Item = f64>| samples.map(|sample| sample * sample).sum::<f64>();
    let holes: Vec<_> = samples
        .chunks(WINDOW)
        .zip(heard.chunks(WINDOW))
        .map(|(ours, theirs)| {
            let theirs = theirs[..ours.len()].iter();
            let theirs = energy(&mut theirs.map(|sample| f64::from(*sample) / 32_768.0));
            (energy(&mut ours.iter().map(|sample| f64::from(*sample))), theirs)
        })
        .enumerate()
        // Noise that stands for a band of the sound is another one in each decoder, as loud.
        .filter(|(_, (ours, theirs))| *ours < theirs / 2.0 - 1e-3 || *theirs < ours / 2.0 - 1e-3)
        .collect();
    assert!(
        holes.is_empty(),
        "{what}: {} windows differ, {:?}",
        holes.len(),
        &holes[..1]
    );
    // P2: from the middle on.
    let middle = decoder.seek(Duration::from_secs(10));
    middle.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut rest = 0;
    while let Some(block) = decoder.next_block().unwrap() {
        rest += block.frames();
    }
    let rate = usize::try_from(decoder.spec().sample_rate).unwrap();
    assert!(
        rest.abs_diff(ours - 10 * rate) <= 2 * PACKET,
        "{what}: {rest} frames from 10 s on, of {ours}"
    );
}

//! P6: a damaged packet costs its own frames, which are told and silent; what follows keeps its time.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use kithara::decode::{DecodeEvent, DecodeParams, Decoder};
use tempfile::tempdir;

use crate::pcm::{bundled, ffmpeg, has, whole};

/// What is heard of a damaged file, and the frames that are told to be silent.
fn heard(bytes: Vec<u8>) -> (Vec<f32>, Vec<(u64, u64)>) {
    let mut decoder = Decoder::from_reader(Cursor::new(bytes), &DecodeParams::new()).unwrap();
    let (mut samples, mut silent) = (Vec::new(), Vec::new());
    loop {
        let block = decoder
            .next_block()
            .unwrap()
            .map(|block| block.samples().to_vec());
        while let Some(event) = decoder.next_event() {
            if let DecodeEvent::Damaged { at, frames, .. } = event {
                silent.push((at, frames));
            }
        }
        match block {
            Some(block) => samples.extend(block),
            None => return (samples, silent),
        }
    }
}

/// As many frames as before, nothing lost behind the damage, and nothing but zeros where silence is told.
fn costs_its_own_frames(file: &Path, damaged: Vec<u8>, most: u64, told: bool) {
    let (want, spec) = whole(file);
    let channels = usize::from(spec.channels.count());
    let (got, silent) = heard(damaged);
    let name = file.display();
    assert_eq!(got.len(), want.len(), "{name}: the time line is kept");
    for (at, frames) in &silent {
        let (at, frames) = (*at as usize * channels, *frames as usize * channels);
        assert!(
            got[at..at + frames].iter().all(|sample| *sample == 0.0),
            "{name}: silence"
        );
    }
    assert!(!told || !silent.is_empty(), "{name}: told");
    let differs = |(got, want): (&f32, &f32)| (got - want).abs() > 1e-4;
    let first = got.iter().zip(&want).position(differs);
    let last = got.iter().zip(&want).rposition(differs);
    if let (Some(first), Some(last)) = (first, last) {
        let frames = ((last - first) / channels) as u64;
        assert!(frames <= most, "{name}: {frames} frames differ, {silent:?}");
    }
}

#[test]
fn p6_turned_bytes_in_flac_and_mp3() {
    // A FLAC frame has a checksum; MP3 has none, and may give noise for silence.
    for (name, most, told) in [("piece.flac", 3 * 4608, true), ("piece.mp3", 30 * 1152, false)] {
        let file = bundled(name);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        for byte in &mut bytes[middle..middle + 24] {
            *byte ^= 0x5a;
        }
        costs_its_own_frames(&file, bytes, most, told);
    }
}

#[test]
fn p6_a_packet_of_adts_that_is_cut_out() {
    if !has("ffmpeg") {
        return;
    }
    let dir = tempdir().unwrap();
    let file = dir.path().join("cut.aac");
    let piece = bundled("piece.flac");
    ffmpeg(
        &["-i", piece.to_str().unwrap(), "-c:a", "aac", "-aac_pns", "0"],
        &file,
    );
    let mut bytes = fs::read(&file).unwrap();
    // Zeros over one header and what follows: the frame cannot be found.
    let middle = bytes.len() / 2;
    let header = bytes[middle..]
        .windows(2)
        .position(|two| two == [0xff, 0xf1])
        .unwrap()
        + middle;
    bytes[header..header + 40].fill(0);
    costs_its_own_frames(&file, bytes, 4 * 1024, true);
}

/// A page of 44 416 frames is damaged. Symphonia's reader gives the one behind it its time: that is heard a second early,
/// and the silence stands behind it.
#[test]
fn p6_a_lost_ogg_page_keeps_the_time_of_the_next() {
    let file = bundled("piece.ogg");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 24] {
        *byte ^= 0x5a;
    }
    costs_its_own_frames(&file, bytes.clone(), 46_000, true);
    differs_in_silence_alone(&file, bytes);
}

/// What is not told to be silent is the sound that was encoded.
fn differs_in_silence_alone(file: &Path, damaged: Vec<u8>) {
    let (want, spec) = whole(file);
    let channels = usize::from(spec.channels.count());
    let (got, silent) = heard(damaged);
    assert_eq!(got.len(), want.len());
    assert_eq!(silent.len(), 1, "told once: {silent:?}");
    let (at, frames) = silent[0];
    let silent = at as usize * channels..(at + frames) as usize * channels;
    for (number, (got, want)) in got.iter().zip(&want).enumerate() {
        let same = (got - want).abs() <= 1e-4;
        assert!(same || silent.contains(&number), "frame {}", number / channels);
    }
}

/// A container that says where each packet is hides from the decoder that one is damaged: its checksum tells.
#[test]
fn p6_a_turned_byte_of_flac_in_mp4() {
    let file = kithara_test_support::media().join("table").join("flac.mp4");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    differs_in_silence_alone(&file, bytes);
}

#[test]
fn p6_a_packet_of_mp4_that_is_overwritten() {
    if !has("ffmpeg") {
        return;
    }
    // Without perceptual noise: what that sounds like depends on all packets before.
    let dir = tempdir().unwrap();
    let file = dir.path().join("overwritten.m4a");
    let piece = bundled("piece.flac");
    let arguments = [
        "-i",
        piece.to_str().unwrap(),
        "-c:a",
        "aac",
        "-aac_pns",
        "0",
        "-movflags",
        "+faststart",
    ];
    ffmpeg(&arguments, &file);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 200].fill(0xff);
    costs_its_own_frames(&file, bytes, 6 * 1024, false);
}

#[test]
fn p6_a_file_that_is_cut_off_plays_up_to_there() {
    for name in [
        "piece.flac",
        "piece.ogg",
        "piece.mp3",
        "piece-moov-at-start.m4a",
        "piece.wav",
    ] {
        let file = bundled(name);
        let (want, _) = whole(&file);
        let bytes = fs::read(&file).unwrap();
        let (got, _) = heard(bytes[..bytes.len() * 2 / 3].to_vec());
        assert!(
            got.len() > want.len() / 2 && got.len() < want.len(),
            "{name}: {}",
            got.len()
        );
        let sure = got.len() - got.len() / 10;
        let same = got[..sure]
            .iter()
            .zip(&want)
            .all(|(got, want)| (got - want).abs() <= 1e-4);
        assert!(same, "{name}");
    }
}

//! P1: files as they are, against what is known of them.

use std::io::Cursor;
use std::time::Duration;

use kithara::decode::{Codec, Container, DecodeError, DecodeEvent, DecodeParams, Decoder, TrimRule};
use kithara_test_support::{expected, media};
use tempfile::tempdir;

use crate::pcm::{bundled, difference, ffmpeg, ffmpeg_pcm, has, open, rest, sha256_s16, whole};

#[test]
fn p1_lossless_files_are_bit_for_bit_what_was_encoded() {
    for name in ["piece.flac", "piece.wav"] {
        let pcm = &expected()["files"][name]["pcm"];
        let (samples, spec) = whole(&bundled(name));
        assert_eq!((spec.sample_rate, spec.channels.count()), (22_050, 2));
        assert_eq!(
            samples.len() as u64 / 2,
            pcm["samples"].as_u64().unwrap(),
            "{name}"
        );
        assert_eq!(pcm["sha256"], sha256_s16(&samples), "{name}");
    }
}

#[test]
fn p1_lossy_files_have_the_frames_that_were_encoded() {
    for name in [
        "piece.ogg",
        "piece.mp3",
        "piece-moov-at-end.m4a",
        "piece-moov-at-start.m4a",
    ] {
        let (samples, _) = whole(&bundled(name));
        // What was encoded. ffmpeg gives out 688 frames more of MP4: the padding that the last packet's duration declares.
        assert_eq!(samples.len(), 2 * 882_000, "{name}");
        let theirs = expected()["files"][name]["pcm"]["samples"].as_u64().unwrap();
        assert!((882_000..=882_688).contains(&theirs), "{name}");
        if has("ffmpeg") {
            let theirs = ffmpeg_pcm(&bundled(name));
            let off = difference(&samples, &theirs[..samples.len()]);
            assert!(off <= 1e-4, "{name}: {off}");
        }
    }
}

#[test]
fn p1_every_depth_of_lossless_sound_is_exact() {
    if !has("ffmpeg") {
        return;
    }
    let dir = tempdir().unwrap();
    let piece = bundled("piece.flac");
    let piece = piece.to_str().unwrap();
    // Each file's samples as doubles, from ffmpeg: exact for all of them.
    for (name, arguments) in [
        ("u8.wav", &["-c:a", "pcm_u8"][..]),
        ("s16.wav", &["-c:a", "pcm_s16le"]),
        ("s24.wav", &["-c:a", "pcm_s24le", "-af", "volume=0.77"]),
        ("s32.wav", &["-c:a", "pcm_s32le", "-af", "volume=0.77"]),
        ("f32.wav", &["-c:a", "pcm_f32le", "-af", "volume=0.77"]),
        ("f64.wav", &["-c:a", "pcm_f64le", "-af", "volume=0.77"]),
        ("alaw.wav", &["-c:a", "pcm_alaw"]),
        ("mulaw.wav", &["-c:a", "pcm_mulaw"]),
        ("six.wav", &["-c:a", "pcm_s24le", "-ac", "6"]),
        ("rf64.wav", &["-c:a", "pcm_s16le", "-rf64", "always"]),
        ("s16.aiff", &["-c:a", "pcm_s16be"]),
        ("s24.aiff", &["-c:a", "pcm_s24be", "-af", "volume=0.77"]),
        ("sowt.aifc", &["-c:a", "pcm_s16le", "-f", "aiff"]),
        ("f32.aifc", &["-c:a", "pcm_f32be", "-f", "aiff"]),
        (
            "s24.flac",
            &["-c:a", "flac", "-sample_fmt", "s32", "-af", "volume=0.77"],
        ),
        ("mono.flac", &["-c:a", "flac", "-ac", "1"]),
        ("six.flac", &["-c:a", "flac", "-ac", "6"]),
        ("s16.oga", &["-c:a", "flac"]),
    ] {
        let file = dir.path().join(name);
        ffmpeg(&[&["-i", piece], arguments].concat(), &file);
        let (samples, spec) = whole(&file);
        assert_eq!(difference(&samples, &ffmpeg_pcm(&file)), 0.0, "{name}");
        assert_eq!(
            samples.len(),
            132_300 * usize::from(spec.channels.count()),
            "{name}"
        );
    }
}

#[test]
fn p1_a_chain_plays_all_its_parts() {
    let part = std::fs::read(bundled("piece.ogg")).unwrap();
    let (samples, _) = whole(&bundled("piece.ogg"));
    // With the same serial number, as `cat` makes it.
    let twice = [&part[..], &part].concat();
    let mut decoder = Decoder::from_reader(Cursor::new(twice), &DecodeParams::new()).unwrap();
    let heard = rest(&mut decoder);
    assert_eq!(heard.len(), 2 * samples.len());
    assert_eq!(heard[..samples.len()], samples);
    assert_eq!(heard[samples.len()..], samples);
}

#[test]
fn p1_a_chain_of_different_parts_tells_each_format() {
    if !has("ffmpeg") {
        return;
    }
    let dir = tempdir().unwrap();
    let piece = bundled("piece.flac");
    let second = dir.path().join("second.oga");
    ffmpeg(&["-i", piece.to_str().unwrap(), "-c:a", "flac"], &second);
    let chain = [
        std::fs::read(bundled("piece.ogg")).unwrap(),
        std::fs::read(&second).unwrap(),
    ]
    .concat();
    let mut decoder = Decoder::from_reader(Cursor::new(chain), &DecodeParams::new()).unwrap();
    assert_eq!(decoder.duration().unwrap().as_secs(), 26);
    let mut rates = Vec::new();
    let mut frames = 0;
    while let Some(block) = decoder.next_block().unwrap() {
        frames += block.frames();
        while let Some(event) = decoder.next_event() {
            if let DecodeEvent::FormatChanged(format) = event {
                rates.push((format.codec, format.spec.sample_rate));
            }
        }
    }
    assert_eq!(rates, [(Codec::Vorbis, 44_100), (Codec::Flac, 22_050)]);
    assert_eq!(frames, 882_000 + 132_300);
}

#[test]
fn what_a_track_is_and_what_was_left_out_can_be_read() {
    let ogg = open(&bundled("piece.ogg"), &DecodeParams::new());
    let format = ogg.format();
    assert_eq!((format.codec, format.container), (Codec::Vorbis, Container::Ogg));
    assert_eq!(
        (format.trim.rule, format.trim.end),
        (TrimRule::OggGranule, Some(624))
    );
    assert_eq!(ogg.duration().unwrap().as_millis(), 20_000);
    assert!((60_000..90_000).contains(&format.bit_rate.unwrap()));

    let flac = open(&bundled("piece.flac"), &DecodeParams::new());
    assert_eq!(flac.format().bits_per_sample, Some(16));
    assert_eq!(flac.duration().unwrap().as_millis(), 6_000);
}

/// A box of words.
fn words(kind: [u8; 4], words: &[u32]) -> Vec<u8> {
    let mut bytes = (8 + 4 * words.len() as u32).to_be_bytes().to_vec();
    bytes.extend(kind);
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    bytes
}

/// P7.
#[test]
fn p7_a_fragmented_file_plays_as_long_as_it_says() {
    let file = std::fs::read(media().join("table/fragmented.mp4")).unwrap();
    let place = |kind: &[u8]| file.windows(4).position(|found| found == kind).unwrap() - 4;
    let duration = |file: Vec<u8>| {
        let mut decoder = Decoder::from_reader(Cursor::new(file), &DecodeParams::new()).unwrap();
        let told = decoder.duration();
        let channels = usize::from(decoder.spec().channels.count());
        let frames = rest(&mut decoder).len() / channels;
        assert_eq!(told, decoder.duration());
        (
            told,
            Duration::from_secs_f64(frames as f64 / f64::from(decoder.spec().sample_rate)),
        )
    };
    let (told, plays) = duration(file.clone());
    assert_eq!(told, None, "nothing says it");
    let near = |told: Option<Duration>| told.unwrap().abs_diff(plays) < Duration::from_millis(1);

    // In the header of the fragments, in the movie's milliseconds.
    let mut movie = file.clone();
    let header = words(*b"mehd", &[0, plays.as_millis() as u32]);
    for kind in [b"moov", b"mvex"] {
        let at = place(kind);
        let size = u32::from_be_bytes(movie[at..at + 4].try_into().unwrap());
        movie[at..at + 4].copy_from_slice(&(size + header.len() as u32).to_be_bytes());
    }
    let at = place(b"mvex") + 8;
    movie.splice(at..at, header);
    let (told, _) = duration(movie);
    assert!(near(told), "{told:?}");

    // In an index, in frames, priming among them; but not in one that tells of one fragment of several.
    let (first, end) = (place(b"moof"), place(b"mfra"));
    for (bytes, tells) in [(end - first, true), (6000, false)] {
        let frames = (plays.as_secs_f64() * 44_100.0).round() as u32 + 1024;
        let index = words(*b"sidx", &[0, 1, 44_100, 0, 0, 1, bytes as u32, frames, 0]);
        let mut file = file.clone();
        file.splice(first..first, index);
        let (told, _) = duration(file);
        assert_eq!(told.is_some(), tells);
        assert!(!tells || near(told), "{told:?}");
    }
}

#[test]
fn p6_what_cannot_be_decoded_is_refused_by_name_before_the_first_frame() {
    let refused = |bytes: &'static [u8]| {
        Decoder::from_reader(Cursor::new(bytes), &DecodeParams::new())
            .map(drop)
            .unwrap_err()
    };
    assert!(matches!(
        refused(b"\x1a\x45\xdf\xa3 and so on"),
        DecodeError::UnsupportedContainer { container } if container == "Matroska or WebM"
    ));
    assert!(matches!(refused(b"fLaC"), DecodeError::Malformed { .. }));
}

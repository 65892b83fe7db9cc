//! P1 and P2 on files that the encoders at hand make: each container and codec, its frames, its sound and its seeks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use kithara::decode::{Codec, Container, DecodeParams, TrimRule};
use tempfile::{TempDir, tempdir};

use crate::pcm::{bundled, difference, ffmpeg, ffmpeg_pcm, has, open, rest, whole};
use crate::seeks::seek_about;

/// Twelve seconds of the bundled piece at 44.1 kHz, and a folder for what is made of it.
fn source() -> Option<&'static (TempDir, PathBuf)> {
    static SOURCE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    if !has("ffmpeg") {
        return None;
    }
    Some(SOURCE.get_or_init(|| {
        let dir = tempdir().unwrap();
        let wav = dir.path().join("source.wav");
        let piece = bundled("piece.flac");
        let piece = piece.to_str().unwrap();
        ffmpeg(
            &[
                "-stream_loop",
                "1",
                "-i",
                piece,
                "-ar",
                "44100",
                "-t",
                "12",
                "-c:a",
                "pcm_s16le",
            ],
            &wav,
        );
        (dir, wav)
    }))
}

/// Frames in twelve seconds.
const FRAMES: usize = 529_200;

/// What ffmpeg makes of the source.
pub(crate) fn made(name: &str, arguments: &[&str]) -> Option<PathBuf> {
    let (dir, wav) = source()?;
    let file = dir.path().join(name);
    ffmpeg(&[&["-i", wav.to_str().unwrap()], arguments].concat(), &file);
    Some(file)
}

/// Our frames are as many as were encoded, and the same as ffmpeg's from its frame `skip` on.
fn is_like_ffmpegs(file: &Path, frames: usize, skip: usize, tolerance: f32) {
    let (ours, spec) = whole(file);
    let channels = usize::from(spec.channels.count());
    assert_eq!(ours.len() / channels, frames, "{}", file.display());
    let theirs = ffmpeg_pcm(file);
    let theirs = &theirs[skip * channels..];
    let common = ours.len().min(theirs.len());
    assert!(common + 3000 * channels >= ours.len(), "{}", file.display());
    let off = difference(&ours[..common], &theirs[..common]);
    assert!(off <= tolerance, "{}: {off}", file.display());
}

#[test]
fn p1_mp4_of_each_codec() {
    for (name, arguments, codec) in [
        ("aac.m4a", &["-c:a", "aac", "-b:a", "128k"][..], Codec::AacLc),
        ("mono.m4a", &["-c:a", "aac", "-ac", "1"], Codec::AacLc),
        ("alac.m4a", &["-c:a", "alac"], Codec::Alac),
        ("flac.mp4", &["-c:a", "flac", "-strict", "-2"], Codec::Flac),
        ("mp3.mp4", &["-c:a", "libmp3lame"], Codec::Mp3),
    ] {
        let Some(file) = made(name, arguments) else {
            return;
        };
        let decoder = open(&file, &DecodeParams::new());
        assert_eq!(
            (decoder.format().codec, decoder.format().container),
            (codec, Container::Mp4)
        );
        let tolerance = if codec.is_lossless() { 0.0 } else { 1e-4 };
        is_like_ffmpegs(&file, FRAMES, 0, tolerance);
    }
}

#[test]
fn p1_alac_and_flac_of_24_bits_in_mp4() {
    for (name, codec) in [("s24.m4a", "alac"), ("s24.mp4", "flac")] {
        let sample = if codec == "alac" { "s32p" } else { "s32" };
        let arguments = [
            "-af",
            "volume=0.77",
            "-c:a",
            codec,
            "-sample_fmt",
            sample,
            "-strict",
            "-2",
        ];
        let Some(file) = made(name, &arguments) else {
            return;
        };
        is_like_ffmpegs(&file, FRAMES, 0, 0.0);
    }
}

#[test]
fn p1_fragmented_mp4_adts_and_ts_files() {
    let fragmented = [
        "-c:a",
        "aac",
        "-movflags",
        "frag_keyframe+empty_moov",
        "-frag_duration",
        "1000000",
    ];
    let Some(file) = made("fragmented.mp4", &fragmented) else {
        return;
    };
    let decoder = open(&file, &DecodeParams::new());
    assert_eq!(decoder.format().container, Container::FragmentedMp4);
    let (ours, _) = whole(&file);
    assert!(
        (FRAMES..FRAMES + 2048).contains(&(ours.len() / 2)),
        "{}",
        ours.len() / 2
    );

    let adts = made("plain.aac", &["-c:a", "aac"]).unwrap();
    assert_eq!(
        open(&adts, &DecodeParams::new()).format().trim.rule,
        TrimRule::None
    );
    // Nothing declares the priming: it is heard, as it is by ffmpeg.
    let packets = FRAMES.div_ceil(1024) + 1;
    is_like_ffmpegs(&adts, packets * 1024, 0, 1e-4);

    let ts = made("plain.ts", &["-c:a", "aac"]).unwrap();
    assert_eq!(
        open(&ts, &DecodeParams::new()).format().container,
        Container::MpegTs
    );
    is_like_ffmpegs(&ts, packets * 1024, 0, 1e-4);
}

#[test]
fn p1_mp3_with_and_without_what_tells_its_frames() {
    for (name, arguments) in [
        ("cbr.mp3", &["-c:a", "libmp3lame", "-b:a", "128k"][..]),
        ("vbr.mp3", &["-c:a", "libmp3lame", "-q:a", "4"]),
        ("mono.mp3", &["-c:a", "libmp3lame", "-ac", "1", "-ar", "22050"]),
    ] {
        let Some(file) = made(name, arguments) else {
            return;
        };
        let rate = if name == "mono.mp3" { 2 } else { 1 };
        assert_eq!(
            open(&file, &DecodeParams::new()).format().trim.rule,
            TrimRule::Lame
        );
        is_like_ffmpegs(&file, FRAMES / rate, 0, 1e-4);
    }
    // Without the header nothing is known, and nothing left out.
    for (name, rate) in [("tagless-cbr.mp3", "-b:a"), ("tagless-vbr.mp3", "-q:a")] {
        let value = if rate == "-b:a" { "128k" } else { "4" };
        let file = made(name, &["-c:a", "libmp3lame", rate, value, "-write_xing", "0"]).unwrap();
        let (ours, _) = whole(&file);
        assert_eq!(ours.len() / 2 % 1152, 0);
        assert!(ours.len() / 2 >= FRAMES + 1105, "{name}: {}", ours.len() / 2);
        let theirs = ffmpeg_pcm(&file);
        let common = ours.len().min(theirs.len());
        assert!(difference(&ours[..common], &theirs[..common]) <= 1e-4, "{name}");
    }
}

#[test]
fn p1_two_mp3_files_in_one_are_both_heard() {
    let Some(single) = made("one.mp3", &["-c:a", "libmp3lame", "-q:a", "4", "-t", "4"]) else {
        return;
    };
    let bytes = fs::read(&single).unwrap();
    let both = single.with_file_name("both.mp3");
    fs::write(&both, [&bytes[..], &bytes].concat()).unwrap();
    let (heard, _) = whole(&single);
    let (twice, _) = whole(&both);
    assert!(twice.len() > 2 * heard.len() && twice.len() < 2 * heard.len() + 2 * 4 * 1152);
    assert!(twice[..heard.len()] == heard);
}

#[test]
fn p1_tags_before_and_behind_change_nothing() {
    for (name, arguments) in [
        ("tag.mp3", &["-c:a", "libmp3lame", "-q:a", "4"][..]),
        ("tag.flac", &["-c:a", "flac"]),
    ] {
        let Some(file) = made(name, arguments) else {
            return;
        };
        let (plain, _) = whole(&file);
        let mut bytes = b"ID3\x04\0\0\0\0\x08\0".to_vec();
        bytes.extend([0; 1024]);
        bytes.extend(fs::read(&file).unwrap());
        bytes.extend(b"TAG");
        bytes.extend([b' '; 125]);
        let tagged = file.with_file_name(format!("tagged-{name}"));
        fs::write(&tagged, bytes).unwrap();
        assert!(whole(&tagged).0 == plain, "{name}");
        seek_about(&tagged, 20, if name == "tag.flac" { 0.0 } else { 1e-4 });
    }
}

#[cfg(feature = "opus")]
#[test]
fn p1_opus_in_ogg_and_mp4() {
    for (name, arguments) in [
        ("opus.opus", &["-c:a", "libopus", "-b:a", "96k"][..]),
        (
            "speech.opus",
            &[
                "-c:a",
                "libopus",
                "-b:a",
                "16k",
                "-ac",
                "1",
                "-application",
                "voip",
            ],
        ),
        ("opus.mp4", &["-c:a", "libopus", "-strict", "-2"]),
    ] {
        let Some(file) = made(name, arguments) else {
            return;
        };
        let decoder = open(&file, &DecodeParams::new());
        assert_eq!(decoder.format().codec, Codec::Opus);
        is_like_ffmpegs(&file, 576_000, 0, 1e-4);
        seek_about(&file, 12, 1e-4);
    }
}

/// P2: a voice that never pauses. SILK predicts it from itself, so that an error goes on too.
#[cfg(feature = "opus")]
#[test]
fn p2_seeks_in_speech() {
    let arguments = [
        "-af",
        "aloop=loop=1:size=529200",
        "-c:a",
        "libopus",
        "-b:a",
        "12k",
        "-ac",
        "1",
        "-application",
        "voip",
    ];
    let Some(file) = made("voice.opus", &arguments) else {
        return;
    };
    seek_about(&file, 8, 1e-4);
}

#[test]
fn p6_opus_without_its_feature_is_refused_by_name() {
    if cfg!(feature = "opus") {
        return;
    }
    let Some(file) = made("refused.opus", &["-c:a", "libopus"]) else {
        return;
    };
    let bytes = std::io::Cursor::new(fs::read(file).unwrap());
    let refused = kithara::decode::Decoder::from_reader(bytes, &DecodeParams::new())
        .map(drop)
        .unwrap_err();
    assert!(refused.to_string().contains("Opus"), "{refused}");
}

#[test]
fn p2_seeks_in_each_kind() {
    for (name, arguments, tolerance) in [
        ("seek.m4a", &["-c:a", "aac", "-aac_pns", "0"][..], 1e-4),
        ("seek-alac.m4a", &["-c:a", "alac"], 0.0),
        (
            "seek.mp4",
            &[
                "-c:a",
                "aac",
                "-aac_pns",
                "0",
                "-movflags",
                "frag_keyframe+empty_moov",
                "-frag_duration",
                "700000",
            ],
            1e-4,
        ),
        ("seek.aac", &["-c:a", "aac", "-aac_pns", "0"], 1e-4),
        ("seek.ts", &["-c:a", "aac", "-aac_pns", "0"], 1e-4),
        ("seek-vbr.mp3", &["-c:a", "libmp3lame", "-q:a", "4"], 1e-4),
        ("seek-320.mp3", &["-c:a", "libmp3lame", "-b:a", "320k"], 1e-4),
        (
            "seek-tagless.mp3",
            &["-c:a", "libmp3lame", "-q:a", "4", "-write_xing", "0"],
            1e-4,
        ),
        ("seek.ogg", &["-c:a", "libvorbis", "-q:a", "6"], 1e-4),
        ("seek.aiff", &["-c:a", "pcm_s16be"], 0.0),
    ] {
        let Some(file) = made(name, arguments) else {
            return;
        };
        seek_about(&file, 32, tolerance);
    }
}

/// Symphonia decodes them wrong: the coupling of channels is undone in the wrong order.
#[test]
fn p6_vorbis_of_more_than_two_channels_is_refused_by_name() {
    let Some(file) = made("six.ogg", &["-c:a", "libvorbis", "-ac", "6"]) else {
        return;
    };
    let bytes = std::io::Cursor::new(fs::read(file).unwrap());
    let refused = kithara::decode::Decoder::from_reader(bytes, &DecodeParams::new())
        .map(drop)
        .unwrap_err();
    assert!(refused.to_string().contains("Vorbis"), "{refused}");
}

/// Encoders that are no part of ffmpeg.
#[test]
fn p1_what_other_encoders_write() {
    let Some((dir, wav)) = source() else {
        return;
    };
    for (tool, name, arguments) in [
        ("lame", "lame.mp3", &["--quiet", "-V", "3"][..]),
        ("lame", "lame-abr.mp3", &["--quiet", "--abr", "150"]),
        ("flac", "flac.flac", &["-s", "-8", "-f", "-o"]),
        ("flac", "flac.oga", &["-s", "--ogg", "-f", "-o"]),
        ("oggenc", "oggenc.ogg", &["-Q", "-q", "5", "-o"]),
        #[cfg(feature = "opus")]
        ("opusenc", "opusenc.opus", &["--quiet"]),
    ] {
        if !has(tool) {
            continue;
        }
        let file = dir.path().join(name);
        let mut command = Command::new(tool);
        command.args(arguments);
        let status = if arguments.last() == Some(&"-o") {
            command.arg(&file).arg(wav).status()
        } else {
            command.arg(wav).arg(&file).status()
        };
        assert!(status.unwrap().success(), "{name}");
        let lossless = tool == "flac";
        let frames = if tool == "opusenc" { 576_000 } else { FRAMES };
        is_like_ffmpegs(&file, frames, 0, if lossless { 0.0 } else { 1e-4 });
    }
}

/// P4.
#[test]
fn p4_another_rate_and_other_channels_keep_the_length() {
    let Some(file) = made("six.flac", &["-c:a", "flac", "-ac", "6"]) else {
        return;
    };
    let mut decoder = open(&file, &DecodeParams::new().sample_rate(48_000).channels(2));
    assert_eq!(rest(&mut decoder).len(), 2 * 576_000);
}

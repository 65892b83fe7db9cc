//! P7: what a track says of itself, and when.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kithara::decode::{DecodeEvent, DecodeParams, OutputParams};
use tempfile::tempdir;

use crate::pcm::{bundled, ffmpeg, has, open};

const TAGS: [&str; 16] = [
    "-metadata",
    "title=Täg",
    "-metadata",
    "artist=Someone",
    "-metadata",
    "album=Some album",
    "-metadata",
    "track=3/12",
    "-metadata",
    "disc=1/2",
    "-metadata",
    "genre=Chamber",
    "-metadata",
    "REPLAYGAIN_TRACK_GAIN=-6.50 dB",
    "-metadata",
    "REPLAYGAIN_TRACK_PEAK=0.5",
];

fn tagged(dir: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let file = dir.join(name);
    let piece = bundled("piece.flac");
    let input = ["-i", piece.to_str().unwrap(), "-t", "2"];
    ffmpeg(&[&input[..], &TAGS, arguments].concat(), &file);
    file
}

#[test]
fn p7_each_format_tells_its_tags() {
    if !has("ffmpeg") {
        return;
    }
    let dir = tempdir().unwrap();
    for (name, arguments) in [
        ("three.mp3", &["-c:a", "libmp3lame", "-id3v2_version", "3"][..]),
        ("four.mp3", &["-c:a", "libmp3lame", "-id3v2_version", "4"]),
        ("tags.flac", &["-c:a", "flac"]),
        ("tags.ogg", &["-c:a", "libvorbis"]),
        ("tags.m4a", &["-c:a", "aac"]),
        ("tags.wav", &["-c:a", "pcm_s16le"]),
    ] {
        let file = tagged(dir.path(), name, arguments);
        let decoder = open(&file, &DecodeParams::new());
        let tags = decoder.tags();
        assert_eq!(tags.title.as_deref(), Some("Täg"), "{name}");
        assert_eq!(tags.artist.as_deref(), Some("Someone"), "{name}");
        assert_eq!(tags.album.as_deref(), Some("Some album"), "{name}");
        assert_eq!(tags.genre.as_deref(), Some("Chamber"), "{name}");
        assert_eq!(
            (tags.track_number, tags.track_total),
            (Some(3), Some(12)),
            "{name}"
        );
        // A WAVE file's list has no disc and no loudness, and ffmpeg writes no loudness into MP4.
        if !name.ends_with("wav") {
            assert_eq!((tags.disc_number, tags.disc_total), (Some(1), Some(2)), "{name}");
        }
        if !name.ends_with("wav") && !name.ends_with("m4a") {
            assert_eq!(tags.loudness.track_gain, Some(-6.5), "{name}");
            assert_eq!(tags.loudness.track_peak, Some(0.5), "{name}");
        }
    }
}

#[test]
fn p7_the_cover_is_the_file_that_was_put_in() {
    if !has("ffmpeg") {
        return;
    }
    let dir = tempdir().unwrap();
    let cover = dir.path().join("cover.png");
    ffmpeg(
        &["-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", "1"],
        &cover,
    );
    let picture = std::fs::read(&cover).unwrap();
    for (name, codec) in [
        ("cover.mp3", "libmp3lame"),
        ("cover.flac", "flac"),
        ("cover.m4a", "aac"),
    ] {
        let file = dir.path().join(name);
        let piece = bundled("piece.flac");
        let arguments = [
            "-i",
            piece.to_str().unwrap(),
            "-i",
            cover.to_str().unwrap(),
            "-t",
            "1",
            "-map",
            "0:a",
            "-map",
            "1:v",
            "-c:v",
            "copy",
            "-c:a",
            codec,
            "-disposition:v",
            "attached_pic",
        ];
        ffmpeg(&arguments, &file);
        let decoder = open(&file, &DecodeParams::new());
        let told = decoder
            .tags()
            .cover
            .clone()
            .unwrap_or_else(|| panic!("{name}: no cover"));
        assert_eq!(told.data, picture, "{name}");
        assert_eq!(told.media_type.as_deref(), Some("image/png"), "{name}");
    }
}

#[test]
fn p7_chapters_have_their_times_and_titles() {
    if !has("ffmpeg") {
        return;
    }
    let dir = tempdir().unwrap();
    let list = dir.path().join("chapters.txt");
    let text = ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=2000\ntitle=One\n\
                [CHAPTER]\nTIMEBASE=1/1000\nSTART=2000\nEND=5000\ntitle=Two\n";
    std::fs::write(&list, text).unwrap();
    for (name, codec) in [("chapters.mp3", "libmp3lame"), ("chapters.m4a", "aac")] {
        let file = dir.path().join(name);
        let piece = bundled("piece.flac");
        let arguments = [
            "-i",
            piece.to_str().unwrap(),
            "-i",
            list.to_str().unwrap(),
            "-map_metadata",
            "1",
            "-map_chapters",
            "1",
            "-map",
            "0:a",
            "-c:a",
            codec,
        ];
        ffmpeg(&arguments, &file);
        let decoder = open(&file, &DecodeParams::new());
        let told: Vec<_> = decoder
            .tags()
            .chapters
            .iter()
            .map(|chapter| (chapter.start, chapter.title.clone().unwrap_or_default()))
            .collect();
        let want = [
            (Duration::ZERO, "One".to_owned()),
            (Duration::from_secs(2), "Two".to_owned()),
        ];
        assert_eq!(told, want, "{name}");
    }
}

#[test]
fn p7_chapters_in_vorbis_comments() {
    if !has("oggenc") {
        return;
    }
    let dir = tempdir().unwrap();
    let file = dir.path().join("chapters.ogg");
    let comments = [
        "CHAPTER001=00:00:00.000",
        "CHAPTER001NAME=One",
        "CHAPTER002=00:00:01.500",
        "CHAPTER002NAME=Two",
    ];
    let status = Command::new("oggenc")
        .arg("-Q")
        .args(comments.iter().flat_map(|comment| ["-c", comment]))
        .arg("-o")
        .args([&file, &bundled("piece.wav")])
        .status()
        .unwrap();
    assert!(status.success());
    let decoder = open(&file, &DecodeParams::new());
    let told: Vec<_> = decoder
        .tags()
        .chapters
        .iter()
        .map(|chapter| (chapter.start.as_millis(), chapter.title.as_deref()))
        .collect();
    assert_eq!(told, [(0, Some("One")), (1500, Some("Two"))]);
}

#[test]
fn p7_an_opus_encoder_s_loudness_is_read() {
    if !has("ffmpeg") || !has("opusenc") || cfg!(not(feature = "opus")) {
        return;
    }
    let dir = tempdir().unwrap();
    let file = dir.path().join("loud.opus");
    let status = Command::new("opusenc")
        .args(["--quiet", "--comment", "R128_TRACK_GAIN=-768"])
        .args([bundled("piece.flac"), file.clone()])
        .status()
        .unwrap();
    assert!(status.success());
    let decoder = open(&file, &DecodeParams::new());
    assert_eq!(decoder.tags().loudness.r128_track_gain, Some(-3.0));
}

#[test]
fn p7_the_next_track_s_tags_hold_from_its_first_frame_on() {
    if !has("ffmpeg") {
        return;
    }
    let dir = tempdir().unwrap();
    let second = tagged(dir.path(), "second.flac", &["-c:a", "flac"]);
    let mut first = open(&bundled("piece.wav"), &DecodeParams::new());
    first.then(open(&second, &DecodeParams::new()));
    assert!(first.tags().is_empty());
    let mut output = first.into_output(OutputParams::default()).unwrap();
    let handle = output.handle();
    let mut left = 2 * 66_149;
    let mut buffer = [0.0; 512];
    while left > 0 {
        let count = left.min(512);
        left -= output.pull(&mut buffer[..count]);
    }
    assert!(handle.tags().is_empty(), "the first one is heard still");
    // Its last frame, and the second one's first.
    for _ in 0..2 {
        while output.pull(&mut buffer[..2]) == 0 {}
    }
    assert_eq!(handle.tags().title.as_deref(), Some("Täg"));
    let mut told = false;
    while let Some(event) = handle.events().try_next().unwrap() {
        told |= matches!(event, DecodeEvent::TagsChanged(tags) if tags.track_number == Some(3));
    }
    assert!(told);
}

//! Tracks that last long enough to be measured, made by ffmpeg from a bundled one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Seconds of a track, and of an HLS tree.
const TRACK: u32 = 180;
pub(crate) const TREE: u32 = 1200;

/// One of the bundled files.
pub(crate) fn bundled(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/media/files")
        .join(name)
}

pub(crate) fn bytes(path: &Path) -> Arc<[u8]> {
    std::fs::read(path).unwrap().into()
}

/// Where what was made is kept from run to run.
fn folder() -> PathBuf {
    let folder = Path::new(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target/tmp")).join("decode-bench");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs ffmpeg; whether it is there and did what was asked.
fn ffmpeg(arguments: &[&str]) -> bool {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments)
        .stdout(Stdio::null())
        .status();
    run.is_ok_and(|status| status.success())
}

/// Has `make` write to a new path, and gives that once it is whole.
fn once(name: &str, make: impl FnOnce(&Path) -> bool) -> Option<PathBuf> {
    let whole = folder().join(name);
    if !whole.exists() {
        let unfinished = folder().join(format!("unfinished-{name}"));
        if !make(&unfinished) {
            return None;
        }
        std::fs::rename(&unfinished, &whole).unwrap();
    }
    Some(whole)
}

/// So many seconds of a bundled track, over and over, encoded as `arguments` say; `None` without ffmpeg.
fn encoded(name: &str, seconds: u32, arguments: &[&str]) -> Option<PathBuf> {
    // A container of samples repeats without a gap.
    let base = once("base.wav", |to| {
        let from = bundled("piece.ogg");
        ffmpeg(&["-i", from.to_str().unwrap(), to.to_str().unwrap()])
    })?;
    once(name, |to| {
        let seconds = seconds.to_string();
        let input = ["-stream_loop", "-1", "-i", base.to_str().unwrap(), "-t", &seconds];
        let output = ["-map_metadata", "-1", to.to_str().unwrap()];
        ffmpeg(&[&input[..], arguments, &output].concat())
    })
}

/// A track for each format with the name of that format; the bundled one where ffmpeg cannot make a long one, if there is one.
pub(crate) fn tracks() -> Vec<(&'static str, PathBuf)> {
    let formats: [(&str, &str, &[&str], Option<&str>); 6] = [
        ("mp3", "mp3", &["-b:a", "192k"], Some("piece.mp3")),
        (
            "aac",
            "aac.m4a",
            &["-b:a", "128k"],
            Some("piece-moov-at-start.m4a"),
        ),
        ("flac", "flac", &[], Some("piece.flac")),
        (
            "vorbis",
            "ogg",
            &["-c:a", "libvorbis", "-b:a", "160k"],
            Some("piece.ogg"),
        ),
        ("alac", "alac.m4a", &["-c:a", "alac"], None),
        ("wav", "wav", &[], Some("piece.wav")),
    ];
    formats
        .into_iter()
        .filter_map(|(format, extension, arguments, instead)| {
            let made = encoded(&format!("track.{extension}"), TRACK, arguments);
            let track = made.or_else(|| instead.map(bundled));
            if track.is_none() {
                println!("figure {format} left out: no ffmpeg");
            }
            Some((format, track?))
        })
        .collect()
}

/// So many minutes of MP3, where ffmpeg can make them.
pub(crate) fn minutes(minutes: u32) -> Option<PathBuf> {
    let name = format!("{minutes}-minutes.mp3");
    encoded(&name, minutes * 60, &["-b:a", "128k"])
}

/// The kinds of trees that [`tree`] makes.
pub(crate) const TREES: [&str; 3] = ["ts", "fmp4", "aes"];

/// A folder with a `playlist.m3u8` of plain AAC: in TS, in fragmented MP4, or in encrypted TS.
pub(crate) fn tree(kind: &str) -> Option<PathBuf> {
    let track = encoded("tree.m4a", TREE, &["-b:a", "128k"])?;
    once(kind, |to| {
        drop(std::fs::remove_dir_all(to));
        std::fs::create_dir(to).unwrap();
        let key = to.join("key-info");
        std::fs::write(to.join("key.bin"), [7; 16]).unwrap();
        std::fs::write(&key, format!("key.bin\n{}\n", to.join("key.bin").display())).unwrap();
        let extension = if kind == "fmp4" { "m4s" } else { "ts" };
        let segments = to.join(format!("seg-%03d.{extension}"));
        let (playlist, segments) = (to.join("playlist.m3u8"), segments.to_str().unwrap());
        let input = [
            "-i",
            track.to_str().unwrap(),
            "-c",
            "copy",
            "-f",
            "hls",
            "-hls_time",
            "6",
        ];
        let list = ["-hls_list_size", "0", "-hls_playlist_type", "vod"];
        let files = ["-hls_segment_filename", segments];
        let kind: &[&str] = match kind {
            "fmp4" => &["-hls_segment_type", "fmp4"],
            "aes" => &["-hls_key_info_file", key.to_str().unwrap()],
            _ => &[],
        };
        ffmpeg(&[&input[..], &list, &files, kind, &[playlist.to_str().unwrap()]].concat())
    })
}

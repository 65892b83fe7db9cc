//! ffmpeg as a packager: fMP4, MPEG-TS and packed audio, with one file or many, in clear and with keys that rotate.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::contents;
use crate::tool::{ffmpeg, has_ffmpeg, music, run, wait_until};
use crate::tree::{Play, assert_plays, assert_same};

const AAC: [&str; 4] = ["-c:a", "aac", "-b:a", "128k"];
const MP3: [&str; 4] = ["-c:a", "libmp3lame", "-b:a", "128k"];
/// Segments of two seconds, in a list that is ended.
const HLS: [&str; 6] = ["-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod"];

/// The music as one Media Playlist, `list.m3u8`, whose segments are named by `segments`.
fn packaged(codec: &[&str], options: &[&str], segments: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join(segments);
    let list = folder.path().join("list.m3u8");
    let mut command = ffmpeg();
    command
        .arg("-i")
        .arg(music())
        .args(["-vn"])
        .args(codec)
        .args(HLS)
        .args(options);
    run(command.arg("-hls_segment_filename").arg(name).arg(list));
    folder
}

fn assert_list_plays(folder: &TempDir) {
    assert_plays(folder.path(), &[Play::media("list.m3u8")]);
}

#[test]
fn fragments_of_mp4_play() {
    if !has_ffmpeg() {
        return;
    }
    let opus: &[&str] = if cfg!(feature = "opus") {
        &["-c:a", "libopus", "-ar", "48000"]
    } else {
        &AAC
    };
    for codec in [
        &AAC[..],
        &["-c:a", "flac", "-strict", "-2"],
        &["-c:a", "alac"],
        opus,
    ] {
        assert_list_plays(&packaged(codec, &["-hls_segment_type", "fmp4"], "%d.m4s"));
    }
}

#[test]
fn transport_streams_play() {
    if !has_ffmpeg() {
        return;
    }
    assert_list_plays(&packaged(&AAC, &["-hls_flags", "program_date_time"], "%d.ts"));
    assert_list_plays(&packaged(
        &MP3,
        &["-start_number", "70", "-hls_flags", "independent_segments"],
        "%d.ts",
    ));
}

#[test]
fn byte_ranges_play() {
    if !has_ffmpeg() {
        return;
    }
    let one_file = ["-hls_flags", "single_file"];
    assert_list_plays(&packaged(&AAC, &one_file, "all.ts"));
    let fragments = [&one_file[..], &["-hls_segment_type", "fmp4"]].concat();
    assert_list_plays(&packaged(&AAC, &fragments, "all.m4s"));
    assert_list_plays(&packaged(
        &["-c:a", "flac", "-strict", "-2"],
        &fragments,
        "all.m4s",
    ));
}

#[test]
fn packed_audio_plays() {
    if !has_ffmpeg() {
        return;
    }
    for (codec, format, name) in [(AAC, "adts", "%d.aac"), (MP3, "mp3", "%d.mp3")] {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list.m3u8");
        let mut command = ffmpeg();
        command.arg("-i").arg(music()).arg("-vn").args(codec);
        command.args(["-f", "segment", "-segment_time", "2", "-segment_format", format]);
        command
            .args(["-segment_list_type", "m3u8", "-segment_list"])
            .arg(list);
        run(command.arg(folder.path().join(name)));
        assert_list_plays(&folder);
    }
}

/// Writes a key, and the three lines that tell ffmpeg of it, in one step: it reads them whenever it begins a segment.
fn set_key(folder: &Path, info: &Path, number: u8) {
    let name = format!("{number}.key");
    let file = folder.join(&name);
    fs::write(&file, [number.wrapping_mul(37) ^ 0x5a; 16]).unwrap();
    // Every other key has an IV of its own; with the rest the Media Sequence Number is the IV.
    let iv = if number.is_multiple_of(2) {
        format!("{:032x}\n", 0xfeed_u32 + u32::from(number))
    } else {
        String::new()
    };
    let staged = info.with_extension("staged");
    fs::write(&staged, format!("{name}\n{}\n{iv}", file.display())).unwrap();
    fs::rename(staged, info).unwrap();
}

/// The music in segments of two seconds under four keys. ffmpeg gets the sound a part at a time, and a new key in between.
fn rotated(codec: &[&str], options: &[&str]) -> TempDir {
    let pcm = run(ffmpeg()
        .arg("-i")
        .arg(music())
        .args(["-f", "s16le", "-ar", "44100", "-ac", "2", "-"]));
    let folder = tempfile::tempdir().unwrap();
    let info = folder.path().join("info");
    set_key(folder.path(), &info, 0);
    let mut command = Command::new("ffmpeg");
    command.args([
        "-v", "error", "-y", "-f", "s16le", "-ar", "44100", "-ac", "2", "-i", "-",
    ]);
    command
        .args(codec)
        .args(HLS)
        .args(options)
        .args(["-hls_flags", "periodic_rekey", "-hls_key_info_file"]);
    command
        .arg(&info)
        .arg("-hls_segment_filename")
        .arg(folder.path().join("%d.ts"));
    command.arg(folder.path().join("list.m3u8"));
    let mut packager = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut sound = packager.stdin.take().unwrap();
    for (part, number) in pcm.chunks(pcm.len() / 4 + 1).zip(0_u8..) {
        sound.write_all(part).unwrap();
        if number < 3 {
            // Five seconds are there: the segment that holds the last one of them is begun.
            let begun = 70 + 2 * usize::from(number);
            let file = folder.path().join(format!("{begun}.ts"));
            wait_until("a segment is begun", || file.exists());
            set_key(folder.path(), &info, number + 1);
        }
    }
    drop(sound);
    assert!(packager.wait().unwrap().success());
    folder
}

/// The keys that a playlist names, in order.
fn keys(list: &Path) -> Vec<String> {
    let text = fs::read_to_string(list).unwrap();
    let keys = text
        .lines()
        .filter(|line| line.starts_with("#EXT-X-KEY:METHOD=AES-128"));
    keys.map(str::to_owned).collect()
}

/// And what is played is what ffmpeg writes without keys.
#[test]
fn keys_that_rotate_are_followed() {
    if !has_ffmpeg() {
        return;
    }
    let start: [&str; 2] = ["-start_number", "70"];
    for codec in [AAC, MP3] {
        let folder = rotated(&codec, &start);
        let list = folder.path().join("list.m3u8");
        let mut distinct = keys(&list);
        distinct.dedup();
        assert!(distinct.len() >= 4, "{distinct:?}");
        let pcm = folder.path().join("music.wav");
        run(ffmpeg().arg("-i").arg(music()).arg(&pcm));
        let clear: PathBuf = folder.path().join("clear");
        fs::create_dir(&clear).unwrap();
        let mut command = ffmpeg();
        command.arg("-i").arg(pcm).args(codec).args(HLS).args(start);
        run(command
            .arg("-hls_segment_filename")
            .arg(clear.join("%d.ts"))
            .arg(clear.join("list.m3u8")));
        assert_same(
            &contents::of(&list),
            &contents::of(&clear.join("list.m3u8")),
            "decrypted",
        );
        assert_list_plays(&folder);
    }
}

/// Two tracks appended to each other in one Media Playlist: a discontinuity, and in fMP4 another Media Initialization Section.
#[test]
fn an_appended_track_plays() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut command = ffmpeg();
        command.arg("-i").arg(music()).arg("-vn").args(AAC);
        command.args([
            "-f",
            "hls",
            "-hls_time",
            "2",
            "-hls_list_size",
            "0",
            "-hls_flags",
            "append_list",
        ]);
        command
            .arg("-hls_segment_filename")
            .arg(folder.path().join("%d.ts"));
        run(command.arg(folder.path().join("list.m3u8")));
    }
    let text = fs::read_to_string(folder.path().join("list.m3u8")).unwrap();
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 2, "{text}");
    assert_list_plays(&folder);
}

/// A ladder of sound alone, and audio Renditions in two languages beside pictures.
#[test]
fn multivariant_playlists_play() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = ffmpeg();
    command
        .arg("-i")
        .arg(music())
        .args(["-map", "0:a", "-map", "0:a", "-map", "0:a"]);
    command
        .args(["-c:a", "aac", "-b:a:0", "96k", "-b:a:1", "48k", "-b:a:2", "160k"])
        .args(HLS);
    command.args(["-hls_segment_type", "fmp4", "-var_stream_map", "a:0 a:1 a:2"]);
    command.args(["-master_pl_name", "master.m3u8", "-hls_segment_filename"]);
    command
        .arg(folder.path().join("%v-%d.m4s"))
        .arg(folder.path().join("%v.m3u8"));
    run(&mut command);
    assert_plays(
        folder.path(),
        &[0, 1, 2].map(|variant| {
            let list = ["0.m3u8", "1.m3u8", "2.m3u8"][variant];
            Play::variant("master.m3u8", variant, list)
        }),
    );

    let folder = tempfile::tempdir().unwrap();
    let mut command = ffmpeg();
    command
        .arg("-i")
        .arg(music())
        .args(["-f", "lavfi", "-i", "testsrc=size=64x36:rate=5:duration=20"]);
    command.args([
        "-map", "0:a", "-map", "0:a", "-map", "1:v", "-c:a", "aac", "-b:a:0", "64k", "-b:a:1", "96k",
    ]);
    command
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "10"])
        .args(HLS);
    let streams = "a:0,agroup:sound,language:en,default:yes a:1,agroup:sound,language:de v:0,agroup:sound";
    command.args([
        "-var_stream_map",
        streams,
        "-master_pl_name",
        "master.m3u8",
        "-hls_segment_filename",
    ]);
    command
        .arg(folder.path().join("%v-%d.ts"))
        .arg(folder.path().join("%v.m3u8"));
    run(&mut command);
    assert_plays(
        folder.path(),
        &[
            Play::variant("master.m3u8", 0, "0.m3u8"),
            Play::variant("master.m3u8", 0, "0.m3u8").language("en-US"),
            Play::variant("master.m3u8", 0, "1.m3u8").language("de"),
        ],
    );
}

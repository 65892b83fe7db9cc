//! Shaka Packager: fMP4 in many files and in one, MPEG-TS, packed audio; and what it encrypts, which is refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use futures_lite::future;
use kithara::hls::{HlsError, PlaylistError};

use crate::served::Nginx;
use crate::tool::{encoded, has, has_ffmpeg, run};
use crate::tree::{Play, Tape, assert_plays, open, params};

/// The program: `KITHARA_SHAKA` names it.
fn packager() -> String {
    std::env::var("KITHARA_SHAKA").unwrap_or_else(|_| "packager".to_owned())
}

/// Two bit rates of the music, as the packager wants them: in MP4 files.
fn sources(folder: &Path) -> [std::path::PathBuf; 2] {
    ["64k", "128k"].map(|rate| {
        encoded(
            folder,
            &format!("{rate}.mp4"),
            &["-vn", "-c:a", "aac", "-b:a", rate],
        )
    })
}

/// Packages two Variant Streams, `low.m3u8` and `high.m3u8`, of `master.m3u8`. `output` says where each one's media goes.
fn package(folder: &Path, output: impl Fn(&str) -> String, options: &[&str]) {
    let sources = tempfile::tempdir().unwrap();
    let mut command = Command::new(packager());
    for (source, name) in self::sources(sources.path()).iter().zip(["low", "high"]) {
        let output = output(&format!("{}/{name}", folder.display()));
        command.arg(format!(
            "in={},stream=audio,{output},playlist_name={name}.m3u8,hls_group_id=sound,hls_name={name}",
            source.display()
        ));
    }
    command.args([
        "--segment_duration",
        "2",
        "--hls_playlist_type",
        "VOD",
        "--hls_master_playlist_output",
    ]);
    run(command.arg(folder.join("master.m3u8")).args(options));
}

/// The number of a Variant Stream: the packager writes them in any order.
fn number(folder: &Path, list: &str) -> usize {
    let text = fs::read_to_string(folder.join("master.m3u8")).unwrap();
    let mut uris = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    uris.position(|uri| uri == list).unwrap()
}

/// Each Variant Stream is named as a Rendition of its own group too, all in one group (fault W29).
fn assert_ladder_plays(output: impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    package(folder.path(), output, &[]);
    assert_plays(
        folder.path(),
        &[
            Play::media("low.m3u8"),
            Play::media("high.m3u8"),
            Play::variant("master.m3u8", number(folder.path(), "low.m3u8"), "low.m3u8"),
            Play::variant("master.m3u8", number(folder.path(), "high.m3u8"), "high.m3u8"),
        ],
    );
}

fn is_there() -> bool {
    has_ffmpeg() && has(&packager(), &["--version"])
}

#[test]
fn fragments_of_mp4_play() {
    if !is_there() {
        return;
    }
    assert_ladder_plays(|name| format!("init_segment={name}-init.mp4,segment_template={name}-$Number$.m4s"));
    assert_ladder_plays(|name| format!("output={name}.mp4"));
}

#[test]
fn transport_streams_and_packed_audio_play() {
    if !is_there() {
        return;
    }
    assert_ladder_plays(|name| format!("segment_template={name}-$Number$.ts"));
    assert_ladder_plays(|name| format!("segment_template={name}-$Number$.aac"));
}

/// H2: SAMPLE-AES is not decrypted. It is refused before the first byte.
#[test]
fn samples_that_are_encrypted_are_refused() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let key = "label=:key_id=00112233445566778899aabbccddeeff:key=ffeeddccbbaa99887766554433221100";
    let options = [
        "--enable_raw_key_encryption",
        "--keys",
        key,
        "--protection_scheme",
        "cbcs",
        "--clear_lead",
        "0",
    ];
    package(
        folder.path(),
        |name| format!("segment_template={name}-$Number$.ts"),
        &options,
    );
    let Some(server) = Nginx::start(folder.path()) else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let cache = open(root.path());
    let tape = Tape::of(&server.url("master.m3u8"), params(&cache, 0, None), false);
    let is_refused = matches!(
        tape.error,
        Some(HlsError::Playlist {
            source: PlaylistError::UnsupportedEncryption { .. },
            ..
        })
    );
    assert!(
        is_refused && tape.bytes.is_empty(),
        "{} bytes, {:?}",
        tape.bytes.len(),
        tape.error
    );
    future::block_on(cache.closed());
}

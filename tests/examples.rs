//! Every example answers `--help`, and an argument that it does not know is an error in one line. What the README says of
//! some of them holds.

#![cfg(all(feature = "file", feature = "hls"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

/// The examples of this package: the files in its folder.
fn examples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let sources = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let names = sources.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    names.collect()
}

/// An example, which `cargo test` has built beside this test unless it was told to build this test alone.
fn command(example: &str) -> Command {
    let mut binary: PathBuf = std::env::current_exe().unwrap();
    binary.pop();
    binary.pop();
    binary.push(format!("examples/{example}{}", std::env::consts::EXE_SUFFIX));
    if !binary.exists() {
        let arguments = [
            "build",
            "--quiet",
            "--features",
            "decode,file,hls,offline",
            "--example",
            example,
        ];
        let mut build = Command::new(env!("CARGO"));
        build.args(arguments).args(["--manifest-path", MANIFEST]);
        assert!(build.status().unwrap().success());
    }
    Command::new(binary)
}

fn run(example: &str, argument: &str) -> Output {
    command(example).arg(argument).output().unwrap()
}

#[test]
fn every_example_answers_help() {
    for example in examples() {
        let output = run(&example, "--help");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &[][..]),
            "{example}"
        );
        assert!(
            said.starts_with(&format!("usage: {example} ")),
            "{example}: {said}"
        );
    }
}

#[test]
fn every_example_fails_in_one_line() {
    for example in examples() {
        let output = run(&example, "--no-such-option");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(1), &[][..]),
            "{example}"
        );
        assert!(said.starts_with(&format!("{example}: ")), "{example}: {said}");
        assert_eq!(said.lines().count(), 1, "{example}: {said}");
    }
}

#[test]
fn the_music_player_is_short() {
    let source = include_str!("../examples/music_player.rs");
    let (player, _) = source
        .split_once("/// The test server, and what it plays.\n")
        .unwrap();
    assert!(player.lines().count() < 120);
}

#[test]
fn the_waveform_is_a_picture() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("waveform.png");
    let piece = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media/files/piece.mp3");
    let output = command("waveform")
        .arg(piece)
        .args(["--width", "400", "--height", "80", "--out"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("882000 frames: "), "{said}");
    for picture in [std::fs::read(file).unwrap(), README_PICTURE.to_vec()] {
        assert_eq!(picture[..16], *b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
        assert_eq!(picture[picture.len() - 8..][..4], *b"IEND");
        assert!(picture.len() < 20_000, "{} bytes", picture.len());
    }
}

const README_PICTURE: &[u8] = include_bytes!("../docs/waveform.png");

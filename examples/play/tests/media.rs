//! Every file and tree of the test media is played into a WAV file of as many frames as its table says.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kithara_test_support::{Server, expected, media};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

struct Player {
    server: Server,
    folder: TempDir,
}

/// A WAV file: what its head says, and whether it is as long as that.
#[derive(Debug, PartialEq)]
struct Wav {
    rate: u64,
    channels: u64,
    frames: u64,
}

impl Player {
    fn new() -> Self {
        Self {
            server: Server::start(media()).unwrap(),
            folder: tempdir().unwrap(),
        }
    }

    fn url(&self, path: &str) -> String {
        self.server.url(&format!("/{path}"))
    }

    /// Plays what `arguments` say into a WAV file.
    fn play(&self, arguments: &[&str]) -> Output {
        let mut play = Command::new(env!("CARGO_BIN_EXE_play"));
        play.args(["--cache".as_ref(), self.folder.path().join("cache").as_os_str()]);
        play.args(["--wav".as_ref(), self.wav_file().as_os_str()]);
        play.args(arguments).output().unwrap()
    }

    fn wav_file(&self) -> PathBuf {
        self.folder.path().join("out.wav")
    }

    /// Plays a track, and reads what was written.
    fn heard(&self, track: &str) -> Wav {
        let output = self.play(&[track]);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        wav(&self.wav_file())
    }
}

fn wav(path: &Path) -> Wav {
    let file = std::fs::read(path).unwrap();
    let number = |at: usize, bytes: usize| {
        let number = file[at..at + bytes].iter().rev();
        number.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    assert_eq!((&file[..4], &file[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
    assert_eq!(number(4, 4), file.len() as u64 - 8);
    let (rate, channels) = (number(24, 4), number(22, 2));
    assert_eq!(number(76, 4), file.len() as u64 - 80);
    let frames = number(76, 4) / (4 * channels);
    assert_eq!(number(68, 4), frames);
    Wav {
        rate,
        channels,
        frames,
    }
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(media().join(name)).unwrap()).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn every_file_is_played() {
    let player = Player::new();
    for (name, row) in expected()["files"].as_object().unwrap() {
        // ffmpeg gives out the padding of MP4 that the last packet's duration declares.
        let frames = match number(&row["pcm"]["samples"]) {
            882_688 => 882_000,
            frames => frames,
        };
        let told = Wav {
            rate: number(&row["sample_rate"]),
            channels: 2,
            frames,
        };
        let path = row["path"].as_str().unwrap();
        assert_eq!(player.heard(&player.url(path)), told, "{name}");
        let path = media().join(path);
        assert_eq!(player.heard(path.to_str().unwrap()), told, "{name}");
    }
}

#[test]
fn every_tree_is_played() {
    let player = Player::new();
    let packets = json("packets.json");
    for (name, tree) in expected()["trees"].as_object().unwrap() {
        for variant in tree["variants"].as_array().unwrap() {
            let playlist = variant["playlist"].as_str().unwrap();
            // The same sound in clear. Of the tree whose head is encrypted too it is not there: EXTINF tells its length.
            let clear = playlist.replace("encrypted/", "plain/");
            let seconds: f64 = variant["duration"].as_str().unwrap().parse().unwrap();
            // What ffmpeg decodes, but for the padding that fMP4 declares.
            let frames = match &packets[&clear]["declared"] {
                Value::Null if name == "encrypted-init" => (seconds * 44_100.0).round() as u64,
                Value::Null => number(&variant["pcm"]["samples"]),
                declared => number(declared),
            };
            let told = Wav {
                rate: number(&variant["sample_rate"]),
                channels: number(&variant["channels"]),
                frames,
            };
            assert_eq!(player.heard(&player.url(playlist)), told, "{name}: {playlist}");
        }
    }
    for (name, row) in json("segments.json").as_object().unwrap() {
        let told = Wav {
            rate: number(&row["sample_rate"]),
            channels: number(&row["channels"]),
            frames: number(&row["frames"]),
        };
        let url = player.url(&format!("segments/{name}/playlist.m3u8"));
        assert_eq!(player.heard(&url), told, "{name}");
    }
}

#[test]
fn a_list_is_played_without_a_pause_online_and_offline() {
    let player = Player::new();
    let list = player.folder.path().join("list.m3u");
    let local = media().join("files/piece.wav");
    let lines = [
        "#EXTM3U".to_owned(),
        player.url("files/piece.flac"),
        local.to_str().unwrap().to_owned(),
        player.url("segments/ts-aac/playlist.m3u8"),
    ];
    std::fs::write(&list, lines.join("\n")).unwrap();
    let list = list.to_str().unwrap();
    let rate = ["--rate", "22050"];

    let online = player.play(&[list, rate[0], rate[1]]);
    assert!(online.status.success() && online.stderr.is_empty(), "{online:?}");
    let written = std::fs::read(player.wav_file()).unwrap();
    let told = wav(&player.wav_file());
    // 22 050 Hz all of them: the frames of each, and half as many of the third, none between them.
    let frames = 132_300 + 66_150 + 266_240 / 2;
    assert_eq!(
        told,
        Wav {
            rate: 22_050,
            channels: 2,
            frames
        }
    );

    player.server.stop();
    let offline = player.play(&[list, rate[0], rate[1], "--offline"]);
    assert!(
        offline.status.success() && offline.stderr.is_empty(),
        "{offline:?}"
    );
    assert!(std::fs::read(player.wav_file()).unwrap() == written);
}

#[test]
fn a_track_that_fails_is_told_and_the_next_one_plays() {
    let player = Player::new();
    let (absent, piece) = (player.url("files/absent.mp3"), player.url("files/piece.wav"));
    let output = player.play(&[&absent, &piece, "--rate", "22050"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with(&format!("play: {absent}: ")) && said.contains("404"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(wav(&player.wav_file()).frames, 66_150);
}

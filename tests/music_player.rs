//! The example `music_player` as a person runs it: online, killed, offline, online again.

#![cfg(all(feature = "decode", feature = "file", feature = "hls"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::decode::{DecodeParams, Decoder};
use kithara::media::{Access, OpenMode};
use kithara::net::HttpClient;
use kithara_test_support::{Rule, Server, media, serve_encrypted};
use tempfile::{TempDir, tempdir};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

/// The player, which `cargo test` has built beside this test unless it was told to build this test alone.
fn binary() -> PathBuf {
    let mut binary = std::env::current_exe().unwrap();
    binary.pop();
    binary.pop();
    binary.push(format!("examples/music_player{}", std::env::consts::EXE_SUFFIX));
    if !binary.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--manifest-path", MANIFEST]);
        build.args(["--example", "music_player", "--features", "decode,file,hls"]);
        assert!(build.status().unwrap().success());
    }
    binary
}

struct Player {
    server: Server,
    tracks: Vec<String>,
    folder: TempDir,
}

impl Player {
    fn new() -> Self {
        let server = Server::start(media()).unwrap();
        serve_encrypted(&server, "/hls/ts/playlist.m3u8", "/encrypted").unwrap();
        let tracks = [
            "/files/piece.mp3",
            "/files/piece.flac",
            "/files/piece-moov-at-end.m4a",
            "/hls/plain/master.m3u8",
            "/encrypted/playlist.m3u8",
        ]
        .map(|path| server.url(path));
        Self {
            server,
            tracks: tracks.into(),
            folder: tempdir().unwrap(),
        }
    }

    /// Forty times as fast as it plays.
    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(&self.tracks)
            .args(options)
            .args(["--speed", "40", "--cache"])
            .arg(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn play(&self, options: &[&str]) -> Output {
        self.command(options).output().unwrap()
    }

    /// How many frames the first so many tracks have, at the rate and with the channels of the player.
    fn frames(&self, tracks: usize) -> usize {
        let folder = tempdir().unwrap();
        let cache = AssetCache::builder(folder.path()).open_blocking().unwrap();
        let access = Access::new(HttpClient::new().unwrap(), cache);
        let params = DecodeParams::new().sample_rate(48_000).channels(2).access(access);
        let open = |url: &String| block_on(Decoder::open(url.as_str(), &params, OpenMode::Online)).unwrap();
        let mut decoder = open(&self.tracks[0]);
        for track in &self.tracks[1..tracks] {
            decoder.then(open(track));
        }
        let mut frames = 0;
        while let Some(block) = decoder.next_block().unwrap() {
            frames += block.frames();
        }
        frames
    }
}

fn last_line(output: &Output) -> &str {
    let said = std::str::from_utf8(&output.stdout).unwrap();
    said.lines().last().unwrap_or_default()
}

/// Frames of a packet of AAC at 48 kHz, and one for what is rounded.
const PACKET: usize = 1024 * 48_000 / 44_100 + 2;

#[test]
fn it_plays_online_and_offline_and_after_a_kill() {
    let player = Player::new();
    let (four, five) = (player.frames(4), player.frames(5));

    // The last segment of the last track does not come: the player is killed in the middle of that track.
    let gate = player.server.gate();
    let held = player
        .server
        .rule("/encrypted/seg-002.ts", Rule::new().gate(&gate));
    let mut killed = player.command(&[]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    let last = player.tracks[4].clone();
    // A track is announced when it is heard: those before it were heard to their ends.
    assert!(lines.map_while(Result::ok).any(|line| line.starts_with(&last)));
    killed.kill().unwrap();
    killed.wait().unwrap();

    // Four tracks are whole on the disk. The fifth ends where the disk does, and says so.
    let connections = player.server.connections();
    let offline = player.play(&["--offline"]);
    let said = String::from_utf8_lossy(&offline.stderr);
    assert_eq!(offline.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with(&format!("music_player: {last}: ")), "{said}");
    let told = last_line(&offline);
    assert!(told.starts_with("4 of 5 tracks, "), "{told}");
    let frames = told.split_whitespace().nth(4).unwrap();
    assert!((four..five).contains(&frames.parse().unwrap()), "{told}");
    assert_eq!(player.server.connections(), connections);

    // Online again, it goes on where it was.
    held.remove();
    gate.open();
    let before = player.server.requests().len();
    let online = player.play(&[]);
    assert!(online.status.success() && online.stderr.is_empty(), "{online:?}");
    // The Variant Streams may be others this time: the ends of theirs differ by a packet of AAC.
    let is_whole = |told: &str| {
        let frames = told.split_whitespace().nth(4).unwrap().parse::<usize>();
        told.starts_with("5 of 5 tracks, ") && frames.unwrap().abs_diff(five) <= PACKET
    };
    let told = last_line(&online);
    assert!(is_whole(told), "{told}");
    let fetched = player.server.requests().split_off(before);
    let fetched: Vec<_> = fetched.into_iter().map(|request| request.path).collect();
    assert!(
        !fetched.iter().any(|path| path.starts_with("/files/")),
        "{fetched:?}"
    );
    assert!(
        fetched.contains(&"/encrypted/seg-002.ts".to_owned()),
        "{fetched:?}"
    );

    player.server.stop();
    let offline = player.play(&["--offline"]);
    assert!(
        offline.status.success() && offline.stderr.is_empty(),
        "{offline:?}"
    );
    let told = last_line(&offline);
    assert!(is_whole(told), "{told}");
}

#[test]
fn it_obeys_its_commands() {
    let player = Player::new();
    let mut child = player
        .command(&[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(lines.next().unwrap().starts_with(&player.tracks[0]));
    // To the end of the first track, a pause and no pause any more; then the end of all.
    std::io::Write::write_all(&mut stdin, b"p\ns 19\np\n").unwrap();
    assert!(lines.any(|line| line.starts_with(&player.tracks[1])));
    std::io::Write::write_all(&mut stdin, b"q\n").unwrap();
    let rest: Vec<_> = lines.collect();
    let told = rest.last().unwrap();
    let frames: usize = told.split_whitespace().nth(4).unwrap().parse().unwrap();
    assert!(frames < player.frames(2), "{told}");
    child.wait().unwrap();
}

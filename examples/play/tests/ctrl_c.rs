//! Ctrl-C ends the player wherever it waits, and what was heard until then is a whole WAV file.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::process::{Command, Stdio};

use kithara_test_support::{Rule, Server, media};
use tempfile::tempdir;

/// Has the player wait for the rest of a track, and ends it.
fn interrupted_after(bytes: u64) -> (Option<i32>, String, Option<Vec<u8>>) {
    let server = Server::start(media()).unwrap();
    let gate = server.gate();
    server.rule("/files/piece.mp3", Rule::new().gate_after(bytes, &gate));
    let folder = tempdir().unwrap();
    let out = folder.path().join("out.wav");
    let mut play = Command::new(env!("CARGO_BIN_EXE_play"));
    play.arg(server.url("/files/piece.mp3"))
        .args(["--wav".as_ref(), out.as_os_str()]);
    let play = play
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    gate.wait_arrived(1);
    // With bytes to decode it waits for more only after it has begun to write.
    while bytes > 0 && !out.exists() {
        std::thread::yield_now();
    }
    let mut kill = Command::new("kill");
    kill.args(["-INT", &play.id().to_string()]);
    assert!(kill.status().unwrap().success());
    let output = play.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said, std::fs::read(out).ok())
}

#[test]
fn ctrl_c_ends_a_wait_for_sound() {
    let (code, said, file) = interrupted_after(100_000);
    assert_eq!((code, said.as_str()), (Some(130), ""));
    let file = file.unwrap();
    let told = u32::from_le_bytes(file[76..80].try_into().unwrap());
    assert_eq!(told as usize, file.len() - 80);
}

#[test]
fn ctrl_c_ends_the_opening_of_a_track() {
    let (code, said, _) = interrupted_after(0);
    assert_eq!((code, said.as_str()), (Some(130), ""));
}

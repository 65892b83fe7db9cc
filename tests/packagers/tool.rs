//! The programs that make and read trees.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kithara_test_support::{media, skipped};

/// Whether a program is there: started with these arguments it succeeds. If not, a line says so.
pub(crate) fn has(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let is_there = command.output().is_ok_and(|output| output.status.success());
    if !is_there {
        skipped(&format!("{command:?} does not work here"));
    }
    is_there
}

/// Runs a program to its end, and returns what it wrote.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output.stdout
}

/// Fails the test unless something comes true within a minute. Packagers give no other sign than the files they write.
pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_true() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// `ffmpeg`, that says only what goes wrong.
pub(crate) fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]);
    command
}

/// Whether ffmpeg is there.
pub(crate) fn has_ffmpeg() -> bool {
    has("ffmpeg", &["-version"])
}

/// Twenty seconds of music in stereo, 44.1 kHz, as an MP3 file.
pub(crate) fn music() -> PathBuf {
    media().join("files/piece.mp3")
}

/// The music as ffmpeg encodes it, in a file of this name in `folder`.
pub(crate) fn encoded(folder: &Path, name: &str, codec: &[&str]) -> PathBuf {
    let file = folder.join(name);
    run(ffmpeg().arg("-i").arg(music()).args(codec).arg(&file));
    file
}

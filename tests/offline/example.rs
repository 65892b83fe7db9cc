//! The example `downloads` does what the README says of it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn example() -> Command {
    let mut binary: PathBuf = std::env::current_exe().unwrap();
    binary.pop();
    binary.pop();
    binary.push(format!("examples/downloads{}", std::env::consts::EXE_SUFFIX));
    if !binary.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--features",
            "offline,hls",
            "--example",
            "downloads",
        ]);
        build.args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ]);
        assert!(build.status().unwrap().success());
    }
    let mut command = Command::new(binary);
    command.stdin(Stdio::null());
    command
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// In one command, on bundled media; and no connection once the server is gone.
#[test]
fn the_bundled_tracks_come_and_are_right() {
    let said = said(example().arg("--fast"));
    assert_eq!(said.matches("completed").count(), 5, "{said}");
    assert_eq!(said.matches("right").count(), 5, "{said}");
    assert!(
        said.contains("connections since the network is gone: 0"),
        "{said}"
    );
}

/// Killed and started again, it goes on; what is listed is exported and removed.
#[test]
fn killed_and_started_again_it_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let cache = |command: &mut Command| {
        command.arg("--cache").arg(root.path());
    };
    let mut slow = example();
    cache(&mut slow);
    let mut child = slow.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("completed")));
    child.kill().unwrap();
    child.wait().unwrap();
    let with = |arguments: &[&str]| {
        let mut command = example();
        cache(&mut command);
        command.args(arguments);
        said(&mut command)
    };
    let listed = with(&["list"]);
    assert!(
        listed.contains("completed") && listed.contains("queued"),
        "{listed}"
    );
    assert_eq!(with(&["--fast"]).matches("right").count(), 5);
    let file = root.path().join("exported");
    with(&["export", "0", file.to_str().unwrap()]);
    let piece = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media/files/piece.mp3");
    assert_eq!(std::fs::read(file).unwrap(), std::fs::read(piece).unwrap());
    with(&["remove", "0"]);
    assert_eq!(with(&["list"]).lines().count(), 4);
}

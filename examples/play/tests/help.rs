//! The example answers `--help`, and an argument that it does not know is an error in one line.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn run(argument: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_play"))
        .arg(argument)
        .output()
        .unwrap()
}

#[test]
fn it_answers_help() {
    let output = run("--help");
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &[][..])
    );
    assert!(output.stdout.starts_with(b"usage: play "));
}

#[test]
fn it_fails_in_one_line() {
    let output = run("--no-such-option");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(1), &[][..])
    );
    assert!(said.starts_with("play: ") && said.lines().count() == 1, "{said}");
}

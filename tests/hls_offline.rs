//! The example `hls_offline` as a person runs it: what it prints and how it exits.
#![cfg(feature = "hls")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::process::Command;

use kithara_test_support::{Rule, Server, expected, media};

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the example, which `cargo test` has built beside this test.
fn hls_offline(arguments: &[&str]) -> Run {
    let mut binary: PathBuf = std::env::current_exe().unwrap();
    binary.pop();
    binary.pop();
    binary.push(format!("examples/hls_offline{}", std::env::consts::EXE_SUFFIX));
    if !binary.exists() {
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--example",
                "hls_offline",
                "--features",
                "hls",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success());
    }
    let output = Command::new(binary).args(arguments).output().unwrap();
    Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn fails_in_one_line(arguments: &[&str], says: &str) {
    let run = hls_offline(arguments);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""), "{}", run.err);
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    assert!(run.err.contains(says), "{:?} is not in {}", says, run.err);
}

#[test]
fn without_arguments_it_plays_the_bundled_track_online_and_then_from_disk() {
    let run = hls_offline(&[]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{}", run.out);
    let lines: Vec<_> = run.out.lines().collect();
    let track = &expected()["trees"]["plain"]["variants"][0];
    let figures = format!(
        "variant=0 segments={} bytes={} sha256={}",
        track["segment_count"],
        track["bytes"],
        track["sha256"].as_str().unwrap()
    );
    assert!(
        lines[0].starts_with(&format!("online   {figures} network_bytes=")),
        "{}",
        lines[0]
    );
    assert_eq!(
        lines[1..],
        [format!("offline  {figures} connections=0").as_str(), "identical"]
    );
}

#[test]
fn a_url_plays_and_then_plays_again_offline_from_the_same_folder() {
    let server = Server::start(media()).unwrap();
    let url = server.url("/hls/encrypted/master.m3u8");
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let (cache, out) = (cache.to_str().unwrap(), folder.path().join("track"));
    let arguments = [
        "--cache",
        cache,
        "--variant",
        "1",
        "--out",
        out.to_str().unwrap(),
        &url,
    ];
    let track = &expected()["trees"]["encrypted"]["variants"][1];

    assert_eq!(hls_offline(&arguments).code, Some(0));
    server.stop();
    std::fs::remove_file(&out).unwrap();
    let run = hls_offline(&[&arguments[..], &["--offline"]].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains(track["sha256"].as_str().unwrap()), "{}", run.out);
    assert_eq!(
        std::fs::metadata(&out).unwrap().len(),
        track["bytes"].as_u64().unwrap()
    );
}

#[test]
fn what_goes_wrong_is_one_line_and_exit_code_1() {
    let server = Server::start(media()).unwrap();
    server.rule(
        "/page.m3u8",
        Rule::new().answer(200, "<!DOCTYPE html><title>Log in</title>"),
    );
    server.rule("/refused.m3u8", Rule::new().answer(403, ""));
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let track = server.url("/hls/plain/master.m3u8");

    fails_in_one_line(&["not a url"], "not a URL");
    fails_in_one_line(&["ftp://127.0.0.1/x"], "ftp");
    fails_in_one_line(&[&server.url("/page.m3u8")], "Log in");
    fails_in_one_line(&[&server.url("/refused.m3u8")], "403");
    fails_in_one_line(&[&server.url("/nowhere.m3u8")], "404");
    fails_in_one_line(
        &["--offline", "--cache", empty.to_str().unwrap(), &track],
        "not in the cache",
    );
    fails_in_one_line(
        &["--cache", file.to_str().unwrap(), &track],
        file.to_str().unwrap(),
    );
    fails_in_one_line(&["--variant", "4", &track], "no variant stream 4");
    fails_in_one_line(&["--speed", "2"], "--speed");
    server.stop();
    fails_in_one_line(&[&track], "cannot connect");
}

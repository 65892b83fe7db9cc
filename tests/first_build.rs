//! What the first command of the README builds, and what the resolved dependencies demand.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The most crates the first command may build: they are most of what a newcomer waits for.
const LIMIT: usize = 190;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn of_the_workspace(command: &str, arguments: &[&str]) -> String {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut all = vec![command, "--offline", "--manifest-path", manifest];
    all.extend(arguments);
    cargo(&all)
}

/// All packages this machine builds, with all features of the workspace.
fn packages() -> Vec<Value> {
    let about = cargo(&["-vV"]);
    let host = about
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let arguments = [
        "--format-version",
        "1",
        "--all-features",
        "--filter-platform",
        host,
    ];
    let metadata = of_the_workspace("metadata", &arguments);
    let mut metadata: Value = serde_json::from_str(&metadata).unwrap();
    let Value::Array(packages) = metadata["packages"].take() else {
        panic!("{metadata}")
    };
    packages
}

/// `1.89` and `1.89.0` are one version.
fn version(text: &str) -> [u64; 3] {
    let mut numbers = text.split(['.', '-', '+']).map(|number| number.parse().unwrap());
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

/// Lines of `cargo tree` that differ. A crate that is shown again without its branches has a line `name version (*)`.
fn tree(features: &str) -> BTreeSet<String> {
    let arguments = [
        "-e",
        "normal,build,dev",
        "--features",
        features,
        "--prefix",
        "none",
    ];
    let tree = of_the_workspace("tree", &arguments);
    let lines = tree.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// The README's first command: crates, each counted once.
#[test]
fn the_first_command_builds_few_crates() {
    let tree = tree("decode,file,hls");
    let crates: BTreeSet<&str> = tree.iter().map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(crates.len() <= LIMIT, "{} crates: {crates:#?}", crates.len());
}

/// The examples that take bytes and no sound: one that is shown again counts again.
#[test]
fn examples_without_sound_build_few_crates() {
    let crates = tree("hls");
    assert!(crates.len() <= LIMIT, "{} crates: {crates:#?}", crates.len());
}

#[test]
fn no_crate_demands_a_newer_rust_than_ours() {
    let ours = version(env!("CARGO_PKG_RUST_VERSION"));
    for package in packages() {
        if let Some(theirs) = package["rust_version"].as_str() {
            assert!(version(theirs) <= ours, "{} demands {theirs}", package["name"]);
        }
    }
}

/// Versions before these have advisories: RUSTSEC-2026-0007 for bytes, several for rustls-webpki.
#[test]
fn no_crate_is_older_than_its_last_fault() {
    let packages = packages();
    for (name, least) in [("bytes", "1.11.1"), ("rustls-webpki", "0.103.13")] {
        let mut found = packages
            .iter()
            .filter(|package| package["name"] == name)
            .peekable();
        assert!(found.peek().is_some(), "no {name}");
        for package in found {
            let resolved = package["version"].as_str().unwrap();
            assert!(
                version(resolved) >= version(least),
                "{name} {resolved}: cargo update"
            );
        }
    }
}

//! O1, O5: what says completed plays with no connection attempt, as the kernel sees it.

use std::io::Read as _;
use std::process::Command;

use kithara::file::OpenMode;
use kithara::offline::{Downloads, Kind, Selection, State, Variants};

use crate::queue::{file, hls, open, run_all};
use crate::*;

const ROOT: &str = "KITHARA_PLAYED_ROOT";

/// Plays all downloads of a cache, offline, and says how many bytes they have.
#[test]
#[ignore = "the test below starts it as a process of its own"]
fn child() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let access = Access::new(client(), open_cache(Path::new(&root), 256 * MIB));
    let downloads = block_on(Downloads::builder(access).open()).unwrap();
    let mut bytes = Vec::new();
    for info in block_on(downloads.list()).unwrap() {
        assert_eq!(info.state, State::Completed);
        if info.request.kind() == Kind::File {
            let mut reader =
                block_on(downloads.file(&info.id).unwrap().open_reader(OpenMode::Offline)).unwrap();
            reader.read_to_end(&mut bytes).unwrap();
        } else {
            let track = block_on(downloads.track(&info.id)).unwrap();
            let mut reader = block_on(track.open_reader(OpenMode::Offline)).unwrap();
            reader.read_to_end(&mut bytes).unwrap();
        }
    }
    println!("played {}", bytes.len());
}

#[test]
fn o5_what_is_completed_plays_without_a_system_call_to_the_network() {
    if Command::new("strace").arg("-V").output().is_err() {
        return;
    }
    let mut stage = Stage::new();
    let downloads = open(&stage);
    let third = Selection::default().variants(Variants::These(vec![2]));
    let ids = [
        file(&stage, "/a.bin"),
        hls(&stage, TRACK).selection(third),
        hls(&stage, ENCRYPTED),
    ]
    .map(|request| block_on(downloads.add(request)).unwrap());
    run_all(&downloads);
    let kept: u64 = ids
        .iter()
        .map(|id| block_on(downloads.state(id)).unwrap().bytes)
        .sum();
    drop(downloads);
    block_on(std::mem::replace(&mut stage.cache, AssetCache::memory(1)).closed());
    let trace = stage.root.path().join("trace");
    // The server is up: it is not the lack of it that keeps the player from asking.
    let output = Command::new("strace")
        .args(["-f", "-e", "trace=connect,sendto,sendmsg", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "no_network::child", "--ignored", "--nocapture", "-q"])
        .env(ROOT, stage.root.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let played = said.lines().find_map(|line| line.strip_prefix("played "));
    let played: u64 = played.unwrap().parse().unwrap();
    // The padding of the encrypted one is not played.
    assert!(played <= kept && played + 16 * 100 > kept, "{played} of {kept}");
    let trace = std::fs::read_to_string(trace).unwrap();
    for call in ["connect(", "sendto(", "sendmsg("] {
        assert!(!trace.contains(call), "{trace}");
    }
}

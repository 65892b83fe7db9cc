//! HLS out of the cache, beside ffmpeg on the same files: seconds of sound for each second of processor time.

use std::path::Path;
use std::process::{Command, Stdio};

use futures_lite::future::block_on;
use kithara::decode::Decoder;
use kithara::media::OpenMode;
use kithara_test_support::Server;

use crate::made;
use crate::report::{Report, median};

const ROUNDS: usize = 5;

pub(crate) fn run(report: &mut Report) {
    for kind in made::TREES {
        let Some(tree) = made::tree(kind) else {
            println!("figure hls_{kind} left out: no ffmpeg");
            continue;
        };
        let root = tempfile::tempdir().unwrap();
        let server = Server::start(&tree).unwrap();
        let url = server.url("/playlist.m3u8");
        // A cache belongs to one process: each job is one.
        let job = |name: &str| {
            let mut job = Command::new(std::env::current_exe().unwrap());
            job.args(["job", name, &url]).arg(root.path());
            job
        };
        assert!(job("fill").status().unwrap().success());
        drop(server);
        let (mut ours, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let speed = |command: &mut Command| {
                let before = children();
                let status = command.stdout(Stdio::null()).status().unwrap();
                assert!(status.success(), "{command:?}");
                f64::from(made::TREE) / (children() - before)
            };
            let kithara = speed(&mut job("hls"));
            let ffmpeg = speed(
                Command::new("ffmpeg")
                    .args(["-v", "error", "-nostdin", "-allowed_extensions", "ALL", "-i"])
                    .arg(tree.join("playlist.m3u8"))
                    .args(["-vn", "-c:a", "pcm_f32le", "-f", "null", "-"]),
            );
            ours.push(kithara);
            ratios.push(kithara / ffmpeg);
        }
        println!("figure hls_{kind} {:.0} s of sound per CPU second", median(ours));
        let (name, ratio) = (format!("hls_{kind}_vs_ffmpeg"), median(ratios));
        if kind == "aes" {
            println!("figure {name} {ratio:.3}x");
        } else {
            report.at_least(&name, ratio, 0.85, "x");
        }
    }
}

/// Decodes all of the tree, into the cache or from it.
pub(crate) fn job(url: &str, root: &Path, mode: OpenMode) {
    let params = crate::params(root);
    let mut decoder = block_on(Decoder::open(url, &params, mode)).unwrap();
    let mut frames = 0;
    while let Some(block) = decoder.next_block().unwrap() {
        frames += block.frames();
    }
    assert_eq!(frames / decoder.spec().sample_rate as usize, made::TREE as usize);
}

/// Seconds of processor time, user and system, of all children that have ended.
fn children() -> f64 {
    let usage = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = usage.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(13) + ticks(14)) / 100.0
}

//! What it costs to hear a track: decoding, opening, pulling and dropping, against limits measured in the same run.
//!
//! `cargo bench --bench decode --features decode,file,hls` prints one line per bar, `bar NAME figure=… limit=… ok|short`, and
//! figures without a bar as `figure NAME …`. Sections can be chosen: `-- speed hls first pull drops starvation`. Figures are
//! medians over rounds of one right after the other.
//!
//! `starvation` plays for one minute at real time; `-- starvation whole` plays for ten.
//!
//! `ffmpeg` makes the tracks from the bundled ones, once; without it only the bundled ones are decoded, and HLS is left out.
//! System calls are counted by `strace`, where it is installed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench prints, and may panic"
)]

#[path = "decode/drops.rs"]
mod drops;
#[path = "decode/first.rs"]
mod first;
#[path = "decode/hls.rs"]
mod hls;
#[path = "decode/made.rs"]
mod made;
#[path = "decode/pull.rs"]
mod pull;
#[path = "decode/report.rs"]
mod report;
#[path = "decode/speed.rs"]
mod speed;
#[path = "decode/starvation.rs"]
mod starvation;

use std::path::Path;

use kithara::cache::AssetCache;
use kithara::decode::DecodeParams;
use kithara::media::{Access, OpenMode};
use kithara::net::HttpClient;
use report::Report;

fn main() {
    // Cargo adds a flag of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        // Processes of their own, so that what is counted is theirs alone.
        ["job", "fill", url, root] => hls::job(url, Path::new(root), OpenMode::Online),
        ["job", "hls", url, root] => hls::job(url, Path::new(root), OpenMode::Offline),
        ["job", "pull", path] => pull::job(Path::new(path)),
        _ => {
            let wants = |section: &str| words.is_empty() || words.contains(&section);
            let mut report = Report::default();
            if wants("speed") {
                speed::run(&mut report);
            }
            if wants("hls") {
                hls::run(&mut report);
            }
            if wants("first") {
                first::run(&mut report);
            }
            if wants("pull") {
                pull::run(&mut report);
            }
            if wants("drops") {
                drops::run(&mut report);
            }
            if wants("starvation") {
                starvation::run(&mut report, words.contains(&"whole"));
            }
            println!("{} bar(s) short", report.short);
        }
    }
}

/// A client of its own and a cache at `root`.
fn params(root: &Path) -> DecodeParams {
    let cache = AssetCache::builder(root)
        .max_bytes(4 << 30)
        .open_blocking()
        .unwrap();
    DecodeParams::new().access(Access::new(HttpClient::new().unwrap(), cache))
}

//! What the cache costs, against limits measured in the same run, on the disk that `target/` is on.
//!
//! `cargo bench --bench cache` prints one line per bar: `bar NAME figure=… limit=… ok|short`. Figures are medians over
//! rounds that alternate between the cache and what it is compared with. Sections can be chosen:
//! `cargo bench --bench cache -- put get many million touch evict garbage crowd`. `million` makes a million files the first time
//! and keeps them under `target/`; `crowd` runs for `KITHARA_SECONDS`, 60 unless set. `benches/peers` compares with
//! other caches.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::semicolon_if_nothing_returned,
    reason = "a bench prints, and may panic"
)]

#[path = "cache/crowd.rs"]
mod crowd;
#[path = "cache/many.rs"]
mod many;
#[path = "cache/measure.rs"]
mod measure;
#[path = "cache/one.rs"]
mod one;

type Section = (&'static str, fn());

fn main() {
    let sections: [Section; 8] = [
        ("put", one::put),
        ("get", one::get),
        ("many", many::many),
        ("million", many::million),
        ("touch", many::touch),
        ("evict", many::evict),
        ("garbage", one::garbage),
        ("crowd", crowd::crowd),
    ];
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'))
        .collect();
    for (name, section) in sections {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            section();
        }
    }
}

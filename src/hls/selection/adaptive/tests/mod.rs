//! H12: the adaptive rule, by hand and by properties.

mod properties;
mod rules;

use std::time::Duration;

use super::super::{NetworkSample, Rung, VariantSelector};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn ladder() -> Vec<Rung> {
    [32_000, 64_000, 96_000, 128_000, 192_000, 256_000, 320_000]
        .map(|bits| Rung::new(bits).codecs("mp4a.40.2"))
        .to_vec()
}

fn with_flac() -> Vec<Rung> {
    let mut ladder = ladder();
    ladder.push(Rung::new(1_000_000).codecs("fLaC"));
    ladder
}

/// Some seconds of a network of so many bits per second, in pieces of a quarter.
fn hear(selector: &mut impl VariantSelector, from: f64, length: f64, bits_per_second: u64) {
    let mut at = from;
    while at < from + length - 1e-9 {
        at += 0.25;
        selector.observe(&NetworkSample::new(
            seconds(at),
            bits_per_second / 32,
            seconds(0.25),
        ));
    }
}

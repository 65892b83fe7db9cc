//! From bytes to PCM: what comes out is what the encoder was given.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod damage;
mod files;
#[cfg(all(feature = "file", feature = "hls"))]
mod hls;
mod joined;
mod made;
#[cfg(all(feature = "file", feature = "hls"))]
mod open;
mod output;
mod pcm;
mod queue;
mod seeks;
#[cfg(all(feature = "file", feature = "hls"))]
mod switches;
mod table;
mod tags;

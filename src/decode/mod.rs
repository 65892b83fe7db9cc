//! PCM from files and HLS: exact to the frame.
//!
//! The one rule this module adds: **what comes out is what the encoder was given.** Priming and padding are left out where
//! the container declares them, a damaged packet costs its own frames and no others, and a seek gives the frame that was
//! asked for.
//!
//! ```text
//!   file ── Symphonia's readers ─┐
//!                                ├─ packets ── codec ── frames ── trims ── blocks
//!   HLS ─── demux: fMP4, TS, … ──┘
//! ```
#![cfg_attr(
    not(feature = "hls"),
    allow(
        dead_code,
        unused_imports,
        reason = "demuxers are shared with HLS, which asks more of them"
    )
)]
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::float_cmp,
        clippy::similar_names,
        clippy::trivially_copy_pass_by_ref,
        reason = "tests compute with figures that they know, and compare PCM bit for bit"
    )
)]

mod codec;
mod convert;
mod decoder;
mod demux;
mod error;
mod event;
mod file;
mod format;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(feature = "hls")]
mod hls;
mod mix;
mod open;
mod output;
mod packet;
mod params;
mod resample;
mod source;
mod tags;
mod trim;

pub use decoder::{DecodeInterrupter, Decoder};
pub use error::DecodeError;
pub use event::DecodeEvent;
pub use format::{ChannelLayout, Codec, Container, Format, Spec, Trim, TrimRule};
pub use output::{Blocks, DecodeEvents, Output, OutputParams, PlayHandle, Underrun};
pub use params::DecodeParams;
pub use source::Block;
pub use tags::{Chapter, Loudness, Picture, Tags};

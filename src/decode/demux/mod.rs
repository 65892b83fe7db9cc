//! Demuxers for HLS: bytes of Media Segments in, packets out.
//!
//! Symphonia's readers read files. A Media Segment is none: it begins in the middle of a track, its timestamps are the
//! track's, and its headers came with another file.

pub(super) mod aac;
pub(super) mod bits;
pub(super) mod boxes;
pub(super) mod buffer;
mod clock;
mod fmp4;
mod fragment;
pub(super) mod frames;
mod header;
pub(super) mod id3;
mod packed;
mod psi;
mod ts;

#[cfg(test)]
mod tests;

pub(crate) use aac::{ends_with_sbr, likely_params, may_hide_sbr, with_sbr};
pub(crate) use fmp4::FragmentedMp4;
pub(crate) use fragment::FragmentTimes;
pub(crate) use id3::{is_only_a_timestamp, length as id3_length};
pub(crate) use packed::Packed;
pub(crate) use ts::TransportStream;

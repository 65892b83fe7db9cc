//! What a track says of itself: titles, numbers, cover, loudness, chapters.
//!
//! ```text
//!   ID3v2, Vorbis comments ── Symphonia ──┐
//!   MP4's item list ── mp4 ───────────────┼──▶ Tags     the first that says something is believed
//!   RIFF's INFO list ── riff ─────────────┘
//! ```

mod fields;
mod mp4;
mod riff;
mod symphonia;

pub use self::fields::{Chapter, Loudness, Picture, Tags};
pub(super) use self::{
    mp4::from_movie,
    riff::from_info,
    symphonia::{from_flac_comment, from_flac_picture, from_id3},
};

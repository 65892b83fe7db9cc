//! PCM from files and HLS: exact to the frame.
//!
//! The one rule this module adds: **what comes out is what the encoder was given.** Priming and padding are left out where
//! the container declares them, a damaged packet costs its own frames and no others, and a seek gives the frame that was
//! asked for.
//!
//! ```text
//!   file ── readers ──────────┐
//!                             ├─ packets ─ codec ─ frames ─ trims ─ blocks
//!   HLS ─── demux: fMP4, TS … ┘
//! ```
//!
//! # Opening a track
//!
//! [`Decoder::open`] takes a URL or a path, of a file or of an HLS playlist. When it returns, the first sound has been
//! decoded: what cannot be played is an error by then. [`next_block`](Decoder::next_block) gives some frames at a time.
//!
#![cfg_attr(feature = "file", doc = "```")]
#![cfg_attr(not(feature = "file"), doc = "```ignore")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use kithara::decode::{DecodeParams, Decoder};
//! use kithara::media::OpenMode;
//!
//! # let location = "tests/media/files/piece.mp3";
//! let params = DecodeParams::new();
//! let mode = OpenMode::Online;
//! let mut track = Decoder::open(location, &params, mode).await?;
//! println!("{} in {}", track.format().codec, track.format().container);
//!
//! track.seek(Duration::from_secs(12))?;
//! while let Some(block) = track.next_block()? {
//!     let rate = block.spec().sample_rate;
//!     println!("{:?}: {rate} Hz: {:?}", block.time(), block.samples());
//! }
//! # Ok(())
//! # }
//! # futures_lite::future::block_on(example()).unwrap();
//! ```
//!
//! For URLs [`DecodeParams::access`] says which client fetches, and which cache keeps what was fetched. With
//! [`OpenMode::Offline`](crate::media::OpenMode) no connection is made: what the cache has in full plays.
//!
//! | from | with |
//! |---|---|
//! | a URL or a path | [`Decoder::open`] |
//! | a source that the app keeps | `Decoder::from_file`, `Decoder::from_hls` |
//! | a file in memory, an open file | [`Decoder::from_reader`] |
//! | a station, a source of the app's own | [`Decoder::from_stream`]: in order only |
//!
//! # Playing
//!
//! A [`Decoder`] works on the thread that asks, and blocks while bytes are awaited. An app that plays lets a thread of its
//! own decode ahead:
//!
//! | for | there is | from |
//! |---|---|---|
//! | an audio callback (cpal, oboe, JACK) | [`Output::pull`] fills a slice; it never waits | [`Decoder::into_output`] |
//! | rodio | [`Output`] is a `rodio::Source`, with the feature `rodio` | [`Decoder::into_output`] |
//! | async code | [`Blocks`], a stream | [`Decoder::into_blocks`] |
//!
//! [`DecodeParams::sample_rate`] and [`DecodeParams::channels`] bring every track to what the sound card wants. A
//! [`PlayHandle`] seeks, skips, queues, and tells what is heard: position, duration, format, tags, what is buffered.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use kithara::decode::{DecodeParams, Decoder, OutputParams};
//!
//! # let open = |name: &str| {
//! #     let file = std::fs::File::open(format!("tests/media/files/{name}")).unwrap();
//! #     Decoder::from_reader(file, &DecodeParams::new().sample_rate(48_000).channels(2))
//! # };
//! # let (track, next) = (open("piece.wav")?, open("piece.flac")?);
//! let mut output = track.into_output(OutputParams::new())?;
//! let player = output.handle();
//! player.then(next); // follows without a frame between them
//!
//! // On the audio thread:
//! let mut buffer = [0.0_f32; 960];
//! let filled = output.pull(&mut buffer);
//! buffer[filled..].fill(0.0);
//! # assert!(player.position().as_millis() <= 10); // The thread may just have begun.
//! # Ok(())
//! # }
//! ```
//!
//! # One track after another
//!
//! [`Decoder::then`] and [`PlayHandle::then`] queue a track that is open already, and so decoded ahead. Its first frame
//! follows the last one of the track before it. Where both tracks declare their trims nothing is heard between them.
//!
//! # Events
//!
//! What happens between two frames is a [`DecodeEvent`]: another format, other tags, the next track, damage, another
//! Variant Stream, the end. [`Decoder::next_event`] gives those that concern the block that was returned last.
//! [`PlayHandle::events`] gives each one when its frame is heard, and also starvation ([`DecodeEvent::Buffering`]).
//!
//! # Tags
//!
//! [`Decoder::tags`] has title, artist, album, numbers, cover, chapters, and the gains of `ReplayGain` and R128, which the
//! app applies. A chained stream and a station may change them: [`DecodeEvent::TagsChanged`].
//!
//! # Errors
//!
//! A [`DecodeError`] names its cause in its first line. A codec or container that this build does not have is refused
//! before the first frame, by name. Damaged packets are no errors: silence of their length stands in their place, and
//! [`DecodeEvent::Damaged`] is told.
//!
//! # What is decoded
//!
//! | container | codecs | trimmed by |
//! |---|---|---|
//! | MPEG audio (`.mp3`) | MP3 | the Xing, Info or LAME header |
//! | ADTS (`.aac`) | AAC-LC, HE-AAC¹ | |
//! | MP4, also fragmented | AAC-LC, HE-AAC¹, ALAC, FLAC, MP3, Opus² | the edit list, `iTunSMPB` |
//! | Ogg, also chained | Vorbis, FLAC, Opus² | granule positions, Opus' pre-skip |
//! | FLAC | FLAC | |
//! | WAVE, RF64, AIFF, AIFF-C | PCM of 8 to 64 bits, A-law, mu-law | |
//! | MPEG-TS | AAC-LC, HE-AAC¹, MP3 | |
//! | HLS | segments of fMP4, MPEG-TS, packed AAC and MP3 | as those |
//!
//! ¹ With the feature `he-aac`, and AAC of more than two channels too. ² With the feature `opus`. Both are pure Rust.
//! Lossless codecs give back the encoder's input bit for bit, up to 24 bits a sample.
//!
//! # Versions
//!
//! Codecs are Symphonia's (0.6 from 0.6.1), but for those of the two features. No type of Symphonia stands in this module's
//! interface. `rodio` is 0.23, without its default features: the app chooses its backend.
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

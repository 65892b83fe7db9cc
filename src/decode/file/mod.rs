//! Files as PCM: whatever can be read at any position, or from its start on.
//!
//! ```text
//!   input ── sniff ──▶ frames (MP3, ADTS) ─┐
//!                      mp4                 │
//!                      flac, ogg           ├── packets, placed ──▶ track: decoded, trimmed
//!                      pcm (WAVE, AIFF)  ──┘
//! ```

mod chain;
mod flac;
mod frames;
mod input;
mod mp4;
mod ogg;
mod pcm;
mod reader;
mod samples;
mod sniff;
mod track;

pub(super) use input::Input;
#[cfg(all(feature = "file", feature = "hls"))]
pub(super) use sniff::PLAYLIST;
pub(super) use track::FileTrack;

use self::{
    flac::FlacPackets,
    frames::FramePackets,
    mp4::{Movie, Mp4Packets},
    ogg::OggPackets,
    pcm::PcmPackets,
    reader::PacketReader,
    sniff::{FileKind, Sniffed, sniff},
};
use super::{DecodeError, error::UnsupportedContainerSnafu};

/// Opens whatever `input` is.
///
/// # Errors
///
/// `UnsupportedContainer` and `UnsupportedCodec`, named; `Malformed`, `Io`, `Interrupted`.
pub(super) fn open(input: &Input) -> Result<FileTrack, DecodeError> {
    let Sniffed { kind, start, .. } = sniff(input)?;
    let reader: Box<dyn PacketReader> = match kind {
        FileKind::Flac => Box::new(FlacPackets::open(input.clone(), start)?),
        FileKind::Ogg => Box::new(OggPackets::open(input.clone(), start)?),
        FileKind::Wave => Box::new(PcmPackets::wave(input.clone(), start)?),
        FileKind::Aiff => Box::new(PcmPackets::aiff(input.clone(), start)?),
        FileKind::Frames => Box::new(FramePackets::open(input.clone(), start)?),
        FileKind::Mp4 => {
            let movie = Movie::find(input, start)?;
            Box::new(Mp4Packets::open(input.clone(), &movie.header)?)
        }
        FileKind::Ts => {
            let container = "an unknown kind of file";
            return UnsupportedContainerSnafu { container }.fail();
        }
    };
    FileTrack::new(reader, input.interrupt())
}

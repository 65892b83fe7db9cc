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
mod pushed;
mod reader;
mod samples;
mod sniff;
mod sources;
mod track;
mod view;

pub(super) use input::Input;
#[cfg(all(feature = "file", feature = "hls"))]
pub(super) use sniff::PLAYLIST;
pub(super) use track::FileTrack;

use self::{
    flac::FlacPackets,
    frames::FramePackets,
    mp4::{Mp4Packets, find_movie},
    ogg::OggPackets,
    pcm::PcmPackets,
    pushed::{PushedPackets, is_fragmented},
    reader::PacketReader,
    sniff::{FileKind, Sniffed, sniff},
};
use super::{
    DecodeError,
    demux::{FragmentedMp4, TransportStream},
    packet::Demux,
    tags::from_id3,
};

/// Opens whatever `input` is.
///
/// # Errors
///
/// `UnsupportedContainer` and `UnsupportedCodec`, named; `Malformed`, `Io`, `Interrupted`.
pub(super) fn open(input: &Input) -> Result<FileTrack, DecodeError> {
    let Sniffed { kind, start, id3 } = sniff(input)?;
    let reader: Box<dyn PacketReader> = match kind {
        FileKind::Flac => Box::new(FlacPackets::open(input.clone(), start)?),
        FileKind::Ogg => Box::new(OggPackets::open(input.clone(), start)?),
        FileKind::Wave => Box::new(PcmPackets::wave(input.clone(), start)?),
        FileKind::Aiff => Box::new(PcmPackets::aiff(input.clone(), start)?),
        FileKind::Frames => Box::new(FramePackets::open(input.clone(), start)?),
        FileKind::Mp4 => {
            let movie = find_movie(input, start)?;
            if is_fragmented(&movie) {
                let make = || -> Box<dyn Demux> { Box::new(FragmentedMp4::default()) };
                Box::new(PushedPackets::open(input.clone(), start, make, true)?)
            } else {
                Box::new(Mp4Packets::open(input.clone(), &movie)?)
            }
        }
        FileKind::Ts => {
            let make = || -> Box<dyn Demux> { Box::new(TransportStream::default()) };
            Box::new(PushedPackets::open(input.clone(), start, make, false)?)
        }
    };
    // The container's own tags before those that stand in front of it: tools that write both write those last.
    let mut tags = reader.tags();
    if let Some(id3) = id3 {
        let length = usize::try_from(start - id3).unwrap_or(0);
        from_id3(input.bytes_at(id3, length)?, &mut tags);
    }
    FileTrack::new(reader, tags, input.interrupt())
}

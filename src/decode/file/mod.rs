//! Files as PCM: whatever can be read at any position, or from its start on.
//!
//! ```text
//!   input ── sniff ──▶ frames (MP3, ADTS) ─┐
//!                      mp4                 │
//!                      flac, ogg           ├── packets, placed ──▶ track: decoded, trimmed
//!                      pcm (WAVE, AIFF)  ──┘
//! ```

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
#[cfg(test)]
mod tests;
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
    pushed::{PushedPackets, announced, is_fragmented},
    reader::PacketReader,
    sniff::{FileKind, Sniffed, sniff},
};
use super::{
    DecodeError,
    demux::{FragmentTimes, FragmentedMp4, TransportStream},
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
                let times = Some(FragmentTimes::new(&movie)?);
                // Before the packets are read: it stands in front of them.
                let plays = announced(input, start, &movie)?;
                let packets = PushedPackets::open(input.clone(), start, make, times)?;
                Box::new(packets.announced(plays))
            } else {
                Box::new(Mp4Packets::open(input.clone(), &movie)?)
            }
        }
        FileKind::Ts => {
            let make = || -> Box<dyn Demux> { Box::new(TransportStream::default()) };
            Box::new(PushedPackets::open(input.clone(), start, make, None)?)
        }
    };
    // The container's own tags before those that stand in front of it: tools that write both write those last.
    let mut tags = reader.tags();
    // A field that is set already stays.
    if let Some(id3) = id3 {
        from_id3(id3, &mut tags);
    }
    FileTrack::new(reader, tags, input.interrupt())
}

/// Opens `input` as an Ogg file, reads it to the end and seeks in it.
#[cfg(fuzzing)]
pub(super) fn fuzz_ogg(input: Input, bytes: usize) {
    let Ok(mut packets) = OggPackets::open(input, 0) else {
        return;
    };
    fuzz_packets(&mut packets, bytes);
    for frame in [0, 1, 500, 1 << 14, 1 << 40, u64::MAX] {
        if packets.seek(frame).is_ok() {
            fuzz_packets(&mut packets, bytes);
        }
    }
}

#[cfg(fuzzing)]
fn fuzz_packets(reader: &mut dyn PacketReader, bytes: usize) {
    let (mut packets, mut end) = (0, None);
    loop {
        match reader.next() {
            Ok(reader::Next::Packet(placed)) => {
                let start = placed.start + placed.skip_start;
                let heard =
                    u64::from(placed.packet.frames).saturating_sub(placed.skip_start + placed.skip_end);
                if heard > 0 {
                    assert!(end.is_none_or(|end| start >= end), "packets overlap");
                    end = Some(start + heard);
                }
                packets += 1;
            }
            Ok(reader::Next::Chained) => end = None,
            Ok(reader::Next::End) | Err(_) => break,
        }
        assert!(packets <= 2 * bytes, "more packets than bytes");
    }
}

/// A page of one packet.
#[cfg(fuzzing)]
pub(super) use ogg::one_page;

/// Opens and decodes `input`, whatever it is, and seeks in it.
#[cfg(fuzzing)]
pub(super) fn fuzz(input: &Input) {
    use super::source::{Block, PcmSource, Step};

    let Ok(mut track) = open(input) else {
        return;
    };
    let mut block = Block::empty();
    for place in [0, 0, 70, 10_000] {
        if place > 0 && track.seek(std::time::Duration::from_millis(place)).is_err() {
            continue;
        }
        // Silence for what is lost may be long; that it ends is not asked here.
        for _ in 0..200 {
            match track.next(&mut block) {
                Ok(Step::Ended) | Err(_) => break,
                Ok(_) => {}
            }
        }
    }
}

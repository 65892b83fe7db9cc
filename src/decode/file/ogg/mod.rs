//! Ogg: Vorbis, Opus and FLAC.
//!
//! ```text
//!   input ── page ──▶ pages ── packets ──▶ placed packets     of the part of a chain that is read
//!               │                 └── head: the codec's headers, and how long each packet is
//!               └──── chain ──▶ where the parts begin
//! ```

mod chain;
mod head;
mod packets;
mod page;

#[cfg(fuzzing)]
pub(in crate::decode) use self::page::one_page;

use std::time::Duration;

use bytes::Bytes;

use self::{
    packets::{Found, Packets},
    page::Pages,
};
use super::{
    input::Input,
    reader::{Next, PacketReader, Placed},
};
use crate::decode::{
    Codec, Container, DecodeError, Tags, Trim,
    error::MalformedSnafu,
    packet::{Packet, TrackInfo},
    source::time_of,
    trim,
};

/// Reads the packets of an Ogg file.
pub(super) struct OggPackets {
    input: Input,
    parts: Vec<Part>,
    current: usize,
    packets: Packets,
    info: TrackInfo,
}

/// One part of a chain.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: u64,
    end: Option<u64>,
    begins: Duration,
    plays: Option<Duration>,
}

impl OggPackets {
    /// The track whose first page stands at `start`.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec`, `Malformed`, `Io`, `Interrupted`.
    pub(super) fn open(input: Input, start: u64) -> Result<Self, DecodeError> {
        // Without an end nothing is looked for: parts are met as they come.
        let end = input.len().filter(|_| input.is_seekable());
        let begins = match end {
            Some(end) => chain::parts(&input, start, end)?,
            None => vec![start],
        };
        let mut parts = Vec::with_capacity(begins.len());
        let mut time = Some(Duration::ZERO);
        let mut first = None;
        for (number, &start) in begins.iter().enumerate() {
            let end = begins.get(number + 1).copied().or(end);
            let packets = match Packets::open(&input, &mut Pages::new(start, end), end) {
                Ok(opened) => opened,
                // What was cut off within the headers of its last part plays up to there.
                Err(DecodeError::Malformed { .. }) if number > 0 => break,
                Err(error) => return Err(error),
            };
            let plays = plays(&packets);
            parts.push(Part {
                start,
                end,
                begins: time.unwrap_or_default(),
                plays,
            });
            time = time.zip(plays).map(|(time, plays)| time + plays);
            first.get_or_insert(packets);
        }
        // Not even the first part has headers.
        let Some(packets) = first else {
            return MalformedSnafu { what: "Ogg stream" }.fail();
        };
        Ok(Self {
            input,
            parts,
            current: 0,
            info: info(&packets),
            packets,
        })
    }

    /// Reads another part of the chain from its start.
    fn enter(&mut self, part: usize) -> Result<bool, DecodeError> {
        let Some(&Part { start, end, .. }) = self.parts.get(part) else {
            return Ok(false);
        };
        self.packets = Packets::open(&self.input, &mut Pages::new(start, end), end)?;
        self.info = info(&self.packets);
        self.current = part;
        Ok(true)
    }

    /// A part begins that was not found before: it has the serial numbers of the one before, or nothing could be looked for.
    fn meet(&mut self, start: u64) -> Result<(), DecodeError> {
        let Some(current) = self.parts.get_mut(self.current) else {
            return MalformedSnafu { what: "Ogg stream" }.fail();
        };
        // By what was given out, and not by what its pages say: the next part follows without a gap in any case.
        let heard = self.packets.given_out().saturating_sub(self.packets.priming());
        let heard = time_of(heard, self.info.codec.sample_rate);
        let end = current.end;
        // The pages that were read already cannot always be read again, and after an interruption they are read on.
        let opened = Packets::open(&self.input, &mut self.packets.pages, end)?;
        (current.end, current.plays) = (end.map(|_| start), Some(heard));
        let begins = current.begins + heard;
        self.packets = opened;
        self.info = info(&self.packets);
        let part = Part {
            start,
            end,
            begins,
            plays: plays(&self.packets),
        };
        if self.input.is_seekable() {
            self.current += 1;
            self.parts.insert(self.current, part);
        } else {
            // A station goes on for ever; what was heard is not come back to.
            self.parts = vec![part];
        }
        Ok(())
    }
}

impl PacketReader for OggPackets {
    fn info(&self) -> &TrackInfo {
        &self.info
    }

    fn tags(&self) -> Tags {
        self.packets.head.tags.clone()
    }

    fn next(&mut self) -> Result<Next, DecodeError> {
        match self.packets.next(&self.input)? {
            Found::Packet(placed) => Ok(Next::Packet(placed)),
            Found::Link(start) => {
                self.meet(start)?;
                Ok(Next::Chained)
            }
            Found::End => {
                let chained = self.enter(self.current + 1)?;
                Ok(if chained { Next::Chained } else { Next::End })
            }
        }
    }

    fn is_seekable(&self) -> bool {
        self.input.is_seekable()
    }

    fn seek(&mut self, frame: u64) -> Result<(), DecodeError> {
        self.packets.seek(&self.input, frame)
    }

    fn resumes(&self) -> bool {
        true
    }

    fn link_at(&mut self, time: Duration) -> Result<Duration, DecodeError> {
        // Ascending: the number of those that have begun is the number of the one that plays, and one.
        let within = |part: &&Part| part.begins <= time;
        let part = self.parts.iter().filter(within).count().saturating_sub(1);
        if part != self.current {
            self.enter(part)?;
        }
        Ok(self.parts.get(part).map(|part| part.begins).unwrap_or_default())
    }

    fn is_chained(&self) -> bool {
        // One never knows: parts with the same serial numbers are met only where they begin.
        true
    }

    fn duration(&self) -> Option<Duration> {
        // None if one of them is not known.
        self.parts.iter().map(|part| part.plays).sum()
    }

    fn total(&self) -> Option<u64> {
        // Each page says what is left out of it. The end that was looked for may be another part's.
        None
    }

    fn bit_rate(&self) -> Option<u64> {
        let part = self.parts.get(self.current)?;
        let (bytes, plays) = (part.end?.checked_sub(part.start)?, part.plays?);
        u64::try_from(u128::from(bytes) * 8_000 / plays.as_millis().max(1)).ok()
    }
}

fn info(packets: &Packets) -> TrackInfo {
    let codec = packets.head.params.clone();
    let (priming, padding) = (packets.priming(), packets.tail().map(|(padding, _)| padding));
    TrackInfo {
        container: Container::Ogg,
        time_scale: codec.sample_rate,
        wraps: false,
        first_pts: None,
        roll: 0,
        trim: match codec.codec {
            Codec::Opus => trim::opus(priming, padding),
            Codec::Vorbis => {
                let last = packets
                    .tail()
                    .map(|(padding, end)| (end, end + padding + priming));
                trim::ogg(Some((0, priming)), last).unwrap_or_default()
            }
            _ => Trim::default(),
        },
        codec,
    }
}

/// How long a part plays, where its end is known.
fn plays(packets: &Packets) -> Option<Duration> {
    let told = packets
        .tail()
        .map(|(_, end)| end.saturating_sub(packets.priming()));
    let frames = packets.head.total.or(told)?;
    Some(time_of(frames, packets.head.params.sample_rate))
}

/// A packet at its place; one without data is lost.
fn placed(data: Bytes, start: u64, frames: u64) -> Placed {
    Placed {
        start,
        skip_start: 0,
        skip_end: 0,
        packet: Packet {
            data,
            pts: signed(start),
            frames: u32::try_from(frames).unwrap_or(u32::MAX),
        },
    }
}

fn signed(frames: u64) -> i64 {
    i64::try_from(frames).unwrap_or(i64::MAX)
}

fn unsigned(frames: i64) -> u64 {
    u64::try_from(frames).unwrap_or(0)
}

//! What the first packets of a logical stream say, and how long its packets are: Vorbis, Opus and FLAC.

use bytes::Bytes;

use crate::decode::{
    Codec, DecodeError, Tags,
    error::{MalformedSnafu, UnsupportedCodecSnafu},
    file::flac,
    packet::CodecParams,
    tags::{from_flac_comment, from_flac_picture},
};

/// How long a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Length {
    /// Frames that the decoder makes of it.
    pub(super) frames: u64,
    /// How many of them are no sound, as there is no packet before this one to overlap with.
    pub(super) skip: u64,
}

/// The headers of one logical stream.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) params: CodecParams,
    pub(super) tags: Tags,
    /// Frames before the first one of sound, where the headers say it.
    pub(super) pre_skip: u64,
    /// All frames, where the headers say it.
    pub(super) total: Option<u64>,
    lengths: Lengths,
    /// The next packet is one of sound, as far as that can be told.
    ready: bool,
}

/// Tells a packet's length by its first bytes.
#[derive(Debug, Clone)]
enum Lengths {
    Opus,
    Flac,
    Vorbis {
        /// Exponents of the short and the long block.
        blocks: [u8; 2],
        /// Whether each mode has long blocks.
        modes: Vec<bool>,
        /// The exponent of the block before.
        before: Option<u8>,
    },
}

impl Head {
    /// Reads the first packet of a stream.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec`, `Malformed`.
    pub(super) fn read(packet: &Bytes) -> Result<Self, DecodeError> {
        let head = if packet.starts_with(b"\x01vorbis") {
            vorbis(packet)
        } else if packet.starts_with(b"OpusHead") {
            opus(packet)
        } else if packet.starts_with(b"\x7fFLAC\x01") {
            flac(packet)
        } else {
            let codec = "an Ogg stream that is neither Vorbis nor Opus nor FLAC";
            return UnsupportedCodecSnafu { codec }.fail();
        };
        head.ok_or_else(|| MalformedSnafu { what: "Ogg stream" }.build())
    }

    /// Takes another header; `false` if the packet is one of sound.
    pub(super) fn add(&mut self, packet: &Bytes) -> bool {
        if self.ready {
            return false;
        }
        match &mut self.lengths {
            Lengths::Opus => {
                // One header follows, and may be lost.
                self.ready = true;
                let Some(comments) = packet.strip_prefix(b"OpusTags") else {
                    return false;
                };
                from_flac_comment(comments, &mut self.tags);
            }
            Lengths::Flac => match packet.split_first_chunk::<4>() {
                Some(([0xff, ..], _)) | None => {
                    self.ready = true;
                    return false;
                }
                Some(([kind, ..], body)) => match kind & 0x7f {
                    4 => from_flac_comment(body, &mut self.tags),
                    6 => from_flac_picture(body, &mut self.tags),
                    _ => {}
                },
            },
            Lengths::Vorbis { modes, .. } => {
                if let Some(comments) = packet.strip_prefix(b"\x03vorbis") {
                    from_flac_comment(comments, &mut self.tags);
                } else if packet.starts_with(b"\x05vorbis") {
                    *modes = long_modes(packet).unwrap_or_default();
                    self.params.extra_data = [&self.params.extra_data[..], packet].concat().into();
                    self.ready = true;
                }
            }
        }
        true
    }

    /// Whether all headers without which nothing can be decoded have come.
    pub(super) fn is_complete(&self) -> bool {
        match &self.lengths {
            Lengths::Vorbis { modes, .. } => !modes.is_empty(),
            _ => true,
        }
    }

    /// The length of the next packet; `None` if it is none of sound.
    pub(super) fn length(&mut self, packet: &[u8]) -> Option<Length> {
        let frames = match &mut self.lengths {
            Lengths::Opus => opus_frames(packet)?,
            Lengths::Flac => flac_frames(packet)?,
            Lengths::Vorbis {
                blocks: [short, long],
                modes,
                before,
            } => {
                let now = if mode(packet, modes)? { *long } else { *short };
                let now_before = before.replace(now);
                let half = (1_u64 << now) / 2;
                // Two blocks overlap by half of each; the first one has nothing to overlap with.
                return Some(match now_before {
                    Some(before) => Length {
                        frames: (1_u64 << before) / 4 + half / 2,
                        skip: 0,
                    },
                    None => Length {
                        frames: half,
                        skip: half,
                    },
                });
            }
        };
        Some(Length { frames, skip: 0 })
    }

    /// The next packet does not follow the last one.
    pub(super) fn interrupt(&mut self) {
        if let Lengths::Vorbis { before, .. } = &mut self.lengths {
            *before = None;
        }
    }

    /// Whether a decoder that missed a packet has to begin anew, as it would overlap what does not follow.
    pub(super) fn overlaps(&self) -> bool {
        matches!(self.lengths, Lengths::Vorbis { .. })
    }

    /// More frames than any packet has.
    pub(super) fn longest(&self) -> u64 {
        match self.lengths {
            Lengths::Opus => 5760,
            Lengths::Vorbis { .. } => 8192,
            Lengths::Flac => 65_536,
        }
    }
}

/// Vorbis I, 4.2.2.
fn vorbis(packet: &Bytes) -> Option<Head> {
    let channels = *packet.get(11)?;
    let sample_rate = u32::from_le_bytes(packet.get(12..16)?.try_into().ok()?);
    let sizes = *packet.get(28)?;
    let blocks = [sizes & 15, sizes >> 4];
    // From 64 to 8 192 frames; others no decoder takes.
    let known = blocks.iter().all(|exponent| (6..=13).contains(exponent));
    (known && channels > 0 && sample_rate > 0).then(|| Head {
        params: params(Codec::Vorbis, sample_rate, channels.into(), packet.clone()),
        tags: Tags::default(),
        pre_skip: 0,
        total: None,
        lengths: Lengths::Vorbis {
            blocks,
            modes: Vec::new(),
            before: None,
        },
        ready: false,
    })
}

/// RFC 7845, 5.1.
fn opus(packet: &Bytes) -> Option<Head> {
    let channels = packet.get(9).copied().filter(|channels| *channels > 0)?;
    let pre_skip = u16::from_le_bytes(packet.get(10..12)?.try_into().ok()?);
    Some(Head {
        params: params(Codec::Opus, 48_000, channels.into(), packet.clone()),
        tags: Tags::default(),
        pre_skip: pre_skip.into(),
        total: None,
        lengths: Lengths::Opus,
        ready: false,
    })
}

/// RFC 9639, 10.1: STREAMINFO stands behind `fLaC`, with a block's header before it.
fn flac(packet: &Bytes) -> Option<Head> {
    if packet.get(9..14)? != b"fLaC\0" && packet.get(9..14)? != b"fLaC\x80" {
        return None;
    }
    let (params, total) = flac::params(&packet.slice(17..packet.len().max(17)))?;
    Some(Head {
        params,
        tags: Tags::default(),
        pre_skip: 0,
        total,
        lengths: Lengths::Flac,
        ready: false,
    })
}

fn params(codec: Codec, sample_rate: u32, channels: u16, extra_data: Bytes) -> CodecParams {
    CodecParams {
        codec,
        sample_rate,
        channels,
        bits_per_sample: None,
        frames_per_packet: 0,
        extra_data,
    }
}

/// Which modes of a setup header have long blocks (Vorbis I, 4.2.4).
///
/// They stand behind codebooks, floors, residues and mappings, none of which says how long it is. So they are read from the
/// end, where one set bit is the frame of it all: a mode has 41 bits, of which 32 are 0, and before the first one stands how
/// many there are.
fn long_modes(packet: &[u8]) -> Option<Vec<bool>> {
    let bit = |at: usize| packet.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
    let bits = |at: usize, count: usize| {
        (0..count).fold(0_u32, |number, offset| {
            number | u32::from(bit(at + offset)) << offset
        })
    };
    let framing = (0..packet.len() * 8).rev().find(|at| bit(*at))?;
    let (mut modes, mut told) = (Vec::new(), None);
    for count in 1..=64_usize {
        let Some(start) = framing.checked_sub(41 * count + 6) else {
            break;
        };
        let mode = start + 6;
        if bits(mode + 1, 32) != 0 || bits(mode + 33, 8) > 63 {
            break;
        }
        modes.push(bit(mode));
        // Any mode may look like the number before it; the longest list is the whole one.
        if bits(start, 6) as usize + 1 == count {
            told = Some(count);
        }
    }
    modes.truncate(told?);
    modes.reverse();
    Some(modes)
}

/// Whether a packet of sound has a long block (Vorbis I, 4.3.1); `None` if it is no packet of sound.
fn mode(packet: &[u8], modes: &[bool]) -> Option<bool> {
    let first = *packet.first()?;
    if first & 1 == 1 {
        return None;
    }
    // As many bits as the highest number needs: none for one mode.
    let highest = modes.len().checked_sub(1)?;
    let width = usize::BITS - highest.leading_zeros();
    let number = usize::from(first >> 1) & ((1 << width) - 1);
    modes.get(number).copied()
}

/// RFC 6716, 3.1 and 3.2.
fn opus_frames(packet: &[u8]) -> Option<u64> {
    let toc = *packet.first()?;
    // In units of 2.5 ms.
    let each: u64 = match (toc >> 3, toc >> 3 & 3) {
        // SILK, both together, CELT: each has lengths of its own.
        (0..12, size) => [4, 8, 16, 24].get(usize::from(size)).copied()?,
        (12..16, size) => 4 << (size & 1),
        (_, size) => 1 << size,
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1)? & 63),
    };
    let frames = each * count * 120;
    (1..=5760).contains(&frames).then_some(frames)
}

/// RFC 9639, 9.1.
fn flac_frames(packet: &[u8]) -> Option<u64> {
    let [0xff, second, third, _, number, rest @ ..] = packet else {
        return None;
    };
    if second & 0xfc != 0xf8 {
        return None;
    }
    // The number is coded as UTF-8 is: as many bytes as the first one has leading ones, itself included.
    let rest = rest.get((number.leading_ones() as usize).saturating_sub(1)..)?;
    let size = |bytes: usize| {
        let bytes = rest.get(..bytes)?;
        Some(bytes.iter().fold(0, |size, byte| size << 8 | u64::from(*byte)) + 1)
    };
    match third >> 4 {
        0 => None,
        1 => Some(192),
        code @ 2..=5 => Some(576 << (code - 2)),
        6 => size(1),
        7 => size(2),
        code => Some(256 << (code - 8)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn opus_packets_are_as_long_as_their_first_bytes_say() {
        for (packet, frames) in [
            // SILK of 10 and 60 ms, hybrid of 10 and 20 ms, CELT of 2.5 and 20 ms.
            (&[0x00][..], Some(480)),
            (&[0x18], Some(2880)),
            (&[0x60], Some(480)),
            (&[0x68], Some(960)),
            (&[0x80], Some(120)),
            (&[0x98], Some(960)),
            // Two, and as many as the next byte says.
            (&[0x99], Some(1920)),
            (&[0x9b, 6], Some(5760)),
            (&[0x9b, 7], None),
            (&[0x9b], None),
            (&[], None),
        ] {
            assert_eq!(opus_frames(packet), frames, "{packet:?}");
        }
    }

    #[test]
    fn flac_frames_are_as_long_as_their_header_says() {
        for (packet, frames) in [
            (&[0xff, 0xf8, 0xc9, 0x18, 0x00, 0x00][..], Some(4096)),
            (&[0xff, 0xf8, 0x29, 0x18, 0x00, 0x00], Some(576)),
            (&[0xff, 0xf8, 0x69, 0x18, 0x00, 0x0f], Some(16)),
            // A number of two bytes before the length of two.
            (&[0xff, 0xf8, 0x79, 0x18, 0xc4, 0x80, 0x01, 0x00], Some(257)),
            (&[0xff, 0xf8, 0x09, 0x18, 0x00, 0x00], None),
            (&[0x84, 0x00, 0x00, 0x10, 0x00], None),
        ] {
            assert_eq!(flac_frames(packet), frames, "{packet:?}");
        }
    }

    #[test]
    fn the_modes_of_a_setup_header_are_read_from_its_end() {
        // Some bits, how many modes follow, two modes, the framing bit.
        let mut bits = vec![true, false, true, true, false];
        let mut push = |number: u32, count: u32| bits.extend((0..count).map(|at| number >> at & 1 == 1));
        push(1, 6);
        for long in [0, 1] {
            push(long, 1);
            push(0, 32);
            push(long, 8);
        }
        push(1, 1);
        let packet: Vec<u8> = bits
            .chunks(8)
            .map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)))
            .collect();
        let modes = long_modes(&packet).unwrap();
        assert_eq!(modes, [false, true]);
        assert_eq!(mode(&[0b00], &modes), Some(false));
        assert_eq!(mode(&[0b10], &modes), Some(true));
        assert_eq!(mode(&[0b01], &modes), None);
        assert_eq!(long_modes(&[0; 40]), None);
    }
}

//! Headers of frames that need no container: ADTS, and MPEG audio.

use bytes::Bytes;

use super::aac;
use crate::decode::{Codec, Container, DecodeError, error::UnsupportedCodecSnafu, packet::CodecParams};

/// MPEG audio's header.
pub(super) const SHORTEST_HEADER: usize = 4;
/// The longest header: ADTS with a checksum.
pub(super) const LONGEST_HEADER: usize = 9;

/// Which kind of frame is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Adts,
    Mpeg,
}

impl Kind {
    pub(crate) fn container(self) -> Container {
        match self {
            Self::Adts => Container::Adts,
            Self::Mpeg => Container::Mpeg,
        }
    }
}

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The whole frame, header included.
    pub(crate) length: usize,
    /// The header that is no part of the packet.
    pub(super) strip: usize,
    pub(crate) frames: u32,
    pub(crate) sample_rate: u32,
    shape: Shape,
}

/// What has to stay the same within an encoder run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Adts {
        object: u32,
        rate_index: u32,
        configuration: u32,
        blocks: u32,
    },
    Mpeg {
        layer: u32,
        channels: u16,
    },
}

impl Header {
    /// Reads a header at the start of `bytes`; `None` if there is none.
    pub(crate) fn read(kind: Kind, bytes: &[u8]) -> Option<Self> {
        match kind {
            Kind::Adts => Self::adts(bytes),
            Kind::Mpeg => Self::mpeg(bytes),
        }
    }

    /// ISO/IEC 14496-3, 1.A.2.2.
    fn adts(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..7)?;
        let word = |at: usize| header.get(at).copied().map(u32::from);
        let (b1, b2, b3) = (word(1)?, word(2)?, word(3)?);
        // Twelve bits of ones, and a layer that is always 0.
        if word(0)? != 0xff || b1 & 0xf6 != 0xf0 {
            return None;
        }
        // Nine bytes where a checksum follows. It covers a part of the frame only, and packagers get it wrong: it is not
        // looked at.
        let strip = if b1 & 1 == 1 { 7 } else { 9 };
        let rate_index = b2 >> 2 & 15;
        let length = usize::try_from((b3 & 3) << 11 | word(4)? << 3 | word(5)? >> 5).ok()?;
        // Less one. Several in a frame are refused where the codec is told, with its name.
        let blocks = word(6)? & 3;
        let shape = Shape::Adts {
            object: (b2 >> 6) + 1,
            rate_index,
            configuration: (b2 & 1) << 2 | b3 >> 6,
            blocks,
        };
        // A frame that ends within its own header is none. Believing it would find the same header again, for ever.
        (length > strip).then_some(Self {
            length,
            strip,
            frames: 1024 * (blocks + 1),
            sample_rate: aac::rate(rate_index)?,
            shape,
        })
    }

    /// ISO/IEC 11172-3, 2.4.1.3, and 13818-3 for the lower rates.
    fn mpeg(bytes: &[u8]) -> Option<Self> {
        let word = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
        if word >> 21 != 0x7ff {
            return None;
        }
        let (version, layer) = (word >> 19 & 3, 4 - (word >> 17 & 3));
        let (bit_rate, rate_index) = (word >> 12 & 15, word >> 10 & 3);
        // Version 1 is reserved; a layer field of 0 too, which ADTS has there; free format has no length of its own.
        if version == 1 || layer == 4 || bit_rate == 0 {
            return None;
        }
        // MPEG-1. The lower rates are those of version 2, and 2.5 beyond the standard.
        let first = version == 3;
        let kbits = kbits(first, layer, bit_rate)?;
        let sample_rate = *[44_100_u32, 48_000, 32_000].get(usize::try_from(rate_index).ok()?)?
            >> match version {
                3 => 0,
                2 => 1,
                _ => 2,
            };
        // A slot more, of one byte, or of four in layer 1: so that the mean is the bit rate.
        let padding = word >> 9 & 1;
        let (length, frames) = match layer {
            1 => ((12_000 * kbits / sample_rate + padding) * 4, 384),
            3 if !first => (72_000 * kbits / sample_rate + padding, 576),
            // Layer 2 has long frames at the low rates too: only layer 3 halves them.
            _ => (144_000 * kbits / sample_rate + padding, 1152),
        };
        let channels = if word >> 6 & 3 == 3 { 1 } else { 2 };
        Some(Self {
            length: usize::try_from(length).ok()?,
            strip: 0,
            frames,
            sample_rate,
            shape: Shape::Mpeg { layer, channels },
        })
    }

    /// Whether two frames can be of one encoder run.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        // Not the bit rate, nor what a frame says of joint stereo: an encoder changes those from one frame to the next.
        self.sample_rate == other.sample_rate && self.shape == other.shape
    }

    /// What a decoder has to know of frames like this.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec`.
    pub(crate) fn params(&self) -> Result<CodecParams, DecodeError> {
        let unsupported = |codec: &str| UnsupportedCodecSnafu { codec }.fail();
        match self.shape {
            Shape::Adts { blocks: 1.., .. } => unsupported("ADTS with several blocks in a frame"),
            Shape::Adts {
                object,
                rate_index,
                configuration,
                ..
            } => aac::params(&aac::config_of_adts(object, rate_index, configuration)),
            Shape::Mpeg { layer: 3, channels } => Ok(CodecParams {
                codec: Codec::Mp3,
                sample_rate: self.sample_rate,
                channels,
                bits_per_sample: None,
                frames_per_packet: self.frames,
                extra_data: Bytes::new(),
            }),
            Shape::Mpeg { layer, .. } => unsupported(&format!("MPEG audio layer {layer}")),
        }
    }
}

/// The bit rate in a frame of MPEG audio, in thousands of bits per second.
pub(crate) fn kbits_of(frame: &[u8]) -> Option<u32> {
    let word = u32::from_be_bytes(frame.get(..4)?.try_into().ok()?);
    kbits(word >> 19 & 3 == 3, 4 - (word >> 17 & 3), word >> 12 & 15)
}

fn kbits(first: bool, layer: u32, index: u32) -> Option<u32> {
    const TABLES: [[u32; 14]; 5] = [
        [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
        [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
        [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
        [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    let table = match (first, layer) {
        (true, 1) => 0,
        (true, 2) => 1,
        (true, _) => 2,
        (false, 1) => 3,
        (false, _) => 4,
    };
    TABLES
        .get(table)?
        .get(usize::try_from(index).ok()?.checked_sub(1)?)
        .copied()
}

//! Samples as they are: integers, floats, A-law and mu-law. Ours: there is nothing to decode.

use super::{PacketDecoder, PacketError};
use crate::decode::{
    ChannelLayout, DecodeError, Spec,
    error::MalformedSnafu,
    packet::{CodecParams, Packet},
};

/// How one sample is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Integers of this many bytes, 1 to 4.
    Int {
        bytes: u8,
        signed: bool,
        big: bool,
    },
    /// Floats of 4 or 8 bytes.
    Float {
        bytes: u8,
        big: bool,
    },
    ALaw,
    MuLaw,
}

impl Storage {
    /// Bytes of one sample.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Int { bytes, .. } | Self::Float { bytes, .. } => usize::from(bytes),
            Self::ALaw | Self::MuLaw => 1,
        }
    }

    /// As the codec header that [`PcmDecoder`] reads, with the places of the channels.
    pub(crate) fn header(self, layout: ChannelLayout) -> Vec<u8> {
        let (kind, bytes, flags) = match self {
            Self::Int { bytes, signed, big } => (0, bytes, u8::from(signed) << 1 | u8::from(big)),
            Self::Float { bytes, big } => (1, bytes, u8::from(big)),
            Self::ALaw => (2, 1, 0),
            Self::MuLaw => (3, 1, 0),
        };
        [&[kind, bytes, flags][..], &layout.mask().to_le_bytes()].concat()
    }

    fn read(header: &[u8]) -> Option<(Self, u32)> {
        let [kind, bytes, flags, mask @ ..] = <[u8; 7]>::try_from(header).ok()?;
        let big = flags & 1 == 1;
        let storage = match (kind, bytes) {
            (0, 1..=4) => Self::Int {
                bytes,
                signed: flags & 2 == 2,
                big,
            },
            (1, 4 | 8) => Self::Float { bytes, big },
            (2, _) => Self::ALaw,
            (3, _) => Self::MuLaw,
            _ => return None,
        };
        Some((storage, u32::from_le_bytes(mask)))
    }
}

/// Samples to `f32`: exact up to 24 bits, the nearest beyond.
pub(crate) struct PcmDecoder {
    storage: Storage,
    spec: Spec,
}

impl PcmDecoder {
    /// For samples as the codec header says, see [`Storage::header`].
    ///
    /// # Errors
    ///
    /// `Malformed`.
    pub(crate) fn new(params: &CodecParams) -> Result<Self, DecodeError> {
        let what = "PCM header";
        let Some((storage, mask)) = Storage::read(&params.extra_data) else {
            return MalformedSnafu { what }.fail();
        };
        // Of another number of channels it says nothing.
        let places = ChannelLayout::from_mask(mask);
        let channels = if places.count() == params.channels {
            places
        } else {
            ChannelLayout::from_count(params.channels)
        };
        let spec = Spec {
            sample_rate: params.sample_rate,
            channels,
        };
        Ok(Self { storage, spec })
    }
}

impl PacketDecoder for PcmDecoder {
    fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<usize, PacketError> {
        let channels = usize::from(self.spec.channels.count()).max(1);
        // What is left of a frame at the end of a file that was cut is no frame.
        let frames = packet.data.len() / (self.storage.bytes() * channels);
        let bytes = packet
            .data
            .get(..frames * self.storage.bytes() * channels)
            .unwrap_or_default();
        convert(self.storage, bytes, out);
        Ok(frames)
    }

    fn spec(&self) -> Spec {
        self.spec
    }

    fn reset(&mut self) {}

    fn pre_roll(&self) -> u32 {
        0
    }
}

fn convert(storage: Storage, bytes: &[u8], out: &mut Vec<f32>) {
    const HALF: f32 = 2_147_483_648.0;
    match storage {
        // The integer's bytes at the top of 32 bits: what is below them is 0, so that one scale fits all. Rounding to the
        // nearest f32 happens in the conversion; the scale is a power of two.
        #[expect(clippy::cast_precision_loss, reason = "rounded to the nearest, as promised")]
        Storage::Int {
            bytes: 2,
            signed: true,
            big: false,
        } => {
            each(bytes, out, |[a, b]| {
                i32::from_le_bytes([0, 0, a, b]) as f32 / HALF
            });
        }
        // WAVE has 8 bits without a sign, AIFF with one: turning the highest bit makes one of the other.
        Storage::Int { bytes: 1, signed, .. } => each(bytes, out, |[a]: [u8; 1]| {
            let sample = if signed { a } else { a ^ 0x80 };
            whole([0, 0, 0, sample])
        }),
        Storage::Int { bytes: 2, big, .. } => each(bytes, out, |[a, b]| {
            whole(if big { [0, 0, b, a] } else { [0, 0, a, b] })
        }),
        Storage::Int { bytes: 3, big, .. } => each(bytes, out, |[a, b, c]| {
            whole(if big { [0, c, b, a] } else { [0, a, b, c] })
        }),
        Storage::Int { big, .. } => each(bytes, out, |[a, b, c, d]| {
            whole(if big { [d, c, b, a] } else { [a, b, c, d] })
        }),
        Storage::Float { bytes: 8, big } => each(bytes, out, |sample: [u8; 8]| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounded to the nearest, as promised"
            )]
            let narrow = |wide: f64| wide as f32;
            narrow(if big {
                f64::from_be_bytes(sample)
            } else {
                f64::from_le_bytes(sample)
            })
        }),
        Storage::Float { big, .. } => each(bytes, out, |sample: [u8; 4]| {
            if big {
                f32::from_be_bytes(sample)
            } else {
                f32::from_le_bytes(sample)
            }
        }),
        Storage::ALaw => each(bytes, out, |[a]| f32::from(a_law(a)) / 32_768.0),
        Storage::MuLaw => each(bytes, out, |[a]| f32::from(mu_law(a)) / 32_768.0),
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut Vec<f32>, sample: impl Fn([u8; N]) -> f32) {
    // What is left over is no whole sample. The fixed length lets the compiler turn this into instructions for several samples.
    let (samples, _) = bytes.as_chunks::<N>();
    out.extend(samples.iter().map(|bytes| sample(*bytes)));
}

/// Four bytes, the lowest first, as a share of full scale.
#[expect(clippy::cast_precision_loss, reason = "rounded to the nearest, as promised")]
fn whole(bytes: [u8; 4]) -> f32 {
    i32::from_le_bytes(bytes) as f32 / 2_147_483_648.0
}

/// ITU-T G.711, table 1a.
fn a_law(byte: u8) -> i16 {
    // Every other bit is turned on the line, so that silence has changes to be clocked by.
    let byte = byte ^ 0x55;
    let (exponent, mantissa) = (byte >> 4 & 7, i16::from(byte & 15));
    let magnitude = match exponent {
        0 => mantissa << 4 | 8,
        _ => (mantissa << 4 | 0x108) << (exponent - 1),
    };
    if byte & 0x80 == 0 { -magnitude } else { magnitude }
}

/// ITU-T G.711, table 2a.
fn mu_law(byte: u8) -> i16 {
    // All bits are turned on the line.
    let byte = !byte;
    let (exponent, mantissa) = (byte >> 4 & 7, i16::from(byte & 15));
    let magnitude = ((mantissa << 3 | 0x84) << exponent) - 0x84;
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::float_cmp,
        clippy::cast_precision_loss,
        reason = "a test fails by panicking"
    )]

    use super::*;

    fn converted(storage: Storage, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::new();
        convert(storage, bytes, &mut out);
        out
    }

    /// P1: every integer of 24 bits has an `f32` of its own.
    #[test]
    fn integers_up_to_24_bits_are_exact() {
        for bytes in 1..=3_u8 {
            let bits = u32::from(bytes) * 8;
            let half = 1_i64 << (bits - 1);
            for value in [-half, -half + 1, -1, 0, 1, 77, half - 2, half - 1] {
                let little = (value as i32).to_le_bytes();
                let little = &little[..usize::from(bytes)];
                let large: Vec<u8> = little.iter().rev().copied().collect();
                for (big, stored) in [(false, little), (true, &large)] {
                    let storage = Storage::Int {
                        bytes,
                        signed: true,
                        big,
                    };
                    let got = f64::from(converted(storage, stored)[0]);
                    assert_eq!(got * half as f64, value as f64, "{bits} bits");
                }
            }
        }
        let unsigned = Storage::Int {
            bytes: 1,
            signed: false,
            big: false,
        };
        assert_eq!(converted(unsigned, &[0, 0x80, 0xff]), [-1.0, 0.0, 127.0 / 128.0]);
    }

    #[test]
    fn wider_samples_are_rounded_to_the_nearest() {
        let storage = Storage::Int {
            bytes: 4,
            signed: true,
            big: false,
        };
        for value in [i32::MIN, -1, 1, 0x7fff_ff7f, 0x0123_4567] {
            let want = (f64::from(value) / 2_147_483_648.0) as f32;
            assert_eq!(converted(storage, &value.to_le_bytes()), [want]);
        }
        let float = Storage::Float { bytes: 8, big: true };
        assert_eq!(converted(float, &0.1_f64.to_be_bytes()), [0.1]);
    }

    #[test]
    fn companded_samples_are_those_of_the_standard() {
        assert_eq!([0x55, 0xd5, 0x2a, 0xaa].map(a_law), [-8, 8, -32_256, 32_256]);
        assert_eq!([0xff, 0x7f, 0x00, 0x80].map(mu_law), [0, 0, -32_124, 32_124]);
    }
}

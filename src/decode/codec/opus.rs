//! Opus, by opus-pure.

use opus_pure::{Error, OpusDecoder as Stream, OpusMSDecoder as Streams};

use super::{PacketDecoder, PacketError};
use crate::decode::{
    ChannelLayout, DecodeError, Spec,
    error::{MalformedSnafu, UnsupportedCodecSnafu},
    packet::{CodecParams, Packet},
};

/// Opus decodes to this rate, whatever it was made from.
const RATE: i32 = 48_000;
/// The longest packet: 120 ms.
const MAX_FRAMES: usize = 5760;
/// RFC 7845, 4.6, asks for 80 ms before a seek's target, which leaves an error one can measure. After this much CELT has
/// forgotten where it began: 1 280 ms.
const PRE_ROLL: u32 = 16 * 3840;
/// SILK predicts a voice from its last periods, and an error in them goes on until the voice pauses: speech does every few
/// seconds, music hardly ever. Of music at 12 kbit/s half the seeks were off by up to 3e-3 after 2.6 s, one in five after 5 s,
/// some after 20 s, and all others were equal. 80 s: a tenth of a second of work.
const SILK_PRE_ROLL: u32 = 1000 * 3840;

enum Inner {
    /// Mono or stereo.
    One(Box<Stream>),
    Several(Box<Streams>),
}

/// One stream of up to eight channels.
pub(crate) struct OpusDecoder {
    inner: Inner,
    channels: usize,
    spec: Spec,
    /// For each channel of the output, the decoder's. `None` if they are the same.
    order: Option<[usize; 8]>,
    /// There were packets of SILK, alone or below CELT. An encoder may change over with any packet, and back.
    silk: bool,
}

impl OpusDecoder {
    /// `params.extra_data` is an identification header (RFC 7845, 5.1).
    ///
    /// # Errors
    ///
    /// `Malformed`, and `UnsupportedCodec` for a mapping of channels that is not one of the usual ones.
    pub(crate) fn new(params: &CodecParams) -> Result<Self, DecodeError> {
        let what = "OpusHead";
        let Some(head) = Head::read(&params.extra_data) else {
            return MalformedSnafu { what }.fail();
        };
        let unsupported = |what: &str| {
            let codec = format!("Opus with {what}");
            UnsupportedCodecSnafu { codec }.fail()
        };
        let channels = usize::from(head.channels);
        let inner = match (head.family, head.channels) {
            (0, 1 | 2) => Stream::new(RATE, channels).map(|mut stream| {
                // The gain is part of the sound (RFC 7845, 5.1): it is to be applied always, other than ReplayGain.
                stream.gain_q8 = head.gain.into();
                Inner::One(Box::new(stream))
            }),
            (1, 1..=8) => Streams::new(RATE, channels, 1).map(|mut streams| {
                for stream in streams.streams_mut() {
                    stream.gain_q8 = head.gain.into();
                }
                Inner::Several(Box::new(streams))
            }),
            (family, _) => return unsupported(&format!("the channel mapping family {family}")),
        };
        let Ok(inner) = inner else {
            return MalformedSnafu { what }.fail();
        };
        if let Inner::Several(streams) = &inner {
            let layout = streams.layout();
            let usual = (layout.nb_streams, layout.nb_coupled_streams, &*layout.mapping);
            // The library decodes the usual mappings only. Another one would come out with its channels exchanged, without
            // an error.
            if head.mapping.is_none_or(|mapping| mapping != usual) {
                return unsupported("an unusual channel mapping");
            }
        }
        Ok(Self {
            inner,
            channels,
            spec: Spec {
                sample_rate: RATE.unsigned_abs(),
                channels: ChannelLayout::from_mask(mask(head.channels)),
            },
            order: order(head.channels),
            silk: false,
        })
    }
}

/// The fields that a decoder needs of an identification header.
struct Head<'a> {
    channels: u8,
    /// In units of 1/256 dB.
    gain: i16,
    family: u8,
    /// Streams, those of them that are stereo, and which channel of which each channel is.
    mapping: Option<(usize, usize, &'a [u8])>,
}

impl<'a> Head<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let fields = bytes.strip_prefix(b"OpusHead")?;
        let &[
            version,
            channels,
            _,
            _,
            _,
            _,
            _,
            _,
            low,
            high,
            family,
            ref table @ ..,
        ] = fields
        else {
            return None;
        };
        // Only families other than 0 have one.
        let mapping = table
            .split_at_checked(2)
            .and_then(|(counts, mapping)| Some((counts, mapping.get(..usize::from(channels))?)));
        // A higher major version may mean anything.
        (version < 16 && channels > 0).then_some(Self {
            channels,
            gain: i16::from_le_bytes([low, high]),
            family,
            mapping: match mapping {
                Some((&[streams, coupled], mapping)) => Some((streams.into(), coupled.into(), mapping)),
                _ => None,
            },
        })
    }
}

/// The places of Vorbis' channel orders (RFC 7845, 5.1.1.2), as bits of a WAVE file's mask.
fn mask(channels: u8) -> u32 {
    match channels {
        1 => 0x4,
        2 => 0x3,
        3 => 0x7,
        4 => 0x33,
        5 => 0x37,
        6 => 0x3f,
        7 => 0x70f,
        _ => 0x63f,
    }
}

/// Where Vorbis' order has the channels of a WAVE file's.
fn order(channels: u8) -> Option<[usize; 8]> {
    match channels {
        // Left, centre, right.
        3 => Some([0, 2, 1, 0, 0, 0, 0, 0]),
        // Left, centre, right, rear left, rear right.
        5 => Some([0, 2, 1, 3, 4, 0, 0, 0]),
        // … and LFE.
        6 => Some([0, 2, 1, 5, 3, 4, 0, 0]),
        // Left, centre, right, side left, side right, rear centre, LFE.
        7 => Some([0, 2, 1, 6, 5, 3, 4, 0]),
        // Left, centre, right, side left, side right, rear left, rear right, LFE.
        8 => Some([0, 2, 1, 7, 5, 6, 3, 4]),
        _ => None,
    }
}

impl PacketDecoder for OpusDecoder {
    fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<usize, PacketError> {
        let damaged = |error: Error| PacketError::Damaged(error.to_string());
        // RFC 6716, 3.1: the first sixteen configurations have SILK.
        self.silk |= packet.data.first().is_some_and(|toc| toc >> 3 < 16);
        let before = out.len();
        out.resize(before + MAX_FRAMES * self.channels, 0.0);
        let target = out.get_mut(before..).unwrap_or_default();
        // Nothing but a lost packet has no bytes: the decoder would make some sound up.
        let decoded = if packet.data.is_empty() {
            Err(Error::InvalidPacket("empty"))
        } else {
            match &mut self.inner {
                Inner::One(stream) => stream.decode(&packet.data, MAX_FRAMES, target),
                Inner::Several(streams) => streams.decode(&packet.data, MAX_FRAMES, target),
            }
        };
        let frames = *decoded.as_ref().unwrap_or(&0);
        if let Some(order) = &self.order {
            for frame in target.chunks_exact_mut(self.channels).take(frames) {
                let mut vorbis = [0.0; 8];
                for (kept, sample) in vorbis.iter_mut().zip(&*frame) {
                    *kept = *sample;
                }
                for (sample, from) in frame.iter_mut().zip(order) {
                    *sample = vorbis.get(*from).copied().unwrap_or(0.0);
                }
            }
        }
        out.truncate(before + frames * self.channels);
        decoded.map_err(damaged)
    }

    fn spec(&self) -> Spec {
        self.spec
    }

    fn reset(&mut self) {
        let reset = match &mut self.inner {
            Inner::One(stream) => stream.reset_state(),
            Inner::Several(streams) => streams.reset_state(),
        };
        if let Err(error) = reset {
            log::debug!("the Opus decoder keeps its past: {error}");
        }
    }

    fn pre_roll(&self) -> u32 {
        if self.silk { SILK_PRE_ROLL } else { PRE_ROLL }
    }
}

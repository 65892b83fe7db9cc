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
/// SILK predicts a voice from its last periods: an error goes on until the voice pauses. That is not known before, so this is
/// where it is tried first: 5 s.
const SILK_PRE_ROLL: u32 = 64 * 3840;
/// So many packets have to be the same, and none other between them, until SILK counts as settled.
const SAME: u32 = 50;
/// Quieter packets do not count: what differs below the last bit is not heard in them, and may grow with the sound.
const LOUD: f32 = 2e-3;

enum Inner {
    /// Mono or stereo.
    One(Box<Stream>),
    Several(Box<Streams>),
}

impl Inner {
    fn new(family: u8, channels: usize, gain: i16) -> Option<Self> {
        if family == 0 {
            let mut stream = Stream::new(RATE, channels).ok()?;
            stream.gain_q8 = gain.into();
            return Some(Self::One(Box::new(stream)));
        }
        let mut streams = Streams::new(RATE, channels, 1).ok()?;
        for stream in streams.streams_mut() {
            stream.gain_q8 = gain.into();
        }
        Some(Self::Several(Box::new(streams)))
    }

    /// Another decoder of the same kind.
    fn another(&self, channels: usize) -> Option<Self> {
        match self {
            Self::One(stream) => Self::new(0, channels, i16::try_from(stream.gain_q8).ok()?),
            // Channels of their own have a past of their own each. They are encoded by CELT, as SILK has no surround.
            Self::Several(_) => None,
        }
    }

    fn decode(&mut self, data: &[u8], target: &mut [f32]) -> Result<usize, Error> {
        match self {
            Self::One(stream) => stream.decode(data, MAX_FRAMES, target),
            Self::Several(streams) => streams.decode(data, MAX_FRAMES, target),
        }
    }
}

impl Shadow {
    /// Takes a packet of which the decoder made `frames`.
    fn follow(&mut self, data: &[u8], frames: &[f32]) {
        self.frames.resize(MAX_FRAMES * 2, 0.0);
        // Its past is the first packet, twice: another one than none, and no louder than what comes.
        if !std::mem::replace(&mut self.begun, true) && self.inner.decode(data, &mut self.frames).is_err() {
            return;
        }
        let same = self.inner.decode(data, &mut self.frames).is_ok_and(|_| {
            let pairs = frames.iter().zip(&self.frames);
            pairs.into_iter().all(|(one, other)| (one - other).abs() < 1e-5)
        });
        let loud = frames.iter().any(|sample| sample.abs() > LOUD);
        self.same = if same { self.same + u32::from(loud) } else { 0 };
    }
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
    /// After a jump: a second decoder, with another past.
    shadow: Option<Shadow>,
}

/// A decoder that takes the same packets with another past. Where both give the same frames their pasts are forgotten, and what
/// comes is what an uninterrupted decode gives.
///
/// How long that takes depends on the sound alone. Music at 12 kbit/s, which sounds on as a voice never does, was still off by
/// 3e-3 after 20 s, and speech is not after two.
struct Shadow {
    inner: Inner,
    frames: Vec<f32>,
    /// It has taken its first packet.
    begun: bool,
    /// How many loud packets were the same since the last one that was not.
    same: u32,
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
        if !matches!((head.family, head.channels), (0, 1 | 2) | (1, 1..=8)) {
            return unsupported(&format!("the channel mapping family {}", head.family));
        }
        let Some(inner) = Inner::new(head.family, channels, head.gain) else {
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
            shadow: None,
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
        let mapping = table
            .split_at_checked(2)
            .and_then(|(counts, mapping)| Some((counts, mapping.get(..usize::from(channels))?)));
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
            self.inner.decode(&packet.data, target)
        };
        let frames = *decoded.as_ref().unwrap_or(&0);
        if let (Some(shadow), true) = (&mut self.shadow, decoded.is_ok()) {
            shadow.follow(
                &packet.data,
                target.get(..frames * self.channels).unwrap_or_default(),
            );
        }
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
        let another = self.inner.another(self.channels).filter(|_| self.silk);
        self.shadow = another.map(|inner| Shadow {
            inner,
            frames: Vec::new(),
            begun: false,
            same: 0,
        });
    }

    fn settle(&mut self) -> bool {
        self.shadow.take().is_none_or(|shadow| shadow.same >= SAME)
    }

    fn pre_roll(&self) -> u32 {
        if self.silk { SILK_PRE_ROLL } else { PRE_ROLL }
    }
}

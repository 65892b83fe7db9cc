//! HE-AAC, and AAC-LC of more than two channels, by syom.

use syom::{AacError, Channel, DecodeOptions, Decoder, Frame};

use super::{PacketDecoder, PacketError};
use crate::decode::{
    ChannelLayout, Codec, DecodeError, Spec,
    error::UnsupportedCodecSnafu,
    packet::{CodecParams, Packet},
};

/// Packets before a seek's target. Replication is refused until a packet with its header comes, which some encoders write
/// into every tenth packet only; the filters behind it remember two more.
const PRE_ROLL_PACKETS: u32 = 12;

/// The access-unit decoder. It gives two channels for a mono track whose parametric stereo may still begin.
pub(crate) struct HeAacDecoder {
    inner: Decoder,
    params: CodecParams,
    spec: Spec,
    /// It refuses to go on after an error, until it is set up anew.
    failed: bool,
}

impl HeAacDecoder {
    /// # Errors
    ///
    /// `UnsupportedCodec`.
    pub(crate) fn new(params: &CodecParams) -> Result<Self, DecodeError> {
        // Limits of length are the caller's.
        let inner = match Decoder::from_asc(&params.extra_data, DecodeOptions::unbounded()) {
            Ok(inner) => inner,
            Err(error) => {
                let codec = format!("{} ({error})", params.codec);
                return UnsupportedCodecSnafu { codec }.fail();
            }
        };
        Ok(Self {
            inner,
            params: params.clone(),
            spec: Spec {
                sample_rate: params.sample_rate,
                channels: ChannelLayout::from_count(params.channels),
            },
            failed: false,
        })
    }

    fn set_up(&mut self) -> Result<(), AacError> {
        // Reset alone keeps the band replication of the place before.
        self.inner.reset();
        self.failed = false;
        self.inner.set_asc(&self.params.extra_data)
    }
}

impl PacketDecoder for HeAacDecoder {
    fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<usize, PacketError> {
        let damaged = |error: AacError| PacketError::Damaged(error.to_string());
        // Its state after an error is not defined: the next packet may follow, but only a decoder without a past can take
        // it.
        if self.failed {
            self.set_up().map_err(damaged)?;
        }
        let (before, mut frames, mut spec) = (out.len(), 0, self.spec);
        let decoded = self.inner.decode_au(&packet.data, |frame| {
            spec = interleave(&frame, out);
            frames += frame.samples;
            Ok(())
        });
        match decoded {
            Ok(()) => {
                self.spec = spec;
                Ok(frames)
            }
            Err(error) => {
                // Some of its blocks may be out already: those of half a packet are no sound.
                out.truncate(before);
                self.failed = true;
                Err(damaged(error))
            }
        }
    }

    fn spec(&self) -> Spec {
        self.spec
    }

    fn reset(&mut self) {
        // What is wrong with the header was found when it was made.
        self.failed = self.set_up().is_err();
    }

    fn pre_roll(&self) -> u32 {
        match self.params.codec {
            Codec::AacLc => 2 * self.params.frames_per_packet,
            _ => PRE_ROLL_PACKETS * self.params.frames_per_packet,
        }
    }
}

/// Appends a frame's planes in the order of their places; what they are.
fn interleave(frame: &Frame<'_>, out: &mut Vec<f32>) -> Spec {
    let mut planes: Vec<(Option<u32>, &[f32])> = frame
        .planar
        .iter()
        .zip(frame.meta.channels)
        .map(|(plane, channel)| (channel.and_then(place), *plane))
        .collect();
    let known = planes.iter().all(|(place, _)| place.is_some());
    // By place, as a WAVE file has them. AAC has the centre first, and the layout that is told says nothing of an order.
    if known {
        planes.sort_by_key(|(place, _)| *place);
    }
    let mask = planes
        .iter()
        .filter_map(|(place, _)| *place)
        .fold(0, |mask, place| mask | 1 << place);
    let count = u16::try_from(planes.len()).unwrap_or(u16::MAX);
    let layout = ChannelLayout::from_mask(mask);
    let channels = if known && layout.count() == count {
        layout
    } else {
        ChannelLayout::from_count(count)
    };
    out.reserve(frame.samples * planes.len());
    for at in 0..frame.samples {
        out.extend(
            planes
                .iter()
                .map(|(_, plane)| plane.get(at).copied().unwrap_or(0.0)),
        );
    }
    Spec {
        sample_rate: frame.sample_rate,
        channels,
    }
}

/// A channel's bit in the mask of a WAVE file.
fn place(channel: Channel) -> Option<u32> {
    Some(match channel {
        Channel::FrontLeft => 0,
        Channel::FrontRight => 1,
        Channel::FrontCenter => 2,
        Channel::Lfe => 3,
        Channel::BackLeft => 4,
        Channel::BackRight => 5,
        Channel::BackCenter => 8,
        Channel::SideLeft => 9,
        Channel::SideRight => 10,
        _ => return None,
    })
}

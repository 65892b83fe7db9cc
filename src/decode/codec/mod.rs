//! Codecs: packets in, frames out. One adapter in a file of its own for each library.

#[cfg(feature = "he-aac")]
mod he_aac;
#[cfg(feature = "opus")]
mod opus;
pub(super) mod pcm;
mod symphonia;

use std::ops::RangeInclusive;

use super::{
    Codec, DecodeError, Spec,
    error::UnsupportedCodecSnafu,
    packet::{CodecParams, Packet},
};
pub(crate) use symphonia::SymphoniaDecoder;

/// Sample rates that are decoded, and resampled to, in frames per second.
pub(super) const RATES: RangeInclusive<u32> = 1_000..=768_000;

/// The most channels of a track.
const CHANNELS: u16 = 64;

/// The most samples of a second: 8 channels at the highest rate, or 64 at 96 kHz.
const SAMPLES: u64 = 8 * 768_000;

/// Why a packet gave no frames.
#[derive(Debug, Clone)]
pub(crate) enum PacketError {
    /// This packet is damaged. The next one may be decoded.
    Damaged(String),
    /// No packet of this track can be decoded.
    Fatal(DecodeError),
}

/// Decodes the packets of one encoder run.
pub(crate) trait PacketDecoder: Send {
    /// Appends the packet's frames, interleaved, to `out`; how many there were. Nothing is trimmed.
    ///
    /// # Errors
    ///
    /// `out` is as before.
    fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<usize, PacketError>;

    /// What the frames of the last decoded packet mean; before it, what the headers say.
    fn spec(&self) -> Spec;

    /// Forgets the packets before: the next one does not follow the last one.
    fn reset(&mut self);

    /// How many frames before a seek's target have to be decoded and dropped, so that the target's frame is that of an
    /// uninterrupted decode.
    fn pre_roll(&self) -> u32;
}

/// The decoder for a codec.
///
/// # Errors
///
/// `UnsupportedCodec` by name, if none is built in, or for a sample rate or channels that no track has; `Malformed` if the
/// codec's own header is.
pub(crate) fn open(params: &CodecParams) -> Result<Box<dyn PacketDecoder>, DecodeError> {
    // Every track passes here, and none of its buffers is made before: packets, resampler and ring are as long as these two
    // numbers say, and a header of a few bytes may say any.
    let (rate, channels) = (params.sample_rate, params.channels);
    if !RATES.contains(&rate)
        || !(1..=CHANNELS).contains(&channels)
        || u64::from(rate) * u64::from(channels) > SAMPLES
    {
        let codec = format!("{channels} channels of {rate} Hz");
        return UnsupportedCodecSnafu { codec }.fail();
    }
    match params.codec {
        #[cfg(feature = "opus")]
        Codec::Opus => Ok(Box::new(opus::OpusDecoder::new(params)?)),
        // Without the feature they are refused below: half the rate would be heard without an error.
        #[cfg(feature = "he-aac")]
        Codec::HeAac | Codec::HeAacV2 => Ok(Box::new(he_aac::HeAacDecoder::new(params)?)),
        // Symphonia decodes one or two channels of AAC.
        #[cfg(feature = "he-aac")]
        Codec::AacLc if params.channels > 2 => Ok(Box::new(he_aac::HeAacDecoder::new(params)?)),
        Codec::Pcm => Ok(Box::new(pcm::PcmDecoder::new(params)?)),
        // What is not built in has no decoder there either, and is refused by name.
        _ => Ok(Box::new(SymphoniaDecoder::new(params)?)),
    }
}

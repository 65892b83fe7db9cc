//! Symphonia's decoders: MP3, AAC-LC, FLAC, Vorbis, ALAC and PCM.

use symphonia::core::{
    audio::{AudioSpec, Channels, GenericAudioBufferRef},
    checksum::Crc16Ansi,
    codecs::audio::{AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions, well_known},
    errors::Error,
    io::Monitor,
    packet::PacketRef,
    units::{Duration, Timestamp},
};

use super::{PacketDecoder, PacketError};
use crate::decode::{
    ChannelLayout, Codec, DecodeError, Spec,
    error::{MalformedSnafu, UnsupportedCodecSnafu},
    packet::{CodecParams, Packet},
};

/// What Symphonia calls it; `None` for what it does not decode, or decodes wrongly.
fn codec_id(codec: Codec) -> Option<AudioCodecId> {
    match codec {
        Codec::Mp3 => Some(well_known::CODEC_ID_MP3),
        Codec::AacLc => Some(well_known::CODEC_ID_AAC),
        Codec::Flac => Some(well_known::CODEC_ID_FLAC),
        Codec::Vorbis => Some(well_known::CODEC_ID_VORBIS),
        Codec::Alac => Some(well_known::CODEC_ID_ALAC),
        _ => None,
    }
}

/// One of Symphonia's decoders. Trims are not its business: see [`Trim`](crate::decode::Trim).
pub(crate) struct SymphoniaDecoder {
    inner: Box<dyn AudioDecoder>,
    codec: Codec,
    spec: Spec,
    params: AudioCodecParameters,
    /// Packets refused as unsupported before the first one that was decoded.
    refused: Option<u32>,
}

/// A damaged packet may look like one of a kind that is not decoded. So many in a row, and none before, are no damage.
const REFUSED: u32 = 3;

impl SymphoniaDecoder {
    /// A decoder for what a demuxer of ours found.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec`, or `Malformed` if the codec's header is.
    pub(crate) fn new(params: &CodecParams) -> Result<Self, DecodeError> {
        let Some(id) = codec_id(params.codec) else {
            let codec = params.codec.to_string();
            return UnsupportedCodecSnafu { codec }.fail();
        };
        // It undoes the steps of coupling from the first one on, and not from the last one (Vorbis I, 4.3.5): channels that are
        // part of two steps, as in 5.1, come out wrong. To turn the order around in the header would mend that, and break what
        // the order decides before it: which channels have a residue (4.3.3).
        if params.codec == Codec::Vorbis && params.channels > 2 {
            let codec = format!("Vorbis of {} channels", params.channels);
            return UnsupportedCodecSnafu { codec }.fail();
        }
        let mut own = AudioCodecParameters::new();
        own.for_codec(id).with_sample_rate(params.sample_rate);
        // Empty is not none to its decoders: they would read a header of no bytes.
        if !params.extra_data.is_empty() {
            own.with_extra_data(params.extra_data.to_vec().into_boxed_slice());
        }
        let channels = ChannelLayout::from_count(params.channels);
        let spec = Spec {
            sample_rate: params.sample_rate,
            channels,
        };
        Self::with(&own, params.codec, spec)
    }

    fn with(params: &AudioCodecParameters, codec: Codec, spec: Spec) -> Result<Self, DecodeError> {
        match make(params) {
            Ok(inner) => Ok(Self {
                inner,
                codec,
                spec,
                params: params.clone(),
                refused: Some(0),
            }),
            Err(Error::Unsupported(what)) => {
                let codec = format!("{codec} ({what})");
                UnsupportedCodecSnafu { codec }.fail()
            }
            Err(_) => {
                let what = "codec header";
                MalformedSnafu { what }.fail()
            }
        }
    }

    /// The MP3 decoder keeps the channels and sample rate of its first packet. A stream may change them.
    fn with_other_spec(&mut self, packet: &PacketRef<'_>, out: &mut Vec<f32>) -> Option<usize> {
        // A new one, as the old one refuses. It is kept only if that was the reason.
        let mut inner = (self.codec == Codec::Mp3).then(|| make(&self.params).ok())??;
        let buffer = inner.decode_ref(packet).ok()?;
        let other = spec(buffer.spec());
        if other == self.spec {
            return None;
        }
        append(&buffer, out);
        let frames = buffer.frames();
        (self.inner, self.spec) = (inner, other);
        Some(frames)
    }
}

fn make(params: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>, Error> {
    // With `gapless` the MP3 decoder trims by a length that its reader guessed from the first frames.
    let options = AudioDecoderOptions::default().gapless(false);
    symphonia::default::get_codecs().make_audio_decoder(params, &options)
}

/// Whether a FLAC frame is what its encoder wrote (RFC 9639, 9.3). The decoder does not look: it would play a turned bit, and
/// its sums of turned numbers overflow.
fn is_whole_flac(frame: &[u8]) -> bool {
    let mut crc = Crc16Ansi::new(0);
    crc.process_buf_bytes(frame);
    // Over the checksum too, the remainder is 0.
    frame.len() > 2 && crc.crc() == 0
}

fn append(buffer: &GenericAudioBufferRef<'_>, out: &mut Vec<f32>) {
    // Straight to its place: blocks are appended to what waits already.
    let before = out.len();
    out.resize(before + buffer.samples_interleaved(), 0.0);
    if let Some(target) = out.get_mut(before..) {
        buffer.copy_to_slice_interleaved(target);
    }
}

/// The places of Symphonia's channels; both sides number them as WAVE files do.
fn layout(channels: &Channels) -> ChannelLayout {
    let count = u16::try_from(channels.count()).unwrap_or(u16::MAX);
    match channels {
        Channels::Positioned(positions) => match u32::try_from(positions.bits()) {
            Ok(mask) => ChannelLayout::from_mask(mask),
            Err(_) => ChannelLayout::from_count(count),
        },
        _ => ChannelLayout::from_count(count),
    }
}

fn spec(spec: &AudioSpec) -> Spec {
    Spec {
        sample_rate: spec.rate(),
        channels: layout(spec.channels()),
    }
}

impl PacketDecoder for SymphoniaDecoder {
    fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<usize, PacketError> {
        if packet.data.is_empty() {
            // Vorbis would overlap what comes next with what came before the loss.
            if self.codec == Codec::Vorbis {
                self.inner.reset();
            }
            return Err(PacketError::Damaged("lost".into()));
        }
        if self.codec == Codec::Flac && !is_whole_flac(&packet.data) {
            return Err(PacketError::Damaged("flac: checksum".into()));
        }
        let duration = Duration::new(u64::from(packet.frames));
        let packet = PacketRef::new(0, Timestamp::new(packet.pts), duration, &packet.data);
        // Decoded in place: the packet's bytes are a slice of what was read.
        let error = match self.inner.decode_ref(&packet) {
            Ok(buffer) => {
                (self.spec, self.refused) = (spec(buffer.spec()), None);
                append(&buffer, out);
                return Ok(buffer.frames());
            }
            Err(error) => error,
        };
        if let (Error::Unsupported(what), Some(refused)) = (&error, &mut self.refused) {
            *refused += 1;
            if *refused >= REFUSED {
                let codec = format!("{} ({what})", self.codec);
                return Err(PacketError::Fatal(UnsupportedCodecSnafu { codec }.build()));
            }
        }
        let frames = self.with_other_spec(&packet, out);
        frames.ok_or_else(|| PacketError::Damaged(error.to_string()))
    }

    fn spec(&self) -> Spec {
        self.spec
    }

    fn reset(&mut self) {
        self.inner.reset();
    }

    fn pre_roll(&self) -> u32 {
        match self.codec {
            // The bit reservoir reaches back ten frames and more, each of 576 frames of PCM at the lower rates: at 8 kHz
            // these last three times as long as at 24 kHz.
            Codec::Mp3 => (self.spec.sample_rate / 4).max(12 * 576),
            // The overlap of one window; twice that, as a packet may have 960 or 1 024 frames.
            Codec::AacLc => 2048,
            // The overlap of the longest window.
            Codec::Vorbis => 8192,
            _ => 0,
        }
    }
}

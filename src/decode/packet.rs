//! Packets: what lies between a container and a codec.

use bytes::Bytes;

use super::{Codec, Container, DecodeError, Trim};

/// What a decoder has to know before the first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodecParams {
    pub(crate) codec: Codec,
    /// Frames per second that come out of the decoder.
    pub(crate) sample_rate: u32,
    pub(crate) channels: u16,
    /// Bits of one sample, for lossless codecs.
    pub(crate) bits_per_sample: Option<u32>,
    /// Frames of one packet, where all but the last have the same number; 0 if unknown.
    pub(crate) frames_per_packet: u32,
    /// The codec's own header: AudioSpecificConfig, `STREAMINFO`, `OpusHead`, the ALAC cookie; empty if there is none.
    pub(crate) extra_data: Bytes,
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) data: Bytes,
    /// When its first frame is presented, in units of the track's time scale. May be negative: priming.
    pub(crate) pts: i64,
    /// Its length in frames at the codec's sample rate; 0 if only the decoder knows.
    pub(crate) frames: u32,
}

/// What a demuxer knows of the track it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrackInfo {
    pub(crate) container: Container,
    pub(crate) codec: CodecParams,
    /// Units of [`Packet::pts`] per second.
    pub(crate) time_scale: u32,
    /// Priming and padding, as far as the container declares them.
    pub(crate) trim: Trim,
}

/// Takes bytes as they come and gives packets back.
///
/// # Contract
///
/// - Any split of the same bytes into pushes gives the same packets.
/// - Nothing is allocated from a length that the bytes announce: at most what was pushed is held.
/// - Damage is passed over where the container allows to find the next packet. An error is final.
pub(crate) trait Demux: Send {
    /// Takes the next bytes.
    fn push(&mut self, bytes: Bytes);

    /// The bytes pushed so far are all of this Media Segment: a packet that ends with it can be given out.
    fn end_segment(&mut self);

    /// The next packet; `None` until more is pushed.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec` and `UnsupportedContainer`, named; `Malformed` where nothing can be made of the bytes.
    fn next_packet(&mut self) -> Result<Option<Packet>, DecodeError>;

    /// What is known of the track; `None` until its headers have come. May change between two packets.
    fn track(&self) -> Option<&TrackInfo>;
}

//! Packets: what lies between a container and a codec.

use std::time::Duration;

use bytes::Bytes;

use super::{Codec, Container, DecodeError, Trim, trim};

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
    /// The codec's own header: `AudioSpecificConfig`, `STREAMINFO`, `OpusHead`, the ALAC cookie; empty if there is none.
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
    /// Whether [`Packet::pts`] begins anew at 2³³, as MPEG's clock does.
    pub(crate) wraps: bool,
    /// Frames before this time are priming. In units of the track's time scale.
    pub(crate) first_pts: Option<i64>,
    /// Priming and padding, as far as the container declares them, in frames.
    pub(crate) trim: Trim,
    /// How many packets before a seek's target the container wants decoded and dropped.
    pub(crate) roll: u16,
}

impl TrackInfo {
    /// A duration in units of the track's time scale as frames, rounded to the nearest.
    pub(crate) fn frames(&self, duration: u32) -> u32 {
        // Rounded, as a unit may be longer than a frame.
        let frames = trim::to_frames(duration.into(), self.time_scale, self.codec.sample_rate);
        u32::try_from(frames).unwrap_or(u32::MAX)
    }
}

/// A timed ID3 tag, as stations send them beside the sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimedTag {
    /// When it holds, in units of the track's time scale.
    pub(crate) pts: i64,
    /// The `ID3v2` tag, header included.
    pub(crate) id3: Bytes,
}

/// Takes bytes as they come and gives packets back.
///
/// # Contract
///
/// - Any split of the same bytes into pushes gives the same packets.
/// - Nothing is allocated from a length that the bytes announce: at most what was pushed is held.
/// - Damage is passed over where the container allows to find the next packet. An error is final.
/// - A packet that is known to be lost is given out with no data, so that its time is not.
pub(crate) trait Demux: Send {
    /// The bytes pushed from now on are those of a Media Segment that the playlist starts at `time`. What was pushed before
    /// has [ended](Self::end_segment), and its packets were taken.
    fn start_segment(&mut self, time: Duration);

    /// Takes the next bytes.
    fn push(&mut self, bytes: Bytes);

    /// All bytes of the Media Segment have been pushed.
    fn end_segment(&mut self);

    /// Nothing more will be pushed: what was held back because it might go on is given out.
    fn finish(&mut self) {
        self.end_segment();
    }

    /// The next packet; `None` until more is pushed.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec` and `UnsupportedContainer`, named; `Malformed` where nothing can be made of the bytes.
    fn next_packet(&mut self) -> Result<Option<Packet>, DecodeError>;

    /// The next timed tag; `None` until more is pushed.
    fn next_tag(&mut self) -> Option<TimedTag> {
        None
    }

    /// What is known of the track; `None` until its headers have come. May change between two packets.
    fn track(&self) -> Option<&TrackInfo>;
}

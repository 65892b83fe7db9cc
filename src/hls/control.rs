//! What a track says beside its bytes.

use std::time::Duration;

use super::{Resource, StartPoint};
use crate::media::{Bypass, Origin};

/// A message that stands in the stream at the place it speaks of.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum HlsControl {
    /// From here on the bytes are those of this Variant Stream. The first message of all, and again the first after a seek,
    /// unless there is neither a byte nor a gap from there on.
    #[non_exhaustive]
    VariantApplied {
        /// Its number in the Multivariant Playlist, from 0; 0 if there is none.
        variant: usize,
        /// Its peak bits per second; 0 if no playlist says.
        bandwidth: u64,
        /// Its CODECS attribute.
        codecs: Option<String>,
        /// The NAME of the audio Rendition played, if it is a separate one.
        rendition: Option<String>,
        /// The duration of all its segments together.
        duration: Duration,
        /// Where the author would have playback start. The bytes start at the beginning all the same.
        start: Option<StartPoint>,
    },
    /// The bytes from here to the next [`SegmentStart`](Self::SegmentStart) are a Media Initialization Section (RFC 8216,
    /// 4.3.2.5): what a decoder needs before the segments that follow.
    ///
    /// It comes where a section comes into force, again after each discontinuity even if the section is the same one, and
    /// before the first segment after a seek by time. After a seek by bytes into a section the bytes begin in its middle.
    #[non_exhaustive]
    InitializationSection {
        /// The Variant Stream's number.
        variant: usize,
        /// Where its bytes come from.
        origin: Origin,
    },
    /// The next byte belongs to this Media Segment.
    #[non_exhaustive]
    SegmentStart {
        /// The Variant Stream's number.
        variant: usize,
        /// The segment's Media Sequence Number.
        media_sequence: u64,
        /// Its Discontinuity Sequence Number: segments with the same one have one line of timestamps, in every Variant
        /// Stream.
        discontinuity_sequence: u64,
        /// How long it plays.
        duration: Duration,
        /// When it starts, counted from the start of the track.
        time: Duration,
        /// Where its bytes come from.
        origin: Origin,
    },
    /// A segment is absent on purpose (EXT-X-GAP); its bytes are left out.
    #[non_exhaustive]
    Gap {
        /// The Variant Stream's number.
        variant: usize,
        /// The absent segment's Media Sequence Number.
        media_sequence: u64,
        /// How long it would have played.
        duration: Duration,
        /// When it would have started, counted from the start of the track.
        time: Duration,
    },
    /// Format, tracks or timestamps may change here (EXT-X-DISCONTINUITY).
    #[non_exhaustive]
    Discontinuity {
        /// The Discontinuity Sequence Number from here on.
        sequence: u64,
    },
    /// Something was not kept in the cache, or not read from it; the bytes are right all the same. Said once per opened
    /// stream, for the first failure.
    #[non_exhaustive]
    CacheBypassed {
        /// What was not cached.
        resource: Resource,
        /// Why.
        reason: Bypass,
    },
}

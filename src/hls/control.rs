//! What a track tells beside its bytes.

use std::time::Duration;

use super::{Resource, StartPoint};
use crate::media::{Bypass, Origin};

/// A message that stands in the stream at the place it speaks of.
///
/// ```text
///   VariantApplied                           first, and first after a seek
///   InitializationSection   section's bytes  where a section comes into force
///   SegmentStart            segment's bytes
///   Buffered                                 where a segment starts
///   SegmentStart            segment's bytes
///   Discontinuity
///   InitializationSection   section's bytes  again, though it is the same one
///   SegmentStart            segment's bytes
///   Gap                                      no bytes
/// ```
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum HlsControl {
    /// The bytes from here on are those of this Variant Stream. The first message of a stream, and again after a seek. A
    /// stream that has neither a byte nor a gap from there on does not send it.
    #[non_exhaustive]
    VariantApplied {
        /// The number of the Variant Stream in the Multivariant Playlist, from 0. Without such a playlist it is 0.
        variant: usize,
        /// The BANDWIDTH attribute: peak bits per second. 0 if no playlist says.
        bandwidth: u64,
        /// The CODECS attribute.
        codecs: Option<String>,
        /// The NAME of the audio Rendition that plays, if it has a Media Playlist of its own.
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
        /// The number of the Variant Stream.
        variant: usize,
        /// Where its bytes come from.
        origin: Origin,
    },
    /// The next byte belongs to this Media Segment.
    #[non_exhaustive]
    SegmentStart {
        /// The number of the Variant Stream.
        variant: usize,
        /// The segment's Media Sequence Number.
        media_sequence: u64,
        /// Its Discontinuity Sequence Number. Segments with the same one have one line of timestamps, in every Variant
        /// Stream.
        discontinuity_sequence: u64,
        /// How long it plays.
        duration: Duration,
        /// When it starts, counted from the start of the track.
        time: Duration,
        /// Where its bytes come from.
        origin: Origin,
    },
    /// A segment is absent on purpose (EXT-X-GAP). It has no bytes.
    #[non_exhaustive]
    Gap {
        /// The number of the Variant Stream.
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
    /// Another edition of the track was published under the same URLs, and the cache lacks the next byte of the old one. The
    /// new one goes on, behind a discontinuity, with the segment that plays at this time. [`VariantApplied`](Self::VariantApplied)
    /// follows. Byte positions from here on mean nothing to the new edition: seek by time.
    #[non_exhaustive]
    EditionChanged {
        /// When the first part of the new edition starts, counted from the start of the track.
        time: Duration,
    },
    /// How much is there behind the segment that has just begun: in the cache, or on its way to this stream. Told where a segment
    /// starts, if anything is fetched ahead.
    #[non_exhaustive]
    Buffered {
        /// How much playing time.
        ahead: Duration,
        /// How many bytes of it were fetched for this stream.
        bytes: u64,
    },
    /// No byte has come for half a second. What the stream has given out plays on meanwhile.
    Stalled,
    /// Bytes come again.
    Resumed,
    /// All of the track is in the cache: each segment, key and initialization section that its Media Playlist names. Told before
    /// the end of a stream that has read it to there, online, if that is so: it was looked up.
    Cached,
    /// Something was not kept in the cache, or not read from it. The bytes are right all the same. Sent once for each
    /// opened stream, for the first failure.
    #[non_exhaustive]
    CacheBypassed {
        /// The resource that is not kept.
        resource: Resource,
        /// Why.
        reason: Bypass,
    },
}

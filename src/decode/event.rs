//! What is told beside the PCM.

use std::sync::Arc;

use bytes::Bytes;

use super::{Format, Tags};

/// Something that happened at a place of the PCM. It stands between two blocks: it concerns what is heard after it.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub enum DecodeEvent {
    /// From here on the track is encoded, or trimmed, like this. The first event of all.
    FormatChanged(Format),
    /// From here on these tags hold. Not told where a track says nothing of itself.
    TagsChanged(Arc<Tags>),
    /// The next track of the queue begins.
    TrackChanged,
    /// The last track is over.
    Ended,
    /// A pull found fewer frames than it asked for: decoding is behind. From an [`Output`](super::Output) only.
    Buffering,
    /// A pull found all it asked for again.
    Resumed,
    /// A packet could not be decoded. Silence of its length stands in its place, so that what follows keeps its time.
    #[non_exhaustive]
    Damaged {
        /// The first frame of the silence, counted from the start of the track.
        at: u64,
        /// How many frames are silent.
        frames: u64,
    },
    /// Frames are absent on purpose (EXT-X-GAP of HLS). Silence of their length stands in their place.
    #[non_exhaustive]
    Gap {
        /// The first frame of the silence, counted from the start of the track.
        at: u64,
        /// How many frames are silent.
        frames: u64,
    },
    /// From here on another Variant Stream of an HLS track is heard. Told of the first one too, behind its format.
    #[non_exhaustive]
    VariantChanged {
        /// Its number in the Multivariant Playlist, from 0; 0 if there is none.
        variant: usize,
        /// Its peak bits per second; 0 if no playlist says.
        bandwidth: u64,
        /// Its CODECS attribute.
        codecs: Option<String>,
        /// The NAME of the audio Rendition, if it is a separate one.
        rendition: Option<String>,
    },
    /// An `ID3v2` tag that an HLS track carries beside its sound: what a station plays, most of the time.
    #[non_exhaustive]
    TimedId3 {
        /// From which frame on it holds, counted from the start of the track.
        at: u64,
        /// The whole tag, header included.
        tag: Bytes,
    },
}

//! What is told beside the PCM.

use super::Format;

/// Something that happened at a place of the PCM. It stands between two blocks: it concerns what is heard after it.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub enum DecodeEvent {
    /// From here on the track is encoded, or trimmed, like this. The first event of all.
    FormatChanged(Format),
    /// The next track of the queue begins.
    TrackChanged,
    /// The last track is over.
    Ended,
    /// A packet could not be decoded. Silence of its length stands in its place, so that what follows keeps its time.
    #[non_exhaustive]
    Damaged {
        /// The first frame of the silence, counted from the start of the track.
        at: u64,
        /// How many frames are silent.
        frames: u64,
    },
}

//! What the readers of containers have in common.

use std::time::Duration;

use crate::decode::{
    DecodeError, Tags,
    packet::{Packet, TrackInfo},
};

/// A packet with its place on the track's time line.
///
/// ```text
///   frames the decoder gives   │skip_start│      sound      │skip_end│
///                              ▲
///                            start
/// ```
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) packet: Packet,
    /// Its first frame, counted from the first one that the decoder gives out at all: priming included.
    pub(super) start: u64,
    /// Frames at its start that are no sound: what a decoder gives out before its first overlap.
    pub(super) skip_start: u64,
    /// Frames at its end that are no sound, by the container.
    pub(super) skip_end: u64,
}

/// What a [`PacketReader`] gives next.
#[derive(Debug)]
pub(super) enum Next {
    Packet(Placed),
    /// Another track begins: [`PacketReader::info`] is new, and frames are counted from 0 again.
    Chained,
    End,
}

/// Reads the packets of one sound track out of a container.
///
/// # Contract
///
/// - After an error the next call may be a seek only, but see [`resumes`](Self::resumes).
/// - Frames that are missing between two packets are missing in the file.
pub(super) trait PacketReader: Send {
    /// What is known of the track that is read.
    fn info(&self) -> &TrackInfo;

    /// The next packet.
    ///
    /// # Errors
    ///
    /// `Interrupted`, `Io`, `Malformed`.
    fn next(&mut self) -> Result<Next, DecodeError>;

    /// What the container says of the track.
    fn tags(&self) -> Tags {
        Tags::default()
    }

    /// Whether it can be sought in.
    fn is_seekable(&self) -> bool;

    /// Goes to a place from which packets lead to `frame`: the next one begins at or before it. Past the end is the end.
    ///
    /// # Errors
    ///
    /// `SeekUnsupported`, `Interrupted`, `Io`, `Malformed`.
    fn seek(&mut self, frame: u64) -> Result<(), DecodeError>;

    /// Goes to the part of a chain in which `time` lies, and says when that part begins. Before [`seek`](Self::seek), which
    /// counts from there.
    ///
    /// # Errors
    ///
    /// As [`seek`](Self::seek).
    fn link_at(&mut self, time: Duration) -> Result<Duration, DecodeError> {
        let _ = time;
        Ok(Duration::ZERO)
    }

    /// Whether another part may follow the one that is read.
    fn is_chained(&self) -> bool {
        false
    }

    /// How long it plays, where [`total`](Self::total) does not say: all parts of a chain, or an estimate.
    fn duration(&self) -> Option<Duration> {
        None
    }

    /// Bits per second on average.
    fn bit_rate(&self) -> Option<u64> {
        None
    }

    /// Whether [`next`](Self::next) can go on after `Interrupted` as if nothing had been; where not, it is sought anew.
    fn resumes(&self) -> bool {
        false
    }

    /// How many frames the decoder gives out in all, priming and padding included, where that is known.
    fn total(&self) -> Option<u64>;
}

//! The trait of what decides.

use super::{
    sample::{NetworkMemory, NetworkSample},
    situation::{HeldSegment, Improvement, SegmentTransfer, Situation},
};

/// Decides which Variant Stream plays.
///
/// # Contract
///
/// - Answers are places in [`Situation::ladder`]. The player takes one that is not there for the nearest one that is.
/// - Answers keep to [`Situation::max_bit_rate`]; [`Situation::allowed`] lists what it allows.
/// - A selector neither blocks nor asks a clock: it runs where segments are fetched.
///
/// A source keeps one selector for all its streams. It is asked for the segments in the order in which they play, but after a
/// seek, and where several streams are open. One that panics is asked no more: the Variant Stream stays.
///
/// # Implementing
///
/// ```
/// use kithara::hls::selection::{Rung, Situation, VariantSelector};
///
/// /// The best one while a minute is buffered, else the first.
/// struct Careful;
///
/// impl VariantSelector for Careful {
///     fn next(&mut self, situation: &Situation<'_>) -> usize {
///         let best = situation.allowed().max_by_key(|(_, rung)| rung.bandwidth);
///         match best {
///             Some((place, _)) if situation.buffered.as_secs() >= 60 => place,
///             _ => 0,
///         }
///     }
/// }
///
/// let ladder = [Rung::new(64_000), Rung::new(320_000)];
/// assert_eq!(Careful.next(&Situation::new(Default::default(), &ladder)), 0);
/// ```
pub trait VariantSelector: Send {
    /// The Variant Stream of the next segment.
    fn next(&mut self, situation: &Situation<'_>) -> usize;

    /// Takes note of bytes that came over the network, and of time in which none came.
    fn observe(&mut self, sample: &NetworkSample) {
        let _ = sample;
    }

    /// Whether the segment under way is given up, and which Variant Stream it is then taken from. Asked after each sample. In
    /// the situation the next segment is the one under way. What a stream has read of it stays heard: the other one begins at the
    /// segment's start, and a decoder leaves out what it has of the time before.
    fn give_up(&mut self, situation: &Situation<'_>, transfer: &SegmentTransfer) -> Option<usize> {
        let _ = (situation, transfer);
        None
    }

    /// Whether a held segment is fetched again, from another Variant Stream. Asked while nothing is under way: before each
    /// next segment, and again after each improvement; while the look-ahead is full, and behind the track's last segment,
    /// whenever a segment was heard. So an answer each time would never end.
    ///
    /// `held` are the segments that the cache has, in the order in which they play, but for those that a stream may begin
    /// with at any moment. One that has not arrived by then is given up, and the held one plays. An answer comes to nothing
    /// where the list is cut otherwise there, or is not to be had.
    fn improve(&mut self, situation: &Situation<'_>, held: &[HeldSegment]) -> Option<Improvement> {
        let _ = (situation, held);
        None
    }

    /// What to remember of the network for the next track. `None` if too little of it was seen.
    fn network(&self) -> Option<NetworkMemory> {
        None
    }
}

impl<S: VariantSelector + ?Sized> VariantSelector for Box<S> {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        (**self).next(situation)
    }

    fn observe(&mut self, sample: &NetworkSample) {
        (**self).observe(sample);
    }

    fn give_up(&mut self, situation: &Situation<'_>, transfer: &SegmentTransfer) -> Option<usize> {
        (**self).give_up(situation, transfer)
    }

    fn improve(&mut self, situation: &Situation<'_>, held: &[HeldSegment]) -> Option<Improvement> {
        (**self).improve(situation, held)
    }

    fn network(&self) -> Option<NetworkMemory> {
        (**self).network()
    }
}

//! The seam between what is decoded and what plays it.

use std::{sync::Arc, time::Duration};

use super::{DecodeError, DecodeEvent, Format, Spec};

/// Some consecutive frames of PCM.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block {
    /// Interleaved.
    pub(crate) samples: Vec<f32>,
    pub(crate) spec: Spec,
    /// Its first frame, counted in frames of `spec.sample_rate` from the start of the track.
    pub(crate) position: u64,
}

/// What a [`PcmSource`] gives next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// The block was filled, with at least one frame.
    Block,
    /// The block is untouched. What happened concerns the blocks after it.
    Event(DecodeEvent),
    /// There is no more. Asked again, it says so again; a seek begins anew.
    Ended,
}

/// Gives up a wait of [`PcmSource::next`] from another thread, the one under way or else the next one.
pub(crate) type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// A track as PCM. It is driven by one thread, which it may block.
///
/// # Contract
///
/// - The first step of all is [`DecodeEvent::FormatChanged`]; each change of format is told before the block it concerns.
/// - Blocks are consecutive: `position` is the last one's plus its frames, except after a seek, where a gap was told, and
///   where the sample rate changes (the instant stays).
/// - After an error other than `Interrupted` only a seek may go on.
pub(crate) trait PcmSource: Send {
    /// The next step. `block` keeps its allocation from one call to the next.
    ///
    /// # Errors
    ///
    /// Those of the source; `Interrupted`, after which the same call goes on.
    fn next(&mut self, block: &mut Block) -> Result<Step, DecodeError>;

    /// Goes to `time`: the next block begins with the frame nearest to it. At or past the end is the end.
    ///
    /// # Errors
    ///
    /// `SeekUnsupported`, and those of the source.
    fn seek(&mut self, time: Duration) -> Result<(), DecodeError>;

    /// The current format; `None` before it was told.
    fn format(&self) -> Option<&Format>;

    /// How long the track plays, trimmed, where that is known.
    fn duration(&self) -> Option<Duration>;

    fn interrupt(&self) -> Interrupt;
}

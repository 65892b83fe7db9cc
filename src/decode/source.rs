//! The seam between what is decoded and what plays it.

use std::{sync::Arc, time::Duration};

use super::{ChannelLayout, DecodeError, DecodeEvent, Spec, Tags};

/// Some consecutive frames of PCM.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub(crate) samples: Vec<f32>,
    pub(crate) spec: Spec,
    pub(crate) position: u64,
}

impl Block {
    pub(crate) fn empty() -> Self {
        Self {
            samples: Vec::new(),
            spec: Spec {
                sample_rate: 0,
                channels: ChannelLayout::from_count(0),
            },
            position: 0,
        }
    }

    /// The samples, interleaved: whole frames of [`spec`](Self::spec). Full scale is -1 to 1; a track may exceed it.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// The samples, to be kept without a copy.
    pub fn into_samples(self) -> Vec<f32> {
        self.samples
    }

    /// Sample rate and channels.
    pub fn spec(&self) -> Spec {
        self.spec
    }

    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.samples.len() / usize::from(self.spec.channels.count()).max(1)
    }

    /// Its first frame, counted from the start of the track in frames of this sample rate.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// When its first frame is heard, counted from the start of the track.
    pub fn time(&self) -> Duration {
        time_of(self.position, self.spec.sample_rate)
    }
}

/// When a frame begins, to the nanosecond.
pub(crate) fn time_of(frames: u64, rate: u32) -> Duration {
    let rate = u64::from(rate.max(1));
    let nanos = u128::from(frames % rate) * 1_000_000_000 / u128::from(rate);
    Duration::from_secs(frames / rate) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// The frame nearest to `time`.
pub(crate) fn frames_at(time: Duration, rate: u32) -> u64 {
    // To the nearest, as times of frames are rounded themselves: cut off, half of all seeks would land a frame early.
    let billions = time.as_nanos() * u128::from(rate);
    u64::try_from((billions + 500_000_000) / 1_000_000_000).unwrap_or(u64::MAX)
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

    /// What the track says of itself, at the place that was decoded last.
    fn tags(&self) -> Arc<Tags> {
        Arc::default()
    }

    /// How long the track plays, trimmed, where that is known.
    fn duration(&self) -> Option<Duration>;

    /// Whether [`seek`](Self::seek) is worth calling.
    fn is_seekable(&self) -> bool;

    /// What gives up a wait, for another thread to call.
    fn interrupt(&self) -> Interrupt;
}

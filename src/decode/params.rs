//! How a track is decoded.

use super::{ChannelLayout, convert::Target};

/// What the output is to be like, and how tracks are fetched.
///
/// ```
/// use kithara::decode::DecodeParams;
///
/// // For a sound card that runs at 48 kHz, stereo, whatever the tracks are.
/// let params = DecodeParams::new().sample_rate(48_000).channels(2);
/// # let _ = params;
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct DecodeParams {
    target: Target,
}

impl DecodeParams {
    /// The track's own sample rate and channels. A change of them is told by
    /// [`FormatChanged`](super::DecodeEvent::FormatChanged).
    pub fn new() -> Self {
        Self::default()
    }

    /// Resamples to `rate` frames per second.
    pub fn sample_rate(mut self, rate: u32) -> Self {
        self.target.sample_rate = Some(rate.max(1));
        self
    }

    /// Mixes to `count` channels in their usual places, by ITU-R BS.775. Nothing is clipped: the sum of several channels may
    /// exceed full scale.
    pub fn channels(self, count: u16) -> Self {
        self.channel_layout(ChannelLayout::from_count(count.max(1)))
    }

    /// Mixes to these channels, as [`channels`](Self::channels).
    pub fn channel_layout(mut self, layout: ChannelLayout) -> Self {
        self.target.channels = Some(layout);
        self
    }

    pub(super) fn target(&self) -> Target {
        self.target
    }
}

//! How a track is decoded.

use super::{ChannelLayout, codec::RATES, convert::Target};
#[cfg(feature = "file")]
use crate::file::FileParams;
#[cfg(feature = "hls")]
use crate::hls::HlsParams;
#[cfg(any(feature = "file", feature = "hls"))]
use crate::media::Access;

/// What the output is to be like, and how tracks are fetched and kept.
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
    #[cfg(any(feature = "file", feature = "hls"))]
    access: Access,
    #[cfg(feature = "file")]
    file: Option<FileParams>,
    #[cfg(feature = "hls")]
    hls: Option<HlsParams>,
}

impl DecodeParams {
    /// The track's own sample rate and channels. A change of them is told by
    /// [`FormatChanged`](super::DecodeEvent::FormatChanged). Nothing is fetched: for local files, until
    /// [`access`](Self::access) is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Resamples to `rate` frames per second, from 1 000 to 768 000: beyond them it is the nearest of the two.
    pub fn sample_rate(mut self, rate: u32) -> Self {
        self.target.sample_rate = Some(rate.clamp(*RATES.start(), *RATES.end()));
        self
    }

    /// Mixes to `count` channels in their usual places, by ITU-R BS.775. Nothing is clipped: the sum of several channels may
    /// exceed full scale.
    pub fn channels(self, count: u16) -> Self {
        self.channel_layout(ChannelLayout::from_count(count.max(1)))
    }

    /// Mixes to these channels, as [`channels`](Self::channels). A layout without channels is mono.
    pub fn channel_layout(mut self, layout: ChannelLayout) -> Self {
        let is_empty = layout.count() == 0;
        self.target.channels = Some(if is_empty { ChannelLayout::MONO } else { layout });
        self
    }

    /// The client that fetches tracks, and the cache that keeps them.
    #[cfg(any(feature = "file", feature = "hls"))]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// How files are fetched, in all detail; its own access counts, and [`access`](Self::access) does not.
    #[cfg(feature = "file")]
    pub fn file(mut self, params: FileParams) -> Self {
        self.file = Some(params);
        self
    }

    /// How HLS tracks are fetched, in all detail; its own access counts, and [`access`](Self::access) does not.
    #[cfg(feature = "hls")]
    pub fn hls(mut self, params: HlsParams) -> Self {
        self.hls = Some(params);
        self
    }

    pub(super) fn target(&self) -> Target {
        self.target
    }

    #[cfg(feature = "file")]
    pub(super) fn file_params(&self) -> FileParams {
        let file = self.file.clone();
        file.unwrap_or_else(|| FileParams::with_access(self.access.clone()))
    }

    #[cfg(feature = "hls")]
    pub(super) fn hls_params(&self) -> HlsParams {
        let hls = self.hls.clone();
        hls.unwrap_or_else(|| HlsParams::with_access(self.access.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_becomes_the_nearest_that_can() {
        let target = |params: DecodeParams| {
            let target = params.target();
            (target.sample_rate, target.channels)
        };
        let params = DecodeParams::new();
        let none = params.clone().channel_layout(ChannelLayout::from_mask(0));
        assert_eq!(target(none), (None, Some(ChannelLayout::MONO)));
        assert_eq!(target(params.clone().sample_rate(0)), (Some(1_000), None));
        assert_eq!(target(params.sample_rate(u32::MAX)), (Some(768_000), None));
    }
}

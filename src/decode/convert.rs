//! The output's sample rate and channels out of the track's own.
//!
//! ```text
//!   track ── mix, where it makes channels fewer ── resample ── mix, where it makes them more ──▶ output
//! ```

use super::{
    ChannelLayout, DecodeError, Spec,
    mix::Mixer,
    resample::{Resampler, scaled},
};

/// What the output is to be like. What is `None` is the track's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Target {
    pub(super) sample_rate: Option<u32>,
    pub(super) channels: Option<ChannelLayout>,
}

impl Target {
    /// What comes out of frames like these.
    pub(super) fn spec(self, from: Spec) -> Spec {
        Spec {
            sample_rate: self.sample_rate.unwrap_or(from.sample_rate),
            channels: self.channels.unwrap_or(from.channels),
        }
    }
}

/// Turns frames of a track into frames of the output.
pub(super) struct Converter {
    target: Target,
    from: Spec,
    mixer: Option<Mixer>,
    mixes_first: bool,
    resampler: Option<Resampler>,
    /// What stands between the two steps.
    between: Vec<f32>,
    /// Frames taken since the last start at the track's rate, and given at the output's.
    taken: u64,
    given: u64,
}

impl Converter {
    /// For frames of `from`.
    ///
    /// # Errors
    ///
    /// `Malformed` if a sample rate is 0.
    pub(super) fn new(target: Target, from: Spec) -> Result<Self, DecodeError> {
        let to = target.spec(from);
        // The filter costs more than the rest, and by the channel: it runs where there are fewer.
        let mixes_first = to.channels.count() <= from.channels.count();
        let channels = if mixes_first { to.channels } else { from.channels };
        let resampler = if to.sample_rate == from.sample_rate {
            None
        } else {
            Some(Resampler::new(
                from.sample_rate,
                to.sample_rate,
                channels.count(),
            )?)
        };
        Ok(Self {
            target,
            from,
            mixer: Mixer::new(from.channels, to.channels),
            mixes_first,
            resampler,
            between: Vec::new(),
            taken: 0,
            given: 0,
        })
    }

    /// What it takes.
    pub(super) fn from(&self) -> Spec {
        self.from
    }

    /// What it gives.
    pub(super) fn spec(&self) -> Spec {
        self.target.spec(self.from)
    }

    /// Whether frames come out as they go in.
    pub(super) fn is_identity(&self) -> bool {
        self.mixer.is_none() && self.resampler.is_none()
    }

    /// Whether the sample rate changes.
    pub(super) fn resamples(&self) -> bool {
        self.resampler.is_some()
    }

    /// How many output frames the frames taken so far make, those that are still inside among them.
    pub(super) fn due(&self) -> u64 {
        self.scale(self.taken)
    }

    /// How many output frames have come out since the last start.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// Counts frames that went past an [identity](Self::is_identity).
    pub(super) fn count(&mut self, frames: u64) {
        self.taken += frames;
        self.given += frames;
    }

    fn scale(&self, frames: u64) -> u64 {
        let to = self.spec().sample_rate;
        scaled(frames, u64::from(self.from.sample_rate), u64::from(to))
    }

    /// Takes the next frames, and appends to `out` what comes out by now.
    pub(super) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        let before = out.len();
        self.taken += (samples.len() / usize::from(self.from.channels.count()).max(1)) as u64;
        match (&mut self.resampler, &self.mixer) {
            (None, None) => out.extend_from_slice(samples),
            (None, Some(mixer)) => mixer.mix(samples, out),
            (Some(resampler), None) => resampler.push(samples, out),
            (Some(resampler), Some(mixer)) => {
                // Cleared, and not dropped: the allocation serves every block.
                self.between.clear();
                if self.mixes_first {
                    mixer.mix(samples, &mut self.between);
                    resampler.push(&self.between, out);
                } else {
                    resampler.push(samples, &mut self.between);
                    mixer.mix(&self.between, out);
                }
            }
        }
        // Counted by what came out, and not by what should: a filter gives when it is full.
        self.given += ((out.len() - before) / usize::from(self.spec().channels.count()).max(1)) as u64;
    }

    /// No more frames follow: appends the rest. The next frame starts anew.
    pub(super) fn finish(&mut self, out: &mut Vec<f32>) {
        (self.taken, self.given) = (0, 0);
        let Some(resampler) = &mut self.resampler else {
            return;
        };
        // Only the resampler holds frames back: what it gives now has still to pass a mixer that stands behind it.
        match &self.mixer {
            Some(mixer) if !self.mixes_first => {
                self.between.clear();
                resampler.finish(&mut self.between);
                mixer.mix(&self.between, out);
            }
            _ => resampler.finish(out),
        }
    }

    /// Forgets what is inside: the next frame starts anew.
    pub(super) fn reset(&mut self) {
        (self.taken, self.given) = (0, 0);
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
    }

    /// Where the track is to be sought so that `frame` of the output comes out right: a frame of the track, and how many
    /// output frames before `frame` come out first.
    pub(super) fn start_for(&self, frame: u64) -> (u64, u64) {
        let (from, to) = (
            u64::from(self.from.sample_rate),
            u64::from(self.spec().sample_rate),
        );
        let Some(resampler) = &self.resampler else {
            return (frame, 0);
        };
        let (pre_roll, grid) = resampler.pre_roll();
        let before = scaled(frame, to, from).saturating_sub(pre_roll);
        // Where input and output frames coincide, the filter stands as in an uninterrupted stream.
        let start = before / grid.max(1) * grid.max(1);
        (start, frame.saturating_sub(self.scale(start)))
    }
}

//! From one sample rate to another. The only file that names rubato.
//!
//! The rule this adds: **a track keeps its length and its place.** The filter's delay is cut off at the start and made up for
//! at the end, so that output frame `n` is heard when input frame `n · from / to` was.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _};

use super::{DecodeError, error::MalformedSnafu};

/// The fewest input frames that are transformed at once. The filter is as long: the longer, the closer to the limit of
/// hearing it begins to cut.
const MIN_FRAMES: usize = 1024;

/// Changes the sample rate of a stream of interleaved frames.
pub(super) struct Resampler {
    inner: Fft<f32>,
    from: u64,
    to: u64,
    channels: usize,
    /// Frames that do not fill a transform yet, interleaved.
    waiting: Vec<f32>,
    /// What a transform gives, interleaved.
    made: Vec<f32>,
    /// Frames still to be cut off at the start.
    delay: u64,
    /// Frames taken and given since the last reset.
    taken: u64,
    given: u64,
}

impl Resampler {
    /// From `from` to `to` frames per second.
    ///
    /// # Errors
    ///
    /// `Malformed` if one of the numbers is 0.
    pub(super) fn new(from: u32, to: u32, channels: u16) -> Result<Self, DecodeError> {
        let malformed = |_| MalformedSnafu { what: "sample rate" }.build();
        let (from, to, channels) = (from as usize, to as usize, usize::from(channels));
        let unit = from / gcd(from, to).max(1);
        // An even number of units, so that the delay, which is half of them, is a whole number of frames on both sides.
        let units = MIN_FRAMES.div_ceil(unit.max(1)).next_multiple_of(2);
        let inner =
            Fft::new(from, to, (unit * units).max(1), channels, FixedSync::Both).map_err(malformed)?;
        let mut new = Self {
            made: vec![0.0; inner.output_frames_max() * channels],
            waiting: Vec::with_capacity(inner.input_frames_max() * channels),
            inner,
            from: from as u64,
            to: to as u64,
            channels,
            delay: 0,
            taken: 0,
            given: 0,
        };
        new.reset();
        Ok(new)
    }

    /// Forgets what came before: the next frame is the first one.
    pub(super) fn reset(&mut self) {
        // The filter's memory goes with it: a seek would begin with an echo of the place that was left.
        self.inner.reset();
        self.waiting.clear();
        self.delay = self.inner.output_delay() as u64;
        (self.taken, self.given) = (0, 0);
    }

    /// How many input frames before a place are to be pushed, so that its output is that of the uninterrupted stream; also
    /// the grid on which input frames coincide with output frames.
    pub(super) fn pre_roll(&self) -> (u64, u64) {
        let grid = self.from / gcd(self.from, self.to).max(1);
        (self.inner.input_frames_max() as u64, grid)
    }

    /// Takes the next frames and appends to `out` what can be said of them already.
    pub(super) fn push(&mut self, mut samples: &[f32], out: &mut Vec<f32>) {
        self.taken += (samples.len() / self.channels.max(1)) as u64;
        // A whole transform straight from the caller's slice where nothing waits: most blocks are longer than one.
        let full = self.inner.input_frames_next() * self.channels;
        while self.waiting.len() + samples.len() >= full {
            let (now, later) = samples.split_at(full - self.waiting.len());
            samples = later;
            if self.waiting.is_empty() {
                self.transform(now, None, out);
            } else {
                // Taken out for the call, which borrows all of this, and put back with its allocation.
                let mut waiting = std::mem::take(&mut self.waiting);
                waiting.extend_from_slice(now);
                self.transform(&waiting, None, out);
                waiting.clear();
                self.waiting = waiting;
            }
        }
        self.waiting.extend_from_slice(samples);
    }

    /// There are no more frames: appends the rest to `out`, and is as new.
    pub(super) fn finish(&mut self, out: &mut Vec<f32>) {
        // The filter is late by half its length: what was taken last comes out only behind zeros. As many frames come out as
        // the length of the track makes, and not what the transforms happen to give.
        let owed = scaled(self.taken, self.from, self.to);
        let full = self.inner.input_frames_next() * self.channels;
        while self.given < owed {
            let mut waiting = std::mem::take(&mut self.waiting);
            let partial = waiting.len() / self.channels.max(1);
            waiting.resize(full, 0.0);
            let before = out.len();
            self.transform(&waiting, Some(partial), out);
            waiting.clear();
            self.waiting = waiting;
            if self.given > owed {
                let surplus = usize::try_from(self.given - owed).unwrap_or(usize::MAX) * self.channels;
                out.truncate(out.len().saturating_sub(surplus).max(before));
                self.given = owed;
            }
        }
        self.reset();
    }

    /// One transform of `input`, of which the first `partial` frames are sound.
    fn transform(&mut self, input: &[f32], partial: Option<usize>, out: &mut Vec<f32>) {
        let frames = input.len() / self.channels.max(1);
        let room = self.made.len() / self.channels.max(1);
        let (Ok(from), Ok(mut into)) = (
            InterleavedSlice::new(input, self.channels, frames),
            InterleavedSlice::new_mut(&mut self.made, self.channels, room),
        ) else {
            return;
        };
        let indexing = partial.map(|frames| Indexing::new().partial_len(frames));
        // It refuses nothing but buffers of a wrong size, and these were made by its own numbers.
        let made = self
            .inner
            .process_into_buffer(&from, &mut into, indexing.as_ref())
            .map_or(0, |(_, made)| made);
        // The first frames are the filter's own delay. Left in, all that follows would be late by it.
        let late = self.delay.min(made as u64);
        self.delay -= late;
        self.given += made as u64 - late;
        let late = usize::try_from(late).unwrap_or(made) * self.channels;
        out.extend_from_slice(self.made.get(late..made * self.channels).unwrap_or_default());
    }
}

/// `frames` at a rate of `from` as frames at a rate of `to`, rounded to the nearest.
pub(super) fn scaled(frames: u64, from: u64, to: u64) -> u64 {
    let from = u128::from(from.max(1));
    u64::try_from((u128::from(frames) * u128::from(to) + from / 2) / from).unwrap_or(u64::MAX)
}

fn gcd<N: Copy + PartialEq + Default + std::ops::Rem<Output = N>>(mut a: N, mut b: N) -> N {
    while b != N::default() {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a test fails by panicking"
    )]

    use std::f64::consts::TAU;

    use super::*;

    const RATES: [(u32, u32); 6] = [
        (44_100, 48_000),
        (48_000, 44_100),
        (22_050, 48_000),
        (96_000, 44_100),
        (8_000, 48_000),
        (11_025, 44_100),
    ];

    fn sine(rate: u32, frames: usize) -> Vec<f32> {
        (0..frames)
            .flat_map(|frame| {
                let turn = |hertz: f64| ((frame as f64 * hertz / f64::from(rate) * TAU).sin() * 0.5) as f32;
                [turn(997.0), turn(331.0)]
            })
            .collect()
    }

    fn resampled(from: u32, to: u32, input: &[f32], piece: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(from, to, 2).unwrap();
        let mut out = Vec::new();
        for piece in input.chunks(piece * 2) {
            resampler.push(piece, &mut out);
        }
        resampler.finish(&mut out);
        out
    }

    #[test]
    fn a_track_keeps_its_length() {
        for (from, to) in RATES {
            for frames in [1, 100, 1023, 40_000] {
                let out = resampled(from, to, &sine(from, frames), 1152);
                assert_eq!(
                    out.len() as u64 / 2,
                    scaled(frames as u64, from.into(), to.into()),
                    "{frames} of {from} to {to}"
                );
            }
        }
    }

    #[test]
    fn a_sine_stays_in_its_place() {
        for (from, to) in RATES {
            let seconds = 2;
            let out = resampled(from, to, &sine(from, from as usize * seconds), 4096);
            let want = sine(to, to as usize * seconds);
            // Without the edges, where a sine begins out of nothing.
            let edge = to as usize / 5;
            let inner = edge..want.len() - edge;
            let noise: f64 = out[inner.clone()]
                .iter()
                .zip(&want[inner])
                .map(|(got, want)| f64::from(got - want).powi(2))
                .sum::<f64>()
                / (want.len() - 2 * edge) as f64;
            let decibels = -10.0 * (noise / 0.125).log10();
            assert!(decibels > 100.0, "{from} to {to}: {decibels:.0} dB");
        }
    }

    #[test]
    fn how_it_comes_in_pieces_does_not_matter() {
        let input = sine(44_100, 10_000);
        let whole = resampled(44_100, 48_000, &input, 10_000);
        for piece in [1, 7, 1152, 1176, 5000] {
            assert_eq!(resampled(44_100, 48_000, &input, piece), whole, "{piece}");
        }
    }

    #[test]
    fn a_place_reached_with_pre_roll_is_that_of_the_uninterrupted_stream() {
        for (from, to) in RATES {
            let input = sine(from, from as usize);
            let whole = resampled(from, to, &input, 4096);
            let mut resampler = Resampler::new(from, to, 2).unwrap();
            let (frames, grid) = resampler.pre_roll();
            for target in [20_001_u64, 30_000, 37_777].map(|target| target * u64::from(to) / 48_000) {
                let wanted = scaled(target, to.into(), from.into()).saturating_sub(frames);
                let start = wanted / grid * grid;
                resampler.reset();
                let mut out = Vec::new();
                resampler.push(&input[start as usize * 2..], &mut out);
                resampler.finish(&mut out);
                let begins = (start * u64::from(to) / u64::from(from)) as usize;
                let skip = target as usize - begins;
                for (got, want) in out[skip * 2..].iter().zip(&whole[target as usize * 2..]) {
                    assert!(
                        (got - want).abs() < 1e-5,
                        "{from} to {to} at {target}: {got} is not {want}"
                    );
                }
            }
        }
    }
}

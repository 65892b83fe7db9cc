//! The side that is pulled from, by an audio callback. Nothing here waits, allocates, or makes a system call.
//!
//! The decode thread is not woken by a pull: that would be a system call. It sleeps for part of what the ring holds, and looks.

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "rodio")]
use std::time::Duration;

use rtrb::Consumer;

use super::{handle::PlayHandle, link::Stop, meter::Meter, ring::Samples};
use crate::decode::Spec;

/// What the [`Iterator`] gives while there is no sound yet, or not enough.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underrun {
    /// Zeros, until there is sound again. Position and duration stand still meanwhile.
    #[default]
    Silence,
    /// The iterator's end. Asked again, it goes on where it was.
    End,
}

/// From `at` on samples are of another spec.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) at: u64,
    pub(super) spec: Spec,
}

/// How often a pull begins anew because of a seek. The decode thread cannot do as many in the time of one.
const SEEKS: usize = 4;

/// Samples between two looks at the ring, for the iterator.
const BATCH: usize = 128;

/// PCM out of a ring that a decode thread of its own keeps full, for an audio callback.
///
/// Three faces, which may be mixed: [`pull`](Self::pull) fills a slice, as cpal's callbacks want it; the [`Iterator`] gives
/// samples one by one; with the feature `rodio` this is a `rodio::Source`. None of them waits, takes a lock, allocates or
/// makes a system call.
///
/// Dropping it ends the decode thread, and with it the connections of what is decoded. The drop itself only signals.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kithara::decode::{DecodeParams, Decoder, OutputParams};
///
/// # let file = std::fs::File::open("tests/media/files/piece.flac")?;
/// let track = Decoder::from_reader(file, &DecodeParams::new().sample_rate(48_000).channels(2))?;
/// let mut output = track.into_output(OutputParams::default())?;
///
/// // In the callback:
/// let mut buffer = [0.0_f32; 512];
/// let filled = output.pull(&mut buffer);
/// buffer[filled..].fill(0.0);
/// # Ok(())
/// # }
/// ```
pub struct Output {
    ring: Arc<Samples>,
    changes: Consumer<Change>,
    meter: Arc<Meter>,
    stop: Stop,
    spec: Spec,
    /// Whether the spec is the same for all tracks.
    #[cfg_attr(not(feature = "rodio"), expect(dead_code, reason = "rodio asks"))]
    fixed: bool,
    taken: u64,
    underrun: Underrun,
    batch: [f32; BATCH],
    batch_at: usize,
    batch_end: usize,
    /// Of what spec the batch is, and the zeros. What is pulled next may be of another one.
    batch_spec: Spec,
    /// Zeros owed to the frame that was begun.
    zeros: usize,
    /// Samples made before this were dropped from the batch.
    stale_to: u64,
}

impl Output {
    pub(super) fn new(
        ring: Arc<Samples>,
        changes: Consumer<Change>,
        meter: Arc<Meter>,
        stop: Stop,
        spec: Spec,
        fixed: bool,
        underrun: Underrun,
    ) -> Self {
        Self {
            ring,
            changes,
            meter,
            stop,
            spec,
            fixed,
            taken: 0,
            underrun,
            batch: [0.0; BATCH],
            batch_at: 0,
            batch_end: 0,
            batch_spec: spec,
            zeros: 0,
            stale_to: 0,
        }
    }

    /// Fills `samples` from its start with whole interleaved frames of [`spec`](Self::spec), and returns how many samples
    /// those are. The rest of the slice is untouched.
    ///
    /// Fewer than asked for mean that decoding is behind (then [`is_starved`](Self::is_starved)), that the last track is over
    /// ([`is_ended`](Self::is_ended)), or that frames of another spec follow: then the next pull gives those.
    pub fn pull(&mut self, samples: &mut [f32]) -> usize {
        for _ in 0..SEEKS {
            // First: what was made before a seek may be of another spec, and hide the change to the one behind it.
            self.drop_stale();
            if let Some(count) = self.take(samples) {
                return count;
            }
        }
        samples.fill(0.0);
        0
    }

    /// Takes frames of [`spec`](Self::spec), which is up to date; `None` if a seek came meanwhile.
    fn take(&mut self, samples: &mut [f32]) -> Option<usize> {
        let channels = self.channels();
        let wanted = samples.len() / channels * channels;
        // In this order: the decode thread announces a change before the samples behind it, so no sample that is counted here
        // is behind a change that is not found below.
        let ready = self.ready();
        // A slice is of one spec: the rest of it is for the next pull.
        let until = self.next_change().map_or(u64::MAX, |at| at - self.taken);
        let most = wanted.min(usize::try_from(until).unwrap_or(usize::MAX));
        let part = samples.get_mut(..most.min(ready)).unwrap_or_default();
        self.ring.read(self.taken, part);
        // A seek came meanwhile: samples of another place may have been written over these.
        if self.meter.stale_to() > self.taken {
            return None;
        }
        let count = part.len();
        self.advance(count as u64);
        // Only what the ring lacked. What a change of spec holds back is no starvation.
        let short = most - count;
        // The end is looked at after the samples were taken: the decode thread sets it when all of them are in the ring.
        let missing = if short > 0 && self.taken < self.meter.end() {
            short / channels
        } else {
            0
        };
        self.meter.set_starved(missing as u64);
        self.pass_changes();
        Some(count)
    }

    /// How many samples are in the ring.
    fn ready(&self) -> usize {
        usize::try_from(self.meter.written().saturating_sub(self.taken)).unwrap_or(usize::MAX)
    }

    /// Sample rate and channels of what the next pull gives.
    pub fn spec(&self) -> Spec {
        self.spec
    }

    /// Whether the last pull found fewer frames than it asked for, because decoding is behind.
    pub fn is_starved(&self) -> bool {
        self.meter.is_starved()
    }

    /// Whether all tracks have been pulled to their end, or decoding has failed. A seek, or a track that is queued, goes on.
    pub fn is_ended(&self) -> bool {
        self.batch_at == self.batch_end
            && self.taken >= self.meter.end()
            && self.meter.stale_to() <= self.taken
    }

    /// A handle that seeks, queues tracks and tells what is heard, from any thread.
    pub fn handle(&self) -> PlayHandle {
        PlayHandle::new(self.stop.link())
    }

    /// How long the track plays that is heard, where that is known. Not for the audio callback: it takes a lock.
    #[cfg(feature = "rodio")]
    pub(super) fn duration(&self) -> Option<Duration> {
        PlayHandle::new(self.stop.link()).duration()
    }

    /// Asks for a seek, and does not wait for it; whether the track that is heard can be sought in.
    #[cfg(feature = "rodio")]
    pub(super) fn begin_seek(&self, time: Duration) -> bool {
        PlayHandle::new(self.stop.link()).begin_seek(time)
    }

    #[cfg(feature = "rodio")]
    pub(super) fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// Of what spec the sample is that the iterator gives next.
    #[cfg(feature = "rodio")]
    pub(super) fn next_spec(&self) -> Spec {
        if self.batch_at == self.batch_end && self.zeros == 0 {
            self.spec
        } else {
            self.batch_spec
        }
    }

    /// Samples that are sure to come before the spec may change, at least a frame unless all is over.
    #[cfg(feature = "rodio")]
    pub(super) fn span(&self) -> usize {
        if self.is_ended() {
            return 0;
        }
        let left = self.batch_end - self.batch_at + self.zeros;
        if left > 0 {
            return left;
        }
        let until = self
            .next_change()
            .map_or(u64::MAX, |at| at.saturating_sub(self.taken));
        let there = self.ready().min(usize::try_from(until).unwrap_or(usize::MAX));
        there.max(self.channels())
    }

    fn channels(&self) -> usize {
        usize::from(self.spec.channels.count()).max(1)
    }

    fn advance(&mut self, samples: u64) {
        // A store for nothing would take the line from the decode thread's cache.
        if samples > 0 {
            self.taken += samples;
            self.meter.set_taken(self.taken);
        }
    }

    /// Drops what was made before the last seek.
    fn drop_stale(&mut self) {
        let stale_to = self.meter.stale_to();
        self.advance(stale_to.saturating_sub(self.taken));
        self.pass_changes();
    }

    fn next_change(&self) -> Option<u64> {
        self.changes.peek().ok().map(|change| change.at)
    }

    fn pass_changes(&mut self) {
        while self.next_change().is_some_and(|at| at <= self.taken) {
            if let Ok(change) = self.changes.pop() {
                self.spec = change.spec;
            }
        }
    }

    /// Fetches the next samples for the iterator; `false` at its end.
    fn refill(&mut self) -> bool {
        // The array is moved out and back, as `pull` borrows all of this: a copy within the processor's cache.
        let mut batch = self.batch;
        (self.batch_at, self.batch_end) = (0, 0);
        for _ in 0..SEEKS {
            self.drop_stale();
            self.batch_spec = self.spec;
            if let Some(count) = self.take(&mut batch) {
                self.batch_end = count;
                break;
            }
        }
        self.batch = batch;
        if self.batch_end > 0 {
            return true;
        }
        if self.is_ended() || self.underrun == Underrun::End {
            return false;
        }
        // A whole frame, so that the channels stay where they are.
        self.batch_spec = self.spec;
        self.zeros = self.channels();
        true
    }
}

impl Iterator for Output {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        let stale_to = self.meter.stale_to();
        if stale_to != self.stale_to {
            self.stale_to = stale_to;
            // To the end of the frame that was begun, at most.
            let channels = usize::from(self.batch_spec.channels.count()).max(1);
            let begun = (self.batch_end - self.batch_at) % channels;
            self.batch_end = self.batch_at + begun;
        }
        if self.batch_at == self.batch_end && self.zeros == 0 && !self.refill() {
            return None;
        }
        if self.zeros > 0 {
            self.zeros -= 1;
            return Some(0.0);
        }
        let sample = self.batch.get(self.batch_at).copied();
        self.batch_at += 1;
        sample
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("spec", &self.spec)
            .field("ended", &self.is_ended())
            .field("starved", &self.is_starved())
            .finish_non_exhaustive()
    }
}

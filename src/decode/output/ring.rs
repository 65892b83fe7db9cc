//! The ring that an audio callback pulls from, filled by the decode thread.
//!
//! ```text
//!   pull ◀── [ stale │ ready, up to `fill` │ room ]      twice `fill` long
//! ```
//!
//! A seek cannot take samples out of the ring, only the next pull can. So the ring is twice as long as what it is filled to: the
//! other half is room for what follows a seek while nothing is pulled.

use std::sync::Arc;
use std::time::Duration;

use rtrb::Producer;

use super::{
    meter::Meter,
    pull::Change,
    worker::{Put, Sink},
};
use crate::decode::{DecodeError, Spec};

/// How often a full ring is looked at while what is in it waits to be dropped.
const SOON: Duration = Duration::from_millis(2);

pub(super) struct Ring {
    samples: Producer<f32>,
    changes: Producer<Change>,
    meter: Arc<Meter>,
    /// How long what is kept ready lasts.
    time: Duration,
    /// How many samples that is.
    fill: u64,
    spec: Spec,
    /// The last change of spec, and how fast what is before it is pulled.
    changed: (u64, u64),
}

/// Samples a second.
fn rate_of(spec: Spec) -> u64 {
    u64::from(spec.sample_rate) * u64::from(spec.channels.count())
}

/// Samples of so much time. Fewer than a callback asks for at a time would be none too early.
fn samples_of(time: Duration, rate: u64) -> u64 {
    let samples = time.as_micros() * u128::from(rate) / 1_000_000;
    u64::try_from(samples).unwrap_or(u64::MAX).clamp(1024, 1 << 26)
}

/// How long the ring is in samples, for sound like this. Where each track keeps its own rate and channels, a later one may
/// need more room than the first: 96 kHz in stereo last as long as was asked for, and more than that is kept for less time.
pub(super) fn capacity(time: Duration, spec: Spec, is_fixed: bool) -> usize {
    let rate = rate_of(spec).max(if is_fixed { 0 } else { 2 * 96_000 });
    usize::try_from(2 * samples_of(time, rate)).unwrap_or(usize::MAX)
}

impl Ring {
    pub(super) fn new(
        samples: Producer<f32>,
        changes: Producer<Change>,
        meter: Arc<Meter>,
        time: Duration,
        spec: Spec,
    ) -> Self {
        let mut ring = Self {
            samples,
            changes,
            meter,
            time,
            fill: 0,
            spec,
            changed: (0, 0),
        };
        ring.set_spec(0, spec);
        ring
    }

    /// From `at` on samples are of this spec.
    fn set_spec(&mut self, at: u64, spec: Spec) {
        self.changed = (at, rate_of(self.spec));
        self.spec = spec;
        let most = self.samples.buffer().capacity() as u64 / 2;
        self.fill = samples_of(self.time, rate_of(spec)).min(most);
    }

    /// Half the time that a full ring lasts: at least half of it is left then. What is in it may be of the spec before, and be
    /// pulled faster.
    fn half(&self) -> Duration {
        let (at, before) = self.changed;
        let mut rate = rate_of(self.spec);
        if self.meter.heard() < at {
            rate = rate.max(before);
        }
        let micros = self.fill * 500_000 / rate.max(1);
        Duration::from_micros(micros.clamp(500, 500_000))
    }
}

impl Sink for Ring {
    fn put(&mut self, samples: &[f32], spec: Spec, at: u64, _position: u64) -> Put {
        if spec != self.spec {
            // Before the first sample it speaks of: a pull that finds that finds the change too.
            if self.changes.push(Change { at, spec }).is_err() {
                return Put::Full(SOON);
            }
            self.set_spec(at, spec);
        }
        let ready = at.saturating_sub(self.meter.heard());
        let channels = u64::from(spec.channels.count()).max(1);
        let room = self.fill.saturating_sub(ready).min(self.samples.slots() as u64);
        let room = usize::try_from(room / channels * channels).unwrap_or(usize::MAX);
        let part = samples.get(..samples.len().min(room)).unwrap_or_default();
        if part.is_empty() {
            // Room is made by pulls, and they wake nobody.
            return Put::Full(if ready < self.fill / 2 { SOON } else { self.half() });
        }
        Put::Taken(self.samples.push_partial_slice(part).0.len())
    }

    fn end(&mut self, _at: u64, _error: Option<&DecodeError>) -> bool {
        // The pull side finds it in the meter, and a handle in the time line.
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::decode::ChannelLayout;

    /// A ring that is as long for the second track as for the first would hold a few milliseconds of it.
    #[test]
    fn p5_every_track_is_kept_for_the_time_that_was_asked_for() {
        let low = Spec {
            sample_rate: 8000,
            channels: ChannelLayout::MONO,
        };
        let high = Spec {
            sample_rate: 48_000,
            channels: ChannelLayout::STEREO,
        };
        let time = Duration::from_millis(200);
        let (samples, mut pulled) = rtrb::RingBuffer::new(capacity(time, low, false));
        let (changes, _changed) = rtrb::RingBuffer::new(4);
        let meter = Arc::new(Meter::default());
        let mut ring = Ring::new(samples, changes, Arc::clone(&meter), time, low);
        assert!(matches!(
            ring.put(&vec![0.0; 1 << 16], low, 0, 0),
            Put::Taken(1600)
        ));
        pulled.read_chunk(1600).unwrap().commit_all();
        meter.set_taken(1600);
        assert!(matches!(
            ring.put(&vec![0.0; 1 << 16], high, 1600, 0),
            Put::Taken(19_200)
        ));
    }

    /// What is left of a fast track is over sooner than as much of a slow one.
    #[test]
    fn p5_a_slow_track_behind_a_fast_one_is_not_late() {
        let fast = Spec {
            sample_rate: 96_000,
            channels: ChannelLayout::STEREO,
        };
        let slow = Spec {
            sample_rate: 22_050,
            channels: ChannelLayout::MONO,
        };
        let time = Duration::from_millis(200);
        let (samples, _pulled) = rtrb::RingBuffer::new(capacity(time, fast, false));
        let (changes, _changed) = rtrb::RingBuffer::new(4);
        let mut ring = Ring::new(samples, changes, Arc::default(), time, fast);
        let Put::Taken(taken) = ring.put(&vec![0.0; 1 << 16], fast, 0, 0) else {
            return;
        };
        let Put::Full(wait) = ring.put(&[0.0; 100], slow, taken as u64, 0) else {
            return;
        };
        // All that is in the ring lasts 200 ms.
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
    }
}

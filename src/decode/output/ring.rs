//! The ring that an audio callback pulls from, filled by the decode thread.
//!
//! ```text
//!   slots   [ room │ stale │ ready, up to `fill` │ room ]
//!                  ▲       ▲                     ▲
//!                taken  stale_to              written        positions: see `meter`
//! ```
//!
//! Only a pull moves `taken`, and while the app is paused there is none. What a seek has made stale is room all the same: the
//! decode thread writes over it, and the next pull begins behind it. So a paused app may seek as often as it likes, and the
//! decode thread never has to look whether a pull has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use rtrb::Producer;

use super::{
    meter::Meter,
    pull::Change,
    worker::{Put, Sink},
};
use crate::decode::{DecodeError, Spec};

/// The samples of a ring, by their position; two of them in each slot. Slots are atomic, as a pull may read what the decode
/// thread writes over. It finds out, and drops what it read.
///
/// ```text
///   decode thread   stale_to = p     fence   write over slots before p
///   pull            read slots       fence   stale_to > first one read?  then read again, from there
/// ```
///
/// A pull that has read one of the new samples finds the new `stale_to` too: that is what the two fences are for.
#[derive(Debug)]
pub(super) struct Samples(Box<[AtomicU64]>);

impl Samples {
    /// Room for `len` samples, at least.
    pub(super) fn new(len: usize) -> Self {
        // One at least: positions are divided by the number.
        let slots = len.div_ceil(2).max(1);
        Self((0..slots).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn len(&self) -> usize {
        2 * self.0.len()
    }

    /// The slots from that of a position on to the ring's end, and those before it.
    fn from(&self, position: u64) -> (&[AtomicU64], &[AtomicU64]) {
        // Positions count on for ever, and each has one slot: nothing is to be reset by a seek.
        let at = usize::try_from(position / 2 % self.0.len() as u64).unwrap_or(0);
        let (before, behind) = self.0.split_at(at);
        (behind, before)
    }

    /// Puts samples where nothing is that is to be heard.
    pub(super) fn write(&self, position: u64, samples: &[f32]) {
        // Behind the store of `stale_to` that made room: see above.
        fence(Ordering::Release);
        let odd = usize::from(position % 2 == 1).min(samples.len());
        let (first, rest) = samples.split_at(odd);
        let (pairs, last) = rest.as_chunks::<2>();
        let (behind, before) = self.from(position + odd as u64);
        let (one, two) = pairs.split_at(pairs.len().min(behind.len()));
        // Two loops over slices: one over both would take twice as long.
        for (slot, pair) in behind.iter().zip(one) {
            slot.store(joined(*pair), Ordering::Relaxed);
        }
        for (slot, pair) in before.iter().zip(two) {
            slot.store(joined(*pair), Ordering::Relaxed);
        }
        // Half a slot: its other half may be ready to be heard. No other thread writes.
        let half = |position: u64, sample: &f32| {
            if let Some(slot) = self.from(position).0.first() {
                let [mut even, mut odd] = split(slot.load(Ordering::Relaxed));
                *(if position.is_multiple_of(2) {
                    &mut even
                } else {
                    &mut odd
                }) = *sample;
                slot.store(joined([even, odd]), Ordering::Relaxed);
            }
        };
        for sample in first {
            half(position, sample);
        }
        for sample in last {
            half(position + samples.len() as u64 - 1, sample);
        }
    }

    /// Copies samples that were there when `written` was loaded. They are good if `stale_to`, loaded after this, is not behind
    /// `position`.
    pub(super) fn read(&self, position: u64, samples: &mut [f32]) {
        let len = samples.len() as u64;
        let odd = usize::from(position % 2 == 1).min(samples.len());
        let (first, rest) = samples.split_at_mut(odd);
        let (pairs, last) = rest.as_chunks_mut::<2>();
        let (behind, before) = self.from(position + odd as u64);
        let (one, two) = pairs.split_at_mut(pairs.len().min(behind.len()));
        for (slot, pair) in behind.iter().zip(one) {
            *pair = split(slot.load(Ordering::Relaxed));
        }
        for (slot, pair) in before.iter().zip(two) {
            *pair = split(slot.load(Ordering::Relaxed));
        }
        let half = |position: u64| {
            let slot = self.from(position).0.first();
            let [even, odd] = split(slot.map_or(0, |slot| slot.load(Ordering::Relaxed)));
            if position.is_multiple_of(2) { even } else { odd }
        };
        for sample in first {
            *sample = half(position);
        }
        for sample in last {
            *sample = half(position + len - 1);
        }
        // Before the load of `stale_to` that follows: see above.
        fence(Ordering::Acquire);
    }
}

fn joined([even, odd]: [f32; 2]) -> u64 {
    u64::from(even.to_bits()) | u64::from(odd.to_bits()) << 32
}

#[expect(clippy::cast_possible_truncation, reason = "each half in turn")]
fn split(slot: u64) -> [f32; 2] {
    [f32::from_bits(slot as u32), f32::from_bits((slot >> 32) as u32)]
}

pub(super) struct Ring {
    samples: Arc<Samples>,
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
    usize::try_from(samples_of(time, rate)).unwrap_or(usize::MAX)
}

impl Ring {
    pub(super) fn new(
        samples: Arc<Samples>,
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
        self.fill = samples_of(self.time, rate_of(spec)).min(self.samples.len() as u64);
    }

    /// Half the time that a full ring lasts: at least half of it is left then. What is in it may be of the spec before, and be
    /// pulled faster.
    fn half(&self) -> Duration {
        let (at, before) = self.changed;
        let mut rate = rate_of(self.spec);
        if self.meter.heard() < at {
            rate = rate.max(before);
        }
        // A ring of a minute would be looked at twice a minute: pulled empty at once, it would stay empty as long.
        let micros = self.fill * 500_000 / rate.max(1);
        Duration::from_micros(micros.clamp(500, 500_000))
    }
}

impl Sink for Ring {
    fn put(&mut self, samples: &[f32], spec: Spec, at: u64, _position: u64) -> Put {
        if spec != self.spec {
            // Before the first sample it speaks of: a pull that finds that finds the change too.
            if self.changes.push(Change { at, spec }).is_err() {
                return Put::Full(self.half());
            }
            self.set_spec(at, spec);
        }
        let ready = at.saturating_sub(self.meter.heard());
        let channels = u64::from(spec.channels.count()).max(1);
        // What a seek made stale is not ready, and so is room.
        let room = self.fill.saturating_sub(ready);
        let room = usize::try_from(room / channels * channels).unwrap_or(usize::MAX);
        let part = samples.get(..samples.len().min(room)).unwrap_or_default();
        if part.is_empty() {
            // Room is made by pulls, and they wake nobody.
            return Put::Full(self.half());
        }
        self.samples.write(at, part);
        Put::Taken(part.len())
    }

    fn end(&mut self, _at: u64, _error: Option<&DecodeError>) -> bool {
        // The pull side finds it in the meter, and a handle in the time line.
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use super::super::{
        Output, Underrun,
        link::{Link, Stop},
        testing::tone,
    };
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
        let samples = Arc::new(Samples::new(capacity(time, low, false)));
        let (changes, _changed) = rtrb::RingBuffer::new(4);
        let meter = Arc::new(Meter::default());
        let mut ring = Ring::new(samples, changes, Arc::clone(&meter), time, low);
        assert!(matches!(
            ring.put(&vec![0.0; 1 << 16], low, 0, 0),
            Put::Taken(1600)
        ));
        meter.set_taken(1600);
        assert!(matches!(
            ring.put(&vec![0.0; 1 << 16], high, 1600, 0),
            Put::Taken(19_200)
        ));
    }

    /// A position is that of a sample and not of a frame, and the ring's end may be anywhere in what is read.
    #[test]
    fn samples_are_read_as_they_were_written() {
        let samples = Samples::new(101);
        let numbers =
            |from: u64, count: u64| -> Vec<f32> { (from..from + count).map(|n| n as f32).collect() };
        let mut position = 0;
        for count in (1..40).chain([0, 102, 101, 1, 1, 2]) {
            samples.write(position, &numbers(position, count));
            for (skip, less) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let (from, count) = (position + skip, count.saturating_sub(skip + less));
                let mut read = vec![-1.0; count as usize];
                samples.read(from, &mut read);
                assert_eq!(read, numbers(from, count));
            }
            position += count;
        }
    }

    const STEREO: Spec = Spec {
        sample_rate: 48_000,
        channels: ChannelLayout::STEREO,
    };

    fn ring() -> (Ring, Output) {
        let time = Duration::from_millis(100);
        let samples = Arc::new(Samples::new(capacity(time, STEREO, true)));
        let (changes, changed) = rtrb::RingBuffer::new(4);
        let meter = Arc::new(Meter::default());
        let ring = Ring::new(Arc::clone(&samples), changes, Arc::clone(&meter), time, STEREO);
        let link = Arc::new(Link::new(tone(0.0).interrupter(), Arc::clone(&meter)));
        let stop = Stop::new(link);
        let underrun = Underrun::default();
        (
            ring,
            Output::new(samples, changed, meter, stop, STEREO, true, underrun),
        )
    }

    /// A decode thread that finds no room for what a seek wants heard would have to look for pulls, again and again.
    #[test]
    fn p5_each_seek_of_a_paused_app_finds_the_whole_ring_empty() {
        let (mut ring, mut output) = ring();
        let (mut at, fill) = (0, ring.fill as usize);
        for seek in 0..10 {
            let block = vec![seek as f32; 2 * fill];
            let put = ring.put(&block, STEREO, at, 0);
            assert!(matches!(put, Put::Taken(taken) if taken == fill), "seek {seek}");
            at += fill as u64;
            ring.meter.set_written(at);
            // Full of what is to be heard: half of it may be pulled before the next look.
            let full = ring.put(&block, STEREO, at, 0);
            assert!(
                matches!(full, Put::Full(time) if time == Duration::from_millis(50)),
                "seek {seek}"
            );
            if seek < 9 {
                ring.meter.set_stale_to(at);
            }
        }
        let mut pulled = vec![0.0; 2 * fill];
        assert_eq!(output.pull(&mut pulled), fill);
        assert!(pulled[..fill].iter().all(|sample| *sample == 9.0));
    }

    /// The decode thread writes over what a pull is reading: no pull gives samples of two places.
    #[test]
    fn p5_a_pull_amid_seeks_is_of_one_place() {
        let (mut ring, mut output) = ring();
        let meter = Arc::clone(&ring.meter);
        let worker = std::thread::spawn(move || {
            let mut at = 0;
            for seek in 1..3000 {
                meter.set_stale_to(at);
                let block = vec![seek as f32; ring.fill as usize];
                if let Put::Taken(taken) = ring.put(&block, STEREO, at, 0) {
                    at += taken as u64;
                }
                meter.set_written(at);
            }
        });
        let mut block = [0.0; 4096];
        while !worker.is_finished() {
            let count = output.pull(&mut block);
            let first = block[0];
            assert!(block[..count].iter().all(|sample| *sample == first), "torn");
        }
        worker.join().unwrap();
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
        let samples = Arc::new(Samples::new(capacity(time, fast, false)));
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

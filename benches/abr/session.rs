//! One track played over one trace, with one transfer at a time.

use std::time::Duration;

use kithara::hls::selection::{
    HeldSegment, NetworkSample, Rung, SegmentTransfer, Situation, VariantSelector,
};

use super::listener::{Listener, Thresholds};
use super::trace::Trace;

/// Bytes of a container beside those of the sound.
pub const CONTAINER: f64 = 1.03;
/// While bytes come, a selector is told of them so often, in seconds.
const TICK: f64 = 0.25;
/// Weights of the score: a second of stall, a switch, a second of start.
pub const STALL: f64 = 4.3;
pub const SWITCH: f64 = 0.5;
pub const START: f64 = 1.0;

/// Media3's defaults, for all rules.
const THRESHOLDS: Thresholds = Thresholds {
    start: 1.0,
    resume: 2.0,
};

/// What is played, and how.
#[derive(Debug, Clone)]
pub struct Track {
    pub ladder: Vec<Rung>,
    /// Bits of a second of each rung, with the container.
    pub bits: Vec<f64>,
    /// ln(r / r0) of each rung.
    pub utilities: Vec<f64>,
    pub segment: f64,
    pub segments: usize,
    pub cap: f64,
    /// Bytes are decoded as they come, else a segment is heard when it is whole.
    pub as_they_come: bool,
    pub improves: bool,
    pub gives_up: bool,
}

impl Track {
    /// Rungs of so many kbit/s. From 500 kbit/s on they are FLAC.
    pub fn new(kbits: &[u64], seconds: f64, segment: f64, cap: f64) -> Self {
        let rung = |kbit: &u64| {
            let bits = (*kbit as f64 * 1000.0 * CONTAINER) as u64;
            Rung::new(bits).codecs(if *kbit >= 500 { "fLaC" } else { "mp4a.40.2" })
        };
        Self {
            ladder: kbits.iter().map(rung).collect(),
            bits: kbits
                .iter()
                .map(|kbit| *kbit as f64 * 1000.0 * CONTAINER)
                .collect(),
            utilities: kbits.iter().map(|kbit| (*kbit as f64 / 32.0).ln()).collect(),
            segment,
            segments: (seconds / segment).round() as usize,
            cap,
            as_they_come: true,
            improves: true,
            gives_up: true,
        }
    }

    pub fn end(&self) -> f64 {
        self.segment * self.segments as f64
    }

    pub fn listener(&self) -> Listener {
        Listener::new(self.end(), THRESHOLDS)
    }
}

/// What came of one session.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    pub utility: f64,
    /// Seconds of stalls behind the start.
    pub stalled: f64,
    pub stalls: u32,
    pub switches: u32,
    /// Seconds to the first sound.
    pub start: f64,
    /// Seconds of sound.
    pub heard: f64,
    /// Bits of what was heard.
    pub bits: f64,
    /// Bits that came, and those of them that nobody heard.
    pub fetched: f64,
    pub wasted: f64,
}

impl Outcome {
    /// For each second of the track.
    pub fn score(&self) -> f64 {
        let costs = STALL * self.stalled + SWITCH * f64::from(self.switches) + START * self.start;
        (self.utility - costs) / self.heard
    }
}

/// The rungs of one segment, in the order in which they are heard, and how long.
type Spans = Vec<(usize, f64)>;

struct Session<'a> {
    track: &'a Track,
    trace: &'a Trace,
    selector: &'a mut dyn VariantSelector,
    listener: Listener,
    segments: Vec<Spans>,
    fetched: f64,
    wasted: f64,
}

enum Ended {
    Whole,
    /// Given up for another rung, with so many bits received.
    For(usize, f64),
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
}

/// Plays the track to its end.
pub fn play(track: &Track, network: &Trace, selector: &mut dyn VariantSelector) -> Outcome {
    let mut session = Session {
        track,
        trace: network,
        selector,
        listener: track.listener(),
        segments: Vec::with_capacity(track.segments),
        fetched: 0.0,
        wasted: 0.0,
    };
    for number in 0..track.segments {
        session.wait_for_room();
        session.fetch(number);
    }
    session.improve_to_the_end();
    session.outcome()
}

impl<'a> Session<'a> {
    fn situation(&self, segments: usize) -> Situation<'a> {
        let before = segments.checked_sub(1).and_then(|last| self.segments.get(last));
        Situation::new(seconds(self.listener.time), &self.track.ladder)
            .current(before.and_then(|spans| spans.last()).map(|(rung, _)| *rung))
            .buffered(seconds(self.listener.buffered()))
            .look_ahead(seconds(self.track.cap))
            .segment(seconds(self.track.segment))
            .remaining(Some(seconds(
                self.track.end() - segments as f64 * self.track.segment,
            )))
    }

    /// While the look-ahead is full.
    fn wait_for_room(&mut self) {
        loop {
            if self.improve() {
                continue;
            }
            let over = self.listener.buffered() + self.track.segment - self.track.cap;
            if over <= 1e-9 {
                return;
            }
            self.listener.run(over, 0.0);
        }
    }

    fn improve_to_the_end(&mut self) {
        while !self.listener.is_over() {
            if !self.improve() {
                self.listener
                    .run(self.track.segment.min(self.listener.buffered().max(0.01)), 0.0);
            }
        }
    }

    fn fetch(&mut self, number: usize) {
        let segment = self.track.segment;
        let mut rung = self.selector.next(&self.situation(number));
        let mut spans: Spans = Vec::new();
        let mut kept = 0.0;
        loop {
            let bits = self.track.bits[rung] * segment;
            match self.transfer(number, rung, kept) {
                Ended::Whole => {
                    self.fetched += bits;
                    spans.push((rung, segment - kept));
                    break;
                }
                Ended::For(other, received) => {
                    self.fetched += received;
                    self.wasted += received;
                    let share = if self.track.as_they_come {
                        received / bits * segment
                    } else {
                        0.0
                    };
                    if share > kept {
                        spans.push((rung, share - kept));
                        kept = share;
                    }
                    rung = other;
                }
            }
        }
        spans.retain(|(_, length)| *length > 0.0);
        self.segments.push(spans);
        self.listener.arrive((number + 1) as f64 * segment);
    }

    /// Fetches one segment. The first `kept` seconds of it are there, of another rung.
    fn transfer(&mut self, number: usize, rung: usize, kept: f64) -> Ended {
        let (begin, from) = (self.listener.time, number as f64 * self.track.segment);
        let bits = self.track.bits[rung] * self.track.segment;
        let gain_each_bit = if self.track.as_they_come {
            1.0 / self.track.bits[rung]
        } else {
            0.0
        };
        let mut received = 0.0;
        let (mut waited, mut told, mut told_bits) = (0.0, begin, 0.0);
        loop {
            // One sample's time, or what is left of it.
            let due = told + TICK;
            while self.listener.time < due - 1e-9 && received < bits {
                let is_waiting = self.listener.time < begin + self.trace.latency - 1e-9;
                let (rate, rest) = self.trace.at(self.listener.time);
                let mut step = rest.min(due - self.listener.time);
                if is_waiting {
                    step = step.min(begin + self.trace.latency - self.listener.time);
                    self.listener.run(step, 0.0);
                    waited += step;
                    continue;
                }
                if rate <= 0.0 {
                    self.listener.run(step, 0.0);
                    waited += if received > 0.0 { 0.0 } else { step };
                    continue;
                }
                step = step.min((bits - received) / rate);
                let there = received * gain_each_bit;
                if there < kept && gain_each_bit > 0.0 {
                    // What comes here is there already.
                    step = step.min((kept - there) / (rate * gain_each_bit)).max(1e-9);
                    self.listener.run(step, 0.0);
                } else {
                    self.listener.run(step, rate * gain_each_bit);
                }
                received += rate * step;
                if bits - received < 1e-6 {
                    received = bits;
                }
            }
            let now = self.listener.time;
            let is_whole = received >= bits;
            if is_whole && gain_each_bit > 0.0 {
                // Sums of many steps are not exact.
                self.listener.arrived = from + self.track.segment;
            }
            let bytes = (received / 8.0) as u64 - (told_bits / 8.0) as u64;
            let sample = NetworkSample::new(seconds(now), bytes, seconds(now - told)).waited(seconds(waited));
            (told, told_bits, waited) = (now, received, 0.0);
            self.selector.observe(&sample.last(is_whole));
            if is_whole {
                return Ended::Whole;
            }
            if self.track.gives_up {
                let transfer = SegmentTransfer::new(rung, seconds(self.track.segment))
                    .received((received / 8.0) as u64)
                    .size(Some((bits / 8.0) as u64))
                    .elapsed(seconds(now - begin));
                let situation = self.situation(number);
                if let Some(other) = self
                    .selector
                    .give_up(&situation, &transfer)
                    .filter(|other| *other != rung)
                {
                    let none = NetworkSample::new(seconds(now), 0, Duration::ZERO);
                    self.selector.observe(&none.last(true));
                    return Ended::For(other, received);
                }
            }
        }
    }

    /// Fetches one held segment again, if the selector wants that. Whether time went on.
    fn improve(&mut self) -> bool {
        if !self.track.improves {
            return false;
        }
        let segment = self.track.segment;
        // From the first segment on that the listener has not begun.
        let first = (self.listener.heard / segment).ceil() as usize;
        let held: Vec<_> = (first..self.segments.len())
            .filter_map(|number| {
                let (rung, _) = *self.segments[number].last()?;
                let starts_in = number as f64 * segment - self.listener.heard;
                Some(HeldSegment::new(rung, seconds(segment), seconds(starts_in)))
            })
            .collect();
        let situation = self.situation(self.segments.len());
        let Some(improvement) = self.selector.improve(&situation, &held) else {
            return false;
        };
        let number = first + improvement.segment;
        let bits = self.track.bits[improvement.rung] * segment;
        let received = self.transfer_beside(bits, number as f64 * segment);
        self.fetched += received;
        if received < bits {
            self.wasted += received;
            return true;
        }
        for (rung, length) in &self.segments[number] {
            self.wasted += self.track.bits[*rung] * length;
        }
        self.segments[number] = vec![(improvement.rung, segment)];
        true
    }

    /// Fetches so many bits, unless the listener reaches `limit` first. What came.
    fn transfer_beside(&mut self, bits: f64, limit: f64) -> f64 {
        let begin = self.listener.time;
        let (mut received, mut waited, mut told, mut told_bits) = (0.0, 0.0, begin, 0.0);
        loop {
            let due = told + TICK;
            while self.listener.time < due - 1e-9 && received < bits {
                let (mut rate, rest) = self.trace.at(self.listener.time);
                let mut step = rest.min(due - self.listener.time);
                let latency = begin + self.trace.latency - self.listener.time;
                if latency > 1e-9 {
                    step = step.min(latency);
                    rate = 0.0;
                } else if rate > 0.0 {
                    step = step.min((bits - received) / rate);
                }
                self.listener.run(step, 0.0);
                waited += if received > 0.0 || rate > 0.0 { 0.0 } else { step };
                received += rate * step;
                if bits - received < 1e-6 {
                    received = bits;
                }
            }
            let now = self.listener.time;
            let is_last = received >= bits || self.listener.heard >= limit - 1e-9;
            let bytes = (received / 8.0) as u64 - (told_bits / 8.0) as u64;
            let sample = NetworkSample::new(seconds(now), bytes, seconds(now - told)).waited(seconds(waited));
            (told, told_bits, waited) = (now, received, 0.0);
            self.selector.observe(&sample.last(is_last));
            if is_last {
                return received;
            }
        }
    }

    fn outcome(self) -> Outcome {
        let mut outcome = Outcome {
            stalled: self.listener.stalled,
            stalls: self.listener.stalls,
            start: self.listener.started.unwrap_or(self.listener.time),
            heard: self.track.end(),
            fetched: self.fetched,
            wasted: self.wasted,
            ..Outcome::default()
        };
        let mut before = None;
        for (rung, length) in self.segments.iter().flatten() {
            outcome.utility += self.track.utilities[*rung] * length;
            outcome.bits += self.track.bits[*rung] * length;
            outcome.switches += u32::from(before.is_some_and(|before| before != *rung));
            before = Some(*rung);
        }
        outcome
    }
}

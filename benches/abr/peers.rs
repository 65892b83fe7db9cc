//! The rules of other players, written anew from their published parameters. They are themselves within a tenth or so.

use std::time::Duration;

use kithara::hls::selection::{NetworkSample, Rung, SegmentTransfer, Situation, VariantSelector};

/// Bits per second.
fn rate_of(rung: &Rung) -> f64 {
    rung.bit_rate() as f64
}

/// The highest rung for which `is_taken` holds, else the first. Ladders here go up.
fn highest(situation: &Situation<'_>, is_taken: impl Fn(usize, f64) -> bool) -> usize {
    let rungs = situation.ladder.iter().enumerate();
    let mut taken = rungs.filter(|(place, rung)| is_taken(*place, rate_of(rung)));
    taken.next_back().map_or(0, |(place, _)| place)
}

/// A transfer's samples, summed up.
#[derive(Debug, Default)]
struct Sum {
    bits: f64,
    seconds: f64,
    waited: f64,
}

impl Sum {
    fn add(&mut self, sample: &NetworkSample) {
        self.bits += sample.bytes as f64 * 8.0;
        self.seconds += sample.time.as_secs_f64();
        self.waited += sample.waited.as_secs_f64();
    }
}

#[derive(Debug, Default)]
struct Ewma {
    sum: f64,
    weight: f64,
}

impl Ewma {
    fn add(&mut self, value: f64, weight: f64, half_life: f64) {
        let kept = 0.5_f64.powf(weight / half_life);
        self.sum = self.sum * kept + value * (1.0 - kept);
        self.weight = self.weight * kept + 1.0 - kept;
    }

    fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// hls.js 1.7: two EWMAs of 3 and 9 s without the time to first byte, 0.95 and 0.7 of the rate, fetch time within the buffer.
#[derive(Debug, Default)]
pub struct HlsJs {
    fast: Ewma,
    slow: Ewma,
    first_byte: Ewma,
    transfer: Sum,
}

impl HlsJs {
    fn rate(&self) -> f64 {
        match (self.fast.value(), self.slow.value()) {
            (Some(fast), Some(slow)) => fast.min(slow),
            _ => 500_000.0,
        }
    }

    fn first_byte(&self) -> f64 {
        self.first_byte.value().unwrap_or(0.1)
    }
}

impl VariantSelector for HlsJs {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        let Some(present) = situation.current else {
            // A segment of the lowest level tests the network.
            return 0;
        };
        let (rate, segment) = (self.rate(), situation.segment.as_secs_f64());
        let buffered = situation.buffered.as_secs_f64();
        let within = |longest: f64| {
            highest(situation, |place, bits| {
                let factor = if place > present { 0.7 } else { 0.95 };
                let fetch = self.first_byte() + bits * segment / rate;
                bits <= factor * rate && fetch < longest
            })
        };
        let found = within(buffered);
        if found > 0 {
            found
        } else {
            within(buffered + segment.min(4.0))
        }
    }

    fn observe(&mut self, sample: &NetworkSample) {
        self.transfer.add(sample);
        if !sample.is_last {
            return;
        }
        let sum = std::mem::take(&mut self.transfer);
        if sum.bits > 0.0 {
            let seconds = sum.seconds - sum.waited.min(self.first_byte());
            let seconds = seconds
                .max((sum.bits / 8.0 / 100_000.0 / 1000.0).min(0.05))
                .max(0.001);
            self.fast.add(sum.bits / seconds, seconds, 3.0);
            self.slow.add(sum.bits / seconds, seconds, 9.0);
        }
        if sum.waited > 0.0 {
            let weight = 2.0_f64.sqrt() * (-sum.waited.powi(2) / 2.0).exp();
            self.first_byte.add(sum.waited, weight, 9.0);
        }
    }

    fn give_up(&mut self, situation: &Situation<'_>, transfer: &SegmentTransfer) -> Option<usize> {
        let segment = transfer.duration.as_secs_f64();
        let elapsed = transfer.elapsed.as_secs_f64();
        if elapsed <= self.first_byte().max(segment / 2.0) {
            return None;
        }
        let size = transfer.size? as f64 * 8.0;
        let received = transfer.received as f64 * 8.0;
        let rate = if received > 0.0 {
            received / (elapsed - self.first_byte()).max(0.05)
        } else {
            self.rate()
        };
        let left = (size - received) / rate.max(1.0);
        let buffered = situation.buffered.as_secs_f64();
        if left <= buffered {
            return None;
        }
        let fetch =
            |place: usize| self.first_byte() + rate_of(&situation.ladder[place]) * segment / rate.max(1.0);
        let lower = (0..transfer.rung).rev();
        let mut found = lower.filter(|place| fetch(*place) < buffered.min(segment + self.first_byte()));
        found.next().filter(|place| fetch(*place) < left)
    }
}

/// Media3 1.11: a sliding median weighted by the root of the bytes, 0.7 of it; up from 10 s, down below 25 s.
#[derive(Debug, Default)]
pub struct Media3 {
    /// Weight and rate, the oldest first.
    samples: std::collections::VecDeque<(f64, f64)>,
    transfer: Sum,
    seconds: f64,
    bits: f64,
}

impl Media3 {
    fn rate(&self) -> f64 {
        if self.seconds < 2.0 && self.bits < 512.0 * 1024.0 * 8.0 || self.samples.is_empty() {
            return 1_000_000.0;
        }
        let mut sorted: Vec<_> = self.samples.iter().copied().collect();
        sorted.sort_by(|one, other| one.1.total_cmp(&other.1));
        let half = sorted.iter().map(|(weight, _)| weight).sum::<f64>() / 2.0;
        let mut sum = 0.0;
        for (weight, rate) in &sorted {
            sum += weight;
            if sum >= half {
                return *rate;
            }
        }
        sorted[sorted.len() - 1].1
    }
}

impl VariantSelector for Media3 {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        let rate = 0.7 * self.rate();
        let ideal = highest(situation, |_, bits| bits <= rate);
        let Some(present) = situation.current else {
            return ideal;
        };
        let buffered = situation.buffered.as_secs_f64();
        let stays = ideal > present && buffered < 10.0 || ideal < present && buffered >= 25.0;
        if stays { present } else { ideal }
    }

    fn observe(&mut self, sample: &NetworkSample) {
        self.transfer.add(sample);
        if !sample.is_last {
            return;
        }
        let sum = std::mem::take(&mut self.transfer);
        self.seconds += sum.seconds;
        self.bits += sum.bits;
        if sum.bits <= 0.0 || sum.seconds <= 0.0 {
            return;
        }
        self.samples
            .push_back(((sum.bits / 8.0).sqrt(), sum.bits / sum.seconds));
        let mut over = self.samples.iter().map(|(weight, _)| weight).sum::<f64>() - 2_000.0;
        while over > 0.0 {
            let Some(oldest) = self.samples.front_mut() else {
                break;
            };
            if oldest.0 > over {
                oldest.0 -= over;
                break;
            }
            over -= oldest.0;
            self.samples.pop_front();
        }
    }
}

/// Shaka 5.2: two EWMAs of 2 and 5 s over samples from 16 kB on, a step each 8 s at most.
#[derive(Debug, Default)]
pub struct Shaka {
    fast: Ewma,
    slow: Ewma,
    transfer: Sum,
    bytes: f64,
    switched: Option<Duration>,
}

impl VariantSelector for Shaka {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        let rate = match (self.fast.value(), self.slow.value()) {
            (Some(fast), Some(slow)) if self.bytes >= 128_000.0 => fast.min(slow),
            _ => 1_000_000.0,
        };
        let ladder = situation.ladder;
        let chosen = highest(situation, |place, bits| {
            let next = ladder.get(place + 1).map_or(f64::INFINITY, rate_of);
            rate >= bits / 0.95 && rate <= next / 0.85
        });
        let Some(present) = situation.current else {
            return chosen;
        };
        let is_soon = self
            .switched
            .is_some_and(|before| situation.now.saturating_sub(before) < Duration::from_secs(8));
        if chosen == present || is_soon {
            return present;
        }
        self.switched = Some(situation.now);
        chosen
    }

    fn observe(&mut self, sample: &NetworkSample) {
        self.transfer.add(sample);
        if !sample.is_last {
            return;
        }
        let sum = std::mem::take(&mut self.transfer);
        if sum.bits / 8.0 < 16_000.0 {
            return;
        }
        self.bytes += sum.bits / 8.0;
        let (rate, seconds) = (sum.bits / sum.seconds.max(0.001), sum.seconds);
        self.fast.add(rate, seconds, 2.0);
        self.slow.add(rate, seconds, 5.0);
    }
}

/// BBA-0 (Huang and others, 2014): a line from the lowest rate at 90 s of 240 to the highest at 216.
#[derive(Debug, Default)]
pub struct Bba;

impl VariantSelector for Bba {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        let (cap, buffered) = (
            situation.look_ahead.as_secs_f64(),
            situation.buffered.as_secs_f64(),
        );
        let (low, high) = (cap * 90.0 / 240.0, cap * 216.0 / 240.0);
        let (Some(present), Some(first), Some(last)) = (
            situation.current,
            situation.ladder.first(),
            situation.ladder.last(),
        ) else {
            return 0;
        };
        // The last segment before the cap is asked for one segment below it.
        let buffered = buffered + situation.segment.as_secs_f64();
        if buffered <= low {
            return 0;
        }
        if buffered >= high {
            return situation.ladder.len() - 1;
        }
        let line = rate_of(first) + (buffered - low) / (high - low) * (rate_of(last) - rate_of(first));
        let up = situation.ladder.get(present + 1).map_or(f64::INFINITY, rate_of);
        let down = present
            .checked_sub(1)
            .map_or(0.0, |below| rate_of(&situation.ladder[below]));
        if line >= up {
            highest(situation, |_, bits| bits < line)
        } else if line <= down {
            let above = situation.ladder.iter().position(|rung| rate_of(rung) > line);
            above.unwrap_or(present)
        } else {
            present
        }
    }
}

/// BOLA as dash.js has it: the start by throughput, then utility against buffer.
#[derive(Debug, Default)]
pub struct Bola {
    fast: Ewma,
    slow: Ewma,
    transfer: Sum,
    is_steady: bool,
}

impl VariantSelector for Bola {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        let (Some(first), Some(last)) = (situation.ladder.first(), situation.ladder.last()) else {
            return 0;
        };
        let buffered = situation.buffered.as_secs_f64();
        let rate = match (self.fast.value(), self.slow.value()) {
            (Some(fast), Some(slow)) => 0.9 * fast.min(slow),
            _ => return 0,
        };
        let by_rate = highest(situation, |_, bits| bits <= rate);
        self.is_steady |= buffered >= situation.segment.as_secs_f64();
        if !self.is_steady {
            return by_rate;
        }
        let utility = |rung: &Rung| (rate_of(rung) / rate_of(first)).ln() + 1.0;
        // The buffer that it aims at lies within the look-ahead.
        let room = situation.look_ahead.as_secs_f64() - situation.segment.as_secs_f64();
        let target = room.max(10.0 + 2.0 * situation.ladder.len() as f64);
        let gp = (utility(last) - 1.0) / (target / 10.0 - 1.0);
        let vp = 10.0 / gp;
        let worth = |rung: &Rung| (vp * (utility(rung) + gp) - buffered) / rate_of(rung);
        let mut best = (0, f64::NEG_INFINITY);
        for (place, rung) in situation.ladder.iter().enumerate() {
            if worth(rung) >= best.1 {
                best = (place, worth(rung));
            }
        }
        // BOLA-O: up no further than the throughput goes.
        let present = situation.current.unwrap_or(0);
        if best.0 > present && best.0 > by_rate {
            by_rate.max(present)
        } else {
            best.0
        }
    }

    fn observe(&mut self, sample: &NetworkSample) {
        self.transfer.add(sample);
        if sample.is_last {
            let sum = std::mem::take(&mut self.transfer);
            if sum.bits > 0.0 && sum.seconds > sum.waited {
                let seconds = sum.seconds - sum.waited.min(0.1);
                self.fast.add(sum.bits / seconds, seconds, 3.0);
                self.slow.add(sum.bits / seconds, seconds, 8.0);
            }
        }
    }
}

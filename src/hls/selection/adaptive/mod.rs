//! The selector for networks that change.

mod codecs;
mod estimate;
mod give_up;
mod improve;
mod reserve;
#[cfg(test)]
mod tests;
mod tuning;

use std::time::Duration;

use self::{codecs::CodecGuard, estimate::Estimate, tuning::Tuning};
use super::{
    sample::{NetworkMemory, NetworkSample},
    selector::VariantSelector,
    situation::{HeldSegment, Improvement, Rung, SegmentTransfer, Situation},
};

/// Takes the best Variant Stream that the network is likely to carry without a stall.
///
/// ```text
///  buffered  0 ───────────── reserve ───────────────────── look-ahead
///            │ the less there is │ whatever keeps the reserve  │
///            │ the faster a      │ for the next while; held    │
///            │ segment must come │ segments again, better      │
/// ```
///
/// - It reckons with a pessimistic rate: the lower of a fast and a slow mean of what came over the network, outages left out.
/// - Some seconds of the buffer are a reserve against outages: 13 and a tenth of the look-ahead, and more where there were
///   outages lately. Below it the buffer is filled first. Above it a Variant Stream is taken if the reserve stays for the next while; so a short dip
///   changes nothing.
/// - It starts low: with what takes half of the remembered network's rate, or with about 64 kbit/s.
/// - A segment that would stall is given up for a lower one, if that spares some of it.
/// - A better segment that the cache has is taken: it costs nothing.
/// - Above the reserve, held segments are fetched again, better, for up to 6 % of a track's bytes; over
///   networks that change a lot 2 % were seen.
/// - The codec changes once a minute at most, and to a better one only where the rate or the buffer allows for it.
///
/// Decisions depend on what it was told alone. What the cache gives says nothing of the network.
#[derive(Debug, Clone)]
pub struct Adaptive {
    tuning: Tuning,
    estimate: Estimate,
    remembered: Option<f64>,
    codecs: CodecGuard,
    stepped_up_at: Option<Duration>,
    /// Bits of segments that were fetched again.
    wasted_bits: f64,
}

impl Adaptive {
    /// A selector that knows nothing of the network.
    pub fn new() -> Self {
        Self {
            tuning: Tuning::DEFAULT,
            estimate: Estimate::default(),
            remembered: None,
            codecs: CodecGuard::default(),
            stepped_up_at: None,
            wasted_bits: 0.0,
        }
    }

    /// Begins with what is known of the network.
    #[must_use]
    pub fn network(mut self, memory: NetworkMemory) -> Self {
        self.remembered = Some(bits(memory.bit_rate));
        self
    }

    /// The rate to reckon with.
    fn rate(&self) -> Option<f64> {
        Some(self.estimate.pessimistic(&self.tuning)? * self.tuning.safety)
    }

    /// What is kept for an outage, in seconds.
    fn reserve(&self, situation: &Situation<'_>) -> f64 {
        let outages = self.estimate.outages(situation.now, &self.tuning);
        reserve::reserve(&self.tuning, situation, outages)
    }

    /// The highest allowed rung that is taken without regard to the cache.
    fn over_network(&self, situation: &Situation<'_>) -> usize {
        let Some(rate) = self.rate() else {
            let remembered = self.remembered.map(|rate| rate * self.tuning.start_share);
            let limit = remembered.unwrap_or(self.tuning.start_rate);
            return self.highest(situation, |rung| bits(rung.bit_rate()) <= limit);
        };
        let present = situation.current.and_then(|place| situation.ladder.get(place));
        let present = present.map(|rung| bits(rung.bit_rate()));
        let is_soon = self.stepped_up_at.is_some_and(|before| {
            situation.now.saturating_sub(before).as_secs_f64() < self.tuning.between_ups
        });
        let reserve = self.reserve(situation);
        let least = reserve::reserve(&self.tuning, situation, 0.0);
        self.highest(situation, |rung| {
            let bit_rate = bits(rung.bit_rate());
            let is_up = present.is_some_and(|present| bit_rate > present);
            let horizon = if is_up {
                self.tuning.horizon_up
            } else {
                self.tuning.horizon_stay
            };
            let is_edge = !is_up && self.is_edge_of_codec(situation, rung);
            let reserve = if is_edge { least } else { reserve };
            let limit = reserve::limit(&self.tuning, situation, rate, reserve, horizon);
            !(is_up && is_soon)
                && next_bit_rate(situation, rung) <= limit
                && self.may_take_codec(situation, rung, is_up)
        })
    }

    /// Whether below a rung of the present codec there are others only. To leave it is to be without that codec for a minute,
    /// so outages make no larger reserve for it.
    fn is_edge_of_codec(&self, situation: &Situation<'_>, rung: &Rung) -> bool {
        let mut lower = situation
            .allowed()
            .filter(|(_, other)| other.bit_rate() < rung.bit_rate());
        !self.codecs.is_other(rung) && lower.all(|(_, other)| self.codecs.is_other(other))
    }

    /// Whether a rung of another codec may be taken. Where none of the present codec is allowed by the app, any may.
    fn may_take_codec(&self, situation: &Situation<'_>, rung: &Rung, is_up: bool) -> bool {
        if !self.codecs.is_other(rung) {
            return true;
        }
        let full = situation.look_ahead.as_secs_f64() * self.tuning.codec_depth_share;
        let deep = self.tuning.codec_depth.min(full);
        let is_better = !is_up
            || bits(rung.bit_rate()) * self.tuning.codec_rate <= self.estimate.mean().unwrap_or(0.0)
            || situation.buffered.as_secs_f64() >= deep;
        is_better && self.may_change_codec(situation)
    }

    fn may_change_codec(&self, situation: &Situation<'_>) -> bool {
        self.codecs.may_change(situation.now, self.tuning.between_codecs)
    }

    /// The first one of the highest bit rate for which `is_taken` holds. If it holds for none, the lowest; of the present
    /// codec, where that may not change.
    fn highest(&self, situation: &Situation<'_>, is_taken: impl Fn(&Rung) -> bool) -> usize {
        let mut best: Option<(usize, u64)> = None;
        for (place, rung) in situation.allowed().filter(|(_, rung)| is_taken(rung)) {
            if best.is_none_or(|(_, bit_rate)| rung.bit_rate() > bit_rate) {
                best = Some((place, rung.bit_rate()));
            }
        }
        best.map_or_else(|| self.lowest(situation), |(place, _)| place)
    }

    fn lowest(&self, situation: &Situation<'_>) -> usize {
        let may_change = self.may_change_codec(situation);
        let key = |(_, rung): &(usize, &Rung)| (!may_change && self.codecs.is_other(rung), rung.bit_rate());
        let lowest = situation.allowed().min_by_key(key);
        lowest.map_or(0, |(place, _)| place)
    }

    /// The best rung whose next segment the cache has.
    fn best_cached(&self, situation: &Situation<'_>) -> Option<usize> {
        let may_change = self.may_change_codec(situation);
        // A codec is not changed for a segment or two.
        let is_long = |rung: &Rung| {
            let rest = situation.remaining.unwrap_or(Duration::MAX);
            rung.cached >= rest || rung.cached.as_secs_f64() >= self.tuning.between_codecs
        };
        let cached = situation.allowed().filter(|(_, rung)| {
            rung.cached > Duration::ZERO && (!self.codecs.is_other(rung) || may_change && is_long(rung))
        });
        // Of equal ones the first.
        let best = cached.min_by_key(|(_, rung)| std::cmp::Reverse(rung.bit_rate()));
        best.map(|(place, _)| place)
    }

    /// Whether a segment is so far behind that the cache's lower one is better.
    fn is_short(&self, situation: &Situation<'_>, rung: usize) -> bool {
        let (Some(rate), Some(rung)) = (self.rate(), situation.ladder.get(rung)) else {
            return false;
        };
        let time = next_bit_rate(situation, rung) * situation.segment.as_secs_f64() / rate.max(1.0);
        time > situation.buffered.as_secs_f64()
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Self::new()
    }
}

impl VariantSelector for Adaptive {
    fn next(&mut self, situation: &Situation<'_>) -> usize {
        self.codecs.notice(situation);
        let mut chosen = self.over_network(situation);
        let bit_rate = |place: usize| situation.ladder.get(place).map_or(0, Rung::bit_rate);
        if let Some(cached) = self.best_cached(situation)
            && (bit_rate(cached) >= bit_rate(chosen) || self.is_short(situation, chosen))
        {
            chosen = cached;
        }
        if situation
            .current
            .is_some_and(|present| bit_rate(chosen) > bit_rate(present))
        {
            self.stepped_up_at = Some(situation.now);
        }
        if let Some(rung) = situation.ladder.get(chosen) {
            self.codecs.take(situation.now, rung);
        }
        chosen
    }

    fn observe(&mut self, sample: &NetworkSample) {
        self.estimate.observe(sample, &self.tuning);
    }

    fn give_up(&mut self, situation: &Situation<'_>, transfer: &SegmentTransfer) -> Option<usize> {
        let place = self.instead(situation, transfer)?;
        if let Some(rung) = situation.ladder.get(place) {
            self.codecs.take(situation.now, rung);
        }
        Some(place)
    }

    fn improve(&mut self, situation: &Situation<'_>, held: &[HeldSegment]) -> Option<Improvement> {
        let rate = self.rate()?;
        let (improvement, bits) = self.improvement(situation, held, rate)?;
        self.wasted_bits += bits;
        Some(improvement)
    }

    fn network(&self) -> Option<NetworkMemory> {
        let mean = self.estimate.mean().filter(|_| self.estimate.is_trusted())?;
        // A rate is not negative, and no network has 2^64 bit/s.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates"
        )]
        Some(NetworkMemory::new(mean as u64))
    }
}

/// What the next segment of a rung takes, in bits for each second that it plays.
fn next_bit_rate(situation: &Situation<'_>, rung: &Rung) -> f64 {
    let playing = situation.segment.as_secs_f64();
    match rung.next_bytes {
        Some(bytes) if playing > 0.0 => bits(bytes) * 8.0 / playing,
        _ => bits(rung.bit_rate()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 bits are more than a track has")]
fn bits(count: u64) -> f64 {
    count as f64
}

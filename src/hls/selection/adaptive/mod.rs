//! The selector for networks that change.

mod codecs;
mod estimate;
mod improve;
mod reserve;
#[cfg(test)]
mod tests;
mod tuning;

use std::time::Duration;

use self::{codecs::CodecGuard, estimate::Estimate, tuning::Tuning};
use super::{
    HeldSegment, Improvement, NetworkMemory, NetworkSample, Rung, SegmentTransfer, Situation, VariantSelector,
};

/// Takes the best Variant Stream that the network is likely to carry without a stall.
///
/// ```text
///  buffered  0 ──────── reserve ──────────────────────── look-ahead
///            │ what the   │ as long as the reserve        │ full: held segments are
///            │ rate fills │ would last for a minute       │ fetched again, better
/// ```
///
/// - It reckons with a pessimistic rate: the lower of a fast and a slow mean of what came over the network.
/// - Some seconds of the buffer are a reserve against outages. Below it a segment has to arrive faster than it plays. Above
///   it a Variant Stream is taken if the buffer stays above the reserve for the next minute; so a short dip changes nothing.
/// - It starts low: with what takes half of the remembered network's rate, or with 128 kbit/s.
/// - A segment that would arrive too late is given up for a lower one, if that arrives in time.
/// - A better segment that the cache has is taken: it costs nothing.
/// - While the look-ahead is full, held segments are fetched again, better, for up to 3 % of all bytes.
/// - The codec changes once a minute at most, and to a better one only where the rate or the buffer allows for it.
///
/// Decisions depend on what it was told alone. Bytes from the cache do not count as fast ones.
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
        Some(self.estimate.pessimistic()? * self.tuning.safety)
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
        self.highest(situation, |rung| {
            let bit_rate = bits(rung.bit_rate());
            let is_up = present.is_some_and(|present| bit_rate > present);
            let horizon = if is_up {
                self.tuning.horizon_up
            } else {
                self.tuning.horizon_stay
            };
            !(is_up && is_soon)
                && next_bit_rate(situation, rung) <= reserve::limit(&self.tuning, situation, rate, horizon)
                && self.may_take_codec(situation, rung, is_up)
        })
    }

    /// Whether a rung of another codec may be taken. Where none of the present codec is allowed by the app, any may.
    fn may_take_codec(&self, situation: &Situation<'_>, rung: &Rung, is_up: bool) -> bool {
        if !self.codecs.is_other(rung) {
            return true;
        }
        let is_better = !is_up
            || bits(rung.bit_rate()) * self.tuning.codec_rate <= self.estimate.mean().unwrap_or(0.0)
            || situation.buffered.as_secs_f64() >= self.tuning.codec_depth;
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
        self.estimate.observe(sample);
    }

    fn give_up(&mut self, situation: &Situation<'_>, transfer: &SegmentTransfer) -> Option<usize> {
        let under_way = situation.ladder.get(transfer.rung)?;
        let rate = self.estimate.pessimistic()?.max(1.0);
        let playing = transfer.duration.as_secs_f64();
        let size = transfer
            .size
            .map_or(bits(under_way.bit_rate()) / 8.0 * playing, bits);
        let left = (size - bits(transfer.received)).max(0.0) * 8.0 / rate;
        let buffered = situation.buffered.as_secs_f64();
        if buffered <= 0.0 || left <= buffered * self.tuning.give_up_late {
            return None;
        }
        let lowest = self.lowest(situation);
        let instead = situation.ladder.get(lowest)?;
        if instead.bit_rate() >= under_way.bit_rate()
            || self.codecs.is_other(instead) && !self.may_change_codec(situation)
        {
            return None;
        }
        let time = self.estimate.latency() + bits(instead.bit_rate()) * playing / rate;
        if time >= buffered * self.tuning.give_up_gain || time >= left {
            return None;
        }
        self.codecs.take(situation.now, instead);
        Some(lowest)
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

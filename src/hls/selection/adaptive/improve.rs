//! Which held segment is fetched again.

use super::{
    super::situation::{HeldSegment, Improvement, Rung, Situation},
    Adaptive, bits,
    codecs::Codec,
};

/// How long a track goes on that does not say, in seconds.
const USUAL_REST: f64 = 120.0;

impl Adaptive {
    /// The first improvement that is worth it, and the bits that it makes useless.
    pub(super) fn improvement(
        &self,
        situation: &Situation<'_>,
        held: &[HeldSegment],
        rate: f64,
    ) -> Option<(Improvement, f64)> {
        let enough = self.reserve(situation) * self.tuning.improve_depth;
        let rest = situation.remaining.map_or(USUAL_REST, |rest| rest.as_secs_f64());
        if situation.buffered.as_secs_f64() < enough && rest > 0.0 {
            return None;
        }
        // A part of what the whole track takes: most of what is worth improving comes at its start, and behind outages.
        let best = situation.allowed().map(|(_, rung)| rung.bit_rate()).max()?;
        let expected = bits(self.estimate.bytes()) * 8.0 + rest * bits(best).min(rate);
        let allowance = expected * self.tuning.improve_waste - self.wasted_bits;
        let mut earlier = None;
        for (place, segment) in held.iter().enumerate() {
            let Some(present) = situation.ladder.get(segment.rung) else {
                continue;
            };
            let playing = segment.duration.as_secs_f64();
            let lost = bits(present.bit_rate()) * playing;
            if lost > allowance {
                continue;
            }
            // The segment has to be there before the listener is.
            let time = segment.starts_in.as_secs_f64() * self.tuning.improve_share - self.estimate.latency();
            let limit = rate * time / playing.max(0.001);
            if let Some(rung) = self.better(situation, present, limit) {
                return Some((Improvement::new(place, rung), lost));
            }
            let behind = held.get(place + 1).map(|behind| behind.rung);
            if let Some(rung) = behind.filter(|rung| self.is_change_to_move(situation, present, *rung, limit))
            {
                earlier = Some((Improvement::new(place, rung), lost));
            }
        }
        earlier
    }

    /// Whether a segment is the last one before the codec gets better, and can be of that codec too: the change comes earlier
    /// then, and there is none more. Not where there was a change before it, which would come closer.
    fn is_change_to_move(
        &self,
        situation: &Situation<'_>,
        present: &Rung,
        behind: usize,
        limit: f64,
    ) -> bool {
        let Some(better) = situation.ladder.get(behind) else {
            return false;
        };
        self.codecs.has_changed_once()
            && Codec::of(better) != Codec::of(present)
            && situation.is_allowed(behind)
            && bits(better.bit_rate()) >= bits(present.bit_rate()) * self.tuning.improve_gain
            && better.bit_rate() > present.bit_rate()
            && bits(better.bit_rate()) <= limit
    }

    /// The highest rung of the same codec up to `limit`, if it is worth it.
    fn better(&self, situation: &Situation<'_>, present: &Rung, limit: f64) -> Option<usize> {
        let least = bits(present.bit_rate()) * self.tuning.improve_gain;
        let rungs = situation.allowed().filter(|(_, rung)| {
            let bit_rate = bits(rung.bit_rate());
            // Between neighbours of one codec a single segment of another one would be two changes.
            rung.bit_rate() > present.bit_rate()
                && bit_rate >= least
                && bit_rate <= limit
                && Codec::of(rung) == Codec::of(present)
        });
        rungs
            .max_by_key(|(_, rung)| rung.bit_rate())
            .map(|(place, _)| place)
    }
}

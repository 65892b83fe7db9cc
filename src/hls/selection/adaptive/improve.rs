//! Which held segment is fetched again.

use super::{
    super::{HeldSegment, Improvement, Rung, Situation},
    Adaptive, bits,
};

impl Adaptive {
    /// The improvement that gains most, and the bits that it makes useless.
    pub(super) fn improvement(
        &self,
        situation: &Situation<'_>,
        held: &[HeldSegment],
        rate: f64,
    ) -> Option<(Improvement, f64)> {
        let allowance = bits(self.estimate.bytes()) * 8.0 * self.tuning.improve_waste - self.wasted_bits;
        let mut best: Option<(Improvement, f64, f64)> = None;
        for (place, segment) in held.iter().enumerate() {
            let Some(present) = situation.ladder.get(segment.rung) else {
                continue;
            };
            let playing = segment.duration.as_secs_f64();
            let lost = bits(present.bit_rate()) * playing;
            if lost > allowance {
                continue;
            }
            // The segment has to be there before the listener is, and the next one too.
            let time = segment.starts_in.as_secs_f64() * self.tuning.improve_share - self.estimate.latency();
            let Some((rung, better)) = self.better(situation, present, rate * time / playing.max(0.001))
            else {
                continue;
            };
            let gain =
                (bits(better.bit_rate()) / bits(present.bit_rate()).max(1.0)).ln() * playing / lost.max(1.0);
            if best.as_ref().is_none_or(|(_, most, _)| gain > *most) {
                best = Some((Improvement::new(place, rung), gain, lost));
            }
        }
        best.map(|(improvement, _, lost)| (improvement, lost))
    }

    /// The highest rung of the same codec up to `limit`, if it is worth it.
    fn better<'a>(&self, situation: &Situation<'a>, present: &Rung, limit: f64) -> Option<(usize, &'a Rung)> {
        let least = bits(present.bit_rate()) * self.tuning.improve_gain;
        let rungs = situation.allowed().filter(|(_, rung)| {
            let bit_rate = bits(rung.bit_rate());
            // Between neighbours of one codec a single segment of another one would be two changes.
            bit_rate >= least
                && bit_rate <= limit
                && super::codecs::Codec::of(rung) == super::codecs::Codec::of(present)
        });
        rungs.max_by_key(|(_, rung)| rung.bit_rate())
    }
}

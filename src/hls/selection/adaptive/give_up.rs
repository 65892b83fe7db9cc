//! Whether a segment under way comes too late.

use super::{
    super::situation::{SegmentTransfer, Situation},
    Adaptive, bits,
};

/// The least that an outage is expected to last on, in seconds.
const SHORTEST_OUTAGE: f64 = 3.0;

impl Adaptive {
    /// The rung to take the segment from, where its transfer would stall and another one stalls for less.
    pub(super) fn instead(&self, situation: &Situation<'_>, transfer: &SegmentTransfer) -> Option<usize> {
        let under_way = situation.ladder.get(transfer.rung)?;
        let rate = self.estimate.pessimistic(&self.tuning)?.max(1.0);
        let recent = self.estimate.recent()?.clamp(1.0, rate);
        // An outage is expected to last as long again as it has lasted; then the network is what it was before.
        let outage = self.estimate.outage();
        let arrives_in = |bits: f64| {
            let as_now = bits / recent;
            if outage > 0.0 {
                as_now.min(outage.max(SHORTEST_OUTAGE) + bits / rate)
            } else {
                as_now
            }
        };
        let playing = transfer.duration.as_secs_f64();
        let buffered = situation.buffered.as_secs_f64();
        let size = transfer
            .size
            .map_or(bits(under_way.bit_rate()) * playing / 8.0, bits)
            .max(1.0);
        let part = (bits(transfer.received) / size).min(1.0);
        // Bytes play as they come: the listener waits if the segment's end arrives after what is buffered and what is still
        // to come have played.
        let to_play = buffered + (1.0 - part) * playing;
        let stall = arrives_in((1.0 - part) * size * 8.0) - to_play;
        if stall < self.tuning.give_up_stall {
            return None;
        }
        // Another rung's segment comes from its start. Up to where the present one has got there is sound.
        let stall_of = |bit_rate: f64| {
            let time = arrives_in(bit_rate * playing);
            let latency = self.estimate.latency();
            (latency + time - to_play)
                .max(latency + part * time - buffered)
                .max(0.0)
        };
        let lowest = self.lowest(situation);
        let lowest_rate = bits(situation.ladder.get(lowest)?.bit_rate());
        // There is time to see whether the network recovers.
        if buffered > 2.0 * arrives_in(lowest_rate * playing) + self.tuning.give_up_depth {
            return None;
        }
        let least = stall_of(lowest_rate);
        if stall - least < self.tuning.give_up_gain {
            return None;
        }
        let limit = least + self.tuning.give_up_gain * 0.25;
        let place = self.highest(situation, |rung| {
            rung.bit_rate() < under_way.bit_rate()
                && stall_of(bits(rung.bit_rate())) <= limit
                && (!self.codecs.is_other(rung) || self.may_change_codec(situation))
        });
        let instead = situation.ladder.get(place)?;
        let is_other = self.codecs.is_other(instead) && !self.may_change_codec(situation);
        (instead.bit_rate() < under_way.bit_rate() && !is_other).then_some(place)
    }
}

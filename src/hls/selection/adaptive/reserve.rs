//! How much a rung may take.

use super::{super::Situation, tuning::Tuning};

/// The highest bit rate that keeps the reserve, if the network gives `rate` from here on.
pub(super) fn limit(tuning: &Tuning, situation: &Situation<'_>, rate: f64, horizon: f64) -> f64 {
    let buffered = situation.buffered.as_secs_f64();
    let rest = situation
        .remaining
        .map_or(f64::INFINITY, |rest| rest.as_secs_f64());
    // The end of the track needs no reserve behind it.
    let reserve = tuning
        .reserve
        .min(situation.look_ahead.as_secs_f64() * tuning.reserve_share)
        .min(rest);
    if buffered < reserve {
        // Below the reserve a segment has to arrive the faster, the less there is.
        let share = (buffered / reserve).max(tuning.empty_share);
        return rate * share;
    }
    // At a bit rate r the buffer changes by rate / r - 1 each second. What is spare may go within the horizon.
    let horizon = horizon.min(rest);
    let spare = buffered - reserve;
    if spare >= horizon {
        return f64::INFINITY;
    }
    rate * horizon / (horizon - spare)
}

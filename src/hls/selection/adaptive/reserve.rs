//! How much a rung may take.

use super::{super::situation::Situation, tuning::Tuning};

/// What is kept for an outage, in seconds. Where there were outages lately there will be more.
pub(super) fn reserve(tuning: &Tuning, situation: &Situation<'_>, outages: f64) -> f64 {
    let room = situation.look_ahead.saturating_sub(situation.segment);
    let ahead = situation.look_ahead.as_secs_f64() * tuning.reserve_ahead;
    let wanted = tuning.reserve + ahead + outages * tuning.reserve_growth;
    wanted
        .min(tuning.reserve_most)
        .min(room.as_secs_f64() * tuning.reserve_share)
}

/// The highest bit rate that keeps the reserve, if the network gives `rate` from here on.
pub(super) fn limit(
    tuning: &Tuning,
    situation: &Situation<'_>,
    rate: f64,
    reserve: f64,
    horizon: f64,
) -> f64 {
    let buffered = situation.buffered.as_secs_f64();
    let rest = situation
        .remaining
        .map_or(f64::INFINITY, |rest| rest.as_secs_f64());
    if buffered < reserve {
        // At a bit rate r what is missing takes missing / (rate / r - 1) seconds to come.
        return rate * tuning.refill / (tuning.refill + reserve - buffered);
    }
    // At a bit rate r the buffer changes by rate / r - 1 each second. What is spare may go within the horizon.
    let horizon = horizon.min(rest);
    let spare = buffered - reserve;
    if spare >= horizon {
        return f64::INFINITY;
    }
    rate * horizon / (horizon - spare)
}

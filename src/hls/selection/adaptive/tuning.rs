//! The figures of the adaptive rule. `benches/abr.rs` is where they were found.

/// Times are seconds, rates bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tuning {
    /// Half-lives of the two means of the rate, in seconds of transfer.
    pub(super) fast_half_life: f64,
    pub(super) slow_half_life: f64,
    /// How many times the slow mean the fast one may be.
    pub(super) slow_factor: f64,
    /// What of the estimated rate is reckoned with.
    pub(super) safety: f64,
    /// What is kept for an outage.
    pub(super) reserve: f64,
    /// How much more for each second of the look-ahead: a deep one leaves time to improve what was taken low.
    pub(super) reserve_ahead: f64,
    /// How much more for each second of outages lately.
    pub(super) reserve_growth: f64,
    /// In which time half of the outages is forgotten.
    pub(super) outage_half_life: f64,
    /// The most that is kept.
    pub(super) reserve_most: f64,
    /// The most of the look-ahead that the reserve takes.
    pub(super) reserve_share: f64,
    /// How far the buffer is reckoned ahead before a higher rung is taken.
    pub(super) horizon_up: f64,
    /// The same, before the present rung is left.
    pub(super) horizon_stay: f64,
    /// In which time the reserve is to be full again.
    pub(super) refill: f64,
    /// The least time from one step up to the next.
    pub(super) between_ups: f64,
    /// No segment is given up while so much more is buffered than twice the lowest rung's segment takes.
    pub(super) give_up_depth: f64,
    /// A segment is given up from so much of a stall on,
    pub(super) give_up_stall: f64,
    /// and if so much of it is spared.
    pub(super) give_up_gain: f64,
    /// The part of the reserve from which held segments are improved.
    pub(super) improve_depth: f64,
    /// The most of the time until a held segment is heard that fetching it again may take.
    pub(super) improve_share: f64,
    /// The most of all bytes that improving may cost.
    pub(super) improve_waste: f64,
    /// The least ratio of an improved segment's bit rate to the held one's.
    pub(super) improve_gain: f64,
    /// The start without a remembered network: the highest rung up to this rate.
    pub(super) start_rate: f64,
    /// What of a remembered network's rate the first rung may take.
    pub(super) start_share: f64,
    /// How many times its own rate the mean rate has to be before a better codec is taken.
    pub(super) codec_rate: f64,
    /// Or the depth from which it is taken all the same.
    pub(super) codec_depth: f64,
    /// Or this part of the look-ahead.
    pub(super) codec_depth_share: f64,
    /// The least time from one change of codec to the next.
    pub(super) between_codecs: f64,
}

impl Tuning {
    pub(super) const DEFAULT: Self = Self {
        fast_half_life: 3.5,
        slow_half_life: 11.0,
        slow_factor: 1.5,
        safety: 1.0,
        reserve: 13.0,
        reserve_ahead: 0.1,
        reserve_growth: 3.0,
        outage_half_life: 95.0,
        reserve_most: 80.0,
        reserve_share: 0.88,
        horizon_up: 20.0,
        horizon_stay: 8.0,
        refill: 3.0,
        between_ups: 1.8,
        give_up_depth: 7.5,
        give_up_stall: 0.3,
        give_up_gain: 1.0,
        improve_depth: 1.13,
        improve_share: 0.8,
        improve_waste: 0.06,
        improve_gain: 1.5,
        start_rate: 70_000.0,
        start_share: 0.5,
        codec_rate: 1.3,
        codec_depth: 120.0,
        codec_depth_share: 0.65,
        between_codecs: 60.0,
    };
}

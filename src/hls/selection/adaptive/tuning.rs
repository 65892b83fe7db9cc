//! The figures of the adaptive rule. `benches/abr.rs` is where they were found.

/// Times are seconds, rates bits per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tuning {
    /// What of the estimated rate is reckoned with.
    pub(super) safety: f64,
    /// What is kept for an outage.
    pub(super) reserve: f64,
    /// The most of the look-ahead that the reserve takes.
    pub(super) reserve_share: f64,
    /// How far the buffer is reckoned ahead before a higher rung is taken.
    pub(super) horizon_up: f64,
    /// The same, before the present rung is left.
    pub(super) horizon_stay: f64,
    /// What of the rate a rung may take where nothing is buffered.
    pub(super) empty_share: f64,
    /// The least time from one step up to the next.
    pub(super) between_ups: f64,
    /// The most of the buffer that the rest of a segment may take to arrive.
    pub(super) give_up_late: f64,
    /// The most of the buffer that the lowest rung's segment may take in its place.
    pub(super) give_up_gain: f64,
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
    /// The least time from one change of codec to the next.
    pub(super) between_codecs: f64,
}

impl Tuning {
    pub(super) const DEFAULT: Self = Self {
        safety: 0.8,
        reserve: 25.0,
        reserve_share: 0.5,
        horizon_up: 60.0,
        horizon_stay: 60.0,
        empty_share: 0.3,
        between_ups: 8.0,
        give_up_late: 0.9,
        give_up_gain: 0.7,
        improve_share: 0.5,
        improve_waste: 0.03,
        improve_gain: 1.3,
        start_rate: 128_000.0,
        start_share: 0.5,
        codec_rate: 1.3,
        codec_depth: 120.0,
        between_codecs: 60.0,
    };
}

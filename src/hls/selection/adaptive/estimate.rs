//! How fast the network is, from what came over it.

use std::time::Duration;

use super::{super::sample::NetworkSample, tuning::Tuning};

/// Samples are merged up to one of these: less says more of buffers on the way than of the network.
const MERGED_BYTES: u64 = 16 << 10;
const MERGED_SECONDS: f64 = 0.25;
/// The wait for a first byte that is put down to distance: at most this, and what earlier transfers waited.
const LONGEST_LATENCY: f64 = 1.0;
/// Taken for the latency until a transfer has shown its own.
const FIRST_LATENCY: f64 = 0.2;
/// Below this, in bits per second, it is an outage: it says nothing of how fast the network is when it is back.
const OUTAGE_RATE: f64 = 48_000.0;
/// An outage that lasts longer, in seconds, is how fast the network is.
const LONGEST_OUTAGE: f64 = 60.0;
/// What the last second or so was like.
const RECENT_HALF_LIFE: f64 = 1.0;
/// About a minute of transfers.
const MEAN_HALF_LIFE: f64 = 30.0;
/// A shorter time is a clock that stood still.
const SHORTEST: f64 = 0.001;
/// What is less than this, in bytes or seconds, is not worth remembering.
const TRUSTED_BYTES: u64 = 64 << 10;
const TRUSTED_SECONDS: f64 = 2.0;

/// An exponentially weighted mean. Its weights are seconds of transfer.
#[derive(Debug, Clone, Copy, Default)]
struct Ewma {
    sum: f64,
    weight: f64,
}

impl Ewma {
    fn add(&mut self, value: f64, seconds: f64, half_life: f64) {
        let kept = 0.5_f64.powf(seconds / half_life);
        self.sum = self.sum * kept + value * (1.0 - kept);
        self.weight = self.weight * kept + (1.0 - kept);
    }

    /// Divided by its weight the mean is right from the first sample on; it does not rise from zero.
    fn value(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// Rates in bits per second, over the time in which at least one transfer was under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Estimate {
    fast: Ewma,
    slow: Ewma,
    recent: Ewma,
    /// How long the present outage has lasted.
    outage: f64,
    /// Seconds of outages, of which half is forgotten in a while; as of when.
    outages: f64,
    outages_at: Duration,
    mean: Ewma,
    latency: Option<f64>,
    /// What the transfer that waits has waited so far.
    waiting: f64,
    pending_bytes: u64,
    pending_seconds: f64,
    /// Up to here time has been counted.
    counted: Duration,
    bytes: u64,
    seconds: f64,
}

impl Estimate {
    pub(super) fn observe(&mut self, sample: &NetworkSample, tuning: &Tuning) {
        // Transfers that run side by side share the network: their bytes add up, and a moment counts once. Counted for each of
        // them, three bodies in flight would look like a third of the network.
        let begin = sample.at.saturating_sub(sample.time).max(self.counted);
        let seconds = sample.at.saturating_sub(begin).as_secs_f64();
        self.counted = self.counted.max(sample.at);
        let idle = self.latency_within(sample);
        self.pending_bytes = self.pending_bytes.saturating_add(sample.bytes);
        self.pending_seconds += (seconds - idle).max(0.0);
        self.bytes = self.bytes.saturating_add(sample.bytes);
        let is_enough = self.pending_bytes >= MERGED_BYTES || self.pending_seconds >= MERGED_SECONDS;
        if is_enough && self.pending_seconds >= SHORTEST {
            self.merge(sample.at, tuning);
        }
    }

    /// What of a sample's time is the way there and back, in which no bytes can come. What a transfer waits beyond that is an
    /// outage, and counts.
    fn latency_within(&mut self, sample: &NetworkSample) -> f64 {
        let waited = sample.waited.min(sample.time).as_secs_f64();
        let expected = self.latency.unwrap_or(FIRST_LATENCY);
        let idle = waited.min((expected - self.waiting).max(0.0));
        self.waiting += waited;
        if sample.bytes > 0 && sample.waited > Duration::ZERO {
            let seen = self.waiting.min(LONGEST_LATENCY);
            let latency = self.latency.map_or(seen, |latency| latency * 0.7 + seen * 0.3);
            self.latency = Some(latency);
        }
        if sample.bytes > 0 || sample.is_last {
            self.waiting = 0.0;
        }
        idle
    }

    fn merge(&mut self, at: Duration, tuning: &Tuning) {
        // Of 64 bits only those beyond 2^53 are lost.
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
        let rate = self.pending_bytes as f64 * 8.0 / self.pending_seconds;
        self.recent.add(rate, self.pending_seconds, RECENT_HALF_LIFE);
        self.outage = if rate < OUTAGE_RATE {
            self.outage + self.pending_seconds
        } else {
            0.0
        };
        self.outages = self.outages(at, tuning)
            + if self.outage > 0.0 {
                self.pending_seconds
            } else {
                0.0
            };
        self.outages_at = at;
        if self.outage <= 0.0 || self.outage > LONGEST_OUTAGE || self.slow.value().is_none() {
            self.fast.add(rate, self.pending_seconds, tuning.fast_half_life);
            self.slow.add(rate, self.pending_seconds, tuning.slow_half_life);
        }
        self.mean.add(rate, self.pending_seconds, MEAN_HALF_LIFE);
        self.seconds += self.pending_seconds;
        self.pending_bytes = 0;
        self.pending_seconds = 0.0;
    }

    /// The lower of the rate of some seconds and that of some more: it falls at once, and rises when the rise has lasted.
    pub(super) fn pessimistic(&self, tuning: &Tuning) -> Option<f64> {
        Some(self.fast.value()?.min(self.slow.value()? * tuning.slow_factor))
    }

    /// The rate of the last second or so, also in an outage.
    pub(super) fn recent(&self) -> Option<f64> {
        self.recent.value()
    }

    /// How long the present outage has lasted, in seconds. Zero if there is none.
    pub(super) fn outage(&self) -> f64 {
        self.outage
    }

    /// Seconds of outages lately.
    pub(super) fn outages(&self, now: Duration, tuning: &Tuning) -> f64 {
        let since = now.saturating_sub(self.outages_at).as_secs_f64();
        self.outages * 0.5_f64.powf(since / tuning.outage_half_life)
    }

    /// The mean of about a minute of transfers.
    pub(super) fn mean(&self) -> Option<f64> {
        self.mean.value()
    }

    /// The time from a request to its first byte, in seconds.
    pub(super) fn latency(&self) -> f64 {
        self.latency.unwrap_or(FIRST_LATENCY)
    }

    /// All bytes that came.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether enough was seen to remember.
    pub(super) fn is_trusted(&self) -> bool {
        self.bytes >= TRUSTED_BYTES || self.seconds >= TRUSTED_SECONDS
    }
}

//! When to try again, and how long to wait before.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// How often a request is tried, and how long it waits in between: `base`, doubled after each failure in a row, never
/// more than `max`, shortened at random by up to the share `jitter` so that clients do not come back all at once.
///
/// The default is six tries with 250 ms, 8 s and 0.5: four to eight seconds of outage are sat out.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    attempts: u32,
    base: Duration,
    max: Duration,
    jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            base: Duration::from_millis(250),
            max: Duration::from_secs(8),
            jitter: 0.5,
        }
    }
}

impl RetryPolicy {
    /// One try and no more; a body that breaks off is not resumed.
    pub fn none() -> Self {
        Self::default().with_attempts(1)
    }

    /// How many tries in a row may fail, the first included; at least one.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The wait after the first failure.
    #[must_use]
    pub fn with_base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The longest wait. A server that asks for a longer one is not asked again.
    #[must_use]
    pub fn with_max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// The share of each wait that chance may take off, from 0 (none) to 1.
    #[must_use]
    pub fn with_jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter.clamp(0.0, 1.0);
        self
    }

    /// How long to wait after `failures` failures in a row, at least as long as the server asked for; `None` to give up.
    pub(super) fn delay(&self, failures: u32, retry_after: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts || retry_after.is_some_and(|asked| asked > self.max) {
            return None;
        }
        let doubled = self
            .base
            .saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let wait = doubled.min(self.max).mul_f64(1.0 - self.jitter * chance());
        Some(wait.max(retry_after.unwrap_or_default()))
    }
}

/// A number from 0 to 1. `RandomState` is keyed at random by the standard library, which is chance enough to spread
/// clients out.
fn chance() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

/// The wait that a `Retry-After` header asks for, given in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_limit_and_end() {
        let policy = RetryPolicy::default()
            .with_attempts(5)
            .with_base(SECOND)
            .with_max(3 * SECOND)
            .with_jitter(0.0);
        let waits: Vec<_> = (1..=5).map(|failures| policy.delay(failures, None)).collect();
        assert_eq!(
            waits,
            [
                Some(SECOND),
                Some(2 * SECOND),
                Some(3 * SECOND),
                Some(3 * SECOND),
                None
            ]
        );
        assert_eq!(policy.with_attempts(u32::MAX).delay(1000, None), Some(3 * SECOND));
    }

    #[test]
    fn jitter_takes_off_its_share_at_most() {
        let policy = RetryPolicy::default().with_base(SECOND).with_jitter(0.5);
        for _ in 0..1000 {
            let wait = policy.delay(1, None).expect("a first failure");
            assert!((SECOND / 2..=SECOND).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn the_server_may_ask_for_more_but_not_for_ever() {
        let policy = RetryPolicy::default()
            .with_base(SECOND)
            .with_max(3 * SECOND)
            .with_jitter(0.0);
        assert_eq!(policy.delay(1, Some(2 * SECOND)), Some(2 * SECOND));
        assert_eq!(policy.delay(1, Some(Duration::ZERO)), Some(SECOND));
        assert_eq!(policy.delay(1, Some(4 * SECOND)), None);
    }

    #[test]
    fn retry_after_is_read_in_both_its_forms() {
        let of = |value: String| {
            let value = HeaderValue::try_from(value).expect("ascii");
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]))
        };
        assert_eq!(of("2".into()), Some(2 * SECOND));
        assert_eq!(of("soon".into()), None);
        assert_eq!(
            of(httpdate::fmt_http_date(SystemTime::UNIX_EPOCH)),
            Some(Duration::ZERO)
        );
        let later = of(httpdate::fmt_http_date(SystemTime::now() + 100 * SECOND)).expect("a date");
        assert!((98 * SECOND..=100 * SECOND).contains(&later), "{later:?}");
    }
}

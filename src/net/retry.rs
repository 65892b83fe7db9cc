//! Retries: how many, and how long to wait before each.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// How often a request is tried, and how long the client waits between two tries.
///
/// The wait is [`base_delay`](Self::base_delay) after the first failure. It doubles with each failure in a row, up to
/// [`max_delay`](Self::max_delay). A random share of it, up to [`jitter`](Self::jitter), is left out, so that many
/// clients do not come back at the same moment.
///
/// The default is six tries with 250 ms, 8 s and 0.5. It outlasts an outage of four to eight seconds.
///
/// ```
/// use std::time::Duration;
///
/// use kithara::net::RetryPolicy;
///
/// let patient = RetryPolicy::default()
///     .max_attempts(12)
///     .max_delay(Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    max_attempts: u32,
    base_delay: Duration,
    max_delay: Duration,
    jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 6,
            base_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(8),
            jitter: 0.5,
        }
    }
}

impl RetryPolicy {
    /// One try. A body that breaks off is not resumed.
    pub fn none() -> Self {
        Self::default().max_attempts(1)
    }

    /// How many tries in a row may fail, the first one included. At least 1.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// The wait after the first failure.
    #[must_use]
    pub fn base_delay(mut self, delay: Duration) -> Self {
        self.base_delay = delay;
        self
    }

    /// The longest wait. A server that asks for a longer one (`Retry-After`) is not asked again.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// The largest share of each wait that chance leaves out, from 0 (none) to 1.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share.clamp(0.0, 1.0);
        self
    }

    /// How long to wait after `failures` failures in a row, never less than the server asked for. `None` to give up.
    pub(super) fn delay(&self, failures: u32, retry_after: Option<Duration>) -> Option<Duration> {
        // A server that asks for a longer wait than the app allows is not asked early: it would refuse again, and may count it.
        if failures >= self.max_attempts || retry_after.is_some_and(|asked| asked > self.max_delay) {
            return None;
        }
        let doubled = self
            .base_delay
            .saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        // What the server asks for is a least wait, so the random share is not taken from it.
        let wait = doubled.min(self.max_delay).mul_f64(1.0 - self.jitter * chance());
        Some(wait.max(retry_after.unwrap_or_default()))
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    // The standard library keys each `RandomState` at random. That is random enough to spread clients out, and it saves
    // a dependency.
    let bits = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

/// The wait that a `Retry-After` header asks for, given in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    // Seconds first: no date is a number alone.
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    // A date that has passed, by this machine's clock, asks for no wait.
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
            .max_attempts(5)
            .base_delay(SECOND)
            .max_delay(3 * SECOND)
            .jitter(0.0);
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
        assert_eq!(policy.max_attempts(u32::MAX).delay(1000, None), Some(3 * SECOND));
    }

    #[test]
    fn jitter_takes_off_its_share_at_most() {
        let policy = RetryPolicy::default().base_delay(SECOND).jitter(0.5);
        for _ in 0..1000 {
            let wait = policy.delay(1, None).expect("a first failure");
            assert!((SECOND / 2..=SECOND).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn the_server_may_ask_for_more_but_not_for_ever() {
        let policy = RetryPolicy::default()
            .base_delay(SECOND)
            .max_delay(3 * SECOND)
            .jitter(0.0);
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

//! Outages: requests fail, and may succeed later.
//!
//! The client has its own retries. When they are used up, the download rests and tries again by itself. What is there
//! plays on. Only a reader that waits for missing bytes gets the error, and its next read has the download try at once:
//!
//! ```text
//!   playing ── the client gives up ──▶ resting ──── pause over, or a reader waits ──▶ trying
//!      ▲                                  ▲                                             │
//!      │                                  └── failed: readers that have waited for ◀────┤
//!      │                                      the outage limit get the error            │
//!      └─────────────────────────── bytes come ◀────────────────────────────────────────┘
//! ```
//!
//! The beginning and the end are told: [`FileControl::OutageBegan`](super::FileControl::OutageBegan),
//! [`FileControl::OutageEnded`](super::FileControl::OutageEnded). When to try is decided here; `recovery` does it.

use std::time::{Duration, Instant};

/// The pause after the first failure in a row where no reader waits. Each further failure doubles it.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The same while a reader waits. Not zero: a reader that tries again at once must not become a storm of requests.
const WAITED_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_WAITED_PAUSE: Duration = Duration::from_secs(2);

/// An outage under way. Pure: the time is given.
#[derive(Debug)]
pub(super) struct Outage {
    /// Failures in a row.
    failures: u32,
    failed_at: Instant,
    /// Since when a reader has been waiting, as far as was seen.
    waited_since: Option<Instant>,
}

/// When the next request of an outage is made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextTry {
    Now,
    /// Rest for this long, or until the demand changes.
    After(Duration),
}

impl Outage {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            failures: 0,
            failed_at: now,
            waited_since: None,
        }
    }

    /// Whether nothing has failed yet.
    pub(super) fn is_new(&self) -> bool {
        self.failures == 0
    }

    /// A try has failed. Returns whether the readers that wait get the error: one of them has waited for `limit`.
    pub(super) fn failed(&mut self, now: Instant, is_waited_for: bool, limit: Duration) -> bool {
        // An outage may last for days.
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
        self.note(now, is_waited_for);
        let waited = self
            .waited_since
            .map(|since| now.saturating_duration_since(since));
        let is_over = waited.is_some_and(|waited| waited >= limit);
        if is_over {
            // Their next wait is a new one.
            self.waited_since = None;
        }
        is_over
    }

    pub(super) fn decide(&mut self, now: Instant, is_waited_for: bool) -> NextTry {
        self.note(now, is_waited_for);
        let (first, longest) = if is_waited_for {
            (WAITED_PAUSE, LONGEST_WAITED_PAUSE)
        } else {
            (PAUSE, LONGEST_PAUSE)
        };
        let doubled = 1_u32.checked_shl(self.failures.saturating_sub(1));
        // From the last failure on, and not from the last look: a look costs nothing, and does not put the next try off.
        let pause = first.saturating_mul(doubled.unwrap_or(u32::MAX)).min(longest);
        match pause.checked_sub(now.saturating_duration_since(self.failed_at)) {
            Some(rest) if !rest.is_zero() => NextTry::After(rest),
            _ => NextTry::Now,
        }
    }

    fn note(&mut self, now: Instant, is_waited_for: bool) {
        if is_waited_for {
            self.waited_since.get_or_insert(now);
        } else {
            // A reader that found its bytes in the buffer waits no more. The limit is for one wait, not for the outage.
            self.waited_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Plays an outage of `len` through, in which each try takes `a_try`. Returns when it ended for the readers, when
    /// errors were given out, and how many tries there were.
    fn play(
        len: Duration,
        buffered: Duration,
        a_try: Duration,
        limit: Duration,
    ) -> (Duration, Vec<Duration>, u32) {
        let start = Instant::now();
        let mut now = start;
        let mut outage = Outage::new(now);
        let (mut errors, mut tries) = (Vec::new(), 0);
        let is_waited_for = |now: Instant| now - start >= buffered;
        loop {
            now += a_try;
            tries += 1;
            if now - start >= len {
                return (now - start, errors, tries);
            }
            // A reader that got an error reads again at once.
            if outage.failed(now, is_waited_for(now), limit) {
                errors.push(now - start);
            }
            loop {
                match outage.decide(now, is_waited_for(now)) {
                    NextTry::Now => break,
                    // A reader whose buffer runs out changes the demand.
                    NextTry::After(rest) if now - start < buffered && now + rest - start > buffered => {
                        now = start + buffered;
                    }
                    NextTry::After(rest) => now += rest,
                }
            }
        }
    }

    /// W55.
    #[test]
    fn w55_nobody_gets_an_error_whose_buffer_outlasts_the_outage() {
        for a_try in [SECOND / 100, 4 * SECOND, 8 * SECOND] {
            let (end, errors, _) = play(12 * SECOND, 60 * SECOND, a_try, Duration::ZERO);
            assert_eq!(errors, [], "{a_try:?}");
            assert!(end <= 40 * SECOND, "{end:?} at {a_try:?}");
        }
    }

    /// W55: five minutes, with a minute of buffer.
    #[test]
    fn w55_an_outage_longer_than_the_buffer_is_an_error_for_who_waits_and_ends_by_itself() {
        let (end, errors, tries) = play(300 * SECOND, 60 * SECOND, 4 * SECOND, Duration::ZERO);
        assert!(errors.first().is_some_and(|first| *first >= 60 * SECOND));
        assert!(end <= 310 * SECOND && tries <= 60, "{end:?}, {tries}");
        // A reader that is told to wait gets none.
        let (end, errors, _) = play(300 * SECOND, 60 * SECOND, 4 * SECOND, 600 * SECOND);
        assert_eq!(errors, []);
        assert!(end <= 310 * SECOND);
        let (_, errors, _) = play(300 * SECOND, 60 * SECOND, 4 * SECOND, 100 * SECOND);
        assert!(errors.first().is_some_and(|first| *first >= 160 * SECOND));
    }

    /// Fault D5: refused at once, again and again, with a reader that insists.
    #[test]
    fn tries_become_rare() {
        let (_, _, tries) = play(300 * SECOND, Duration::ZERO, Duration::ZERO, Duration::ZERO);
        assert!(tries <= 160, "{tries}");
        let (_, _, tries) = play(3600 * SECOND, 7200 * SECOND, Duration::ZERO, Duration::ZERO);
        assert!(tries <= 130, "{tries}");
    }
}

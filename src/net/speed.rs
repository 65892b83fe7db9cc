//! The least speed of a body. A server that sends a byte now and then is never silent, and never done.

use std::time::{Duration, Instant};

/// So many bytes a second at least, on average over so much time of waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeastSpeed {
    /// Zero for no limit.
    pub(super) bytes_per_second: u64,
    pub(super) over: Duration,
}

/// The most that one gap counts as waiting. A consumer that pauses in a gap cannot be told from one that waits, and finds
/// the bytes of the pause at once.
const MAX_GAP: Duration = Duration::from_secs(5);

/// What has come since the last judgement, and the time that the consumer waited for it.
#[derive(Debug, Default)]
pub(super) struct Speed {
    waiting_since: Option<Instant>,
    waited: Duration,
    received: u64,
}

/// What a whole span of waiting brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Enough,
    /// So many bytes, in so much time.
    TooSlow(u64, Duration),
}

impl Speed {
    /// Nothing is there, at `now`: the consumer waits.
    pub(super) fn waits(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// Bytes came, at `now`. `None` while the span of waiting is not over.
    pub(super) fn comes(&mut self, bytes: u64, now: impl Fn() -> Instant, least: LeastSpeed) -> Option<Pace> {
        // Bytes that were there without a wait count too: they came in the same time.
        self.received += bytes;
        // Without a wait before them there is no time to count, and no need to look at the clock.
        let since = self.waiting_since.take()?;
        self.waited += now().saturating_duration_since(since).min(MAX_GAP);
        if self.waited < least.over {
            return None;
        }
        // A span is judged once and then forgotten: over a whole body a fast beginning would hide minutes of a trickle.
        let Self { received, waited, .. } = std::mem::take(self);
        let wanted = u128::from(least.bytes_per_second) * waited.as_millis() / 1000;
        let pace = if u128::from(received) < wanted {
            Pace::TooSlow(received, waited)
        } else {
            Pace::Enough
        };
        Some(pace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: LeastSpeed = LeastSpeed {
        bytes_per_second: 100,
        over: Duration::from_secs(10),
    };

    /// What each of many gaps, in seconds and followed by so many bytes, ends in.
    fn paces(gaps: &[(u64, u64)], least: LeastSpeed) -> Vec<Pace> {
        let mut speed = Speed::default();
        let mut now = Instant::now();
        let paces = gaps.iter().filter_map(|&(seconds, bytes)| {
            if seconds > 0 {
                speed.waits(now);
            }
            now += Duration::from_secs(seconds);
            speed.comes(bytes, || now, least)
        });
        paces.collect()
    }

    /// W44: an average over the time that was waited.
    #[test]
    fn a_trickle_is_told_from_a_slow_stream() {
        let slow = Pace::TooSlow(990, LEAST.over);
        assert_eq!(paces(&[(1, 99); 20], LEAST), [slow, slow]);
        assert_eq!(paces(&[(1, 100); 20], LEAST), [Pace::Enough, Pace::Enough]);
        // Once in a while much is as good as steadily little.
        assert_eq!(paces(&[(5, 0), (5, 1000)], LEAST), [Pace::Enough]);
        assert_eq!(
            paces(&[(5, 1), (5, 998)], LEAST),
            [Pace::TooSlow(999, LEAST.over)]
        );
        let none = LeastSpeed {
            bytes_per_second: 0,
            ..LEAST
        };
        assert_eq!(paces(&[(5, 0), (5, 0)], none), [Pace::Enough]);
    }

    #[test]
    fn a_pause_of_the_consumer_counts_little() {
        assert_eq!(paces(&[(600, 400), (5, 600)], LEAST), [Pace::Enough]);
        // What is there without a wait counts as bytes, and takes no time.
        assert_eq!(paces(&[(0, 1000), (5, 0), (5, 0)], LEAST), [Pace::Enough]);
    }
}

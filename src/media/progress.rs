//! How far a download is.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How many bytes there are in all, and how well that is known.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    /// So many: the server or the playlist says so, or all of them are there.
    Exact(u64),
    /// So many or more: what is there, where nothing says how much is missing.
    AtLeast(u64),
    /// About so many, by the playing time.
    Estimated(u64),
}

impl Total {
    /// The figure in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Exact(bytes) | Self::AtLeast(bytes) | Self::Estimated(bytes) => bytes,
        }
    }

    /// Whether it is known to the byte.
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Exact(_))
    }

    /// The sum. It is known as well as the less well known of the two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let bytes = self.bytes().saturating_add(other.bytes());
        match (self, other) {
            (Self::Exact(_), Self::Exact(_)) => Self::Exact(bytes),
            (Self::AtLeast(_), _) | (_, Self::AtLeast(_)) => Self::AtLeast(bytes),
            _ => Self::Estimated(bytes),
        }
    }
}

/// How far a download is. Of one download none of the figures goes back, but for the rate and what is estimated.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Bytes that have come, those of earlier sessions among them. Not all of them need be on the disk yet.
    pub bytes: u64,
    /// Bytes that there are.
    pub total: Total,
    /// How long that plays which is whole in the cache. `None` of a file, whose bytes tell no time.
    pub time: Option<Duration>,
    /// How long all of it plays.
    pub duration: Option<Duration>,
    /// Bytes a second that came in the last seconds.
    pub rate: u64,
    /// Whether the network is away. The download tries again by itself.
    pub is_away: bool,
    /// Whether all of it is in the cache, committed.
    pub is_complete: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            bytes: 0,
            total: Total::AtLeast(0),
            time: None,
            duration: None,
            rate: 0,
            is_away: false,
            is_complete: false,
        }
    }
}

impl Progress {
    /// From 0 to 1. It is 1 only when all of it is in the cache: what has come and is not committed does not reach the end.
    pub fn fraction(&self) -> f64 {
        if self.is_complete {
            return 1.0;
        }
        let by_time = || Some((self.time?.as_secs_f64(), self.duration?.as_secs_f64()));
        #[expect(clippy::cast_precision_loss, reason = "a bar")]
        let by_bytes = || (self.bytes as f64, self.total.bytes() as f64);
        let (done, all) = by_time().filter(|(_, all)| *all > 0.0).unwrap_or_else(by_bytes);
        let is_open = matches!(self.total, Total::AtLeast(_)) && self.duration.is_none();
        if is_open || all <= 0.0 {
            return 0.0;
        }
        (done / all).min(0.999)
    }

    /// How much longer it takes at the rate of the last seconds. `None` while nothing comes, or where nothing tells how much is
    /// missing.
    pub fn remaining(&self) -> Option<Duration> {
        if self.is_complete {
            return Some(Duration::ZERO);
        }
        if self.rate == 0 || matches!(self.total, Total::AtLeast(_)) {
            return None;
        }
        let missing = self.total.bytes().saturating_sub(self.bytes);
        Some(Duration::from_secs(missing / self.rate))
    }
}

/// The time over which the rate is taken.
const RATE_OVER: Duration = Duration::from_secs(5);

/// Bytes a second, over the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    /// When so many bytes had come in all.
    marks: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// So many bytes have come by `now`. Returns the rate.
    pub(crate) fn note(&mut self, now: Instant, bytes: u64) -> u64 {
        // A mark for each chunk would be many: ten a second are enough for a rate over seconds.
        let is_due = |(at, _): &(Instant, u64)| now.saturating_duration_since(*at) >= RATE_OVER / 50;
        if self.marks.back().is_none_or(is_due) {
            self.marks.push_back((now, bytes));
        }
        while self.marks.len() > 2
            && let Some((at, _)) = self.marks.get(1)
            && now.saturating_duration_since(*at) >= RATE_OVER
        {
            self.marks.pop_front();
        }
        let Some((since, before)) = self.marks.front() else {
            return 0;
        };
        let over = now.saturating_duration_since(*since).as_micros();
        let came = u128::from(bytes.saturating_sub(*before)) * 1_000_000;
        came.checked_div(over)
            .map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O3: the end is reached by what is committed, and by nothing else.
    #[test]
    fn o3_the_end_is_reached_only_when_all_is_committed() {
        let mut progress = Progress {
            bytes: 100,
            total: Total::Exact(100),
            ..Progress::default()
        };
        assert!(progress.fraction() < 1.0);
        progress.is_complete = true;
        assert!(progress.fraction() >= 1.0);
        let open = Progress {
            bytes: 100,
            total: Total::AtLeast(100),
            ..Progress::default()
        };
        assert!(open.fraction() <= 0.0 && open.remaining().is_none());
    }

    #[test]
    fn a_sum_is_known_as_well_as_its_parts() {
        let (exact, least, about) = (Total::Exact(1), Total::AtLeast(2), Total::Estimated(4));
        assert_eq!(exact.and(exact), Total::Exact(2));
        assert_eq!(exact.and(about), Total::Estimated(5));
        assert_eq!(about.and(least), Total::AtLeast(6));
    }

    #[test]
    fn the_rate_is_of_the_last_seconds() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rate.note(start, 500), 0, "what was there before came at no rate");
        assert_eq!(rate.note(at(1), 1500), 1000);
        for second in 2..20 {
            rate.note(at(second), 1500);
        }
        assert_eq!(rate.note(at(20), 1500), 0);
    }
}

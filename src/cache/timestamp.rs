//! Points in time, by which the cache orders accesses.

use std::time::{Duration, SystemTime};

use crate::storage::clock;

/// A point in time, in microseconds since 1970. Those that one cache gives out grow strictly, even when the system clock
/// is set back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The system clock's time. On Linux that of the last tick, at most 10 ms ago, as the modification times of files are.
    pub fn now() -> Self {
        Self(clock::micros())
    }

    /// How long before `now` this was; zero if it lies after `now`.
    pub fn age(self, now: Self) -> Duration {
        Duration::from_micros(now.0.saturating_sub(self.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(at: Timestamp) -> Self {
        Self::UNIX_EPOCH
            .checked_add(Duration::from_micros(at.0))
            .unwrap_or(Self::UNIX_EPOCH)
    }
}

//! Points in time as the cache orders its assets by them.

use std::time::{Duration, SystemTime};

/// A point in time: microseconds since 1970, strictly growing within a cache even when the clock is set back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The system clock's now; on Linux as of the last tick, at most 10 ms ago, as the times of its files are.
    pub fn now() -> Self {
        #[cfg(test)]
        return crate::storage::fake_disk::now().into();
        #[cfg(all(not(test), any(target_os = "linux", target_os = "android")))]
        return Self::last_tick();
        #[cfg(not(any(test, target_os = "linux", target_os = "android")))]
        SystemTime::now().into()
    }

    /// Reading the processor's counter, as the exact time does, waits for all that was begun before it: the cache
    /// misses of one touch could not overlap with those of the next.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn last_tick() -> Self {
        let tick = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let micros = tick
            .tv_sec
            .saturating_mul(1_000_000)
            .saturating_add(tick.tv_nsec / 1000);
        Self(u64::try_from(micros).unwrap_or_default())
    }

    /// How long ago this was at `now`; zero if it lies ahead.
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

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn the_last_tick_is_not_long_ago() {
        let before = Timestamp::from(SystemTime::now());
        let tick = Timestamp::last_tick();
        let after = Timestamp::from(SystemTime::now());
        assert!(tick <= after);
        assert!(before.age(tick) < Duration::from_secs(1) && tick.age(before) < Duration::from_millis(100));
    }
}

//! Points in time, by which the cache orders accesses.

use std::time::{Duration, SystemTime};

/// A point in time, in microseconds since 1970. Those that one cache gives out grow strictly, even when the system clock
/// is set back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The system clock's time. On Linux that of the last tick, at most 10 ms ago, as the modification times of files are.
    pub fn now() -> Self {
        #[cfg(test)]
        return crate::storage::fake_disk::now().into();
        #[cfg(all(not(test), any(target_os = "linux", target_os = "android")))]
        return Self::last_tick();
        #[cfg(not(any(test, target_os = "linux", target_os = "android")))]
        SystemTime::now().into()
    }

    /// The time of the last tick. The exact time would read the processor's counter, which waits for all instructions
    /// before it: the cache misses of one touch could then not overlap with those of the next.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn last_tick() -> Self {
        let tick = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let micros = tick
            .tv_sec
            .saturating_mul(1_000_000)
            .saturating_add(tick.tv_nsec / 1000);
        Self(u64::try_from(micros).unwrap_or_default())
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

//! The clock that timestamps are read from, which a test can set back.

#[cfg(any(test, feature = "test-util"))]
use std::cell::Cell;
#[cfg(any(test, feature = "test-util"))]
use std::time::Duration;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use std::time::SystemTime;

#[cfg(any(test, feature = "test-util"))]
// Of each thread, as tests run beside each other in one process.
thread_local! {
    static SET_BACK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The system clock, in microseconds since 1970; on Linux as of the last tick, at most 10 ms ago, as the times of its
/// files are.
pub(crate) fn micros() -> u64 {
    let now = system();
    // Only a build for tests has a clock that can be set.
    #[cfg(any(test, feature = "test-util"))]
    let now = now.saturating_sub(u64::try_from(SET_BACK.get().as_micros()).unwrap_or(u64::MAX));
    now
}

/// The time of the last tick. The exact time would read the processor's counter, which waits for all instructions before
/// it: the cache misses of one touch could then not overlap with those of the next.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn system() -> u64 {
    let tick = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let micros = tick
        .tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(tick.tv_nsec / 1000);
    u64::try_from(micros).unwrap_or_default()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn system() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Sets this thread's clock back by so much; by nothing, and it is right again.
#[cfg(any(test, feature = "test-util"))]
pub(super) fn set_back(by: Duration) {
    SET_BACK.set(by);
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_clock_is_not_far_off_and_can_be_set_back() {
        let exact = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            u64::try_from(since.unwrap().as_micros()).unwrap()
        };
        let before = exact();
        let read = micros();
        assert!(read <= exact());
        assert!(before.saturating_sub(read) < 100_000);
        set_back(Duration::from_secs(60));
        assert!(micros() < before - 59_000_000);
        set_back(Duration::ZERO);
        assert!(micros() >= read);
    }
}

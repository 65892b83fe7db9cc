//! What may change while a file is fetched: by the application, or by another source that joins.

use std::sync::atomic::{AtomicU64, Ordering};

use super::LookAhead;

/// How far ahead of its readers a file is fetched: as far as whoever wants most of it.
#[derive(Debug)]
pub(super) struct Dials {
    bytes_per_second: AtomicU64,
    bytes: AtomicU64,
    micros: AtomicU64,
}

impl Dials {
    pub(super) fn new(look_ahead: LookAhead, bytes_per_second: u64) -> Self {
        let dials = Self {
            bytes_per_second: AtomicU64::new(bytes_per_second),
            bytes: AtomicU64::new(0),
            micros: AtomicU64::new(0),
        };
        dials.widen(look_ahead);
        dials
    }

    pub(super) fn set_bytes_per_second(&self, bytes: u64) {
        self.bytes_per_second.store(bytes, Ordering::Relaxed);
    }

    /// From now on at least this.
    pub(super) fn widen(&self, look_ahead: LookAhead) {
        match look_ahead {
            LookAhead::Whole => self.bytes.store(u64::MAX, Ordering::Relaxed),
            LookAhead::Bytes(bytes) => drop(self.bytes.fetch_max(bytes, Ordering::Relaxed)),
            LookAhead::Time(time) => {
                let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                self.micros.fetch_max(micros, Ordering::Relaxed);
            }
        }
    }

    /// As much as `other` says, too.
    pub(super) fn widen_to(&self, other: &Self) {
        self.bytes
            .fetch_max(other.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.micros
            .fetch_max(other.micros.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// In bytes.
    pub(super) fn ahead(&self) -> u64 {
        let rate = u128::from(self.bytes_per_second.load(Ordering::Relaxed));
        let time = u128::from(self.micros.load(Ordering::Relaxed)) * rate / 1_000_000;
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        time.max(self.bytes.load(Ordering::Relaxed))
    }

    /// Whether all of the file is wanted.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_widest_wish_counts_at_the_rate_of_the_moment() {
        let dials = Dials::new(LookAhead::Time(Duration::from_millis(1500)), 1000);
        assert_eq!(dials.ahead(), 1500);
        dials.set_bytes_per_second(2000);
        assert_eq!(dials.ahead(), 3000);
        dials.widen(LookAhead::Bytes(2999));
        assert_eq!(dials.ahead(), 3000);
        dials.widen_to(&Dials::new(LookAhead::Bytes(4000), 1));
        assert_eq!((dials.ahead(), dials.is_whole()), (4000, false));
        dials.widen(LookAhead::Whole);
        assert!(dials.is_whole() && dials.ahead() == u64::MAX);
        let long = Dials::new(LookAhead::Time(Duration::MAX), u64::MAX);
        assert_eq!(long.ahead(), u64::MAX);
    }
}

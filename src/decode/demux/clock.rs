//! MPEG's clock: 33 bits at 90 kHz, told now and then, and counted in frames between.

use std::time::Duration;

use super::frames::Header;

/// Ticks per second.
pub(super) const RATE: u32 = 90_000;

/// Gives each frame its time: the last timestamp, plus the frames since.
#[derive(Debug, Default)]
pub(super) struct Clock {
    base: Option<i64>,
    /// Frames since `base`, at `sample_rate`.
    frames: u64,
    sample_rate: u32,
}

impl Clock {
    /// The next frame has this timestamp.
    pub(super) fn set(&mut self, timestamp: i64) {
        self.base = Some(timestamp);
        self.frames = 0;
    }

    /// The next frame is played at `time`, unless there is a better way to know its timestamp.
    pub(super) fn set_if_unknown(&mut self, time: Duration) {
        if self.base.is_none() {
            let ticks = time.as_nanos() * u128::from(RATE) / 1_000_000_000;
            self.set(i64::try_from(ticks).unwrap_or(0));
        }
    }

    /// The timestamp of the next frame.
    pub(super) fn now(&self) -> i64 {
        let ticks = u128::from(self.frames) * u128::from(RATE) / u128::from(self.sample_rate.max(1));
        self.base
            .unwrap_or(0)
            .saturating_add(i64::try_from(ticks).unwrap_or(0))
    }

    /// The timestamp of the next frame, which has this header; so many before it were lost.
    pub(super) fn advance(&mut self, header: Header, lost: u64) -> i64 {
        self.count(header, lost);
        let pts = self.now();
        self.count(header, 1);
        pts
    }

    fn count(&mut self, header: Header, frames: u64) {
        if self.sample_rate != header.sample_rate {
            self.base = self.base.map(|_| self.now());
            (self.frames, self.sample_rate) = (0, header.sample_rate);
        }
        self.frames += frames * u64::from(header.frames);
    }
}

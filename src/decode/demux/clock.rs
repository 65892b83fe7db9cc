//! MPEG's clock: 33 bits at 90 kHz, told now and then, and counted in frames between.

use std::time::Duration;

use super::frames::Header;

/// Ticks per second.
pub(super) const RATE: u32 = 90_000;
/// A segment that lacks more than this, 0.55 s, lacks frames.
const MISSING: i64 = 49_500;

/// Gives each frame its time: the last timestamp, plus the frames since.
#[derive(Debug, Default)]
pub(super) struct Clock {
    base: Option<i64>,
    /// Frames since `base`, at `sample_rate`.
    frames: u64,
    sample_rate: u32,
    /// Whether `base` was told, and is not the playlist's.
    told: bool,
    /// When the playlist starts the segment at hand, and the timestamp of its first frame.
    segment: Option<(Duration, i64)>,
}

impl Clock {
    /// The next frame has this timestamp.
    pub(super) fn set(&mut self, timestamp: i64) {
        self.base = Some(timestamp);
        (self.frames, self.told) = (0, true);
    }

    /// The next frame is the first one of a segment that the playlist starts at `time`.
    ///
    /// Where no timestamp was told that is all there is to go by: at first, and where the segment before was so much shorter
    /// than the playlist says that frames are missing. (Its times may be rounded to seconds.)
    pub(super) fn start_segment(&mut self, time: Duration) {
        let started = self.segment.replace((time, self.now()));
        // A clock that was told is exact, and the playlist's durations are rounded: adding them up would drift.
        if self.told {
            return;
        }
        let ticks = |time: Duration| {
            let ticks = time.as_nanos() * u128::from(RATE) / 1_000_000_000;
            i64::try_from(ticks).unwrap_or(0)
        };
        let missing = started.map(|(last, at)| ticks(time.saturating_sub(last)) - (self.now() - at));
        match missing {
            None => self.base = Some(ticks(time)),
            Some(missing) if missing > MISSING => {
                self.base = Some(self.now() + missing);
                self.frames = 0;
            }
            Some(_) => {}
        }
        self.segment = Some((time, self.now()));
    }

    /// The timestamp of the next frame.
    pub(super) fn now(&self) -> i64 {
        // From the last timestamp and in one division: a sum of rounded lengths would drift.
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
        // What was counted so far is of the old rate.
        if self.sample_rate != header.sample_rate {
            self.base = self.base.map(|_| self.now());
            (self.frames, self.sample_rate) = (0, header.sample_rate);
        }
        self.frames += frames * u64::from(header.frames);
    }
}

//! The time line of an HLS track: timestamps of segments, as frames counted from the start of the track.

use std::collections::BTreeMap;

/// MPEG's clock begins anew after so many ticks.
const WRAP: i128 = 1 << 33;

/// A timestamp in a track's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant {
    pub(super) pts: i64,
    /// Units per second.
    pub(super) scale: u32,
    pub(super) wraps: bool,
}

/// One instant whose place in the track is known.
///
/// All timestamps of one Discontinuity Sequence Number are on one line, in every Variant Stream (RFC 8216, 6.2.4). The anchor
/// puts that line on the track's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) at: Instant,
    /// Its frame, counted from the start of the track.
    pub(super) frame: i64,
    /// Frames per second.
    pub(super) rate: u32,
}

impl Anchor {
    /// The frame of another instant at `rate`, rounded to the nearest. `near` is about where it is: it decides how often a
    /// clock that wraps has begun anew.
    pub(super) fn frame_of(&self, instant: Instant, rate: u32, near: i64) -> i64 {
        let base = i128::from(rescale(self.frame, self.rate, rate));
        // In 128 bits and rounded once: two roundings, one for each clock, are a frame off now and then.
        let (ours, theirs) = (i128::from(self.at.scale.max(1)), i128::from(instant.scale.max(1)));
        let mut ticks = i128::from(instant.pts) * ours - i128::from(self.at.pts) * theirs;
        let per_second = ours * theirs;
        let rate = i128::from(rate);
        if instant.wraps && self.at.wraps {
            // Both clocks have the same unit: one turn is 2³³ of it.
            // The turn that brings it nearest to where it must be about: a timestamp alone does not tell how often the
            // clock has begun anew in a track of days.
            let turn = WRAP * ours;
            let expected = (i128::from(near) - base) * per_second / rate.max(1);
            ticks += round(expected - ticks, turn) * turn;
        }
        i64::try_from(base + round(ticks * rate, per_second)).unwrap_or(i64::MAX)
    }
}

fn round(numerator: i128, denominator: i128) -> i128 {
    // Euclidean, so that places before the anchor are rounded as those behind it are.
    (2 * numerator + denominator).div_euclid(2 * denominator.max(1))
}

/// A place in the track at another sample rate, rounded to the nearest.
pub(super) fn rescale(frame: i64, from: u32, to: u32) -> i64 {
    if from == to {
        return frame;
    }
    let frames = round(i128::from(frame) * i128::from(to), i128::from(from.max(1)));
    i64::try_from(frames).unwrap_or(i64::MAX)
}

/// The anchors found so far, by Discontinuity Sequence Number. A seek back finds the place that playing on had.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    anchors: BTreeMap<u64, Anchor>,
}

/// More runs than this are no track: those with the lowest numbers are forgotten.
const MAX_ANCHORS: usize = 4096;

impl Timeline {
    pub(super) fn get(&self, discontinuity: u64) -> Option<Anchor> {
        self.anchors.get(&discontinuity).copied()
    }

    pub(super) fn set(&mut self, discontinuity: u64, anchor: Anchor) {
        self.anchors.insert(discontinuity, anchor);
        if self.anchors.len() > MAX_ANCHORS {
            self.anchors.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MPEG: Instant = Instant {
        pts: 126_000,
        scale: 90_000,
        wraps: true,
    };

    fn at(pts: i64) -> Instant {
        Instant { pts, ..MPEG }
    }

    #[test]
    fn a_tick_of_the_clock_is_the_nearest_frame() {
        let anchor = Anchor {
            at: MPEG,
            frame: 0,
            rate: 44_100,
        };
        // Packets of 1 024 frames, whose ticks a packager rounds down.
        for packet in 0..100_000_i64 {
            let ticks = packet * 1024 * 90_000 / 44_100;
            assert_eq!(anchor.frame_of(at(126_000 + ticks), 44_100, 0), packet * 1024);
        }
    }

    #[test]
    fn a_clock_that_begins_anew_goes_on() {
        let start = (1 << 33) - 90_000;
        let anchor = Anchor {
            at: at(start),
            frame: 1000,
            rate: 48_000,
        };
        assert_eq!(anchor.frame_of(at(start + 45_000), 48_000, 0), 25_000);
        assert_eq!(anchor.frame_of(at(0), 48_000, 40_000), 49_000);
        assert_eq!(anchor.frame_of(at(90_000), 48_000, 97_000), 97_000);
        // Two turns later, some 53 hours.
        let turn = (1_i64 << 33) * 48_000 / 90_000;
        let far = anchor.frame_of(at(0), 48_000, 49_000 + 2 * turn);
        assert!((far - 49_000 - 2 * turn).abs() <= 1, "{far}");
        // Before the anchor.
        assert_eq!(anchor.frame_of(at(start - 90_000), 48_000, 0), 1000 - 48_000);
    }

    #[test]
    fn clocks_of_two_variants_meet() {
        let at = Instant {
            pts: 1024,
            scale: 44_100,
            wraps: false,
        };
        let anchor = Anchor {
            at,
            frame: 0,
            rate: 44_100,
        };
        let other = Instant {
            pts: 512 + 22_050,
            scale: 22_050,
            wraps: false,
        };
        assert_eq!(anchor.frame_of(other, 22_050, 0), 22_050);
        assert_eq!(anchor.frame_of(other, 44_100, 0), 44_100);
    }
}

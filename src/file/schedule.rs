//! What to fetch next. No I/O and no clock: from what is present and what is wanted to one step.
//!
//! 1. A byte somebody waits for, the longest wait first.
//! 2. Otherwise the first missing byte ahead of a reader, the nearest first.
//! 3. Otherwise, if all of it is wanted, the first hole.
//!
//! A lane under way that comes by there soon reads on. A jump opens another: `side` if it is small (the tail that
//! demuxers read) or another reader still follows `main`, which is parked meanwhile; else `main` moves, as it does where
//! there is room for no other: what is parked keeps its connection.

use std::ops::Range;

use crate::storage::Demand;

/// A gap this small is read through rather than jumped over.
const READ_ON: u64 = 64 * 1024;
/// The most a side lane asks for.
const SIDE: u64 = 2 * 1024 * 1024;

/// Less look-ahead than this would cost a request for each read.
pub(super) const LEAST_AHEAD: u64 = 16 * 1024;

/// Which of the two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Main,
    Side,
}

/// What a lane under way will bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) next: u64,
    pub(super) end: Option<u64>,
}

impl Span {
    fn covers(self, position: u64) -> bool {
        self.next <= position && self.end.is_none_or(|end| position < end)
    }

    /// Whether all of it has come; its end is only still to be told.
    pub(super) fn is_done(self) -> bool {
        self.end.is_some_and(|end| end <= self.next)
    }

    fn ends_soon(self) -> bool {
        self.end
            .is_some_and(|end| end.saturating_sub(self.next) <= READ_ON)
    }

    fn reaches_soon(self, position: u64) -> bool {
        self.covers(position) && position - self.next <= READ_ON
    }
}

/// All that a step depends on, but the bytes present.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) demand: Demand,
    pub(super) len: Option<u64>,
    pub(super) main: Option<Span>,
    pub(super) side: Option<Span>,
    /// Bytes wanted ahead of each reader.
    pub(super) ahead: u64,
    /// Whether holes are to be filled.
    pub(super) fill: bool,
    /// Whether the server serves ranges, as far as is known.
    pub(super) ranges: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing is wanted now.
    Wait,
    /// Let lanes go on; the main one only if so.
    Continue { main: bool },
    /// Ask for these bytes, to the end of the file without `end`.
    Request {
        slot: Slot,
        start: u64,
        end: Option<u64>,
    },
    /// The byte can only be had by reading the whole file again.
    Restart { position: u64 },
}

/// Decides, asking `missing` for the first missing range within one, and `has_room` whether there may be one connection
/// more.
pub(super) fn decide(
    snapshot: &Snapshot,
    missing: impl Fn(Range<u64>) -> Option<Range<u64>>,
    has_room: impl Fn() -> bool,
) -> Action {
    let Some(goal) = snapshot.goal(&missing) else {
        return match (snapshot.main, snapshot.side) {
            // At its end the connection is free for the next request.
            (Some(main), _) if main.ends_soon() => Action::Continue { main: true },
            (_, Some(_)) => Action::Continue { main: false },
            (_, None) => Action::Wait,
        };
    };
    if !snapshot.ranges {
        return match snapshot.main {
            Some(main) if main.next <= goal => Action::Continue { main: true },
            _ => Action::Restart { position: goal },
        };
    }
    if snapshot.main.is_some_and(|main| main.reaches_soon(goal)) {
        return Action::Continue { main: true };
    }
    if snapshot.side.is_some_and(|side| side.reaches_soon(goal)) {
        return Action::Continue { main: false };
    }
    let gap_end = missing(goal..u64::MAX)
        .map(|gap| gap.end)
        .filter(|end| *end != u64::MAX);
    let small = gap_end.is_some_and(|end| end - goal <= SIDE);
    // A side lane that is given up leaves its connection to the next one.
    let may_park = |main| {
        (small || snapshot.is_followed(main, goal, &missing)) && (snapshot.side.is_some() || has_room())
    };
    match snapshot.main {
        Some(main) if may_park(main) => Action::Request {
            slot: Slot::Side,
            start: goal,
            end: Some(gap_end.map_or(goal.saturating_add(SIDE), |end| {
                end.min(goal.saturating_add(SIDE))
            })),
        },
        _ => Action::Request {
            slot: Slot::Main,
            start: goal,
            end: gap_end.filter(|end| snapshot.len != Some(*end)),
        },
    }
}

impl Snapshot {
    fn goal(&self, missing: &impl Fn(Range<u64>) -> Option<Range<u64>>) -> Option<u64> {
        let waited = self
            .demand
            .waiting
            .iter()
            .find_map(|range| missing(range.clone()));
        if let Some(range) = waited {
            return Some(range.start);
        }
        let ahead = |position: &u64| {
            let gap = missing(*position..position.saturating_add(self.ahead))?;
            Some((gap.start - position, gap.start))
        };
        let nearest = self.demand.positions.iter().filter_map(ahead).min();
        if let Some((_, start)) = nearest {
            return Some(start);
        }
        let all = self.len.filter(|_| self.fill)?;
        missing(0..all).map(|gap| gap.start)
    }

    /// Whether a reader that does not want `goal` is about to read what `main` brings.
    fn is_followed(
        &self,
        main: Span,
        goal: u64,
        missing: &impl Fn(Range<u64>) -> Option<Range<u64>>,
    ) -> bool {
        self.demand.positions.iter().any(|position| {
            *position != goal
                && missing(*position..position.saturating_add(self.ahead))
                    .is_some_and(|gap| gap.start != goal && main.reaches_soon(gap.start))
        })
    }
}

/// The least to ask for: a request costs more than so many bytes.
const LEAST: u64 = 64 * 1024;
/// Who has come so far reads on.
const MOST: u64 = 8 * 1024 * 1024;

/// What was asked for last.
#[derive(Debug, Default)]
pub(super) struct ReadaheadRamp {
    /// `None` as long as nobody jumps.
    len: Option<u64>,
    end: u64,
}

impl ReadaheadRamp {
    /// Where to let a request end that begins at `start`, `ahead` of a reader being wanted; not beyond `end`.
    pub(super) fn next(&mut self, is_jump: bool, start: u64, ahead: u64, end: Option<u64>) -> Option<u64> {
        let first = Some(ahead.max(LEAST));
        self.len = match self.len {
            _ if is_jump => first,
            Some(_) if start != self.end => first,
            len => len.map(|len| len.saturating_mul(2)),
        };
        self.len = self.len.filter(|len| *len <= MOST);
        let Some(len) = self.len else { return end };
        self.end = start.saturating_add(len).min(end.unwrap_or(u64::MAX));
        Some(self.end)
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one range is one range")]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// A file of 100 MiB of which `present` is there.
    struct Case {
        present: Vec<Range<u64>>,
        snapshot: Snapshot,
        room: bool,
    }

    fn case(present: &[Range<u64>]) -> Case {
        Case {
            present: present.to_vec(),
            room: true,
            snapshot: Snapshot {
                demand: Demand::default(),
                len: Some(100 * MIB),
                main: None,
                side: None,
                ahead: u64::MAX,
                fill: true,
                ranges: true,
            },
        }
    }

    impl Case {
        fn reading(mut self, position: u64) -> Self {
            self.snapshot.demand.positions.push(position);
            self
        }

        fn waiting(mut self, range: Range<u64>) -> Self {
            self.snapshot.demand.positions.push(range.start);
            self.snapshot.demand.waiting.push(range);
            self
        }

        fn main(mut self, next: u64, end: Option<u64>) -> Self {
            self.snapshot.main = Some(Span { next, end });
            self
        }

        fn side(mut self, next: u64, end: u64) -> Self {
            self.snapshot.side = Some(Span { next, end: Some(end) });
            self
        }

        fn decide(&self) -> Action {
            let missing = |range: Range<u64>| {
                let end = self.snapshot.len.map_or(range.end, |len| len.min(range.end));
                let mut start = range.start;
                for there in &self.present {
                    if there.contains(&start) {
                        start = there.end;
                    }
                }
                let next = self
                    .present
                    .iter()
                    .map(|there| there.start)
                    .find(|at| *at > start);
                (start < end).then(|| start..end.min(next.unwrap_or(u64::MAX)))
            };
            decide(&self.snapshot, missing, || self.room)
        }
    }

    fn open(slot: Slot, start: u64, end: Option<u64>) -> Action {
        Action::Request { slot, start, end }
    }

    #[test]
    fn a_fresh_file_is_asked_for_from_the_reader_on() {
        assert_eq!(case(&[]).waiting(0..4096).decide(), open(Slot::Main, 0, None));
        assert_eq!(
            case(&[]).waiting(50 * MIB..51 * MIB).decide(),
            open(Slot::Main, 50 * MIB, None)
        );
    }

    #[test]
    fn a_lane_that_comes_by_soon_reads_on() {
        let case = case(&[0..MIB]).waiting(MIB + 1000..MIB + 2000).main(MIB, None);
        assert_eq!(case.decide(), Action::Continue { main: true });
    }

    /// Fault B3, B16.
    #[test]
    fn the_tail_is_one_small_request_and_main_is_parked() {
        let tail = 100 * MIB - 8192;
        let jumped = case(&[0..MIB]).waiting(tail..tail + 4096).main(MIB, None);
        assert_eq!(jumped.decide(), open(Slot::Side, tail, Some(100 * MIB)));
        let under_way = case(&[0..MIB])
            .waiting(tail..tail + 4096)
            .main(MIB, None)
            .side(tail, 100 * MIB);
        assert_eq!(under_way.decide(), Action::Continue { main: false });
        let back = case(&[0..MIB, tail..100 * MIB])
            .waiting(MIB..MIB + 10)
            .main(MIB, None);
        assert_eq!(back.decide(), Action::Continue { main: true });
    }

    #[test]
    fn a_long_jump_moves_main_up_to_what_is_there() {
        let case = case(&[0..MIB, 60 * MIB..61 * MIB])
            .waiting(50 * MIB..51 * MIB)
            .main(MIB, None);
        assert_eq!(case.decide(), open(Slot::Main, 50 * MIB, Some(60 * MIB)));
    }

    #[test]
    fn main_stays_with_a_reader_that_follows_it() {
        let case = case(&[0..MIB])
            .reading(1000)
            .waiting(50 * MIB..51 * MIB)
            .main(MIB, None);
        assert_eq!(case.decide(), open(Slot::Side, 50 * MIB, Some(52 * MIB)));
    }

    /// What is parked would keep the connection that the side lane waits for.
    #[test]
    fn where_there_is_no_room_main_moves() {
        let tail = 100 * MIB - 8192;
        let mut jumped = case(&[0..MIB]).waiting(tail..tail + 4096).main(MIB, None);
        jumped.room = false;
        assert_eq!(jumped.decide(), open(Slot::Main, tail, None));
        let mut followed = case(&[0..MIB])
            .reading(1000)
            .waiting(50 * MIB..51 * MIB)
            .main(MIB, None);
        followed.room = false;
        assert_eq!(followed.decide(), open(Slot::Main, 50 * MIB, None));
        let replaced = followed.side(20 * MIB, 22 * MIB);
        assert_eq!(replaced.decide(), open(Slot::Side, 50 * MIB, Some(52 * MIB)));
    }

    #[test]
    fn what_was_skipped_is_fetched_afterwards_in_order() {
        let holes = [0..MIB, 2 * MIB..3 * MIB, 4 * MIB..100 * MIB];
        let done = case(&holes).reading(50 * MIB);
        assert_eq!(done.decide(), open(Slot::Main, MIB, Some(2 * MIB)));
        let mut sparing = case(&holes).reading(50 * MIB);
        sparing.snapshot.fill = false;
        assert_eq!(sparing.decide(), Action::Wait);
    }

    #[test]
    fn look_ahead_ends_and_begins_again_as_the_reader_advances() {
        let mut case = case(&[0..2 * MIB]).reading(0).main(2 * MIB, None);
        (case.snapshot.ahead, case.snapshot.fill) = (MIB, false);
        assert_eq!(case.decide(), Action::Wait);
        case.snapshot.demand.positions = vec![MIB + 1];
        assert_eq!(case.decide(), Action::Continue { main: true });
    }

    /// Its connection can then be used again.
    #[test]
    fn a_lane_with_little_left_is_read_to_its_end() {
        let mut case = case(&[0..2 * MIB]).reading(0).main(2 * MIB, Some(2 * MIB + 1000));
        (case.snapshot.ahead, case.snapshot.fill) = (MIB, false);
        assert_eq!(case.decide(), Action::Continue { main: true });
        case.snapshot.main = Some(Span {
            next: 2 * MIB,
            end: Some(3 * MIB),
        });
        assert_eq!(case.decide(), Action::Wait);
    }

    /// A jump on a server without ranges waits, and one back to bytes that are gone starts over.
    #[test]
    fn without_ranges_there_is_only_forward() {
        let mut case = case(&[0..MIB]).waiting(90 * MIB..91 * MIB).main(MIB, None);
        case.snapshot.ranges = false;
        assert_eq!(case.decide(), Action::Continue { main: true });
        case.snapshot.main = None;
        assert_eq!(case.decide(), Action::Restart { position: 90 * MIB });
    }

    #[test]
    fn nothing_is_wanted_of_a_whole_file() {
        assert_eq!(case(&[0..100 * MIB]).reading(7).decide(), Action::Wait);
    }
}

#[cfg(test)]
mod ramp_tests {
    use super::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    #[test]
    fn who_never_jumps_asks_for_all_of_it() {
        let mut ramp = ReadaheadRamp::default();
        assert_eq!(ramp.next(false, 0, 16 * KIB, None), None);
        assert_eq!(ramp.next(false, MIB, 16 * KIB, Some(2 * MIB)), Some(2 * MIB));
    }

    #[test]
    fn a_jump_asks_for_little_and_who_stays_for_more_and_more() {
        let mut ramp = ReadaheadRamp::default();
        let mut at = 100 * MIB;
        for part in [
            64 * KIB,
            128 * KIB,
            256 * KIB,
            512 * KIB,
            MIB,
            2 * MIB,
            4 * MIB,
            8 * MIB,
        ] {
            assert_eq!(ramp.next(part == 64 * KIB, at, 16 * KIB, None), Some(at + part));
            at += part;
        }
        assert_eq!(ramp.next(false, at, 16 * KIB, None), None);
        assert_eq!(ramp.next(false, 0, 16 * KIB, None), None, "as before the jump");
    }

    #[test]
    fn a_jump_after_a_whole_answer_is_one_too() {
        let mut ramp = ReadaheadRamp::default();
        assert_eq!(ramp.next(true, 0, MIB, None), Some(MIB));
        assert_eq!(ramp.next(false, 50 * MIB, MIB, None), Some(51 * MIB));
        assert_eq!(ramp.next(false, 51 * MIB, MIB, None), Some(53 * MIB));
    }

    #[test]
    fn what_is_there_already_is_not_asked_for() {
        let mut ramp = ReadaheadRamp::default();
        assert_eq!(ramp.next(true, 0, MIB, Some(100 * KIB)), Some(100 * KIB));
        assert_eq!(ramp.next(true, 0, 100 * MIB, Some(KIB)), Some(KIB));
        assert_eq!(ramp.next(true, 0, 100 * MIB, None), None, "a long look-ahead");
    }
}

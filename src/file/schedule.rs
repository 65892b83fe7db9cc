//! What to request next. Pure: a [`Snapshot`] goes in, an [`Action`] comes out; no I/O and no clock.
//!
//! The goal is one missing byte:
//!
//! 1. one that a reader waits for, the longest wait first;
//! 2. otherwise the first one within a reader's look-ahead, the nearest first;
//! 3. otherwise, if the whole file is wanted, the first one of the file.
//!
//! A transfer under way that reaches the goal soon continues. A jump starts another one:
//!
//! ```text
//!   is the gap small (the tail that demuxers read),
//!   or does another reader still follow main?
//!        │ yes                                │ no
//!   a connection free, or side in use?        │
//!        │ yes            │ no                │
//!   side fetches it,      └────▶ main moves to the goal ◀┘
//!   main is parked
//! ```
//!
//! A parked transfer keeps its connection. So main moves where the side transfer would have to wait for that very one.

use std::ops::Range;

use crate::storage::Demand;

/// A gap up to this many bytes is read through: that costs less than a request.
const READ_THROUGH: u64 = 64 * 1024;
/// The most bytes of a side transfer.
const SIDE_LIMIT: u64 = 2 * 1024 * 1024;

/// The least look-ahead, in bytes. A shorter one would cost a request for each read.
pub(super) const MIN_LOOK_AHEAD: u64 = 16 * 1024;

/// One of the two places for a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Reads ahead.
    Main,
    /// Serves a small jump while main is parked.
    Side,
}

/// What a transfer will bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Where the next bytes belong.
    pub(super) next: u64,
    /// Where the request ends. `None`: at the end of the file.
    pub(super) end: Option<u64>,
}

impl Span {
    fn covers(self, position: u64) -> bool {
        self.next <= position && self.end.is_none_or(|end| position < end)
    }

    /// Whether all bytes have come. Only the end is still to be told.
    pub(super) fn is_done(self) -> bool {
        self.end.is_some_and(|end| end <= self.next)
    }

    fn ends_soon(self) -> bool {
        self.end
            .is_some_and(|end| end.saturating_sub(self.next) <= READ_THROUGH)
    }

    fn reaches_soon(self, position: u64) -> bool {
        self.covers(position) && position - self.next <= READ_THROUGH
    }
}

/// All that a decision depends on, apart from which bytes are present.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) demand: Demand,
    /// The file's length, if it is known.
    pub(super) len: Option<u64>,
    pub(super) main: Option<Span>,
    pub(super) side: Option<Span>,
    /// Bytes wanted ahead of each reader.
    pub(super) look_ahead: u64,
    /// Whether the whole file is wanted.
    pub(super) fill: bool,
    /// Whether the server serves ranges, as far as is known.
    pub(super) ranges: bool,
}

/// What to do until something changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing is wanted now. Transfers are parked.
    Wait,
    /// The side transfer continues, and the main one if `main`.
    Continue { main: bool },
    /// Request these bytes; without `end` to the end of the file.
    Request {
        slot: Slot,
        start: u64,
        end: Option<u64>,
    },
    /// The byte at `position` can be had only by reading the file from its start again.
    Restart { position: u64 },
}

/// Decides. `missing` gives the first missing range within a range; `has_room` tells whether one more connection may be
/// used.
pub(super) fn decide(
    snapshot: &Snapshot,
    missing: impl Fn(Range<u64>) -> Option<Range<u64>>,
    has_room: impl Fn() -> bool,
) -> Action {
    let Some(goal) = snapshot.goal(&missing) else {
        return match (snapshot.main, snapshot.side) {
            // Read to its end, a transfer leaves its connection to the next request. Abandoned, it closes it.
            (Some(main), _) if main.ends_soon() => Action::Continue { main: true },
            (_, Some(_)) => Action::Continue { main: false },
            (_, None) => Action::Wait,
        };
    };
    // One response, from the first byte to the last. A goal ahead of its position comes in time, one behind it never does.
    if !snapshot.ranges {
        return match snapshot.main {
            Some(main) if main.next <= goal => Action::Continue { main: true },
            _ => Action::Restart { position: goal },
        };
    }
    if snapshot.main.is_some_and(|main| main.reaches_soon(goal)) {
        return Action::Continue { main: true };
    }
    // After main: where both would bring it, the side transfer is read to its end and gives its connection back.
    if snapshot.side.is_some_and(|side| side.reaches_soon(goal)) {
        return Action::Continue { main: false };
    }
    // The gap ends at bytes that are present, or at the end of the file if its length is known.
    let gap_end = missing(goal..u64::MAX)
        .map(|gap| gap.end)
        .filter(|end| *end != u64::MAX);
    let is_small = gap_end.is_some_and(|end| end - goal <= SIDE_LIMIT);
    // A side transfer that is replaced leaves its place among the connections to the next one.
    let may_park = |main| {
        (is_small || snapshot.is_followed(main, goal, &missing)) && (snapshot.side.is_some() || has_room())
    };
    match snapshot.main {
        Some(main) if may_park(main) => Action::Request {
            slot: Slot::Side,
            start: goal,
            end: Some(gap_end.map_or(goal.saturating_add(SIDE_LIMIT), |end| {
                end.min(goal.saturating_add(SIDE_LIMIT))
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
    /// The missing byte that is wanted first.
    fn goal(&self, missing: &impl Fn(Range<u64>) -> Option<Range<u64>>) -> Option<u64> {
        // A wait comes before any look-ahead: a decoder stands still until its byte is there.
        let waited = self
            .demand
            .waiting
            .iter()
            .find_map(|range| missing(range.clone()));
        if let Some(range) = waited {
            return Some(range.start);
        }
        let ahead = |position: &u64| {
            let gap = missing(*position..position.saturating_add(self.look_ahead))?;
            Some((gap.start - position, gap.start))
        };
        // The nearest to its reader, and not the first in the file: the one that is about to stall comes first.
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
                && missing(*position..position.saturating_add(self.look_ahead))
                    .is_some_and(|gap| gap.start != goal && main.reaches_soon(gap.start))
        })
    }
}

/// The size of a request where the whole file is not wanted.
///
/// After a jump nobody knows how long the reader stays. A response without an end would fill the system's buffers with
/// megabytes, and the next jump would throw them away, with the connection. So a jump requests the look-ahead; each request
/// that starts where the last one ended asks for twice as much, and soon for the rest.
#[derive(Debug, Default)]
pub(super) struct ReadaheadRamp {
    /// Bytes of the last request. `None` before the first jump and after the ramp's end: requests have no limit.
    len: Option<u64>,
    /// Where the last request ends.
    end: u64,
}

impl ReadaheadRamp {
    /// The least bytes of a request: fewer cost more than they spare.
    const MIN: u64 = 64 * 1024;
    /// A reader that has come so far reads on.
    const MAX: u64 = 8 * 1024 * 1024;

    /// Where a request that begins at `start` ends; not behind `end`.
    pub(super) fn request_end(
        &mut self,
        is_jump: bool,
        start: u64,
        look_ahead: u64,
        end: Option<u64>,
    ) -> Option<u64> {
        // A request that does not start where the last one ended is a jump too, after a response that came to its end.
        let first = Some(look_ahead.max(Self::MIN));
        self.len = match self.len {
            _ if is_jump => first,
            Some(_) if start != self.end => first,
            len => len.map(|len| len.saturating_mul(2)),
        };
        self.len = self.len.filter(|len| *len <= Self::MAX);
        // The ramp is over: the reader has come so far that a request without an end wastes nothing.
        let Some(len) = self.len else { return end };
        self.end = start.saturating_add(len).min(end.unwrap_or(u64::MAX));
        Some(self.end)
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one range is one range")]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

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
                look_ahead: u64::MAX,
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

    fn request(slot: Slot, start: u64, end: Option<u64>) -> Action {
        Action::Request { slot, start, end }
    }

    #[test]
    fn a_new_file_is_requested_from_the_reader_on() {
        assert_eq!(case(&[]).waiting(0..4096).decide(), request(Slot::Main, 0, None));
        assert_eq!(
            case(&[]).waiting(50 * MIB..51 * MIB).decide(),
            request(Slot::Main, 50 * MIB, None)
        );
    }

    #[test]
    fn a_transfer_that_reaches_the_goal_soon_continues() {
        let case = case(&[0..MIB]).waiting(MIB + 1000..MIB + 2000).main(MIB, None);
        assert_eq!(case.decide(), Action::Continue { main: true });
    }

    /// Faults B3, B16.
    #[test]
    fn the_tail_is_one_small_request_and_main_is_parked() {
        let tail = 100 * MIB - 8192;
        let jumped = case(&[0..MIB]).waiting(tail..tail + 4096).main(MIB, None);
        assert_eq!(jumped.decide(), request(Slot::Side, tail, Some(100 * MIB)));
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
        assert_eq!(case.decide(), request(Slot::Main, 50 * MIB, Some(60 * MIB)));
    }

    #[test]
    fn main_stays_with_a_reader_that_follows_it() {
        let case = case(&[0..MIB])
            .reading(1000)
            .waiting(50 * MIB..51 * MIB)
            .main(MIB, None);
        assert_eq!(case.decide(), request(Slot::Side, 50 * MIB, Some(52 * MIB)));
    }

    /// A parked main transfer would keep the connection that the side transfer waits for.
    #[test]
    fn where_there_is_no_room_main_moves() {
        let tail = 100 * MIB - 8192;
        let mut jumped = case(&[0..MIB]).waiting(tail..tail + 4096).main(MIB, None);
        jumped.room = false;
        assert_eq!(jumped.decide(), request(Slot::Main, tail, None));
        let mut followed = case(&[0..MIB])
            .reading(1000)
            .waiting(50 * MIB..51 * MIB)
            .main(MIB, None);
        followed.room = false;
        assert_eq!(followed.decide(), request(Slot::Main, 50 * MIB, None));
        let replaced = followed.side(20 * MIB, 22 * MIB);
        assert_eq!(replaced.decide(), request(Slot::Side, 50 * MIB, Some(52 * MIB)));
    }

    #[test]
    fn skipped_ranges_are_fetched_afterwards_in_order() {
        let holes = [0..MIB, 2 * MIB..3 * MIB, 4 * MIB..100 * MIB];
        let done = case(&holes).reading(50 * MIB);
        assert_eq!(done.decide(), request(Slot::Main, MIB, Some(2 * MIB)));
        let mut sparing = case(&holes).reading(50 * MIB);
        sparing.snapshot.fill = false;
        assert_eq!(sparing.decide(), Action::Wait);
    }

    #[test]
    fn look_ahead_ends_and_begins_again_as_the_reader_advances() {
        let mut case = case(&[0..2 * MIB]).reading(0).main(2 * MIB, None);
        (case.snapshot.look_ahead, case.snapshot.fill) = (MIB, false);
        assert_eq!(case.decide(), Action::Wait);
        case.snapshot.demand.positions = vec![MIB + 1];
        assert_eq!(case.decide(), Action::Continue { main: true });
    }

    /// Its connection can be used again then.
    #[test]
    fn a_transfer_with_little_left_is_read_to_its_end() {
        let mut case = case(&[0..2 * MIB]).reading(0).main(2 * MIB, Some(2 * MIB + 1000));
        (case.snapshot.look_ahead, case.snapshot.fill) = (MIB, false);
        assert_eq!(case.decide(), Action::Continue { main: true });
        case.snapshot.main = Some(Span {
            next: 2 * MIB,
            end: Some(3 * MIB),
        });
        assert_eq!(case.decide(), Action::Wait);
    }

    /// A jump forward waits. A jump back to bytes that are gone starts over.
    #[test]
    fn without_ranges_there_is_only_forward() {
        let mut case = case(&[0..MIB]).waiting(90 * MIB..91 * MIB).main(MIB, None);
        case.snapshot.ranges = false;
        assert_eq!(case.decide(), Action::Continue { main: true });
        case.snapshot.main = None;
        assert_eq!(case.decide(), Action::Restart { position: 90 * MIB });
    }

    #[test]
    fn nothing_is_wanted_of_a_complete_file() {
        assert_eq!(case(&[0..100 * MIB]).reading(7).decide(), Action::Wait);
    }

    #[test]
    fn without_a_jump_a_request_has_no_limit() {
        let mut ramp = ReadaheadRamp::default();
        assert_eq!(ramp.request_end(false, 0, 16 * KIB, None), None);
        assert_eq!(
            ramp.request_end(false, MIB, 16 * KIB, Some(2 * MIB)),
            Some(2 * MIB)
        );
    }

    #[test]
    fn a_jump_asks_for_little_and_each_contiguous_request_for_twice_as_much() {
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
            assert_eq!(
                ramp.request_end(part == 64 * KIB, at, 16 * KIB, None),
                Some(at + part)
            );
            at += part;
        }
        assert_eq!(ramp.request_end(false, at, 16 * KIB, None), None);
        assert_eq!(
            ramp.request_end(false, 0, 16 * KIB, None),
            None,
            "as before the jump"
        );
    }

    #[test]
    fn a_jump_after_a_finished_response_is_one_too() {
        let mut ramp = ReadaheadRamp::default();
        assert_eq!(ramp.request_end(true, 0, MIB, None), Some(MIB));
        assert_eq!(ramp.request_end(false, 50 * MIB, MIB, None), Some(51 * MIB));
        assert_eq!(ramp.request_end(false, 51 * MIB, MIB, None), Some(53 * MIB));
    }

    #[test]
    fn present_bytes_are_not_requested() {
        let mut ramp = ReadaheadRamp::default();
        assert_eq!(ramp.request_end(true, 0, MIB, Some(100 * KIB)), Some(100 * KIB));
        assert_eq!(ramp.request_end(true, 0, 100 * MIB, Some(KIB)), Some(KIB));
        assert_eq!(
            ramp.request_end(true, 0, 100 * MIB, None),
            None,
            "a long look-ahead"
        );
    }
}

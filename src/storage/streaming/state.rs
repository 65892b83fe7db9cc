//! The table under the lock of `presence`: what is there, who sits and waits, and the one rule by which a wait ends.
//!
//! Plain data; nothing here locks, wakes or drops what is foreign. What a change owes goes into [`After`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use rangemap::RangeSet;

use super::bell::{After, Bell, Hook};
use super::{Condition, Demand, Status, WaitError, Waited};

/// A reader's steady advance is told to the demand watchers each time it amounts to this many bytes.
const ADVANCE_TOLD: u64 = 64 * 1024;

pub(super) struct State<E> {
    pub(super) present: RangeSet<u64>,
    pub(super) len: Option<u64>,
    pub(super) condition: Condition<E>,
    /// A commit is under way.
    pub(super) sealed: bool,
    pub(super) seats: BTreeMap<u64, Seat<E>>,
    /// Names seats and watchers; never used twice, so a late call for one that left meets nobody.
    pub(super) next_id: u64,
    /// Handles and waiters of the reading side; at none, demand is over.
    pub(super) handles: usize,
    /// Runs when demand is over.
    pub(super) unwanted: Option<Hook>,
    pub(super) stalls: u64,
    pub(super) demand: Bell,
    pub(super) status: Bell,
    pub(super) role: Bell,
}

/// One who may wait, and if it reads in order, where it reads.
pub(super) struct Seat<E> {
    pub(super) place: Option<Place>,
    pub(super) want: Option<Want>,
    pub(super) waker: Option<Waker>,
    /// The failure that met this seat waiting, kept until it is delivered: a new writer does not undo it.
    pub(super) failed: Option<Arc<E>>,
    pub(super) interrupted: bool,
}

pub(super) struct Place {
    position: u64,
    /// Where the next read starts if it does not jump.
    expected: u64,
    told: u64,
}

pub(super) struct Want {
    /// Must be present for the wait to end.
    needed: Range<u64>,
    /// Told to the fetcher: what will be read as soon as it can be.
    asked: Range<u64>,
    /// Order of asking.
    since: u64,
}

/// What lies at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// So many bytes, at least one.
    Bytes(u64),
    Missing,
    End,
}

/// Why the writer's role was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoleRefused {
    Taken,
    Complete,
    Discarded,
}

/// The end that was said does not fit what is known: an end already known, or the end of the bytes present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndConflict {
    pub(super) known: u64,
}

impl<E> State<E> {
    pub(super) fn new(present: RangeSet<u64>, len: Option<u64>, complete: bool) -> Self {
        Self {
            present,
            len,
            condition: if complete {
                Condition::Complete
            } else {
                Condition::Idle
            },
            sealed: false,
            seats: BTreeMap::new(),
            next_id: 0,
            handles: 0,
            unwanted: None,
            stalls: 0,
            demand: Bell::new(),
            status: Bell::new(),
            role: Bell::new(),
        }
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A seat; with `reads_at`, a reader's.
    pub(super) fn sit(&mut self, reads_at: Option<u64>, after: &mut After<E>) -> u64 {
        let id = self.new_id();
        if reads_at.is_some() {
            self.demand.ring(after);
        }
        let place = reads_at.map(|position| Place {
            position,
            expected: position,
            told: position,
        });
        let seat = Seat {
            place,
            want: None,
            waker: None,
            failed: None,
            interrupted: false,
        };
        self.seats.insert(id, seat);
        id
    }

    /// The reader on `seat` is at `position` and finds what lies `ahead`.
    pub(super) fn note_read(&mut self, seat: u64, position: u64, ahead: Ahead, after: &mut After<E>) {
        let Some(place) = self.seats.get_mut(&seat).and_then(|seat| seat.place.as_mut()) else {
            return;
        };
        let jumped = position != place.expected;
        place.position = position;
        place.expected = match ahead {
            Ahead::Bytes(count) => position + count,
            Ahead::Missing | Ahead::End => position,
        };
        if jumped || position.saturating_sub(place.told) >= ADVANCE_TOLD {
            place.told = position;
            self.demand.ring(after);
        }
    }

    /// The one wake rule: the range is present, or the end is proven to lie before it or in it with all before the
    /// end present.
    pub(super) fn verdict(&self, range: &Range<u64>) -> Option<Waited> {
        let end = match self.len {
            Some(len) if range.start >= len => return Some(Waited::End { len }),
            Some(len) => range.end.min(len),
            None => range.end,
        };
        let covered = range.start >= end
            || self
                .present
                .get(&range.start)
                .is_some_and(|there| there.end >= end);
        covered.then_some(Waited::Present(range.start..end))
    }

    pub(super) fn ahead(&self, position: u64, limit: u64) -> Ahead {
        if self.len.is_some_and(|len| position >= len) {
            return Ahead::End;
        }
        match self.present.get(&position) {
            Some(there) if limit > 0 => Ahead::Bytes(limit.min(there.end - position)),
            _ => Ahead::Missing,
        }
    }

    pub(super) fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let end = self.len.map_or(range.end, |len| range.end.min(len));
        if range.start >= end {
            return Vec::new();
        }
        self.present.gaps(&(range.start..end)).collect()
    }

    /// Wakes each waiter whose own range is settled now, and nobody else.
    pub(super) fn wake_settled(&mut self, after: &mut After<E>) {
        let mut woken: Vec<u64> = Vec::new();
        for (id, seat) in &self.seats {
            if let (Some(want), Some(_)) = (&seat.want, &seat.waker)
                && self.verdict(&want.needed).is_some()
            {
                woken.push(*id);
            }
        }
        for id in woken {
            if let Some(seat) = self.seats.get_mut(&id) {
                after.wakers.extend(seat.waker.take());
            }
        }
    }

    pub(super) fn set_condition(&mut self, condition: Condition<E>, after: &mut After<E>) {
        if let Condition::Failed(cause) | Condition::Discarded(cause) =
            std::mem::replace(&mut self.condition, condition)
        {
            after.causes.push(cause);
        }
        self.status.ring(after);
        self.role.ring(after);
    }

    /// How the wait of `id` for `needed` ends, if it ends now.
    pub(super) fn answer(
        &mut self,
        id: u64,
        needed: &Range<u64>,
        after: &mut After<E>,
    ) -> Option<Result<Waited, WaitError<E>>> {
        let verdict = self.verdict(needed);
        let seat = self.seats.get_mut(&id)?;
        let failed = seat.failed.take();
        if let Some(waited) = verdict {
            after.causes.extend(failed);
            return Some(Ok(waited));
        }
        let standing = match &self.condition {
            Condition::Failed(cause) | Condition::Discarded(cause) => Some(cause.clone()),
            Condition::Idle | Condition::Writing | Condition::Complete => None,
        };
        match failed.or(standing) {
            Some(source) => Some(Err(WaitError::Failed { source })),
            None => seat.interrupted.then_some(Err(WaitError::Interrupted)),
        }
    }

    pub(super) fn begin_wait(
        &mut self,
        id: u64,
        needed: &Range<u64>,
        asked: &Range<u64>,
        after: &mut After<E>,
    ) {
        let Some(seat) = self.seats.get_mut(&id) else {
            return;
        };
        if seat.want.as_ref().is_some_and(|want| want.asked == *asked) {
            return;
        }
        let since = self.new_id();
        let Some(seat) = self.seats.get_mut(&id) else {
            return;
        };
        let begins = seat.want.is_none();
        seat.want = Some(Want {
            needed: needed.clone(),
            asked: asked.clone(),
            since,
        });
        self.demand.ring(after);
        if begins && seat.place.is_some() {
            self.stalls += 1;
            self.status.ring(after);
        }
    }

    pub(super) fn end_wait(&mut self, id: u64, after: &mut After<E>) {
        if let Some(seat) = self.seats.get_mut(&id) {
            after.stale.extend(seat.waker.take());
            if seat.want.take().is_some() && seat.place.is_some() {
                self.status.ring(after);
            }
        }
    }

    pub(super) fn snapshot_demand(&self) -> Demand {
        let mut wants: Vec<&Want> = self
            .seats
            .values()
            .filter_map(|seat| seat.want.as_ref())
            .collect();
        wants.sort_by_key(|want| want.since);
        Demand {
            waiting: wants.iter().flat_map(|want| self.missing(&want.asked)).collect(),
            positions: self.places().map(|place| place.position).collect(),
        }
    }

    pub(super) fn snapshot_status(&self) -> Status<E> {
        Status {
            available: self.present.iter().cloned().collect(),
            len: self.len,
            condition: self.condition.clone(),
            stalled_at: self
                .seats
                .values()
                .filter_map(|seat| Some((seat.place.as_ref()?.position, seat.want.as_ref()?)))
                .map(|(position, _)| position)
                .collect(),
            stalls: self.stalls,
        }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.seats.values().filter_map(|seat| seat.place.as_ref())
    }
}

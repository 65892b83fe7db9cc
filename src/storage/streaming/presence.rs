//! Which bytes are there and who waits for which: the synchronising core, without any file.
//!
//! One lock, one table. A check and the registration of its waker are one step under that lock, and each change looks
//! at every waiter's own range, so a wait ends for exactly the reasons in [`State::verdict`] and no wake-up is lost.
//! Wakers run and causes are dropped after the lock is gone. `model.rs` compiles this file a second time on loom's
//! lock and walks through every interleaving.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use rangemap::RangeSet;

use super::bell::{After, Bell};
use super::sync::{Mutex, MutexGuard};
use super::{Condition, Demand, Status, WaitError, Waited};

/// A reader's steady advance is told to the demand watchers each time it amounts to this many bytes.
const ADVANCE_TOLD: u64 = 64 * 1024;

pub(super) struct Presence<E> {
    state: Mutex<State<E>>,
}

struct State<E> {
    present: RangeSet<u64>,
    len: Option<u64>,
    condition: Condition<E>,
    seats: BTreeMap<u64, Seat<E>>,
    /// Names seats and watchers; never used twice, so a late call for one that left meets nobody.
    next_id: u64,
    /// Handles and waiters of the reading side; at none, demand is over.
    handles: usize,
    stalls: u64,
    demand: Bell,
    status: Bell,
    role: Bell,
}

/// One who may wait, and if it reads in order, where it reads.
struct Seat<E> {
    place: Option<Place>,
    want: Option<Want>,
    waker: Option<Waker>,
    /// The failure that met this seat waiting, kept until it is delivered: a new writer does not undo it.
    failed: Option<Arc<E>>,
    interrupted: bool,
}

struct Place {
    position: u64,
    /// Where the next read starts if it does not jump.
    expected: u64,
    told: u64,
}

struct Want {
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
    /// The one wake rule: the range is present, or the end is proven to lie before it or in it with all before the
    /// end present.
    fn verdict(&self, range: &Range<u64>) -> Option<Waited> {
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

    fn ahead(&self, position: u64, limit: u64) -> Ahead {
        if self.len.is_some_and(|len| position >= len) {
            return Ahead::End;
        }
        match self.present.get(&position) {
            Some(there) if limit > 0 => Ahead::Bytes(limit.min(there.end - position)),
            _ => Ahead::Missing,
        }
    }

    fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let end = self.len.map_or(range.end, |len| range.end.min(len));
        if range.start >= end {
            return Vec::new();
        }
        self.present.gaps(&(range.start..end)).collect()
    }

    /// Wakes each waiter whose own range is settled now, and nobody else.
    fn wake_settled(&mut self, after: &mut After<E>) {
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

    fn set_condition(&mut self, condition: Condition<E>, after: &mut After<E>) {
        if let Condition::Failed(cause) | Condition::Discarded(cause) =
            std::mem::replace(&mut self.condition, condition)
        {
            after.causes.push(cause);
        }
        self.status.ring(after);
        self.role.ring(after);
    }

    /// How the wait of `id` for `needed` ends, if it ends now.
    fn answer(
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

    fn begin_wait(&mut self, id: u64, needed: &Range<u64>, asked: &Range<u64>, after: &mut After<E>) {
        let Some(seat) = self.seats.get_mut(&id) else {
            return;
        };
        if seat.want.as_ref().is_some_and(|want| want.asked == *asked) {
            return;
        }
        self.next_id += 1;
        let begins = seat.want.is_none();
        seat.want = Some(Want {
            needed: needed.clone(),
            asked: asked.clone(),
            since: self.next_id,
        });
        self.demand.ring(after);
        if begins && seat.place.is_some() {
            self.stalls += 1;
            self.status.ring(after);
        }
    }

    fn end_wait(&mut self, id: u64, after: &mut After<E>) {
        if let Some(seat) = self.seats.get_mut(&id) {
            after.stale.extend(seat.waker.take());
            if seat.want.take().is_some() && seat.place.is_some() {
                self.status.ring(after);
            }
        }
    }

    fn snapshot_demand(&self) -> Demand {
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

    fn snapshot_status(&self) -> Status<E> {
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

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.seats.values().filter_map(|seat| seat.place.as_ref())
    }
}

impl<E> Presence<E> {
    pub(super) fn new(present: RangeSet<u64>, len: Option<u64>, complete: bool) -> Self {
        Self {
            state: Mutex::new(State {
                present,
                len,
                condition: if complete {
                    Condition::Complete
                } else {
                    Condition::Idle
                },
                seats: BTreeMap::new(),
                next_id: 0,
                handles: 0,
                stalls: 0,
                demand: Bell::new(),
                status: Bell::new(),
                role: Bell::new(),
            }),
        }
    }

    /// A poisoned lock is taken over: no change leaves the state half made at a point that can panic.
    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, work: impl FnOnce(&mut State<E>, &mut After<E>) -> T) -> T {
        let mut after = After::new();
        let value = work(&mut self.lock(), &mut after);
        after.run();
        value
    }

    // What is there.

    pub(super) fn len(&self) -> Option<u64> {
        self.lock().len
    }

    pub(super) fn available(&self) -> Vec<Range<u64>> {
        self.lock().present.iter().cloned().collect()
    }

    pub(super) fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        self.lock().missing(range)
    }

    pub(super) fn ahead(&self, position: u64, limit: u64) -> Ahead {
        self.lock().ahead(position, limit)
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.lock().condition, Condition::Complete)
    }

    pub(super) fn status(&self) -> Status<E> {
        self.lock().snapshot_status()
    }

    // Handles and seats.

    pub(super) fn add_handle(&self) {
        self.lock().handles += 1;
    }

    pub(super) fn drop_handle(&self) {
        self.change(|state, after| {
            state.handles = state.handles.saturating_sub(1);
            if state.handles == 0 {
                state.demand.ring(after);
            }
        });
    }

    /// A name for a watcher.
    pub(super) fn new_id(&self) -> u64 {
        let mut state = self.lock();
        state.next_id += 1;
        state.next_id
    }

    /// A seat for one who waits; with `reads_at`, for a reader whose place is told to the fetcher.
    pub(super) fn sit(&self, reads_at: Option<u64>) -> u64 {
        self.change(|state, after| {
            state.next_id += 1;
            let seat = Seat {
                place: reads_at.map(|position| Place {
                    position,
                    expected: position,
                    told: position,
                }),
                want: None,
                waker: None,
                failed: None,
                interrupted: false,
            };
            if seat.place.is_some() {
                state.demand.ring(after);
            }
            state.seats.insert(state.next_id, seat);
            state.next_id
        })
    }

    pub(super) fn leave(&self, seat: u64) {
        self.change(|state, after| {
            state.end_wait(seat, after);
            if let Some(gone) = state.seats.remove(&seat) {
                after.causes.extend(gone.failed);
                state.demand.ring(after);
            }
        });
    }

    /// What a reader finds at `position`, and the note of where it reads: a jump is told to the fetcher at once, an
    /// advance in steps.
    pub(super) fn read_ahead(&self, seat: u64, position: u64, limit: u64) -> Ahead {
        self.change(|state, after| {
            let ahead = state.ahead(position, limit);
            if let Some(place) = state.seats.get_mut(&seat).and_then(|seat| seat.place.as_mut()) {
                let jumped = position != place.expected;
                place.position = position;
                place.expected = match ahead {
                    Ahead::Bytes(count) => position + count,
                    Ahead::Missing | Ahead::End => position,
                };
                if jumped || position.saturating_sub(place.told) >= ADVANCE_TOLD {
                    place.told = position;
                    state.demand.ring(after);
                }
            }
            ahead
        })
    }

    /// Resolves when `needed` is settled; meanwhile the fetcher is told of `asked`.
    pub(super) fn poll_range(
        &self,
        seat: u64,
        needed: &Range<u64>,
        asked: &Range<u64>,
        cx: &Context<'_>,
    ) -> Poll<Result<Waited, WaitError<E>>> {
        let waker = cx.waker().clone();
        self.change(|state, after| {
            if let Some(answer) = state.answer(seat, needed, after) {
                after.stale.push(waker);
                state.end_wait(seat, after);
                return Poll::Ready(answer);
            }
            state.begin_wait(seat, needed, asked, after);
            if let Some(seat) = state.seats.get_mut(&seat) {
                after.stale.extend(seat.waker.replace(waker));
            }
            Poll::Pending
        })
    }

    /// The wait of `seat` was given up.
    pub(super) fn stop_waiting(&self, seat: u64) {
        self.change(|state, after| {
            state.end_wait(seat, after);
            if let Some(seat) = state.seats.get_mut(&seat) {
                after.causes.extend(seat.failed.take());
            }
        });
    }

    /// From now on (or no longer) the waits of `seat` end at once. Kept, so that an interrupt a moment before the
    /// wait is not lost.
    pub(super) fn set_interrupted(&self, seat: u64, interrupted: bool) {
        self.change(|state, after| {
            if let Some(seat) = state.seats.get_mut(&seat) {
                seat.interrupted = interrupted;
                if interrupted {
                    after.wakers.extend(seat.waker.take());
                }
            }
        });
    }

    // The writer.

    pub(super) fn take_role(&self) -> Result<(), RoleRefused> {
        self.change(|state, after| match state.condition {
            Condition::Writing => Err(RoleRefused::Taken),
            Condition::Complete => Err(RoleRefused::Complete),
            Condition::Discarded(_) => Err(RoleRefused::Discarded),
            Condition::Idle | Condition::Failed(_) => {
                state.set_condition(Condition::Writing, after);
                Ok(())
            }
        })
    }

    /// Takes the role as soon as nobody has it.
    pub(super) fn poll_role(&self, watcher: u64, cx: &Context<'_>) -> Poll<Result<(), RoleRefused>> {
        let waker = cx.waker().clone();
        self.change(|state, after| match state.condition {
            Condition::Writing => {
                state.role.wait(watcher, waker, after);
                Poll::Pending
            }
            Condition::Complete => Poll::Ready(Err(RoleRefused::Complete)),
            Condition::Discarded(_) => Poll::Ready(Err(RoleRefused::Discarded)),
            Condition::Idle | Condition::Failed(_) => {
                state.set_condition(Condition::Writing, after);
                Poll::Ready(Ok(()))
            }
        })
    }

    pub(super) fn leave_role_queue(&self, watcher: u64) {
        self.change(|state, after| state.role.leave(watcher, after));
    }

    /// The writer is gone. A resource it neither committed nor failed can be taken up by the next one.
    pub(super) fn leave_role(&self) {
        self.change(|state, after| {
            if matches!(state.condition, Condition::Writing) {
                state.set_condition(Condition::Idle, after);
            }
        });
    }

    /// `range` can be read from the file now.
    pub(super) fn insert(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.change(|state, after| {
            state.present.insert(range);
            state.wake_settled(after);
            state.status.ring(after);
        });
    }

    /// `range` cannot be read any more.
    pub(super) fn withdraw(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.change(|state, after| {
            state.present.remove(range);
            state.status.ring(after);
        });
    }

    pub(super) fn set_len(&self, len: u64) -> Result<(), EndConflict> {
        self.change(|state, after| {
            let reached = state.present.last().map_or(0, |last| last.end);
            match state.len {
                Some(known) if known != len => Err(EndConflict { known }),
                Some(_) => Ok(()),
                None if reached > len => Err(EndConflict { known: reached }),
                None => {
                    state.len = Some(len);
                    state.wake_settled(after);
                    state.status.ring(after);
                    state.demand.ring(after);
                    Ok(())
                }
            }
        })
    }

    pub(super) fn complete(&self) {
        self.change(|state, after| {
            state.set_condition(Condition::Complete, after);
            state.demand.ring(after);
        });
    }

    /// Ends every wait there is with `cause`, for good (`discarded`) or until the next writer.
    pub(super) fn fail(&self, cause: Arc<E>, discarded: bool) {
        self.change(|state, after| {
            for seat in state.seats.values_mut().filter(|seat| seat.want.is_some()) {
                after.causes.extend(seat.failed.replace(cause.clone()));
                after.wakers.extend(seat.waker.take());
            }
            let condition = if discarded {
                Condition::Discarded(cause)
            } else {
                Condition::Failed(cause)
            };
            state.set_condition(condition, after);
        });
    }

    // Watching.

    /// The demand if it changed since `seen`; none once nobody reads any more.
    pub(super) fn poll_demand(&self, watcher: u64, seen: &mut u64, cx: &Context<'_>) -> Poll<Option<Demand>> {
        let waker = cx.waker().clone();
        self.change(|state, after| {
            if state.handles == 0 {
                after.stale.push(waker);
                return Poll::Ready(None);
            }
            match state.demand.look(watcher, *seen, waker, after) {
                None => Poll::Pending,
                Some(version) => {
                    *seen = version;
                    Poll::Ready(Some(state.snapshot_demand()))
                }
            }
        })
    }

    pub(super) fn demand(&self) -> Demand {
        self.lock().snapshot_demand()
    }

    pub(super) fn poll_status(&self, watcher: u64, seen: &mut u64, cx: &Context<'_>) -> Poll<Status<E>> {
        let waker = cx.waker().clone();
        self.change(
            |state, after| match state.status.look(watcher, *seen, waker, after) {
                None => Poll::Pending,
                Some(version) => {
                    *seen = version;
                    Poll::Ready(state.snapshot_status())
                }
            },
        )
    }

    pub(super) fn stop_watching(&self, watcher: u64) {
        self.change(|state, after| {
            state.demand.leave(watcher, after);
            state.status.leave(watcher, after);
        });
    }
}

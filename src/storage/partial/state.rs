//! The table under the lock of `presence`: what is present, who waits, and the one rule by which a wait ends.
//!
//! Plain data. Nothing here locks, wakes, or drops what is foreign: what a change owes to others goes into [`Deferred`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use rangemap::RangeSet;

use super::error::WaitError;
use super::notify::{Deferred, Notify, UnusedHook};
use super::status::{Condition, Demand, Status, Waited};

/// A reader's steady advance notifies the watchers of the demand each time it amounts to this many bytes.
const ADVANCE_ANNOUNCED: u64 = 64 * 1024;

pub(super) struct State<E> {
    pub(super) present: RangeSet<u64>,
    pub(super) len: Option<u64>,
    pub(super) condition: Condition<E>,
    /// A commit is under way.
    pub(super) sealed: bool,
    pub(super) waiters: BTreeMap<u64, Registration<E>>,
    /// Ids of waiters and watchers are never used twice, so that a call for one that is gone by now finds none.
    pub(super) next_id: u64,
    /// Handles and waiters of the reading side. At none the demand is over.
    pub(super) handles: usize,
    /// Called when the demand is over.
    pub(super) on_unused: Option<UnusedHook>,
    pub(super) stalls: u64,
    pub(super) demand: Notify,
    pub(super) status: Notify,
    pub(super) role: Notify,
}

/// One waiter; if it reads in order, a reader.
pub(super) struct Registration<E> {
    pub(super) reader: Option<ReaderPosition>,
    pub(super) awaits: Option<AwaitedRange>,
    pub(super) waker: Option<Waker>,
    /// The failure that met this waiter waiting, kept until it is delivered. A new writer does not undo it.
    pub(super) failed: Option<Arc<E>>,
    pub(super) interrupted: bool,
}

pub(super) struct ReaderPosition {
    position: u64,
    /// Where the next read begins if it does not jump.
    expected: u64,
    /// The position that the watchers of the demand were notified of.
    announced: u64,
}

pub(super) struct AwaitedRange {
    /// Has to be present for the wait to end.
    needed: Range<u64>,
    /// What will be read as soon as it can be: the fetcher is told of it.
    asked: Range<u64>,
    /// Orders the waits by their beginning.
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

/// The stated end contradicts the known one, or the end of the bytes present.
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
            waiters: BTreeMap::new(),
            next_id: 0,
            handles: 0,
            on_unused: None,
            stalls: 0,
            demand: Notify::new(),
            status: Notify::new(),
            role: Notify::new(),
        }
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Registers a waiter; with `reads_at`, a reader.
    pub(super) fn register(&mut self, reads_at: Option<u64>, deferred: &mut Deferred<E>) -> u64 {
        let id = self.new_id();
        // A reader changes the demand before it waits: the fetcher can begin where it will read. A plain waiter does not.
        if reads_at.is_some() {
            self.demand.notify(deferred);
        }
        let reader = reads_at.map(|position| ReaderPosition {
            position,
            expected: position,
            announced: position,
        });
        let registration = Registration {
            reader,
            awaits: None,
            waker: None,
            failed: None,
            interrupted: false,
        };
        // Ids grow, so that the map is in order of registration.
        self.waiters.insert(id, registration);
        id
    }

    /// The reader `waiter` is at `position` and finds what lies `ahead`.
    pub(super) fn note_read(&mut self, waiter: u64, position: u64, ahead: Ahead, deferred: &mut Deferred<E>) {
        let registration = self.waiters.get_mut(&waiter);
        let Some(reader) = registration.and_then(|registration| registration.reader.as_mut()) else {
            return;
        };
        let jumped = position != reader.expected;
        reader.position = position;
        reader.expected = match ahead {
            Ahead::Bytes(count) => position + count,
            Ahead::Missing | Ahead::End => position,
        };
        // A jump changes what has to be fetched. An advance does so only in the long run: to wake the fetcher for each read
        // would cost more than the read.
        if jumped || position.saturating_sub(reader.announced) >= ADVANCE_ANNOUNCED {
            reader.announced = position;
            self.demand.notify(deferred);
        }
    }

    /// The one rule by which a wait for `range` ends well: all of it is present; or the end is proven, and what of the
    /// range lies before the end is present.
    pub(super) fn verdict(&self, range: &Range<u64>) -> Option<Waited> {
        let end = match self.len {
            Some(len) if range.start >= len => return Some(Waited::End { len }),
            Some(len) => range.end.min(len),
            None => range.end,
        };
        // An empty range is covered wherever it lies. Ranges that touch are one in the set, so that one look is enough.
        let covered = range.start >= end
            || self
                .present
                .get(&range.start)
                .is_some_and(|present| present.end >= end);
        covered.then_some(Waited::Present(range.start..end))
    }

    pub(super) fn ahead(&self, position: u64, limit: u64) -> Ahead {
        if self.len.is_some_and(|len| position >= len) {
            return Ahead::End;
        }
        match self.present.get(&position) {
            Some(present) if limit > 0 => Ahead::Bytes(limit.min(present.end - position)),
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

    /// Wakes each waiter whose own range is settled now, and no other.
    pub(super) fn wake_settled(&mut self, deferred: &mut Deferred<E>) {
        let mut settled: Vec<u64> = Vec::new();
        for (id, waiter) in &self.waiters {
            // Without a waker it was woken before, and has not looked yet: its next look sees this change, too.
            if let (Some(awaited), Some(_)) = (&waiter.awaits, &waiter.waker)
                && self.verdict(&awaited.needed).is_some()
            {
                settled.push(*id);
            }
        }
        for id in settled {
            if let Some(waiter) = self.waiters.get_mut(&id) {
                deferred.wakers.extend(waiter.waker.take());
            }
        }
    }

    pub(super) fn set_condition(&mut self, condition: Condition<E>, deferred: &mut Deferred<E>) {
        // The replaced cause is the app's: its destructor runs after the lock is released.
        if let Condition::Failed(cause) | Condition::Discarded(cause) =
            std::mem::replace(&mut self.condition, condition)
        {
            deferred.causes.push(cause);
        }
        self.status.notify(deferred);
        self.role.notify(deferred);
    }

    /// How the wait of `waiter` for `needed` ends, if it ends now.
    pub(super) fn answer(
        &mut self,
        waiter: u64,
        needed: &Range<u64>,
        deferred: &mut Deferred<E>,
    ) -> Option<Result<Waited, WaitError<E>>> {
        let verdict = self.verdict(needed);
        let registration = self.waiters.get_mut(&waiter)?;
        let failed = registration.failed.take();
        // Bytes that are present win over a failure and an interrupt: both end waiting, not reading.
        if let Some(waited) = verdict {
            deferred.causes.extend(failed);
            return Some(Ok(waited));
        }
        let standing = match &self.condition {
            Condition::Failed(cause) | Condition::Discarded(cause) => Some(cause.clone()),
            Condition::Idle | Condition::Writing | Condition::Complete => None,
        };
        // The failure that met the wait comes before the one that stands: it is what ended the wait.
        match failed.or(standing) {
            Some(source) => Some(Err(WaitError::Failed { source })),
            None => registration.interrupted.then_some(Err(WaitError::Interrupted)),
        }
    }

    pub(super) fn begin_wait(
        &mut self,
        waiter: u64,
        needed: &Range<u64>,
        asked: &Range<u64>,
        deferred: &mut Deferred<E>,
    ) {
        let Some(registration) = self.waiters.get(&waiter) else {
            return;
        };
        let awaits = registration.awaits.as_ref();
        // Polled again: the wait keeps its turn, and the fetcher hears nothing new.
        if awaits.is_some_and(|awaited| awaited.asked == *asked) {
            return;
        }
        // A wait for another range goes on from one that was not ended: a stall is counted once.
        let begins = awaits.is_none();
        let since = self.new_id();
        let Some(registration) = self.waiters.get_mut(&waiter) else {
            return;
        };
        registration.awaits = Some(AwaitedRange {
            needed: needed.clone(),
            asked: asked.clone(),
            since,
        });
        let stalls = begins && registration.reader.is_some();
        self.demand.notify(deferred);
        if stalls {
            self.stalls += 1;
            self.status.notify(deferred);
        }
    }

    pub(super) fn end_wait(&mut self, waiter: u64, deferred: &mut Deferred<E>) {
        if let Some(registration) = self.waiters.get_mut(&waiter) {
            deferred.stale.extend(registration.waker.take());
            // The demand is not notified: bytes that came made it smaller, and a fetcher has nothing to do for that.
            if registration.awaits.take().is_some() && registration.reader.is_some() {
                self.status.notify(deferred);
            }
        }
    }

    pub(super) fn snapshot_demand(&self) -> Demand {
        let waiters = self.waiters.values();
        let mut awaited: Vec<&AwaitedRange> = waiters.filter_map(|waiter| waiter.awaits.as_ref()).collect();
        // The longest wait first: a fetcher that serves them in order starves none.
        awaited.sort_by_key(|awaited| awaited.since);
        Demand {
            waiting: awaited
                .iter()
                .flat_map(|awaited| self.missing(&awaited.asked))
                .collect(),
            positions: self.readers().map(|reader| reader.position).collect(),
        }
    }

    pub(super) fn snapshot_status(&self) -> Status<E> {
        let waiters = self.waiters.values();
        Status {
            available: self.present.iter().cloned().collect(),
            len: self.len,
            condition: self.condition.clone(),
            stalled_at: waiters
                .filter(|waiter| waiter.awaits.is_some())
                .filter_map(|waiter| Some(waiter.reader.as_ref()?.position))
                .collect(),
            stalls: self.stalls,
        }
    }

    fn readers(&self) -> impl Iterator<Item = &ReaderPosition> {
        self.waiters.values().filter_map(|waiter| waiter.reader.as_ref())
    }
}

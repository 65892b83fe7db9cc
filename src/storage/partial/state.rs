//! The table under the lock of `presence`: what is there, who sits and waits, and the one rule by which a wait ends.
//!
//! Plain data; nothing here locks, wakes or drops what is foreign. What a change owes goes into [`Deferred`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use rangemap::RangeSet;

use super::notify::{Deferred, Notify, UnusedHook};
use super::{Condition, Demand, Status, WaitError, Waited};

/// A reader's steady advance is told to the demand watchers each time it amounts to this many bytes.
const ADVANCE_ANNOUNCED: u64 = 64 * 1024;

pub(super) struct State<E> {
    pub(super) present: RangeSet<u64>,
    pub(super) len: Option<u64>,
    pub(super) condition: Condition<E>,
    /// A commit is under way.
    pub(super) sealed: bool,
    pub(super) waiters: BTreeMap<u64, Registration<E>>,
    /// Names seats and watchers; never used twice, so a late call for one that left meets nobody.
    pub(super) next_id: u64,
    /// Handles and waiters of the reading side; at none, demand is over.
    pub(super) handles: usize,
    /// Runs when demand is over.
    pub(super) on_unused: Option<UnusedHook>,
    pub(super) stalls: u64,
    pub(super) demand: Notify,
    pub(super) status: Notify,
    pub(super) role: Notify,
}

/// One who may wait, and if it reads in order, where it reads.
pub(super) struct Registration<E> {
    pub(super) reader: Option<ReaderPosition>,
    pub(super) awaits: Option<AwaitedRange>,
    pub(super) waker: Option<Waker>,
    /// The failure that met this seat waiting, kept until it is delivered: a new writer does not undo it.
    pub(super) failed: Option<Arc<E>>,
    pub(super) interrupted: bool,
}

pub(super) struct ReaderPosition {
    position: u64,
    /// Where the next read starts if it does not jump.
    expected: u64,
    announced: u64,
}

pub(super) struct AwaitedRange {
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

    /// A seat; with `reads_at`, a reader's.
    pub(super) fn register(&mut self, reads_at: Option<u64>, deferred: &mut Deferred<E>) -> u64 {
        let id = self.new_id();
        if reads_at.is_some() {
            self.demand.notify(deferred);
        }
        let reader = reads_at.map(|position| ReaderPosition {
            position,
            expected: position,
            announced: position,
        });
        let waiter = Registration {
            reader,
            awaits: None,
            waker: None,
            failed: None,
            interrupted: false,
        };
        self.waiters.insert(id, waiter);
        id
    }

    /// The reader on `seat` is at `position` and finds what lies `ahead`.
    pub(super) fn note_read(&mut self, waiter: u64, position: u64, ahead: Ahead, deferred: &mut Deferred<E>) {
        let Some(reader) = self
            .waiters
            .get_mut(&waiter)
            .and_then(|waiter| waiter.reader.as_mut())
        else {
            return;
        };
        let jumped = position != reader.expected;
        reader.position = position;
        reader.expected = match ahead {
            Ahead::Bytes(count) => position + count,
            Ahead::Missing | Ahead::End => position,
        };
        if jumped || position.saturating_sub(reader.announced) >= ADVANCE_ANNOUNCED {
            reader.announced = position;
            self.demand.notify(deferred);
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
    pub(super) fn wake_settled(&mut self, deferred: &mut Deferred<E>) {
        let mut woken: Vec<u64> = Vec::new();
        for (id, waiter) in &self.waiters {
            if let (Some(awaits), Some(_)) = (&waiter.awaits, &waiter.waker)
                && self.verdict(&awaits.needed).is_some()
            {
                woken.push(*id);
            }
        }
        for id in woken {
            if let Some(waiter) = self.waiters.get_mut(&id) {
                deferred.wakers.extend(waiter.waker.take());
            }
        }
    }

    pub(super) fn set_condition(&mut self, condition: Condition<E>, deferred: &mut Deferred<E>) {
        if let Condition::Failed(cause) | Condition::Discarded(cause) =
            std::mem::replace(&mut self.condition, condition)
        {
            deferred.causes.push(cause);
        }
        self.status.notify(deferred);
        self.role.notify(deferred);
    }

    /// How the wait of `id` for `needed` ends, if it ends now.
    pub(super) fn answer(
        &mut self,
        id: u64,
        needed: &Range<u64>,
        deferred: &mut Deferred<E>,
    ) -> Option<Result<Waited, WaitError<E>>> {
        let verdict = self.verdict(needed);
        let waiter = self.waiters.get_mut(&id)?;
        let failed = waiter.failed.take();
        if let Some(waited) = verdict {
            deferred.causes.extend(failed);
            return Some(Ok(waited));
        }
        let standing = match &self.condition {
            Condition::Failed(cause) | Condition::Discarded(cause) => Some(cause.clone()),
            Condition::Idle | Condition::Writing | Condition::Complete => None,
        };
        match failed.or(standing) {
            Some(source) => Some(Err(WaitError::Failed { source })),
            None => waiter.interrupted.then_some(Err(WaitError::Interrupted)),
        }
    }

    pub(super) fn begin_wait(
        &mut self,
        id: u64,
        needed: &Range<u64>,
        asked: &Range<u64>,
        deferred: &mut Deferred<E>,
    ) {
        let Some(waiter) = self.waiters.get_mut(&id) else {
            return;
        };
        if waiter
            .awaits
            .as_ref()
            .is_some_and(|awaits| awaits.asked == *asked)
        {
            return;
        }
        let since = self.new_id();
        let Some(waiter) = self.waiters.get_mut(&id) else {
            return;
        };
        let begins = waiter.awaits.is_none();
        waiter.awaits = Some(AwaitedRange {
            needed: needed.clone(),
            asked: asked.clone(),
            since,
        });
        self.demand.notify(deferred);
        if begins && waiter.reader.is_some() {
            self.stalls += 1;
            self.status.notify(deferred);
        }
    }

    pub(super) fn end_wait(&mut self, id: u64, deferred: &mut Deferred<E>) {
        if let Some(waiter) = self.waiters.get_mut(&id) {
            deferred.stale.extend(waiter.waker.take());
            if waiter.awaits.take().is_some() && waiter.reader.is_some() {
                self.status.notify(deferred);
            }
        }
    }

    pub(super) fn snapshot_demand(&self) -> Demand {
        let mut awaited: Vec<&AwaitedRange> = self
            .waiters
            .values()
            .filter_map(|waiter| waiter.awaits.as_ref())
            .collect();
        awaited.sort_by_key(|awaits| awaits.since);
        Demand {
            waiting: awaited
                .iter()
                .flat_map(|awaits| self.missing(&awaits.asked))
                .collect(),
            positions: self.readers().map(|reader| reader.position).collect(),
        }
    }

    pub(super) fn snapshot_status(&self) -> Status<E> {
        Status {
            available: self.present.iter().cloned().collect(),
            len: self.len,
            condition: self.condition.clone(),
            stalled_at: self
                .waiters
                .values()
                .filter_map(|waiter| Some((waiter.reader.as_ref()?.position, waiter.awaits.as_ref()?)))
                .map(|(position, _)| position)
                .collect(),
            stalls: self.stalls,
        }
    }

    pub(super) fn readers(&self) -> impl Iterator<Item = &ReaderPosition> {
        self.waiters.values().filter_map(|waiter| waiter.reader.as_ref())
    }
}

//! Which bytes are there and who waits for which: the synchronising core, without any file.
//!
//! One lock, one table. A check and the registration of its waker are one step under that lock, and each change looks
//! at every waiter's own range, so a wait ends for exactly the reasons in [`State::verdict`] and no wake-up is lost.
//! Wakers run and causes are dropped after the lock is gone. `model.rs` compiles this file a second time on loom's
//! lock and walks through every interleaving.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use rangemap::RangeSet;

use super::notify::{Deferred, UnusedHook};
use super::state::{Ahead, EndConflict, RoleRefused, State};
use super::sync::{Mutex, MutexGuard};
use super::{Condition, Demand, Status, WaitError, Waited};

pub(super) struct Presence<E> {
    state: Mutex<State<E>>,
    /// The end of a complete resource: its readers need no lock, and nobody their places. [`UNFINISHED`] of others.
    finished: AtomicU64,
}

/// No file is so long.
const UNFINISHED: u64 = u64::MAX;

/// What became of a [loss](Presence::lose).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nobody would fetch it again: it counts as there.
    Refused,
    /// It was lost before.
    Known,
    New,
}

impl<E> Presence<E> {
    pub(super) fn new(present: RangeSet<u64>, len: Option<u64>, complete: bool) -> Self {
        Self {
            state: Mutex::new(State::new(present, len, complete)),
            finished: AtomicU64::new(len.filter(|_| complete).unwrap_or(UNFINISHED)),
        }
    }

    /// A poisoned lock is taken over: no change leaves the state half made at a point that can panic.
    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, work: impl FnOnce(&mut State<E>, &mut Deferred<E>) -> T) -> T {
        let mut deferred = Deferred::new();
        let value = work(&mut self.lock(), &mut deferred);
        deferred.run();
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

    pub(super) fn first_missing(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let state = self.lock();
        let end = state.len.map_or(range.end, |len| range.end.min(len));
        let within = range.start..end;
        let mut gaps = state.present.gaps(&within);
        if within.is_empty() { None } else { gaps.next() }
    }

    pub(super) fn ahead(&self, position: u64, limit: u64) -> Ahead {
        match self.finished.load(Ordering::Acquire) {
            UNFINISHED => self.lock().ahead(position, limit),
            len if position >= len => Ahead::End,
            len => Ahead::Bytes(limit.min(len - position)),
        }
    }

    /// Whether it is complete, without the lock: a late answer is `false`, or comes before a loss is known.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire) != UNFINISHED
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.lock().condition, Condition::Complete)
    }

    pub(super) fn status(&self) -> Status<E> {
        self.lock().snapshot_status()
    }

    // Handles and waiters.

    pub(super) fn add_handle(&self) {
        self.lock().handles += 1;
    }

    /// One more, unless nobody reads any more and the fetcher was told so.
    pub(super) fn join(&self) -> bool {
        let mut state = self.lock();
        let joined = state.handles > 0;
        state.handles += usize::from(joined);
        joined
    }

    pub(super) fn drop_handle(&self) {
        self.change(|state, deferred| {
            state.handles = state.handles.saturating_sub(1);
            if state.handles == 0 {
                deferred.hook = state.on_unused.take();
                state.demand.notify(deferred);
            }
        });
    }

    /// Has `hook` run when the last handle is dropped; handles come from handles, so none follows it.
    pub(super) fn when_unused(&self, hook: UnusedHook) {
        let old = self.change(|state, deferred| {
            if state.handles == 0 {
                deferred.hook = Some(hook);
                return None;
            }
            state.on_unused.replace(hook)
        });
        drop(old);
    }

    /// A name for a watcher.
    pub(super) fn new_id(&self) -> u64 {
        self.lock().new_id()
    }

    /// A seat for one who waits; with `reads_at`, for a reader whose place is told to the fetcher.
    pub(super) fn register(&self, reads_at: Option<u64>) -> u64 {
        self.change(|state, deferred| state.register(reads_at, deferred))
    }

    pub(super) fn unregister(&self, waiter: u64) {
        self.change(|state, deferred| {
            state.end_wait(waiter, deferred);
            if let Some(gone) = state.waiters.remove(&waiter) {
                deferred.causes.extend(gone.failed);
                state.demand.notify(deferred);
            }
        });
    }

    /// What a reader finds at `position`, and the note of where it reads: a jump is told to the fetcher at once, an
    /// advance in steps.
    pub(super) fn read_ahead(&self, waiter: u64, position: u64, limit: u64) -> Ahead {
        if self.is_finished() {
            return self.ahead(position, limit);
        }
        self.change(|state, deferred| {
            let ahead = state.ahead(position, limit);
            state.note_read(waiter, position, ahead, deferred);
            ahead
        })
    }

    /// Resolves when `needed` is settled; meanwhile the fetcher is told of `asked`.
    pub(super) fn poll_range(
        &self,
        waiter: u64,
        needed: &Range<u64>,
        asked: &Range<u64>,
        cx: &Context<'_>,
    ) -> Poll<Result<Waited, WaitError<E>>> {
        let waker = cx.waker().clone();
        self.change(|state, deferred| {
            if let Some(answer) = state.answer(waiter, needed, deferred) {
                deferred.stale.push(waker);
                state.end_wait(waiter, deferred);
                return Poll::Ready(answer);
            }
            state.begin_wait(waiter, needed, asked, deferred);
            if let Some(waiter) = state.waiters.get_mut(&waiter) {
                deferred.stale.extend(waiter.waker.replace(waker));
            }
            Poll::Pending
        })
    }

    /// The wait of `seat` was given up.
    pub(super) fn stop_waiting(&self, waiter: u64) {
        self.change(|state, deferred| {
            state.end_wait(waiter, deferred);
            if let Some(waiter) = state.waiters.get_mut(&waiter) {
                deferred.causes.extend(waiter.failed.take());
            }
        });
    }

    /// From now on (or no longer) the waits of `seat` end at once. Tail, so that an interrupt a moment before the
    /// wait is not lost.
    pub(super) fn set_interrupted(&self, waiter: u64, interrupted: bool) {
        self.change(|state, deferred| {
            if let Some(waiter) = state.waiters.get_mut(&waiter) {
                waiter.interrupted = interrupted;
                if interrupted {
                    deferred.wakers.extend(waiter.waker.take());
                }
            }
        });
    }

    // The writer.

    pub(super) fn take_role(&self) -> Result<(), RoleRefused> {
        self.change(|state, deferred| match state.condition {
            Condition::Writing => Err(RoleRefused::Taken),
            Condition::Complete => Err(RoleRefused::Complete),
            Condition::Discarded(_) => Err(RoleRefused::Discarded),
            Condition::Idle | Condition::Failed(_) => {
                state.set_condition(Condition::Writing, deferred);
                Ok(())
            }
        })
    }

    /// Takes the role as soon as nobody has it.
    pub(super) fn poll_role(&self, watcher: u64, cx: &Context<'_>) -> Poll<Result<(), RoleRefused>> {
        let waker = cx.waker().clone();
        self.change(|state, deferred| match state.condition {
            Condition::Writing => {
                state.role.register(watcher, waker, deferred);
                Poll::Pending
            }
            Condition::Complete => Poll::Ready(Err(RoleRefused::Complete)),
            Condition::Discarded(_) => Poll::Ready(Err(RoleRefused::Discarded)),
            Condition::Idle | Condition::Failed(_) => {
                state.set_condition(Condition::Writing, deferred);
                Poll::Ready(Ok(()))
            }
        })
    }

    pub(super) fn leave_role_queue(&self, watcher: u64) {
        self.change(|state, deferred| state.role.unregister(watcher, deferred));
    }

    /// The writer is gone. A resource it neither committed nor failed can be taken up by the next one.
    pub(super) fn leave_role(&self) {
        self.change(|state, deferred| {
            if matches!(state.condition, Condition::Writing) {
                state.set_condition(Condition::Idle, deferred);
            }
        });
    }

    /// `range` can be read from the file now.
    pub(super) fn insert(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.change(|state, deferred| {
            state.present.insert(range);
            state.wake_settled(deferred);
            state.status.notify(deferred);
        });
    }

    /// `range` cannot be read any more.
    pub(super) fn withdraw(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.change(|state, deferred| {
            state.present.remove(range);
            state.status.notify(deferred);
        });
    }

    /// `range` was there and is damaged: it is missing from now on, if there is somebody to fetch it. Of a complete
    /// resource that is so with `reopen`. `first` says under the lock whether it is the first to hear of it: whoever
    /// knows of the loss and looks here afterwards finds the range missing, or replaced.
    pub(super) fn lose(&self, range: Range<u64>, reopen: bool, first: impl FnOnce() -> bool) -> Loss {
        self.change(|state, deferred| {
            let complete = matches!(state.condition, Condition::Complete);
            if state.sealed || complete && !reopen {
                return Loss::Refused;
            }
            if complete {
                state.set_condition(Condition::Idle, deferred);
                self.finished.store(UNFINISHED, Ordering::Release);
            }
            if !first() {
                return Loss::Known;
            }
            state.present.remove(range);
            state.status.notify(deferred);
            Loss::New
        })
    }

    /// From now on nothing is lost any more, if all of `0..len` is there: it becomes complete, or is
    /// [unsealed](Self::unseal). `Err` is the first missing range.
    pub(super) fn seal(&self, len: u64) -> Result<(), Range<u64>> {
        let mut state = self.lock();
        state.missing(&(0..len)).into_iter().next().map_or(Ok(()), Err)?;
        state.sealed = true;
        Ok(())
    }

    pub(super) fn unseal(&self) {
        self.lock().sealed = false;
    }

    pub(super) fn set_len(&self, len: u64) -> Result<(), EndConflict> {
        self.change(|state, deferred| {
            let reached = state.present.last().map_or(0, |last| last.end);
            match state.len {
                Some(known) if known != len => Err(EndConflict { known }),
                Some(_) => Ok(()),
                None if reached > len => Err(EndConflict { known: reached }),
                None => {
                    state.len = Some(len);
                    state.wake_settled(deferred);
                    state.status.notify(deferred);
                    state.demand.notify(deferred);
                    Ok(())
                }
            }
        })
    }

    pub(super) fn complete(&self) {
        self.change(|state, deferred| {
            state.sealed = false;
            state.set_condition(Condition::Complete, deferred);
            state.demand.notify(deferred);
            if let Some(len) = state.len {
                self.finished.store(len, Ordering::Release);
            }
        });
    }

    /// Ends every wait there is with `cause`, for good (`discarded`) or until the next writer. What is complete stays so.
    pub(super) fn fail(&self, cause: Arc<E>, discarded: bool) {
        self.change(|state, deferred| {
            if matches!(state.condition, Condition::Complete) {
                deferred.causes.push(cause);
                return;
            }
            for waiter in state
                .waiters
                .values_mut()
                .filter(|waiter| waiter.awaits.is_some())
            {
                deferred.causes.extend(waiter.failed.replace(cause.clone()));
                deferred.wakers.extend(waiter.waker.take());
            }
            let condition = if discarded {
                Condition::Discarded(cause)
            } else {
                Condition::Failed(cause)
            };
            state.set_condition(condition, deferred);
        });
    }

    // Watching.

    /// The demand if it changed since `seen`; none once nobody reads any more.
    pub(super) fn poll_demand(&self, watcher: u64, seen: &mut u64, cx: &Context<'_>) -> Poll<Option<Demand>> {
        let waker = cx.waker().clone();
        self.change(|state, deferred| {
            if state.handles == 0 {
                deferred.stale.push(waker);
                return Poll::Ready(None);
            }
            match state.demand.changed_since(watcher, *seen, waker, deferred) {
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
            |state, deferred| match state.status.changed_since(watcher, *seen, waker, deferred) {
                None => Poll::Pending,
                Some(version) => {
                    *seen = version;
                    Poll::Ready(state.snapshot_status())
                }
            },
        )
    }

    pub(super) fn stop_watching(&self, watcher: u64) {
        self.change(|state, deferred| {
            state.demand.unregister(watcher, deferred);
            state.status.unregister(watcher, deferred);
        });
    }
}

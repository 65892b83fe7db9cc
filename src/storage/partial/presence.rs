//! Which bytes are present and who waits for which: the synchronising core, without any file.
//!
//! ```text
//!             0       4       8      12      16      20
//!   present   ├───────┤       ├───────┤                    0..4 and 8..12
//!   waiter 1     ├──┤                                      1..3: present, does not wait
//!   waiter 2     ├────────────────┤                        1..9: woken by the insert that closes 4..8
//!   waiter 3                          ├───────────────┤    12..20: woken when all of it is present, or when
//!                                                          the end is proven (at 16, say) and 12..16 is present
//! ```
//!
//! One lock guards one [`State`]. A waiter checks and registers in one step under it; a writer changes and looks at every
//! waiter in one step under it; wakers run after it is released.
//!
//! ```text
//!   waiting task              under the lock               writer's thread
//!   ────────────              ──────────────               ───────────────
//!   poll_range(1..9) ──▶ ┌ is 1..9 present? no ┐
//!                        └ register its waker  ┘
//!                        ┌ present gains 4..8  ┐ ◀────────── insert(4..8)
//!                        │ 1..9 settled: take  │
//!                        └ its waker to defer  ┘
//!                                                           lock released
//!   poll_range(1..9) ◀────────────── wake ────────────────── Deferred::run
//!     └────────────────▶   1..9 is present ──▶ Ready
//! ```
//!
//! If the check and the registration were two steps, an insert between them would find no waker and the task would wait
//! for ever. If wakers ran under the lock, one that polls its task at once would deadlock. `tests/interleavings` compiles
//! this file on loom's lock and tries every interleaving.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use rangemap::RangeSet;

use super::error::WaitError;
use super::notify::{Deferred, UnusedHook};
use super::state::{Ahead, EndConflict, RoleRefused, State};
use super::status::{Condition, Demand, Status, Waited};
use super::sync::{Mutex, MutexGuard};

pub(super) struct Presence<E> {
    state: Mutex<State<E>>,
    /// The length of a complete resource, otherwise [`UNFINISHED`]. Reads of a complete resource take no lock, and their
    /// positions interest no fetcher.
    finished: AtomicU64,
}

/// No file is so long.
const UNFINISHED: u64 = u64::MAX;

/// What became of a [loss](Presence::lose).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// No fetcher would replace the bytes: they count as present.
    Refused,
    /// They were reported before.
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

    /// Changes the state under the lock and runs what that deferred after the lock is released.
    // The one way to change the state. A method that locked by itself could forget to run what it owes.
    fn change<T>(&self, work: impl FnOnce(&mut State<E>, &mut Deferred<E>) -> T) -> T {
        let mut deferred = Deferred::new();
        // The guard lives to the end of this statement.
        let value = work(&mut self.lock(), &mut deferred);
        deferred.run();
        value
    }

    // What is present.

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

    /// Whether the resource is complete, without the lock. The answer may be out of date in either direction: `false` of a
    /// resource that has just completed costs a lock, and `true` of one that has just lost bytes is corrected by the
    /// verifier, which finds them lost.
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

    // A handle is cloned from a handle, so that there is one at least, and the demand is not over: nothing is owed.
    pub(super) fn add_handle(&self) {
        self.lock().handles += 1;
    }

    /// Adds a handle, unless there is none left: then the fetcher was told to end, and it is too late.
    pub(super) fn join(&self) -> bool {
        let mut state = self.lock();
        let joined = state.handles > 0;
        state.handles += usize::from(joined);
        joined
    }

    pub(super) fn drop_handle(&self) {
        self.change(|state, deferred| {
            state.handles = state.handles.saturating_sub(1);
            // The last one: whatever reads is gone, for handles are made of handles.
            if state.handles == 0 {
                deferred.hook = state.on_unused.take();
                state.demand.notify(deferred);
            }
        });
    }

    /// Has `hook` called when the last handle is dropped. Handles are made of handles, so that none can follow.
    pub(super) fn when_unused(&self, hook: UnusedHook) {
        let replaced = self.change(|state, deferred| {
            // Too late to be called by the last handle.
            if state.handles == 0 {
                deferred.hook = Some(hook);
                return None;
            }
            state.on_unused.replace(hook)
        });
        drop(replaced);
    }

    /// An id for a watcher.
    pub(super) fn new_id(&self) -> u64 {
        self.lock().new_id()
    }

    /// Registers a waiter and answers its id. With `reads_at` it is a reader, whose position the fetcher is told.
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

    /// What a reader finds at `position`, which is noted as where it reads. The fetcher is told of a jump at once, of an
    /// advance in steps.
    pub(super) fn read_ahead(&self, waiter: u64, position: u64, limit: u64) -> Ahead {
        // A complete resource has no fetcher, which spares replay the lock and the bookkeeping.
        if self.is_finished() {
            return self.ahead(position, limit);
        }
        // One step: between a look and a note the fetcher would see the reader where it no longer is.
        self.change(|state, deferred| {
            let ahead = state.ahead(position, limit);
            state.note_read(waiter, position, ahead, deferred);
            ahead
        })
    }

    /// Resolves when `needed` is settled. Meanwhile the fetcher is told of `asked`.
    pub(super) fn poll_range(
        &self,
        waiter: u64,
        needed: &Range<u64>,
        asked: &Range<u64>,
        cx: &Context<'_>,
    ) -> Poll<Result<Waited, WaitError<E>>> {
        // Cloned before the lock: cloning a waker runs code of others.
        let waker = cx.waker().clone();
        self.change(|state, deferred| {
            // Check, and else register: one step under the lock, see above.
            if let Some(answer) = state.answer(waiter, needed, deferred) {
                deferred.stale.push(waker);
                state.end_wait(waiter, deferred);
                return Poll::Ready(answer);
            }
            state.begin_wait(waiter, needed, asked, deferred);
            if let Some(registration) = state.waiters.get_mut(&waiter) {
                deferred.stale.extend(registration.waker.replace(waker));
            }
            Poll::Pending
        })
    }

    /// The wait of `waiter` was given up.
    pub(super) fn stop_waiting(&self, waiter: u64) {
        self.change(|state, deferred| {
            state.end_wait(waiter, deferred);
            // A failure that nobody was told of belongs to the wait that was given up, not to the next one.
            if let Some(registration) = state.waiters.get_mut(&waiter) {
                deferred.causes.extend(registration.failed.take());
            }
        });
    }

    /// Has each wait of `waiter` end at once, until it is cleared. It stays set: an interrupt a moment before the wait
    /// would otherwise be lost.
    pub(super) fn set_interrupted(&self, waiter: u64, interrupted: bool) {
        self.change(|state, deferred| {
            if let Some(registration) = state.waiters.get_mut(&waiter) {
                registration.interrupted = interrupted;
                // The waker is taken, the wait is not ended: its next poll finds the flag and ends it.
                if interrupted {
                    deferred.wakers.extend(registration.waker.take());
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

    /// Takes the writer's role as soon as it is free.
    pub(super) fn poll_role(&self, watcher: u64, cx: &Context<'_>) -> Poll<Result<(), RoleRefused>> {
        let waker = cx.waker().clone();
        self.change(|state, deferred| {
            let answer = match state.condition {
                Condition::Writing => {
                    state.role.register(watcher, waker, deferred);
                    return Poll::Pending;
                }
                Condition::Complete => Err(RoleRefused::Complete),
                Condition::Discarded(_) => Err(RoleRefused::Discarded),
                Condition::Idle | Condition::Failed(_) => {
                    state.set_condition(Condition::Writing, deferred);
                    Ok(())
                }
            };
            deferred.stale.push(waker);
            Poll::Ready(answer)
        })
    }

    pub(super) fn leave_role_queue(&self, watcher: u64) {
        self.change(|state, deferred| state.role.unregister(watcher, deferred));
    }

    /// The writer is gone. If it neither committed nor failed, the next one can go on.
    pub(super) fn leave_role(&self) {
        self.change(|state, deferred| {
            // A commit, a failure or a discard has ended the role already, and the next writer may have it.
            if matches!(state.condition, Condition::Writing) {
                state.set_condition(Condition::Idle, deferred);
            }
        });
    }

    /// `range` can be read from now on. Called after its bytes are where a read finds them.
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

    /// `range` cannot be read any more. Called before its bytes go.
    pub(super) fn withdraw(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.change(|state, deferred| {
            state.present.remove(range);
            state.status.notify(deferred);
        });
    }

    /// `range` was present and is damaged: it is missing from now on, if a fetcher can replace it. A complete resource loses
    /// bytes only with `reopen`.
    ///
    /// `first` answers, under the lock, whether this is the first report. It has to be asked under the lock: a reader that
    /// knows of the loss and looks here afterwards then finds the range missing, or replaced, never still present.
    pub(super) fn lose(&self, range: Range<u64>, reopen: bool, first: impl FnOnce() -> bool) -> Loss {
        self.change(|state, deferred| {
            let complete = matches!(state.condition, Condition::Complete);
            if state.sealed || complete && !reopen {
                return Loss::Refused;
            }
            // Reopened for a writer that repairs it. Readers go through the lock again from here on.
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

    /// If all of `0..len` is present, nothing is lost from now on until the resource is complete or
    /// [unsealed](Self::unseal). `Err` is the first missing range.
    ///
    /// A commit works on the file without the lock. Without the seal a loss meanwhile would let it commit a damaged file.
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
            // An end is stated once. Were it moved, a reader that was told the end would have been told wrong.
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
            // Last, and under the lock: a reader that sees it needs nothing else of the state.
            if let Some(len) = state.len {
                self.finished.store(len, Ordering::Release);
            }
        });
    }

    /// Ends every wait with `cause`, for good (`discarded`) or until the next writer. What is complete stays so.
    pub(super) fn fail(&self, cause: Arc<E>, discarded: bool) {
        self.change(|state, deferred| {
            // Every byte is present: no wait can be for a missing one.
            if matches!(state.condition, Condition::Complete) {
                deferred.causes.push(cause);
                return;
            }
            // Left with each waiter: the condition alone would be overwritten by a writer that comes before they look.
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

    /// Ends the waits of this moment with `cause`. Those that follow wait: the writer goes on.
    #[allow(dead_code, reason = "only `file` sits out outages")]
    pub(super) fn fail_waits(&self, cause: &Arc<E>) {
        self.change(|state, deferred| {
            let mut failed = false;
            for waiter in state.waiters.values_mut() {
                // The wait ends here and not when the waiter looks: a writer that asks for the demand in between would take it
                // for a new one, and try again for nobody.
                if waiter.awaits.take().is_some() {
                    deferred.causes.extend(waiter.failed.replace(cause.clone()));
                    deferred.wakers.extend(waiter.waker.take());
                    failed = true;
                }
            }
            if failed {
                state.status.notify(deferred);
            }
        });
    }

    // Watching.

    /// The demand, if it changed since `seen`; `None` once nobody reads any more.
    pub(super) fn poll_demand(&self, watcher: u64, seen: &mut u64, cx: &Context<'_>) -> Poll<Option<Demand>> {
        let waker = cx.waker().clone();
        self.change(|state, deferred| {
            // For good: no handle can come any more, so that this needs no version.
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

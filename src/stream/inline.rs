//! A source that runs in its consumer's own poll: no task, no queue, no wake-up.
//!
//! The engine lies in a slot. The consumer takes it out to poll it, a handle takes it out to carry out a command while the
//! consumer is stalled. So no lock is held while the source's code runs.
//!
//! A thread that finds the engine taken leaves without waiting. That loses nothing: the thread that has the engine looks
//! into the mailbox again after putting it back, and wakes the consumer if it was a handle's.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use super::cursor::Cursor;
use super::engine::{Engine, Item, TURNS, discard, panic_text};
use super::handle::Nudge;
use super::mailbox::Mailbox;
use super::sync::{AtomicWaker, Mutex};
use super::{Message, Source, StreamError};

enum EngineState<S: Source> {
    Here(Box<Engine<S>>),
    Taken,
    /// The stream ended, its consumer was dropped, or the source panicked with this text. A thread that still has the
    /// engine drops it.
    Gone(Option<String>),
}

pub(super) struct Slot<S: Source> {
    state: Mutex<EngineState<S>>,
    consumer: AtomicWaker,
    mailbox: Arc<Mailbox<S::Error>>,
}

impl<S: Source> Slot<S> {
    /// Takes the engine out. The error is `None` while another thread has it.
    fn take(&self) -> Result<Box<Engine<S>>, Option<Gone>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match mem::replace(&mut *state, EngineState::Taken) {
            EngineState::Here(engine) => Ok(engine),
            EngineState::Taken => Err(None),
            EngineState::Gone(panic) => {
                *state = EngineState::Gone(panic.clone());
                Err(Some(Gone { panic }))
            }
        }
    }

    /// Runs `work` on the engine and puts it back. After a panic the slot stays empty.
    fn run<T>(&self, mut engine: Box<Engine<S>>, work: impl FnOnce(&mut Engine<S>) -> T) -> Result<T, Gone> {
        match catch_unwind(AssertUnwindSafe(|| work(&mut engine))) {
            Ok(done) => {
                self.put(engine);
                Ok(done)
            }
            Err(payload) => {
                let panic = Some(panic_text(&*payload));
                discard(payload);
                self.retire(panic.clone());
                discard(engine);
                Err(Gone { panic })
            }
        }
    }

    fn put(&self, engine: Box<Engine<S>>) {
        // No code that can panic runs under this lock, so a poisoned lock would still guard a whole state.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let EngineState::Gone(_) = *state {
            drop(state);
            discard(engine);
        } else {
            *state = EngineState::Here(engine);
        }
    }

    /// Empties the slot for good. What was in it is dropped outside the lock: it is the source's code.
    fn retire(&self, panic: Option<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = match *state {
            EngineState::Gone(_) => None,
            _ => Some(mem::replace(&mut *state, EngineState::Gone(panic))),
        };
        drop(state);
        self.mailbox.close();
        discard(left);
    }
}

/// The engine is gone. `panic` is the text, if the source panicked.
struct Gone {
    panic: Option<String>,
}

impl<S: Source> Nudge for Slot<S> {
    fn nudge(&self) {
        // Again after each round: a command that came while the engine was out found it taken, and its sender left.
        while !self.mailbox.is_empty() {
            let Ok(engine) = self.take() else { return };
            let _ = self.run(engine, |engine| engine.serve(|_| true));
            // The consumer may sleep on the old stream, or it found the engine taken.
            self.consumer.wake();
        }
    }
}

/// The consumer's end of a [`Slot`]. Dropping it drops the source.
pub(super) struct Inline<S: Source> {
    slot: Arc<Slot<S>>,
    cursor: Cursor,
    ended: bool,
}

type Received<C, E> = Option<Result<Message<C>, StreamError<E>>>;

impl<S: Source> Inline<S> {
    pub(super) fn new(engine: Engine<S>) -> Self {
        let mailbox = Arc::clone(engine.mailbox());
        let state = Mutex::new(EngineState::Here(Box::new(engine)));
        Self {
            slot: Arc::new(Slot {
                state,
                consumer: AtomicWaker::new(),
                mailbox,
            }),
            cursor: Cursor::new(),
            ended: false,
        }
    }

    pub(super) fn slot(&self) -> &Arc<Slot<S>> {
        &self.slot
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox<S::Error>> {
        &self.slot.mailbox
    }

    pub(super) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Received<S::Control, S::Error>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let slot = Arc::clone(&self.slot);
        let mut registered = false;
        let engine = loop {
            match slot.take() {
                Ok(engine) => break engine,
                Err(Some(gone)) => return self.gone(gone),
                Err(None) if registered => return Poll::Pending,
                // A handle has it. Register first, then look again: the handle may have put it back, and woken nobody,
                // in between.
                Err(None) => {
                    slot.consumer.register(cx.waker());
                    registered = true;
                }
            }
        };
        let polled = slot.run(engine, |engine| {
            Self::step(&slot, engine, cx).map(|item| (item, engine.seek()))
        });
        // For the handle that found the engine taken by this poll.
        slot.nudge();
        let (item, seek) = match polled {
            Err(gone) => return self.gone(gone),
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(ready)) => ready,
        };
        if seek.generation != self.cursor.generation() {
            self.cursor.jump(seek);
        }
        self.cursor.advance(item.bytes());
        Poll::Ready(match item {
            Item::Data(data) => Some(Ok(Message::Data(data))),
            Item::Control(control) => Some(Ok(Message::Control(control))),
            Item::Failed(error) => {
                self.ended = true;
                Some(Err(*error))
            }
            Item::End => {
                self.ended = true;
                None
            }
        })
    }

    /// The next item behind the last seek.
    fn step(
        slot: &Slot<S>,
        engine: &mut Engine<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Item<S::Control, S::Error>> {
        for _ in 0..TURNS {
            engine.serve(|_| true);
            let Poll::Ready(item) = engine.poll_next(cx) else {
                // Before the engine is put back: the handle that takes it next must find this waker.
                slot.consumer.register(cx.waker());
                return Poll::Pending;
            };
            // A seek that was asked for during the poll makes the item stale.
            if engine.serve(|_| true) {
                discard(item);
                continue;
            }
            match item {
                Item::Data(data) if data.is_empty() => {}
                // The end is final once no seek can be accepted any more. So the slot is retired before the engine could
                // be put back.
                Item::Failed(_) | Item::End => {
                    slot.retire(None);
                    return Poll::Ready(item);
                }
                item => return Poll::Ready(item),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn gone(&mut self, Gone { panic }: Gone) -> Poll<Received<S::Control, S::Error>> {
        self.ended = true;
        Poll::Ready(Some(Err(StreamError::DriverGone { panic })))
    }
}

impl<S: Source> Drop for Inline<S> {
    fn drop(&mut self) {
        self.slot.retire(None);
    }
}

//! A source that runs in its consumer's own poll: no task, no queue, no wake-up.
//!
//! The engine sits in a slot and is taken out to be polled or steered, so no lock is held over the source's code. A
//! handle steers it while the consumer is stalled. Whoever finds it taken goes away, because whoever has it looks into
//! the mailbox again after putting it back, and wakes the consumer.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use super::engine::{Engine, Item, TURNS, discard, panic_text};
use super::handle::Nudge;
use super::mailbox::Mailbox;
use super::sync::{AtomicWaker, Mutex};
use super::{Message, Source, StreamError};

enum Seat<S: Source> {
    Here(Box<Engine<S>>),
    Taken,
    /// Ended, or its consumer dropped, or it panicked. Whoever still has the engine drops it.
    Gone(Option<String>),
}

pub(super) struct Slot<S: Source> {
    seat: Mutex<Seat<S>>,
    consumer: AtomicWaker,
    mailbox: Arc<Mailbox<S::Error>>,
}

impl<S: Source> Slot<S> {
    /// Takes the engine out, or says why not: `None` while another thread has it.
    fn take(&self) -> Result<Box<Engine<S>>, Option<Gone>> {
        let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        match mem::replace(&mut *seat, Seat::Taken) {
            Seat::Here(engine) => Ok(engine),
            Seat::Taken => Err(None),
            Seat::Gone(panic) => {
                *seat = Seat::Gone(panic.clone());
                Err(Some(Gone { panic }))
            }
        }
    }

    /// Runs `work` on the engine and puts it back. A panic leaves the seat empty for good.
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
        // The lock is a pointer's move long, and nothing inside panics; a poisoned one guards the same pointer.
        let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        if let Seat::Gone(_) = *seat {
            drop(seat);
            discard(engine);
        } else {
            *seat = Seat::Here(engine);
        }
    }

    /// Empties the seat for good.
    fn retire(&self, panic: Option<String>) {
        let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        let left = match *seat {
            Seat::Gone(_) => None,
            _ => Some(mem::replace(&mut *seat, Seat::Gone(panic))),
        };
        drop(seat);
        self.mailbox.close();
        discard(left);
    }
}

/// The engine is gone, and with what words.
struct Gone {
    panic: Option<String>,
}

impl<S: Source> Nudge for Slot<S> {
    fn nudge(&self) {
        while !self.mailbox.is_empty() {
            let Ok(engine) = self.take() else { return };
            let _ = self.run(engine, |engine| engine.serve(|| true));
            self.consumer.wake();
        }
    }
}

/// The consumer's end of a [`Slot`]. Dropping it drops the source.
pub(super) struct Inline<S: Source> {
    slot: Arc<Slot<S>>,
    ended: bool,
}

type Received<C, E> = Option<Result<Message<C>, StreamError<E>>>;

impl<S: Source> Inline<S> {
    pub(super) fn new(engine: Engine<S>) -> Self {
        let mailbox = Arc::clone(engine.mailbox());
        let seat = Mutex::new(Seat::Here(Box::new(engine)));
        Self {
            slot: Arc::new(Slot {
                seat,
                consumer: AtomicWaker::new(),
                mailbox,
            }),
            ended: false,
        }
    }

    pub(super) fn slot(&self) -> &Arc<Slot<S>> {
        &self.slot
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox<S::Error>> {
        &self.slot.mailbox
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
                Err(None) => {
                    slot.consumer.register(cx.waker());
                    registered = true;
                }
            }
        };
        let polled = slot.run(engine, |engine| Self::step(&slot, engine, cx));
        slot.nudge();
        match polled {
            Err(gone) => self.gone(gone),
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Item::Data(data))) => Poll::Ready(Some(Ok(Message::Data(data)))),
            Ok(Poll::Ready(Item::Control(control))) => Poll::Ready(Some(Ok(Message::Control(control)))),
            Ok(Poll::Ready(Item::Failed(error))) => {
                self.ended = true;
                Poll::Ready(Some(Err(*error)))
            }
            Ok(Poll::Ready(Item::End)) => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    /// One item, from where the last seek went.
    fn step(
        slot: &Slot<S>,
        engine: &mut Engine<S>,
        cx: &mut Context<'_>,
    ) -> Poll<Item<S::Control, S::Error>> {
        for _ in 0..TURNS {
            engine.serve(|| true);
            let Poll::Ready(item) = engine.poll_next(cx) else {
                // While the engine is out: whoever takes it next must find the waker.
                slot.consumer.register(cx.waker());
                return Poll::Pending;
            };
            if engine.serve(|| true) {
                discard(item);
                continue;
            }
            match item {
                Item::Data(data) if data.is_empty() => {}
                // The end is final only once no seek can slip in any more, so the engine does not go back.
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

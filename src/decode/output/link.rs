//! What the decode thread shares with its handles: commands one way, the time line the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};

use super::{listeners::Listeners, meter::Meter, timeline::Timeline};
use crate::decode::{DecodeError, DecodeInterrupter, Decoder};

pub(super) type Answer = Sender<Result<(), DecodeError>>;

/// What a handle asks of the decode thread.
pub(super) enum Command {
    Seek { time: Duration, answer: Answer },
    Skip { answer: Answer },
    Then(Box<Decoder>),
}

pub(super) struct Link {
    closed: AtomicBool,
    commands: Mutex<VecDeque<Command>>,
    timeline: Mutex<Timeline>,
    thread: OnceLock<Thread>,
    interrupter: DecodeInterrupter,
    pub(super) listeners: Listeners,
    pub(super) meter: Arc<Meter>,
}

// The locks below are held for a few moves each, and nothing in them panics: what a poisoned one holds is whole.
impl Link {
    pub(super) fn new(interrupter: DecodeInterrupter, meter: Arc<Meter>) -> Self {
        Self {
            closed: AtomicBool::new(false),
            commands: Mutex::default(),
            timeline: Mutex::default(),
            thread: OnceLock::new(),
            interrupter,
            listeners: Listeners::default(),
            meter,
        }
    }

    /// The thread that is woken for commands.
    pub(super) fn set_thread(&self, thread: Thread) {
        drop(self.thread.set(thread));
    }

    /// Nobody hears any more: the decode thread gives up what it waits for, and ends.
    pub(super) fn close(&self) {
        // Before the wait is given up: whoever finds that it was, looks here.
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
        self.listeners.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Has the thread look: there is room, or a command.
    pub(super) fn wake_thread(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Has the thread look, whatever it waits for.
    fn wake(&self) {
        // Both: the thread waits for bytes, or it is parked.
        self.interrupter.interrupt();
        self.wake_thread();
    }

    /// Asks for a seek. One that waits to be done is superseded: of many, the last counts.
    pub(super) fn seek(&self, time: Duration) -> Receiver<Result<(), DecodeError>> {
        let (answer, answered) = async_channel::bounded(1);
        let mut commands = self.commands();
        // Under the lock, as `refuse_all` empties the queue: what came behind that would wait for ever.
        if self.is_closed() {
            return answered;
        }
        // Only the last command: a skip between two seeks is no part of either.
        if let Some(Command::Seek { .. }) = commands.back()
            && let Some(Command::Seek { answer, .. }) = commands.pop_back()
        {
            // Whoever asked may have stopped waiting.
            drop(answer.try_send(Err(DecodeError::SeekSuperseded)));
        }
        commands.push_back(Command::Seek { time, answer });
        // The thread that is woken takes this lock.
        drop(commands);
        self.wake();
        answered
    }

    pub(super) fn skip(&self) -> Receiver<Result<(), DecodeError>> {
        // A skip supersedes nothing: two of them leave two tracks.
        let (answer, answered) = async_channel::bounded(1);
        let mut commands = self.commands();
        if self.is_closed() {
            return answered;
        }
        commands.push_back(Command::Skip { answer });
        drop(commands);
        self.wake();
        answered
    }

    pub(super) fn then(&self, next: Decoder) {
        let mut commands = self.commands();
        if self.is_closed() {
            // The decoder is dropped behind the lock: that closes connections.
            drop(commands);
            return;
        }
        commands.push_back(Command::Then(Box::new(next)));
        drop(commands);
        // What is being waited for is wanted still.
        self.wake_thread();
    }

    pub(super) fn next_command(&self) -> Option<Command> {
        self.commands().pop_front()
    }

    /// Whether a command waits that makes what is being done needless.
    pub(super) fn is_superseded(&self) -> bool {
        let goes_elsewhere = |command: &Command| !matches!(command, Command::Then(_));
        self.is_closed() || self.commands().iter().any(goes_elsewhere)
    }

    /// The decode thread is gone: nobody answers any more.
    pub(super) fn refuse_all(&self) {
        // In this order: a command that comes later finds the flag, under the same lock. Dropped unanswered, a command is answered
        // `Stopped`. Dropped behind the lock: a decoder closes connections.
        self.closed.store(true, Ordering::SeqCst);
        let refused = std::mem::take(&mut *self.commands());
        drop(refused);
        self.listeners.notify_all();
    }

    fn commands(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Ends the decode thread when it is dropped.
#[derive(Debug)]
pub(super) struct Stop(Arc<Link>);

impl Stop {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self(link)
    }

    pub(super) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.0)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::tone;
    use super::*;

    /// The thread may end between any look at the flag and the command.
    #[test]
    fn s1_what_is_asked_of_a_thread_that_is_gone_is_answered() {
        let link = Link::new(tone(0.1).interrupter(), Arc::default());
        link.refuse_all();
        assert!(link.seek(Duration::ZERO).recv_blocking().is_err());
        assert!(link.skip().recv_blocking().is_err());
        link.then(tone(0.2));
        assert!(link.next_command().is_none(), "a decoder is kept open");
    }

    #[test]
    fn a_queued_track_supersedes_no_seek() {
        let link = Link::new(tone(0.1).interrupter(), Arc::default());
        link.then(tone(0.2));
        assert!(!link.is_superseded());
        let _answered = link.seek(Duration::ZERO);
        assert!(link.is_superseded());
    }
}

//! The task that runs a source.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Source;
use super::engine::{Engine, Item, TURNS, discard, panic_text};
use super::queue::Outlet;

/// Runs a source and fills the queue of the [`Stream`](super::Stream) it was made with.
///
/// Made by [`Stream::with_driver`](super::Stream::with_driver), for other executors and for tests that step it by hand.
/// It resolves when the consumer has been dropped or has been handed the end. It never fails and never panics. Dropped
/// earlier, it gives the consumer [`StreamError::DriverGone`](super::StreamError::DriverGone).
///
/// # Cancel safety
///
/// Dropping it drops the source and ends the stream. Do not race it in a loop.
///
/// ```
#[doc = include_str!("doctest_track.txt")]
/// let params = StreamParams::default();
/// let (mut stream, driver) = Stream::with_driver(Track::default(), params);
/// let driver: Driver<Track> = driver;
///
/// // An executor that is shut down drops what it runs.
/// drop(driver);
/// let error = future::block_on(stream.next()).unwrap().unwrap_err();
/// assert!(matches!(error, StreamError::DriverGone { panic: None }));
/// ```
#[must_use = "a driver does nothing unless it is polled, and dropping it ends the stream"]
pub struct Driver<S: Source> {
    running: Option<Running<S>>,
}

struct Running<S: Source> {
    // Dropped before the outlet, whose drop closes the queue: when the consumer sees the close, the source is gone.
    engine: Engine<S>,
    /// What did not fit into the queue. As long as there is something the source is not polled.
    hand: Option<Item<S::Control, S::Error>>,
    outlet: Outlet<S::Control, S::Error>,
}

impl<S: Source> Driver<S> {
    pub(super) fn new(engine: Engine<S>, outlet: Outlet<S::Control, S::Error>) -> Self {
        Self {
            running: Some(Running {
                engine,
                hand: None,
                outlet,
            }),
        }
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            discard(running);
        }
    }
}

// The source is never pinned, and what it opens is boxed, so a driver may move between polls.
impl<S: Source> Unpin for Driver<S> {}

impl<S: Source> Future for Driver<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(running) = this.running.as_mut() else {
            return Poll::Ready(());
        };
        // Unwind safe: after a panic the source is dropped, and the queue holds only what was pushed whole.
        match catch_unwind(AssertUnwindSafe(|| running.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            // Reported before `stop` closes the queue: the consumer reads the text when it sees the close.
            Err(payload) => {
                running.outlet.report_panic(panic_text(&*payload));
                discard(payload);
            }
        }
        this.stop();
        Poll::Ready(())
    }
}

impl<S: Source> Running<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            // First of all: a consumer that has left wants neither an answer to a seek nor another poll of the source.
            if self.outlet.is_closed() {
                return Poll::Ready(());
            }
            if self.engine.serve(|seek| self.outlet.advance(seek)) {
                // Made before the seek, so stale like the queue that `advance` has emptied.
                self.hand = None;
            }
            // What is in the hand goes first, to keep the order of the items.
            let stuck = if let Some(item) = self.hand.take() {
                self.hand = self.outlet.push(item);
                self.hand.is_some()
            } else if let Poll::Ready(item) = self.engine.poll_next(cx) {
                if let Some(rest) = self.outlet.push(item) {
                    self.hand = Some(rest);
                }
                false
            } else {
                true
            };
            if stuck && self.can_sleep(cx) {
                return Poll::Pending;
            }
        }
        // Not stuck, but others want the thread.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Registers the waker, then checks each reason to go on once more: a change between the driver's last check and
    /// the registration wakes nobody. The source has registered the waker itself.
    fn can_sleep(&self, cx: &Context<'_>) -> bool {
        self.outlet.sleep(cx, self.hand.is_some());
        let has_room = self
            .hand
            .as_ref()
            .is_some_and(|item| self.outlet.has_room_for(item));
        !has_room && !self.outlet.is_closed() && self.engine.mailbox().is_empty()
    }
}

impl<S: Source> Drop for Driver<S> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<S: Source> fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("done", &self.running.is_none())
            .finish_non_exhaustive()
    }
}

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
/// Made by [`Stream::with_driver`](super::Stream::with_driver) for executors of one's own, and for tests that step it
/// by hand. It resolves when the stream's consumer has been dropped or has been handed the end; it never fails and
/// never panics. Dropping it earlier gives the consumer
/// [`StreamError::DriverGone`](super::StreamError::DriverGone).
///
/// # Cancel safety
///
/// Not a future to race in a loop: dropping it drops the source.
///
/// ```
#[doc = include_str!("doctest_track.txt")]
/// let (mut stream, driver) = Stream::with_driver(Track::default(), StreamParams::default());
/// let driver: Driver<Track> = driver;
///
/// // An executor that is shut down drops what it runs.
/// drop(driver);
/// let error = future::block_on(stream.next()).unwrap().unwrap_err();
/// assert!(matches!(error, StreamError::DriverGone { panic: None }));
/// ```
#[must_use = "a driver does nothing unless it is polled, and dropping it ends the stream"]
pub struct Driver<S: Source> {
    works: Option<Works<S>>,
}

struct Works<S: Source> {
    // The source goes first, so that a consumer who finds the queue closed finds the source dropped.
    engine: Engine<S>,
    /// What did not fit into the queue. While it is here the source is not polled.
    hand: Option<Item<S::Control, S::Error>>,
    outlet: Outlet<S::Control, S::Error>,
}

impl<S: Source> Driver<S> {
    pub(super) fn new(engine: Engine<S>, outlet: Outlet<S::Control, S::Error>) -> Self {
        Self {
            works: Some(Works {
                engine,
                hand: None,
                outlet,
            }),
        }
    }

    fn stop(&mut self) {
        if let Some(works) = self.works.take() {
            discard(works);
        }
    }
}

// Nothing in here is pinned in place: the source is only ever borrowed, and what it opens is boxed.
impl<S: Source> Unpin for Driver<S> {}

impl<S: Source> Future for Driver<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(works) = this.works.as_mut() else {
            return Poll::Ready(());
        };
        // Unwind safe: after a panic nothing is left of what it could have broken.
        match catch_unwind(AssertUnwindSafe(|| works.poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(payload) => {
                works.outlet.report_panic(panic_text(&*payload));
                discard(payload);
            }
        }
        this.stop();
        Poll::Ready(())
    }
}

impl<S: Source> Works<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            if self.outlet.is_closed() {
                return Poll::Ready(());
            }
            if self.engine.serve(|| self.outlet.advance()) {
                self.hand = None;
            }
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
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Asks to be woken, then looks at all that stands for once more. The source has its own.
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
            .field("done", &self.works.is_none())
            .finish_non_exhaustive()
    }
}

//! What happens, told when it is heard.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::link::Link;
use crate::{
    decode::{DecodeError, DecodeEvent},
    rt,
};

/// The shortest time between two looks at what is heard.
const TICK: Duration = Duration::from_millis(10);

/// Runs until an instant.
type Timer = (Instant, Pin<Box<dyn Future<Output = ()> + Send>>);

/// The events of an [`Output`](super::Output), each told when the frame is pulled that it concerns.
///
/// A failure is the last thing that is told, until a seek goes on. It ends when the output is dropped.
pub struct DecodeEvents {
    link: Arc<Link>,
    /// What was told last of the pull side.
    starved: bool,
    timer: Option<Timer>,
}

impl DecodeEvents {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            starved: false,
            timer: None,
        }
    }

    /// The next event that is heard by now; `None` if there is none yet.
    ///
    /// # Errors
    ///
    /// Why decoding failed: as [`Decoder::next_block`](super::super::Decoder::next_block).
    pub fn try_next(&mut self) -> Result<Option<DecodeEvent>, DecodeError> {
        self.look().transpose()
    }

    fn look(&mut self) -> Option<Result<DecodeEvent, DecodeError>> {
        let heard = self.link.meter.heard();
        // Events of the track before what the pull says: a track that has changed explains why nothing was there.
        if let Some(event) = self.link.timeline().due(heard) {
            return Some(event);
        }
        let starved = self.link.meter.is_starved();
        // Told as a change. A state that came and went between two looks was not heard as a stop either.
        if starved == self.starved {
            return None;
        }
        self.starved = starved;
        Some(Ok(if starved {
            DecodeEvent::Buffering
        } else {
            DecodeEvent::Resumed
        }))
    }

    /// How long nothing is heard but what was heard so far, at the speed of a sound card; `None` until the decode thread does
    /// something.
    fn quiet(&self) -> Option<Duration> {
        let meter = &self.link.meter;
        let mut timeline = self.link.timeline();
        // Under the lock, as a seek changes places and events in one go.
        let (heard, written) = (meter.heard(), meter.written());
        let next_event = timeline.next_event();
        if self.starved {
            // What was written since then is there for the next pull, whenever that comes.
            return (written > heard || next_event.is_some()).then_some(TICK);
        }
        // A pull that empties the ring is starved, unless that is the end.
        let dry = (heard < meter.end()).then_some(written);
        let next = next_event.into_iter().chain(dry).min()?;
        let rate = timeline.now(heard).map_or(0, |(_, spec, _)| {
            u64::from(spec.sample_rate) * u64::from(spec.channels.count())
        });
        let micros = next.saturating_sub(heard) * 1_000_000 / rate.max(1);
        Some(Duration::from_micros(micros).max(TICK))
    }
}

impl futures_core::Stream for DecodeEvents {
    type Item = Result<DecodeEvent, DecodeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            // Before the look: what the decode thread does from now on wakes this task, and what it did before is seen.
            self.link.listeners.add(cx.waker(), false);
            if let Some(event) = self.look() {
                return Poll::Ready(Some(event));
            }
            if self.link.is_closed() {
                return Poll::Ready(None);
            }
            let Some(quiet) = self.quiet() else {
                self.timer = None;
                return Poll::Pending;
            };
            self.link.listeners.add(cx.waker(), true);
            let end = Instant::now() + quiet;
            // One that runs out sooner does no harm.
            if self.timer.as_ref().is_none_or(|(at, _)| *at > end) {
                self.timer = Some((end, Box::pin(rt::sleep(quiet))));
            }
            let Some((_, timer)) = &mut self.timer else {
                return Poll::Pending;
            };
            match timer.as_mut().poll(cx) {
                Poll::Ready(()) => self.timer = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl fmt::Debug for DecodeEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeEvents").finish_non_exhaustive()
    }
}

//! What happens, told when it is heard.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::link::Link;
use crate::{
    decode::{DecodeError, DecodeEvent},
    rt,
};

/// How often a waiting app looks: the pull side, which knows what is heard, wakes nobody.
const TICK: Duration = Duration::from_millis(10);

/// The events of an [`Output`](super::Output), each told when the frame is pulled that it concerns.
///
/// A failure is the last thing that is told, until a seek goes on. It ends when the output is dropped.
pub struct DecodeEvents {
    link: Arc<Link>,
    /// What was told last of the pull side.
    starved: bool,
    tick: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl DecodeEvents {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            starved: false,
            tick: None,
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
        if let Some(event) = self.link.timeline().due(heard) {
            return Some(event);
        }
        let starved = self.link.meter.is_starved();
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
}

impl futures_core::Stream for DecodeEvents {
    type Item = Result<DecodeEvent, DecodeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.look() {
                self.tick = None;
                return Poll::Ready(Some(event));
            }
            if self.link.is_closed() {
                return Poll::Ready(None);
            }
            let tick = self.tick.get_or_insert_with(|| Box::pin(rt::sleep(TICK)));
            match tick.as_mut().poll(cx) {
                Poll::Ready(()) => self.tick = None,
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

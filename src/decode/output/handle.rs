//! The remote control of an output.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{events::DecodeEvents, link::Link};
use crate::decode::{DecodeError, Decoder, Format, Tags, decoder::buffered};

/// Commands an [`Output`](super::Output) or [`Blocks`](super::Blocks), and tells what is heard, from any thread.
///
/// A handle keeps nothing alive: what it belongs to stops when that is dropped, however many handles are left.
#[derive(Clone)]
pub struct PlayHandle {
    link: Arc<Link>,
}

impl PlayHandle {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// Goes to `time` of the track that is heard. When this returns nothing is heard any more that was decoded before, and
    /// what is decoded from now on begins with the frame nearest to `time`. A wait for bytes is given up for it.
    ///
    /// # Errors
    ///
    /// - [`DecodeError::SeekUnsupported`] for what can only be read in order: it is heard on as before.
    /// - [`DecodeError::SeekSuperseded`] if another seek came before this one was begun.
    /// - [`DecodeError::Stopped`] if what is commanded was dropped.
    /// - Else as [`Decoder::seek`]; another seek may help.
    ///
    /// # Cancel safety
    ///
    /// The command is on its way once the future has been polled. Dropping it afterwards drops the answer only.
    pub async fn seek(&self, time: Duration) -> Result<(), DecodeError> {
        if self.link.is_closed() {
            return Err(DecodeError::Stopped);
        }
        // Asked before the first wait: a future that is dropped from here on takes nothing back.
        let answered = self.link.seek(time);
        answered.recv().await.unwrap_or(Err(DecodeError::Stopped))
    }

    /// Leaves the track that is heard for the next one of the queue.
    ///
    /// # Errors
    ///
    /// [`DecodeError::NothingQueued`], and as [`seek`](Self::seek).
    ///
    /// # Cancel safety
    ///
    /// As [`seek`](Self::seek).
    pub async fn skip(&self) -> Result<(), DecodeError> {
        if self.link.is_closed() {
            return Err(DecodeError::Stopped);
        }
        let answered = self.link.skip();
        answered.recv().await.unwrap_or(Err(DecodeError::Stopped))
    }

    /// Queues `next` behind all that is queued: its first frame follows without a frame between them. See
    /// [`Decoder::then`].
    pub fn then(&self, next: Decoder) {
        self.link.then(next);
    }

    /// Where in its track the frame is that is pulled next. Stands still while nothing is pulled, or nothing is there.
    pub fn position(&self) -> Duration {
        let now = self.link.timeline().now(self.link.meter.heard());
        now.map(|(.., position)| position).unwrap_or_default()
    }

    /// How long the track plays that is heard, where that is known.
    pub fn duration(&self) -> Option<Duration> {
        let now = self.link.timeline().now(self.link.meter.heard());
        now.and_then(|(playing, ..)| playing.duration)
    }

    /// Which parts of the track that is heard are there by now. See [`Decoder::buffered`].
    pub fn buffered(&self) -> Vec<Range<Duration>> {
        let now = self.link.timeline().now(self.link.meter.heard());
        let Some((playing, ..)) = now else {
            return Vec::new();
        };
        let arrived = playing.arrived.as_ref().and_then(Weak::upgrade);
        buffered(arrived.as_deref(), playing.duration)
    }

    /// What the track is that is heard; `None` before any sound was decoded.
    pub fn format(&self) -> Option<Format> {
        let now = self.link.timeline().now(self.link.meter.heard());
        now.map(|(playing, ..)| playing.format.clone())
    }

    /// Asks for a seek, and does not wait for it; whether the track that is heard can be sought in.
    #[cfg(feature = "rodio")]
    pub(super) fn begin_seek(&self, time: Duration) -> bool {
        let now = self.link.timeline().now(self.link.meter.heard());
        let seekable = now.is_some_and(|(playing, ..)| playing.seekable);
        if seekable {
            drop(self.link.seek(time));
        }
        seekable
    }

    /// Whether [`seek`](Self::seek) is worth calling.
    pub fn is_seekable(&self) -> bool {
        let now = self.link.timeline().now(self.link.meter.heard());
        now.is_some_and(|(playing, ..)| playing.seekable)
    }

    /// What the track says of itself that is heard; nothing before any sound was decoded.
    pub fn tags(&self) -> Arc<Tags> {
        let now = self.link.timeline().now(self.link.meter.heard());
        now.map(|(playing, ..)| Arc::clone(&playing.tags))
            .unwrap_or_default()
    }

    /// Whether the last pull found fewer frames than it asked for, because decoding is behind.
    pub fn is_starved(&self) -> bool {
        self.link.meter.is_starved()
    }

    /// How many frames were asked for and not there, since the beginning.
    pub fn missing_frames(&self) -> u64 {
        self.link.meter.missing()
    }

    /// Whether what it commands is gone.
    pub fn is_stopped(&self) -> bool {
        self.link.is_closed()
    }

    /// What happens, each event when it is heard. Each is told once: of several of these streams, to the first that asks.
    pub fn events(&self) -> DecodeEvents {
        DecodeEvents::new(Arc::clone(&self.link))
    }
}

impl fmt::Debug for PlayHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlayHandle")
            .field("stopped", &self.is_stopped())
            .finish_non_exhaustive()
    }
}

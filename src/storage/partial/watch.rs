//! Looking on: what readers need, for a fetcher, and how the resource stands, for a display.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::Inner;

/// What readers need at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Demand {
    /// The missing bytes somebody waits for, the longest waiting first. Half-open ranges, cut at the known end; each
    /// reaches as far as the waiting read asked, though its first byte is enough to end the wait.
    pub waiting: Vec<Range<u64>>,
    /// Where each reader reads, in no order. Exact when a reader jumps or waits; else up to 64 KiB behind.
    pub positions: Vec<u64>,
}

/// How the writing of a resource stands.
#[non_exhaustive]
pub enum Condition<E> {
    /// Nobody writes. The next [`Writer`](super::Writer) goes on from the bytes present.
    Idle,
    /// Somebody holds the writer's role.
    Writing,
    /// Every byte is there, under the final name.
    Complete,
    /// Given up with this cause, until the next writer.
    Failed(Arc<E>),
    /// Given up with this cause for good: its files are gone.
    Discarded(Arc<E>),
}

impl<E> Clone for Condition<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Idle => Self::Idle,
            Self::Writing => Self::Writing,
            Self::Complete => Self::Complete,
            Self::Failed(cause) => Self::Failed(cause.clone()),
            Self::Discarded(cause) => Self::Discarded(cause.clone()),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Condition<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("Idle"),
            Self::Writing => f.write_str("Writing"),
            Self::Complete => f.write_str("Complete"),
            Self::Failed(cause) => f.debug_tuple("Failed").field(cause).finish(),
            Self::Discarded(cause) => f.debug_tuple("Discarded").field(cause).finish(),
        }
    }
}

/// A resource at one moment, as a progress bar wants it.
#[non_exhaustive]
pub struct Status<E> {
    /// The bytes present: half-open ranges, ascending, apart.
    pub available: Vec<Range<u64>>,
    /// The end, in bytes, once known.
    pub len: Option<u64>,
    /// How the writing stands.
    pub condition: Condition<E>,
    /// The positions at which readers wait for bytes now.
    pub stalled_at: Vec<u64>,
    /// How many times a reader had to wait so far; tells of stalls that came and went between two looks.
    pub stalls: u64,
}

impl<E: fmt::Debug> fmt::Debug for Status<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("available", &self.available)
            .field("len", &self.len)
            .field("condition", &self.condition)
            .field("stalled_at", &self.stalled_at)
            .field("stalls", &self.stalls)
            .finish()
    }
}

/// Tells a fetcher when [`Demand`] changes. From [`Writer::demand`](super::Writer::demand).
///
/// It does not keep the resource wanted: when no [`StreamingResource`](super::StreamingResource) and no reader is left,
/// it ends.
pub struct DemandWatch<E> {
    inner: Arc<Inner<E>>,
    id: u64,
    seen: u64,
}

impl<E> DemandWatch<E> {
    pub(super) fn new(inner: Arc<Inner<E>>) -> Self {
        let id = inner.presence.new_id();
        Self { inner, id, seen: 0 }
    }

    /// The demand, at once on the first call and then each time it changed: a wait began, a reader came, jumped, left
    /// or advanced by 64 KiB, or the end became known. `None` once nobody reads any more: stop fetching.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: a change it did not deliver is delivered by the next call.
    pub async fn changed(&mut self) -> Option<Demand> {
        std::future::poll_fn(|cx| self.inner.presence.poll_demand(self.id, &mut self.seen, cx)).await
    }
}

impl<E> Drop for DemandWatch<E> {
    fn drop(&mut self) {
        self.inner.presence.stop_watching(self.id);
    }
}

impl<E> fmt::Debug for DemandWatch<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemandWatch").finish_non_exhaustive()
    }
}

/// Tells a display when [`Status`] changes. From [`StreamingResource::watch`](super::StreamingResource::watch).
pub struct StatusWatch<E> {
    inner: Arc<Inner<E>>,
    id: u64,
    seen: u64,
}

impl<E> StatusWatch<E> {
    pub(super) fn new(inner: Arc<Inner<E>>) -> Self {
        let id = inner.presence.new_id();
        Self { inner, id, seen: 0 }
    }

    /// The status, at once on the first call and then each time it changed: bytes came, the end became known, a read
    /// stalled or went on, the writing began, ended or failed. Changes between two calls count as one, so a slow
    /// watcher holds nothing up and queues nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: a change it did not deliver is delivered by the next call.
    pub async fn changed(&mut self) -> Status<E> {
        std::future::poll_fn(|cx| self.inner.presence.poll_status(self.id, &mut self.seen, cx)).await
    }
}

impl<E> Drop for StatusWatch<E> {
    fn drop(&mut self) {
        self.inner.presence.stop_watching(self.id);
    }
}

impl<E> fmt::Debug for StatusWatch<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusWatch").finish_non_exhaustive()
    }
}

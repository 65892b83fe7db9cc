//! Watching what readers need, for a fetcher, and how the resource stands, for a display.

use std::fmt;
use std::sync::Arc;

use super::inner::Inner;
use super::status::{Demand, Status};

/// Tells a fetcher when the [`Demand`] changes. From [`Writer::demand`](super::Writer::demand).
///
/// It does not keep the resource in use. When no [`StreamingResource`](super::StreamingResource) and no reader is left, it
/// ends.
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

    /// The demand, at once on the first call, and then each time it changed: a wait began; a reader came, jumped, left or
    /// advanced by 64 KiB; the end became known. `None` once nobody reads any more: then stop fetching.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next call delivers the change.
    pub async fn changed(&mut self) -> Option<Demand> {
        std::future::poll_fn(|cx| self.inner.presence.poll_demand(self.id, &mut self.seen, cx)).await
    }
}

impl<E> Drop for DemandWatch<E> {
    fn drop(&mut self) {
        // A `changed` that was dropped before has left its waker: it stays for the next call, and goes here.
        self.inner.presence.stop_watching(self.id);
    }
}

impl<E> fmt::Debug for DemandWatch<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemandWatch").finish_non_exhaustive()
    }
}

/// Tells a display when the [`Status`] changes. From [`StreamingResource::watch`](super::StreamingResource::watch).
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

    /// The status, at once on the first call, and then each time it changed: bytes came; the end became known; a read stalled
    /// or went on; the writing began, ended or failed. Several changes between two calls count as one: a slow watcher delays
    /// nothing and queues nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next call delivers the change.
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

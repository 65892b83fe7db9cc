//! Waiting for a range: one future, for tasks and for threads.

use std::fmt;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use super::error::{StreamingError, WaitError};
use super::fetcher::Turn;
use super::inner::Inner;
use super::resource::StreamingResource;
use super::status::{Found, Waited};
use crate::storage::block_on::block_on;

/// Waits for ranges of a resource, and can be [interrupted](Interrupter).
///
/// From [`StreamingResource::waiter`]. One from [`StreamingResource::reading`] reads as well, and the fetcher is told of its
/// position.
pub struct Waiter<E> {
    resource: StreamingResource<E>,
    id: u64,
}

impl<E> Waiter<E> {
    pub(super) fn new(resource: StreamingResource<E>, reads_at: Option<u64>) -> Self {
        let id = resource.inner.presence.register(reads_at);
        Self { resource, id }
    }

    /// Resolves when all of `range` is present, or at a proven end. See [`StreamingResource::wait_range`].
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`] and [`WaitError::Interrupted`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and withdraws it from the demand. Nothing is lost.
    pub async fn wait(&mut self, range: Range<u64>) -> Result<Waited, WaitError<E>> {
        self.wait_for(range.clone(), range).await
    }

    /// [`wait`](Self::wait) for a thread that may block.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`] and [`WaitError::Interrupted`].
    pub fn wait_blocking(&mut self, range: Range<u64>) -> Result<Waited, WaitError<E>> {
        block_on(self.wait_for(range.clone(), range))
    }

    /// A handle that ends this waiter's waits from another thread.
    pub fn interrupter(&self) -> Interrupter<E> {
        Interrupter {
            inner: Arc::downgrade(&self.resource.inner),
            waiter: self.id,
        }
    }

    /// The resource it waits for.
    pub fn resource(&self) -> &StreamingResource<E> {
        &self.resource
    }

    /// [`StreamingResource::read_at`], with the position told to the fetcher: at once if it is a jump, otherwise in steps of
    /// 64 KiB.
    ///
    /// # Errors
    ///
    /// As [`StreamingResource::read_at`].
    pub fn read(&mut self, position: u64, buffer: &mut [u8]) -> Result<Found, StreamingError> {
        if buffer.is_empty() {
            return Ok(Found::Bytes(0));
        }
        let inner = &self.resource.inner;
        let ahead = inner.presence.read_ahead(self.id, position, buffer.len() as u64);
        inner.read(ahead, position, buffer)
    }

    /// Resolves when the byte at `position` is present, or the end is proven at or before it. Meanwhile the fetcher is told
    /// of all the bytes that will be read then, `asked` of them.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`] and [`WaitError::Interrupted`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and withdraws it from the demand. Nothing is lost.
    pub async fn wait_first(&mut self, position: u64, asked: u64) -> Result<Waited, WaitError<E>> {
        let needed = position..position.saturating_add(1);
        let asked = position..position.saturating_add(asked.max(1));
        self.wait_for(needed, asked).await
    }

    /// [`wait_first`](Self::wait_first) for a thread that may block.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`] and [`WaitError::Interrupted`].
    pub fn wait_first_blocking(&mut self, position: u64, asked: u64) -> Result<Waited, WaitError<E>> {
        block_on(self.wait_first(position, asked))
    }

    /// The right to run the fetcher on this thread. Taken before a read that may wait, so that the fetcher's own thread is not
    /// woken for it.
    #[cfg_attr(not(feature = "io"), allow(dead_code, reason = "`io` reads"))]
    pub(crate) fn take_turn(&self) -> Option<Turn> {
        self.resource.inner.take_turn()
    }

    /// [`wait_first_blocking`](Self::wait_first_blocking), in which this thread runs the fetcher.
    #[cfg_attr(not(feature = "io"), allow(dead_code, reason = "`io` reads"))]
    pub(crate) fn wait_first_fetching(
        &mut self,
        position: u64,
        asked: u64,
        turn: &Turn,
    ) -> Result<Waited, WaitError<E>> {
        let mut wait = pin!(self.wait_first(position, asked));
        block_on(std::future::poll_fn(|cx| {
            loop {
                // Before each run: the run before may have brought the byte. And before the first one, so that the fetcher finds
                // what this thread waits for.
                if let Poll::Ready(waited) = wait.as_mut().poll(cx) {
                    return Poll::Ready(waited);
                }
                if !turn.run(cx.waker()) {
                    return Poll::Pending;
                }
            }
        }))
    }

    fn wait_for(&mut self, needed: Range<u64>, asked: Range<u64>) -> Wait<'_, E> {
        Wait {
            waiter: self,
            needed,
            asked,
            over: false,
        }
    }
}

impl<E> Drop for Waiter<E> {
    fn drop(&mut self) {
        self.resource.inner.presence.unregister(self.id);
    }
}

impl<E> fmt::Debug for Waiter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// Ends the waits of one [`Waiter`] or reader, now and from now on, until [`clear`](Self::clear).
///
/// Bytes that are present are still read: only waiting ends. An interrupt stays in force, so that one a moment before the
/// wait is not lost.
pub struct Interrupter<E> {
    inner: Weak<Inner<E>>,
    waiter: u64,
}

impl<E> Interrupter<E> {
    /// Ends the wait with [`WaitError::Interrupted`], and each later one.
    pub fn interrupt(&self) {
        self.set(true);
    }

    /// Lets waits wait again.
    pub fn clear(&self) {
        self.set(false);
    }

    fn set(&self, interrupted: bool) {
        // Weak, so that an interrupter kept by the app keeps no file open.
        if let Some(inner) = self.inner.upgrade() {
            inner.presence.set_interrupted(self.waiter, interrupted);
        }
    }
}

impl<E> Clone for Interrupter<E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            waiter: self.waiter,
        }
    }
}

impl<E> fmt::Debug for Interrupter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupter").finish_non_exhaustive()
    }
}

struct Wait<'a, E> {
    waiter: &'a Waiter<E>,
    needed: Range<u64>,
    asked: Range<u64>,
    over: bool,
}

impl<E> Future for Wait<'_, E> {
    type Output = Result<Waited, WaitError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let presence = &self.waiter.resource.inner.presence;
        let answer = presence.poll_range(self.waiter.id, &self.needed, &self.asked, cx);
        // A wait that ended has nothing to withdraw. Its waiter may wait for something else by now.
        self.over = answer.is_ready();
        answer
    }
}

impl<E> Drop for Wait<'_, E> {
    fn drop(&mut self) {
        if !self.over {
            self.waiter.resource.inner.presence.stop_waiting(self.waiter.id);
        }
    }
}

//! What loom can see through: its own primitives, and plain stand-ins for the packages' queues.
//!
//! The stand-ins are as linearizable as what they replace and nothing more, so that what is explored is how *this* module
//! puts the parts together.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::task::Waker;

use concurrent_queue::{ForcePushError, PopError, PushError};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Mutex, MutexGuard};

pub(in crate::stream) struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    pub(in crate::stream) fn new() -> Self {
        Self(loom::future::AtomicWaker::new())
    }

    pub(in crate::stream) fn register(&self, waker: &Waker) {
        self.0.register_by_ref(waker);
    }

    pub(in crate::stream) fn wake(&self) {
        self.0.wake();
    }
}

pub(in crate::stream) struct ConcurrentQueue<T> {
    items: Mutex<VecDeque<T>>,
    /// Twice the length, and whether it is closed. Looking at it orders nothing, as with the real one: a lock would order
    /// more than a caller may rely on.
    word: AtomicUsize,
    capacity: usize,
}

const CLOSED: usize = 1;
const ITEM: usize = 2;

impl<T> ConcurrentQueue<T> {
    pub(in crate::stream) fn bounded(capacity: usize) -> Self {
        Self {
            items: Mutex::new(VecDeque::new()),
            word: AtomicUsize::new(0),
            capacity,
        }
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> usize {
        self.word.load(Ordering::Relaxed)
    }

    pub(in crate::stream) fn push(&self, item: T) -> Result<(), PushError<T>> {
        let mut items = self.items();
        if self.is_closed() {
            return Err(PushError::Closed(item));
        }
        if items.len() == self.capacity {
            return Err(PushError::Full(item));
        }
        items.push_back(item);
        self.word.fetch_add(ITEM, Ordering::AcqRel);
        Ok(())
    }

    pub(in crate::stream) fn force_push(&self, item: T) -> Result<Option<T>, ForcePushError<T>> {
        let mut items = self.items();
        if self.is_closed() {
            return Err(ForcePushError(item));
        }
        let displaced = if items.len() == self.capacity {
            items.pop_front()
        } else {
            None
        };
        items.push_back(item);
        if displaced.is_none() {
            self.word.fetch_add(ITEM, Ordering::AcqRel);
        }
        Ok(displaced)
    }

    pub(in crate::stream) fn pop(&self) -> Result<T, PopError> {
        let word = self.look();
        if word >= ITEM
            && let Some(item) = self.items().pop_front()
        {
            self.word.fetch_sub(ITEM, Ordering::AcqRel);
            return Ok(item);
        }
        Err(if word & CLOSED == 0 {
            PopError::Empty
        } else {
            PopError::Closed
        })
    }

    /// Under the lock, so that nothing is pushed afterwards.
    pub(in crate::stream) fn close(&self) -> bool {
        let _items = self.items();
        self.word.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED == 0
    }

    pub(in crate::stream) fn is_closed(&self) -> bool {
        self.look() & CLOSED != 0
    }

    pub(in crate::stream) fn is_empty(&self) -> bool {
        self.look() < ITEM
    }

    pub(in crate::stream) fn is_full(&self) -> bool {
        self.look() / ITEM == self.capacity
    }
}

/// Of async-channel, as much as an answer needs.
pub(in crate::stream) mod channel {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;

    use concurrent_queue::PopError;

    use super::{AtomicWaker, ConcurrentQueue};

    struct Channel<T> {
        queue: ConcurrentQueue<T>,
        waker: AtomicWaker,
    }

    pub(in crate::stream) struct Sender<T>(Arc<Channel<T>>);
    pub(in crate::stream) struct Receiver<T>(Arc<Channel<T>>);

    pub(in crate::stream) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let channel = Arc::new(Channel {
            queue: ConcurrentQueue::bounded(capacity),
            waker: AtomicWaker::new(),
        });
        (Sender(Arc::clone(&channel)), Receiver(channel))
    }

    impl<T> Sender<T> {
        pub(in crate::stream) fn try_send(&self, item: T) -> Result<(), T> {
            let sent = self.0.queue.push(item);
            self.0.waker.wake();
            sent.map_err(concurrent_queue::PushError::into_inner)
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.queue.close();
            self.0.waker.wake();
        }
    }

    impl<T> Receiver<T> {
        pub(in crate::stream) async fn recv(&self) -> Result<T, PopError> {
            poll_fn(|cx| {
                self.0.waker.register(cx.waker());
                match self.0.queue.pop() {
                    Err(PopError::Empty) => Poll::Pending,
                    popped => Poll::Ready(popped),
                }
            })
            .await
        }
    }
}

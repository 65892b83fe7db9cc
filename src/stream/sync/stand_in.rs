//! What loom can see through: its own primitives, and plain stand-ins for the packages' queues.
//!
//! The stand-ins are as linearizable as what they replace and nothing more, so that what is explored is how *this* module
//! puts the parts together.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::task::Waker;

use concurrent_queue::{ForcePushError, PopError, PushError};
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

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

pub(in crate::stream) struct ConcurrentQueue<T> {
    state: Mutex<State<T>>,
    capacity: usize,
}

impl<T> ConcurrentQueue<T> {
    pub(in crate::stream) fn bounded(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                closed: false,
            }),
            capacity,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::stream) fn push(&self, item: T) -> Result<(), PushError<T>> {
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed(item));
        }
        if state.items.len() == self.capacity {
            return Err(PushError::Full(item));
        }
        state.items.push_back(item);
        Ok(())
    }

    pub(in crate::stream) fn force_push(&self, item: T) -> Result<Option<T>, ForcePushError<T>> {
        let mut state = self.state();
        if state.closed {
            return Err(ForcePushError(item));
        }
        let displaced = if state.items.len() == self.capacity {
            state.items.pop_front()
        } else {
            None
        };
        state.items.push_back(item);
        Ok(displaced)
    }

    pub(in crate::stream) fn pop(&self) -> Result<T, PopError> {
        let mut state = self.state();
        let empty = if state.closed {
            PopError::Closed
        } else {
            PopError::Empty
        };
        state.items.pop_front().ok_or(empty)
    }

    pub(in crate::stream) fn close(&self) -> bool {
        !std::mem::replace(&mut self.state().closed, true)
    }

    pub(in crate::stream) fn is_closed(&self) -> bool {
        self.state().closed
    }

    pub(in crate::stream) fn is_empty(&self) -> bool {
        self.state().items.is_empty()
    }

    pub(in crate::stream) fn is_full(&self) -> bool {
        self.state().items.len() == self.capacity
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

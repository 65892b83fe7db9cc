//! Stand-ins that loom can explore: its own primitives, and a plain channel in place of async-channel.
//!
//! The channel orders no more than async-channel promises. So loom explores how *this* module puts the parts together.

use std::task::Waker;

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

/// Of async-channel, as much as this module needs.
pub(in crate::stream) mod channel {
    use std::collections::VecDeque;
    use std::future::poll_fn;
    use std::sync::{Arc, PoisonError};
    use std::task::Poll;

    pub(in crate::stream) use async_channel::{RecvError, SendError, TryRecvError, TrySendError};
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::{Mutex, MutexGuard};

    use super::AtomicWaker;

    const CLOSED: usize = 1;
    const ITEM: usize = 2;

    struct Channel<T> {
        items: Mutex<VecDeque<T>>,
        /// Twice the length, and whether it is closed. Looking at it orders nothing, as with the real one: a lock would
        /// order more than a caller may rely on.
        word: AtomicUsize,
        capacity: usize,
        receiver: AtomicWaker,
    }

    pub(in crate::stream) struct Sender<T>(Arc<Channel<T>>);
    pub(in crate::stream) struct Receiver<T>(Arc<Channel<T>>);

    pub(in crate::stream) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let channel = Arc::new(Channel {
            items: Mutex::new(VecDeque::new()),
            word: AtomicUsize::new(0),
            capacity,
            receiver: AtomicWaker::new(),
        });
        (Sender(Arc::clone(&channel)), Receiver(channel))
    }

    impl<T> Channel<T> {
        fn items(&self) -> MutexGuard<'_, VecDeque<T>> {
            self.items.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn look(&self) -> usize {
            self.word.load(Ordering::Relaxed)
        }

        /// Under the lock, so that nothing is pushed afterwards.
        fn close(&self) -> bool {
            let items = self.items();
            let first = self.word.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED == 0;
            drop(items);
            self.receiver.wake();
            first
        }
    }

    impl<T> Sender<T> {
        pub(in crate::stream) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
            let mut items = self.0.items();
            if self.is_closed() {
                return Err(TrySendError::Closed(item));
            }
            if items.len() == self.0.capacity {
                return Err(TrySendError::Full(item));
            }
            items.push_back(item);
            self.0.word.fetch_add(ITEM, Ordering::AcqRel);
            drop(items);
            self.0.receiver.wake();
            Ok(())
        }

        pub(in crate::stream) fn force_send(&self, item: T) -> Result<Option<T>, SendError<T>> {
            let mut items = self.0.items();
            if self.is_closed() {
                return Err(SendError(item));
            }
            let displaced = if items.len() == self.0.capacity {
                items.pop_front()
            } else {
                None
            };
            items.push_back(item);
            if displaced.is_none() {
                self.0.word.fetch_add(ITEM, Ordering::AcqRel);
            }
            drop(items);
            self.0.receiver.wake();
            Ok(displaced)
        }

        pub(in crate::stream) fn close(&self) -> bool {
            self.0.close()
        }

        pub(in crate::stream) fn is_closed(&self) -> bool {
            self.0.look() & CLOSED != 0
        }

        pub(in crate::stream) fn is_empty(&self) -> bool {
            self.0.look() < ITEM
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.close();
        }
    }

    impl<T> Receiver<T> {
        pub(in crate::stream) fn try_recv(&self) -> Result<T, TryRecvError> {
            let word = self.0.look();
            if word >= ITEM
                && let Some(item) = self.0.items().pop_front()
            {
                self.0.word.fetch_sub(ITEM, Ordering::AcqRel);
                return Ok(item);
            }
            Err(if word & CLOSED == 0 {
                TryRecvError::Empty
            } else {
                TryRecvError::Closed
            })
        }

        pub(in crate::stream) async fn recv(&self) -> Result<T, RecvError> {
            poll_fn(|cx| {
                self.0.receiver.register(cx.waker());
                match self.try_recv() {
                    Ok(item) => Poll::Ready(Ok(item)),
                    Err(TryRecvError::Empty) => Poll::Pending,
                    Err(TryRecvError::Closed) => Poll::Ready(Err(RecvError)),
                }
            })
            .await
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.close();
        }
    }
}

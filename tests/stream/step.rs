//! Polling by hand: one poll at a time, wake-ups counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// One task of a hand-run executor.
pub struct Step {
    count: Arc<Count>,
    waker: Waker,
}

impl Step {
    pub fn new() -> Self {
        let count = Arc::new(Count::default());
        Self {
            waker: Arc::clone(&count).into(),
            count,
        }
    }

    pub fn poll<F: Future + Unpin>(&self, future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(&self.waker))
    }

    pub fn next<S: Stream + Unpin>(&self, stream: &mut S) -> Poll<Option<S::Item>> {
        Pin::new(stream).poll_next(&mut Context::from_waker(&self.waker))
    }

    /// How often the task was woken since the last time this was asked.
    pub fn woken(&self) -> usize {
        self.count.0.swap(0, SeqCst)
    }

    pub fn is_woken(&self) -> bool {
        self.count.0.load(SeqCst) > 0
    }

    /// Polls for as long as the task wakes itself, then says how it stands.
    pub fn settle<F: Future + Unpin>(&self, future: &mut F) -> Poll<F::Output> {
        loop {
            self.woken();
            let polled = self.poll(future);
            if polled.is_ready() || self.woken() == 0 {
                return polled;
            }
        }
    }
}

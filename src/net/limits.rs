//! Limits of time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::rt;

/// How long each step may take. There is none for a whole body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) head: Duration,
    pub(super) idle: Duration,
}

/// The value of `work`, or `None` if it is not there after `limit`. `work` is dropped either way.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    future::or(async { Some(work.await) }, async {
        rt::sleep(limit).await;
        None
    })
    .await
}

/// Measures gaps. The timer is made when the first wait begins and set again when it rings too early, so a fast body
/// never touches it, and a slow one once per `limit` and not once per chunk.
pub(super) struct IdleTimer {
    limit: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl IdleTimer {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            waiting_since: None,
            timer: None,
        }
    }

    /// Something came: the gap is over.
    pub(super) fn reset(&mut self) {
        self.waiting_since = None;
    }

    /// Resolves when nothing came for the whole limit since the first poll of this gap.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting_since = *self.waiting_since.get_or_insert_with(Instant::now);
        loop {
            let limit = self.limit;
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(rt::sleep(limit.saturating_sub(waiting_since.elapsed()))));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            if waiting_since.elapsed() >= self.limit {
                return Poll::Ready(());
            }
        }
    }
}

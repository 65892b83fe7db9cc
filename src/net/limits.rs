//! Limits of time, and the timer that keeps them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::speed::LeastSpeed;
use crate::rt;

/// How long each step may take. There is no limit for a whole body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The wait for one of the host's connections.
    pub(super) queue: Duration,
    pub(super) connect: Duration,
    pub(super) head: Duration,
    /// For the head on a connection that was kept. It may be dead without a word.
    pub(super) kept_head: Duration,
    pub(super) idle: Duration,
    pub(super) least_speed: LeastSpeed,
}

impl Limits {
    /// The time for a head on a kept connection, whose last one took `last`. A server that takes its time is not taken for
    /// dead, so twice as long is allowed.
    pub(super) fn kept_head(&self, last: Duration) -> Duration {
        self.kept_head.max(last.saturating_mul(2)).min(self.head)
    }
}

/// Tells when nothing has come for too long.
///
/// Arming a timer costs a system call and wakes the reactor. So a connection has one timer for its whole life, and a chunk
/// does not arm it anew. The timer fires too early then, and is armed for the rest of the wait: once per limit at most,
/// not once per chunk.
///
/// ```text
/// t0           a gap begins: armed for t0 + limit
/// t1           a chunk comes, a new gap begins: the timer is left alone
/// t0 + limit   it fires, too early for this gap: armed for t1 + limit
/// t1 + limit   it fires: silence
/// ```
#[derive(Default)]
pub(super) struct IdleTimer {
    waiting_since: Option<Instant>,
    timer: Option<Timer>,
}

struct Timer {
    fires_at: Instant,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Timer {
    fn new(fires_at: Instant) -> Self {
        let wait = fires_at.saturating_duration_since(Instant::now());
        Self {
            fires_at,
            sleep: Box::pin(rt::sleep(wait)),
        }
    }
}

impl IdleTimer {
    /// The value of `work`, or `None` if it is not there after `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `work`. The timer stays armed, which a later use allows for.
    pub(super) async fn within<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        // An earlier use may have been dropped in the middle of a gap, which is not this one's.
        self.reset();
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            // The work first: a value that is there with the last moment is in time.
            Poll::Pending => self.poll_silence(limit, cx).map(|()| None),
        })
        .await
    }

    /// Ends the gap: something came.
    pub(super) fn reset(&mut self) {
        self.waiting_since = None;
    }

    /// Ready when nothing came for `limit`, counted from the first poll of this gap. So time in which the consumer does not
    /// poll before its first wait does not count.
    pub(super) fn poll_silence(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        // A limit that the clock cannot express is no limit.
        let Some(deadline) = since.checked_add(limit) else {
            return Poll::Pending;
        };
        loop {
            // Armed for a longer limit: it would fire too late.
            if self.timer.as_ref().is_some_and(|timer| timer.fires_at > deadline) {
                self.timer = None;
            }
            let timer = self.timer.get_or_insert_with(|| Timer::new(deadline));
            ready!(timer.sleep.as_mut().poll(cx));
            // Decided by when it was to fire, and not by the clock: the two may differ by a tick, and the loop would spin on it.
            let enough = timer.fires_at >= deadline;
            self.timer = None;
            if enough {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{self, poll_once};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const HOUR: Duration = Duration::from_secs(3600);

    fn silence(idle_timer: &mut IdleTimer, limit: Duration) -> impl Future<Output = ()> {
        poll_fn(move |cx| idle_timer.poll_silence(limit, cx))
    }

    #[test]
    fn silence_is_told_after_its_limit_and_not_before() {
        future::block_on(async {
            let mut idle_timer = IdleTimer::default();
            let started = Instant::now();
            silence(&mut idle_timer, SHORT).await;
            assert!(started.elapsed() >= SHORT);
        });
    }

    #[test]
    fn what_comes_in_between_starts_the_gap_anew() {
        future::block_on(async {
            let mut idle_timer = IdleTimer::default();
            assert!(poll_once(silence(&mut idle_timer, SHORT)).await.is_none());
            // The timer that was armed for the first gap fires during the second.
            rt::sleep(SHORT / 2).await;
            idle_timer.reset();
            let started = Instant::now();
            silence(&mut idle_timer, SHORT).await;
            assert!(started.elapsed() >= SHORT);
        });
    }

    #[test]
    fn a_shorter_limit_does_not_wait_for_a_longer_ones_timer() {
        future::block_on(async {
            let mut idle_timer = IdleTimer::default();
            assert!(poll_once(silence(&mut idle_timer, HOUR)).await.is_none());
            idle_timer.reset();
            silence(&mut idle_timer, SHORT).await;
            assert!(idle_timer.within(SHORT, future::pending::<()>()).await.is_none());
            assert_eq!(idle_timer.within(Duration::MAX, async { 7 }).await, Some(7));
        });
    }
}

//! Servers that serve one connection at a time: small devices, single-process servers.
//!
//! Such a server accepts the connection of a side transfer, and answers on it when the one of the parked main transfer is
//! closed:
//!
//! ```text
//!   main   ──── bytes ────┤ parked                        ├ closed
//!   side                  ├ request ┈┈┈┈ 2 s, no head ┈┈┈┈┤── head ── bytes ──▶
//!                                                           within a second: one at a time from here on
//! ```
//!
//! Otherwise the jump would wait for the head limit, and for each retry's again.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::rt;

/// How long a side transfer waits for its head before main gives way.
const PATIENCE: Duration = Duration::from_secs(2);
/// A head that comes so soon after main's connection was closed has waited for that.
const AT_ONCE: Duration = Duration::from_secs(1);

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Watches side transfers for their head.
#[derive(Default)]
pub(super) struct SideWatch {
    timer: Option<Timer>,
    /// When main's connection was closed for the side transfer.
    gave_way_at: Option<Instant>,
    is_one_at_a_time: bool,
}

impl SideWatch {
    /// Whether the server may serve two connections at once.
    pub(super) fn allows_two(&self) -> bool {
        !self.is_one_at_a_time
    }

    /// A side transfer was started, beside main if `is_beside`.
    pub(super) fn begin(&mut self, is_beside: bool) {
        self.gave_way_at = None;
        // Beside nothing there is no connection to give way, and the head limit is the request's own matter.
        self.timer = is_beside.then(|| -> Timer { Box::pin(rt::sleep(PATIENCE)) });
    }

    /// The side transfer has its head, or has failed.
    pub(super) fn end(&mut self, has_head: bool) {
        self.timer = None;
        let gave_way_at = self.gave_way_at.take().filter(|_| has_head);
        // A server that is slow with every head is not taken for one: it may well serve two.
        self.is_one_at_a_time |= gave_way_at.is_some_and(|at| at.elapsed() <= AT_ONCE);
    }

    /// Main's connection was closed for the side transfer, if it had one.
    pub(super) fn gave_way(&mut self, had_main: bool) {
        self.timer = None;
        // Without main the wait proves nothing about a second connection.
        self.gave_way_at = had_main.then(Instant::now);
    }

    /// Ready when the side transfer has waited for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

//! Who goes first. Its rule: **while a request of the foreground waits for a connection, a head or bytes, those of the background
//! do not read.**
//!
//! ```text
//!   foreground   waits ▓▓▓▓▓ has bytes ░ waits ▓▓▓ ended
//!   background   reads ──┤ paused ....................├── reads, a moment later
//!                          │ for long: its connection is closed, and the rest asked for later
//!                          └ one chunk in a while, so that it is not forgotten
//! ```
//!
//! The link is what is short, and not the host: all requests of a client count, whatever host they are for. A body that is not
//! read fills the buffers of its socket and then asks for nothing more. Closed, it asks for nothing at once, which is what a slow
//! link needs; that takes a validator, as every resume does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::rt;

/// How long the background waits after the foreground has what it waited for. The gap between two of its requests is shorter.
const QUIET: Duration = Duration::from_millis(200);
/// How often a paused one looks whether it may go on.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a body is paused before its connection is closed.
pub(super) const CLOSE_AFTER: Duration = Duration::from_millis(300);
/// One that has waited for so long without a byte is not what the link is short for: its server is silent, or nobody reads it.
const STALE: Duration = Duration::from_secs(5);
/// How often one chunk of the background may come all the same.
const TRICKLE_EVERY: Duration = Duration::from_secs(4);
/// A body without an end that has been read for so long is a radio station: it waits for ever, and no link is short for it.
pub(super) const ENDLESS_AFTER: Duration = Duration::from_secs(10);

/// Whether a request is of the foreground, which is what is being played, or of the background. All requests of a source share
/// one, so that a download which somebody begins to play is raised as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Priority(Arc<AtomicBool>);

impl Priority {
    #[cfg(any(feature = "file", feature = "hls"))]
    pub(crate) fn new(is_background: bool) -> Self {
        Self(Arc::new(AtomicBool::new(is_background)))
    }

    pub(crate) fn is_background(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until it is of the foreground.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait.
    pub(super) async fn raised(&self) {
        // A look now and then, as the turn is waited for by looks too: there is no list of those that wait.
        while self.is_background() {
            rt::sleep(LOOK_EVERY).await;
        }
    }

    /// Of the foreground from here on.
    #[cfg(feature = "file")]
    pub(crate) fn raise(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// What the requests of one client know of each other.
#[derive(Debug)]
pub(super) struct Courtesy {
    since: Instant,
    /// Requests of the foreground that wait.
    waiting: AtomicUsize,
    /// When the last of them began to.
    began: AtomicU64,
    /// When the last of them had what it waited for, and when a chunk of the background came all the same: in microseconds
    /// behind `since`.
    quiet_from: AtomicU64,
    trickled: AtomicU64,
}

impl Default for Courtesy {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            waiting: AtomicUsize::new(0),
            began: AtomicU64::new(0),
            quiet_from: AtomicU64::new(0),
            trickled: AtomicU64::new(0),
        }
    }
}

impl Courtesy {
    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.since).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// Has the background wait until this is dropped. `None` for a request of the background.
    pub(super) fn wait(self: &Arc<Self>, priority: &Priority) -> Option<Waiting> {
        if priority.is_background() {
            return None;
        }
        self.began
            .fetch_max(self.micros(Instant::now()), Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Some(Waiting(self.clone()))
    }

    /// Whether nothing of the foreground waits, nor has done so a moment ago.
    fn is_quiet(&self, now: Instant) -> bool {
        // At the very start nothing has waited yet.
        let quiet_from = self.quiet_from.load(Ordering::Relaxed);
        let has_waited = quiet_from > 0;
        let quiet = self.micros(now).saturating_sub(quiet_from);
        let is_long = !has_waited || u128::from(quiet) >= QUIET.as_micros();
        let waited = self
            .micros(now)
            .saturating_sub(self.began.load(Ordering::Relaxed));
        let is_stale = u128::from(waited) >= STALE.as_micros();
        (self.waiting.load(Ordering::Relaxed) == 0 || is_stale) && is_long
    }

    /// Whether the background may read a chunk now.
    pub(super) fn may_read(&self, now: Instant) -> bool {
        if self.is_quiet(now) {
            return true;
        }
        let (at, last) = (self.micros(now), self.trickled.load(Ordering::Relaxed));
        let is_due = u128::from(at.saturating_sub(last)) >= TRICKLE_EVERY.as_micros();
        // One of those that look at this moment.
        is_due
            && self
                .trickled
                .compare_exchange(last, at, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Since when the background may go on without a pause; `None` while it may not. What has brought nothing since is
    /// held up by its own server.
    #[cfg(feature = "offline")]
    pub(super) fn free_since(&self, now: Instant) -> Option<Instant> {
        let quiet_from = Duration::from_micros(self.quiet_from.load(Ordering::Relaxed));
        self.is_quiet(now).then(|| self.since + quiet_from)
    }

    /// Waits until the background may ask for something.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait.
    pub(super) async fn may_ask(&self, priority: &Priority) {
        // Looked at again and again, so that what is raised meanwhile goes on.
        while priority.is_background() && !self.is_quiet(Instant::now()) {
            rt::sleep(LOOK_EVERY).await;
        }
    }
}

/// A request of the foreground waits as long as this lives.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Courtesy>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let now = self.0.micros(Instant::now()).max(1);
        self.0.quiet_from.fetch_max(now, Ordering::Relaxed);
        // The time first: whoever sees that nothing waits sees since when.
        self.0.waiting.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(all(test, feature = "file"))]
mod tests {
    use super::*;

    /// O7.
    #[test]
    fn o7_the_background_waits_for_the_foreground_and_a_moment_longer() {
        let courtesy = Arc::new(Courtesy::default());
        let (front, back) = (Priority::new(false), Priority::new(true));
        let now = Instant::now();
        assert!(courtesy.may_read(now) && courtesy.wait(&back).is_none());
        let waiting = [courtesy.wait(&front), courtesy.wait(&front)];
        assert!(!courtesy.may_read(Instant::now()));
        drop(waiting);
        assert!(!courtesy.may_read(Instant::now()), "the next request may follow");
        assert!(courtesy.may_read(Instant::now() + QUIET));
        let _waiting = courtesy.wait(&front);
        let later = now + TRICKLE_EVERY + QUIET;
        assert!(courtesy.may_read(later), "a chunk in a while");
        assert!(!courtesy.may_read(later));
        assert!(courtesy.may_read(Instant::now() + STALE), "a silent server");
        back.raise();
        assert!(courtesy.wait(&back).is_some());
    }
}

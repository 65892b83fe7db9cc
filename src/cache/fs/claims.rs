//! Claims on partial files: one at a time for each file.
//!
//! A claim outlives its last reader for a moment, until the driver of its source has noticed and has synced what it wrote.
//! A thread that opens the file again just then waits for that, instead of being told that the file is taken.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread waits for a claim that is not closing. On a busy machine it takes about this long until the end of the
/// last reader is noticed.
const GRACE: Duration = Duration::from_millis(300);
/// How long a thread waits for a claim that is closing. Its holder syncs the disk at most once more.
const CLOSE: Duration = Duration::from_secs(10);

/// The partial files that are claimed in this session.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Mutex<HashMap<PathBuf, Held>>,
    changed: Condvar,
    /// How many threads have waited for a claim.
    #[cfg(test)]
    waited: std::sync::atomic::AtomicUsize,
}

/// The state of a claim.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// The claim ends soon.
    closing: bool,
    /// The file's bytes count with the claim's holder, and not in the asset's figures.
    counted: bool,
}

/// A claim on one file. Dropping it ends the claim.
#[derive(Debug)]
pub(super) struct PartClaim {
    claims: Arc<Claims>,
    file: PathBuf,
}

impl Claims {
    /// Claims `file`; `None` if it is claimed and the claim does not end in time.
    pub(super) fn take(self: &Arc<Self>, file: &Path) -> Option<PartClaim> {
        self.take_within(file, GRACE, CLOSE)
    }

    fn take_within(self: &Arc<Self>, file: &Path, grace: Duration, close: Duration) -> Option<PartClaim> {
        let start = Instant::now();
        let mut held = self.lock();
        while let Some(now) = held.get(file) {
            // Asked anew each round: the holder may have begun to close since, and the wait is then worth more. Measured from
            // the first round, so that a row of short holders does not keep this thread for ever.
            let limit = if now.closing { close } else { grace };
            let left = limit.checked_sub(start.elapsed())?;
            #[cfg(test)]
            self.waited.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            held = self
                .changed
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Some(self.hold(held, file))
    }

    /// As [`take`](Self::take), without waiting.
    pub(super) fn try_take(self: &Arc<Self>, file: &Path) -> Option<PartClaim> {
        // For the scan, which must not wait for a source: a claimed file is in use and is left alone.
        let held = self.lock();
        (!held.contains_key(file)).then(|| self.hold(held, file))
    }

    fn hold(self: &Arc<Self>, mut held: MutexGuard<'_, HashMap<PathBuf, Held>>, file: &Path) -> PartClaim {
        held.insert(file.to_owned(), Held::default());
        PartClaim {
            claims: Arc::clone(self),
            file: file.to_owned(),
        }
    }

    /// Whether `file` is claimed and its bytes count with the claim's holder.
    pub(super) fn counts(&self, file: &Path) -> bool {
        self.lock().get(file).is_some_and(|held| held.counted)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Held>> {
        // A map is whole after every call made on it, also after a panic between two.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartClaim {
    /// Announces that the claim ends soon. Threads that want it wait longer from here on: a thread that waits already sees it
    /// when its time is over.
    pub(super) fn closing(&self) {
        if let Some(held) = self.claims.lock().get_mut(&self.file) {
            held.closing = true;
        }
    }

    /// From here on the file's bytes count with the claim's holder.
    pub(super) fn taken_over(&self) {
        if let Some(held) = self.claims.lock().get_mut(&self.file) {
            held.counted = true;
        }
    }
}

impl Drop for PartClaim {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.file);
        self.claims.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;

    #[test]
    fn a_claim_is_refused_while_it_is_held_and_waited_for_while_it_closes() {
        let claims = Arc::new(Claims::default());
        let take = |file| claims.take_within(Path::new(file), Duration::ZERO, CLOSE);
        let first = take("a").unwrap();
        assert!(take("a").is_none());
        assert!(claims.try_take(Path::new("a")).is_none());
        assert!(take("b").is_some(), "another file");
        first.closing();
        let start = Instant::now();
        thread::scope(|scope| {
            let second = scope.spawn(|| take("a"));
            while claims.waited.load(Ordering::Relaxed) == 0 && !second.is_finished() {
                thread::yield_now();
            }
            drop(first);
            assert!(second.join().unwrap().is_some());
        });
        assert!(start.elapsed() < CLOSE, "the end of the claim woke it");
        assert!(claims.try_take(Path::new("a")).is_some());
    }

    /// One that waits already waits longer when the claim begins to close.
    #[test]
    fn a_claim_that_begins_to_close_is_waited_for_by_those_who_wait() {
        let claims = Arc::new(Claims::default());
        let first = claims.take(Path::new("a")).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| claims.take(Path::new("a")));
            while claims.waited.load(Ordering::Relaxed) == 0 && !second.is_finished() {
                thread::yield_now();
            }
            first.closing();
            // Its time is over, and it waits on.
            while claims.waited.load(Ordering::Relaxed) == 1 && !second.is_finished() {
                thread::yield_now();
            }
            drop(first);
            assert!(second.join().unwrap().is_some());
        });
    }
}

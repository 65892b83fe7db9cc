//! One claim on a partial file at a time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait for a claim whose holder has not said that it is closing: a reader that was dropped a moment ago
/// takes about this long to be noticed on a busy machine.
const GRACE: Duration = Duration::from_millis(300);
/// How long to wait for a holder that is closing: it syncs the disk at most once.
const CLOSE: Duration = Duration::from_secs(10);

/// Which partial files are claimed in this session.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: Mutex<HashMap<PathBuf, Held>>,
    changed: Condvar,
}

/// How a claim stands.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// It ends soon.
    closing: bool,
    /// Its holder counts the bytes.
    counted: bool,
}

/// A claim; ends when it is dropped.
#[derive(Debug)]
pub(super) struct PartClaim {
    claims: Arc<Claims>,
    file: PathBuf,
}

impl Claims {
    /// Claims `file`; `None` if somebody has it and keeps it.
    pub(super) fn take(self: &Arc<Self>, file: &Path) -> Option<PartClaim> {
        let start = Instant::now();
        let mut held = self.lock();
        while let Some(now) = held.get(file) {
            let limit = if now.closing { CLOSE } else { GRACE };
            let left = limit.checked_sub(start.elapsed())?;
            held = self
                .changed
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Some(self.hold(held, file))
    }

    /// The same without waiting.
    pub(super) fn try_take(self: &Arc<Self>, file: &Path) -> Option<PartClaim> {
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

    /// Whether somebody has claimed `file` and counts its bytes.
    pub(super) fn counts(&self, file: &Path) -> bool {
        self.lock().get(file).is_some_and(|held| held.counted)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Held>> {
        // A map is whole after every call made on it, also after a panic between two.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartClaim {
    /// Lets those who want the claim wait for it.
    pub(super) fn closing(&self) {
        if let Some(held) = self.claims.lock().get_mut(&self.file) {
            held.closing = true;
        }
        self.claims.changed.notify_all();
    }

    /// From here on the holder counts the bytes.
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
    use std::thread;

    use super::*;

    #[test]
    fn a_claim_is_refused_while_it_is_held_and_waited_for_while_it_closes() {
        let claims = Arc::new(Claims::default());
        let first = claims.take(Path::new("a")).unwrap();
        assert!(claims.take(Path::new("a")).is_none());
        assert!(claims.take(Path::new("b")).is_some(), "another file");
        first.closing();
        thread::scope(|scope| {
            let second = scope.spawn(|| claims.take(Path::new("a")));
            drop(first);
            assert!(second.join().unwrap().is_some());
        });
        assert!(claims.try_take(Path::new("a")).is_some());
    }
}

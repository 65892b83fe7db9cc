//! One claim on a partial file at a time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait for a claim whose holder has not said that it is closing: a reader that was dropped a moment ago
/// takes about this long to be noticed on a busy machine.
const NOTICE: Duration = Duration::from_millis(300);
/// How long to wait for a holder that is closing: it syncs the disk at most once.
const CLOSE: Duration = Duration::from_secs(10);

/// Which partial files are claimed in this session.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Whether each one's holder is closing.
    held: Mutex<HashMap<PathBuf, bool>>,
    changed: Condvar,
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
        while let Some(&closing) = held.get(file) {
            let limit = if closing { CLOSE } else { NOTICE };
            let left = limit.checked_sub(start.elapsed())?;
            held = self
                .changed
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        held.insert(file.to_owned(), false);
        Some(PartClaim {
            claims: Arc::clone(self),
            file: file.to_owned(),
        })
    }

    /// The same without waiting.
    pub(super) fn try_take(self: &Arc<Self>, file: &Path) -> Option<PartClaim> {
        let mut held = self.lock();
        if held.contains_key(file) {
            return None;
        }
        held.insert(file.to_owned(), false);
        Some(PartClaim {
            claims: Arc::clone(self),
            file: file.to_owned(),
        })
    }

    pub(super) fn holds(&self, file: &Path) -> bool {
        self.lock().contains_key(file)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, bool>> {
        // A map is whole after every call made on it, also after a panic between two.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartClaim {
    /// Lets those who want the claim wait for it.
    pub(super) fn closing(&self) {
        if let Some(closing) = self.claims.lock().get_mut(&self.file) {
            *closing = true;
        }
        self.claims.changed.notify_all();
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
        assert!(!claims.holds(Path::new("a")));
    }
}

//! The lock of a root: one cache at a time.
//!
//! A cache closes in the background after its last handle is dropped. A thread of the same process that opens the root
//! again waits for that. Without the wait, dropping a cache and opening it again would fail now and then.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fs_err as fs;
use snafu::ResultExt as _;

use crate::cache::error::{CacheError, IoSnafu, LockedSnafu};

/// Roots whose last handle is gone and whose maintenance thread is about to free the lock.
static CLOSING: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
static CLOSED: Condvar = Condvar::new();

/// The lock of a root. The operating system frees it when the process ends, in whatever way.
#[derive(Debug)]
pub(in crate::cache) struct RootLock {
    file: fs::File,
}

impl RootLock {
    /// Takes the lock. Waits for a cache of this process that is closing, and for no other.
    pub(in crate::cache) fn take(root: &Path) -> Result<Self, CacheError> {
        // By its real path, since the same root may be opened under two names.
        let canonical = fs::canonicalize(root).context(IoSnafu {
            action: "find",
            path: root,
        })?;
        let mut closing = closing();
        while closing.as_ref().is_some_and(|roots| roots.contains(&canonical)) {
            closing = CLOSED.wait(closing).unwrap_or_else(PoisonError::into_inner);
        }
        drop(closing);
        let path = root.join("lock");
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use fs::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let file = options.open(&path).context(IoSnafu {
            action: "open",
            path: &path,
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(std::fs::TryLockError::WouldBlock) => LockedSnafu { root }.fail(),
            Err(std::fs::TryLockError::Error(source)) => Err(CacheError::Io {
                action: "lock",
                path,
                source: Arc::new(source),
            }),
        }
    }
}

impl Drop for RootLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that the app is starting has the file open too, from its fork to
        // its exec. If unlocking fails, closing still does it.
        let _ = self.file.file().unlock();
    }
}

fn closing() -> MutexGuard<'static, Option<HashSet<PathBuf>>> {
    // A set is whole after every call made on it.
    CLOSING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this lives, a thread of this process that opens the root waits instead of being refused.
#[derive(Debug)]
pub(in crate::cache) struct Closing {
    root: PathBuf,
}

impl Closing {
    /// Marks `root`, as it was given to open it, as closing.
    pub(in crate::cache) fn new(root: &Path) -> Self {
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        closing().get_or_insert_default().insert(root.clone());
        Self { root }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(roots) = closing().as_mut() {
            roots.remove(&self.root);
        }
        CLOSED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C9: a child between fork and exec has every file of its parent open.
    #[test]
    fn a_lock_that_a_child_has_inherited_ends_with_its_holder() {
        let root = tempfile::tempdir().unwrap();
        let lock = RootLock::take(root.path()).unwrap();
        let _inherited = lock.file.try_clone().unwrap();
        assert!(RootLock::take(root.path()).unwrap_err().is_locked());
        drop(lock);
        RootLock::take(root.path()).unwrap();
    }
}

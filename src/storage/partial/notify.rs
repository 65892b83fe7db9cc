//! Notifying watchers of changes, and the effects that a change defers until its lock is released.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

/// Called when nobody uses the reading side any more.
pub(super) type UnusedHook = Box<dyn FnOnce() + Send>;

/// Effects of a change of the shared state, collected under its lock and [run](Self::run) after it is released.
///
/// Each of them runs code of others: a hook, a waker, or the destructor of a waker or of a cause. Under the lock that code
/// could call the resource again and deadlock.
pub(super) struct Deferred<E> {
    pub(super) hook: Option<UnusedHook>,
    /// To be woken.
    pub(super) wakers: Vec<Waker>,
    /// Replaced or not needed: only to be dropped.
    pub(super) stale: Vec<Waker>,
    /// To be dropped.
    pub(super) causes: Vec<Arc<E>>,
}

impl<E> Deferred<E> {
    pub(super) fn new() -> Self {
        Self {
            hook: None,
            wakers: Vec::new(),
            stale: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// Calls, wakes and drops. The caller holds no lock.
    pub(super) fn run(self) {
        // The hook first: what it stops is stopped before a watcher learns that nobody reads any more.
        if let Some(hook) = self.hook {
            hook();
        }
        // What else was collected is dropped at the end, also without the lock.
        for waker in self.wakers {
            waker.wake();
        }
    }
}

/// A versioned notify for any number of watchers.
///
/// Each watcher remembers the version it saw last. A change between two looks is therefore seen, however late the second
/// look comes; several changes in between count as one. Without the version a change after the look and before the
/// registration of the waker would be lost.
pub(super) struct Notify {
    version: u64,
    watchers: BTreeMap<u64, Waker>,
}

impl Notify {
    pub(super) fn new() -> Self {
        // A watcher begins at 0, so that its first look finds a change.
        Self {
            version: 1,
            watchers: BTreeMap::new(),
        }
    }

    /// Something changed.
    pub(super) fn notify<E>(&mut self, deferred: &mut Deferred<E>) {
        // The wakers go with the notification. A watcher that is still interested looks again, and leaves its waker then.
        self.version += 1;
        deferred
            .wakers
            .extend(std::mem::take(&mut self.watchers).into_values());
    }

    /// The version to remember, if it is not `seen`. Otherwise `waker` is woken by the next change.
    pub(super) fn changed_since<E>(
        &mut self,
        watcher: u64,
        seen: u64,
        waker: Waker,
        deferred: &mut Deferred<E>,
    ) -> Option<u64> {
        // Comparison and registration are one step: the caller holds the lock.
        if self.version == seen {
            self.register(watcher, waker, deferred);
            return None;
        }
        deferred.stale.push(waker);
        Some(self.version)
    }

    /// Has `waker` woken by the next change.
    pub(super) fn register<E>(&mut self, watcher: u64, waker: Waker, deferred: &mut Deferred<E>) {
        deferred.stale.extend(self.watchers.insert(watcher, waker));
    }

    pub(super) fn unregister<E>(&mut self, watcher: u64, deferred: &mut Deferred<E>) {
        deferred.stale.extend(self.watchers.remove(&watcher));
    }
}

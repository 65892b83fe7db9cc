//! Wake-ups as data: collected under the lock, run after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

/// What to do when nobody reads any more.
pub(super) type UnusedHook = Box<dyn FnOnce() + Send>;

/// What a change of the shared state owes to others: a hook to run, wakers to wake and values to drop. All run code
/// that is not ours, so [`run`](Deferred::run) comes after the lock is gone.
pub(super) struct Deferred<E> {
    pub(super) hook: Option<UnusedHook>,
    pub(super) wakers: Vec<Waker>,
    pub(super) stale: Vec<Waker>,
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

    /// Wakes and drops. Call it without any lock held.
    pub(super) fn run(self) {
        if let Some(hook) = self.hook {
            hook();
        }
        for waker in self.wakers {
            waker.wake();
        }
    }
}

/// Tells any number of watchers that something changed. Each watcher remembers the version it saw, so a change between
/// two looks is never lost, and changes it slept through count as one.
pub(super) struct Notify {
    version: u64,
    watchers: BTreeMap<u64, Waker>,
}

impl Notify {
    pub(super) fn new() -> Self {
        Self {
            version: 1,
            watchers: BTreeMap::new(),
        }
    }

    pub(super) fn notify<E>(&mut self, deferred: &mut Deferred<E>) {
        self.version += 1;
        deferred
            .wakers
            .extend(std::mem::take(&mut self.watchers).into_values());
    }

    /// The version to remember if it is not `seen`; else leaves `waker` for the next ring.
    pub(super) fn changed_since<E>(
        &mut self,
        watcher: u64,
        seen: u64,
        waker: Waker,
        deferred: &mut Deferred<E>,
    ) -> Option<u64> {
        if self.version == seen {
            self.register(watcher, waker, deferred);
            return None;
        }
        deferred.stale.push(waker);
        Some(self.version)
    }

    /// Leaves `waker` for the next ring.
    pub(super) fn register<E>(&mut self, watcher: u64, waker: Waker, deferred: &mut Deferred<E>) {
        deferred.stale.extend(self.watchers.insert(watcher, waker));
    }

    pub(super) fn unregister<E>(&mut self, watcher: u64, deferred: &mut Deferred<E>) {
        deferred.stale.extend(self.watchers.remove(&watcher));
    }
}

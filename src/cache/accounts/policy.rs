//! Calls the eviction policy, the one piece of foreign code that runs under the lock of the accounts.
//!
//! ```text
//!  lock ─▶ mark the thread ─▶ policy.used(…) ─▶ unmark ─▶ what was put off ─▶ unlock
//!                                  │
//!                                  ├ calls the cache: the mark is seen, PolicyReentered
//!                                  ├ drops a lease: put off until the policy has returned
//!                                  └ panics: caught, an `Lru` serves from here on
//! ```
//!
//! Without the mark the thread would wait for the lock that it holds itself.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::state::State;
use crate::cache::policy::{EvictionPolicy, Lru};

thread_local! {
    /// The accounts whose policies run on this thread, by their keys. Several, where the policy of one cache calls another.
    static SERVING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The policy, if there is one.
pub(in crate::cache) struct Served {
    policy: Option<Box<dyn EvictionPolicy>>,
    /// Tells these accounts from all others.
    pub(super) key: usize,
    panicked: bool,
    /// A policy that panicked, and what it panicked with. Dropped when the lock is free: their drops are foreign code.
    pub(super) retired: Option<Retired>,
}

pub(super) struct Retired(Option<(Box<dyn EvictionPolicy>, Box<dyn Any + Send>)>);

impl Drop for Retired {
    fn drop(&mut self) {
        let retired = self.0.take();
        // A policy that panicked may panic once more. That is no reason to fail the call that dropped it.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(retired)));
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the policy itself: its `Debug` is foreign code, and this may run under the lock.
        f.debug_struct("Served")
            .field("panicked", &self.panicked)
            .finish_non_exhaustive()
    }
}

impl Served {
    pub(super) fn new() -> Self {
        static KEYS: AtomicUsize = AtomicUsize::new(0);
        Self {
            policy: None,
            key: KEYS.fetch_add(1, Ordering::Relaxed),
            panicked: false,
            retired: None,
        }
    }

    pub(super) fn set(&mut self, policy: Box<dyn EvictionPolicy>) {
        self.policy = Some(policy);
    }

    pub(super) fn take(&mut self) -> Option<Box<dyn EvictionPolicy>> {
        self.policy.take()
    }
}

/// Whether the policy of the accounts with this key runs on this thread.
pub(super) fn is_served_here(key: usize) -> bool {
    SERVING.with_borrow(|serving| serving.contains(&key))
}

/// Marks the thread for as long as this lives.
struct Serving;

impl Serving {
    fn new(key: usize) -> Self {
        SERVING.with_borrow_mut(|serving| serving.push(key));
        Self
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        SERVING.with_borrow_mut(Vec::pop);
    }
}

impl State {
    pub(in crate::cache) fn policy_panicked(&self) -> bool {
        self.policy.panicked
    }

    /// Tells or asks the policy something. `None` if there is no policy, or if it panicked.
    pub(super) fn ask<T>(&mut self, call: impl FnOnce(&mut dyn EvictionPolicy) -> T) -> Option<T> {
        let policy = self.policy.policy.as_mut()?;
        let serving = Serving::new(self.policy.key);
        // Safe to assert: after a panic the policy is never called again, whatever state it is in.
        let answer = catch_unwind(AssertUnwindSafe(|| call(&mut **policy)));
        drop(serving);
        answer.map_err(|panic| self.take_over(panic)).ok()
    }

    /// Puts an `Lru` in the place of a policy that panicked. What it is to know stands in the table, so the accounts are as
    /// true as before.
    fn take_over(&mut self, panic: Box<dyn Any + Send>) {
        log::error!(
            "the cache's eviction policy panicked: the least recently used asset is evicted from now on"
        );
        // Filled at once, and not by what the policy was still to be told: what it knew is lost with it.
        let mut lru = Lru::new();
        let all = self.table.assets.iter();
        lru.restored(
            all.map(|(asset, account)| (asset.clone(), account.bytes, account.last_access))
                .collect(),
        );
        let served = &mut self.policy;
        served.panicked = true;
        let old = served.policy.replace(Box::new(lru));
        // Kept for the drop of the lock's guard, and not dropped here: its drop may call the cache, and would be refused.
        served.retired = old.map(|old| Retired(Some((old, panic))));
    }
}

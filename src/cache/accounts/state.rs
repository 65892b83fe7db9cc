//! What the layers agree on, as it stands under the one lock of the [`Accounts`](super::Accounts).
//!
//! ```text
//!  State ┬ table      sizes and recency of each asset, and their sums
//!        ├ claims     leases and writers of each asset
//!        ├ removing   assets on their way out: readers miss them, writers wait
//!        ├ reserved   bytes promised to what is being written
//!        ├ max_bytes  the limit
//!        ├ skipped    victims that were held: told to the policy again when free
//!        └ policy     foreign code, called under the lock
//! ```
//!
//! Nothing here waits, and nothing here reads the disk. The policy is the one piece of foreign code that runs under the lock:
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
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::table::Table;
use crate::cache::error::CacheError;
use crate::cache::id::{AssetId, IdHasher};
use crate::cache::policy::{EvictionPolicy, Lru};
use crate::cache::store::AssetInfo;
use crate::cache::timestamp::Timestamp;

/// So many accesses are told in one go.
const USES_TOGETHER: usize = 32;
/// So many assets of an earlier session are told in one go while nobody waits for it.
const FOUND_TOGETHER: usize = 4096;
/// So far behind the accesses of earlier sessions a system clock is taken for wrong, or for having been wrong then.
const FAR_BEHIND: Duration = Duration::from_secs(60);

pub(in crate::cache) struct State {
    pub(in crate::cache) table: Table,
    /// How many leases and writers each asset has; assets without any are not in it.
    claims: HashMap<AssetId, u64, IdHasher>,
    /// Assets that are being removed right now. Readers no longer find them, and writers wait.
    pub(super) removing: HashSet<AssetId, IdHasher>,
    /// Assets that could not go because they were held. The policy may have forgotten them, so that it is told of them
    /// again once they are free.
    skipped: HashSet<AssetId, IdHasher>,
    /// Bytes reserved for what is being written.
    pub(in crate::cache) reserved: u64,
    pub(in crate::cache) max_bytes: u64,
    /// Accesses that are not in the table, in their order. Whatever reads figures or asks the policy settles them first.
    accesses: Vec<(AssetId, Timestamp)>,
    /// Accesses that the policy has not been told of, in their order; all before those above.
    pub(super) uses: Vec<(AssetId, u64, Timestamp)>,
    /// The last timestamp given out.
    last: Timestamp,
    /// The latest access of earlier sessions, if the system clock was far behind it at open, and when that was.
    ahead: Option<(Timestamp, Instant)>,
    pub(super) policy: Served,
}

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
    pub(super) fn new(table: Table, policy: Served) -> Self {
        let newest = table.newest;
        let behind = Timestamp::now().age(newest);
        Self {
            ahead: (behind > FAR_BEHIND).then(|| (newest, Instant::now())),
            table,
            claims: HashMap::default(),
            removing: HashSet::default(),
            skipped: HashSet::default(),
            reserved: 0,
            max_bytes: u64::MAX,
            // Accesses of an earlier session, whose clock may have run ahead, stay older than those of this one (C8).
            accesses: Vec::with_capacity(USES_TOGETHER),
            uses: Vec::with_capacity(USES_TOGETHER),
            last: newest,
            policy,
        }
    }

    /// Bytes kept, with trash, the index and reservations. All of them are read under one lock: a commit adds its bytes
    /// before its reservation is given up, so that they count twice for a moment and never not at all.
    pub(in crate::cache) fn used_bytes(&self) -> u64 {
        let table = &self.table;
        [table.trash, table.index_bytes(), self.reserved]
            .iter()
            .fold(table.bytes, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Bytes that have to go before `bytes` more fit.
    pub(in crate::cache) fn over(&self, bytes: u64) -> u64 {
        self.used_bytes()
            .saturating_add(bytes)
            .saturating_sub(self.max_bytes)
    }

    pub(in crate::cache) fn info(&self, asset: &AssetId) -> Option<AssetInfo> {
        let info = self.table.assets.get(asset)?.info(asset)?;
        let leased = self.claims.contains_key(asset);
        Some(AssetInfo { leased, ..info })
    }

    pub(in crate::cache) fn infos(&self) -> Vec<AssetInfo> {
        self.table
            .assets
            .keys()
            .filter_map(|asset| self.info(asset))
            .collect()
    }

    pub(super) fn claim(&mut self, asset: &AssetId) {
        *self.claims.entry(asset.bare()).or_default() += 1;
    }

    pub(super) fn release(&mut self, asset: &AssetId) {
        if let Some(count) = self.claims.get_mut(asset) {
            *count -= 1;
            if *count == 0 {
                self.claims.remove(asset);
            }
        }
        // Also where a pin still holds it: then this does nothing, and the end of the pin tells the policy.
        self.free(asset);
    }

    /// Whether the asset is leased, pinned or being written. If so it is told to the policy once it is free.
    pub(in crate::cache) fn is_held(&mut self, asset: &AssetId) -> bool {
        let held = self.holds(asset);
        if held {
            self.skipped.insert(asset.bare());
        }
        held
    }

    fn holds(&self, asset: &AssetId) -> bool {
        let pinned = self.table.assets.get(asset).is_some_and(|account| account.pinned);
        pinned || self.claims.contains_key(asset)
    }

    /// Has the policy told of an asset that was passed over, if nothing holds it any more.
    pub(super) fn free(&mut self, asset: &AssetId) {
        // Seldom was one passed over: the end of a lease looks nothing up then.
        if !self.skipped.is_empty() && !self.holds(asset) && self.skipped.remove(asset) {
            self.table.found.push(asset.bare());
        }
    }

    /// What the time is. Where the system clock and the accesses of earlier sessions contradict each other by far, one of
    /// them was wrong, and this session counts on from the latest access. By the system clock ages would stand still for as
    /// long as it is behind (fault W63), or all assets would be too old at once when it is set right.
    fn clock(&self) -> Timestamp {
        let Some((newest, opened)) = self.ahead else {
            return Timestamp::now();
        };
        let since = u64::try_from(opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        Timestamp(newest.0.saturating_add(since))
    }

    /// A timestamp later than all before it, also when the clock is set back.
    fn next_timestamp(&mut self) -> Timestamp {
        self.last = self.clock().max(Timestamp(self.last.0.saturating_add(1)));
        self.last
    }

    /// The time by which ages are told: no earlier than the last access, also if the clock was set back since.
    pub(in crate::cache) fn now(&self) -> Timestamp {
        self.last.max(self.clock())
    }

    /// Records an access at a time of its own, no earlier than `at`.
    pub(super) fn touch(&mut self, asset: &AssetId, at: Timestamp) {
        self.last = self.last.max(at);
        let at = self.next_timestamp();
        // Looked up in batches, in the table and in the policy. Between two steps on the lock the processor waits for the
        // memory of each asset; of a batch it fetches several at a time.
        self.accesses.push((asset.bare(), at));
        if self.accesses.len() + self.uses.len() >= USES_TOGETHER {
            self.tell_uses();
        }
    }

    /// Takes the accesses into the table.
    pub(super) fn settle_accesses(&mut self) {
        let table = &mut self.table;
        for (asset, at) in self.accesses.drain(..) {
            let Some(account) = table.assets.get_mut(&asset) else {
                continue;
            };
            account.last_access = at;
            // Noted in memory, once between two checkpoints: an access writes nothing to disk (C4).
            if table.persist && !std::mem::replace(&mut account.touched, true) {
                table.touched.push(asset.clone());
            }
            // In the same step as the time in the table, or table and policy could see two accesses in different orders.
            self.uses.push((asset, account.bytes, at));
        }
    }

    /// Tells the policy of the accesses that it has not heard of. Before all else it is told or asked.
    pub(super) fn tell_uses(&mut self) {
        self.settle_accesses();
        if self.uses.is_empty() {
            return;
        }
        let uses = std::mem::take(&mut self.uses);
        self.ask(|policy| {
            for (asset, bytes, at) in &uses {
                policy.used(asset, *bytes, *at);
            }
        });
        // The room is kept, as a touch should not allocate.
        self.uses = uses;
        self.uses.clear();
    }

    /// Replaces the figures of an asset by what the inner store says.
    pub(super) fn read(&mut self, asset: &AssetId, info: Option<AssetInfo>) {
        match &info {
            Some(info) => self.last = self.last.max(info.last_access),
            // Under the lock that the table forgets it under. Told later, an asset made anew meanwhile would be taken from
            // the policy, and could never be evicted.
            None => self.gone(asset),
        }
        self.table.put(asset, info);
        // A pin may be gone.
        self.free(asset);
    }

    /// An entry of the asset was written or removed. A new asset starts as the most recent; for a known one that is no
    /// access.
    pub(super) fn written(&mut self, asset: &AssetId, created: bool) {
        let at = self.next_timestamp();
        // A timestamp is used up also where nothing is written down: each is given once.
        let Some(account) = self.table.assets.get_mut(asset) else {
            return;
        };
        let bytes = account.bytes;
        if created {
            account.last_access = at;
            self.tell_uses();
            self.ask(|policy| policy.used(asset, bytes, at));
        } else if !self.skipped.contains(asset) {
            let last_access = account.last_access;
            self.tell_uses();
            // The policy must hear of an asset of an earlier session before it hears that the asset was written to, or
            // the asset would lose its recency. Of this one alone: all that were found may be a million.
            if !self.table.found.is_empty() {
                self.ask(|policy| policy.restored(vec![(asset.bare(), bytes, last_access)]));
            }
            self.ask(|policy| policy.added(asset, bytes, at));
        }
    }

    /// The asset has left the table.
    pub(super) fn gone(&mut self, asset: &AssetId) {
        self.tell_uses();
        self.ask(|policy| policy.removed(asset));
    }

    /// Tells the policy all that was found. Before it is asked for anything.
    pub(in crate::cache) fn tell_found(&mut self) {
        let found = std::mem::take(&mut self.table.found);
        self.tell(found);
    }

    /// Tells some of what was found at open, the hottest first. `false` if there is no more.
    pub(super) fn tell_some_found(&mut self) -> bool {
        let found = &mut self.table.found;
        // In another order than that of its times each part would be sorted into all before it: then all at once.
        let part = if self.table.in_order {
            FOUND_TOGETHER
        } else {
            found.len()
        };
        let some = found.split_off(found.len().saturating_sub(part));
        self.tell(some);
        !self.table.found.is_empty()
    }

    fn tell(&mut self, found: Vec<AssetId>) {
        self.tell_uses();
        if found.is_empty() {
            return;
        }
        let assets = &self.table.assets;
        let known = found.into_iter().filter_map(|asset| {
            // One that has gone since is not told.
            let account = assets.get(&asset)?;
            // With its figures of now: it may have grown, or have been used, since it was found.
            Some((asset, account.bytes, account.last_access))
        });
        let known: Vec<_> = known.collect();
        self.ask(|policy| policy.restored(known));
    }

    /// The refusal of a write that needs so many bytes more.
    pub(in crate::cache) fn full(&self, needed: u64) -> CacheError {
        CacheError::CacheFull {
            needed,
            max_bytes: self.max_bytes,
            held: self.fixed_bytes(),
        }
    }

    /// Bytes that stay whatever is evicted: bookkeeping, and what is leased, pinned or being written.
    pub(in crate::cache) fn fixed_bytes(&self) -> u64 {
        // Walks all assets. Only a refusal asks, and a partial file once: no put that fits pays for it (C4).
        let assets = &self.table.assets;
        let movable = assets.iter().filter(|(asset, _)| !self.holds(asset));
        let movable = movable.map(|(_, account)| account.bytes).sum();
        self.used_bytes().saturating_sub(movable)
    }

    pub(in crate::cache) fn policy_panicked(&self) -> bool {
        self.policy.panicked
    }

    /// Tells or asks the policy something. `None` if there is no policy, or if it panicked.
    pub(in crate::cache) fn ask<T>(&mut self, call: impl FnOnce(&mut dyn EvictionPolicy) -> T) -> Option<T> {
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

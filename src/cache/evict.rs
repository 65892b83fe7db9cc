//! The whole cache stays under one limit.

mod partial;
mod promise;
#[cfg(test)]
mod races;
mod room;
mod staged;
mod turn;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use self::partial::EvictingPartial;
use self::promise::Promise;
use self::staged::EvictingStaged;
use self::turn::{Notice, Seat, Turn};
use super::bin::Bin;
use super::entry::Entry;
use super::error::CacheError;
use super::id::{AssetId, IdHasher};
use super::partial::Partial;
use super::path::CachePath;
use super::policy::EvictionPolicy;
use super::store::{AssetInfo, Committed, EntryInfo, Staged, Stamp, Store, Trash};

/// Evicting goes on for this part of the limit beyond what is needed, where whole assets fit in it: some file
/// systems make creating dear right after deleting, so deletes come in batches.
const SLACK: u64 = 32;
/// The least to evict when the disk is full, in bytes: a few blocks for names and bookkeeping.
const MIN_SHRINK: u64 = 64 * 1024;

/// An asset to evict, and its last use.
type Victim = (AssetId, Stamp);

/// Keeps everything `inner` holds, and everything being written to it, at or under `max_bytes`.
///
/// Its rule: room is reserved before bytes reach the inner store. Where there is none, `P` picks assets to go; if all
/// that may go would not make the room, nothing goes and the write gets [`CacheError::CacheFull`].
///
/// What counts as use, and so as recent, is what the app does: opening an entry, leasing or pinning an asset. Writing
/// to an asset does not, except that a new one starts as the most recent: what a prefetcher commits in the background
/// must not outlive what was played.
pub struct EvictingStore<S, P> {
    shared: Arc<Shared<S, P>>,
}

struct Shared<S, P> {
    inner: S,
    max_bytes: u64,
    bin: Arc<Bin>,
    state: Mutex<State<P>>,
    /// The policy is in its seat again.
    put_back: Condvar,
    /// What was there at open was brought under the limit.
    trimmed: AtomicBool,
}

struct State<P> {
    seat: Seat<P>,
    /// Victims that turned out to be held, until the news tell that they are free.
    skipped: HashSet<AssetId, IdHasher>,
    /// Bytes promised to entries being written.
    reserved: u64,
    /// The last stamp given out.
    last: Stamp,
}

impl<S, P> EvictingStore<S, P> {
    /// Limits `inner` to `max_bytes`, with `policy` picking victims.
    pub fn new(inner: S, policy: P, max_bytes: u64) -> Self {
        let state = State {
            seat: Seat::new(policy),
            skipped: HashSet::default(),
            reserved: 0,
            last: Stamp::default(),
        };
        let shared = Shared {
            inner,
            max_bytes,
            bin: Arc::default(),
            state: Mutex::new(state),
            put_back: Condvar::new(),
            trimmed: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Stamps only what is later than `last`: uses in a session whose clock ran ahead stay older than uses in this one.
    pub(super) fn starting_after(self, last: Stamp) -> Self {
        self.shared.lock().last = last;
        self
    }

    /// The limit in bytes.
    pub fn max_bytes(&self) -> u64 {
        self.shared.max_bytes
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.shared.inner
    }

    pub(crate) fn bin(&self) -> &Arc<Bin> {
        &self.shared.bin
    }
}

impl<S, P: EvictionPolicy> EvictingStore<S, P> {
    /// Takes the policy away, for good: no room is made from here on.
    pub(super) fn retire(&self) -> Option<P> {
        self.shared.retire()
    }
}

impl<S, P> Shared<S, P> {
    fn lock(&self) -> MutexGuard<'_, State<P>> {
        // The counters are whole whenever the lock is free. A policy that panicked may know less than it should,
        // which costs evictions, not bytes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> State<P> {
    /// A stamp later than all before it, also when the clock is set back.
    fn stamp(&mut self) -> Stamp {
        self.last = Stamp::now().max(Stamp(self.last.0.saturating_add(1)));
        self.last
    }
}

impl<S: Store, P: EvictionPolicy> Shared<S, P> {
    /// `false`: nothing is remembered of what is not there.
    fn used(&self, asset: &AssetId, at: Stamp) -> bool {
        let mut state = self.lock();
        state.last = state.last.max(at);
        let at = state.stamp();
        // Under the lock, so that the inner store and the policy agree on the order.
        let there = self.inner.touch(asset, at);
        if there {
            self.tell(state, asset, Notice::Used(at));
        }
        there
    }

    /// A commit counts among what is used, so what was `reserved` for it is given up.
    fn committed(&self, asset: &AssetId, reserved: u64, committed: Committed) {
        let mut state = self.lock();
        state.reserved = state.reserved.saturating_sub(reserved);
        // An asset of an earlier session keeps its recency: it has to be known before it is added. What cannot be heard
        // now is heard when room is needed.
        let _ = self.hear_news(&mut state);
        if committed.created {
            drop(state);
            // What is known of an earlier asset of this name is past.
            self.used(asset, Stamp::default());
        } else if !state.skipped.contains(asset) {
            let at = state.stamp();
            self.tell(state, asset, Notice::Added(at));
        }
    }

    fn hear_news(&self, state: &mut State<P>) -> Result<(), CacheError> {
        let news = self.inner.news()?;
        for (asset, at) in &news {
            state.skipped.remove(asset);
            // What an earlier session stamped stays older than what this one stamps.
            state.last = state.last.max(*at);
        }
        if !news.is_empty() {
            state.seat.leave_found(news);
        }
        Ok(())
    }
}

impl<S: Store, P: EvictionPolicy> Store for EvictingStore<S, P> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let entry = self.shared.inner.open(asset, path)?;
        if entry.is_some() {
            self.shared.used(asset, Stamp::default());
        }
        Ok(entry)
    }

    fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        let bytes = self.shared.inner.get(asset, path)?;
        if bytes.is_some() {
            self.shared.used(asset, Stamp::default());
        }
        Ok(bytes)
    }

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.shared.inner.contains(asset, path)
    }

    fn put(&self, asset: &AssetId, path: &CachePath, bytes: Bytes) -> Result<Committed, CacheError> {
        let len = bytes.len() as u64;
        let put = || {
            self.settle()?;
            let mut staged = EvictingStaged::with_room(&self.shared, asset, path, len)?;
            staged.write(std::slice::from_ref(&bytes))?;
            Box::new(staged).commit()
        };
        match put() {
            // The disk is full, not the cache: what was staged is dropped, room is made there, and once more.
            Err(error @ CacheError::Io { .. }) if error.is_full() => {
                // With room to spare, or as much as there is.
                let shrunk = self.shared.shrink(len * 2 + MIN_SHRINK, asset);
                match shrunk.or_else(|_| self.shared.shrink(len, asset)) {
                    Ok(()) => put(),
                    Err(_) => Err(error),
                }
            }
            done => done,
        }
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        self.settle()?;
        Ok(Box::new(EvictingStaged::with_room(&self.shared, asset, path, 0)?))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.settle()?;
        let overhead = self.shared.inner.overhead(asset, Some(path), 0);
        let Some(inner) = self.shared.inner.partial(asset, path)? else {
            return Ok(None);
        };
        let partial = EvictingPartial::new(inner, asset, &self.shared);
        partial.reserve(overhead)?;
        Ok(Some(Box::new(partial)))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.settle()?;
        self.shared.inner.remove_entry(asset, path)
    }

    fn remove_damaged(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.settle()?;
        self.shared.inner.remove_damaged(asset, path)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        self.settle()?;
        let bin = &self.shared.bin;
        let expected = bin.expect();
        let Some(trash) = self.shared.inner.remove(asset)? else {
            return Ok(None);
        };
        // Kept here, so that a write that needs the room can empty it; before the policy is told, which may take its
        // time, or panic.
        bin.push(trash);
        drop(expected);
        let mut state = self.shared.lock();
        state.skipped.remove(asset);
        // One made anew in its place meanwhile is told of by whoever made it, before or after this.
        if !matches!(self.shared.inner.asset(asset), Ok(Some(_))) {
            self.shared.tell(state, asset, Notice::Removed);
        }
        let bin = Arc::clone(bin);
        Ok(Some(Trash::new(move || {
            bin.empty();
            Ok(())
        })))
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        self.settle()?;
        let shared = &self.shared;
        if !pinned {
            // Needs no room, and may be what makes some.
            return shared.inner.set_pinned(asset, false);
        }
        let promise = Promise::of(0, shared);
        promise.grow(shared.inner.overhead(asset, None, 0))?;
        shared.inner.set_pinned(asset, true)?;
        drop(promise);
        self.touch(asset, Stamp::default());
        Ok(())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.shared.inner.asset(asset)
    }

    fn modified(&self, asset: &AssetId) -> Result<Option<Stamp>, CacheError> {
        self.shared.inner.modified(asset)
    }

    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        self.shared.inner.assets()
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.shared.inner.entries(asset)
    }

    fn used_bytes(&self) -> Result<u64, CacheError> {
        let state = self.shared.lock();
        Ok(self.shared.inner.used_bytes()?.saturating_add(state.reserved))
    }

    fn overhead(&self, asset: &AssetId, path: Option<&CachePath>, payload: u64) -> u64 {
        self.shared.inner.overhead(asset, path, payload)
    }

    fn settle(&self) -> Result<(), CacheError> {
        self.shared.inner.settle()?;
        if !self.shared.trimmed.swap(true, Ordering::AcqRel) {
            // Opened with a smaller limit than before. What is pinned may keep it above; writes are then refused.
            match self.shared.reserve(0) {
                Ok(()) | Err(CacheError::CacheFull { .. }) => {}
                failed => {
                    self.shared.trimmed.store(false, Ordering::Release);
                    // The policy's own calls find it busy; the next call trims.
                    if !matches!(failed, Err(CacheError::PolicyBusy)) {
                        return failed;
                    }
                }
            }
        }
        Ok(())
    }

    /// Stamps the use itself: `at` is the least it is stamped with.
    fn touch(&self, asset: &AssetId, at: Stamp) -> bool {
        self.shared.used(asset, at)
    }

    fn is_held(&self, asset: &AssetId) -> Result<bool, CacheError> {
        self.shared.inner.is_held(asset)
    }

    fn news(&self) -> Result<Vec<(AssetId, Stamp)>, CacheError> {
        self.shared.inner.news()
    }

    fn checkpoint(&self) -> Result<(), CacheError> {
        self.settle()?;
        // A policy that is busy is asked at the next checkpoint.
        if let Ok(mut turn) = self.shared.turn() {
            let now = turn.catch_up()?;
            let expired = std::iter::from_fn(|| turn.expired(now)).collect();
            self.shared.evict(&mut turn, expired)?;
        }
        self.shared.bin.empty();
        self.shared.inner.checkpoint()
    }
}

impl<S: fmt::Debug, P: fmt::Debug> fmt::Debug for EvictingStore<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let turn = self.shared.free_turn(&mut self.shared.lock());
        f.debug_struct("EvictingStore")
            .field("inner", &self.shared.inner)
            .field("max_bytes", &self.shared.max_bytes)
            .field(
                "policy",
                turn.as_ref()
                    .and_then(Turn::policy)
                    .map_or(&format_args!("busy"), |policy| policy as &dyn fmt::Debug),
            )
            .finish_non_exhaustive()
    }
}

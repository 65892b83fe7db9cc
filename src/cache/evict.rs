//! The whole cache stays under one limit.

mod partial;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use self::partial::EvictingPartial;
use super::bin::Bin;
use super::entry::Entry;
use super::error::{CacheError, CacheFullSnafu};
use super::id::AssetId;
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
    /// What was there at open was brought under the limit.
    trimmed: AtomicBool,
}

struct State<P> {
    policy: P,
    /// Victims that turned out to be held, with their last use, until the news tell that they are free.
    skipped: HashMap<AssetId, Stamp>,
    /// Bytes promised to entries being written.
    reserved: u64,
    /// The last stamp given out.
    last: Stamp,
}

impl<S, P> EvictingStore<S, P> {
    /// Limits `inner` to `max_bytes`, with `policy` picking victims.
    pub fn new(inner: S, policy: P, max_bytes: u64) -> Self {
        let state = State {
            policy,
            skipped: HashMap::new(),
            reserved: 0,
            last: Stamp::default(),
        };
        let shared = Shared {
            inner,
            max_bytes,
            bin: Arc::default(),
            state: Mutex::new(state),
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

impl<S, P> Shared<S, P> {
    fn lock(&self) -> MutexGuard<'_, State<P>> {
        // The counters are whole whenever the lock is free. A policy that panicked may know less than it should,
        // which costs evictions, not bytes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: EvictionPolicy> State<P> {
    /// A stamp later than all before it, also when the clock is set back.
    fn stamp(&mut self) -> Stamp {
        self.last = Stamp::now().max(Stamp(self.last.0.saturating_add(1)));
        self.last
    }
}

impl<S: Store, P: EvictionPolicy> Shared<S, P> {
    /// Promises `bytes` to an entry being written, evicting as needed.
    fn reserve(&self, bytes: u64) -> Result<(), CacheError> {
        loop {
            let mut state = self.lock();
            // Asked under the lock: a commit first adds to what is used and then, under it, gives up what it had
            // reserved, so its bytes count once or twice but never not at all.
            let held = self.inner.used_bytes()?.saturating_add(state.reserved);
            let wanted = held.saturating_add(bytes);
            let Some(over) = wanted.checked_sub(self.max_bytes).filter(|&over| over > 0) else {
                state.reserved += bytes;
                return Ok(());
            };
            if self.bin.is_pending() {
                drop(state);
                self.bin.empty_one();
                continue;
            }
            let victims = self.victims(&mut state, over, bytes, held, None)?;
            drop(state);
            self.evict(victims)?;
        }
    }

    /// The assets to evict so that at least `over` bytes become free, or none at all.
    fn victims(
        &self,
        state: &mut State<P>,
        over: u64,
        needed: u64,
        held: u64,
        spared: Option<&AssetId>,
    ) -> Result<Vec<Victim>, CacheError> {
        self.hear_news(state)?;
        let now = state.last.max(Stamp::now());
        let mut victims = Vec::new();
        let (mut freed, mut slack) = (0_u64, self.max_bytes / SLACK);
        let mut failed = None;
        let mut kept = None;
        while let Some((asset, at)) = state.policy.victim(now) {
            if Some(&asset) == spared {
                kept = Some((asset, at));
                continue;
            }
            let info = match self
                .inner
                .is_held(&asset)
                .and_then(|held| Ok((held, self.inner.asset(&asset)?)))
            {
                Ok((true, _)) => {
                    state.skipped.insert(asset, at);
                    continue;
                }
                Ok((false, Some(info))) => info,
                Ok((false, None)) => continue,
                Err(error) => {
                    state.policy.restored(vec![(asset, at)]);
                    failed = Some(error);
                    break;
                }
            };
            if freed >= over {
                // Enough: from here on only what fits in the slack.
                let Some(rest) = slack.checked_sub(info.bytes) else {
                    state.policy.restored(vec![(asset, at)]);
                    break;
                };
                slack = rest;
            }
            freed = freed.saturating_add(info.bytes);
            victims.push((asset, at));
        }
        if let Some(kept) = kept {
            state.policy.restored(vec![kept]);
        }
        if freed >= over {
            return Ok(victims);
        }
        state.policy.restored(victims);
        match failed {
            Some(error) => Err(error),
            None => CacheFullSnafu {
                needed,
                max_bytes: self.max_bytes,
                held: held.saturating_sub(freed),
            }
            .fail(),
        }
    }

    /// Evicts at least `bytes`, for a disk that is full before the cache is, and spares the asset they are for.
    fn shrink(&self, bytes: u64, spared: &AssetId) -> Result<(), CacheError> {
        let mut state = self.lock();
        let held = self.inner.used_bytes()?;
        let victims = self.victims(&mut state, bytes, bytes, held, Some(spared))?;
        drop(state);
        self.evict(victims)?;
        self.bin.empty();
        Ok(())
    }

    fn evict(&self, victims: Vec<Victim>) -> Result<(), CacheError> {
        let mut result = Ok(());
        for (asset, at) in victims {
            match self.inner.remove(&asset) {
                Ok(Some(trash)) => {
                    log::debug!("evicted asset {asset}");
                    self.bin.push(trash);
                }
                Ok(None) => {}
                // Leased since it was picked.
                Err(CacheError::InUse { .. }) => {
                    self.lock().skipped.insert(asset, at);
                }
                Err(error) => {
                    self.lock().policy.restored(vec![(asset, at)]);
                    result = Err(error);
                }
            }
        }
        result
    }

    /// `false`: nothing is remembered of what is not there.
    fn used(&self, asset: &AssetId, at: Stamp) -> bool {
        let mut state = self.lock();
        state.last = state.last.max(at);
        let at = state.stamp();
        // Under the lock, so that the inner store and the policy agree on the order.
        let there = self.inner.touch(asset, at);
        if there {
            state.skipped.remove(asset);
            state.policy.used(asset, at);
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
        } else if !state.skipped.contains_key(asset) {
            let at = state.stamp();
            state.policy.added(asset, at);
        }
    }

    fn hear_news(&self, state: &mut State<P>) -> Result<(), CacheError> {
        let mut news = self.inner.news()?;
        for (asset, at) in &mut news {
            *at = state.skipped.remove(asset).unwrap_or(*at);
            // What an earlier session stamped stays older than what this one stamps.
            state.last = state.last.max(*at);
        }
        if !news.is_empty() {
            state.policy.restored(news);
        }
        Ok(())
    }
}

impl<S: Store, P: EvictionPolicy> EvictingStore<S, P> {
    /// A staged entry with room for `payload` bytes. All of it is asked for at once: asked for piece by piece, the
    /// first piece could evict an asset before the second is refused.
    fn stage_with_room(
        &self,
        asset: &AssetId,
        path: &CachePath,
        payload: u64,
    ) -> Result<EvictingStaged<S, P>, CacheError> {
        self.settle()?;
        let shared = Arc::clone(&self.shared);
        let overhead = shared.inner.overhead(asset, Some(path));
        // Claimed before room is made for it: what is about to be written to must not be evicted for that.
        let inner = Some(shared.inner.stage(asset, path)?);
        let mut staged = EvictingStaged {
            inner,
            asset: asset.clone(),
            reserved: 0,
            unwritten: payload,
            shared,
        };
        staged.reserve(overhead.saturating_add(payload))?;
        Ok(staged)
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

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.shared.inner.contains(asset, path)
    }

    fn put(&self, asset: &AssetId, path: &CachePath, bytes: Bytes) -> Result<Committed, CacheError> {
        let len = bytes.len() as u64;
        let put = || {
            let mut staged = self.stage_with_room(asset, path, len)?;
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
        Ok(Box::new(self.stage_with_room(asset, path, 0)?))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.settle()?;
        let overhead = self.shared.inner.overhead(asset, Some(path));
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

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        self.settle()?;
        let Some(trash) = self.shared.inner.remove(asset)? else {
            return Ok(None);
        };
        let mut state = self.shared.lock();
        state.policy.removed(asset);
        state.skipped.remove(asset);
        drop(state);
        // Kept here, so that a write that needs the room can empty it.
        self.shared.bin.push(trash);
        let bin = Arc::clone(&self.shared.bin);
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
        let overhead = shared.inner.overhead(asset, None);
        shared.reserve(overhead)?;
        let done = shared.inner.set_pinned(asset, pinned);
        let mut state = shared.lock();
        state.reserved = state.reserved.saturating_sub(overhead);
        drop(state);
        if done.is_ok() {
            self.touch(asset, Stamp::default());
        }
        done
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

    fn overhead(&self, asset: &AssetId, path: Option<&CachePath>) -> u64 {
        self.shared.inner.overhead(asset, path)
    }

    fn settle(&self) -> Result<(), CacheError> {
        self.shared.inner.settle()?;
        if !self.shared.trimmed.swap(true, Ordering::AcqRel) {
            // Opened with a smaller limit than before. What is pinned may keep it above; writes are then refused.
            match self.shared.reserve(0) {
                Err(CacheError::CacheFull { .. }) => {}
                trimmed => trimmed?,
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
        let mut expired = Vec::new();
        let mut state = self.shared.lock();
        self.shared.hear_news(&mut state)?;
        let now = state.last.max(Stamp::now());
        while let Some(asset) = state.policy.expired(now) {
            expired.push(asset);
        }
        drop(state);
        self.shared.evict(expired)?;
        self.shared.bin.empty();
        self.shared.inner.checkpoint()
    }
}

impl<S: fmt::Debug, P: fmt::Debug> fmt::Debug for EvictingStore<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictingStore")
            .field("inner", &self.shared.inner)
            .field("max_bytes", &self.shared.max_bytes)
            .field("policy", &self.shared.lock().policy)
            .finish_non_exhaustive()
    }
}

/// An entry being written, and the room promised to it.
struct EvictingStaged<S: Store, P: EvictionPolicy> {
    inner: Option<Box<dyn Staged>>,
    asset: AssetId,
    reserved: u64,
    /// How much of that is for payload that is still to come.
    unwritten: u64,
    shared: Arc<Shared<S, P>>,
}

impl<S: Store, P: EvictionPolicy> EvictingStaged<S, P> {
    fn reserve(&mut self, bytes: u64) -> Result<(), CacheError> {
        self.shared.reserve(bytes)?;
        self.reserved += bytes;
        Ok(())
    }
}

impl<S: Store, P: EvictionPolicy> Staged for EvictingStaged<S, P> {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let more = bytes.saturating_sub(self.unwritten);
        self.unwritten = self.unwritten.saturating_sub(bytes);
        self.reserve(more)?;
        match &mut self.inner {
            Some(inner) => inner.write(parts),
            None => Err(CacheError::Abandoned),
        }
    }

    fn commit(mut self: Box<Self>) -> Result<Committed, CacheError> {
        let Some(inner) = self.inner.take() else {
            return Err(CacheError::Abandoned);
        };
        let committed = inner.commit()?;
        self.shared
            .committed(&self.asset, std::mem::take(&mut self.reserved), committed);
        Ok(committed)
    }
}

impl<S: Store, P: EvictionPolicy> Drop for EvictingStaged<S, P> {
    fn drop(&mut self) {
        // The staged bytes go first: until then they count.
        drop(self.inner.take());
        let mut state = self.shared.lock();
        state.reserved = state.reserved.saturating_sub(self.reserved);
    }
}

impl<S: Store, P: EvictionPolicy> fmt::Debug for EvictingStaged<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictingStaged")
            .field("inner", &self.inner)
            .field("reserved", &self.reserved)
            .finish_non_exhaustive()
    }
}

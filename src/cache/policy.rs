//! The order in which assets are evicted.

use std::fmt;
use std::time::Duration;

use hashlink::LinkedHashMap;

use super::id::{AssetId, IdHasher};
use super::timestamp::Timestamp;

/// Names the assets that an [`EvictingStore`](super::EvictingStore) evicts.
///
/// # Contract
///
/// The cache calls a policy one method at a time, in the order in which things happen, and under its own lock: what it tells
/// and what it does next are one step. Accesses are told some at once, before anything else is told or asked. So a policy answers from memory, in microseconds, and does not call the cache it
/// serves. A call from inside a method fails with [`CacheError::PolicyReentered`](super::CacheError::PolicyReentered); a
/// policy that waits for another thread's call of the cache waits for ever. Dropping a lease or a writer is allowed.
///
/// A policy that panics is not asked again: the cache goes on with an [`Lru`], logs it, and shows it in
/// [`CacheStats::policy_panicked`](super::CacheStats::policy_panicked).
///
/// # Implementing
///
/// A policy need not know which assets must stay. A victim that is leased, pinned or being written is skipped, and comes
/// back through [`restored`](Self::restored) when it is free. Sizes are in bytes, those of all files of the asset. One that
/// grows or shrinks is told by [`added`](Self::added).
///
/// # Examples
///
/// Large assets go first, whenever they were used: many small ones stay.
///
/// ```
/// use std::collections::HashMap;
///
/// use kithara::cache::{AssetCache, AssetId, CachePath, EvictionPolicy};
/// use kithara::cache::{MemoryStore, Timestamp};
///
/// #[derive(Debug, Default)]
/// struct LargestFirst(HashMap<AssetId, u64>);
///
/// impl EvictionPolicy for LargestFirst {
///     fn used(&mut self, asset: &AssetId, bytes: u64, _at: Timestamp) {
///         self.0.insert(asset.clone(), bytes);
///     }
///
///     fn added(&mut self, asset: &AssetId, bytes: u64, _at: Timestamp) {
///         self.0.insert(asset.clone(), bytes);
///     }
///
///     fn restored(&mut self, assets: Vec<(AssetId, u64, Timestamp)>) {
///         let sizes = assets.into_iter().map(|(asset, bytes, _)| (asset, bytes));
///         self.0.extend(sizes);
///     }
///
///     fn removed(&mut self, asset: &AssetId) {
///         self.0.remove(asset);
///     }
///
///     fn victim(&mut self, _now: Timestamp) -> Option<AssetId> {
///         let largest = self.0.iter().max_by_key(|(_, bytes)| **bytes)?.0.clone();
///         self.0.remove(&largest);
///         Some(largest)
///     }
/// }
///
/// let builder = AssetCache::builder("").store(MemoryStore::new());
/// let builder = builder.max_bytes(1000).policy(LargestFirst::default());
/// let cache = builder.open_blocking()?.blocking().clone();
/// let path = CachePath::parse("file")?;
/// for (name, len) in [("small", 100), ("large", 700), ("new", 300)] {
///     let asset = AssetId::from_key(name)?;
///     cache.put_atomic(&asset, &path, vec![0; len].into())?;
/// }
/// assert!(cache.contains(&AssetId::from_key("small")?, &path)?);
/// assert!(!cache.contains(&AssetId::from_key("large")?, &path)?);
/// # Ok::<(), kithara::cache::CacheError>(())
/// ```
pub trait EvictionPolicy: fmt::Debug + Send + 'static {
    /// The app used the asset, which takes `bytes`. It is the most recent one now.
    fn used(&mut self, asset: &AssetId, bytes: u64, at: Timestamp);

    /// An entry of the asset was written or removed; the asset takes `bytes` now. A known asset keeps its recency: a write
    /// is no access.
    fn added(&mut self, asset: &AssetId, bytes: u64, at: Timestamp);

    /// These assets are there, each with its bytes and its last access. They were found after opening, or are free again.
    /// A known asset keeps its recency.
    fn restored(&mut self, assets: Vec<(AssetId, u64, Timestamp)>);

    /// The asset is gone.
    fn removed(&mut self, asset: &AssetId);

    /// Names the asset to evict next and forgets it. `None` if nothing more should go.
    fn victim(&mut self, now: Timestamp) -> Option<AssetId>;

    /// Names an asset that should go although there is room, and forgets it. Asked at each checkpoint until it returns
    /// `None`.
    fn expired(&mut self, now: Timestamp) -> Option<AssetId> {
        let _ = now;
        None
    }
}

impl EvictionPolicy for Box<dyn EvictionPolicy> {
    fn used(&mut self, asset: &AssetId, bytes: u64, at: Timestamp) {
        (**self).used(asset, bytes, at);
    }

    fn added(&mut self, asset: &AssetId, bytes: u64, at: Timestamp) {
        (**self).added(asset, bytes, at);
    }

    fn restored(&mut self, assets: Vec<(AssetId, u64, Timestamp)>) {
        (**self).restored(assets);
    }

    fn removed(&mut self, asset: &AssetId) {
        (**self).removed(asset);
    }

    fn victim(&mut self, now: Timestamp) -> Option<AssetId> {
        (**self).victim(now)
    }

    fn expired(&mut self, now: Timestamp) -> Option<AssetId> {
        (**self).expired(now)
    }
}

/// Evicts the least recently used asset first. The default.
#[derive(Default)]
pub struct Lru {
    /// From the coldest to the hottest, by the hashes of their ids. A list of whole ids is a quarter longer, and each touch
    /// waits for the memory of an asset and of its two neighbours.
    order: LinkedHashMap<[u8; 32], Timestamp, IdHasher>,
}

impl Lru {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    fn coldest(&self) -> Option<Timestamp> {
        self.order.front().map(|(_, &at)| at)
    }
}

impl fmt::Debug for Lru {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lru").field("assets", &self.order.len()).finish()
    }
}

impl EvictionPolicy for Lru {
    fn used(&mut self, asset: &AssetId, _bytes: u64, at: Timestamp) {
        // One lookup for a known asset, which is the common case of a touch.
        if let Some(last) = self.order.to_back(asset.hash()) {
            *last = at;
        } else {
            self.order.insert(*asset.hash(), at);
        }
    }

    fn added(&mut self, asset: &AssetId, _bytes: u64, at: Timestamp) {
        if !self.order.contains_key(asset.hash()) {
            self.order.insert(*asset.hash(), at);
        }
    }

    fn restored(&mut self, assets: Vec<(AssetId, u64, Timestamp)>) {
        // A known asset was used or written to since it was found, and keeps the place that gave it.
        let unknown = assets
            .into_iter()
            .map(|(asset, _, at)| (*asset.hash(), at))
            .filter(|(asset, _)| !self.order.contains_key(asset));
        let mut assets: Vec<_> = unknown.collect();
        let hottest = assets.iter().map(|&(_, at)| at).max();
        // Only what is colder than one of them is put in order anew. As a rule that is nothing: skipped victims come back, and
        // each was the coldest when it was named.
        while self.coldest().is_some_and(|coldest| Some(coldest) < hottest) {
            assets.extend(self.order.pop_front());
        }
        assets.sort_by_key(|&(_, at)| at);
        for (asset, at) in assets.into_iter().rev() {
            self.order.insert_front(asset, at);
        }
    }

    fn removed(&mut self, asset: &AssetId) {
        self.order.remove(asset.hash());
    }

    fn victim(&mut self, _now: Timestamp) -> Option<AssetId> {
        self.order.pop_front().map(|(asset, _)| AssetId::from_hash(asset))
    }
}

/// Evicts assets that were not used for longer than a limit, even where there is room. When room is needed it evicts the
/// least recently used first.
///
/// Ages are never taken from a clock that contradicts itself. A session whose system clock is behind the accesses of earlier
/// ones counts the time that it is open, and no more: an asset may then stay longer than the limit, and none goes too early.
#[derive(Debug)]
pub struct MaxAge {
    limit: Duration,
    lru: Lru,
}

impl MaxAge {
    /// Keeps assets for `limit` after their last access.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            lru: Lru::new(),
        }
    }
}

impl EvictionPolicy for MaxAge {
    fn used(&mut self, asset: &AssetId, bytes: u64, at: Timestamp) {
        self.lru.used(asset, bytes, at);
    }

    fn added(&mut self, asset: &AssetId, bytes: u64, at: Timestamp) {
        self.lru.added(asset, bytes, at);
    }

    fn restored(&mut self, assets: Vec<(AssetId, u64, Timestamp)>) {
        self.lru.restored(assets);
    }

    fn removed(&mut self, asset: &AssetId) {
        self.lru.removed(asset);
    }

    fn victim(&mut self, now: Timestamp) -> Option<AssetId> {
        self.lru.victim(now)
    }

    fn expired(&mut self, now: Timestamp) -> Option<AssetId> {
        if self.lru.coldest()?.age(now) > self.limit {
            self.lru.victim(now)
        } else {
            None
        }
    }
}

/// Evicts nothing. When the cache is full, writes fail until the app removes something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

impl EvictionPolicy for Never {
    fn used(&mut self, _asset: &AssetId, _bytes: u64, _at: Timestamp) {}

    fn added(&mut self, _asset: &AssetId, _bytes: u64, _at: Timestamp) {}

    fn restored(&mut self, _assets: Vec<(AssetId, u64, Timestamp)>) {}

    fn removed(&mut self, _asset: &AssetId) {}

    fn victim(&mut self, _now: Timestamp) -> Option<AssetId> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C6, C8: an asset that is found, or free again, takes its place by its time. A known one keeps its own, whatever time
    /// comes with it.
    #[test]
    fn what_is_restored_has_its_place_by_its_time_unless_it_is_known() {
        let id = |name: &str| AssetId::from_key(name).unwrap();
        let mut lru = Lru::new();
        lru.used(&id("first"), 1, Timestamp(10));
        lru.used(&id("third"), 1, Timestamp(30));
        lru.used(&id("fifth"), 1, Timestamp(50));
        let found = [
            ("fourth", 40),
            ("coldest", 1),
            ("second", 20),
            ("first", 60),
            ("fifth", 2),
        ];
        lru.restored(found.map(|(name, at)| (id(name), 1, Timestamp(at))).to_vec());
        let order = std::iter::from_fn(|| lru.victim(Timestamp(100)));
        let expected = ["coldest", "first", "second", "third", "fourth", "fifth"];
        assert_eq!(order.collect::<Vec<_>>(), expected.map(id));
    }
}

//! The order in which assets are evicted.

use std::fmt;
use std::time::Duration;

use hashlink::LinkedHashMap;

use super::id::{AssetId, IdHasher};
use super::timestamp::Timestamp;

/// Names the assets that an [`EvictingStore`](super::EvictingStore) evicts.
///
/// # Implementing
///
/// Methods are called one at a time, in the order in which things happened, and under no lock of the cache. Accesses are
/// told in batches, before anything else is told or asked. A thread that needs room waits for the answer, so answer from
/// memory.
///
/// A policy need not know which assets must stay. A victim that is leased, pinned or being written is skipped, and comes
/// back through [`restored`](Self::restored) when it is free.
///
/// What happens while a method runs is told later, merged for each asset: of several accesses only the last one.
///
/// A method may call the cache. The changes that makes are told after the method has returned. A write that does not fit
/// fails with [`CacheError::PolicyBusy`](super::CacheError::PolicyBusy), because no victim can be named meanwhile: at once
/// on the thread that runs the method, after ten seconds on another one. A policy that keeps a handle of the cache keeps
/// the cache open.
pub trait EvictionPolicy: fmt::Debug + Send + 'static {
    /// The app used the asset. It is the most recent one now.
    fn used(&mut self, asset: &AssetId, at: Timestamp);

    /// The asset was written to. A known asset keeps its recency: a write is no access.
    fn added(&mut self, asset: &AssetId, at: Timestamp);

    /// These assets are there, last used at the given times. They were found after opening, or are free again. A known asset
    /// keeps its recency.
    fn restored(&mut self, assets: Vec<(AssetId, Timestamp)>);

    /// The asset is gone.
    fn removed(&mut self, asset: &AssetId);

    /// Names the asset to evict next and forgets it. Returns it with its last access, or `None` if nothing more should go.
    fn victim(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)>;

    /// Names an asset that should go although there is room, and forgets it. Asked at each checkpoint until it returns
    /// `None`.
    fn expired(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)> {
        let _ = now;
        None
    }
}

impl EvictionPolicy for Box<dyn EvictionPolicy> {
    fn used(&mut self, asset: &AssetId, at: Timestamp) {
        (**self).used(asset, at);
    }

    fn added(&mut self, asset: &AssetId, at: Timestamp) {
        (**self).added(asset, at);
    }

    fn restored(&mut self, assets: Vec<(AssetId, Timestamp)>) {
        (**self).restored(assets);
    }

    fn removed(&mut self, asset: &AssetId) {
        (**self).removed(asset);
    }

    fn victim(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)> {
        (**self).victim(now)
    }

    fn expired(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)> {
        (**self).expired(now)
    }
}

/// Evicts the least recently used asset first. The default.
#[derive(Default)]
pub struct Lru {
    /// From the coldest to the hottest.
    order: LinkedHashMap<AssetId, Timestamp, IdHasher>,
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
    fn used(&mut self, asset: &AssetId, at: Timestamp) {
        // One lookup for a known asset, which is the common case of a touch.
        if let Some(last) = self.order.to_back(asset) {
            *last = at;
        } else {
            self.order.insert(asset.bare(), at);
        }
    }

    fn added(&mut self, asset: &AssetId, at: Timestamp) {
        if !self.order.contains_key(asset) {
            self.order.insert(asset.bare(), at);
        }
    }

    fn restored(&mut self, mut assets: Vec<(AssetId, Timestamp)>) {
        // A known asset was used or written to since it was found, and keeps the place that gave it.
        assets.retain(|(asset, _)| !self.order.contains_key(asset));
        assets.sort_by_key(|&(_, at)| at);
        let hottest = assets.last().map(|&(_, at)| at);
        if hottest <= self.coldest() || self.order.is_empty() {
            // The usual case: skipped victims come back, and each was the coldest when it was named. Without it each return
            // would sort the whole list.
            for (asset, at) in assets.into_iter().rev() {
                self.order.insert_front(asset, at);
            }
        } else {
            assets.extend(self.order.drain());
            assets.sort_by_key(|&(_, at)| at);
            self.order.extend(assets);
        }
    }

    fn removed(&mut self, asset: &AssetId) {
        self.order.remove(asset);
    }

    fn victim(&mut self, _now: Timestamp) -> Option<(AssetId, Timestamp)> {
        self.order.pop_front()
    }
}

/// Evicts assets that were not used for longer than a limit, even where there is room. When room is needed it evicts the
/// least recently used first.
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
    fn used(&mut self, asset: &AssetId, at: Timestamp) {
        self.lru.used(asset, at);
    }

    fn added(&mut self, asset: &AssetId, at: Timestamp) {
        self.lru.added(asset, at);
    }

    fn restored(&mut self, assets: Vec<(AssetId, Timestamp)>) {
        self.lru.restored(assets);
    }

    fn removed(&mut self, asset: &AssetId) {
        self.lru.removed(asset);
    }

    fn victim(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)> {
        self.lru.victim(now)
    }

    fn expired(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)> {
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
    fn used(&mut self, _asset: &AssetId, _at: Timestamp) {}

    fn added(&mut self, _asset: &AssetId, _at: Timestamp) {}

    fn restored(&mut self, _assets: Vec<(AssetId, Timestamp)>) {}

    fn removed(&mut self, _asset: &AssetId) {}

    fn victim(&mut self, _now: Timestamp) -> Option<(AssetId, Timestamp)> {
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
        lru.used(&id("first"), Timestamp(10));
        lru.used(&id("third"), Timestamp(30));
        lru.used(&id("fifth"), Timestamp(50));
        let found = [
            ("fourth", 40),
            ("coldest", 1),
            ("second", 20),
            ("first", 60),
            ("fifth", 2),
        ];
        lru.restored(found.map(|(name, at)| (id(name), Timestamp(at))).to_vec());
        let order = std::iter::from_fn(|| lru.victim(Timestamp(100))).map(|(asset, _)| asset);
        let expected = ["coldest", "first", "second", "third", "fourth", "fifth"];
        assert_eq!(order.collect::<Vec<_>>(), expected.map(id));
    }
}

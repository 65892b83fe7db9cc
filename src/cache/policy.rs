//! Which asset goes first.

use std::fmt;
use std::time::Duration;

use hashlink::LinkedHashMap;

use super::id::{AssetId, IdHasher};
use super::timestamp::Timestamp;

/// Picks the assets an [`EvictingStore`](super::EvictingStore) removes.
///
/// # Implementing
///
/// Methods are called one at a time, in the order in which things happened, and under no lock of the cache. Uses are
/// told some at once: all of them before anything else is told or asked. Who needs room waits for the answer: give it
/// from memory. Which assets must not go is none of a policy's business: a victim that is leased, pinned or being
/// written is skipped and comes back by [`restored`](Self::restored) when it is free.
///
/// What happens while a method runs is told later and put together: several uses of one asset as the last of them.
///
/// A method may call the cache. What that changes is told after the method has returned; a write that does not fit
/// is refused with [`CacheError::PolicyBusy`](super::CacheError::PolicyBusy), since nobody else can say what should go
/// (at once on the thread that called the method, after ten seconds on another). A handle of the cache that a policy
/// keeps keeps the cache open.
pub trait EvictionPolicy: fmt::Debug + Send + 'static {
    /// The app used the asset: nothing is more recent.
    fn used(&mut self, asset: &AssetId, at: Timestamp);

    /// The asset was written to. What is known already keeps its recency: a download in the background is no use.
    fn added(&mut self, asset: &AssetId, at: Timestamp);

    /// These assets are there, last used at the given times: found at open, or free again. What is known already
    /// keeps its recency.
    fn restored(&mut self, assets: Vec<(AssetId, Timestamp)>);

    /// The asset is gone.
    fn removed(&mut self, asset: &AssetId);

    /// Takes the next victim off the list, to make room, with its last use; `None` if nothing (more) should go.
    fn victim(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)>;

    /// Takes off the list what should go even though there is room.
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

/// The least recently used asset goes first. The default.
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
        assets.retain(|(asset, _)| !self.order.contains_key(asset));
        assets.sort_by_key(|&(_, at)| at);
        let hottest = assets.last().map(|&(_, at)| at);
        if hottest <= self.coldest() || self.order.is_empty() {
            // Skipped victims come back here: each was the coldest when it was skipped.
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

/// Assets not used for longer than a limit go, room or no room; when room is needed the least recently used goes first.
#[derive(Debug)]
pub struct MaxAge {
    limit: Duration,
    lru: Lru,
}

impl MaxAge {
    /// Keeps assets for `limit` after their last use.
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

/// Nothing is evicted: when the cache is full, writes are refused until the app removes something.
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

    /// C6, C8: what is found, or free again, has its place by its time, whatever is known by then; and what is known keeps
    /// its own, whatever time comes with it.
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

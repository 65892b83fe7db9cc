//! What may happen between two steps of an eviction or a removal, made to happen.

use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use bytes::Bytes;

use super::*;
use crate::cache::lease::LeaseStore;
use crate::cache::memory::MemoryStore;
use crate::cache::policy::Lru;

type Hook = Box<dyn FnOnce() + Send>;

/// Runs hooks about the next removal of an asset, and the next look at one.
pub(in crate::cache) struct Hooked<S> {
    pub(in crate::cache) inner: S,
    pub(in crate::cache) hooks: Arc<Hooks>,
}

#[derive(Default)]
pub(in crate::cache) struct Hooks {
    /// When it is to be removed.
    before: Mutex<Option<Hook>>,
    /// Before whoever removes it has heard that it is gone.
    pub(in crate::cache) after: Mutex<Option<Hook>>,
    /// Before the look.
    pub(in crate::cache) looking: Mutex<Option<Hook>>,
    /// Before whoever looks has heard what is there.
    pub(in crate::cache) looked: Mutex<Option<Hook>>,
}

fn run(hook: &Mutex<Option<Hook>>) {
    let hook = hook.lock().unwrap().take();
    if let Some(hook) = hook {
        hook();
    }
}

impl<S> fmt::Debug for Hooked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooked").finish_non_exhaustive()
    }
}

impl<S: Store> Store for Hooked<S> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        self.inner.open(asset, path)
    }

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.inner.contains(asset, path)
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        self.inner.stage(asset, path)
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.inner.remove_entry(asset, path)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        run(&self.hooks.before);
        let removed = self.inner.remove(asset);
        run(&self.hooks.after);
        removed
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        self.inner.set_pinned(asset, pinned)
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        run(&self.hooks.looking);
        let info = self.inner.asset(asset);
        run(&self.hooks.looked);
        info
    }

    fn modified(&self, asset: &AssetId) -> Result<Option<Stamp>, CacheError> {
        self.inner.modified(asset)
    }

    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        self.inner.assets()
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.inner.entries(asset)
    }

    fn used_bytes(&self) -> Result<u64, CacheError> {
        self.inner.used_bytes()
    }

    fn overhead(&self, asset: &AssetId, path: Option<&CachePath>, payload: u64) -> u64 {
        self.inner.overhead(asset, path, payload)
    }

    fn settle(&self) -> Result<(), CacheError> {
        self.inner.settle()
    }

    fn touch(&self, asset: &AssetId, at: Stamp) -> bool {
        self.inner.touch(asset, at)
    }

    fn is_held(&self, asset: &AssetId) -> Result<bool, CacheError> {
        self.inner.is_held(asset)
    }

    fn news(&self) -> Result<Vec<(AssetId, Stamp)>, CacheError> {
        self.inner.news()
    }

    fn checkpoint(&self) -> Result<(), CacheError> {
        self.inner.checkpoint()
    }
}

struct Scene {
    store: Arc<EvictingStore<Hooked<LeaseStore<MemoryStore>>, Lru>>,
    hooks: Arc<Hooks>,
}

impl Scene {
    fn new(max_bytes: u64) -> Self {
        let hooks = Arc::default();
        let hooked = Hooked {
            inner: LeaseStore::new(MemoryStore::new()),
            hooks: Arc::clone(&hooks),
        };
        let store = Arc::new(EvictingStore::new(hooked, Lru::new(), max_bytes));
        Self { store, hooks }
    }
}

fn put<S: Store>(store: &S, asset: &str, bytes: usize) -> Result<(), CacheError> {
    let path = CachePath::parse("x").unwrap();
    let asset = AssetId::from_key(asset).unwrap();
    store.put(&asset, &path, Bytes::from(vec![1; bytes])).map(drop)
}

fn is_there<S: Store>(store: &S, asset: &str) -> bool {
    let asset = AssetId::from_key(asset).unwrap();
    store.asset(&asset).unwrap().is_some()
}

/// C6, fault C10: while victims are on their way out, who needs room too waits for them: the policy has nobody left to name,
/// and still the cache is not full.
#[test]
fn a_second_writer_waits_for_victims_on_their_way() {
    let scene = Scene::new(1000);
    put(&*scene.store, "old", 800).unwrap();
    let (on_its_way, first_removes) = mpsc::channel::<()>();
    let (go_on, second_waits) = mpsc::channel::<()>();
    *scene.hooks.before.lock().unwrap() = Some(Box::new(move || {
        on_its_way.send(()).unwrap();
        second_waits.recv().unwrap();
    }));
    thread::scope(|scope| {
        let first = scope.spawn(|| put(&*scene.store, "first", 300));
        first_removes.recv().unwrap();
        let second = scope.spawn(|| put(&*scene.store, "second", 300));
        // It waits for its turn, or has given up.
        while scene.store.shared.lock().seat.waiting() == 0 && !second.is_finished() {
            thread::yield_now();
        }
        go_on.send(()).unwrap();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
    });
    assert!(!is_there(&*scene.store, "old"));
    assert!(is_there(&*scene.store, "first") && is_there(&*scene.store, "second"));
}

/// C6: an asset that is made anew while it is being removed is known to the policy afterwards, which would else never name
/// it again.
#[test]
fn an_asset_made_anew_while_it_is_removed_can_be_evicted() {
    let scene = Scene::new(1000);
    put(&*scene.store, "a", 300).unwrap();
    let store = Arc::clone(&scene.store);
    let anew = move || put(&*store, "a", 600).unwrap();
    *scene.hooks.after.lock().unwrap() = Some(Box::new(anew));
    let removed = scene.store.remove(&AssetId::from_key("a").unwrap()).unwrap();
    removed.unwrap().empty().unwrap();
    assert!(is_there(&*scene.store, "a"));
    put(&*scene.store, "b", 800).unwrap();
    assert!(!is_there(&*scene.store, "a") && is_there(&*scene.store, "b"));
}

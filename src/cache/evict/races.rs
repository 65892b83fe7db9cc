//! What may happen between two steps of an eviction or a removal, made to happen.

use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use bytes::Bytes;

use super::*;
use crate::cache::fs::FsStore;
use crate::cache::index::IndexStore;
use crate::cache::lease::LeaseStore;
use crate::cache::memory::MemoryStore;
use crate::cache::policy::Lru;
use crate::storage::Durability;

type Hook = Box<dyn FnOnce() + Send>;

/// Runs hooks about the next removal of an asset, and the next look at one.
pub(in crate::cache) struct Hooked<S> {
    pub(in crate::cache) inner: S,
    pub(in crate::cache) hooks: Arc<Hooks>,
}

#[derive(Default)]
pub(in crate::cache) struct Hooks {
    /// When it is to be removed.
    pub(in crate::cache) before: Mutex<Option<Hook>>,
    /// Before whoever removes it has heard that it is gone.
    pub(in crate::cache) after: Mutex<Option<Hook>>,
    /// Before the look.
    pub(in crate::cache) looking: Mutex<Option<Hook>>,
    /// Before whoever looks has heard what is there.
    pub(in crate::cache) looked: Mutex<Option<Hook>>,
    /// Before a staged entry is gone, or committed.
    dropping: Mutex<Option<Hook>>,
    /// What the next removal answers, without being tried.
    removal_fails: Mutex<Option<CacheError>>,
    /// What the next look answers.
    pub(in crate::cache) look_fails: Mutex<Option<CacheError>>,
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
        Ok(Box::new(HookedStaged {
            dropping: Dropping(Arc::clone(&self.hooks)),
            inner: self.inner.stage(asset, path)?,
        }))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.inner.partial(asset, path)
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.inner.remove_entry(asset, path)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        run(&self.hooks.before);
        if let Some(error) = self.hooks.removal_fails.lock().unwrap().take() {
            return Err(error);
        }
        let removed = self.inner.remove(asset);
        run(&self.hooks.after);
        removed
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        self.inner.set_pinned(asset, pinned)
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        run(&self.hooks.looking);
        if let Some(error) = self.hooks.look_fails.lock().unwrap().take() {
            return Err(error);
        }
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

/// Dropped before the staged entry it goes with.
struct Dropping(Arc<Hooks>);

impl Drop for Dropping {
    fn drop(&mut self) {
        run(&self.0.dropping);
    }
}

struct HookedStaged {
    dropping: Dropping,
    inner: Box<dyn Staged>,
}

impl fmt::Debug for HookedStaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedStaged").finish_non_exhaustive()
    }
}

impl Staged for HookedStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        self.inner.write(parts)
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        let Self { dropping, inner } = *self;
        drop(dropping);
        inner.commit()
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

fn id(asset: &str) -> AssetId {
    AssetId::from_key(asset).unwrap()
}

fn path(name: &str) -> CachePath {
    CachePath::parse(name).unwrap()
}

fn put<S: Store>(store: &S, asset: &str, bytes: usize) -> Result<(), CacheError> {
    let bytes = Bytes::from(vec![1; bytes]);
    store.put(&id(asset), &path("x"), bytes).map(drop)
}

fn is_there<S: Store>(store: &S, asset: &str) -> bool {
    store.asset(&id(asset)).unwrap().is_some()
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
        let start = Instant::now();
        go_on.send(()).unwrap();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
        assert!(
            start.elapsed() < turn::PATIENCE / 2,
            "it was not told that the turn is free"
        );
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
    let removed = scene.store.remove(&id("a")).unwrap();
    removed.unwrap().empty().unwrap();
    assert!(is_there(&*scene.store, "a"));
    put(&*scene.store, "b", 800).unwrap();
    assert!(!is_there(&*scene.store, "a") && is_there(&*scene.store, "b"));
}

/// C6: as many as needed go, and of those that are not only what fits in the slack, a part of the limit.
#[test]
fn no_more_is_evicted_than_is_needed_and_fits_in_the_slack() {
    let names: Vec<_> = (0..32).map(|n| n.to_string()).collect();
    let left = |asset: usize, needed: usize| {
        let scene = Scene::new(3200);
        for name in names.iter().take(3200 / asset) {
            put(&*scene.store, name, asset).unwrap();
        }
        put(&*scene.store, "new", needed).unwrap();
        scene.store.assets().unwrap().len() - 1
    };
    // The slack is a hundred: another small one, but none of those above it.
    assert_eq!(left(100, 100), 30);
    assert_eq!(left(800, 800), 3);
    assert_eq!(left(800, 801), 2);
}

/// C6, fault C24: one victim is written to by two since it was picked. It stays, and goes first when it is free: that it was
/// written to is no use of it.
#[test]
fn a_victim_that_is_written_to_since_it_was_picked_keeps_its_place() {
    let scene = Scene::new(1000);
    for asset in ["old", "mid", "new"] {
        put(&*scene.store, asset, 300).unwrap();
    }
    let (store, staged) = (Arc::clone(&scene.store), Arc::new(Mutex::new(None)));
    let keep = Arc::clone(&staged);
    *scene.hooks.before.lock().unwrap() = Some(Box::new(move || {
        *keep.lock().unwrap() = Some(store.stage(&id("old"), &path("y")).unwrap());
    }));
    put(&*scene.store, "first", 300).unwrap();
    assert!(is_there(&*scene.store, "old") && !is_there(&*scene.store, "mid"));
    scene
        .store
        .put(&id("old"), &path("z"), Bytes::from_static(b"bytes"))
        .unwrap();
    drop(staged.lock().unwrap().take());
    put(&*scene.store, "second", 300).unwrap();
    assert!(!is_there(&*scene.store, "old") && is_there(&*scene.store, "new"));
}

/// C11: a victim that cannot be removed, or looked at, fails the write, and is a victim again.
#[test]
fn a_victim_that_could_not_be_removed_is_tried_again() {
    for removal in [true, false] {
        let scene = Scene::new(1000);
        put(&*scene.store, "a", 600).unwrap();
        let fails = if removal {
            &scene.hooks.removal_fails
        } else {
            &scene.hooks.look_fails
        };
        *fails.lock().unwrap() = Some(CacheError::Io {
            action: "remove",
            path: "a".into(),
            source: std::io::Error::other("as the test wants"),
        });
        let error = put(&*scene.store, "b", 600).unwrap_err();
        assert!(matches!(error, CacheError::Io { .. }), "{error}");
        assert!(is_there(&*scene.store, "a"));
        put(&*scene.store, "b", 600).unwrap();
        assert!(!is_there(&*scene.store, "a") && is_there(&*scene.store, "b"));
    }
}

/// C5: the bytes of a partial file that is let go count all the while: they are promised until the index counts them.
#[test]
fn a_partial_file_that_is_let_go_counts_all_the_while() {
    let (root, hooks) = (tempfile::tempdir().unwrap(), Arc::<Hooks>::default());
    let hooked = Hooked {
        inner: FsStore::open(root.path(), Durability::Ordered).unwrap(),
        hooks: Arc::clone(&hooks),
    };
    let index = IndexStore::scanned(hooked).unwrap();
    let store = Arc::new(EvictingStore::new(index, Lru::new(), 1_000_000));
    let claim = || store.partial(&id("a"), &path("x")).unwrap().unwrap();
    let first = claim();
    first.prepare().unwrap();
    let partial = first.place().partial.clone();
    let record = partial.with_file_name(format!(
        "{}~ranges",
        partial.file_name().unwrap().to_str().unwrap()
    ));
    std::fs::write(partial, vec![1; 50_000]).unwrap();
    std::fs::write(record, [1; 100]).unwrap();
    drop(first);
    let used = store.used_bytes().unwrap();
    assert!(used > 50_000);
    let second = claim();
    assert_eq!(second.stored(), used);
    let (looks, (tell, told)) = (Arc::clone(&store), mpsc::channel());
    *hooks.looking.lock().unwrap() = Some(Box::new(move || {
        tell.send(looks.used_bytes().unwrap()).unwrap();
    }));
    drop(second);
    assert!(told.recv().unwrap() >= used);
    assert_eq!(store.used_bytes().unwrap(), used);
}

/// C5: the bytes of a staged entry count until it is gone.
#[test]
fn a_staged_entry_that_is_dropped_counts_until_it_is_gone() {
    let scene = Scene::new(1000);
    let mut staged = scene.store.stage(&id("a"), &path("x")).unwrap();
    staged.write(&[vec![1; 300].into()]).unwrap();
    let (looks, (tell, told)) = (Arc::clone(&scene.store), mpsc::channel());
    *scene.hooks.dropping.lock().unwrap() = Some(Box::new(move || {
        tell.send(looks.used_bytes().unwrap()).unwrap();
    }));
    drop(staged);
    assert_eq!(told.recv().unwrap(), 300);
    assert_eq!(scene.store.used_bytes().unwrap(), 0);
}

/// C5: what was put under a larger limit, and could not be evicted when the cache was opened with a smaller one, goes with
/// the next call.
#[test]
fn a_smaller_limit_that_could_not_take_effect_at_once_does_later() {
    let hooks = Arc::<Hooks>::default();
    let hooked = Hooked {
        inner: LeaseStore::new(MemoryStore::new()),
        hooks: Arc::clone(&hooks),
    };
    for asset in ["a", "b"] {
        put(&hooked, asset, 600).unwrap();
    }
    let store = EvictingStore::new(hooked, Lru::new(), 1000);
    *hooks.removal_fails.lock().unwrap() = Some(CacheError::Abandoned);
    store.settle().unwrap_err();
    assert_eq!(store.assets().unwrap().len(), 2);
    store.settle().unwrap();
    store.bin().empty();
    assert!(store.used_bytes().unwrap() <= 1000);
}

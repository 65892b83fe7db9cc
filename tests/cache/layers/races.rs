//! What may happen between two steps of an eviction or a removal, made to happen.

use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use bytes::Bytes;
use kithara::cache::{
    Accounts, AssetId, CacheError, Durability, EvictingStore, EvictionPolicy, FsStore, IndexStore,
    LeaseStore, Lru, MemoryStore, Store, Timestamp, testing,
};

use super::hooked::{Hook, Hooked, Hooks, Next};
use crate::{asset as id, path, stack};

struct Scene {
    store: Arc<EvictingStore<Hooked<LeaseStore<IndexStore<MemoryStore>>>, Lru>>,
    hooks: Arc<Hooks>,
}

/// A store with leases, and hooks between them and the limit.
fn leased<S: Store>(inner: S) -> (Hooked<LeaseStore<IndexStore<S>>>, Arc<Hooks>, Arc<Accounts>) {
    let index = IndexStore::scanned(inner).unwrap();
    let accounts = Arc::clone(index.accounts());
    let (hooked, hooks) = Hooked::over(LeaseStore::new(index, &accounts));
    (hooked, hooks, accounts)
}

impl Scene {
    fn new(max_bytes: u64) -> Self {
        let (hooked, hooks, accounts) = leased(MemoryStore::new());
        let store = Arc::new(EvictingStore::new(hooked, &accounts, Lru::new(), max_bytes));
        Self { store, hooks }
    }
}

fn put<S: Store>(store: &S, asset: &str, bytes: usize) -> Result<(), CacheError> {
    let bytes = Bytes::from(vec![1; bytes]);
    store.put(&id(asset), &path("x"), bytes).map(drop)
}

fn is_there<S: Store>(store: &S, asset: &str) -> bool {
    store.asset(&id(asset)).unwrap().is_some()
}

/// C6, fault C10: while victims are on their way out, a thread that needs room too waits for them. The policy knows no other
/// victim, and still the cache is not full.
#[test]
fn a_second_writer_waits_for_victims_on_their_way() {
    let scene = Scene::new(1000);
    put(&*scene.store, "old", 800).unwrap();
    let (on_its_way, first_removes) = mpsc::channel::<()>();
    let (go_on, second_waits) = mpsc::channel::<()>();
    scene.hooks.before_removal.set(move || {
        on_its_way.send(()).unwrap();
        second_waits.recv().unwrap();
    });
    thread::scope(|scope| {
        let first = scope.spawn(|| put(&*scene.store, "first", 300));
        first_removes.recv().unwrap();
        let second = scope.spawn(|| put(&*scene.store, "second", 300));
        // It waits for the victims, or has given up.
        while testing::trash_waits(&scene.store) == 0 && !second.is_finished() {
            thread::yield_now();
        }
        go_on.send(()).unwrap();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
    });
    assert!(!is_there(&*scene.store, "old"));
    assert!(is_there(&*scene.store, "first") && is_there(&*scene.store, "second"));
}

/// C6: an asset that is made anew while it is being removed is known to the policy afterwards. Otherwise it could never be
/// evicted.
#[test]
fn an_asset_made_anew_while_it_is_removed_can_be_evicted() {
    let scene = Scene::new(1000);
    put(&*scene.store, "a", 300).unwrap();
    let store = Arc::clone(&scene.store);
    let anew = move || put(&*store, "a", 600).unwrap();
    scene.hooks.after_removal.set(anew);
    let removed = scene.store.remove(&id("a")).unwrap();
    removed.unwrap().empty().unwrap();
    assert!(is_there(&*scene.store, "a"));
    put(&*scene.store, "b", 800).unwrap();
    assert!(!is_there(&*scene.store, "a") && is_there(&*scene.store, "b"));
}

/// C6: as many assets are evicted as needed, and beyond that only what fits in the slack, a part of the limit.
#[test]
fn no_more_is_evicted_than_is_needed_and_fits_in_the_slack() {
    let names: Vec<_> = (0..32).map(|n| n.to_string()).collect();
    let left = |asset: usize, needed: usize| {
        let scene = Scene::new(3200);
        for name in names.iter().take(3200 / asset) {
            put(&*scene.store, name, asset).unwrap();
        }
        put(&*scene.store, "new", needed).unwrap();
        scene.store.list().unwrap().len() - 1
    };
    // The slack is a hundred: another small one, but none of those above it.
    assert_eq!(left(100, 100), 30);
    assert_eq!(left(800, 800), 3);
    assert_eq!(left(800, 801), 2);
}

/// C6, fault C24: a victim is written to twice after the policy named it. It stays, and goes first when it is free: a write
/// is no access.
#[test]
fn a_victim_that_is_written_to_since_it_was_picked_keeps_its_place() {
    let scene = Scene::new(1000);
    for asset in ["old", "mid", "new"] {
        put(&*scene.store, asset, 300).unwrap();
    }
    let (store, staged) = (Arc::clone(&scene.store), Arc::new(Mutex::new(None)));
    let keep = Arc::clone(&staged);
    scene.hooks.before_removal.set(move || {
        *keep.lock().unwrap() = Some(store.stage(&id("old"), &path("y")).unwrap());
    });
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

/// C11: a victim that cannot be removed, where there is no other, fails the write, and can be named again.
#[test]
fn a_victim_that_could_not_be_removed_is_tried_again() {
    let scene = Scene::new(1000);
    put(&*scene.store, "a", 600).unwrap();
    scene.hooks.removal_fails.set(failure());
    let error = put(&*scene.store, "b", 600).unwrap_err();
    assert!(matches!(error, CacheError::Io { .. }), "{error}");
    assert!(is_there(&*scene.store, "a"));
    put(&*scene.store, "b", 600).unwrap();
    assert!(!is_there(&*scene.store, "a") && is_there(&*scene.store, "b"));
}

fn failure() -> CacheError {
    CacheError::Io {
        action: "remove",
        path: "a".into(),
        source: Arc::new(std::io::Error::other("as the test wants")),
    }
}

/// W45, C34: where one victim cannot be removed the next one goes, and the write takes place. The first is the next one's
/// first victim again.
#[test]
fn w45_where_a_victim_cannot_be_removed_the_next_one_goes() {
    let scene = Scene::new(1000);
    for name in ["stuck", "next", "last"] {
        put(&*scene.store, name, 300).unwrap();
    }
    scene.hooks.removal_fails.set(failure());
    put(&*scene.store, "new", 300).unwrap();
    assert!(is_there(&*scene.store, "stuck") && is_there(&*scene.store, "last"));
    assert!(!is_there(&*scene.store, "next"));
    put(&*scene.store, "newer", 300).unwrap();
    assert!(!is_there(&*scene.store, "stuck"), "the coldest all the while");
    assert!(scene.store.used_bytes().unwrap() <= 1000);
}

/// C5: the bytes of a partial file count all the while its claim ends: they are reserved until the index counts them.
#[test]
fn a_partial_file_whose_claim_ends_counts_all_the_while() {
    let root = tempfile::tempdir().unwrap();
    let (hooked, hooks) = Hooked::over(FsStore::open(root.path(), Durability::Ordered).unwrap());
    let index = IndexStore::scanned(hooked).unwrap();
    let accounts = Arc::clone(index.accounts());
    let store = Arc::new(EvictingStore::new(index, &accounts, Lru::new(), 1_000_000));
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
    assert!(store.used_bytes().unwrap() < used + 1000, "they count once");
    let (reads, (tell, told)) = (Arc::clone(&store), mpsc::channel());
    hooks.before_info.set(move || {
        tell.send(reads.used_bytes().unwrap()).unwrap();
    });
    drop(second);
    assert!(told.recv().unwrap() >= used);
    assert_eq!(store.used_bytes().unwrap(), used);
}

/// W46, C5: the claim of a partial file ends while another entry of its asset is being committed. The asset is not read until
/// that has ended, and the bytes of the file count all the while.
#[test]
fn a_partial_file_whose_claim_ends_beside_a_commit_counts_all_the_while() {
    let root = tempfile::tempdir().unwrap();
    let (hooked, hooks) = Hooked::over(FsStore::open(root.path(), Durability::Ordered).unwrap());
    let index = IndexStore::scanned(hooked).unwrap();
    let accounts = Arc::clone(index.accounts());
    let store = Arc::new(EvictingStore::new(index, &accounts, Lru::new(), 1_000_000));
    let mut staged = store.stage(&id("a"), &path("y")).unwrap();
    staged.write(&[vec![1; 300].into()]).unwrap();
    let partial = store.partial(&id("a"), &path("x")).unwrap().unwrap();
    partial.prepare().unwrap();
    let (file, record) = (".part-x", ".part-x~ranges");
    let place = partial.place().partial.clone();
    assert!(place.ends_with(file));
    partial.reserve(50_000).unwrap();
    std::fs::write(&place, vec![1; 50_000]).unwrap();
    std::fs::write(place.with_file_name(record), []).unwrap();
    let (reads, (tell, told)) = (Arc::clone(&store), mpsc::channel());
    hooks.after_commit.set(move || {
        drop(partial);
        tell.send(reads.used_bytes().unwrap()).unwrap();
    });
    staged.commit().unwrap();
    assert!(told.recv().unwrap() >= 50_000);
    let on_disk = store.inner().inner().asset(&id("a")).unwrap().unwrap();
    assert_eq!(store.used_bytes().unwrap(), on_disk.bytes);
}

/// C33: a writer that has reserved a part says how much it will be in all. What it has is not asked for twice.
#[test]
fn a_length_that_is_told_late_counts_what_is_reserved_once() {
    let scene = Scene::new(1000);
    let mut staged = scene.store.stage(&id("a"), &path("x")).unwrap();
    staged.write(&[vec![1; 600].into()]).unwrap();
    assert!(staged.expect_len(1001).unwrap_err().is_full());
    staged.expect_len(1000).unwrap();
    staged.write(&[vec![1; 400].into()]).unwrap();
    staged.commit().unwrap();
}

/// C5: what a partial entry has released is not released again, out of what others have reserved.
#[test]
fn a_partial_entry_gives_back_only_what_it_has() {
    let root = tempfile::tempdir().unwrap();
    let files = FsStore::open(root.path(), Durability::Ordered).unwrap();
    let store = stack(IndexStore::scanned(files).unwrap(), Lru::new(), 1_000_000);
    let partial = store.partial(&id("a"), &path("x")).unwrap().unwrap();
    let mut staged = store.stage(&id("b"), &path("x")).unwrap();
    staged.write(&[vec![1; 300].into()]).unwrap();
    let used = store.used_bytes().unwrap();
    partial.reserve(200).unwrap();
    partial.release(200);
    assert_eq!(store.used_bytes().unwrap(), used);
    drop(partial);
    assert!(store.used_bytes().unwrap() >= 300);
    drop(staged);
    assert_eq!(store.used_bytes().unwrap(), 0);
}

/// C5: the commit of a partial entry gives up its own reservation, and none of what others have reserved.
#[test]
fn the_commit_of_a_partial_entry_gives_up_no_others_room() {
    let root = tempfile::tempdir().unwrap();
    let files = FsStore::open(root.path(), Durability::Ordered).unwrap();
    let store = stack(IndexStore::scanned(files).unwrap(), Lru::new(), 1_000_000);
    let mut staged = store.stage(&id("b"), &path("x")).unwrap();
    staged.write(&[vec![1; 5000].into()]).unwrap();
    let partial = store.partial(&id("a"), &path("x")).unwrap().unwrap();
    partial.reserve(200).unwrap();
    partial.prepare().unwrap();
    partial.commit(&mut || Ok(0)).unwrap();
    drop(partial);
    assert!(store.used_bytes().unwrap() >= 5000);
    drop(staged);
    assert!(store.used_bytes().unwrap() < 5000);
}

/// C5: the bytes of a staged entry count until it is gone.
#[test]
fn a_staged_entry_that_is_dropped_counts_until_it_is_gone() {
    let scene = Scene::new(1000);
    let mut staged = scene.store.stage(&id("a"), &path("x")).unwrap();
    staged.write(&[vec![1; 300].into()]).unwrap();
    let (reads, (tell, told)) = (Arc::clone(&scene.store), mpsc::channel());
    scene.hooks.before_end.set(move || {
        tell.send(reads.used_bytes().unwrap()).unwrap();
    });
    drop(staged);
    assert_eq!(told.recv().unwrap(), 300);
    assert_eq!(scene.store.used_bytes().unwrap(), 0);
}

/// C2, C5: an entry whose write was refused is not committed without those bytes, whatever is written afterwards.
#[test]
fn a_staged_entry_that_was_refused_a_part_cannot_be_committed() {
    let scene = Scene::new(1000);
    for written_to_again in [true, false] {
        let mut staged = scene.store.stage(&id("a"), &path("x")).unwrap();
        staged.write(&[vec![1; 100].into()]).unwrap();
        let full = staged.write(&[vec![2; 2000].into()]);
        assert!(matches!(full, Err(CacheError::CacheFull { .. })), "{full:?}");
        if written_to_again {
            let later = staged.write(&[vec![3; 100].into()]);
            assert!(matches!(later, Err(CacheError::Abandoned)), "{later:?}");
        }
        let committed = staged.commit();
        assert!(matches!(committed, Err(CacheError::Abandoned)), "{committed:?}");
        assert!(!is_there(&*scene.store, "a"));
        assert_eq!(scene.store.used_bytes().unwrap(), 0);
    }
}

/// C5: assets over a smaller limit that could not be evicted when the cache was opened are evicted by the next call.
#[test]
fn a_smaller_limit_that_could_not_take_effect_at_once_does_later() {
    let (hooked, hooks, accounts) = leased(MemoryStore::new());
    put(&hooked, "a", 1200).unwrap();
    let store = EvictingStore::new(hooked, &accounts, Lru::new(), 1000);
    hooks.removal_fails.set(CacheError::Abandoned);
    store.ready().unwrap_err();
    assert_eq!(store.list().unwrap().len(), 1);
    store.ready().unwrap();
    store.checkpoint().unwrap();
    assert!(store.used_bytes().unwrap() <= 1000);
}

/// An LRU that runs a hook when it is next told of a removal.
#[derive(Debug, Default)]
struct Acting {
    lru: Lru,
    acts: Arc<Acts>,
}

#[derive(Default)]
struct Acts {
    told: Next<Hook>,
}

impl fmt::Debug for Acts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acts").finish_non_exhaustive()
    }
}

impl EvictionPolicy for Acting {
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
        self.acts.told.run();
    }

    fn victim(&mut self, now: Timestamp) -> Option<AssetId> {
        self.lru.victim(now)
    }
}

/// A store with two assets, one of which the app removes. Only a writer empties the trash queue.
struct Removal {
    store: Arc<EvictingStore<Hooked<IndexStore<FsStore>>, Acting>>,
    hooks: Arc<Hooks>,
    acts: Arc<Acts>,
    _root: tempfile::TempDir,
}

impl Removal {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let files = FsStore::open(root.path(), Durability::Ordered).unwrap();
        let index = IndexStore::scanned(files).unwrap();
        let accounts = Arc::clone(index.accounts());
        let (hooked, hooks) = Hooked::over(index);
        let policy = Acting::default();
        let acts = Arc::clone(&policy.acts);
        let store = Arc::new(EvictingStore::new(hooked, &accounts, policy, 100_000));
        put(&*store, "kept", 45_000).unwrap();
        put(&*store, "gone", 45_000).unwrap();
        Self {
            store,
            hooks,
            acts,
            _root: root,
        }
    }

    /// Puts an asset that fits where "gone" was.
    fn put_new(&self) {
        put(&*self.store, "new", 50_000).unwrap();
        self.check();
    }

    fn check(&self) {
        assert!(is_there(&*self.store, "kept") && is_there(&*self.store, "new"));
        assert!(!is_there(&*self.store, "gone"));
    }
}

/// C5, C6: a write waits for an asset that the app has removed and that is not in the trash queue yet, though its bytes count
/// already. No other asset is evicted for that room.
#[test]
fn what_the_app_removes_makes_room_before_it_is_in_the_trash_queue() {
    let removal = Removal::new();
    let (store, (tell, told)) = (Arc::clone(&removal.store), mpsc::channel());
    removal.hooks.after_removal.set(move || {
        let writer = Arc::clone(&store);
        let puts = thread::spawn(move || put(&*writer, "new", 50_000));
        while testing::trash_waits(&store) == 0 && !puts.is_finished() {
            thread::yield_now();
        }
        tell.send(puts).unwrap();
    });
    drop(removal.store.remove(&id("gone")).unwrap().unwrap());
    told.recv().unwrap().join().unwrap().unwrap();
    removal.check();
}

/// C5, C6, fault C25: what the app removes makes room even if the policy panics when it is told.
#[test]
fn what_the_app_removes_makes_room_though_the_policy_panics() {
    let removal = Removal::new();
    removal.acts.told.set(|| panic!("as the test wants"));
    drop(removal.store.remove(&id("gone")).unwrap().unwrap());
    assert!(removal.acts.told.is_over());
    removal.put_new();
}

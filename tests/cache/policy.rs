//! C32, fault C25: an eviction policy is foreign code. It is told under the lock of the accounts, and may not call the cache.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::block_on;
use kithara::cache::{
    AssetCache, AssetId, BlockingCache, CacheError, Durability, EvictionPolicy, Lease, Lru, MemoryStore,
    Timestamp,
};

use crate::{asset, check, path};

const MAX_BYTES: u64 = 200_000;

fn bytes(len: usize) -> Bytes {
    crate::bytes(len, 0)
}

/// Runs a test on a thread of its own: what never ends fails.
fn ends(test: impl FnOnce() + Send + 'static) {
    let (sender, ended) = mpsc::channel::<()>();
    let test = thread::spawn(move || {
        let _sender = sender;
        test();
    });
    let waited = ended.recv_timeout(Duration::from_secs(60));
    assert_ne!(waited, Err(mpsc::RecvTimeoutError::Timeout), "it hangs");
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What a policy does in each of its methods.
type Act = dyn Fn(&AssetCache, &'static str) + Send + Sync;

/// An LRU that acts on the cache it serves, once it has it.
#[derive(Clone)]
struct Acting {
    lru: Arc<Mutex<Lru>>,
    cache: Arc<Mutex<Option<AssetCache>>>,
    act: Arc<Act>,
    /// How often each method was called.
    calls: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    /// An asset that is said to be expired, once.
    expire: Arc<Mutex<Option<AssetId>>>,
}

impl Acting {
    fn new(act: impl Fn(&AssetCache, &'static str) + Send + Sync + 'static) -> Self {
        Self {
            lru: Arc::default(),
            cache: Arc::default(),
            act: Arc::new(act),
            calls: Arc::default(),
            expire: Arc::default(),
        }
    }

    fn open(&self, root: &Path) -> AssetCache {
        let cache = AssetCache::builder(root)
            .max_bytes(MAX_BYTES)
            .durability(Durability::Ordered)
            .policy(self.clone())
            .open_blocking()
            .unwrap();
        *self.cache.lock().unwrap() = Some(cache.clone());
        cache
    }

    /// Lets the cache go, which a handle held by its policy keeps open.
    fn forget(&self) {
        drop(self.cache.lock().unwrap().take());
    }

    fn made(&self, method: &str) -> usize {
        self.calls.lock().unwrap().get(method).copied().unwrap_or(0)
    }

    fn go(&self, method: &'static str) {
        let cache = self.cache.lock().unwrap().clone();
        if let Some(cache) = cache {
            *self.calls.lock().unwrap().entry(method).or_default() += 1;
            (self.act)(&cache, method);
        }
    }

    fn lru(&self) -> std::sync::MutexGuard<'_, Lru> {
        self.lru.lock().unwrap()
    }
}

impl fmt::Debug for Acting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.go("fmt");
        f.debug_struct("Acting").finish_non_exhaustive()
    }
}

impl EvictionPolicy for Acting {
    fn used(&mut self, asset: &AssetId, bytes: u64, at: Timestamp) {
        self.go("used");
        self.lru().used(asset, bytes, at);
    }

    fn added(&mut self, asset: &AssetId, bytes: u64, at: Timestamp) {
        self.go("added");
        self.lru().added(asset, bytes, at);
    }

    fn restored(&mut self, assets: Vec<(AssetId, u64, Timestamp)>) {
        self.go("restored");
        self.lru().restored(assets);
    }

    fn removed(&mut self, asset: &AssetId) {
        self.go("removed");
        self.lru().removed(asset);
    }

    fn victim(&mut self, now: Timestamp) -> Option<AssetId> {
        self.go("victim");
        self.lru().victim(now)
    }

    fn expired(&mut self, _now: Timestamp) -> Option<AssetId> {
        self.go("expired");
        self.expire.lock().unwrap().take()
    }
}

/// Every call there is. Each of them is refused.
fn everything(cache: &AssetCache) {
    fn refused<T: fmt::Debug>(answer: Result<T, CacheError>) {
        let error = answer.unwrap_err();
        assert!(matches!(error, CacheError::PolicyReentered), "{error:?}");
    }
    let (id, x) = (asset("the policy's own"), path("x"));
    let blocking = cache.blocking();
    refused(blocking.get(&id, &x));
    refused(blocking.open(&id, &x));
    refused(blocking.contains(&id, &x));
    refused(blocking.resource::<CacheError>(&id, &x));
    refused(blocking.partial(&id, &x));
    refused(blocking.put_atomic(&id, &x, bytes(300)));
    refused(blocking.remove_entry(&id, &x));
    refused(blocking.remove(&id));
    refused(blocking.clear());
    refused(blocking.pin(&id));
    refused(blocking.unpin(&id));
    refused(blocking.set_max_bytes(1));
    refused(blocking.asset(&id));
    refused(blocking.assets());
    refused(blocking.stats());
    refused(blocking.checkpoint());
    refused(block_on(cache.get(&id, &x)));
    refused(block_on(cache.writer(&id, &x)));
    refused(block_on(cache.put_atomic(&id, &x, bytes(300))));
    let fetched = block_on(cache.get_or_fetch(&id, &x, || async { Ok::<_, CacheError>(bytes(3)) }));
    assert_eq!(fetched.unwrap(), bytes(3), "what it fetches itself it gets");
    assert!(!format!("{cache:?}").is_empty());
}

/// C5, C6, C32.
#[test]
fn a_policy_that_calls_the_cache_is_refused_at_once_from_each_of_its_methods() {
    ends(|| {
        let root = tempfile::tempdir().unwrap();
        let policy = Acting::new(|cache, _| everything(cache));
        for session in 0..2 {
            *policy.expire.lock().unwrap() = Some(asset("expired"));
            let opened = policy.open(root.path());
            let cache = opened.blocking().clone();
            let name = |n: usize| asset(&format!("{session}/{n}"));
            for n in 0..12 {
                cache.put_atomic(&name(n), &path("x"), bytes(20_000)).unwrap();
                cache.put_atomic(&name(n), &path("y"), bytes(1_000)).unwrap();
                assert!(cache.get(&name(n), &path("x")).unwrap().is_some());
                cache.checkpoint().unwrap();
                check(&cache, root.path());
            }
            // Seven fit, and it was the oldest that went.
            assert!(cache.get(&name(5), &path("x")).unwrap().is_some());
            assert!(cache.get(&name(2), &path("x")).unwrap().is_none());
            let lease = cache.lease(&name(7));
            cache.put_atomic(&name(12), &path("x"), bytes(150_000)).unwrap();
            assert!(cache.get(&name(7), &path("x")).unwrap().is_some());
            drop(lease);
            assert!(cache.remove(&name(12)).unwrap());
            assert!(!cache.stats().unwrap().policy_panicked);
            assert!(
                cache
                    .get(&asset("the policy's own"), &path("x"))
                    .unwrap()
                    .is_none()
            );
            check(&cache, root.path());
            policy.forget();
            drop(opened);
            cache.close();
        }
        for method in ["used", "added", "restored", "removed", "victim", "expired"] {
            assert!(policy.made(method) > 0, "{method}");
        }
        assert_eq!(policy.made("fmt"), 0, "not under the lock");
    });
}

/// C32: another cache is not the one that is served.
#[test]
fn a_policy_may_call_another_cache_whose_policy_may_not_call_back() {
    ends(|| {
        let root = tempfile::tempdir().unwrap();
        let inner = Acting::new(|outer, _| everything(outer));
        let memory = AssetCache::builder("")
            .store(MemoryStore::new())
            .max_bytes(1000)
            .policy(inner.clone())
            .open_blocking()
            .unwrap();
        let other = memory.blocking().clone();
        let outer =
            Acting::new(move |_, _| other.put_atomic(&asset("told"), &path("x"), bytes(600)).unwrap());
        let cache = outer.open(root.path());
        *inner.cache.lock().unwrap() = Some(cache.clone());
        cache
            .blocking()
            .put_atomic(&asset("a"), &path("x"), bytes(10))
            .unwrap();
        assert!(inner.made("used") > 0 && outer.made("used") > 0);
        assert!(!cache.blocking().stats().unwrap().policy_panicked);
        assert!(
            memory
                .blocking()
                .get(&asset("told"), &path("x"))
                .unwrap()
                .is_some()
        );
        outer.forget();
        inner.forget();
    });
}

/// C7, C32: leases are no calls that could be refused. What is leased in the middle of an eviction stays.
#[test]
fn a_lease_that_a_policy_takes_holds_and_one_that_it_drops_ends() {
    ends(|| {
        let root = tempfile::tempdir().unwrap();
        let held: Arc<Mutex<Vec<Lease>>> = Arc::default();
        let leases = Arc::clone(&held);
        let policy = Acting::new(move |cache, method| match method {
            "victim" => leases.lock().unwrap().push(cache.lease(&asset("0"))),
            "expired" => leases.lock().unwrap().clear(),
            _ => {}
        });
        let opened = policy.open(root.path());
        let cache = opened.blocking();
        let put = |n: usize, len| {
            cache
                .put_atomic(&asset(&n.to_string()), &path("x"), bytes(len))
                .unwrap();
        };
        for n in 0..3 {
            put(n, 50_000);
        }
        put(3, 60_000);
        let there = |n: usize| cache.contains(&asset(&n.to_string()), &path("x")).unwrap();
        assert!(there(0) && !there(1) && there(2));
        assert_eq!(cache.stats().unwrap().leased, 1);
        cache.checkpoint().unwrap();
        assert_eq!(cache.stats().unwrap().leased, 0);
        policy.forget();
        put(4, 180_000);
        assert!(!there(0));
        check(cache, root.path());
    });
}

/// C5, C32, fault C10: several threads at once, each of which runs the policy.
#[test]
fn four_threads_and_a_policy_that_calls_back_keep_the_limit() {
    ends(|| {
        let root = tempfile::tempdir().unwrap();
        let policy = Acting::new(|cache, _| everything(cache));
        let opened = policy.open(root.path());
        let cache = opened.blocking().clone();
        thread::scope(|scope| {
            for thread in 0..4 {
                let cache = &cache;
                scope.spawn(move || {
                    for n in 0..20 {
                        let id = asset(&format!("{thread}/{}", n % 8));
                        cache.put_atomic(&id, &path("x"), bytes(20_000)).unwrap();
                        let _ = cache.get(&id, &path("x")).unwrap();
                        if n % 7 == 0 {
                            let _ = cache.remove(&id).unwrap();
                        }
                    }
                });
            }
        });
        cache.checkpoint().unwrap();
        check(&cache, root.path());
        assert!(policy.made("victim") > 0);
        policy.forget();
        // Nothing is lost to the accounts: all of it can be driven out.
        cache
            .put_atomic(&asset("all"), &path("x"), bytes(190_000))
            .unwrap();
        assert_eq!(cache.stats().unwrap().assets, 1);
    });
}

/// C5, C6, C32: a policy that panics in any of its methods is not asked again. The call goes on, the accounts are true, and the
/// least recently used goes from then on, by accesses before the panic too.
#[test]
fn after_a_panic_of_the_policy_the_least_recently_used_goes() {
    for when in ["used", "added", "restored", "removed", "victim", "expired"] {
        ends(move || {
            let root = tempfile::tempdir().unwrap();
            let policy = Acting::new(move |_, method| assert_ne!(method, when, "as the test wants"));
            let opened = policy.open(root.path());
            // Acts once the handle is known, and that was so from the first call on.
            let cache = opened.blocking();
            let put = |name: &str, len| cache.put_atomic(&asset(name), &path("x"), bytes(len)).unwrap();
            for name in ["old", "used", "leased", "removed"] {
                put(name, 20_000);
            }
            put("old", 20_001);
            cache.remove(&asset("removed")).unwrap();
            assert!(cache.get(&asset("used"), &path("x")).unwrap().is_some());
            let lease = cache.lease(&asset("leased"));
            cache.checkpoint().unwrap();
            put("new", 150_000);
            drop(lease);
            put("newer", 20_000);
            cache.checkpoint().unwrap();
            check(cache, root.path());
            assert!(cache.stats().unwrap().policy_panicked, "{when}");
            assert!(policy.made(when) <= 1, "{when} was asked again");
            let there = |name: &str| cache.contains(&asset(name), &path("x")).unwrap();
            assert!(!there("old") && there("newer"), "{when}");
            policy.forget();
        });
    }
}

/// C32: the policy that panicked is dropped outside the lock, though it panics once more.
#[test]
fn a_policy_that_panics_when_it_is_dropped_harms_nothing() {
    #[derive(Debug)]
    struct Bomb(Option<BlockingCache>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            if let Some(cache) = self.0.take() {
                // No lock is held: the cache answers.
                assert!(cache.stats().unwrap().policy_panicked);
                panic!("as the test wants");
            }
        }
    }
    ends(|| {
        let root = tempfile::tempdir().unwrap();
        let policy = Acting::new(|cache, _| std::panic::panic_any(Bomb(Some(cache.blocking().clone()))));
        let opened = policy.open(root.path());
        let cache = opened.blocking();
        cache.put_atomic(&asset("a"), &path("x"), bytes(10)).unwrap();
        assert!(cache.stats().unwrap().policy_panicked);
        check(cache, root.path());
        policy.forget();
    });
}

/// A policy that opens the root again when it is dropped.
#[derive(Debug)]
struct Reopens(std::path::PathBuf, mpsc::Sender<Result<u64, String>>);

impl Drop for Reopens {
    fn drop(&mut self) {
        let opened = AssetCache::builder(&self.0).open_blocking();
        let assets = opened
            .and_then(|cache| cache.blocking().stats())
            .map(|stats| stats.assets);
        let _ = self.1.send(assets.map_err(|error| error.to_string()));
    }
}

impl EvictionPolicy for Reopens {
    fn used(&mut self, _asset: &AssetId, _bytes: u64, _at: Timestamp) {}

    fn added(&mut self, _asset: &AssetId, _bytes: u64, _at: Timestamp) {}

    fn restored(&mut self, _assets: Vec<(AssetId, u64, Timestamp)>) {}

    fn removed(&mut self, _asset: &AssetId) {}

    fn victim(&mut self, _now: Timestamp) -> Option<AssetId> {
        None
    }
}

/// C9, fault C25: the policy is dropped when all else of the cache is gone.
#[test]
fn a_policy_is_dropped_under_no_lock_and_after_the_root_is_free() {
    for close in [true, false] {
        ends(move || {
            let root = tempfile::tempdir().unwrap();
            let (sender, dropped) = mpsc::channel();
            let cache = AssetCache::builder(root.path())
                .policy(Reopens(root.path().to_owned(), sender))
                .open_blocking()
                .unwrap();
            cache
                .blocking()
                .put_atomic(&asset("a"), &path("x"), bytes(10))
                .unwrap();
            if close {
                block_on(cache.close());
            } else {
                drop(cache);
            }
            assert_eq!(dropped.recv().unwrap(), Ok(1));
        });
    }
}

/// What a policy was told and asked, with the bytes it was told.
type Told = Arc<Mutex<Vec<(&'static str, AssetId, u64)>>>;

/// A policy that writes down what it is told, and gives up the oldest it knows.
#[derive(Debug)]
struct Diary(Lru, Told);

impl Diary {
    fn note(&self, what: &'static str, asset: &AssetId, bytes: u64) {
        self.1.lock().unwrap().push((what, asset.clone(), bytes));
    }
}

impl EvictionPolicy for Diary {
    fn used(&mut self, asset: &AssetId, bytes: u64, at: Timestamp) {
        self.note("used", asset, bytes);
        self.0.used(asset, bytes, at);
    }

    fn added(&mut self, asset: &AssetId, bytes: u64, at: Timestamp) {
        self.note("added", asset, bytes);
        self.0.added(asset, bytes, at);
    }

    fn restored(&mut self, assets: Vec<(AssetId, u64, Timestamp)>) {
        for (asset, bytes, _) in &assets {
            self.note("restored", asset, *bytes);
        }
        self.0.restored(assets);
    }

    fn removed(&mut self, asset: &AssetId) {
        self.note("removed", asset, 0);
        self.0.removed(asset);
    }

    fn victim(&mut self, now: Timestamp) -> Option<AssetId> {
        let victim = self.0.victim(now)?;
        self.note("victim", &victim, 0);
        Some(victim)
    }
}

/// C6, C32: what happens is told at once, in its order, with the bytes that the asset takes then.
#[test]
fn what_happens_is_told_in_its_order_with_its_bytes() {
    let told = Told::default();
    let cache = AssetCache::builder("")
        .store(MemoryStore::new())
        .max_bytes(1000)
        .policy(Diary(Lru::new(), Arc::clone(&told)))
        .open_blocking()
        .unwrap();
    let cache = cache.blocking();
    let name = |n: usize| asset(&n.to_string());
    let put = |n: usize, file: &str, len: usize| cache.put_atomic(&name(n), &path(file), bytes(len)).unwrap();
    // A checkpoint asks the policy, which hears of all accesses before.
    let tells = || {
        cache.checkpoint().unwrap();
        std::mem::take(&mut *told.lock().unwrap())
    };
    for n in 0..4 {
        put(n, "x", 200);
    }
    assert_eq!(tells(), [0, 1, 2, 3].map(|n| ("used", name(n), 200)));
    for n in [1, 99, 0] {
        drop(cache.lease(&name(n)));
    }
    assert!(cache.get(&name(3), &path("absent")).unwrap().is_none());
    assert_eq!(
        tells(),
        [("used", name(1), 200), ("used", name(0), 200)],
        "what is not there is not used"
    );
    put(0, "y", 50);
    put(0, "x", 20);
    cache.remove_entry(&name(0), &path("y")).unwrap();
    assert_eq!(tells(), [250, 70, 20].map(|bytes| ("added", name(0), bytes)));
    cache.remove(&name(1)).unwrap();
    assert_eq!(tells(), [("removed", name(1), 0)]);
    let lease = cache.lease(&name(2));
    let _ = tells();
    put(4, "x", 700);
    let seen = tells();
    assert_eq!(seen[0], ("victim", name(3), 0), "{seen:?}");
    assert!(seen.contains(&("removed", name(3), 0)), "{seen:?}");
    assert!(seen.contains(&("victim", name(2), 0)), "and skipped: {seen:?}");
    assert_eq!(*seen.last().unwrap(), ("used", name(4), 700));
    drop(lease);
    put(5, "x", 200);
    let seen = tells();
    assert_eq!(seen[0], ("restored", name(2), 200), "free again: {seen:?}");
    assert_eq!(seen[1], ("victim", name(2), 0), "{seen:?}");
}

/// C32: also of the last accesses before a close the policy hears, before it is dropped.
#[test]
fn the_last_accesses_are_told_before_the_policy_is_dropped() {
    let root = tempfile::tempdir().unwrap();
    let told = Told::default();
    let cache = AssetCache::builder(root.path())
        .durability(Durability::Ordered)
        .policy(Diary(Lru::new(), Arc::clone(&told)))
        .open_blocking()
        .unwrap();
    cache
        .blocking()
        .put_atomic(&asset("a"), &path("x"), bytes(10))
        .unwrap();
    block_on(cache.progress().finished());
    told.lock().unwrap().clear();
    for _ in 0..3 {
        drop(cache.blocking().lease(&asset("a")));
    }
    block_on(cache.close());
    let uses = told
        .lock()
        .unwrap()
        .iter()
        .filter(|(what, ..)| *what == "used")
        .count();
    assert_eq!(uses, 3);
}

/// C32: a policy that panicked is dropped when the call that it failed returns, and not with the cache.
#[test]
fn a_policy_that_panicked_is_dropped_at_once() {
    #[derive(Debug)]
    struct Panics(Arc<AtomicBool>);

    impl Drop for Panics {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl EvictionPolicy for Panics {
        fn used(&mut self, _asset: &AssetId, _bytes: u64, _at: Timestamp) {
            panic!("on purpose");
        }

        fn added(&mut self, _asset: &AssetId, _bytes: u64, _at: Timestamp) {}

        fn restored(&mut self, _assets: Vec<(AssetId, u64, Timestamp)>) {}

        fn removed(&mut self, _asset: &AssetId) {}

        fn victim(&mut self, _now: Timestamp) -> Option<AssetId> {
            None
        }
    }

    let dropped = Arc::new(AtomicBool::new(false));
    let builder = AssetCache::builder("").store(MemoryStore::new());
    let cache = builder
        .policy(Panics(Arc::clone(&dropped)))
        .open_blocking()
        .unwrap();
    cache
        .blocking()
        .put_atomic(&asset("a"), &path("x"), bytes(10))
        .unwrap();
    assert!(cache.blocking().stats().unwrap().policy_panicked);
    assert!(dropped.load(Ordering::Relaxed));
}

//! Fault C25: an eviction policy is foreign code, and may call the cache.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::block_on;
use kithara::cache::{
    AssetCache, AssetId, BlockingCache, CacheError, Durability, EntryWriter, EvictionPolicy, Lru,
    PartialEntry, Timestamp,
};
use kithara::storage::{Checkpoint, StreamingResource};

use crate::{asset, path};

const MAX_BYTES: u64 = 200_000;

fn bytes(len: usize) -> Bytes {
    crate::bytes(len, 0)
}

/// Nothing may change meanwhile.
fn check(cache: &BlockingCache, root: &Path) {
    cache.checkpoint().unwrap();
    crate::check(cache, root);
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

/// What a policy does to the cache it serves, in each of its methods.
type Call = dyn Fn(&BlockingCache, &'static str) + Send + Sync;

/// An LRU that calls the cache back.
struct Caller {
    lru: Lru,
    back: Back,
    /// Whether an asset is said to be expired, once.
    expire: Option<AssetId>,
}

/// The way back to the cache, and how often each method went it.
#[derive(Clone)]
struct Back {
    cache: Arc<Mutex<Option<BlockingCache>>>,
    call: Arc<Call>,
    calls: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Back {
    fn new(call: impl Fn(&BlockingCache, &'static str) + Send + Sync + 'static) -> Self {
        Self {
            cache: Arc::default(),
            call: Arc::new(call),
            calls: Arc::default(),
        }
    }

    fn open(&self, root: &Path) -> AssetCache {
        let policy = Caller {
            lru: Lru::new(),
            back: self.clone(),
            expire: Some(asset("expired")),
        };
        let cache = AssetCache::builder(root)
            .max_bytes(MAX_BYTES)
            .durability(Durability::Ordered)
            .policy(policy)
            .open_blocking()
            .unwrap();
        *self.cache.lock().unwrap() = Some(cache.blocking().clone());
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
            (self.call)(&cache, method);
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.back.go("fmt");
        self.lru.fmt(f)
    }
}

impl EvictionPolicy for Caller {
    fn used(&mut self, asset: &AssetId, at: Timestamp) {
        self.back.go("used");
        self.lru.used(asset, at);
    }

    fn added(&mut self, asset: &AssetId, at: Timestamp) {
        self.back.go("added");
        self.lru.added(asset, at);
    }

    fn restored(&mut self, assets: Vec<(AssetId, Timestamp)>) {
        self.back.go("restored");
        self.lru.restored(assets);
    }

    fn removed(&mut self, asset: &AssetId) {
        self.back.go("removed");
        self.lru.removed(asset);
    }

    fn victim(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)> {
        self.back.go("victim");
        self.lru.victim(now)
    }

    fn expired(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)> {
        self.back.go("expired");
        Some((self.expire.take()?, now))
    }
}

/// Every call there is, some that make room and some that want it.
fn everything(cache: &BlockingCache, _method: &str) {
    let (own, other) = (asset("the policy's own"), asset("the policy's other"));
    let _ = cache.stats().unwrap();
    match cache.put_atomic(&own, &path("x"), bytes(300)) {
        Ok(()) => assert_eq!(cache.get(&own, &path("x")).unwrap().unwrap(), bytes(300)),
        Err(error) => assert!(matches!(error, CacheError::PolicyBusy), "{error}"),
    }
    match cache.put_atomic(&other, &path("x"), bytes(200)) {
        Ok(()) => drop(cache.lease(&other)),
        Err(error) => assert!(matches!(error, CacheError::PolicyBusy), "{error}"),
    }
    match cache.partial(&other, &path("y")) {
        Ok(partial) => {
            let resource: StreamingResource<io::Error> = partial.unwrap().open().unwrap();
            if let Err(error) = resource.writer().unwrap().write_at(0, &bytes(5000)) {
                assert!(error.is_full(), "{error}");
            }
        }
        Err(error) => assert!(matches!(error, CacheError::PolicyBusy), "{error}"),
    }
    cache.remove(&other).unwrap();
    cache.remove_entry(&own, &path("y")).unwrap();
    match cache.pin(&own) {
        Ok(()) => cache.unpin(&own).unwrap(),
        Err(error) => assert!(matches!(error, CacheError::PolicyBusy), "{error}"),
    }
    cache.checkpoint().unwrap();
    assert!(cache.assets().unwrap().len() < 1000);
    assert!(format!("{cache:?}").contains("busy"));
}

/// C4, C5, C6, fault C25.
#[test]
fn a_policy_may_call_the_cache_from_each_of_its_methods() {
    ends(|| {
        let root = tempfile::tempdir().unwrap();
        let back = Back::new(everything);
        for session in 0..2 {
            let cache = back.open(root.path()).blocking().clone();
            let name = |n: usize| asset(&format!("{session}/{n}"));
            for n in 0..20 {
                cache.put_atomic(&name(n), &path("x"), bytes(20_000)).unwrap();
                cache.put_atomic(&name(n), &path("y"), bytes(1_000)).unwrap();
                assert!(cache.get(&name(n), &path("x")).unwrap().is_some());
                check(&cache, root.path());
            }
            // Seven fit, and it was the oldest that went.
            assert!(cache.get(&name(13), &path("x")).unwrap().is_some());
            assert!(cache.get(&name(10), &path("x")).unwrap().is_none());
            let lease = cache.lease(&name(15));
            for n in 20..30 {
                cache.put_atomic(&name(n), &path("x"), bytes(20_000)).unwrap();
            }
            assert!(cache.get(&name(15), &path("x")).unwrap().is_some());
            drop(lease);
            assert!(cache.remove(&name(29)).unwrap());
            assert!(format!("{cache:?}").contains("Lru"));
            check(&cache, root.path());
            back.forget();
            cache.close();
        }
        for method in ["used", "added", "restored", "removed", "victim", "expired", "fmt"] {
            assert!(back.made(method) > 0, "{method}");
        }
    });
}

/// C5, C10, fault C25: several threads at once, each of which may find the policy taken.
#[test]
fn four_threads_and_a_policy_that_calls_back_keep_the_limit() {
    ends(|| {
        let root = tempfile::tempdir().unwrap();
        let back = Back::new(everything);
        let cache = back.open(root.path()).blocking().clone();
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
        check(&cache, root.path());
        assert!(back.made("victim") > 0);
        back.forget();
        cache.close();
        // Nothing is lost to the accounts: all of it can be driven out.
        let cache = AssetCache::builder(root.path()).max_bytes(MAX_BYTES);
        let cache = cache.open_blocking().unwrap().blocking().clone();
        cache
            .put_atomic(&asset("all"), &path("x"), bytes(190_000))
            .unwrap();
        assert_eq!(cache.stats().unwrap().assets, 1);
    });
}

/// Fault C25: a call that the policy makes from another thread looks like any other call, and waits for the policy.
#[test]
fn a_policy_that_waits_for_a_write_elsewhere_is_not_waited_for_without_end() {
    ends(|| {
        let root = tempfile::tempdir().unwrap();
        let refused = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&refused);
        let back = Back::new(move |cache, method| {
            let mut refused = seen.lock().unwrap();
            if method == "victim" && refused.is_none() {
                let put =
                    |cache: &BlockingCache| cache.put_atomic(&asset("elsewhere"), &path("x"), bytes(100_000));
                *refused = thread::scope(|scope| scope.spawn(|| put(cache)).join().unwrap()).err();
            }
        });
        let cache = back.open(root.path()).blocking().clone();
        for n in 0..12 {
            cache
                .put_atomic(&asset(&n.to_string()), &path("x"), bytes(20_000))
                .unwrap();
        }
        let refused = refused.lock().unwrap().take();
        assert!(matches!(refused, Some(CacheError::PolicyBusy)), "{refused:?}");
        check(&cache, root.path());
        back.forget();
    });
}

/// Fault C25: room for the footer of a partial entry, and for its unwritten bytes, is made before its entry lock is taken.
#[test]
fn a_policy_may_remove_the_entry_that_room_is_made_for() {
    for behind in [0, 30_000] {
        ends(move || {
            let root = tempfile::tempdir().unwrap();
            let (id, file) = (asset("partial"), path("file"));
            let entry = (id.clone(), file.clone());
            let back = Back::new(move |cache, method| {
                if method == "victim" {
                    assert!(!cache.remove_entry(&entry.0, &entry.1).unwrap());
                }
            });
            let opened = back.open(root.path());
            let cache = opened.blocking();
            let partial = cache.partial(&id, &file).unwrap().unwrap();
            let resource = partial.open::<CacheError>().unwrap();
            let mut writer = resource.writer().unwrap();
            let all = bytes(100_000);
            let written = all.len() - behind;
            writer.write_at(0, &all[..written]).unwrap();
            // Each too small for what comes behind it.
            for victim in ["victim", "another"] {
                cache
                    .put_atomic(&asset(victim), &path("x"), bytes(20_000))
                    .unwrap();
            }
            let brim = to_the_brim(&opened);
            writer.put(written as u64, &[all.slice(written..)]).unwrap();
            assert_eq!(writer.is_flushed(), behind == 0);
            let before = back.made("victim");
            partial.commit(&mut writer, 100_000).unwrap();
            assert!(back.made("victim") > before, "it was not full");
            drop((writer, resource, partial, brim));
            assert_eq!(cache.get(&id, &file).unwrap().unwrap(), all);
            check(cache, root.path());
            back.forget();
        });
    }
}

/// A partial entry and a checkpoint of it.
type Due = (PartialEntry, Checkpoint<CacheError>);

/// Fault C25: room for a record is made under no lock: the policy may see to a record of the same entry.
#[test]
fn a_policy_may_make_room_for_a_record_of_the_entry_that_room_is_made_for() {
    ends(|| {
        let root = tempfile::tempdir().unwrap();
        let held: Arc<Mutex<Option<Due>>> = Arc::default();
        let of_policy = Arc::clone(&held);
        let back = Back::new(move |_, method| {
            if method != "victim" {
                return;
            }
            if let Some((partial, checkpoint)) = &*of_policy.lock().unwrap() {
                let refused = partial.reserve_record(checkpoint);
                assert!(matches!(refused, Err(CacheError::PolicyBusy)), "{refused:?}");
            }
        });
        let opened = back.open(root.path());
        let cache = opened.blocking();
        let partial = cache.partial(&asset("partial"), &path("file")).unwrap().unwrap();
        let resource = partial.open::<CacheError>().unwrap();
        let mut writer = resource.writer().unwrap();
        writer.write_at(0, &bytes(100_000)).unwrap();
        cache
            .put_atomic(&asset("victim"), &path("x"), bytes(20_000))
            .unwrap();
        let brim = to_the_brim(&opened);
        *held.lock().unwrap() = Some((partial.clone(), writer.checkpoint()));
        let before = back.made("victim");
        partial.reserve_record(&writer.checkpoint()).unwrap();
        assert!(back.made("victim") > before, "it was not full");
        let held = held.lock().unwrap().take();
        drop((held, writer, resource, partial, brim));
        check(cache, root.path());
        back.forget();
    });
}

/// Fills the cache by what is being written, so that not even a footer fits.
fn to_the_brim(cache: &AssetCache) -> EntryWriter {
    let mut brim = block_on(cache.writer(&asset("brim"), &path("x"))).unwrap();
    let free = MAX_BYTES - cache.blocking().stats().unwrap().bytes;
    let mut rest = bytes(usize::try_from(free).unwrap());
    // So many pieces that the writer hands them on.
    for _ in 0..511 {
        block_on(brim.write(rest.split_to(1))).unwrap();
    }
    block_on(brim.write(rest)).unwrap();
    assert_eq!(cache.blocking().stats().unwrap().bytes, MAX_BYTES);
    brim
}

/// A policy that panics loses the notes it was being told, and no more: it is asked again, and the accounts are right.
#[test]
fn a_policy_that_panics_is_asked_again() {
    ends(|| {
        let root = tempfile::tempdir().unwrap();
        let back = Back::new(|cache, method| {
            let _ = cache.stats().unwrap();
            assert_ne!(method, "victim", "as the test wants");
        });
        let cache = back.open(root.path()).blocking().clone();
        let put = |n: usize| {
            let put = || cache.put_atomic(&asset(&n.to_string()), &path("x"), bytes(20_000));
            catch_unwind(AssertUnwindSafe(put))
        };
        let panicked = (0..12).filter(|&n| put(n).is_err()).count();
        assert!(panicked >= 3);
        check(&cache, root.path());
        back.forget();
        // It panics only with a way back.
        put(12).unwrap().unwrap();
        assert!(cache.get(&asset("12"), &path("x")).unwrap().is_some());
        check(&cache, root.path());
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
    fn used(&mut self, _asset: &AssetId, _at: Timestamp) {}

    fn added(&mut self, _asset: &AssetId, _at: Timestamp) {}

    fn restored(&mut self, _assets: Vec<(AssetId, Timestamp)>) {}

    fn removed(&mut self, _asset: &AssetId) {}

    fn victim(&mut self, _now: Timestamp) -> Option<(AssetId, Timestamp)> {
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

/// What a policy was told and asked.
type Told = Arc<Mutex<Vec<(&'static str, AssetId)>>>;

/// A policy that writes down what it is told, gives up the oldest it knows, and goes back to the cache before it does.
struct Diary(Lru, Told, Back);

impl Diary {
    fn note(&self, what: &'static str, asset: &AssetId) {
        self.1.lock().unwrap().push((what, asset.clone()));
    }
}

impl fmt::Debug for Diary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl EvictionPolicy for Diary {
    fn used(&mut self, asset: &AssetId, at: Timestamp) {
        self.note("used", asset);
        self.0.used(asset, at);
    }

    fn added(&mut self, asset: &AssetId, at: Timestamp) {
        self.note("added", asset);
        self.0.added(asset, at);
    }

    fn restored(&mut self, assets: Vec<(AssetId, Timestamp)>) {
        self.0.restored(assets);
    }

    fn removed(&mut self, asset: &AssetId) {
        self.note("removed", asset);
        self.0.removed(asset);
    }

    fn victim(&mut self, now: Timestamp) -> Option<(AssetId, Timestamp)> {
        self.2.go("victim");
        let victim = self.0.victim(now)?;
        self.note("victim", &victim.0);
        Some(victim)
    }
}

fn with_diary(root: &Path, told: &Told, back: &Back) -> AssetCache {
    AssetCache::builder(root)
        .max_bytes(MAX_BYTES)
        .durability(Durability::Ordered)
        .policy(Diary(Lru::new(), Arc::clone(told), back.clone()))
        .open_blocking()
        .unwrap()
}

/// C6: uses are told some at once, and yet all of them, in their order, before anything else is told or asked.
#[test]
fn uses_are_told_in_their_order_and_before_anything_else() {
    let root = tempfile::tempdir().unwrap();
    let told = Told::default();
    let cache = with_diary(root.path(), &told, &Back::new(|_, _| {}));
    let blocking = cache.blocking().clone();
    let name = |n: usize| asset(&n.to_string());
    let put = |n: usize, len: usize| blocking.put_atomic(&name(n), &path("x"), bytes(len)).unwrap();
    let tells = || std::mem::take(&mut *told.lock().unwrap());
    let uses = |order: &[usize]| order.iter().map(|&n| ("used", name(n))).collect::<Vec<_>>();
    for n in 0..6 {
        put(n, 20_000);
    }
    blocking.checkpoint().unwrap();
    assert_eq!(tells(), uses(&[0, 1, 2, 3, 4, 5]));

    // An asset that is not there is not told.
    let order = [3, 1, 1, 4, 0];
    for n in [3, 1, 1, 99, 4, 0] {
        drop(blocking.lease(&name(n)));
    }
    put(3, 10_000);
    let mut expected = uses(&order);
    expected.push(("added", name(3)));
    assert_eq!(tells(), expected, "before a write");

    drop(blocking.lease(&name(5)));
    blocking.remove(&name(1)).unwrap();
    let mut expected = uses(&[5]);
    expected.push(("removed", name(1)));
    assert_eq!(tells(), expected, "before a removal");

    // From the coldest: 2, 3, 4, 0, 5; the use of the first two is not told when room is needed.
    drop(blocking.lease(&name(2)));
    drop(blocking.lease(&name(3)));
    put(6, 110_000);
    let mut expected = uses(&[2, 3]);
    expected.push(("victim", name(4)));
    assert_eq!(tells()[..3], expected, "before a victim is asked for");

    // Many are told without anybody asking.
    let many: Vec<usize> = [2, 3].into_iter().cycle().take(1000).collect();
    for &n in &many {
        drop(blocking.lease(&name(n)));
    }
    let mut seen = tells();
    assert!(seen.len() > 900, "{}", seen.len());
    drop(blocking);
    block_on(cache.close());
    seen.extend(tells());
    assert_eq!(
        seen[seen.len() - 1000..],
        uses(&many),
        "the last of them at the end"
    );
}

/// Fault C25: what happens while the policy is at work is told afterwards, merged: first removals, then accesses, the latest
/// last.
#[test]
fn what_happens_while_a_policy_works_is_told_afterwards() {
    let root = tempfile::tempdir().unwrap();
    let name = |n: usize| asset(&n.to_string());
    let back = Back::new(move |cache, _| {
        for _ in 0..30 {
            for n in [1, 3, 2] {
                drop(cache.lease(&name(n)));
            }
        }
        cache.remove(&name(4)).unwrap();
        cache.remove(&name(5)).unwrap();
        cache.put_atomic(&name(5), &path("x"), bytes(10)).unwrap();
        // One that was written to keeps its place among those that were used.
        cache
            .put_atomic(&name(3), &path("y"), bytes(10))
            .unwrap_or_default();
        drop(cache.lease(&name(1)));
    });
    let told = Told::default();
    let cache = with_diary(root.path(), &told, &back);
    let blocking = cache.blocking();
    let put = |n: usize, len: usize| blocking.put_atomic(&name(n), &path("x"), bytes(len)).unwrap();
    for n in 0..7 {
        put(n, 20_000);
    }
    blocking.checkpoint().unwrap();
    told.lock().unwrap().clear();
    *back.cache.lock().unwrap() = Some(blocking.clone());
    // One victim is enough, and no more fits in the slack.
    put(7, 70_000);
    back.forget();
    blocking.checkpoint().unwrap();
    let told = told.lock().unwrap().clone();
    let after = told.iter().rposition(|(what, _)| *what == "victim").unwrap();
    let (gone, used) = ([4, 5], [3, 2, 5, 1, 7]);
    let gone = gone.map(|n| ("removed", name(n)));
    let expected: Vec<_> = gone.into_iter().chain(used.map(|n| ("used", name(n)))).collect();
    assert_eq!(told[after + 1..], expected, "{told:?}");
}

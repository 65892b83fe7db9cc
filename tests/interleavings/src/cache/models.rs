//! C5, C6, C7, C8, C30, C32: claims, reservations, recency, and what the policy is told.

use std::sync::{Arc, Mutex};

use loom::thread;

use super::id::AssetId;
use super::policy::{EvictionPolicy, Lru};
use super::shelf::{Scene, id};
use super::timestamp::Timestamp;

fn model(scene: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // A put takes some twenty locks. Two switches find what a step outside its lock leaves open.
    builder.preemption_bound = Some(2);
    builder.max_branches = 10_000;
    builder.check(scene);
}

fn lru(max_bytes: u64, assets: &[(&str, u64)]) -> Arc<Scene> {
    Scene::new(Box::new(Lru::new()), max_bytes, assets)
}

fn beside<T: 'static>(
    scene: &Arc<Scene>,
    work: impl FnOnce(&Scene) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let scene = Arc::clone(scene);
    thread::spawn(move || work(&scene))
}

/// C5: of two writers that see the same room one gets it.
#[test]
fn room_for_one_is_given_once() {
    model(|| {
        let scene = lru(100, &[]);
        let held = [scene.accounts.lease(&id("a")), scene.accounts.lease(&id("b"))];
        let other = beside(&scene, |scene| scene.put("a", 60));
        let mine = scene.put("b", 60);
        let other = other.join().unwrap();
        assert!(mine.is_ok() != other.is_ok(), "{mine:?} {other:?}");
        assert!(mine.and(other).unwrap_err().is_full());
        assert_eq!(scene.settled(), 60);
        assert!(scene.most() <= 100);
        drop(held);
    });
}

/// C5, C6: a second writer waits for the victims of the first, and does not report a full cache.
#[test]
fn victims_on_their_way_out_are_waited_for() {
    model(|| {
        let scene = lru(100, &[("old", 90)]);
        let other = beside(&scene, |scene| scene.put("a", 30));
        scene.put("b", 30).unwrap();
        other.join().unwrap().unwrap();
        assert_eq!(scene.settled(), 60);
        assert!(scene.most() <= 100);
    });
}

/// C6, C7: what a reader has leased and found stays. What was passed over for that is named again when it is free, once.
#[test]
fn a_leased_asset_is_not_evicted_and_is_named_again_when_it_is_free() {
    model(|| {
        let scene = lru(100, &[("old", 60)]);
        let reader = beside(&scene, |scene| {
            let lease = scene.accounts.lease(&id("old"));
            let found = scene.is_there("old");
            thread::yield_now();
            assert!(!found || scene.is_there("old"), "evicted under its lease");
            drop(lease);
        });
        match scene.put("new", 60) {
            Ok(()) => {}
            Err(error) => assert!(error.is_full(), "{error}"),
        }
        reader.join().unwrap();
        // Nothing is held: whatever is there makes room.
        scene.put("later", 60).unwrap();
        assert_eq!(scene.settled(), 60);
        assert!(scene.most() <= 100);
    });
}

/// C2, C5: a writer waits for a removal that has begun. What it writes is there and counts.
#[test]
fn a_writer_makes_an_asset_anew_behind_its_removal() {
    model(|| {
        let scene = lru(100, &[("a", 10)]);
        let writer = beside(&scene, |scene| scene.put("a", 20));
        let removed = scene.remove("a");
        writer.join().unwrap().unwrap();
        let left = if removed.is_ok() { scene.settled() } else { 20 };
        assert!(left == 20 || left == 0, "{left}");
        assert_eq!(scene.is_there("a"), scene.settled() > 0);
    });
}

/// C3: a refresh that an update overtook is not believed.
#[test]
fn a_refresh_beside_a_put_leaves_the_figures_of_the_disk() {
    model(|| {
        let scene = lru(100, &[("a", 10)]);
        let scan = beside(&scene, |scene| scene.accounts.refresh(&id("a")));
        scene.put("a", 20).unwrap();
        scan.join().unwrap();
        assert_eq!(scene.settled(), 30);
    });
}

/// C30: a put that comes beside a lower limit is held to it, or evicted for it.
#[test]
fn a_lower_limit_holds_beside_a_put() {
    model(|| {
        let scene = lru(100, &[("old", 40)]);
        let other = beside(&scene, |scene| scene.put("new", 40));
        scene.evictor.set_max_bytes(50).unwrap();
        other.join().unwrap().unwrap();
        assert!(scene.settled() <= 50);
    });
}

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Recorder {
    used: Arc<Mutex<Vec<(AssetId, Timestamp)>>>,
    told: Arc<Mutex<Vec<AssetId>>>,
}

impl EvictionPolicy for Recorder {
    fn used(&mut self, asset: &AssetId, _bytes: u64, at: Timestamp) {
        self.used.lock().unwrap().push((asset.clone(), at));
    }

    fn added(&mut self, _asset: &AssetId, _bytes: u64, _at: Timestamp) {}

    fn restored(&mut self, assets: Vec<(AssetId, u64, Timestamp)>) {
        let assets = assets.into_iter().map(|(asset, ..)| asset);
        self.told.lock().unwrap().extend(assets);
    }

    fn removed(&mut self, _asset: &AssetId) {}

    fn victim(&mut self, _now: Timestamp) -> Option<AssetId> {
        self.told.lock().unwrap().pop()
    }
}

/// C8, C32: accesses are told in the order of their times, which is that of the table.
#[test]
fn accesses_are_told_in_the_order_of_their_times() {
    model(|| {
        let policy = Recorder::default();
        let used = Arc::clone(&policy.used);
        let scene = Scene::new(Box::new(policy), 100, &[("a", 10), ("b", 10)]);
        let other = beside(&scene, |scene| {
            scene.accounts.touch(&id("a"), Timestamp::default()).unwrap();
        });
        drop(scene.accounts.lease(&id("b")));
        other.join().unwrap();
        drop(scene.accounts.retire());
        let used = used.lock().unwrap();
        assert_eq!(used.len(), 4, "each put, and each access");
        assert!(used.is_sorted_by(|(_, a), (_, b)| a < b), "{used:?}");
        let state = scene.accounts.state();
        for name in ["a", "b"] {
            let last = used.iter().rfind(|(asset, _)| *asset == id(name)).unwrap().1;
            assert_eq!(state.table.assets[&id(name)].last_access, last);
        }
    });
}

/// C6, C32: an asset that was passed over is told once when it is free, whichever thread lets it go.
#[test]
fn an_asset_that_was_passed_over_is_told_once() {
    model(|| {
        let policy = Recorder::default();
        let told = Arc::clone(&policy.told);
        let scene = Scene::new(Box::new(policy), 100, &[("a", 60)]);
        told.lock().unwrap().push(id("a"));
        let leases = [scene.accounts.lease(&id("a")), scene.accounts.lease(&id("a"))];
        // Refused: the one asset is held. The policy has named it, and so has forgotten it.
        assert!(scene.put("b", 60).unwrap_err().is_full());
        let [first, second] = leases;
        let other = beside(&scene, move |_| drop(first));
        drop(second);
        other.join().unwrap();
        scene.accounts.state().expired();
        assert_eq!(*told.lock().unwrap(), [id("a")]);
    });
}

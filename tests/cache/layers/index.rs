//! Updates, refreshes and removals that overlap: the accounts equal the inner store.

use std::fs;
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use kithara::cache::{
    AssetId, AssetInfo, CacheError, CachePath, Durability, FsStore, IndexStore, MemoryStore, Store,
    Timestamp, testing,
};

use super::hooked::{Hooked, Hooks};
use crate::{asset, dir_of, path};

type Index<S = MemoryStore> = IndexStore<Hooked<S>>;

fn a() -> AssetId {
    asset("a")
}

fn x() -> CachePath {
    path("x")
}

fn zeros(len: usize) -> Bytes {
    Bytes::from(vec![0; len])
}

fn put(store: &impl Store, name: &str, len: usize) {
    store.put(&a(), &path(name), zeros(len)).unwrap();
}

/// An index over a store in memory, with hooks between them.
fn scene() -> (MemoryStore, Index, Arc<Hooks>) {
    let memory = MemoryStore::new();
    let (hooked, hooks) = Hooked::over(memory.clone());
    (memory, IndexStore::scanned(hooked).unwrap(), hooks)
}

fn agree<S: Store>(index: &IndexStore<S>, inner: &impl Store) {
    let (known, there) = (index.list().unwrap(), inner.list().unwrap());
    let figures = |infos: Vec<AssetInfo>| -> Vec<_> {
        let figures = |info: AssetInfo| (info.id, info.bytes, info.files, info.pinned);
        infos.into_iter().map(figures).collect()
    };
    assert_eq!(figures(known), figures(there));
    let sum: u64 = inner.list().unwrap().iter().map(|info| info.bytes).sum();
    assert_eq!(index.used_bytes().unwrap(), sum);
}

/// C3: two commits of one entry may be accounted in the other order than the inner store saw them.
#[test]
fn commits_of_one_entry_accounted_the_other_way_round_add_up() {
    for others in [false, true] {
        let (memory, index, hooks) = scene();
        if others {
            put(&index, "y", 5);
        }
        let second = index.clone();
        hooks.after_commit.set(move || put(&second, "x", 30));
        put(&index, "x", 100);
        agree(&index, &memory);
    }
}

/// C3: as above, in a directory with a foreign file that hides a wrong subtraction.
#[test]
fn commits_accounted_the_other_way_round_add_up_beside_a_foreign_file() {
    let root = tempfile::tempdir().unwrap();
    let (hooked, hooks) = Hooked::over(FsStore::open(root.path(), Durability::Ordered).unwrap());
    let index = IndexStore::scanned(hooked).unwrap();
    index.set_pinned(&a(), true).unwrap();
    fs::write(dir_of(root.path(), &a()).join("Foreign"), [0; 1000]).unwrap();
    testing::refresh(&index, &a());
    let second = index.clone();
    hooks.after_commit.set(move || put(&second, "x", 30));
    put(&index, "x", 100);
    agree(&index, index.inner());
}

/// C3: as above, where the second update removes the entry.
#[test]
fn an_entry_removed_before_its_commit_is_accounted_adds_up() {
    let (memory, index, hooks) = scene();
    let second = index.clone();
    hooks.after_commit.set(move || {
        second.remove_entry(&a(), &x()).unwrap().unwrap();
    });
    put(&index, "x", 100);
    agree(&index, &memory);
}

/// C3: an asset is removed, and made anew, before an update of it is accounted.
#[test]
fn an_asset_removed_before_a_change_is_accounted_adds_up() {
    for anew in [false, true] {
        let (memory, index, hooks) = scene();
        put(&index, "y", 10);
        let second = index.clone();
        hooks.after_commit.set(move || {
            second.remove(&a()).unwrap().unwrap().empty().unwrap();
            if anew {
                put(&second, "y", 70);
            }
        });
        put(&index, "x", 100);
        agree(&index, &memory);
    }
}

/// C3: an asset is made anew before its removal is accounted.
#[test]
fn an_asset_made_anew_before_its_removal_is_accounted_adds_up() {
    let (memory, index, hooks) = scene();
    put(&index, "x", 100);
    let anew = index.clone();
    hooks.after_removal.set(move || put(&anew, "x", 70));
    index.remove(&a()).unwrap().unwrap().empty().unwrap();
    agree(&index, &memory);
}

/// C3, C5: a removal that finds nothing of what was counted is no proof that the asset has gone.
#[test]
fn an_asset_counted_that_its_removal_did_not_find_is_read_again() {
    let (memory, index, hooks) = scene();
    put(&index, "x", 100);
    memory.remove(&a()).unwrap().unwrap().empty().unwrap();
    let behind = memory.clone();
    hooks.after_removal.set(move || put(&behind, "x", 70));
    assert!(index.remove(&a()).unwrap().is_none());
    agree(&index, &memory);
}

/// C5: nothing counts of an asset that has gone: not its pin, not its place in the index, and no trash where there is none.
#[test]
fn of_an_asset_that_has_gone_nothing_counts() {
    for gone_before in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let index = IndexStore::open(FsStore::open(root.path(), Durability::Ordered).unwrap(), true).unwrap();
        index.scan().unwrap();
        let (empty, overhead) = (index.used_bytes().unwrap(), testing::row_bytes(&index, &a()));
        assert!(overhead > 0, "its place in the index");
        put(&index, "x", 100);
        index.set_pinned(&a(), true).unwrap();
        assert!(index.used_bytes().unwrap() > empty + 100);
        if gone_before {
            index.inner().remove(&a()).unwrap().unwrap().empty().unwrap();
            assert!(index.remove(&a()).unwrap().is_none());
        } else {
            index.remove(&a()).unwrap().unwrap().empty().unwrap();
        }
        assert!(index.asset(&a()).unwrap().is_none());
        assert_eq!(index.used_bytes().unwrap(), empty);
        assert_eq!(testing::row_bytes(&index, &a()), overhead);
    }
}

/// C6: of a pin and an unpin the inner store's last one counts, whichever is accounted last.
#[test]
fn a_pin_accounted_after_the_unpin_that_ended_it_is_none() {
    let (memory, index, hooks) = scene();
    put(&index, "x", 100);
    let unpins = index.clone();
    hooks
        .after_pin
        .set(move || unpins.set_pinned(&a(), false).unwrap());
    index.set_pinned(&a(), true).unwrap();
    agree(&index, &memory);

    // The pin overtakes the unpin in the inner store, and both updates are under way when the unpin is accounted.
    let (pins, second) = (index.clone(), Arc::clone(&hooks));
    let (pinned, (account, accounted)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let (spawned, wait_for) = mpsc::channel();
    hooks.after_pin.set(move || {
        second.after_pin.set(move || {
            pinned.0.send(()).unwrap();
            accounted.recv().unwrap();
        });
        let pin = thread::spawn(move || pins.set_pinned(&a(), true).unwrap());
        pinned.1.recv().unwrap();
        spawned.send(pin).unwrap();
    });
    index.set_pinned(&a(), false).unwrap();
    account.send(()).unwrap();
    wait_for.recv().unwrap().join().unwrap();
    assert!(index.asset(&a()).unwrap().unwrap().pinned);
    agree(&index, &memory);
}

/// C3: a refresh of an asset on its way to the trash does not forget bytes that are not freed yet.
#[test]
fn an_asset_read_while_it_is_removed_counts_until_its_trash_is_emptied() {
    let (_, index, hooks) = scene();
    put(&index, "x", 5);
    let reads = index.clone();
    hooks.after_removal.set(move || testing::refresh(&reads, &a()));
    let trash = index.remove(&a()).unwrap().unwrap();
    assert_eq!(index.used_bytes().unwrap(), 5);
    assert!(index.asset(&a()).unwrap().is_none());
    trash.empty().unwrap();
    assert_eq!(index.used_bytes().unwrap(), 0);
}

/// C3: an asset that is unknown before and after a refresh, and came and went during it, is not counted.
#[test]
fn an_asset_that_comes_and_goes_during_a_refresh_is_not_counted() {
    let (_, index, hooks) = scene();
    let (made, gone) = (index.clone(), index.clone());
    hooks.before_info.set(move || put(&made, "x", 5));
    hooks.after_info.set(move || {
        gone.remove(&a()).unwrap().unwrap().empty().unwrap();
    });
    testing::refresh(&index, &a());
    assert_eq!(index.asset(&a()).unwrap(), None);
    assert_eq!(index.used_bytes().unwrap(), 0);
}

/// C3: a refresh that began before an asset was removed and made anew is not believed: the new account has a version that
/// none had before.
#[test]
fn an_asset_made_anew_has_a_version_that_none_had() {
    let (memory, index, hooks) = scene();
    put(&index, "x", 5);
    let anew = index.clone();
    hooks.after_info.set(move || {
        anew.remove(&a()).unwrap().unwrap().empty().unwrap();
        put(&anew, "x", 9);
    });
    testing::refresh(&index, &a());
    agree(&index, &memory);
}

/// C3: where refreshes of an unknown asset are overtaken every time, the next checkpoint reads it again.
#[test]
fn an_unknown_asset_that_no_refresh_could_read_is_read_by_the_checkpoint() {
    /// Lets another asset come and go during this refresh and the next ones.
    fn disturb(hooks: &Arc<Hooks>, index: &Index, refreshes: usize) {
        let (again, disturbed) = (Arc::clone(hooks), index.clone());
        hooks.after_info.set(move || {
            disturbed.put(&asset("b"), &x(), zeros(5)).unwrap();
            disturbed.remove(&asset("b")).unwrap().unwrap().empty().unwrap();
            if refreshes > 1 {
                disturb(&again, &disturbed, refreshes - 1);
            }
        });
    }
    let (memory, index, hooks) = scene();
    put(&memory, "x", 100);
    disturb(&hooks, &index, 3);
    testing::refresh(&index, &a());
    assert!(hooks.after_info.is_over());
    assert_eq!(index.asset(&a()).unwrap(), None, "every try was overtaken");
    testing::checkpoint(&index).unwrap();
    agree(&index, &memory);
    // The same where reading fails.
    put(&memory, "x", 50);
    hooks.info_fails.set(CacheError::Abandoned);
    testing::refresh(&index, &a());
    assert!(hooks.info_fails.is_over());
    testing::checkpoint(&index).unwrap();
    agree(&index, &memory);
}

/// C3: a refresh that another one has overtaken is not believed.
#[test]
fn of_two_refreshes_of_an_asset_the_later_one_counts() {
    let memory = MemoryStore::new();
    put(&memory, "x", 100);
    let (hooked, hooks) = Hooked::over(memory.clone());
    let index = IndexStore::scanned(hooked).unwrap();
    let (reads, behind) = (index.clone(), memory.clone());
    hooks.after_info.set(move || {
        put(&behind, "x", 50);
        testing::refresh(&reads, &a());
    });
    testing::refresh(&index, &a());
    agree(&index, &memory);
}

/// C8: an asset that is used before its figures are read for the first time keeps that access.
#[test]
fn an_asset_that_is_read_after_its_use_keeps_its_access() {
    let (memory, index, hooks) = scene();
    for name in ["x", "y"] {
        put(&memory, name, 10);
    }
    let (accounts, later) = (Arc::clone(index.accounts()), Timestamp(u64::MAX / 2));
    hooks
        .after_entry_removal
        .set(move || accounts.touch(&a(), later).unwrap());
    index.remove_entry(&a(), &path("y")).unwrap();
    agree(&index, &memory);
    assert!(index.asset(&a()).unwrap().unwrap().last_access > later);
}

/// C3, fault C20: a miss heals the accounts, however it is found.
#[test]
fn a_miss_heals_the_accounts_of_what_was_deleted_from_outside() {
    for open in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let index = IndexStore::scanned(FsStore::open(root.path(), Durability::Ordered).unwrap()).unwrap();
        put(&index, "x", 100);
        fs::remove_dir_all(dir_of(root.path(), &a())).unwrap();
        if open {
            assert!(index.open(&a(), &x()).unwrap().is_none());
        } else {
            assert!(index.get(&a(), &x()).unwrap().is_none());
        }
        agree(&index, index.inner());
    }
}

/// C5: a claimed partial file counts in the accounts until its claim counts it, and again after the claim.
#[test]
fn a_claimed_partial_file_counts_until_its_bytes_are_reserved() {
    let root = tempfile::tempdir().unwrap();
    let files = FsStore::open(root.path(), Durability::Ordered).unwrap();
    let dir = dir_of(root.path(), &a());
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(".part-x"), [1; 5000]).unwrap();
    fs::write(dir.join(".part-x~ranges"), [1; 50]).unwrap();
    let index = IndexStore::scanned(files).unwrap();
    let used = index.used_bytes().unwrap();
    assert_eq!(used, 8192 + 4096, "whole units");
    let claimed = index.partial(&a(), &x()).unwrap().unwrap();
    testing::refresh(&index, &a());
    assert_eq!(index.used_bytes().unwrap(), used, "not reserved yet");
    claimed.taken_over();
    assert_eq!(index.used_bytes().unwrap(), 0);
    drop(claimed);
    assert_eq!(index.used_bytes().unwrap(), used);
}

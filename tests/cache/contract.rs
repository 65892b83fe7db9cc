//! C2, C6, faults B13, C3, C10, C23: one suite that every store and every stack of layers passes. Needs `test-util`.

use std::path::Path;

use bytes::Bytes;
use kithara::cache::contract;
use kithara::cache::{
    AssetId, AssetInfo, CacheError, CachePath, Committed, Durability, Entry, EntryInfo, EvictingStore,
    FsStore, IndexStore, LeaseStore, Lru, MaxAge, MemoryStore, Never, Staged, Store, Trash,
};

use crate::{asset, bytes, path, stack};

const LIMIT: u64 = 64 << 20;

fn fs(root: &Path, durability: Durability) -> FsStore {
    FsStore::open(root, durability).unwrap()
}

/// Puts a store through the rule of this number.
fn check<S: Store>(rule: usize, make: impl Fn(&Path) -> S) {
    let root = tempfile::tempdir().unwrap();
    let rule = contract::rules().nth(rule).unwrap();
    contract::check_rule(rule, &make(root.path())).unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn each_rule_has_a_test_for_each_store() {
    assert_eq!(contract::rules().count(), 9);
}

macro_rules! keep_the_contract {
    ($($name:ident: $make:expr;)*) => {$(
        mod $name {
            use super::*;

            rules! { $make;
                0 what_is_absent_is_none
                1 a_put_is_read_back_whole
                2 entries_and_assets_are_listed
                3 a_staged_entry_is_invisible_until_its_commit
                4 a_staged_entry_that_is_dropped_leaves_nothing
                5 what_is_open_reads_on
                6 a_removed_asset_is_gone_at_once
                7 a_pin_is_kept_until_it_is_cleared
                8 threads_do_not_mix_entries_up
            }
        }
    )*};
}

macro_rules! rules {
    ($make:expr; $($number:literal $rule:ident)*) => {$(
        #[test]
        fn $rule() {
            check($number, $make);
        }
    )*};
}

keep_the_contract! {
    memory: |_| MemoryStore::new();
    files: |root| fs(root, Durability::Ordered);
    files_full: |root| fs(root, Durability::Full);
    indexed_in_memory: |root| IndexStore::scanned(fs(root, Durability::Ordered)).unwrap();
    indexed_memory: |_| IndexStore::scanned(MemoryStore::new()).unwrap();
    indexed_files: index;
    leased_memory: |_| {
        let index = IndexStore::scanned(MemoryStore::new()).unwrap();
        let accounts = index.accounts().clone();
        LeaseStore::new(index, &accounts)
    };
    leased_files: |root| {
        let index = index(root);
        let accounts = index.accounts().clone();
        LeaseStore::new(index, &accounts)
    };
    evicting_memory: |_| {
        let index = IndexStore::scanned(MemoryStore::new()).unwrap();
        let accounts = index.accounts().clone();
        EvictingStore::new(index, &accounts, Lru::new(), LIMIT)
    };
    evicting_files: |root| {
        let index = index(root);
        let accounts = index.accounts().clone();
        EvictingStore::new(index, &accounts, Lru::new(), LIMIT)
    };
    never: |root| stack(index(root), Never, LIMIT);
    max_age: |_| {
        let index = IndexStore::scanned(MemoryStore::new()).unwrap();
        stack(index, MaxAge::new(std::time::Duration::from_secs(60)), LIMIT)
    };
    whole_in_memory: |_| stack(IndexStore::scanned(MemoryStore::new()).unwrap(), Lru::new(), LIMIT);
    whole: |root| stack(index(root), Lru::new(), LIMIT);
}

fn index(root: &Path) -> IndexStore<FsStore> {
    let index = IndexStore::open(fs(root, Durability::Ordered), true).unwrap();
    index.scan().unwrap();
    index
}

/// C5: the bytes of a removed asset count until its trash is emptied.
#[test]
fn a_removed_asset_is_gone_at_once_and_its_bytes_with_its_trash() {
    let root = tempfile::tempdir().unwrap();
    let store = stack(index(root.path()), Lru::new(), LIMIT);
    let (a, x) = (asset("a"), path("x"));
    let empty = store.used_bytes().unwrap();
    for round in 0..3 {
        store.put(&a, &x, bytes(10_000, round)).unwrap();
        store.put(&a, &path("y"), bytes(10_000, round)).unwrap();
        assert!(store.used_bytes().unwrap() >= empty + 20_000);
        let trash = store.remove(&a).unwrap().unwrap();
        assert!(store.used_bytes().unwrap() >= empty + 20_000, "on the disk still");
        trash.empty().unwrap();
        store.checkpoint().unwrap();
        let used = store.used_bytes().unwrap();
        assert!(used < empty + 2000, "{used} {empty}");
    }
}

/// How a store breaks the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Replaced,
    Committed,
    Visible,
    Kept,
    Listed,
    Unpinned,
}

/// A store in memory that breaks the contract.
#[derive(Debug)]
struct Faulty(MemoryStore, Wrong);

impl Store for Faulty {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        self.0.open(asset, path)
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        let inner = self.0.stage(asset, path)?;
        let seen = (self.1 == Wrong::Visible).then(|| (self.0.clone(), asset.clone(), path.clone()));
        Ok(Box::new(FaultyStaged {
            inner,
            seen,
            wrong: self.1,
        }))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.0.remove_entry(asset, path)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        if self.1 == Wrong::Kept {
            return Ok(self.0.asset(asset)?.map(|_| Trash::new(|| Ok(()))));
        }
        self.0.remove(asset)
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        self.0.set_pinned(asset, pinned && self.1 != Wrong::Unpinned)
    }

    fn list(&self) -> Result<Vec<AssetInfo>, CacheError> {
        let mut all = self.0.list()?;
        if self.1 == Wrong::Listed {
            all.truncate(1);
        }
        Ok(all)
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.0.entries(asset)
    }
}

#[derive(Debug)]
struct FaultyStaged {
    inner: Box<dyn Staged>,
    seen: Option<(MemoryStore, AssetId, CachePath)>,
    wrong: Wrong,
}

impl Staged for FaultyStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        if let Some((store, asset, path)) = &self.seen {
            store.put(asset, path, parts.concat().into())?;
        }
        self.inner.write(parts)
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        let committed = self.inner.commit()?;
        Ok(match self.wrong {
            Wrong::Replaced => Committed::new(committed.bytes, None),
            Wrong::Committed => Committed::new(committed.bytes + 1, committed.replaced),
            _ => committed,
        })
    }
}

#[test]
fn the_suite_names_what_is_wrong() {
    let wrongs = [
        (Wrong::Replaced, "a put is read back whole"),
        (Wrong::Committed, "a put is read back whole"),
        (Wrong::Visible, "a staged entry is invisible until its commit"),
        (Wrong::Kept, "what is open reads on"),
        (Wrong::Listed, "entries and assets are listed"),
        (Wrong::Unpinned, "a pin is kept until it is cleared"),
    ];
    for (wrong, rule) in wrongs {
        let violation = contract::check(|| Faulty(MemoryStore::new(), wrong)).unwrap_err();
        // A put tells what it replaced too, so it may be the first to find a staged entry visible.
        let early = wrong == Wrong::Visible && violation.rule() == "a put is read back whole";
        assert!(violation.rule() == rule || early, "{wrong:?}: {violation}");
        assert!(!violation.detail().is_empty());
    }
}

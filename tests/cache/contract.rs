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

/// Puts the stores that `make` makes through the suite, each under a root of its own.
fn check<S: Store>(make: impl Fn(&Path) -> S) {
    let mut roots = Vec::new();
    let checked = contract::check(|| {
        roots.push(tempfile::tempdir().unwrap());
        make(roots.last().unwrap().path())
    });
    checked.unwrap_or_else(|violation| panic!("{violation}"));
}

macro_rules! keep_the_contract {
    ($($name:ident: $make:expr;)*) => {$(
        #[test]
        fn $name() {
            check($make);
        }
    )*};
}

keep_the_contract! {
    memory: |_| MemoryStore::new();
    files: |root| fs(root, Durability::Ordered);
    files_full: |root| fs(root, Durability::Full);
    indexed_in_memory: |root| IndexStore::scanned(fs(root, Durability::Ordered)).unwrap();
    indexed_memory: |_| IndexStore::scanned(MemoryStore::new()).unwrap();
    indexed: index;
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

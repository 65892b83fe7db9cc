//! The cache against a model, and the disk against the accounts: whatever is done to it, in any order.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_lite::future::block_on;
use kithara::cache::{
    AssetCache, AssetId, BlockingCache, CacheError, CachePath, Durability, EntryWriter, Lease,
};
use kithara_test_support::disk_bytes;
use proptest::prelude::*;

use crate::{counted, dir_of};

const PATHS: [&str; 5] = ["master.m3u8", "v1/Seg 1.m4s", "v1", "v1/seg-2", "key"];

/// A smaller limit leaves no room for an index on disk.
const INDEXED: u64 = 32 * 1024;

#[derive(Clone, Copy, Debug)]
enum Op {
    Put {
        asset: usize,
        path: usize,
        len: usize,
    },
    Discard {
        asset: usize,
        path: usize,
        len: usize,
    },
    Get {
        asset: usize,
        path: usize,
    },
    RemoveEntry {
        asset: usize,
        path: usize,
    },
    Remove {
        asset: usize,
    },
    Lease {
        asset: usize,
    },
    Release,
    Pin {
        asset: usize,
    },
    Unpin {
        asset: usize,
    },
    Checkpoint,
    Reopen,
    ReopenWithoutIndex,
    /// As after a kill: the index of before the last changes.
    ReopenWithOldIndex,
    DeleteBehind {
        asset: usize,
    },
    Clear,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (asset, path, len) = (0..6_usize, 0..PATHS.len(), 0..12_000_usize);
    let op = prop_oneof![
        12 => (asset.clone(), path.clone(), len.clone()).prop_map(|(asset, path, len)| Op::Put { asset, path, len }),
        2 => (asset.clone(), path.clone(), len).prop_map(|(asset, path, len)| Op::Discard { asset, path, len }),
        6 => (asset.clone(), path.clone()).prop_map(|(asset, path)| Op::Get { asset, path }),
        1 => (asset.clone(), path).prop_map(|(asset, path)| Op::RemoveEntry { asset, path }),
        1 => asset.clone().prop_map(|asset| Op::Remove { asset }),
        2 => asset.clone().prop_map(|asset| Op::Lease { asset }),
        2 => Just(Op::Release),
        1 => asset.clone().prop_map(|asset| Op::Pin { asset }),
        2 => asset.clone().prop_map(|asset| Op::Unpin { asset }),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Reopen),
        1 => Just(Op::ReopenWithoutIndex),
        1 => Just(Op::ReopenWithOldIndex),
        1 => asset.prop_map(|asset| Op::DeleteBehind { asset }),
        1 => Just(Op::Clear),
    ];
    proptest::collection::vec(op, 1..60)
}

#[derive(Clone, Default)]
struct Asset {
    entries: HashMap<usize, Bytes>,
    pinned: bool,
    used: u64,
}

impl Asset {
    fn exists(&self) -> bool {
        self.pinned || !self.entries.is_empty()
    }
}

struct Model {
    root: Option<PathBuf>,
    cache: Option<AssetCache>,
    max_bytes: u64,
    assets: BTreeMap<usize, Asset>,
    leases: Vec<(usize, Lease)>,
    clock: u64,
    seed: u8,
    /// Whether the order of uses is known: not after the index was lost.
    ordered: bool,
}

fn id(asset: usize) -> AssetId {
    AssetId::from_key(&format!("track {asset}")).unwrap()
}

fn path(path: usize) -> CachePath {
    CachePath::parse(PATHS[path]).unwrap()
}

impl Model {
    fn new(root: Option<&Path>, max_bytes: u64) -> Self {
        let mut model = Self {
            root: root.map(Path::to_owned),
            cache: None,
            max_bytes,
            assets: BTreeMap::new(),
            leases: Vec::new(),
            clock: 0,
            seed: 0,
            ordered: true,
        };
        model.open();
        model
    }

    fn open(&mut self) {
        let cache = match &self.root {
            Some(root) => {
                let builder = AssetCache::builder(root)
                    .max_bytes(self.max_bytes)
                    .durability(Durability::Ordered);
                builder.open_blocking().unwrap()
            }
            None => AssetCache::memory(self.max_bytes),
        };
        self.cache = Some(cache);
    }

    fn cache(&self) -> &BlockingCache {
        self.cache.as_ref().unwrap().blocking()
    }

    fn close(&mut self) {
        self.leases.clear();
        block_on(self.cache.take().unwrap().close());
    }

    fn bytes(&mut self, len: usize) -> Bytes {
        self.seed = self.seed.wrapping_add(1);
        vec![self.seed; len].into()
    }

    fn used(&mut self, asset: usize) {
        self.clock += 1;
        self.assets.entry(asset).or_default().used = self.clock;
    }

    fn is_held(&self, asset: usize) -> bool {
        self.assets.get(&asset).is_some_and(|a| a.pinned)
            || self.leases.iter().any(|(leased, _)| *leased == asset)
    }

    /// After something that may evict on behalf of `busy`: whatever is gone was free to go and colder than whatever was
    /// free to go and stayed; whatever stayed is whole.
    fn evicted(&mut self, busy: usize) {
        let mut gone = Vec::new();
        let mut coldest = u64::MAX;
        for (&asset, known) in &self.assets {
            if known.entries.is_empty() {
                continue;
            }
            let there = self
                .cache()
                .asset(&id(asset))
                .unwrap()
                .is_some_and(|info| info.files > 0);
            if !there {
                assert!(!self.is_held(asset) && asset != busy, "asset {asset} was held");
                gone.push((asset, known.used));
            } else if asset != busy && !self.is_held(asset) {
                coldest = coldest.min(known.used);
            }
        }
        for (asset, used) in gone {
            assert!(
                !self.ordered || used < coldest,
                "asset {asset} was hotter than one that stayed"
            );
            self.assets.remove(&asset);
        }
    }

    fn put(&mut self, asset: usize, p: usize, len: usize) {
        let bytes = self.bytes(len);
        let before = self.assets.get(&asset).is_some_and(Asset::exists);
        let put = self.cache().put_atomic(&id(asset), &path(p), bytes.clone());
        match put {
            Ok(()) => {
                self.evicted(asset);
                if !before {
                    self.used(asset);
                }
                self.assets.entry(asset).or_default().entries.insert(p, bytes);
            }
            // Refused: nothing may be gone. The check of everything below sees to that.
            Err(CacheError::CacheFull { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn reopen_without_index(&mut self, old_index: bool) {
        if let Some(root) = self.root.clone() {
            // Until then the index may be written.
            block_on(self.cache().progress().finished());
            let (index, old) = (root.join("index"), root.join("old"));
            let kept = old_index && index.exists();
            if kept {
                std::fs::create_dir(&old).unwrap();
                for file in std::fs::read_dir(&index).unwrap().flatten() {
                    // The maintenance thread may replace the file just now. Half an old index is an old index too.
                    match std::fs::copy(file.path(), old.join(file.file_name())) {
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        copied => drop(copied.unwrap()),
                    }
                }
            }
            self.close();
            let _ = std::fs::remove_dir_all(&index);
            if kept {
                std::fs::rename(&old, &index).unwrap();
            }
            self.ordered = false;
            self.open();
            // An old index is believed until the scan has ended.
            block_on(self.cache().progress().finished());
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Put { asset, path: p, len } => self.put(asset, p, len),
            Op::Discard { asset, path: p, len } => {
                let bytes = self.bytes(len);
                let root = self.root.clone();
                let writer = write(self.cache.as_ref().unwrap(), &id(asset), &path(p), &bytes);
                if let Some(root) = root {
                    assert!(disk_bytes(&root) <= self.max_bytes);
                }
                drop(writer);
                self.cache().checkpoint().unwrap();
                self.evicted(asset);
            }
            Op::Get { asset, path: p } => {
                let got = self.cache().get(&id(asset), &path(p)).unwrap();
                assert_eq!(
                    got.as_ref(),
                    self.assets.get(&asset).and_then(|a| a.entries.get(&p))
                );
                if got.is_some() {
                    self.used(asset);
                }
            }
            Op::RemoveEntry { asset, path: p } => {
                let removed = self.cache().remove_entry(&id(asset), &path(p)).unwrap();
                let known = self.assets.get_mut(&asset).and_then(|a| a.entries.remove(&p));
                assert_eq!(removed, known.is_some());
            }
            Op::Remove { asset } => match self.cache().remove(&id(asset)) {
                Ok(removed) => {
                    assert!(!self.is_held(asset));
                    assert!(removed || !self.assets.remove(&asset).is_some_and(|a| a.exists()));
                    self.assets.remove(&asset);
                }
                Err(error) => assert!(error.is_in_use() && self.is_held(asset), "{error}"),
            },
            Op::Lease { asset } => {
                let lease = self.cache().lease(&id(asset));
                self.leases.push((asset, lease));
                if self.assets.get(&asset).is_some_and(Asset::exists) {
                    self.used(asset);
                }
            }
            Op::Release => drop(self.leases.pop()),
            Op::Pin { asset } => match self.cache().pin(&id(asset)) {
                Ok(()) => {
                    self.evicted(asset);
                    self.used(asset);
                    self.assets.entry(asset).or_default().pinned = true;
                }
                Err(error) => assert!(error.is_full(), "{error}"),
            },
            Op::Unpin { asset } => {
                self.cache().unpin(&id(asset)).unwrap();
                if let Some(asset) = self.assets.get_mut(&asset) {
                    asset.pinned = false;
                }
            }
            Op::Checkpoint => self.cache().checkpoint().unwrap(),
            Op::Clear => {
                let kept = self.cache().clear().unwrap();
                let held: Vec<usize> = self.assets.keys().copied().filter(|&a| self.is_held(a)).collect();
                self.assets
                    .retain(|asset, known| held.contains(asset) && known.exists());
                assert_eq!(kept, self.assets.len() as u64);
            }
            Op::Reopen => {
                if self.root.is_some() {
                    self.close();
                    self.ordered &= self.max_bytes >= INDEXED;
                    self.open();
                }
            }
            Op::ReopenWithoutIndex => self.reopen_without_index(false),
            Op::ReopenWithOldIndex => self.reopen_without_index(true),
            Op::DeleteBehind { asset } => {
                if let Some(root) = &self.root {
                    // Removed while it is scanned, an asset may be taken to be there until the next miss.
                    block_on(self.cache().progress().finished());
                    let _ = std::fs::remove_dir_all(dir_of(root, &id(asset)));
                    self.assets.remove(&asset);
                    // Looking is enough to heal.
                    assert_eq!(self.cache().get(&id(asset), &path(0)).unwrap(), None);
                }
            }
        }
    }

    /// Everything that should be there is, whole, and nothing else; accounts equal the disk; neither is over the limit.
    fn check(&self) {
        let cache = self.cache();
        for asset in 0..6 {
            let known = self.assets.get(&asset).filter(|a| a.exists());
            let info = cache.asset(&id(asset)).unwrap();
            assert_eq!(
                info.as_ref().map(|i| (i.files, i.pinned, i.leased)),
                known.map(|a| (
                    a.entries.len() as u64,
                    a.pinned,
                    self.leases.iter().any(|(l, _)| *l == asset)
                )),
                "asset {asset}"
            );
            for entry in cache.entries(&id(asset)).unwrap() {
                let p = PATHS.iter().position(|p| *p == entry.path.as_str()).unwrap();
                assert_eq!(entry.len, known.unwrap().entries[&p].len() as u64);
            }
            for p in 0..PATHS.len() {
                let wanted = known.is_some_and(|a| a.entries.contains_key(&p));
                assert_eq!(
                    cache.contains(&id(asset), &path(p)).unwrap(),
                    wanted,
                    "asset {asset} path {p}"
                );
            }
        }
        let stats = cache.stats().unwrap();
        assert!(stats.bytes <= self.max_bytes, "{stats:?}");
        if let Some(root) = &self.root {
            assert_eq!(counted(&root.join("assets"), &stats), stats.asset_bytes);
            let on_disk = counted(root, &stats);
            assert!(on_disk <= stats.bytes, "{on_disk} on disk, {stats:?}");
        }
        if self.ordered {
            let listed: Vec<_> = cache
                .assets()
                .unwrap()
                .into_iter()
                .map(|info| info.id.name())
                .collect();
            let mut known: Vec<_> = self.assets.iter().filter(|(_, a)| a.exists()).collect();
            known.sort_by_key(|(_, a)| a.used);
            assert_eq!(
                listed,
                known.iter().map(|(a, _)| id(**a).name()).collect::<Vec<_>>(),
                "order of use"
            );
        }
    }
}

/// An entry written and not committed; `None` if it did not fit.
fn write(cache: &AssetCache, asset: &AssetId, path: &CachePath, bytes: &Bytes) -> Option<EntryWriter> {
    block_on(async {
        let written = async {
            let mut writer = cache.writer(asset, path).await?;
            for chunk in bytes.chunks(1000) {
                writer.write(Bytes::copy_from_slice(chunk)).await?;
            }
            Ok::<_, CacheError>(writer)
        };
        match written.await {
            Ok(writer) => Some(writer),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                None
            }
        }
    })
}

fn run(root: Option<&Path>, max_bytes: u64, ops: Vec<Op>) {
    let mut model = Model::new(root, max_bytes);
    for op in ops {
        model.run(op);
        model.check();
    }
    model.close();
}

/// 24 cases, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let config = ProptestConfig {
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 24, ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    /// C2, C3, C5–C8, C15: under a limit that most sequences reach.
    #[test]
    fn on_disk_under_a_tight_limit(ops in ops()) {
        let root = tempfile::tempdir().unwrap();
        run(Some(root.path()), 60_000, ops);
    }

    /// The same where nothing need be evicted.
    #[test]
    fn on_disk_with_room(ops in ops()) {
        let root = tempfile::tempdir().unwrap();
        run(Some(root.path()), 10_000_000, ops);
    }

    /// The same without an index: the limit leaves no room for one.
    #[test]
    fn on_disk_without_an_index(ops in ops()) {
        let root = tempfile::tempdir().unwrap();
        run(Some(root.path()), 30_000, ops);
    }

    /// C13.
    #[test]
    fn in_memory(ops in ops()) {
        run(None, 30_000, ops);
    }
}

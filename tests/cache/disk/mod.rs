//! The whole cache on a fake disk: one that loses its power after every change, that fails at every call, that is full, and
//! whose clock is wrong. Needs `test-util`.
//!
//! Each step is recorded with the number of changes that the disk had seen before and after it. For each power cut that tells
//! exactly which versions of each entry may be found afterwards.

mod calls;
mod clock;
mod cuts;
mod failing;
mod limits;
mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::stack;
use bytes::Bytes;
use kithara::cache::testing::{self, ManualCache};
use kithara::cache::{
    AssetId, BlockingCache, CacheError, CachePath, Durability, FsStore, IndexStore, Lease, Lru,
    MissingProtection, Store as _,
};
use kithara::storage::testing::{Dice, Disk as _, FakeDisk, set_clock_back};

const MAX_BYTES: u64 = 6000 + INDEX;
/// What the index is allowed to take.
const INDEX: u64 = 4000;

type Name = (u8, u8);

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(Name, usize),
    /// The record of an asset.
    Record(u8, usize),
    /// Written in parts, then committed.
    Stream(Name, usize),
    /// Written in parts, then dropped.
    Drop(Name, usize),
    RemoveEntry(Name),
    Remove(u8),
    Pin(u8),
    Unpin(u8),
    Lease(u8),
    Unlease,
    Get(Name),
    Checkpoint,
    Clear,
    /// Closed and opened again.
    Reopen,
}

/// What is there at a moment: the number of each entry's version, and which assets are pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct View {
    entries: BTreeMap<Name, u64>,
    pinned: BTreeSet<u8>,
}

/// A step that was taken, the changes the disk had seen before and after it, and what was there then.
#[derive(Debug)]
struct Taken {
    step: Step,
    changes: Range<usize>,
    /// The version it wrote, or would have written.
    version: u64,
    done: bool,
    after: View,
}

const ASSETS: u8 = 5;
const PATHS: u8 = 3;
/// In the place of a path's number: the asset's record.
const RECORD: u8 = PATHS;

fn asset(number: u8) -> AssetId {
    static IDS: LazyLock<Vec<AssetId>> = LazyLock::new(|| {
        (0..=ASSETS)
            .map(|n| AssetId::from_key(&format!("track {n}")).unwrap())
            .collect()
    });
    IDS[usize::from(number)].clone()
}

fn path(number: u8) -> CachePath {
    static TEXTS: [&str; PATHS as usize + 1] = ["playlist.m3u8", "v1/seg-1.m4s", "V1/Seg-1.m4s", ".record"];
    static ALL: LazyLock<Vec<CachePath>> =
        LazyLock::new(|| TEXTS.iter().map(|text| CachePath::parse(text).unwrap()).collect());
    ALL[usize::from(number)].clone()
}

fn names() -> impl Iterator<Item = Name> {
    (0..ASSETS).flat_map(|a| (0..PATHS).map(move |p| (a, p)))
}

/// The bytes of a version. They name it, and differ from every other version's nearly everywhere.
fn content(version: u64, len: usize) -> Bytes {
    let mut dice = Dice(version);
    let mut bytes = version.to_le_bytes().to_vec();
    while bytes.len() < len.max(8) {
        bytes.extend_from_slice(&dice.roll().to_le_bytes());
    }
    bytes.truncate(len.max(8));
    bytes.into()
}

/// The version that bytes are, if they are one, whole.
fn version(bytes: &Bytes) -> u64 {
    let version = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(*bytes, content(version, bytes.len()), "mixed or partial");
    version
}

struct Run {
    disk: FakeDisk,
    durability: Durability,
    cache: Option<ManualCache>,
    leases: Vec<Lease>,
    taken: Vec<Taken>,
    next_version: u64,
}

fn store_on(disk: &FakeDisk, durability: Durability) -> Result<FsStore, CacheError> {
    testing::fs_store(Arc::new(disk.clone()), Path::new("/"), durability)
}

/// An index over the disk, scanned.
fn scanned_index(disk: &FakeDisk) -> IndexStore<FsStore> {
    let index = IndexStore::open(store_on(disk, Durability::Full).unwrap(), true).unwrap();
    index.scan().unwrap();
    index
}

fn dir_of(asset: &AssetId) -> String {
    format!("/assets/{}/{asset}", &asset.name()[..2])
}

fn open(disk: &FakeDisk, durability: Durability) -> Result<ManualCache, CacheError> {
    ManualCache::open(store_on(disk, durability)?, MAX_BYTES)
}

fn view(cache: &BlockingCache) -> View {
    let mut view = View::default();
    let records = (0..ASSETS).map(|a| (a, RECORD));
    for name in names().chain(records) {
        if let Some(bytes) = get_untouched(cache, &asset(name.0), &path(name.1)) {
            view.entries.insert(name, version(&bytes));
        }
    }
    for number in 0..ASSETS {
        if cache
            .asset(&asset(number))
            .unwrap()
            .is_some_and(|info| info.pinned)
        {
            view.pinned.insert(number);
        }
    }
    view
}

/// The entry, without an access if it is absent.
fn get_untouched(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Option<Bytes> {
    if path.as_str() == ".record" {
        return cache.record(asset).unwrap();
    }
    let there = cache.contains(asset, path).unwrap();
    there.then(|| cache.get(asset, path).unwrap().unwrap())
}

impl Run {
    fn new(disk: FakeDisk, durability: Durability) -> Self {
        let cache = Some(open(&disk, durability).unwrap());
        Self {
            disk,
            durability,
            cache,
            leases: Vec::new(),
            taken: Vec::new(),
            next_version: 1,
        }
    }

    fn cache(&self) -> &BlockingCache {
        self.cache.as_ref().unwrap()
    }

    fn take(&mut self, step: Step) -> Result<(), CacheError> {
        let start = self.disk.changes();
        let version = self.next_version;
        self.next_version += 1;
        let result = self.perform(step, version);
        let end = self.disk.changes();
        let after = self
            .cache
            .as_ref()
            .map_or_else(View::default, |cache| self.disk.aside(|| view(cache)));
        self.taken.push(Taken {
            step,
            changes: start..end,
            version,
            done: result.is_ok(),
            after,
        });
        result
    }

    fn perform(&mut self, step: Step, version: u64) -> Result<(), CacheError> {
        let cache = self.cache().clone();
        match step {
            Step::Put((a, p), len) => cache.put_atomic(&asset(a), &path(p), content(version, len))?,
            Step::Record(a, len) => cache.set_record(&asset(a), content(version, len))?,
            Step::Stream((a, p), len) | Step::Drop((a, p), len) => {
                let mut staged = testing::stage(&cache, &asset(a), &path(p))?;
                let bytes = content(version, len);
                let (head, tail) = (bytes.slice(..bytes.len() / 3), bytes.slice(bytes.len() / 3..));
                staged.write(&[head])?;
                staged.write(&[tail])?;
                if let Step::Stream(..) = step {
                    staged.commit()?;
                    testing::tidy(&cache);
                }
            }
            Step::RemoveEntry((a, p)) => drop(cache.remove_entry(&asset(a), &path(p))?),
            Step::Remove(a) => match cache.remove(&asset(a)) {
                Err(CacheError::InUse { .. }) => {}
                removed => drop(removed?),
            },
            Step::Pin(a) => cache.pin(&asset(a))?,
            Step::Unpin(a) => cache.unpin(&asset(a))?,
            Step::Lease(a) => self.leases.push(cache.lease(&asset(a))),
            Step::Unlease => drop(self.leases.pop()),
            Step::Get((a, p)) => drop(cache.get(&asset(a), &path(p))?),
            Step::Checkpoint => cache.checkpoint()?,
            Step::Clear => drop(cache.clear()?),
            Step::Reopen => {
                self.leases.clear();
                drop(cache);
                drop(self.cache.take());
                self.cache = Some(open(&self.disk, self.durability)?);
            }
        }
        Ok(())
    }
}

/// The accounts equal the disk, and count at least what is on it.
fn accounts(disk: &FakeDisk, cache: &BlockingCache, when: &str) {
    let stats = disk.aside(|| cache.stats().unwrap());
    assert_eq!(
        stats.asset_bytes,
        disk.bytes_in("/assets"),
        "accounts and disk differ {when}: {:?}",
        disk.files()
    );
    assert!(
        stats.bytes >= disk.bytes(),
        "more on disk than counted {when}: {:?}",
        disk.files()
    );
}

/// Nothing of the cache's own is left over, the accounts equal the disk, what is listed can be read, and the cache works.
fn sound(disk: &FakeDisk, cache: &BlockingCache) {
    let files = disk.files();
    let leftovers: Vec<_> = files
        .iter()
        .filter(|file| file.contains("/.") && !file.ends_with("/.pin") || file.starts_with("/trash/"))
        .collect();
    assert!(leftovers.is_empty(), "left over: {leftovers:?}");
    accounts(disk, cache, "after opening");
    let mut entries = 0;
    for info in cache.assets().unwrap() {
        let listed = cache.entries(&info.id).unwrap();
        entries += info.files;
        let record = u64::from(cache.record(&info.id).unwrap().is_some());
        assert_eq!(info.files, listed.len() as u64 + record, "{files:?}");
        // W41: whatever is whole tells the key.
        let named = (0..=ASSETS).map(asset).find(|id| *id == info.id).unwrap();
        let told = info.id.key().is_some() || info.files == 0;
        assert!(told && info.id.key().is_none_or(|key| Some(key) == named.key()));
        for entry in listed {
            let opened = cache.open(&info.id, &entry.path).unwrap().unwrap();
            assert!(opened.verify(&info.id, &entry.path).unwrap());
        }
    }
    assert_eq!(cache.stats().unwrap().entries, entries);
    match cache.put_atomic(&asset(ASSETS), &path(0), content(7, 100)) {
        // What is pinned may fill it.
        Err(CacheError::CacheFull { .. }) => return,
        put => put.unwrap(),
    }
    assert!(cache.get(&asset(ASSETS), &path(0)).unwrap().is_some());
    accounts(disk, cache, "after a put");
    assert!(disk.bytes() <= MAX_BYTES, "{} bytes after a put", disk.bytes());
}

/// A put, overwrites, growth, a writer dropped, evictions, removals, pins, checkpoints and a second session.
fn story() -> Vec<Step> {
    use Step::*;
    vec![
        Put((0, 0), 900),
        Put((0, 1), 700),
        Checkpoint,
        Record(1, 40),
        Put((1, 0), 300),
        Record(1, 90),
        Put((0, 0), 200),
        Put((0, 0), 1200),
        Stream((2, 2), 500),
        Drop((2, 2), 600),
        Pin(2),
        Get((1, 0)),
        Put((3, 0), 1500),
        Lease(1),
        Put((3, 1), 1300),
        Stream((4, 0), 2000),
        Checkpoint,
        Put((0, 2), 1800),
        Unlease,
        Put((3, 2), 100),
        RemoveEntry((3, 2)),
        Unpin(2),
        Put((1, 0), 800),
        Remove(1),
        Put((1, 1), 250),
        Reopen,
        Get((2, 2)),
        Put((4, 1), 900),
        Put((0, 0), 1000),
        Pin(0),
        Put((2, 2), 64),
        Checkpoint,
        Put((3, 0), 1700),
        Clear,
        Put((1, 2), 333),
        Record(0, 100),
        Reopen,
        Record(0, 60),
        RemoveEntry((0, RECORD)),
        Unpin(0),
        Put((0, 1), 8),
    ]
}

/// Takes the steps, `pace` apart, the last one so long ago. A step may be refused by the limit.
fn run(steps: &[Step], durability: Durability, pace: Duration) -> Run {
    let ago = |left: usize| set_clock_back(pace * u32::try_from(left).unwrap());
    ago(steps.len() + 1);
    let mut run = Run::new(FakeDisk::default(), durability);
    for (number, &step) in steps.iter().enumerate() {
        ago(steps.len() - number);
        match run.take(step) {
            Ok(()) | Err(CacheError::CacheFull { .. }) => {}
            Err(error) => panic!("{step:?}: {error}"),
        }
        accounts(&run.disk, run.cache(), &format!("after {step:?}"));
    }
    assert!(
        run.disk.peak() <= MAX_BYTES,
        "{} bytes at the most",
        run.disk.peak()
    );
    set_clock_back(Duration::ZERO);
    run
}

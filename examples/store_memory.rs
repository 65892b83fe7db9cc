//! A store of the app's own, in memory: entries in a map. The cache above it adds the limit, leases and recency.
//!
//! `cargo run --example store_memory`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kithara::cache::{
    AssetCache, AssetId, AssetInfo, CacheError, CachePath, Committed, Entry, EntryInfo, Staged, Store,
    Timestamp, Trash,
};

/// Entries by asset and path.
type Entries = BTreeMap<(String, CachePath), (AssetId, Bytes)>;

/// Keeps entries in a map. Pins and partial entries it leaves out: the provided methods say so.
#[derive(Clone, Debug, Default)]
pub struct MapStore {
    entries: Arc<Mutex<Entries>>,
}

impl MapStore {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(asset: &AssetId, path: &CachePath) -> (String, CachePath) {
    (asset.name(), path.clone())
}

impl Store for MapStore {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let entries = self.lock();
        let found = entries.get(&name(asset, path));
        // A reader shares the bytes, so it reads on when the entry is replaced.
        Ok(found.map(|(_, bytes)| Entry::new(bytes.clone())))
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        Ok(Box::new(MapStaged {
            store: self.clone(),
            asset: asset.clone(),
            path: path.clone(),
            parts: Vec::new(),
        }))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        let removed = self.lock().remove(&name(asset, path));
        Ok(removed.map(|(_, bytes)| bytes.len() as u64))
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        let mut entries = self.lock();
        let all = std::mem::take(&mut *entries);
        let (removed, kept): (Entries, Entries) = all.into_iter().partition(|(_, (id, _))| id == asset);
        *entries = kept;
        drop(entries);
        // Taken out in one step. Nothing is left to be freed later but the map of what was removed.
        Ok((!removed.is_empty()).then(|| {
            Trash::new(move || {
                drop(removed);
                Ok(())
            })
        }))
    }

    fn list(&self) -> Result<Vec<AssetInfo>, CacheError> {
        let mut assets = BTreeMap::<String, (AssetId, u64, u64)>::new();
        for ((name, _), (id, bytes)) in &*self.lock() {
            let asset = assets.entry(name.clone()).or_insert_with(|| (id.clone(), 0, 0));
            (asset.1, asset.2) = (asset.1 + bytes.len() as u64, asset.2 + 1);
        }
        let info = |(id, bytes, files)| AssetInfo::new(id, bytes, files, Timestamp::default());
        Ok(assets.into_values().map(info).collect())
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        let entries = self.lock();
        let of_asset = entries.iter().filter(|(_, (id, _))| id == asset);
        let info = |((_, path), (id, bytes)): (&(String, CachePath), &(AssetId, Bytes))| {
            EntryInfo::new(path.clone(), bytes.len() as u64, id.key().map(str::to_owned))
        };
        Ok(of_asset.map(info).collect())
    }
}

/// A new version of an entry, seen by no reader until it is committed.
#[derive(Debug)]
struct MapStaged {
    store: MapStore,
    asset: AssetId,
    path: CachePath,
    parts: Vec<Bytes>,
}

impl Staged for MapStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        self.parts.extend_from_slice(parts);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        let bytes = Bytes::from(self.parts.concat());
        let len = bytes.len() as u64;
        let key = name(&self.asset, &self.path);
        let replaced = self.store.lock().insert(key, (self.asset, bytes));
        Ok(Committed::new(len, replaced.map(|(_, old)| old.len() as u64)))
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let store = MapStore::default();
    let builder = AssetCache::builder("").store(store.clone()).max_bytes(100_000);
    let cache = builder.open_blocking()?;
    let cache = cache.blocking();
    let segment = CachePath::parse("segment")?;
    for n in 0..20 {
        let track = AssetId::from_key(&format!("track {n}"))?;
        cache.put_atomic(&track, &segment, vec![n; 10_000].into())?;
    }
    println!(
        "20 tracks of 10000 bytes were put, and {} are kept",
        store.list()?.len()
    );
    let newest = cache.get(&AssetId::from_key("track 19")?, &segment)?;
    println!(
        "the newest one has {} bytes",
        newest.map_or(0, |bytes| bytes.len())
    );
    Ok(())
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--help" | "-h") => {
            println!("usage: store_memory     a cache over a store of its own; there is nothing to set");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("store_memory: unexpected argument {other:?}; it has none");
            return ExitCode::FAILURE;
        }
    }
    if let Err(failure) = run() {
        eprintln!("store_memory: {failure}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

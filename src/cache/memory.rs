//! Entries in memory, with nothing on disk.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::path::CachePath;
use super::store::{AssetInfo, Committed, EntryInfo, Staged, Store, Trash};
use super::timestamp::Timestamp;

/// Keeps assets in memory, for devices or sessions that must not write to disk.
///
/// Its rule: everything it keeps, pins included, ends with the store.
#[derive(Clone, Default)]
pub struct MemoryStore {
    assets: Arc<Mutex<HashMap<AssetId, Asset>>>,
}

#[derive(Default)]
struct Asset {
    entries: BTreeMap<CachePath, Bytes>,
    pinned: bool,
    made: Timestamp,
}

impl Asset {
    fn exists(&self) -> bool {
        self.pinned || !self.entries.is_empty()
    }

    fn info(&self, id: &AssetId) -> AssetInfo {
        let bytes = self.entries.values().map(|bytes| bytes.len() as u64).sum();
        AssetInfo::new(id.clone(), bytes, self.entries.len() as u64, self.made).pinned(self.pinned)
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AssetId, Asset>> {
        // Nothing under the lock can panic half-way.
        self.assets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes an asset, which is made if it is not there and forgotten if nothing is left of it.
    fn change<T>(&self, asset: &AssetId, change: impl FnOnce(&mut Asset) -> T) -> T {
        let mut assets = self.lock();
        let found = assets.entry(asset.clone()).or_insert_with(|| Asset {
            made: Timestamp::now(),
            ..Asset::default()
        });
        let changed = change(found);
        if !found.exists() {
            assets.remove(asset);
        }
        changed
    }
}

impl Store for MemoryStore {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let assets = self.lock();
        let bytes = assets.get(asset).and_then(|asset| asset.entries.get(path));
        Ok(bytes.cloned().map(Entry::new))
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        Ok(Box::new(MemoryStaged {
            asset: asset.clone(),
            path: path.clone(),
            content: BytesMut::new(),
            store: self.clone(),
        }))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        // Handed out of the lock before it is dropped: the bytes are the caller's.
        let removed = self.change(asset, |asset| asset.entries.remove(path));
        Ok(removed.map(|bytes| bytes.len() as u64))
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        // Readers hold the bytes themselves, so a removed asset is gone at once and reads on where it is open. Nothing is
        // left for the trash.
        let removed = self.lock().remove(asset);
        Ok(removed.map(|_| Trash::new(|| Ok(()))))
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        self.change(asset, |asset| asset.pinned = pinned);
        Ok(())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        Ok(self.lock().get(asset).map(|found| found.info(asset)))
    }

    fn list(&self) -> Result<Vec<AssetInfo>, CacheError> {
        Ok(self.lock().iter().map(|(id, asset)| asset.info(id)).collect())
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        let assets = self.lock();
        let Some((id, asset)) = assets.get_key_value(asset) else {
            return Ok(Vec::new());
        };
        let info = |(path, bytes): (&CachePath, &Bytes)| {
            EntryInfo::new(path.clone(), bytes.len() as u64, id.key().map(str::to_owned))
        };
        Ok(asset.entries.iter().map(info).collect())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

/// An entry being collected in memory.
struct MemoryStaged {
    asset: AssetId,
    path: CachePath,
    content: BytesMut,
    store: MemoryStore,
}

impl Staged for MemoryStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        // Copied, so that a small slice does not keep the large buffer it was cut from.
        for part in parts {
            self.content.extend_from_slice(part);
        }
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        // A copy of exactly that length. The buffer grew by doubling and may hold twice the bytes that count.
        let content = Bytes::copy_from_slice(&self.content);
        // Made outside the lock. Under it every reader would wait for the copy.
        let path = self.path.clone();
        let old = self
            .store
            .change(&self.asset, |asset| asset.entries.insert(path, content));
        Ok(Committed::new(
            self.content.len() as u64,
            old.map(|old| old.len() as u64),
        ))
    }
}

impl fmt::Debug for MemoryStaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStaged")
            .field("path", &self.path)
            .field("len", &self.content.len())
            .finish_non_exhaustive()
    }
}

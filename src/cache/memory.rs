//! Entries in memory, with nothing on disk.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
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
    contents: Arc<Mutex<Contents>>,
    reported: Arc<AtomicBool>,
}

#[derive(Default)]
struct Contents {
    assets: HashMap<AssetId, Asset>,
    /// Bytes of all entries. Each write asks for them.
    bytes: u64,
}

#[derive(Default)]
struct Asset {
    entries: BTreeMap<CachePath, Bytes>,
    pinned: bool,
    last_access: Timestamp,
}

impl Contents {
    fn forget_if_empty(&mut self, asset: &AssetId) {
        if self.assets.get(asset).is_some_and(|found| !found.exists()) {
            self.assets.remove(asset);
        }
    }
}

impl Asset {
    fn bytes(&self) -> u64 {
        self.entries.values().map(|bytes| bytes.len() as u64).sum()
    }

    fn exists(&self) -> bool {
        self.pinned || !self.entries.is_empty()
    }

    fn info(&self, id: &AssetId) -> Option<AssetInfo> {
        self.exists().then(|| AssetInfo {
            id: id.clone(),
            bytes: self.bytes(),
            files: self.entries.len() as u64,
            last_access: self.last_access,
            leased: false,
            pinned: self.pinned,
            modified: None,
        })
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // Maps and sum change together, with nothing between that can panic.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        Ok(self
            .lock()
            .assets
            .get(asset)
            .and_then(|asset| asset.entries.get(path).cloned())
            .map(Entry::memory))
    }

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        Ok(self.open(asset, path)?.is_some())
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
        let mut contents = self.lock();
        let removed = contents
            .assets
            .get_mut(asset)
            .and_then(|asset| asset.entries.remove(path));
        let freed = removed.as_ref().map(|bytes| bytes.len() as u64);
        contents.bytes -= freed.unwrap_or(0);
        contents.forget_if_empty(asset);
        // The bytes are the caller's and are dropped outside the lock.
        drop(contents);
        Ok(freed)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        // Readers hold the bytes themselves, so a removed asset is gone at once and reads on where it is open.
        let mut contents = self.lock();
        let removed = contents.assets.remove(asset);
        contents.bytes -= removed.as_ref().map_or(0, Asset::bytes);
        drop(contents);
        // The bytes are the caller's and are dropped outside the lock. Nothing is left for the trash.
        Ok(removed.filter(Asset::exists).map(|_| Trash::new(|| Ok(()))))
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let mut contents = self.lock();
        if pinned {
            contents.assets.entry(asset.clone()).or_default().pinned = true;
        } else if let Some(found) = contents.assets.get_mut(asset) {
            found.pinned = false;
            contents.forget_if_empty(asset);
        }
        Ok(())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        Ok(self.lock().assets.get(asset).and_then(|found| found.info(asset)))
    }

    fn modified(&self, _asset: &AssetId) -> Result<Option<Timestamp>, CacheError> {
        Ok(None)
    }

    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        Ok(self
            .lock()
            .assets
            .iter()
            .filter_map(|(id, asset)| asset.info(id))
            .collect())
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        let contents = self.lock();
        let Some((id, asset)) = contents.assets.get_key_value(asset) else {
            return Ok(Vec::new());
        };
        let key = id.key().map(str::to_owned);
        Ok(asset
            .entries
            .iter()
            .map(|(path, bytes)| EntryInfo {
                path: path.clone(),
                len: bytes.len() as u64,
                asset_key: key.clone(),
            })
            .collect())
    }

    fn used_bytes(&self) -> Result<u64, CacheError> {
        Ok(self.lock().bytes)
    }

    fn overhead(&self, _asset: &AssetId, _path: Option<&CachePath>, _payload: u64) -> u64 {
        0
    }

    fn ready(&self) -> Result<(), CacheError> {
        Ok(())
    }

    fn touch(&self, asset: &AssetId, at: Timestamp) -> bool {
        let mut contents = self.lock();
        let Some(asset) = contents.assets.get_mut(asset) else {
            return false;
        };
        asset.last_access = at;
        true
    }

    fn is_held(&self, _asset: &AssetId) -> Result<bool, CacheError> {
        Ok(false)
    }

    fn changes(&self) -> Result<Vec<(AssetId, Timestamp)>, CacheError> {
        if self.reported.swap(true, Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        Ok(self
            .lock()
            .assets
            .iter()
            .map(|(id, asset)| (id.clone(), asset.last_access))
            .collect())
    }

    fn checkpoint(&self) -> Result<(), CacheError> {
        Ok(())
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
        let bytes = self.content.len() as u64;
        // A copy of exactly that length. The buffer grew by doubling and may hold twice the bytes that count.
        let content = Bytes::copy_from_slice(&self.content);
        // One lock for entry and sum: a reader sees both as before the commit or as after it.
        let mut contents = self.store.lock();
        let asset = contents
            .assets
            .entry(self.asset.clone())
            .or_insert_with(|| Asset {
                last_access: Timestamp::now(),
                ..Asset::default()
            });
        let created = !asset.exists();
        let old = asset.entries.insert(self.path.clone(), content);
        contents.bytes = contents.bytes + bytes - old.as_ref().map_or(0, |old| old.len() as u64);
        drop(contents);
        Ok(Committed {
            bytes,
            replaced: old.map(|old| old.len() as u64),
            displaced: false,
            created,
            modified: None,
        })
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

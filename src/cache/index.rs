//! Sizes and recency without scanning; only an optimisation.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::path::CachePath;
use super::policy::IdHasher;
use super::store::{AssetInfo, Committed, EntryInfo, Staged, Stamp, Store, Trash};

/// Remembers what each asset of `inner` takes and when it was last used.
///
/// Its rule: the inner store is the truth. What is remembered never decides whether an entry is there, and where the
/// two are seen to differ the inner store is asked again.
pub struct IndexStore<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    inner: S,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    assets: HashMap<AssetId, Record, IdHasher>,
    /// Sum of the bytes of all assets.
    bytes: u64,
    /// Bytes of removed assets whose trash is not emptied yet.
    trash: u64,
    /// Assets the layers above have not been told of.
    news: Vec<AssetId>,
}

/// What is remembered of one asset.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    bytes: u64,
    files: u64,
    last_access: Stamp,
    pinned: bool,
    /// [`Store::modified`] when the figures above were right.
    modified: Option<Stamp>,
    /// Grows with each change, so that a look at the inner store that a change overtook is not believed.
    version: u32,
    /// Changes under way.
    busy: u32,
    /// The figures are to be read anew when no change is under way.
    stale: bool,
}

impl Record {
    fn info(&self, id: &AssetId) -> Option<AssetInfo> {
        (self.files > 0 || self.bytes > 0 || self.pinned).then(|| AssetInfo {
            id: id.clone(),
            bytes: self.bytes,
            files: self.files,
            last_access: self.last_access,
            leased: false,
            pinned: self.pinned,
            modified: self.modified,
        })
    }
}

impl<S: Store> IndexStore<S> {
    /// Remembers what `inner` holds, in memory, after one walk over it.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if `inner` cannot be listed.
    pub fn scanned(inner: S) -> Result<Self, CacheError> {
        let mut table = Table::default();
        for info in inner.assets()? {
            let id = info.id.clone();
            table.put(&id, Some(info));
        }
        Ok(Self {
            shared: Arc::new(Shared {
                inner,
                table: Mutex::new(table),
            }),
        })
    }
}

impl<S> IndexStore<S> {
    /// The store below.
    pub fn inner(&self) -> &S {
        &self.shared.inner
    }
}

impl Table {
    /// Takes over what the inner store says of an asset.
    fn put(&mut self, id: &AssetId, info: Option<AssetInfo>) {
        let old = self.assets.get(id).copied();
        self.bytes -= old.map_or(0, |old| old.bytes).min(self.bytes);
        let Some(info) = info else {
            self.assets.remove(id);
            return;
        };
        self.bytes = self.bytes.saturating_add(info.bytes);
        let record = self.assets.entry(id.bare()).or_default();
        record.bytes = info.bytes;
        record.files = info.files;
        record.pinned = info.pinned;
        record.modified = info.modified;
        record.stale = false;
        if old.is_none() {
            record.last_access = info.last_access;
            self.news.push(id.bare());
        }
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Sums and records change together, with nothing between that can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Shared<S> {
    /// Runs a change of an asset and takes over what `account` makes of it.
    fn change<T>(
        &self,
        asset: &AssetId,
        change: impl FnOnce() -> Result<T, CacheError>,
        account: impl FnOnce(&mut Record, &T),
    ) -> Result<T, CacheError> {
        self.lock().assets.entry(asset.bare()).or_default().busy += 1;
        let mut ended = Ended {
            shared: self,
            asset,
            stale: true,
        };
        let done = change();
        if let Ok(done) = &done {
            let mut table = self.lock();
            let record = table.assets.entry(asset.bare()).or_default();
            let before = record.bytes;
            account(record, done);
            let after = record.bytes;
            if record.last_access == Stamp::default() {
                record.last_access = Stamp::now();
            }
            table.bytes = table.bytes.saturating_sub(before).saturating_add(after);
            ended.stale = false;
        }
        drop(ended);
        done
    }

    /// Reads an asset's figures anew from the inner store, unless a change is under way: its end does it then.
    fn refresh(&self, asset: &AssetId) {
        for _ in 0..3 {
            let mut table = self.lock();
            let version = match table.assets.get_mut(asset) {
                Some(record) => {
                    record.stale = true;
                    if record.busy > 0 {
                        return;
                    }
                    Some(record.version)
                }
                None => None,
            };
            drop(table);
            let info = match self.inner.asset(asset) {
                Ok(info) => info,
                Err(error) => {
                    log::warn!("cannot look at asset {asset}: {error}");
                    return;
                }
            };
            let mut table = self.lock();
            let now = table
                .assets
                .get(asset)
                .map(|record| (record.version, record.busy));
            if now == version.map(|version| (version, 0)) {
                table.put(asset, info);
                return;
            }
        }
    }
}

/// Ends a change, also when it panics.
struct Ended<'a, S: Store> {
    shared: &'a Shared<S>,
    asset: &'a AssetId,
    /// What the change did is not known.
    stale: bool,
}

impl<S: Store> Drop for Ended<'_, S> {
    fn drop(&mut self) {
        let mut table = self.shared.lock();
        // Removed meanwhile: whatever the change did is to be found out.
        let record = table.assets.entry(self.asset.bare()).or_insert(Record {
            stale: true,
            busy: 1,
            ..Record::default()
        });
        record.busy = record.busy.saturating_sub(1);
        record.version = record.version.wrapping_add(1);
        record.stale |= self.stale;
        let refresh = record.stale && record.busy == 0;
        if record.busy == 0 && !refresh && record.info(self.asset).is_none() {
            table.assets.remove(self.asset);
        }
        drop(table);
        if refresh {
            self.shared.refresh(self.asset);
        }
    }
}

impl<S: Store> Store for IndexStore<S> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let entry = self.shared.inner.open(asset, path)?;
        if entry.is_none() {
            let known = self.shared.lock().assets.get(asset).map(|record| record.modified);
            // A miss where the directory has changed behind our back: the accounts heal.
            if known.is_some_and(|known| self.shared.inner.modified(asset).is_ok_and(|now| now != known)) {
                self.shared.refresh(asset);
            }
        }
        Ok(entry)
    }

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.shared.inner.contains(asset, path)
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        let inner = self.shared.inner.stage(asset, path)?;
        Ok(Box::new(IndexStaged {
            inner,
            asset: asset.clone(),
            shared: Arc::clone(&self.shared),
        }))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        let shared = &self.shared;
        let change = || {
            Ok((
                shared.inner.remove_entry(asset, path)?,
                shared.inner.modified(asset)?,
            ))
        };
        let (removed, _) = shared.change(asset, change, |record, &(removed, modified)| {
            if let Some(bytes) = removed {
                record.bytes = record.bytes.saturating_sub(bytes);
                record.files = record.files.saturating_sub(1);
            }
            record.modified = modified;
        })?;
        Ok(removed)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        let trash = self.shared.inner.remove(asset)?;
        let mut table = self.shared.lock();
        let bytes = table.assets.remove(asset).map_or(0, |record| record.bytes);
        table.bytes = table.bytes.saturating_sub(bytes);
        let Some(trash) = trash else { return Ok(None) };
        table.trash = table.trash.saturating_add(bytes);
        drop(table);
        let shared = Arc::clone(&self.shared);
        Ok(Some(Trash::new(move || {
            trash.empty()?;
            let mut table = shared.lock();
            table.trash = table.trash.saturating_sub(bytes);
            Ok(())
        })))
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let shared = &self.shared;
        let change = || {
            shared.inner.set_pinned(asset, pinned)?;
            shared.inner.modified(asset)
        };
        let account = |record: &mut Record, &modified: &Option<Stamp>| {
            record.pinned = pinned;
            record.modified = modified;
        };
        shared.change(asset, change, account).map(|_| ())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        Ok(self
            .shared
            .lock()
            .assets
            .get(asset)
            .and_then(|record| record.info(asset)))
    }

    fn modified(&self, asset: &AssetId) -> Result<Option<Stamp>, CacheError> {
        self.shared.inner.modified(asset)
    }

    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        Ok(self
            .shared
            .lock()
            .assets
            .iter()
            .filter_map(|(id, record)| record.info(id))
            .collect())
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.shared.inner.entries(asset)
    }

    fn used_bytes(&self) -> Result<u64, CacheError> {
        let table = self.shared.lock();
        Ok(table.bytes.saturating_add(table.trash))
    }

    fn overhead(&self, asset: &AssetId, path: &CachePath) -> u64 {
        self.shared.inner.overhead(asset, path)
    }

    fn touch(&self, asset: &AssetId, at: Stamp) {
        if let Some(record) = self.shared.lock().assets.get_mut(asset) {
            record.last_access = at;
        }
    }

    fn is_held(&self, asset: &AssetId) -> Result<bool, CacheError> {
        self.shared.inner.is_held(asset)
    }

    fn news(&self) -> Result<Vec<(AssetId, Stamp)>, CacheError> {
        let mut table = self.shared.lock();
        let news = std::mem::take(&mut table.news);
        Ok(news
            .into_iter()
            .filter_map(|id| {
                let at = table.assets.get(&id)?.last_access;
                Some((id, at))
            })
            .collect())
    }

    fn checkpoint(&self) -> Result<(), CacheError> {
        self.shared.inner.checkpoint()
    }
}

impl<S: fmt::Debug> fmt::Debug for IndexStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexStore")
            .field("inner", &self.shared.inner)
            .field("assets", &self.shared.lock().assets.len())
            .finish()
    }
}

/// An entry being written, whose commit is accounted.
struct IndexStaged<S> {
    inner: Box<dyn Staged>,
    asset: AssetId,
    shared: Arc<Shared<S>>,
}

impl<S: Store> Staged for IndexStaged<S> {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        self.inner.write(parts)
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        let Self { inner, asset, shared } = *self;
        shared.change(
            &asset,
            || inner.commit(),
            |record, committed| {
                record.bytes = record
                    .bytes
                    .saturating_sub(committed.replaced.unwrap_or(0))
                    .saturating_add(committed.bytes);
                record.files += u64::from(committed.replaced.is_none());
                record.modified = committed.modified;
            },
        )
    }
}

impl<S> fmt::Debug for IndexStaged<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexStaged")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

//! What is leased, pinned or being written cannot be removed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::entry::Entry;
use super::error::{CacheError, InUseSnafu};
use super::id::{AssetId, IdHasher};
use super::path::CachePath;
use super::store::{AssetInfo, Committed, EntryInfo, Partial, PartialPlace, Staged, Store, Trash};
use super::timestamp::Timestamp;

/// Protects assets from removal, by the app and by eviction.
///
/// Its rule: while an asset is leased, pinned or being written, [`remove`](Store::remove) fails with
/// [`CacheError::InUse`]. Leases are counted in memory and end with the process. Pins are kept by the inner store.
#[derive(Debug)]
pub struct LeaseStore<S> {
    inner: S,
    leases: Leases,
}

/// Takes leases on the assets of one [`LeaseStore`].
#[derive(Clone, Default)]
pub struct Leases {
    table: Arc<LeaseTable>,
}

#[derive(Default)]
struct LeaseTable {
    state: Mutex<State>,
    /// A removal has ended.
    removed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many leases and writers each asset has; assets without any are not in it.
    claims: HashMap<AssetId, u64, IdHasher>,
    /// Assets that are being removed right now. Readers no longer find them, and writers wait.
    removing: HashSet<AssetId, IdHasher>,
    /// Assets whose removal was refused since they were last free, or would have been.
    refused: HashSet<AssetId, IdHasher>,
    /// Those of them that have become free, for [`Store::changes`].
    freed: Vec<AssetId>,
}

impl State {
    /// Notes an asset that has become free, if its removal was refused before.
    fn free(&mut self, asset: &AssetId) {
        if self.refused.remove(asset) {
            self.freed.push(asset.clone());
        }
    }
}

/// A claim on an asset. The asset is not removed until its last lease is dropped.
#[must_use = "the asset is protected only while the lease lives"]
pub struct Lease {
    table: Arc<LeaseTable>,
    asset: AssetId,
}

impl Lease {
    /// The leased asset.
    pub fn asset(&self) -> &AssetId {
        &self.asset
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.table.lock();
        let Some(count) = state.claims.get_mut(&self.asset) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            state.claims.remove(&self.asset);
            state.free(&self.asset);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("asset", &self.asset)
            .finish_non_exhaustive()
    }
}

impl LeaseTable {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole whenever the lock is free: nothing under it can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leases {
    /// Leases an asset, with or without entries. Does not wait: if the asset is being removed right now, the lease protects
    /// what is written to it afterwards.
    pub fn take(&self, asset: &AssetId) -> Lease {
        self.claim(self.table.lock(), asset)
    }

    /// A lease that is taken while the asset is not being removed.
    fn take_to_write(&self, asset: &AssetId) -> Lease {
        self.claim(self.without_removal(asset), asset)
    }

    /// Waits until the asset is not being removed. A removal takes as long as one rename.
    fn without_removal(&self, asset: &AssetId) -> MutexGuard<'_, State> {
        let mut state = self.table.lock();
        while state.removing.contains(asset) {
            state = self
                .table
                .removed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn claim(&self, mut state: MutexGuard<'_, State>, asset: &AssetId) -> Lease {
        *state.claims.entry(asset.bare()).or_default() += 1;
        Lease {
            table: Arc::clone(&self.table),
            asset: asset.clone(),
        }
    }

    /// Whether the asset is being removed, so that no reader may find it. A reader that leased the asset just now would
    /// otherwise see entries that are about to go, lease or no lease.
    fn is_removing(&self, asset: &AssetId) -> bool {
        self.table.lock().removing.contains(asset)
    }

    fn is_claimed(&self, asset: &AssetId) -> bool {
        self.table.lock().claims.contains_key(asset)
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases")
            .field("assets", &self.table.lock().claims.len())
            .finish()
    }
}

/// Ends a removal, also by a panic of the inner store.
struct Removing<'a> {
    table: &'a LeaseTable,
    asset: &'a AssetId,
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        self.table.lock().removing.remove(self.asset);
        self.table.removed.notify_all();
    }
}

impl<S> LeaseStore<S> {
    /// Protects the assets of `inner`.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            leases: Leases::default(),
        }
    }

    /// Takes leases on this store's assets.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: Store> LeaseStore<S> {
    fn is_pinned(&self, asset: &AssetId) -> Result<bool, CacheError> {
        Ok(self.inner.asset(asset)?.is_some_and(|info| info.pinned))
    }
}

impl<S: Store> Store for LeaseStore<S> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        // A removal that begins after this line does no harm: the reader gets the entry whole, or none.
        if self.leases.is_removing(asset) {
            Ok(None)
        } else {
            self.inner.open(asset, path)
        }
    }

    fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        if self.leases.is_removing(asset) {
            Ok(None)
        } else {
            self.inner.get(asset, path)
        }
    }

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        if self.leases.is_removing(asset) {
            Ok(false)
        } else {
            self.inner.contains(asset, path)
        }
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        let claim = self.leases.take_to_write(asset);
        Ok(Box::new(LeaseStaged {
            inner: self.inner.stage(asset, path)?,
            claim,
        }))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        let claim = self.leases.take_to_write(asset);
        let inner = self.inner.partial(asset, path)?;
        Ok(inner.map(|inner| Box::new(LeasePartial { inner, _claim: claim }) as Box<dyn Partial>))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.inner.remove_entry(asset, path)
    }

    fn remove_damaged(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.inner.remove_damaged(asset, path)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        let table = &self.leases.table;
        // Checked before readers stop finding the asset. A pinned asset would be missing for a moment otherwise.
        if self.is_pinned(asset)? && self.is_held(asset)? {
            return InUseSnafu { asset: asset.name() }.fail();
        }
        let mut state = self.leases.without_removal(asset);
        if state.claims.contains_key(asset) {
            state.refused.insert(asset.bare());
            return InUseSnafu { asset: asset.name() }.fail();
        }
        // Marked, and the lock released: the rename takes as long as the disk does, and other assets go on meanwhile.
        state.removing.insert(asset.bare());
        drop(state);
        // Checked once more: a pin may have been set since the first check. Pinning takes a claim, which waits for this
        // removal, so no pin can appear from here on.
        let removing = Removing { table, asset };
        if self.is_pinned(asset)? {
            table.lock().refused.insert(asset.bare());
            return InUseSnafu { asset: asset.name() }.fail();
        }
        let removed = self.inner.remove(asset);
        // Writers that waited make the asset anew from here on, in a directory of its own.
        drop(removing);
        removed
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let claim = self.leases.take_to_write(asset);
        self.inner.set_pinned(asset, pinned)?;
        drop(claim);
        if !pinned {
            let mut state = self.leases.table.lock();
            if !state.claims.contains_key(asset) {
                state.free(asset);
            }
        }
        Ok(())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        let info = self.inner.asset(asset)?;
        Ok(info.map(|info| AssetInfo {
            leased: self.leases.is_claimed(asset),
            ..info
        }))
    }

    fn modified(&self, asset: &AssetId) -> Result<Option<Timestamp>, CacheError> {
        self.inner.modified(asset)
    }

    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        // Listed without the lock, which every lease of the app takes.
        let mut assets = self.inner.assets()?;
        let state = self.leases.table.lock();
        for info in &mut assets {
            info.leased = state.claims.contains_key(&info.id);
        }
        Ok(assets)
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.inner.entries(asset)
    }

    fn used_bytes(&self) -> Result<u64, CacheError> {
        self.inner.used_bytes()
    }

    fn overhead(&self, asset: &AssetId, path: Option<&CachePath>, payload: u64) -> u64 {
        self.inner.overhead(asset, path, payload)
    }

    fn ready(&self) -> Result<(), CacheError> {
        self.inner.ready()
    }

    fn touch(&self, asset: &AssetId, at: Timestamp) -> bool {
        self.inner.touch(asset, at)
    }

    fn is_held(&self, asset: &AssetId) -> Result<bool, CacheError> {
        // Noted before the pin is read. A pin that is cleared in between then becomes a change; the other way round the
        // asset would be free and never reported.
        self.leases.table.lock().refused.insert(asset.bare());
        let pinned = self.is_pinned(asset)?;
        let mut state = self.leases.table.lock();
        let held = pinned || state.claims.contains_key(asset);
        if !held {
            state.refused.remove(asset);
        }
        Ok(held)
    }

    fn changes(&self) -> Result<Vec<(AssetId, Timestamp)>, CacheError> {
        // Taken before the inner store is asked. An asset that is freed after this line is reported by the next call.
        let freed = std::mem::take(&mut self.leases.table.lock().freed);
        let mut changes = self.inner.changes()?;
        for asset in freed {
            if let Some(info) = self.inner.asset(&asset)? {
                changes.push((asset, info.last_access));
            }
        }
        Ok(changes)
    }

    fn checkpoint(&self) -> Result<(), CacheError> {
        self.inner.checkpoint()
    }
}

/// An entry being written, and the claim that keeps its asset.
#[derive(Debug)]
struct LeaseStaged {
    // Dropped in this order: the staged file is removed before the claim that protects its directory ends.
    inner: Box<dyn Staged>,
    claim: Lease,
}

impl Staged for LeaseStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        self.inner.write(parts)
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        let Self { inner, claim } = *self;
        let committed = inner.commit();
        // Held over the commit: the asset cannot be moved to the trash between its directory and the rename into it.
        drop(claim);
        committed
    }
}

/// A partial entry, and the claim that keeps its asset.
#[derive(Debug)]
struct LeasePartial {
    // Dropped in this order: the file is given up before the claim that protects its directory ends.
    inner: Box<dyn Partial>,
    _claim: Lease,
}

impl Partial for LeasePartial {
    fn place(&self) -> &PartialPlace {
        self.inner.place()
    }

    fn stored(&self) -> u64 {
        self.inner.stored()
    }

    fn reserve(&self, bytes: u64) -> Result<(), CacheError> {
        self.inner.reserve(bytes)
    }

    fn release(&self, bytes: u64) {
        self.inner.release(bytes);
    }

    fn prepare(&self) -> Result<(), CacheError> {
        self.inner.prepare()
    }

    fn taken_over(&self) {
        self.inner.taken_over();
    }

    fn closing(&self) {
        self.inner.closing();
    }

    fn commit(&self, rename: &mut dyn FnMut() -> Result<u64, CacheError>) -> Result<Committed, CacheError> {
        self.inner.commit(rename)
    }
}

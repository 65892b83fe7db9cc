//! What the layers of a cache agree on: sizes, claims, reservations, recency and the policy, under one lock.
//!
//! ```text
//!             EvictingStore   reserves, evicts
//!                  │    ╲
//!             LeaseStore ─── Accounts     one lock: `state`
//!                  │    ╱       │ asks, under no lock
//!             IndexStore        ▼
//!                  └──────── inner store
//! ```
//!
//! Locks are taken in this order: the scan's, the index files', the accounts', the trash queue's. The disk is read and
//! written under the first two alone; of foreign code the policy alone runs under the third.

pub(in crate::cache) mod state;
pub(in crate::cache) mod table;
mod update;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LockResult, PoisonError, Weak};

use self::state::{Retired, Served, State, is_served_here};
use self::table::Table;
use super::error::{CacheError, InUseSnafu, PolicyReenteredSnafu};
use super::id::AssetId;
use super::index::files::IndexFiles;
use super::policy::EvictionPolicy;
use super::progress::Progress;
use super::store::AssetInfo;
use super::sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering};
use super::timestamp::Timestamp;

/// The sizes, claims, reservations and accesses of all assets of one cache, and its policy.
///
/// An [`IndexStore`](super::IndexStore) makes them. The layers above it are given them.
pub struct Accounts {
    state: Mutex<State>,
    /// A removal has ended.
    removed: Condvar,
    /// What the policy asked for while it ran, and cannot be refused: done before the lock is released.
    late: Mutex<Vec<Late>>,
    is_late: AtomicBool,
    /// That of the policy, see [`Served`].
    key: usize,
    /// Weak: a lease keeps the accounts, and must not keep the root locked.
    below: Weak<dyn Below>,
    /// `None` if the index is in memory only.
    pub(in crate::cache) files: Option<Mutex<IndexFiles>>,
    /// The journal is started: a crash from here on is told from a clean end.
    pub(in crate::cache) begun: AtomicBool,
    /// The figures are known to be right, so that writes may begin.
    ready: AtomicBool,
    /// Held during a scan.
    scanning: Mutex<()>,
    pub(in crate::cache) progress: Progress,
}

type Late = Box<dyn FnOnce(&mut State) + Send>;

/// What the accounts ask of the store whose assets they keep. The provided methods are for a store that was listed once, and is
/// asked again about one asset at a time.
pub(in crate::cache) trait Below: Send + Sync {
    /// The figures of an asset, read anew.
    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError>;

    /// The id with its key, if an entry tells it.
    fn keyed(&self, asset: &AssetId) -> Result<Option<AssetId>, CacheError>;

    /// When the asset's directory last changed, where that can be told.
    fn modified(&self, _asset: &AssetId) -> Option<Timestamp> {
        None
    }

    /// Whether an asset may have changed since it was `modified` last.
    fn may_differ(&self, _asset: &AssetId, _modified: Option<Timestamp>) -> bool {
        true
    }

    /// Bytes that the disk has room for still, where that can be told.
    #[cfg(feature = "offline")]
    fn free(&self) -> Option<u64> {
        None
    }

    /// Frees what earlier sessions left and no account counts.
    fn sweep(&self) -> Result<(), CacheError> {
        Ok(())
    }

    /// Finds what is there.
    fn scan(&self, _accounts: &Accounts) -> Result<(), CacheError> {
        Ok(())
    }
}

/// The state, locked. Dropping it does what was put off, and unlocks.
pub(in crate::cache) struct Locked<'a> {
    accounts: &'a Accounts,
    // Dropped in this order: a policy that panicked is foreign code, and is dropped when the lock is free.
    state: MutexGuard<'a, State>,
    retired: Option<Retired>,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Before the unlock: an eviction that is being decided must see what the policy leased in the middle of it.
        // Nothing is put off but by the policy, which ran under this very lock.
        if self.accounts.is_late.load(Ordering::Relaxed) {
            self.accounts.is_late.store(false, Ordering::Relaxed);
            for effect in std::mem::take(&mut *self.accounts.late()) {
                effect(&mut self.state);
            }
        }
        self.retired = self.state.policy.retired.take();
    }
}

impl Accounts {
    pub(in crate::cache) fn new(
        table: Table,
        below: Weak<dyn Below>,
        files: Option<IndexFiles>,
        ready: bool,
        progress: Progress,
    ) -> Arc<Self> {
        let policy = Served::new();
        Arc::new(Self {
            key: policy.key,
            state: Mutex::new(State::new(table, policy)),
            removed: Condvar::new(),
            late: Mutex::default(),
            is_late: AtomicBool::new(false),
            below,
            files: files.map(Mutex::new),
            begun: AtomicBool::new(false),
            ready: AtomicBool::new(ready),
            scanning: Mutex::new(()),
            progress,
        })
    }

    /// Locks the state. The one place where a call from inside the policy is noticed: every call of the cache comes here
    /// before it changes anything.
    pub(in crate::cache) fn lock(&self) -> Result<Locked<'_>, CacheError> {
        self.check()?;
        Ok(self.state())
    }

    /// Locks the state without that check, for what comes after it. A thread that runs the policy would wait for itself.
    pub(in crate::cache) fn state(&self) -> Locked<'_> {
        let mut state = self.locked(self.state.lock());
        state.settle_accesses();
        state
    }

    /// Fails on the thread that runs the policy of these accounts.
    pub(in crate::cache) fn check(&self) -> Result<(), CacheError> {
        if is_served_here(self.key) {
            return PolicyReenteredSnafu.fail();
        }
        Ok(())
    }

    fn locked<'a>(&'a self, state: LockResult<MutexGuard<'a, State>>) -> Locked<'a> {
        Locked {
            accounts: self,
            // Sums and accounts change together, with nothing between that can panic but the policy, and that is caught.
            state: state.unwrap_or_else(PoisonError::into_inner),
            retired: None,
        }
    }

    /// Locks the state once the asset is not being removed. A removal takes as long as one rename.
    fn lock_without_removal(&self, asset: &AssetId) -> Result<Locked<'_>, CacheError> {
        self.check()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.removing.contains(asset) {
            state = self.removed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut state = self.locked(Ok(state));
        state.settle_accesses();
        Ok(state)
    }

    /// Does what cannot fail: now, or, if the policy asks for it, before the lock under which it runs is released.
    pub(in crate::cache) fn run_or_defer(&self, effect: impl FnOnce(&mut State) + Send + 'static) {
        if self.check().is_ok() {
            // Not settled: a claim, a reservation and a list of what is to be told do not depend on accesses, and a lease that
            // is taken or dropped costs no lookup for those before it.
            effect(&mut self.locked(self.state.lock()));
        } else {
            self.late().push(Box::new(effect));
            self.is_late.store(true, Ordering::Relaxed);
        }
    }

    fn late(&self) -> MutexGuard<'_, Vec<Late>> {
        // A list is whole after every call made on it.
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an access of the app at a time of its own, no earlier than `at`. One of an asset that is not there is forgotten.
    ///
    /// # Errors
    ///
    /// [`CacheError::PolicyReentered`].
    pub fn touch(&self, asset: &AssetId, at: Timestamp) -> Result<(), CacheError> {
        self.check()?;
        // Not settled: that is what makes it cheap.
        self.locked(self.state.lock()).touch(asset, at);
        Ok(())
    }

    /// Has `policy` pick victims, and bounds everything by `max_bytes`.
    pub(in crate::cache) fn govern(&self, policy: Box<dyn EvictionPolicy>, max_bytes: u64) {
        self.run_or_defer(move |state| {
            state.policy.set(policy);
            state.max_bytes = max_bytes;
            // Both in one step. A write in between would be held to a limit that no policy can keep.
            let table = &mut state.table;
            if table.found.len() != table.assets.len() {
                // Whatever was put before there was a policy to be told.
                table.found = table.assets.keys().cloned().collect();
                table.in_order = false;
            }
        });
    }

    /// Tells the policy what it begins with, a part at a time. Otherwise the first eviction would tell it all under the lock.
    pub(in crate::cache) fn introduce(&self) {
        while self.lock().is_ok_and(|mut state| state.tell_some_found()) {}
    }

    /// Takes the policy out for good. No room is made from here on.
    pub(in crate::cache) fn retire(&self) -> Option<Box<dyn EvictionPolicy>> {
        let mut state = self.lock().ok()?;
        state.tell_uses();
        state.policy.take()
    }

    /// Claims an asset, with or without entries. Does not wait: if the asset is being removed right now, the lease protects
    /// what is written to it afterwards.
    pub(in crate::cache) fn lease(self: &Arc<Self>, asset: &AssetId) -> Lease {
        // Claimed and counted as used in one step. Between two steps another thread could be asked for victims, and be
        // told a time of this asset that is no longer its last one.
        let (lease, claimed) = (self.lease_of(asset), asset.bare());
        self.run_or_defer(move |state| {
            state.claim(&claimed);
            // Counts as an access.
            state.touch(&claimed, Timestamp::default());
        });
        lease
    }

    /// Claims an asset for writing to it, once it is not being removed.
    pub(in crate::cache) fn claim(self: &Arc<Self>, asset: &AssetId) -> Result<Lease, CacheError> {
        // A writer that did not wait would put its file into the directory that is on its way to the trash.
        self.lock_without_removal(asset)?.claim(asset);
        Ok(self.lease_of(asset))
    }

    fn lease_of(self: &Arc<Self>, asset: &AssetId) -> Lease {
        Lease {
            asset: asset.clone(),
            accounts: Arc::clone(self),
        }
    }

    /// Whether the asset is being removed, so that no reader may find it. A reader that leased the asset just now would
    /// otherwise see entries that are about to go, lease or no lease.
    pub(in crate::cache) fn is_removing(&self, asset: &AssetId) -> Result<bool, CacheError> {
        Ok(self.lock()?.removing.contains(asset))
    }

    /// Begins the removal of an asset that nothing holds.
    pub(in crate::cache) fn begin_removal<'a>(
        &'a self,
        asset: &'a AssetId,
    ) -> Result<Removing<'a>, CacheError> {
        let mut state = self.lock_without_removal(asset)?;
        if state.is_held(asset) {
            return InUseSnafu { asset: asset.name() }.fail();
        }
        // Marked, and the lock released: the rename takes as long as the disk does, and other assets go on meanwhile. No
        // pin can appear from here on, for pinning takes a claim, which waits for this removal.
        state.removing.insert(asset.bare());
        Ok(Removing {
            accounts: self,
            asset,
        })
    }

    pub(in crate::cache) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Makes the figures known, so that writes may begin. Returns at once when that is done.
    pub(in crate::cache) fn ready(&self) -> Result<(), CacheError> {
        self.check()?;
        if self.is_ready() {
            return Ok(());
        }
        // The first caller scans, the others wait for it here and find the store ready.
        let _scanning = self.lock_scan();
        // Asked again under the lock: the thread that had it may have scanned.
        if !self.is_ready() {
            let below = self.below();
            if let Some(below) = below {
                below.sweep()?;
                below.scan(self)?;
            }
            self.ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Scans, also where the figures are known: files may have been changed from outside.
    pub(in crate::cache) fn scan(&self) -> Result<(), CacheError> {
        if !self.is_ready() {
            return self.ready();
        }
        let _scanning = self.lock_scan();
        self.below().map_or(Ok(()), |below| below.scan(self))
    }

    /// The figures with the asset's key, if that can be told. Not kept: the keys of a million assets would take more memory than
    /// all else that is known of them.
    pub(in crate::cache) fn keyed(&self, info: AssetInfo) -> AssetInfo {
        let below = self.below().filter(|_| info.id.key().is_none());
        let keyed = below.map_or(Ok(None), |below| below.keyed(&info.id));
        match keyed {
            Ok(Some(id)) => AssetInfo { id, ..info },
            Ok(None) => info,
            Err(error) => {
                log::warn!("cannot read the key of asset {}: {error}", info.id);
                info
            }
        }
    }

    fn lock_scan(&self) -> MutexGuard<'_, ()> {
        // It guards no value: a scan that panicked has not marked anything as done.
        self.scanning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` once the cache is closed.
    fn below(&self) -> Option<Arc<dyn Below>> {
        self.below.upgrade()
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assets = self.lock().map(|state| state.table.assets.len());
        f.debug_struct("Accounts")
            .field("assets", &assets.unwrap_or_default())
            .finish_non_exhaustive()
    }
}

/// A claim on an asset. The asset is not removed until its last lease is dropped.
#[must_use = "the asset is protected only while the lease lives"]
pub struct Lease {
    accounts: Arc<Accounts>,
    asset: AssetId,
}

impl Lease {
    /// The leased asset.
    pub fn asset(&self) -> &AssetId {
        &self.asset
    }

    pub(in crate::cache) fn accounts(&self) -> &Accounts {
        &self.accounts
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let asset = self.asset.bare();
        self.accounts.run_or_defer(move |state| state.release(&asset));
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("asset", &self.asset)
            .finish_non_exhaustive()
    }
}

/// A removal under way. Dropping it ends the removal, also by a panic of the inner store.
pub(in crate::cache) struct Removing<'a> {
    accounts: &'a Accounts,
    asset: &'a AssetId,
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        let asset = self.asset.bare();
        self.accounts.run_or_defer(move |state| {
            state.removing.remove(&asset);
        });
        // All are woken: they wait for different assets. After the unlock, as a woken thread would only wait for it.
        self.accounts.removed.notify_all();
    }
}

//! A store that lets a test act in the middle of a call, or fail the call.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use kithara::cache::{
    AssetId, AssetInfo, CacheError, CachePath, Committed, Entry, EntryInfo, Partial, Staged, Store, Trash,
};

/// Runs hooks around the next removal of an asset, the next reading of one's figures, the next pin, and the end of the next
/// staged entry.
pub(super) struct Hooked<S> {
    inner: S,
    hooks: Arc<Hooks>,
}

#[derive(Default)]
pub(super) struct Hooks {
    /// Before an asset is removed.
    pub(super) before_removal: Next<Hook>,
    /// When an asset was removed, before the caller knows.
    pub(super) after_removal: Next<Hook>,
    /// Before an asset's figures are read.
    pub(super) before_info: Next<Hook>,
    /// When an asset's figures were read, before the caller knows them.
    pub(super) after_info: Next<Hook>,
    /// When an asset was pinned or unpinned, before the caller knows.
    pub(super) after_pin: Next<Hook>,
    /// When an entry was removed, before the caller knows.
    pub(super) after_entry_removal: Next<Hook>,
    /// Before a staged entry is discarded or committed.
    pub(super) before_end: Next<Hook>,
    /// When a staged entry was committed, before the caller knows.
    pub(super) after_commit: Next<Hook>,
    /// The error of the next removal, which is not tried then.
    pub(super) removal_fails: Next<CacheError>,
    /// The error of the next reading of an asset's figures.
    pub(super) info_fails: Next<CacheError>,
}

pub(super) type Hook = Box<dyn FnOnce() + Send>;

/// What is there for the next call only.
pub(super) struct Next<T>(Mutex<Option<T>>);

impl<T> Default for Next<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Next<T> {
    fn take(&self) -> Option<T> {
        self.0.lock().unwrap().take()
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }
}

impl Next<Hook> {
    pub(super) fn set(&self, hook: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(hook));
    }

    pub(super) fn run(&self) {
        if let Some(hook) = self.take() {
            hook();
        }
    }
}

impl Next<CacheError> {
    pub(super) fn set(&self, error: CacheError) {
        *self.0.lock().unwrap() = Some(error);
    }
}

impl<S> Hooked<S> {
    pub(super) fn over(inner: S) -> (Self, Arc<Hooks>) {
        let hooks = Arc::<Hooks>::default();
        let hooked = Self {
            inner,
            hooks: Arc::clone(&hooks),
        };
        (hooked, hooks)
    }
}

impl<S> fmt::Debug for Hooked<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooked").finish_non_exhaustive()
    }
}

impl<S: Store> Store for Hooked<S> {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        self.inner.open(asset, path)
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        Ok(Box::new(HookedStaged {
            before_end: BeforeEnd(Arc::clone(&self.hooks)),
            inner: self.inner.stage(asset, path)?,
        }))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.inner.partial(asset, path)
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        let removed = self.inner.remove_entry(asset, path);
        self.hooks.after_entry_removal.run();
        removed
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        self.hooks.before_removal.run();
        if let Some(error) = self.hooks.removal_fails.take() {
            return Err(error);
        }
        let removed = self.inner.remove(asset);
        self.hooks.after_removal.run();
        removed
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let pinned = self.inner.set_pinned(asset, pinned);
        self.hooks.after_pin.run();
        pinned
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.hooks.before_info.run();
        if let Some(error) = self.hooks.info_fails.take() {
            return Err(error);
        }
        let info = self.inner.asset(asset);
        self.hooks.after_info.run();
        info
    }

    fn list(&self) -> Result<Vec<AssetInfo>, CacheError> {
        self.inner.list()
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        self.inner.entries(asset)
    }
}

/// Dropped before the staged entry that it belongs to.
struct BeforeEnd(Arc<Hooks>);

impl Drop for BeforeEnd {
    fn drop(&mut self) {
        self.0.before_end.run();
    }
}

struct HookedStaged {
    before_end: BeforeEnd,
    inner: Box<dyn Staged>,
}

impl fmt::Debug for HookedStaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedStaged").finish_non_exhaustive()
    }
}

impl Staged for HookedStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        self.inner.write(parts)
    }

    fn overhead(&self, payload: u64) -> u64 {
        self.inner.overhead(payload)
    }

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        let Self { before_end, inner } = *self;
        let hooks = Arc::clone(&before_end.0);
        drop(before_end);
        let committed = inner.commit();
        hooks.after_commit.run();
        committed
    }
}

//! A store that lets a test act in the middle of a call, or fail it.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::path::CachePath;
use super::store::{AssetInfo, Committed, EntryInfo, Partial, Staged, Store, Trash};
use super::timestamp::Timestamp;

/// Runs hooks about the next removal of an asset, the next look at one, and the end of the next staged entry.
pub(super) struct Hooked<S> {
    inner: S,
    hooks: Arc<Hooks>,
}

#[derive(Default)]
pub(super) struct Hooks {
    /// When it is to be removed.
    pub(super) before: Next<Hook>,
    /// Before whoever removes it has heard that it is gone.
    pub(super) after: Next<Hook>,
    /// Before the scan.
    pub(super) before_info: Next<Hook>,
    /// Before whoever looks has heard what is there.
    pub(super) after_info: Next<Hook>,
    /// Before a staged entry is gone, or committed.
    pub(super) dropping: Next<Hook>,
    /// What the next removal answers, without being tried.
    pub(super) removal_fails: Next<CacheError>,
    /// What the next look answers.
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

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        self.inner.contains(asset, path)
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        Ok(Box::new(HookedStaged {
            dropping: Dropping(Arc::clone(&self.hooks)),
            inner: self.inner.stage(asset, path)?,
        }))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.inner.partial(asset, path)
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.inner.remove_entry(asset, path)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        self.hooks.before.run();
        if let Some(error) = self.hooks.removal_fails.take() {
            return Err(error);
        }
        let removed = self.inner.remove(asset);
        self.hooks.after.run();
        removed
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        self.inner.set_pinned(asset, pinned)
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

    fn modified(&self, asset: &AssetId) -> Result<Option<Timestamp>, CacheError> {
        self.inner.modified(asset)
    }

    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        self.inner.assets()
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
        self.inner.is_held(asset)
    }

    fn changes(&self) -> Result<Vec<(AssetId, Timestamp)>, CacheError> {
        self.inner.changes()
    }

    fn checkpoint(&self) -> Result<(), CacheError> {
        self.inner.checkpoint()
    }
}

/// Dropped before the staged entry it goes with.
struct Dropping(Arc<Hooks>);

impl Drop for Dropping {
    fn drop(&mut self) {
        self.0.dropping.run();
    }
}

struct HookedStaged {
    dropping: Dropping,
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

    fn commit(self: Box<Self>) -> Result<Committed, CacheError> {
        let Self { dropping, inner } = *self;
        drop(dropping);
        inner.commit()
    }
}

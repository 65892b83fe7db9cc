//! The contract every store and every layer keeps.

mod info;
mod partial;

use std::fmt;

use bytes::Bytes;

use super::entry::Entry;
use super::error::{CacheError, NotSupportedSnafu};
use super::id::AssetId;
use super::path::CachePath;

pub use self::info::{AssetInfo, EntryInfo};
pub use self::partial::{Partial, PartialPlace};

/// Keeps assets, each made of entries.
///
/// The trait is synchronous and minimal: what an app's own store has to do. A layer wraps a store, adds one rule and
/// forwards the rest. Sizes, claims and accesses are not the store's: the [`Accounts`](super::Accounts) keep them. Calls may
/// block, so no async task may make them; [`AssetCache`](super::AssetCache) hops to a blocking thread instead.
///
/// # Contract
///
/// - An entry is one version, whole. What [`open`](Self::open) returns was committed by one [`Staged::commit`] and stays
///   readable whatever happens to the store afterwards.
/// - A staged entry is invisible until its commit returns or fails. Dropping it discards it.
/// - An absent entry or asset is `None`, never an error. A damaged entry is absent.
/// - After [`remove`](Self::remove) nothing of the asset can be opened. Its bytes count until its [`Trash`] is emptied.
/// - Sizes are true: those that [`Committed`] and the removals tell add up to those that [`asset`](Self::asset) tells.
///
/// With the feature `test-util` `cache::contract` checks all of it.
///
/// # Implementing
///
/// All methods take `&self` and are called from many threads at once. Hold no lock while you drop or call a value of the
/// caller. A commit replaces the old version in one step; what two overlapping commits of one entry say they replaced must be
/// what each of them replaced.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Opens an entry for reading. Only the entry's own bytes decide a hit, never an index.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the entry may be there and cannot be opened.
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError>;

    /// Whether the entry is there, as far as that shows without reading all its bytes. Not an access: the asset's recency
    /// stays.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    fn exists(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        Ok(self.open(asset, path)?.is_some())
    }

    /// The whole entry, checked against its checksums. The provided method opens the entry and reads it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        match self.open(asset, path)? {
            Some(entry) => entry.read_or_miss(),
            None => Ok(None),
        }
    }

    /// Starts a new version of an entry.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`], or a layer's refusal.
    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError>;

    /// Stores a whole entry.
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage), [`Staged::write`] and [`Staged::commit`].
    fn put(&self, asset: &AssetId, path: &CachePath, bytes: Bytes) -> Result<Committed, CacheError> {
        let mut staged = self.stage(asset, path)?;
        staged.write(&[bytes])?;
        staged.commit()
    }

    /// Claims the partial file of an entry, to be filled in any order and over several sessions. `None` if the file is
    /// claimed already.
    ///
    /// # Errors
    ///
    /// [`CacheError::NotSupported`] from a store without files, which the provided method always returns: sources then keep
    /// whole entries. [`CacheError::Io`].
    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        let _ = (asset, path);
        NotSupportedSnafu {
            what: "partial entries",
        }
        .fail()
    }

    /// Removes one entry. Returns the bytes it took, or `None` if there was no entry.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError>;

    /// Reads an entry against its checksums and removes it if they do not match. Returns the bytes it took, or `None` if
    /// the entry is intact or absent. The provided method does nothing: it is for stores whose bytes cannot be damaged.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn remove_damaged(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        let _ = (asset, path);
        Ok(None)
    }

    /// Removes an asset in one step: afterwards no reader finds it. Its bytes are freed when the returned [`Trash`] is
    /// emptied. `None` if there was no such asset.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]; [`CacheError::InUse`] from a layer that protects the asset.
    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError>;

    /// Sets or clears the pin, the durable "keep offline" mark. An asset can be pinned before it has an entry.
    ///
    /// # Errors
    ///
    /// [`CacheError::NotSupported`] from a store that keeps no pins, which the provided method always returns if it is asked
    /// to set one. [`CacheError::Io`], or a layer's refusal.
    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let _ = asset;
        // An asset without a pin is what was asked for.
        if pinned {
            return NotSupportedSnafu { what: "pins" }.fail();
        }
        Ok(())
    }

    /// What is known of one asset; `None` if it has neither entries nor a pin. The provided method lists all.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        Ok(self.list()?.into_iter().find(|info| info.id == *asset))
    }

    /// All assets, in no order.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn list(&self) -> Result<Vec<AssetInfo>, CacheError>;

    /// The entries of one asset, in no order.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError>;
}

/// A new version of an entry, invisible until it is committed. Dropping it discards it.
pub trait Staged: fmt::Debug + Send {
    /// Appends all of `parts`.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`], or a layer's refusal. Afterwards the version cannot be committed any more.
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError>;

    /// The version will have `len` bytes of payload. Until this is said a layer with a limit evicts no more than its share for
    /// it. The provided method is for stores and layers without a limit.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] if that can never fit now. Nothing is evicted for it.
    fn expect_len(&mut self, len: u64) -> Result<(), CacheError> {
        let _ = len;
        Ok(())
    }

    /// The most bytes that the commit takes on top of its `payload` bytes. Room for them is made before they are written.
    /// With `payload` itself it never falls as that grows. The provided method says 0.
    fn overhead(&self, payload: u64) -> u64 {
        let _ = payload;
        0
    }

    /// Makes the version visible, in the place of the old one.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The old version stays, with one exception: if only the sync of the directory failed, the new
    /// version is visible and may not survive a power cut.
    fn commit(self: Box<Self>) -> Result<Committed, CacheError>;
}

/// What a commit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// Bytes the entry takes now, with all that belongs to it.
    pub bytes: u64,
    /// Bytes of the version it replaced, if there was one.
    pub replaced: Option<u64>,
    /// A directory stood under the entry's name and was removed. The asset's size has to be read anew.
    pub(crate) displaced: bool,
}

impl Committed {
    /// A commit of an entry that takes `bytes` now, in the place of a version of `replaced` bytes if there was one.
    pub fn new(bytes: u64, replaced: Option<u64>) -> Self {
        Self {
            bytes,
            replaced,
            displaced: false,
        }
    }
}

/// A removed asset whose bytes are still kept. [`empty`](Self::empty) frees them. If the trash is dropped instead, the next
/// session frees them when it opens the store.
#[must_use = "the bytes of a removed asset stay until its trash is emptied"]
pub struct Trash {
    work: Box<dyn FnOnce() -> Result<(), CacheError> + Send>,
}

impl Trash {
    /// Trash whose bytes `work` frees.
    pub fn new(work: impl FnOnce() -> Result<(), CacheError> + Send + 'static) -> Self {
        Self { work: Box::new(work) }
    }

    /// Frees the bytes.
    ///
    /// # Errors
    ///
    /// The error of `work`. The bytes then still count.
    pub fn empty(self) -> Result<(), CacheError> {
        (self.work)()
    }
}

impl fmt::Debug for Trash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trash").finish_non_exhaustive()
    }
}

//! The contract every store and every layer keeps.

mod partial;

use std::fmt;

use bytes::Bytes;

use super::entry::Entry;
use super::error::CacheError;
use super::id::AssetId;
use super::path::CachePath;
use super::timestamp::Timestamp;

pub use self::partial::{Partial, PartialPlace};

/// Keeps assets, each made of entries.
///
/// The trait is synchronous and minimal. A layer wraps a store, adds one rule and forwards the rest. Calls may block on
/// the disk, so no async task may make them; [`AssetCache`](super::AssetCache) hops to a blocking thread instead.
///
/// # Contract
///
/// - An entry is one version, whole. What [`open`](Self::open) returns was committed by one [`Staged::commit`] and stays
///   readable whatever happens to the store afterwards.
/// - A staged entry is invisible until its commit returns or fails. Dropping it discards it.
/// - An absent entry or asset is `None`, never an error. A damaged entry is absent.
/// - After [`remove`](Self::remove) nothing of the asset can be opened. Its bytes count until its [`Trash`] is emptied.
/// - [`used_bytes`](Self::used_bytes) counts every byte the store keeps. Bytes that are staged and not committed count
///   only where a layer reserves room for them.
///
/// # Implementing
///
/// All methods take `&self` and are called from many threads at once. Hold no lock while you drop or call a value of the
/// caller.
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
    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError>;

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
    /// [`CacheError::Io`]; [`CacheError::NoFiles`] from a store without files. The provided method always returns the
    /// latter.
    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        let _ = (asset, path);
        Err(CacheError::NoFiles)
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
    /// [`CacheError::Io`], or a layer's refusal.
    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError>;

    /// What is known of one asset; `None` if it has neither entries nor a pin.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError>;

    /// When an entry of the asset was last created, replaced or removed, told without reading the entries. Two different
    /// answers mean a change. `None` if the store cannot tell.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn modified(&self, asset: &AssetId) -> Result<Option<Timestamp>, CacheError>;

    /// All assets, in no order.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError>;

    /// The entries of one asset, in no order.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError>;

    /// Bytes kept, with bookkeeping and trash, without staged entries. A layer that reserves room adds its reservations.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn used_bytes(&self) -> Result<u64, CacheError>;

    /// The most bytes that a commit can add to [`used_bytes`](Self::used_bytes) on top of its `payload` bytes; without a
    /// path, the most that pinning the asset can add. Never falls as `payload` grows.
    fn overhead(&self, asset: &AssetId, path: Option<&CachePath>, payload: u64) -> u64;

    /// Makes the store ready for writing: scans it if its content is not known yet, and removes what a killed session
    /// left. Returns at once when that is done. Reading needs no such wait.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The next call tries again.
    fn ready(&self) -> Result<(), CacheError>;

    /// Records that the app used the asset at `at`. Returns whether the store knows of such an asset. Writes nothing to
    /// disk.
    fn touch(&self, asset: &AssetId, at: Timestamp) -> bool;

    /// Whether a removal would be refused now because the asset is in use. If so, [`changes`](Self::changes) reports the
    /// asset once it is free.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn is_held(&self, asset: &AssetId) -> Result<bool, CacheError>;

    /// Assets that have become evictable since the last call, each with its last access. The first call returns all assets
    /// that were there when the store was opened; later calls those that a scan found or that are no longer held.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn changes(&self) -> Result<Vec<(AssetId, Timestamp)>, CacheError>;

    /// Makes bookkeeping durable, so that a crash after this call loses none of it.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The entries themselves are safe.
    fn checkpoint(&self) -> Result<(), CacheError>;
}

/// A new version of an entry, invisible until it is committed. Dropping it discards it.
pub trait Staged: fmt::Debug + Send {
    /// Appends all of `parts`.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`], or a layer's refusal. Afterwards the version cannot be committed any more.
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError>;

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
    /// Bytes the entry takes now, with its footer.
    pub bytes: u64,
    /// Bytes of the version it replaced, if there was one.
    pub replaced: Option<u64>,
    /// A directory stood under the entry's name and was removed. The asset's size has to be read anew.
    pub displaced: bool,
    /// The asset had no entry and no pin before, as far as the store knows.
    pub created: bool,
    /// [`Store::modified`] of the asset after this commit.
    pub modified: Option<Timestamp>,
}

/// A removed asset whose bytes are still on disk. [`empty`](Self::empty) frees them. If the trash is dropped instead, the
/// next session frees them when it opens the store.
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

/// What is known of an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssetInfo {
    /// Which asset.
    pub id: AssetId,
    /// Bytes its files take, with footers, pin and partial files.
    pub bytes: u64,
    /// Number of its entries.
    pub files: u64,
    /// When the app last used it.
    pub last_access: Timestamp,
    /// Whether it is leased or being written right now.
    pub leased: bool,
    /// Whether it carries the durable "keep offline" mark.
    pub pinned: bool,
    /// When its directory last changed. `None` without a directory, or where that time cannot be trusted.
    pub(crate) modified: Option<Timestamp>,
}

/// What is known of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryInfo {
    /// Which entry.
    pub path: CachePath,
    /// Length of its payload in bytes.
    pub len: u64,
    /// [`AssetId::key`] of its asset when it was written. A listing can show it in place of the hash.
    pub asset_key: Option<String>,
}

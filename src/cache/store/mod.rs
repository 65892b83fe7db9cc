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

/// Assets made of entries.
///
/// Synchronous and minimal: a layer wraps a store, adds one rule and forwards the rest. Calls may block on the disk;
/// none may be made from an async task (the [`AssetCache`](super::AssetCache) hops to a blocking thread for that).
///
/// # Contract
///
/// - An entry is one version, whole: what [`open`](Self::open) gives was committed by one [`Staged::commit`], and
///   stays readable whatever happens to the store afterwards.
/// - A staged entry is invisible until its commit returns or fails, and gone if it is dropped.
/// - An absent entry or asset is `None`, never an error. What is damaged is absent.
/// - After [`remove`](Self::remove) nothing of the asset can be opened; its bytes count until the [`Trash`] is
///   emptied.
/// - [`used_bytes`](Self::used_bytes) counts every byte the store keeps; those staged but not committed count where
///   room is reserved for them.
///
/// # Implementing
///
/// All methods take `&self` and are called from many threads at once. Hold no lock while a value of the caller is
/// dropped or called.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Opens an entry for reading. The file is the truth: no bookkeeping decides a hit.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if the entry may be there but cannot be opened.
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError>;

    /// Whether the entry is there, as far as that is seen without reading all of it. Does not count as use.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError>;

    /// The whole entry, read and checked; the provided method opens it for that.
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

    /// Claims the partial file of an entry, to be filled in any order and over several sessions. `None` if somebody
    /// else has it.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]; [`CacheError::NoFiles`] from a store that keeps none, which is what the provided method
    /// answers.
    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        let _ = (asset, path);
        Err(CacheError::NoFiles)
    }

    /// Removes one entry and says how many bytes it took; `None` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError>;

    /// Reads an entry against its checksums and removes it if it is not what was stored. Says how many bytes it took;
    /// `None` if there was none, or it is right. The provided method is for stores that nothing can damage.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn remove_damaged(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        let _ = (asset, path);
        Ok(None)
    }

    /// Takes an asset out of sight in one step; `None` if there was none.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]; [`CacheError::InUse`] from a layer that protects it.
    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError>;

    /// Sets or clears the durable "keep offline" mark. An asset can be pinned before it has an entry.
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

    /// When entries of the asset were last made, replaced or removed, without looking at them. Two different answers
    /// mean a change; `None` if there is no telling.
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

    /// Bytes kept, bookkeeping and trash included, staged entries not; a layer that reserves room adds what it has
    /// reserved.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn used_bytes(&self) -> Result<u64, CacheError>;

    /// The most that committing this entry with so long a payload, or pinning the asset where there is no path, can add
    /// to [`used_bytes`](Self::used_bytes) beyond the payload. Grows with it.
    fn overhead(&self, asset: &AssetId, path: Option<&CachePath>, payload: u64) -> u64;

    /// Finishes what must be finished before anything is written: finds out what is there where that is not known,
    /// removes what a killed session left. Returns at once when it is done already. Reading needs no such wait.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The next call tries again.
    fn ready(&self) -> Result<(), CacheError>;

    /// Notes that the app used the asset at `at`, and says whether there is such an asset as far as the store
    /// remembers. Writes nothing.
    fn touch(&self, asset: &AssetId, at: Timestamp) -> bool;

    /// Whether a removal would be refused now because the asset is in use. If so, [`changes`](Self::changes) tells when
    /// that has changed.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn is_held(&self, asset: &AssetId) -> Result<bool, CacheError>;

    /// Assets that may be removed and that the caller may not know of, with their last use: on the first call all
    /// that were there when the store was opened, afterwards those found on disk or no longer held. Each is told
    /// once.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn changes(&self) -> Result<Vec<(AssetId, Timestamp)>, CacheError>;

    /// Makes bookkeeping durable, so that a crash loses none of it.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The entries are not at stake.
    fn checkpoint(&self) -> Result<(), CacheError>;
}

/// A new version of an entry, invisible until it is committed. Dropping it discards it.
pub trait Staged: fmt::Debug + Send {
    /// Appends all of `parts`.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`], or a layer's refusal. The version cannot be committed afterwards.
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError>;

    /// Makes the version visible, in the place of the old one.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`]. The old version stands; after a failed sync of the directory the new one does, and may
    /// not survive a power cut.
    fn commit(self: Box<Self>) -> Result<Committed, CacheError>;
}

/// What a commit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// Bytes the entry takes now, its footer included.
    pub bytes: u64,
    /// Bytes of the version it replaced, if there was one.
    pub replaced: Option<u64>,
    /// Something else than an entry stood under its name, a directory, and was removed: what the asset takes has to be
    /// looked at.
    pub displaced: bool,
    /// The asset had no entry and no pin before, as far as the store remembers.
    pub created: bool,
    /// [`Store::modified`] of the asset, as of this commit.
    pub modified: Option<Timestamp>,
}

/// A removed asset whose bytes are still on disk. Emptying it frees them; dropping it leaves them to the next open.
#[must_use = "the bytes of a removed asset stay until its trash is emptied"]
pub struct Trash {
    work: Box<dyn FnOnce() -> Result<(), CacheError> + Send>,
}

impl Trash {
    /// Trash that `work` empties.
    pub fn new(work: impl FnOnce() -> Result<(), CacheError> + Send + 'static) -> Self {
        Self { work: Box::new(work) }
    }

    /// Frees the bytes.
    ///
    /// # Errors
    ///
    /// What `work` answers; the bytes then still count.
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
    /// Bytes its files take.
    pub bytes: u64,
    /// Number of its entries.
    pub files: u64,
    /// When the app last used it.
    pub last_access: Timestamp,
    /// Whether it is leased or being written right now.
    pub leased: bool,
    /// Whether it carries the durable "keep offline" mark.
    pub pinned: bool,
    /// When its directory last changed, if it has one.
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
    /// [`AssetId::key`] of its asset when it was written: what a listing can show instead of a hash.
    pub asset_key: Option<String>,
}

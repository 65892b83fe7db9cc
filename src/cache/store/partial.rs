//! The claim on a partial entry, which each layer wraps as it wraps a store.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Committed;
use crate::cache::error::CacheError;
use crate::storage::Durability;
use crate::storage::durable::Disk;

/// The claim on the partial file of one entry. While it lives nothing else can claim the file, and its asset is not
/// removed.
///
/// Each layer wraps the claim of its inner store, as it wraps a [`Staged`](super::Staged) entry.
pub trait Partial: fmt::Debug + Send + Sync {
    /// The paths of the entry and of its partial file.
    fn place(&self) -> &PartialPlace;

    /// Bytes on disk when the claim was made.
    fn stored(&self) -> u64;

    /// Reserves room for `bytes` before they are written. The provided method is for stores and layers without a limit.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] from a layer with a limit.
    fn reserve(&self, bytes: u64) -> Result<(), CacheError> {
        let _ = bytes;
        Ok(())
    }

    /// The file will take `len` bytes in the end, with what is there of it. Until this is said a layer with a limit evicts no
    /// more than its share for the file. The provided method is for stores and layers without a limit.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] if that can never fit now. Nothing is evicted for it.
    fn expect_len(&self, len: u64) -> Result<(), CacheError> {
        let _ = len;
        Ok(())
    }

    /// Gives back reserved room that was not written to.
    fn release(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Creates the directory of the files. Called before the first write, so that a claim without a write leaves nothing
    /// behind.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn prepare(&self) -> Result<(), CacheError>;

    /// The caller has reserved the [`stored`](Self::stored) bytes. From here on they count there, and the store no longer
    /// counts them.
    fn taken_over(&self);

    /// The claim ends soon: its last reader is gone. A thread that wants the claim waits instead of being refused.
    fn closing(&self);

    /// Makes the partial file the entry. Runs `rename`, which puts the file under the entry's name and returns its bytes.
    ///
    /// # Errors
    ///
    /// The error of `rename`, or [`CacheError::Io`].
    fn commit(&self, rename: &mut dyn FnMut() -> Result<u64, CacheError>) -> Result<Committed, CacheError>;
}

/// The paths of a partial entry, before and after its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialPlace {
    /// The entry's file.
    pub target: PathBuf,
    /// The partial file. Its record stands beside it under the same name with `~ranges` added.
    pub partial: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// The disk that the paths are on; `None` for the system's.
    pub(crate) disk: Option<PlaceDisk>,
}

/// The disk of a place. Equal ones are one disk.
#[derive(Clone, Debug)]
pub(crate) struct PlaceDisk(pub(crate) Arc<dyn Disk>);

impl PartialEq for PlaceDisk {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for PlaceDisk {}

impl PartialPlace {
    /// The places of an entry's file and of its partial file, in one directory.
    pub fn new(target: PathBuf, partial: PathBuf, durability: Durability) -> Self {
        Self {
            target,
            partial,
            durability,
            disk: None,
        }
    }

    /// On the disk of a store. Written elsewhere, what a store does to its files and what a download does would not meet.
    pub(crate) fn on_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = Some(PlaceDisk(disk));
        self
    }
}

//! The claim on an entry that is fetched piece by piece, as every layer wraps it.

use std::fmt;
use std::path::PathBuf;

use super::Committed;
use crate::cache::error::CacheError;
use crate::storage::Durability;

/// The claim on the partial file of one entry: while it lives nobody else has it, and its asset stays.
///
/// A layer wraps the claim of the store it wraps, as with [`Staged`](super::Staged).
pub trait Partial: fmt::Debug + Send + Sync {
    /// Where the files stand.
    fn place(&self) -> &PartialPlace;

    /// Bytes on disk when the claim was made.
    fn stored(&self) -> u64;

    /// Sets `bytes` aside before they are written.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] or [`CacheError::PolicyBusy`] from a layer with a limit.
    fn reserve(&self, bytes: u64) -> Result<(), CacheError>;

    /// Takes back what was reserved and not written.
    fn release(&self, bytes: u64);

    /// Makes what the files are to stand in. Called before the first write; a claim on what is never written makes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`].
    fn prepare(&self) -> Result<(), CacheError>;

    /// Called once [`stored`](Self::stored) is reserved: from here on the store no longer counts those bytes itself.
    fn taken_over(&self);

    /// Nobody reads any more, so the claim ends soon: who wants it waits.
    fn closing(&self);

    /// Runs `rename`, which puts the whole file in the place of the entry and says how many bytes it has.
    ///
    /// # Errors
    ///
    /// What `rename` answers, or [`CacheError::Io`].
    fn commit(&self, rename: &mut dyn FnMut() -> Result<u64, CacheError>) -> Result<Committed, CacheError>;
}

/// Where a partial entry stands, and where it will.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialPlace {
    /// The entry's file.
    pub target: PathBuf,
    /// The partial file; its record stands beside it, with `~ranges` added.
    pub partial: PathBuf,
    /// What a commit goes through.
    pub durability: Durability,
}

impl PartialPlace {
    pub(in crate::cache) fn new(target: PathBuf, partial: PathBuf, durability: Durability) -> Self {
        Self {
            target,
            partial,
            durability,
        }
    }
}

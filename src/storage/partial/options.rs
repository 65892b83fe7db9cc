//! How a streaming resource is opened: what is set before.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::recorder::with_suffix;
use crate::storage::damage::DamageCallback;
use crate::storage::durable::{Disk, Durability, OsDisk};

/// Decides whether the partial file may grow. The owner of a limited space gives one to the options.
///
/// It is asked by the thread that writes, with no lock held.
pub trait Budget: fmt::Debug + Send + Sync + 'static {
    /// Sets `bytes` aside before they are written.
    ///
    /// # Errors
    ///
    /// An error refuses the write, which reports it like one of the file system. For "no room" use
    /// [`io::ErrorKind::QuotaExceeded`].
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Takes back `bytes` that were reserved last and could not be written.
    fn release(&self, bytes: u64);
}

/// How a [`StreamingResource`](super::StreamingResource) is opened.
#[derive(Debug, Clone)]
#[must_use]
pub struct StreamingOptions {
    pub(super) target: PathBuf,
    pub(super) partial: PathBuf,
    pub(super) checkpoint_every: u64,
    pub(super) durability: Durability,
    pub(super) budget: Option<Arc<dyn Budget>>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) create_lazily: bool,
    pub(super) on_damage: DamageCallback,
}

impl StreamingOptions {
    /// Options for a resource that stands, or will stand, at `target`.
    pub fn new(target: impl Into<PathBuf>) -> Self {
        let target = target.into();
        // Beside the target, so that it lies on the same file system: a rename to another one is a copy, and no longer one step.
        let partial = with_suffix(&target, "~part");
        Self {
            target,
            partial,
            checkpoint_every: 8 * 1024 * 1024,
            durability: Durability::default(),
            budget: None,
            disk: OsDisk::shared(),
            create_lazily: false,
            on_damage: DamageCallback::default(),
        }
    }

    /// A partial file that does not exist yet is created by the first write, after the [`Budget`] was asked. Only for a
    /// caller that makes sure by itself that no other resource opens the same file.
    #[cfg_attr(
        not(feature = "cache"),
        expect(dead_code, reason = "the cache keeps claims on its files")
    )]
    pub(crate) fn create_lazily(mut self) -> Self {
        self.create_lazily = true;
        self
    }

    /// Calls `callback` when bytes of a complete resource are found damaged.
    #[cfg_attr(
        not(feature = "cache"),
        expect(dead_code, reason = "the cache removes damaged entries")
    )]
    pub(crate) fn on_damage(mut self, callback: DamageCallback) -> Self {
        self.on_damage = callback;
        self
    }

    /// Where the partial file stands until the commit. It has to be on the target's file system. Unless set, it stands beside
    /// the target, with `~part` added to the name. The record of its ranges stands beside it, with `~ranges` added.
    pub fn partial(mut self, path: impl Into<PathBuf>) -> Self {
        self.partial = path.into();
        self
    }

    /// After how many new bytes a [checkpoint](super::Writer::due_checkpoint) is due. 8 MiB unless set. With fewer, less is
    /// fetched again after a crash, at the price of more syncs.
    pub fn checkpoint_every(mut self, bytes: u64) -> Self {
        self.checkpoint_every = bytes;
        self
    }

    /// What a commit that has returned survives. [`Durability::Full`] unless set.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Asks `budget` before the partial file grows. It is not asked for what the file has when it is opened, which is
    /// [`StreamingResource::stored_bytes`](super::StreamingResource::stored_bytes).
    #[cfg_attr(
        not(any(feature = "cache", test, feature = "test-util")),
        allow(dead_code, reason = "the cache has a limit")
    )]
    pub(crate) fn budget(mut self, budget: Arc<dyn Budget>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Opens it on another file system, for tests that cut the power.
    #[cfg(any(test, feature = "test-util"))]
    pub fn disk(self, disk: Arc<dyn Disk>) -> Self {
        self.on_disk(disk)
    }

    /// Opens it on the disk of a store.
    #[cfg_attr(
        not(feature = "cache"),
        allow(dead_code, reason = "the cache has disks of its own")
    )]
    pub(crate) fn on_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }
}

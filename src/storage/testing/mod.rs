//! For tests: a disk that loses its power and fails on demand, a clock that can be set back, and what of the resources only
//! this crate's own modules use. Needs the feature `test-util`.
//!
//! [`Disk`] is the seam between this crate and the file system. [`OsDisk`] is the file system, [`FakeDisk`] stands in for
//! it.
//!
//! ```
//! use std::io;
//! use std::sync::Arc;
//!
//! use kithara::storage::StreamingOptions;
//! use kithara::storage::testing::{Dice, FakeDisk};
//!
//! let disk = FakeDisk::default();
//! let options = |disk: &FakeDisk| StreamingOptions::new("/track").disk(Arc::new(disk.clone()));
//! let track = options(&disk).open::<io::Error>()?;
//! let mut writer = track.writer()?;
//! writer.write_at(0, b"synced")?;
//! writer.checkpoint().run()?;
//! writer.write_at(6, b"not")?;
//!
//! // Whatever a power cut leaves, what the checkpoint recorded is there.
//! let found = disk.power_cut(disk.changes(), &mut Dice(7));
//! assert_eq!(options(&found).open::<io::Error>()?.available(), [0..6]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that misuses the fake disk is to fail by a panic"
)]

mod disk;
mod history;
mod tree;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::disk::{FakeDisk, Fault, Later};
pub use self::history::Dice;
use super::clock;
pub use super::durable::{Disk, DiskFile, Kind, Meta, OsDisk, read_range};
pub use super::partial::{Budget, Payload, WeakResource};
use super::{StreamingError, StreamingOptions, StreamingResource, Writer};

/// Sets the clock of the calling thread back by `by`; by nothing, and it is right again.
///
/// It is the clock that a [`FakeDisk`] dates its files by, and a cache its accesses.
pub fn set_clock_back(by: Duration) {
    clock::set_back(by);
}

/// What the clock of the calling thread says.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(clock::micros())
}

/// Has `budget` asked before the partial file grows.
pub fn with_budget(options: StreamingOptions, budget: Arc<dyn Budget>) -> StreamingOptions {
    options.budget(budget)
}

/// [`Writer::commit`] with some bytes behind the content, which readers never see.
///
/// # Errors
///
/// As [`Writer::commit`].
pub fn commit_with_footer<E, F: AsRef<[u8]>>(
    writer: &mut Writer<E>,
    len: u64,
    footer: impl FnOnce(Payload) -> F,
) -> Result<(), StreamingError> {
    writer.commit_with_footer(len, footer)
}

/// Calls `hook` when the last reader and the last handle are dropped.
pub fn when_unused<E>(writer: &Writer<E>, hook: impl FnOnce() + Send + 'static) {
    writer.when_unused(hook);
}

/// A handle that does not keep the resource in use.
pub fn downgrade<E>(resource: &StreamingResource<E>) -> WeakResource<E> {
    resource.downgrade()
}

/// Whether bytes that were present are gone, because the writer freed them.
pub fn has_freed_memory<E>(resource: &StreamingResource<E>) -> bool {
    resource.has_freed_memory()
}

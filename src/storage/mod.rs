//! Files that are whole or absent, whatever crashes: [`AtomicResource`], replaced whole, and [`StreamingResource`], read while
//! it is written.
//!
//! The rule this floor adds: *a file under its final name is always one complete version.* Bytes go to a staged or partial
//! file first and are synced. Only then the file takes its name, in one rename.
//!
//! ```text
//!   cache      io, file
//!     │          │
//!   AtomicResource   StreamingResource      one small file · one file that arrives
//!     └──────┬───────────┘
//!         durable                           write, sync, rename, sync of the directory
//! ```

mod atomic;
mod block_on;
#[cfg(any(feature = "cache", test, feature = "test-util"))]
pub(crate) mod clock;
mod damage;
#[cfg_attr(
    not(feature = "test-util"),
    allow(unreachable_pub, reason = "`testing` shows the seam to tests")
)]
pub(crate) mod durable;
pub(crate) mod file_lock;
pub(crate) mod lenient;
#[cfg_attr(
    not(feature = "test-util"),
    allow(unreachable_pub, reason = "`testing` shows some of it to tests")
)]
mod partial;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;

pub use atomic::AtomicResource;
#[cfg(all(feature = "io", feature = "stream"))]
pub(crate) use block_on::block_on;
#[cfg(feature = "cache")]
pub(crate) use damage::DamageCallback;
pub use durable::Durability;
pub use partial::{
    BLOCK, Checkpoint, Condition, Demand, DemandWatch, Found, Interrupter, Status, StatusWatch,
    StreamingError, StreamingOptions, StreamingResource, TAG_LIMIT, WaitError, Waited, Waiter, Writer,
};
#[cfg(feature = "cache")]
pub(crate) use partial::{Budget, RECORD_SUFFIX, STAGED_SUFFIX};
#[cfg(feature = "file")]
pub(crate) use partial::{Fetcher, WeakResource};

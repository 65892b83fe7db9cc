//! A file that is read while it is written, in any order.
//!
//! The rule this adds to `storage`: *a byte is present or it is not*. The file has the bytes, a set of ranges says which of
//! them are present, and every answer comes from the set. A hole is never read as zeros, and the end is the end only once a
//! writer has stated it.
//!
//! ```text
//!             writer()                    commit(len)
//!   Idle ─────────────────▶ Writing ─────────────────────▶ Complete
//!    ▲ ◀───────────────────  │ │ │                          the final name, for good
//!    │     drop the writer   │ │ └────── discard(cause) ──▶ Discarded
//!    │                       │ ▼ fail(cause)                files removed; readers
//!    └ (next process)        │ Failed                       keep what is present
//!                            └──┘ writer() goes on from what is present
//! ```
//!
//! In every state the bytes present can be read. A wait for missing ones lasts through `Idle` and `Writing`, and ends with
//! the cause in `Failed` and `Discarded`.
//!
//! ```text
//!   resource, waiter ──▶ inner ◀── writer, checkpoint, watch
//!                          ├ presence   which bytes are present, who waits; no I/O
//!                          ├ memory     bytes that are not in the file (yet)
//!                          ├ file       the bytes; verify: those of earlier sessions
//!                          ├ fetcher    run by the thread that waits for its bytes
//!                          ├ checksum   of what is written
//!                          └ recorder   record, commit, discard
//! ```

mod checkpoint;
mod checksum;
mod error;
mod fetcher;
mod file;
mod inner;
mod memory;
mod notify;
mod open;
mod options;
mod presence;
mod record;
mod recorder;
mod resource;
mod spans;
mod state;
mod status;
mod sync;
mod verify;
mod waiter;
mod watch;
mod writer;

pub use self::checkpoint::Checkpoint;
pub use self::checksum::BLOCK;
#[cfg(any(test, feature = "test-util"))]
pub use self::checksum::Payload;
pub use self::error::{StreamingError, WaitError};
#[cfg(feature = "file")]
pub(crate) use self::fetcher::Fetcher;
#[cfg(any(feature = "cache", test, feature = "test-util"))]
pub use self::options::Budget;
pub use self::options::StreamingOptions;
pub use self::record::TAG_LIMIT;
#[cfg(feature = "cache")]
pub(crate) use self::recorder::{RECORD_SUFFIX, STAGED_SUFFIX};
pub use self::resource::StreamingResource;
#[cfg(any(feature = "file", test, feature = "test-util"))]
pub use self::resource::WeakResource;
pub use self::status::{Condition, Demand, Found, Status, Waited};
pub use self::waiter::{Interrupter, Waiter};
pub use self::watch::{DemandWatch, StatusWatch};
pub use self::writer::Writer;

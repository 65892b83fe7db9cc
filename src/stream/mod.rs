//! Orchestration of byte streams: a source on one side, a consumer on the other, and nothing else to manage.
//!
//! The one rule this module adds: **what the consumer receives next is what it asked for last.** A stream is bounded,
//! stops when it is dropped, ends only when its source ended, and after an accepted seek delivers nothing older.

mod consumer;
#[cfg(feature = "test-util")]
pub mod contract;
mod driver;
mod engine;
mod error;
mod handle;
mod inline;
#[cfg(all(test, kithara_loom))]
mod loom_tests;
mod mailbox;
mod params;
mod queue;
mod source;
mod sync;

pub use consumer::{Messages, Stream};
pub use driver::Driver;
pub use error::StreamError;
pub use handle::Handle;
pub use mailbox::Command;
pub use params::StreamParams;
pub use source::{Message, Source, SourceStream};

//! What decoders read from: [`Reader`], `Read + Seek` over a file that is still arriving, and (with the feature
//! `stream`) `StreamReader`, `Read` over any stream.
//!
//! The rule this adds: *a read waits for its first byte*, and then returns what is there. `Ok(0)` means a proven end and
//! nothing else. Every other end of a wait is a typed error.
//!
//! ```text
//!  decoder ─ read, seek ▶ Reader ─ read ▶ StreamingResource ◀ fetcher
//!                           └─ position, awaited bytes ─────────▶┘
//!
//!  decoder ─ read ▶ StreamReader ─ poll ▶ Stream ◀─ driver ─ source
//! ```

mod reader;
#[cfg(feature = "stream")]
mod stream_reader;
#[cfg(feature = "symphonia")]
mod symphonia;

pub use reader::{Reader, SeekError};
#[cfg(feature = "stream")]
pub use stream_reader::{StreamInterrupter, StreamReadError, StreamReader};

pub use crate::storage::{Interrupter, WaitError};

//! Random access for decoders: [`Reader`], `Read + Seek` over a file that is still arriving.
//!
//! The rule this adds to [`StreamingResource`](crate::storage::StreamingResource): *a read waits for its first byte*,
//! and then returns what is there. `Ok(0)` means a proven end and nothing else; every other way a wait can end is a
//! typed error.
//!
//! ```text
//!   decoder ── read, seek ──▶ Reader ── what is there? ──▶ StreamingResource ◀── write_at ── fetcher
//!                               └─ where it reads, what it waits for ─────── demand ──────────▶┘
//! ```

mod reader;
#[cfg(feature = "symphonia")]
mod symphonia;

pub use reader::{Reader, SeekError};

pub use crate::storage::{Interrupter, WaitError};

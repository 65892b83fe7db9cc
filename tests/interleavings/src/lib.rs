//! Interleavings of what `storage` and `cache` synchronise, by loom: the files of `src/storage/partial`, and those of the cache's
//! accounts, are compiled once more here, on loom's locks, so that what is modelled is the code that runs.
//!
//! A lost wake-up leaves a thread waiting for ever, which loom reports as a deadlock.

#![cfg(test)]
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a model uses a part of what it includes, and fails by panicking"
)]

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};
}

mod cache;
#[path = "../../../src/storage/partial/error.rs"]
mod error;
mod file;
#[path = "../../../src/storage/partial/memory.rs"]
mod memory;
#[path = "../../../src/storage/partial/notify.rs"]
mod notify;
#[path = "../../../src/storage/partial/presence.rs"]
mod presence;
#[path = "../../../src/storage/partial/state.rs"]
mod state;
#[path = "../../../src/storage/partial/status.rs"]
mod status;
mod waits;
mod window;

/// In the place of what verifies bytes of earlier sessions: here there are none.
mod verify {
    #[derive(Debug)]
    pub(super) enum ReadFault {}
}

/// The cache's clock, which stands still: each access has a time of its own all the same.
mod storage {
    pub(super) mod clock {
        pub(crate) fn micros() -> u64 {
            0
        }
    }
}

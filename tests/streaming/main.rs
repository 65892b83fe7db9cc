//! `StreamingResource` from outside: R2 to R5, and the faults of table B that live in it. B1, B2, B6 to B10 are the
//! reader's: `tests/io`. B3 and B16 need a fetcher; what they need from here is the demand (`demand.rs`).

#![cfg(feature = "storage")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking; its helpers are public to its own modules; one range is one range"
)]

#[cfg(feature = "test-util")]
mod commit;
#[cfg(feature = "test-util")]
mod demand;
#[cfg(feature = "test-util")]
mod power;
mod ranges;
mod restart;
mod stage;
mod stress;
#[cfg(feature = "test-util")]
mod unwritten;
#[cfg(feature = "test-util")]
mod window;

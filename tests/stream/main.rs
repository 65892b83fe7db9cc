//! `stream` from outside: its promises S1 to S12, and the faults A1 to A12 that others shipped.

#![cfg(feature = "stream")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking; its helpers are public to its own modules and serve several of them"
)]

#[cfg(feature = "test-util")]
mod contract;
mod executors;
mod faults;
mod model;
mod promises;
mod scenarios;
mod seeks;
mod step;
mod stress;
mod tape;

//! `Reader` from outside: R6, the faults of table B that a reader can have, and a model of plain bytes.
//!
//! Elsewhere: B4, B5, B11 to B15 are the resource's (`tests/streaming`, and `model.rs` beside the code for B5 under
//! every interleaving). B3 and B16 need a fetcher that obeys the demand; here a small one shows that it can.

#![cfg(feature = "io")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking; its helpers are public to its own modules, and shared with `tests/streaming`; one range is one range"
)]

mod clients;
mod fetch;
mod property;
mod reader;
#[path = "../streaming/stage.rs"]
mod stage;
#[cfg(feature = "stream")]
mod stream_reader;
#[cfg(feature = "stream")]
#[path = "../stream/tape.rs"]
mod tape;

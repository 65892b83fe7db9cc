//! C2, C3, C9, C10, C11 on the real file system, in processes of their own: killed at each system call, failing at
//! each system call, on a full disk, without file descriptors, with the clock set back.

#![cfg(all(feature = "cache", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking; a child process answers on its standard output"
)]

mod child;
mod fail;
mod kill;
mod machine;
mod places;
mod scene;
mod trace;

//! `HlsSource` against a real server, real media and a real cache: the promises H1 to H7, H10, H11, H13 and C16, and what went wrong
//! elsewhere.
//!
//! Rows of the fault list and where they are proved:
//!
//! | row | where |
//! |---|---|
//! | E1–E4, E7, E8, E10, E16, E19 | `parser`; E1, E2, E3, E4 also by the bytes in `playback` |
//! | E2, E5, E20 | `keys` |
//! | E6 | `src/hls/crypt.rs`, and by the bytes in `playback` |
//! | E9, E10, E15, E16, E19 | `playlists` |
//! | E11, E12 | `offline` |
//! | E13 | `seeking`: random seeks and drops; nothing is planned that a dropped future could lose |
//! | E14 | `faults`: a late segment is awaited, seen by the number of polls |
//! | E17 | cannot happen: nothing estimates bandwidth; `SegmentStart` says where the bytes come from |
//! | E18 | cannot happen: packed audio passes through byte for byte (`playback`), no timestamp is read |
//! | A11 | `playback`: the cache handle is the last one after a drop |
//! | C16, faults C15, C19 | `cached`: tiny caches, a cache that cannot write |
//! | faults C21, C22 | `cached`: damaged playlists and keys, cut segments |
//! | C5, C6, C7, C13 | `sessions`: what whole sessions leave on the disk, counted there |
//! | D11 | `playlists`: redirects, offline too |
//! | W6 | `access` |
//! | W7 | `unproven`, and `parser` |
//! | W33 | `inline`, and `src/hls/data_uri.rs` |
//! | W43 | `unproven` |
//! | W32 | `parser/lenient` |
//! | W34 | `playlists` |
//! | W35, W70 | `keys` |
//! | W1–W3 | `world` |
//! | W8 | `world`; every segment of real media in `trees` |
//! | W28 | `failover` |
//! | W29–W31 | `inspect` |
//! | W4 | `copies` |
//! | W5 | `editions` |
//! | all of them, by shape, resource and session | `matrix` |
#![cfg(feature = "hls")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

// The parser is private. Its tests compile it once more, into this crate, and see what it made of each line. It names
// `crate::net`, which is the crate's own here.
use kithara::net;
#[path = "../../src/hls/playlist/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the tests use some of what the crate uses"
)]
mod playlist;

mod access;
mod cached;
mod choosing;
#[cfg(feature = "test-util")]
mod contract;
mod copies;
mod editions;
mod failover;
mod faults;
mod improving;
mod inline;
mod inspect;
mod keys;
mod local;
mod look_ahead;
mod matrix;
mod offline;
mod origins;
mod parser;
mod peers;
mod playback;
mod playlists;
mod published;
mod reader;
mod rig;
mod seeking;
mod sessions;
mod switching;
mod trees;
mod unproven;
mod world;

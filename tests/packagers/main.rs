//! What real packagers make of real media, served by a real server: ffmpeg, GStreamer, liquidsoap, nginx-rtmp, Shaka Packager.
//! Where one is not installed a line says so; `.ci/run real packagers` installs them.
//!
//! Of each tree, H1 and H5: the bytes that come out are those that the packager wrote, put one after another and decrypted by
//! openssl, whether they come from the server, from the cache with the server gone, or from a process that goes on where
//! another one was killed. And ffmpeg, given the URL, hears what it hears in these bytes, as many frames as this crate decodes.
//!
//! | file | holds |
//! |---|---|
//! | `tool` | the programs: are they there, what do they say |
//! | `contents` | what a packager wrote, read without this crate |
//! | `served` | nginx over a tree |
//! | `tree` | a tree, and what is asked of each |
//! | `killed` | a process of its own that plays until it is killed |
//! | `heard` | PCM: ffmpeg's of the URL, of the bytes, and this crate's |
//! | the others | one packager each |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking, and says what it skips"
)]

mod contents;
mod ffmpeg;
mod gstreamer;
mod heard;
mod killed;
mod liquidsoap;
mod nginx_rtmp;
mod served;
mod shaka;
mod tool;
mod tree;

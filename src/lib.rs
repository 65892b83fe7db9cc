//! From a URL to samples: audio from HTTP files and HLS, through a crash-safe disk cache, decoded exact to the frame.
//!
#![cfg_attr(all(feature = "decode", feature = "file"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "decode", feature = "file")), doc = "```ignore")]
//! use kithara::decode::{DecodeParams, Decoder};
//! use kithara::media::{Access, OpenMode};
//! use kithara::{cache::AssetCache, net::HttpClient};
//!
//! # async fn play(
//! #     url: &str,
//! #     mut speaker: impl FnMut(&[f32]),
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let cache = AssetCache::builder("music").open().await?;
//! let access = Access::new(HttpClient::new()?, cache);
//! let params = DecodeParams::new().access(access);
//! let mut track = Decoder::open(url, &params, OpenMode::Online).await?;
//! while let Some(block) = track.next_block()? {
//!     speaker(block.samples()); // interleaved, as block.spec() says
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What was played once plays again with [`OpenMode::Offline`](media::OpenMode), without a connection. [`decode`] shows
//! how an app seeks, queues tracks and feeds a sound card. An app with a decoder of its own takes the bytes: from
//! [`mod@file`] as `Read + Seek`, from [`hls`] as a stream.
//!
//! # The parts
//!
//! ```text
//!  decode            any source to PCM
//!   ├── file         one file, HTTP or local: a stream, or Read + Seek
//!   └── hls          an HLS presentation: a stream of its media bytes
//!        ├── net     an HTTP client: a body ends only where its file does
//!        ├── cache   assets under one byte limit, on storage
//!        └── stream  runs any source: bounded, typed, stop = drop
//! ```
//!
//! `stream` and `cache` stand alone and know nothing of each other. A source of your own needs only `stream`.
//!
//! # Features
//!
//! | feature | what it adds | crates below it |
//! |---|---|---|
//! | `stream` (default) | [`stream`] | async-channel, async-std |
//! | `cache` (default) | [`cache`], [`storage`] | async-std, bincode, sha2, url |
//! | `storage` | [`storage`] | atomicwrites, fs-err |
//! | `io` | [`io`]: `Read + Seek` over a file that is still arriving; with `stream`, `Read` over any stream | `storage` |
//! | `symphonia` | Symphonia's `MediaSource` for both | symphonia-core |
//! | `net` | [`net`], http only | hyper, async-std, url, flate2, socket2, rustix |
//! | `tls` | https with the platform's certificates | rustls, ring (a C compiler) |
//! | `webpki-roots` | https with Mozilla's certificates compiled in | webpki-roots |
//! | `file` | [`mod@file`]: HTTP and local files, random access while they arrive; [`media`] | `stream`, `cache`, `net`, `io` |
//! | `hls` | [`hls`]; [`media`] | `stream`, `cache`, `net`, aes, cbc, data-url |
//! | `decode` | [`decode`]; with `file` and `hls` what those bring | `io`, `stream`, symphonia, rubato |
//! | `offline` | `offline`: downloads that survive restarts, whose truth is the files | `file` |
//! | `opus` | Opus for it, in pure Rust | `decode`, opus-pure |
//! | `he-aac` | HE-AAC, and AAC of more than two channels, in pure Rust | `decode`, syom |
//! | `rodio` | [`decode::Output`] as a source of rodio's, without a sound card's backend | `decode`, rodio |
//! | `test-util` | [`stream::contract`], checks for sources of one's own; `storage::testing` and `cache::testing`, a disk that fails and a cache on it | |
//! | `full` | all but `webpki-roots` and `test-util` | |
//!
//! # What it does not do
//!
//! It keeps no list of songs, plays no live HLS and no SAMPLE-AES, and stores no cookies.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "stream", feature = "cache", feature = "net"))]
mod rt;

#[cfg(feature = "cache")]
pub mod cache;
#[cfg(feature = "decode")]
pub mod decode;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "hls")]
pub mod hls;
#[cfg(feature = "io")]
pub mod io;
#[cfg(any(feature = "file", feature = "hls"))]
pub mod media;
#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "offline")]
pub mod offline;
#[cfg(feature = "storage")]
pub mod storage;
#[cfg(feature = "stream")]
pub mod stream;
#[cfg(all(feature = "test-util", any(feature = "stream", feature = "cache")))]
mod violation;

#[cfg(all(
    doctest,
    feature = "decode",
    feature = "file",
    feature = "hls",
    feature = "offline"
))]
#[doc = include_str!("../README.md")]
mod readme {}

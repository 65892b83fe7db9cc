//! Byte streams: a source on one side, a consumer on the other.
//!
//! The one rule this module adds: **what the consumer receives next is what it asked for last.** A stream is bounded.
//! It stops when it is dropped and ends only where its source ended. After an accepted seek it delivers nothing older.
//!
//! ```
#![doc = include_str!("doctest_track.txt")]
//! # future::block_on(async {
//! let mut stream = Stream::new(Track::default(), StreamParams::default());
//! let handle = stream.handle();
//!
//! assert_eq!(stream.next().await.unwrap()?, "do ");
//! handle.seek_bytes(6).await?;
//! assert_eq!(stream.next().await.unwrap()?, "mi");
//! assert!(stream.next().await.is_none());
//! # Ok::<_, StreamError<Infallible>>(())
//! # }).unwrap();
//! ```
//!
//! # How it runs
//!
//! ```text
//!                          Handle ── seek ──▶ mailbox: one slot, the newest wins
//!                                               │
//!  ┌────────┐ open  ┌──────────────┐ poll   ┌───▼────┐ queue, bounded in  ┌──────────┐
//!  │ Source ├──────▶│ SourceStream ├───────▶│ driver ├───────────────────▶│ consumer │
//!  └────────┘       └──────────────┘        └────────┘ chunks and bytes   └──────────┘
//! ```
//!
//! Each stream has one driver, run in one of three ways. [`Stream::new`] spawns it. [`Stream::with_driver`] hands it out.
//! [`Stream::inline`] has none: the consumer's own poll does its work, without a queue. The driver's states:
//!
//! ```text
//!             first poll               None or Err, queued
//! not opened ───────────▶ ┌─────────┐ ───────────────────▶ ┌──────────┐
//!                    ┌──▶ │ flowing │ ◀─────────────────── │ finished │
//!                    │    └─────────┘     seek accepted    └──────────┘
//!              room  │      │    ▲ └─┐
//!                    │      │    └───┘ seek accepted: the old stream is dropped,
//!                    │      │ no room                 the queue emptied
//!                  ┌─┴──────▼──┐
//!                  │ hand full │   the source is not polled
//!                  └───────────┘
//!
//! from anywhere: consumer dropped, or handed the end ──▶ gone; source dropped
//!                panic, or driver dropped            ──▶ gone; `DriverGone` is sent
//! ```
//!
//! # What is delivered when
//!
//! | the consumer receives | when |
//! |---|---|
//! | a chunk | The source yielded it after the last accepted seek. A chunk larger than the byte limit comes in pieces. |
//! | `None` | The source itself ended. |
//! | [`StreamError::Source`] | The source failed, and everything before its error has been delivered. |
//! | [`StreamError::DriverGone`] | The source panicked, or the driver was dropped. What was queued comes first. |
//! | `None`, from then on | After `None` or an error. |
//!
//! # Stopping
//!
//! To stop a stream, drop it. That works in every state: source idle, queue full, seek under way, handles alive. The
//! driver is woken, drops the opened stream and the source, and ends. An inline stream drops both on the spot. There is
//! no stop command, and a [`Handle`] keeps nothing alive.
//!
//! # Seeking
//!
//! [`Handle::seek_bytes`] returns when the source has answered. It waits neither for the consumer nor for the network,
//! as a source's `seek_bytes` and `open` do no I/O.
//!
//! - **Accepted**: the *next* item the consumer receives is from there. Whatever was made before is dropped, an unread
//!   end or error included. [`Stream::generation`] tells the consumer which item is the first one behind a seek,
//!   [`Stream::position`] where it stands.
//! - **Refused**: the data flows on as if nobody had asked.
//! - **Several at once**: the last one is carried out. The others hear [`StreamError::SeekSuperseded`].
//! - **After the end**: once the consumer has been handed the end, or an error, a seek hears
//!   [`StreamError::ChannelClosed`]. Make a new stream then.
//!
//! [`Handle::seek_time`] does the same for sources that know which bytes play at which time, as HLS does. Where a source
//! knows bytes only, the decoder seeks by time, in what it reads.
//!
//! # Recipes
//!
//! **A source of one's own**: see [`Source`], and run the contract suite on it (feature `test-util`).
//!
//! **Prefetch.** A spawned stream reads ahead from its start, polled or not, up to the limits in its [`StreamParams`] and
//! one chunk more. To prefetch the next track of a playlist, make its stream early.
//!
//! **Progress.** Each item tells where it begins, whichever thread has sought:
//!
//! ```
#![doc = include_str!("doctest_track.txt")]
//! # future::block_on(async {
//! let mut stream = Stream::new(Track::default(), StreamParams::default());
//! stream.handle().seek_bytes(3).await?;
//! let mut done = 0;
//! while let Some(chunk) = stream.next().await {
//!     let length = chunk?.len() as u64;
//!     if let Position::Bytes(start) = stream.position() {
//!         done = start + length;
//!     }
//! }
//! assert_eq!(done, 8);
//! # Ok::<_, StreamError<Infallible>>(())
//! # }).unwrap();
//! ```
//!
//! **Mapping errors.** The consumer maps with a stream adaptor. A source that wraps another maps with
//! [`StreamError::map_source`]:
//!
//! ```
#![doc = include_str!("doctest_track.txt")]
//! use std::io;
//!
//! let stream = Stream::new(Track::default(), StreamParams::default());
//! let mut reader = stream.map(|chunk| chunk.map_err(io::Error::other));
//! let first: io::Result<Bytes> = future::block_on(reader.next()).unwrap();
//! assert_eq!(first.unwrap(), "do ");
//! ```
//!
//! **Under tokio.** [`Stream::new`] works as it is: its driver runs on this crate's own threads. To run it on tokio's:
//!
//! ```
#![doc = include_str!("doctest_track.txt")]
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let params = StreamParams::default();
//! let (mut stream, driver) = Stream::with_driver(Track::default(), params);
//! tokio::spawn(driver);
//! assert_eq!(stream.next().await.unwrap().unwrap(), "do ");
//! # });
//! ```

mod consumer;
#[cfg(feature = "test-util")]
pub mod contract;
mod cursor;
mod driver;
mod engine;
mod error;
mod handle;
mod inline;
#[cfg(all(test, kithara_loom))]
mod loom_tests;
mod mailbox;
mod params;
mod queue;
mod source;
mod sync;

pub use consumer::{Messages, Stream};
pub use cursor::Position;
pub use driver::Driver;
pub use error::StreamError;
pub use handle::Handle;
pub use params::StreamParams;
pub use source::{Message, Source, SourceStream};

//! Orchestration of byte streams: a source on one side, a consumer on the other, and nothing else to manage.
//!
//! The one rule this module adds: **what the consumer receives next is what it asked for last.** A stream is bounded,
//! stops when it is dropped, ends only where its source ended, and after an accepted seek delivers nothing older.
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
//!                                Handle ── seek ──▶ mailbox: one slot, the newest wins
//!                                                     │
//!  ┌────────┐ open  ┌──────────────┐ poll         ┌───▼────┐  queue, bounded in   ┌──────────┐
//!  │ Source ├──────▶│ SourceStream ├─────────────▶│ driver ├─────────────────────▶│ consumer │
//!  └────────┘       └──────────────┘              └────────┘  chunks and bytes    └──────────┘
//! ```
//!
//! One driver per stream, run in one of three ways: [`Stream::new`] spawns it, [`Stream::with_driver`] hands it out, and
//! [`Stream::inline`] has none: the consumer's own poll does its work, without the queue. The driver's states:
//!
//! ```text
//!              first poll                None or Err, queued
//!  not opened ────────────▶ ┌─────────┐ ─────────────────────▶ ┌──────────┐
//!                           │ flowing │                        │ finished │   only the source is kept
//!                 ┌───────▶ └─────────┘ ◀───────────────────── └──────────┘
//!           room  │           │  ▲  └──┐     seek accepted
//!                 │  no room  │  └─────┘ seek accepted: the old stream is dropped, the queue emptied
//!               ┌─┴─────────┐ │
//!               │ hand full │◀┘      the source is not polled
//!               └───────────┘
//!
//!  from anywhere: consumer dropped, or handed the end ──▶ gone; source dropped
//!                 panic, or driver dropped            ──▶ gone; the consumer gets `DriverGone`
//! ```
//!
//! # What is delivered when
//!
//! | the consumer receives | when |
//! |---|---|
//! | a chunk | the source yielded it after the last accepted seek; one larger than `max_bytes` comes in pieces |
//! | `None` | the source itself ended. The only way to get it first |
//! | [`StreamError::Source`] | the source failed, and everything before its error has been delivered |
//! | [`StreamError::DriverGone`] | the source panicked, or the driver was dropped; what was queued comes first |
//! | `None`, from then on | after `None` or an error |
//!
//! # Stopping
//!
//! Dropping the consumer is the one way, and it works in every state: source idle, queue full, seek under way, handles
//! alive. The driver is woken, drops the opened stream and the source, and ends; inline both are dropped on the spot.
//! There is no stop command, and a [`Handle`] keeps nothing alive.
//!
//! # Seeking
//!
//! [`Handle::seek_bytes`] returns when the source has answered. It waits for neither the consumer nor the network, as
//! `seek_bytes` and `open` do no I/O. Accepted means: the *next* item the consumer receives is from there, and whatever had
//! been made before is gone, an unread end or error too. Refused means: the data flows on as if nobody had asked. Of
//! several seeks that wait, the last is done and the others hear [`StreamError::SeekSuperseded`]. Once the consumer has been
//! handed the end, or an error, a seek hears [`StreamError::ChannelClosed`]; make a new stream then.
//!
//! [`Handle::seek_time`] is the same for sources that know when what plays, as HLS does. Where a source knows bytes only,
//! time is the decoder's business: it seeks in what it reads.
//!
//! # Recipes
//!
//! **A source of one's own**: see [`Source`], and run the contract suite on it (feature `test-util`).
//!
//! **Prefetch.** A spawned stream reads ahead from the start, polled or not, up to the limits in its [`StreamParams`]. The
//! next track of a playlist is a stream made early with a `max_bytes` to taste. One chunk more is in the driver's hand.
//!
//! **Progress.** Count what is received, and start counting at the target of an accepted seek:
//!
//! ```
#![doc = include_str!("doctest_track.txt")]
//! # future::block_on(async {
//! let mut stream = Stream::new(Track::default(), StreamParams::default());
//! let mut position = 3;
//! stream.handle().seek_bytes(position).await?;
//! while let Some(chunk) = stream.next().await {
//!     position += chunk?.len() as u64;
//! }
//! assert_eq!(position, 8);
//! # Ok::<_, StreamError<Infallible>>(())
//! # }).unwrap();
//! ```
//!
//! **Mapping errors.** The consumer maps with a stream adaptor, a source that wraps another with
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
//! **Under tokio.** [`Stream::new`] works as it is; its driver runs on this crate's own threads. To run it on tokio's:
//!
//! ```
#![doc = include_str!("doctest_track.txt")]
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! let (mut stream, driver) = Stream::with_driver(Track::default(), StreamParams::default());
//! tokio::spawn(driver);
//! assert_eq!(stream.next().await.unwrap().unwrap(), "do ");
//! # });
//! ```

mod consumer;
#[cfg(feature = "test-util")]
pub mod contract;
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
pub use driver::Driver;
pub use error::StreamError;
pub use handle::Handle;
pub use mailbox::Command;
pub use params::StreamParams;
pub use source::{Message, Source, SourceStream};

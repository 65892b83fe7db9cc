//! Files over HTTP and local ones, at once a stream of bytes and random access while they arrive.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::io::{Read, Seek, SeekFrom};
//! use kithara::cache::AssetCache;
//! use kithara::file::{FileParams, FileSource};
//! use kithara::net::{HttpClient, Url};
//!
//! let cache = AssetCache::builder("cache").max_bytes(500_000_000).open().await?;
//! let url = Url::parse("https://example.com/episode.mp3")?;
//! let source = FileSource::new(url, FileParams::new(HttpClient::new()?, cache));
//!
//! let mut reader = source.open_reader().await?;   // `Read + Seek + Send + Sync`, for a decode thread
//! # std::thread::spawn(move || {
//! reader.seek(SeekFrom::End(-128))?;              // one small request, wherever the download is
//! let mut tag = Vec::new();
//! reader.read_to_end(&mut tag)
//! # });
//! # Ok(())
//! # }
//! ```
//!
//! To have a file offline, run its driver; nobody need read. What there is to show comes from the resource, and is over
//! when the driver is:
//!
//! ```no_run
//! # async fn keep(source: kithara::file::FileSource) -> Result<(), Box<dyn std::error::Error>> {
//! use kithara::file::{FileControl, FileParts};
//!
//! let FileParts { reader, driver, control, .. } = source.open_parts().await?;
//! let mut watch = reader.resource().watch();
//! let show = async {
//!     loop {
//!         let status = watch.changed().await;
//!         println!("{:?} of {:?} bytes", status.available, status.len);
//!     }
//! };
//! futures_lite::future::or(driver, show).await;
//! let kept = std::iter::from_fn(|| control.try_recv().ok()).any(|said| matches!(said, FileControl::Cached));
//! # Ok(())
//! # }
//! ```
//!
//! The rule this adds to the floors below: *what is fetched is what is read next*. Readers say where they are and what
//! they wait for; one fetcher turns that into as few requests as it can, and the rest of the file into the holes that
//! are left.
//!
//! ```text
//!   decoder ──▶ io::Reader ──┐                                 ┌── main: reads ahead, then fills the holes
//!   Stream<Bytes> ───────────┤ demand ──▶ FileDriver (plan) ───┤
//!                            │               │                 └── side: a small jump, while main is parked
//!            StreamingResource ◀── bytes ────┘
//!                └ the cache's partial entry; memory where the cache has no room (fault C19)
//! ```
//!
//! - A complete file plays from the cache without a connection; a partial one is resumed after a restart, if the server
//!   gave a strong validator that proves it is the same file.
//! - A complete file is taken for right as long as it is there: music hardly changes under its URL, and to ask costs a round
//!   trip before the first byte. With [`FileParams::revalidate`] the server is asked.
//! - Every byte from the cache was checked when its block was first read. A damaged block is fetched again while the file
//!   plays, if that is allowed, and taken only if it has the checksum; offline the reader gets
//!   [`StreamingError::Damaged`](crate::storage::StreamingError::Damaged) there. The entry leaves the cache either way.
//! - A file that changes upstream is fetched anew. If somebody is reading it, he gets [`FileError::Changed`]: bytes of
//!   two versions are never mixed. (Where a server sends neither `ETag` nor `Last-Modified`, only the length can tell.)
//! - A server without ranges is read from its start; a jump forward waits.
//! - Sources of the same file and cache share one download: the second joins the first, reads what it fetches and has it
//!   fetch what it reads. The first one's client and driver serve both; of their look-aheads the wider counts. If the
//!   cache does not keep what is fetched, each is told.
//! - A jump gives up a connection with the rest of an answer on it. From the first jump on one connection more is made ahead,
//!   as soon as the jump's own bytes come, so that the next need not wait for handshakes. It is the client's like any other
//!   that is idle, makes no request, and takes no room that a request waits for; a source that only plays makes none.
//! - Where the look-ahead is bounded, a jump asks for as much (64 KiB at least) and not for the rest of the file, and who reads
//!   on for twice as much each time: little is sent for nothing, and the connection is free for the next jump.
//! - A source whose look-ahead is full keeps its connection, and with it one of those that the client may have to the host. If
//!   all rest like that, opening another file there fails with [`NetError::NoneFree`](crate::net::NetError::NoneFree) after the
//!   client's `queue_timeout`: allow as many connections as sources may be open. More are not needed: where none is free, a
//!   jump gives up the one that its source has.
//! - Dropping the last reader, or the stream, closes the connections at once, whatever the driver is doing, and keeps what was
//!   fetched.

mod download;
mod driver;
mod error;
mod event;
mod location;
mod lookup;
mod open;
mod params;
mod remote;
mod repair;
mod revalidate;
mod schedule;
mod sharing;
mod sink;
mod source;
mod stream;
mod transfer;
mod transfers;

pub use driver::FileDriver;
pub use error::FileError;
pub use event::{Bypass, FileControl, Origin};
pub use location::Location;
pub use params::{FileParams, LookAhead};
pub use source::{FileParts, FileSource};

/// [`io::Reader`](crate::io::Reader) over a file that a [`FileSource`] fetches.
pub type FileReader = crate::io::Reader<FileError>;

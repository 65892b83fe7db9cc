//! Files over HTTP and on the disk: random access, or a stream of bytes, while they arrive.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::io::{Read, Seek, SeekFrom};
//! use kithara::cache::AssetCache;
//! use kithara::file::{FileParams, FileSource, OpenMode};
//! use kithara::net::{HttpClient, Url};
//!
//! let cache = AssetCache::builder("cache").max_bytes(500_000_000).open().await?;
//! let url = Url::parse("https://example.com/episode.mp3")?;
//! let source = FileSource::new(url, FileParams::new(HttpClient::new()?, cache));
//!
//! // `Read + Seek + Send + Sync`, for a decode thread.
//! let mut reader = source.open_reader(OpenMode::Online).await?;
//! # std::thread::spawn(move || {
//! reader.seek(SeekFrom::End(-128))?; // one small request, wherever the download is
//! let mut tag = Vec::new();
//! reader.read_to_end(&mut tag)
//! # });
//! # Ok(())
//! # }
//! ```
//!
//! To have a file offline, download it. No read is needed:
//!
//! ```no_run
//! # async fn keep(source: kithara::file::FileSource) -> Result<(), Box<dyn std::error::Error>> {
//! use futures_lite::StreamExt;
//!
//! let mut download = source.download();
//! while let Some(progress) = download.next().await {
//!     let progress = progress?; // no room, refused, gone
//!     println!("{} of {:?} bytes", progress.bytes, progress.total);
//! }
//! assert!(source.stored().await?.is_complete()); // looked up, not noted
//! # Ok(())
//! # }
//! ```
//!
//! The rule of this module: *what is read next is downloaded next*. Readers tell where they are and what they wait for. One
//! driver turns that into as few requests as it can, and then downloads the ranges that were skipped.
//!
//! ```text
//!   decoder ──▶ io::Reader ──┐                       ┌─ main: reads ahead,
//!   Stream<Bytes> ───────────┤                       │  then fills the gaps
//!                            │ demand ──▶ FileDriver ┤
//!                            ▼                       └─ side: a small jump,
//!                   StreamingResource ◀── bytes ──┘     while main is parked
//!                            │
//!           the cache's partial entry, or memory
//!           where the cache has no room
//! ```
//!
//! # What is kept
//!
//! - A complete file plays from the cache without a connection. It is not checked against the server, which would cost a
//!   round trip before the first byte; [`FileParams::revalidate`] does so.
//! - A partial file is resumed after a restart, if the server gave a strong validator (RFC 9110 section 8.8.1). Without one
//!   nothing proves that the rest belongs to the same file, and the download starts anew. A process that is killed loses
//!   what came in the last two seconds, or the last MiB.
//! - A file that changes on the server is downloaded anew. A reader that has it open gets [`FileError::Changed`]: bytes of
//!   two versions are never mixed. Where a server sends neither `ETag` nor `Last-Modified`, only the length can tell. What
//!   else makes two answers the same file is the app's to say: [`SameFile`].
//! - What is no media is not the file: a login page of another network, an error as JSON, an empty body, a status other than
//!   200 and 206. It is refused with [`FileError::NotMedia`] before a byte of it is stored, and what the cache has of the
//!   file stays. Media is known by its bytes more than by its `Content-Type`; [`FileParams::judge`] has the app decide.
//! - Each block from the cache is checked when it is first read. A damaged one is downloaded again while the file plays, and
//!   is taken only if it has the stored checksum. Offline the reader gets
//!   [`StreamingError::Damaged`](crate::storage::StreamingError::Damaged). The entry leaves the cache either way.
//! - A cache that is full or fails does not stop playback: the file passes through memory, and
//!   [`FileControl::CacheBypassed`] tells why.
//!
//! - `Cache-Control` is for shared caches and browsers, and is not looked at. [`FileParams::respect_no_store`] has it
//!   respected.
//!
//! # Outages
//!
//! A train enters a tunnel. The client tries again as its [`RetryPolicy`](crate::net::RetryPolicy) says, and gives up after
//! some seconds. That ends no download:
//!
//! - What is there plays on. [`FileControl::OutageBegan`] tells why no more comes.
//! - The download tries again by itself, after pauses that grow from 1 to 30 seconds, and at once when a reader waits.
//!   [`FileControl::OutageEnded`] tells that bytes come again.
//! - A reader that waits for missing bytes gets the error, after [`FileParams::outage_limit`]. Its next read waits anew.
//!   With an unlimited time it gets none: for decoders, which do not survive an error.
//!
//! The login page of a network is an outage too, once there are bytes of the file. An error that does not pass by itself,
//! such as status 404, ends the download. The way back is the same for all ends, those of a
//! [`Stream`](crate::stream::Stream) too, which stays ended after an error: a new source of the same location goes on
//! with what is there, also for readers that have the file open still.
//!
//! ```no_run
//! # use std::io::Read;
//! # fn play(_: &[u8]) {}
//! # fn run(mut reader: kithara::file::FileReader) -> std::io::Result<()> {
//! use kithara::file::FileError;
//!
//! let passes = |error: &std::io::Error| {
//!     FileError::of(error).is_some_and(FileError::is_outage)
//! };
//! let mut buffer = [0; 64 * 1024];
//! loop {
//!     match reader.read(&mut buffer) {
//!         Ok(0) => return Ok(()),
//!         Ok(count) => play(&buffer[..count]),
//!         // The user is told "no network". The next read tries again.
//!         Err(error) if passes(&error) => {}
//!         Err(error) => return Err(error),
//!     }
//! }
//! # }
//! ```
//!
//! # Connections
//!
//! - Behind a redirect the URL that answered is asked, and the redirect again only if that one refuses or cannot be
//!   reached.
//! - Sources of the same file and cache share one download. The driver and the client of the first source serve all of them,
//!   and the widest look-ahead counts. Each source gets its own events.
//! - A server that serves one connection at a time makes the first small jump wait two seconds.
//! - A server without ranges is read from the start. A jump forward waits.
//! - A jump abandons a response in the middle, and its connection with it. After the first jump a source makes one
//!   connection in advance, once the bytes of the jump have come: the next jump need not wait for handshakes. That
//!   connection is idle in the client's pool, and gives way to any request that waits. A source that only plays makes none.
//! - With a bounded look-ahead, the first request after a jump asks for the look-ahead (64 KiB at least), and each
//!   contiguous one for twice as much. So a jump wastes little, and leaves a connection that can be used again.
//! - A source whose look-ahead is full keeps its connection. If all connections to the host are held like that, opening
//!   another file there fails with [`NetError::NoneFree`](crate::net::NetError::NoneFree) after the client's
//!   `queue_timeout`. Allow as many connections to a host as sources may be open. More are not needed: where none is free,
//!   a jump abandons the one that its source has.
//! - Dropping the last reader, or the stream, closes the connections at once, whatever the driver is doing. What was
//!   downloaded stays.

mod beginning;
mod download;
mod driver;
mod error;
mod event;
mod kept;
mod location;
mod lookup;
mod open;
mod outage;
mod params;
mod recovery;
mod remote;
mod repair;
mod response;
mod revalidate;
mod same_file;
mod schedule;
mod server_info;
mod shared_work;
mod sharing;
mod side_watch;
mod sink;
mod source;
mod stream;
mod transfer;
mod transfers;

pub use crate::media::{
    Access, Bypass, Download, DownloadError, EntryNames, Hole, NotMedia, NotMediaReason, OpenMode, Origin,
    Progress, Received, Stored, Total, Verdict,
};
pub use driver::FileDriver;
pub use error::FileError;
pub use event::{FileControl, FileEvents};
pub use location::Location;
pub use params::{FileParams, LookAhead};
pub use same_file::SameFile;
pub use server_info::ServerInfo;
pub use source::{FileParts, FileSource};

/// An [`io::Reader`](crate::io::Reader) over a file that a [`FileSource`] downloads.
pub type FileReader = crate::io::Reader<FileError>;

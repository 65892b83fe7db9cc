//! Downloads: what an app keeps offline, how far it is, and what is missing of it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use futures_lite::{StreamExt, future};
//! use kithara::{cache::AssetCache, media::Access, net::{HttpClient, Url}};
//! use kithara::offline::{Change, DownloadRequest, Downloads};
//!
//! let cache = AssetCache::builder("music").max_bytes(8 << 30).open().await?;
//! let access = Access::new(HttpClient::new()?, cache);
//! let downloads = Downloads::builder(access).open().await?; // as the last session left them
//! let url = Url::parse("https://example.com/episode.mp3")?;
//! downloads.add(DownloadRequest::file(url)).await?;
//!
//! let mut changes = downloads.watch();
//! let show = async {
//!     while let Some(Change::Changed(download)) = changes.next().await {
//!         let percent = download.progress.fraction() * 100.0;
//!         println!("{:?} {percent:.0} %", download.state);
//!     }
//!     Ok(())
//! };
//! future::or(downloads.run(), show).await?; // fetches while it is polled
//! # Ok(()) }
//! ```
//!
//! The one rule this module adds: **what is said to be offline is there.** No flag says so. A file is complete when its entry is
//! committed; a track when each segment, key and initialization section that its playlist names is. What was found is
//! remembered only while the asset's files, bytes and folder time are those that it was found with.
//!
//! ```text
//!   Downloads ── table ── runner ── task ──▶ FileSource::download
//!      │           │        │                HlsSource::download
//!      │        watches     └─ what is next: gates, priority, age
//!      │
//!      ├─ store      one small entry a download: what the app wants
//!      └─ verdict    what was found, and by what it holds
//! ```
//!
//! # States
//!
//! ```text
//!          add                                 ┌── a hole is found ──┐
//!           │       its turn, its gates open   ▼                     │
//!           └────▶ queued ─────────────────▶ downloading ──────▶ completed
//!                 ▲ ▲   │                      │      │
//!                 │ │   │ pause                │ pause│ a cause that does not pass
//!                 │ └───┼──── run is dropped ──┤      ▼
//!          resume │     ▼                      │    failed ── resume ──▶ queued
//!                 └── paused ◀─────────────────┘
//!
//!          any ── remove ──▶ removing ──▶ gone
//! ```
//!
//! - A download is pinned from its start, so that it is not evicted half done.
//! - A network that is away is no failure: the download tries again by itself, and its progress
//!   [says so](crate::media::Progress::is_away).
//! - Where the length is known, room is asked for before the first byte: under the budget of all downloads, and in the cache
//!   beside what is pinned.
//! - After [`valid_until`](DownloadRequest::valid_until) it is unpinned, not removed, and
//!   [`Downloads::file`] and `track` answer [`OfflineError::Expired`].
//!
//! # What is kept
//!
//! Each download is an entry of some hundred bytes in the cache, in an asset of its own that is pinned: URL, selection, the
//! state that the app wants. Headers and credentials are not kept. The access given at the start of a session has them, and the
//! hooks of [`DownloadsBuilder`].

mod builder;
mod downloads;
mod error;
mod inner;
mod places;
mod request;
mod room;
mod runner;
mod saved;
mod saved_selection;
mod selection;
mod sources;
mod store;
mod table;
mod task;
mod verdict;
mod watch;

pub use crate::media::{Hole, Progress, Stored, Total};
pub use builder::DownloadsBuilder;
pub use downloads::Downloads;
pub use error::{Cause, Failure, OfflineError};
pub use request::{DownloadId, DownloadRequest, Kind};
pub use selection::{Renditions, Selection, Variants};
pub use table::{DownloadInfo, State};
pub use watch::{Change, Watch};

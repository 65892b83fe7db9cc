//! What the sources of media share: where bytes come from, why they are not kept, and what a source needs to fetch and keep
//! them.
//!
//! ```text
//!   file   hls          sources: FileParams and HlsParams hold an Access
//!     │     │
//!     └──┬──┘
//!      media            Access ── EntryNames      Origin, Bypass
//!     ┌──┴──┐
//!    net  cache         HttpClient, AssetCache
//! ```
//!
//! Three rules are kept here, so that they are the same in every source:
//!
//! - A header that is given for a source goes to the origin (scheme, host, port) of the source's own URL and to no other.
//! - Nothing that is not media takes a file's place: see [`NotMedia`].
//! - What an entry of the cache is called depends on the URL and on [`EntryNames`], and on nothing else.

mod access;
mod bypass;
mod download;
mod entry_names;
mod judge;
mod mode;
mod origin;
mod progress;
mod signature;
mod stored;

pub use access::Access;
pub(crate) use access::SourceHeaders;
pub use bypass::Bypass;
pub(crate) use download::Meter;
pub use download::{Download, DownloadError};
pub use entry_names::EntryNames;
pub(crate) use judge::{Candidate, Judge};
pub use judge::{NotMedia, NotMediaReason, Received, Verdict};
pub use mode::OpenMode;
pub use origin::Origin;
pub use progress::{Progress, Total};
pub use stored::{Hole, Stored};

//! HLS VOD (RFC 8216): a playlist's URL becomes a stream of media bytes, online or from the cache.
//!
//! The one rule this module adds: **the consumer gets the media's bytes, all of them, in order, and nothing else.** Playlists
//! are read, keys applied and gaps told. An end without the last byte is an error.
//!
//! ```text
//!  HlsSource ─ open ─▶ player ─ announcer ─▶ messages
//!    ├─ track              section, segment, gap, …
//!    │   └─ load           playlists read, Variant Stream chosen
//!    │       └─ playlist/  lines and tags, resolved
//!    ├─ look_ahead         what is fetched in front of the streams
//!    ├─ open_part          the part that plays
//!    ├─ part_reader        a part's bytes, decrypted and judged
//!    │   ├─ resource_reader  cache, or network and into the cache
//!    │   └─ crypt          AES-128-CBC, as the chunks come
//!    ├─ timeline           the next part, wait, or end
//!    ├─ selection          which Variant Stream the next segment is taken from: a pure decision
//!    ├─ inspect            what there is, without playing it
//!    ├─ completeness       what of it is in the cache, and what is missing
//!    ├─ download           all of it, from hole to hole
//!    ├─ reader             one Variant Stream as one file
//!    ├─ editions           whether the server has the same track still
//!    ├─ fetch              playlists and keys, whole
//!    ├─ local              what needs no fetching: files, and what stands in a playlist (data_uri)
//!    └─ pending_commits    cache writes beside the stream
//! ```
//!
//! # What the cache holds
//!
//! All under one asset, but local files, what stands in a `data:` URI, and what the app has brought:
//!
//! - playlists that parsed, each with the URL that it came from,
//! - keys, as the key processor made them,
//! - initialization sections and segments as the server sent them. Encrypted ones stay encrypted.
//! - what tells one edition of the track from another, and which Variant Streams are whole: some hundred bytes.
//!
//! A failing cache never stops playback. The bytes pass through, and one [`HlsControl::CacheBypassed`] says why. The stream
//! does not wait for the disk but at its end: when it has ended, all that was fetched whole is kept.
//!
//! # What it does not do
//!
//! Live playlists, SAMPLE-AES and other key systems are refused with a typed error. The Variant Stream is chosen once, and changed
//! where the app says so ([`HlsControls`]) or a server fails; nothing adapts by itself yet.

mod announcer;
mod completeness;
mod control;
mod controls;
mod crypt;
mod data_uri;
mod download;
mod edition;
mod editions;
mod error;
mod fetch;
mod fetch_context;
mod first_bytes;
mod freshness;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod inspect;
mod load;
mod local;
mod look_ahead;
mod names;
mod open_part;
#[cfg(feature = "offline")]
mod outline;
mod params;
mod part_reader;
mod pending_commits;
mod player;
mod playlist;
mod reader;
mod repetition;
mod resource;
mod resource_reader;
pub mod selection;
mod source;
mod source_state;
mod stored;
mod timeline;
mod track;
mod variants;
mod whole;

pub use crate::media::{
    Access, Bypass, Download, DownloadError, EntryNames, Hole, OpenMode, Origin, Progress, Stored, Total,
};
#[cfg(feature = "offline")]
pub(crate) use completeness::{Listing, Needs, Window};
pub use control::HlsControl;
pub use controls::HlsControls;
pub use crypt::CryptError;
pub use error::HlsError;
pub use inspect::{Cached, Presentation, RenditionInfo, VariantInfo};
pub use params::{
    HlsParams, KeyContext, KeyRejected, MissingSegment, NewEdition, PlaylistCheck, VariantChoice,
};
pub use playlist::{DateRange, PlaylistError, ProgramDate, SessionData, StartPoint, VariantContent};
pub use reader::HlsReader;
pub use resource::{Resource, ResourceKind};
pub use source::{HlsSource, Refreshed};

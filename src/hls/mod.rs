//! HLS VOD (RFC 8216): a playlist's URL becomes a stream of media bytes, online or from the cache.
//!
//! The one rule this module adds: **the consumer gets the media's bytes, all of them, in order, and nothing else**. Playlists
//! are read, keys applied, gaps told, and an end without the last byte is an error.
//!
//! ```text
//!  HlsSource ─ open ─> Player ── Track ──── playlist/  Multivariant and Media Playlists, resolved
//!                        │         └ parts: initialization section, segment, segment, gap, …
//!                        ├─ ResourceReader   one part: from the cache, or from the network and into the cache
//!                        ├─ Decryptor AES-128-CBC, as the chunks come
//!                        ├─ Fetcher   playlists and keys, whole
//!                        └─ PendingCommits    what is on its way to the disk, while the stream goes on
//! ```
//!
//! # What the cache holds
//!
//! Segments and initialization sections as the server sent them, encrypted ones encrypted; playlists that parsed, each with the
//! URL it came from; keys after the key processor. All under one asset. A failing cache never stops playback: the bytes pass
//! through, and one [`HlsControl::CacheBypassed`] says why. Nothing waits for the disk but the end: when the stream has ended,
//! all that was fetched whole is kept.
//!
//! # What it does not do
//!
//! Live playlists, SAMPLE-AES and other key systems are refused with a typed error. The Variant Stream is chosen once; there is
//! no adaptive switching.

mod control;
mod crypt;
mod error;
mod fetch;
mod fetch_context;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod names;
mod params;
mod pending_commits;
mod player;
mod playlist;
mod resource_reader;
mod source;
mod stored;
mod track;

pub use crate::media::{Access, Bypass, EntryNames, Origin};
pub use control::HlsControl;
pub use crypt::CryptError;
pub use error::{HlsError, Resource, ResourceKind};
pub use params::{HlsParams, KeyContext, KeyRejected, VariantChoice};
pub use playlist::{PlaylistError, StartPoint};
pub use source::HlsSource;

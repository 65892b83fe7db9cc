//! A tree-shaped cache of assets under one byte limit, on disk or in memory.
//!
//! An *asset* is what the user asked to keep: a track. An *entry* is one file of it: a playlist, a segment.
//!
//! ```
//! # futures_lite::future::block_on(async {
//! # let dir = tempfile::tempdir()?;
//! # let root = dir.path().join("cache");
//! use kithara::cache::{AssetCache, AssetId, CachePath};
//! use url::Url;
//!
//! let cache = AssetCache::builder(root).max_bytes(500_000_000).open().await?;
//! let track = AssetId::from_url(&Url::parse("https://host/track/master.m3u8")?);
//! let segment = CachePath::parse("v1/seg-001.m4s")?;
//!
//! let playing = cache.lease(&track); // not evicted while it plays
//! cache.put_atomic(&track, &segment, "…bytes…".into()).await?;
//! let found = cache.get(&track, &segment).await?;
//! assert_eq!(found.as_deref(), Some("…bytes…".as_bytes()));
//! drop(playing);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! The cache is a stack of small stores. Each wraps the next one and adds one rule:
//!
//! ```text
//! AssetCache            async; `blocking()` has the same calls for decode threads
//!   └ EvictingStore     the whole cache stays under max_bytes; a policy picks victims
//!       └ LeaseStore    what is leased, pinned or being written is not removed
//!           └ IndexStore    sizes and recency without scanning; only an optimisation
//!               └ FsStore   bytes; the truth (or MemoryStore)
//! ```

mod accounts;
mod asset_cache;
mod blocking;
mod builder;
mod calls;
mod codec;
mod entry;
mod error;
mod evict;
mod footer;
#[cfg(feature = "offline")]
mod footprint;
mod fs;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod index;
mod lease;
mod maintenance;
mod memory;
mod parallel;
mod partial_entry;
mod path;
mod policy;
mod progress;
mod reader;
mod single_flight;
mod store;
mod sync;
#[cfg(feature = "test-util")]
pub mod testing;
mod timestamp;
mod trash_queue;
mod writer;

pub use accounts::{Accounts, Lease};
pub use asset_cache::AssetCache;
pub use blocking::{BlockingCache, CacheStats};
pub use builder::AssetCacheBuilder;
pub use entry::Entry;
pub use error::CacheError;
pub use evict::EvictingStore;
#[cfg(feature = "offline")]
pub(crate) use footprint::Footprint;
#[cfg(feature = "file")]
pub(crate) use fs::tree::{EntryGuard, EntryLocks};
pub use fs::{FsStore, MissingProtection};
pub use id::AssetId;
pub use index::IndexStore;
pub use lease::LeaseStore;
pub use memory::MemoryStore;
pub use partial_entry::PartialEntry;
#[cfg(feature = "file")]
pub(crate) use partial_entry::WeakPartialEntry;
pub use path::CachePath;
pub use policy::{EvictionPolicy, Lru, MaxAge, Never};
pub use progress::Progress;
pub use reader::EntryReader;
pub use store::{AssetInfo, Committed, EntryInfo, Partial, PartialPlace, Staged, Store, Trash};
#[cfg(feature = "test-util")]
#[doc(inline)]
pub use testing::contract;
pub use timestamp::Timestamp;
pub use writer::EntryWriter;

pub use crate::storage::Durability;

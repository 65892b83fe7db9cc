//! The accounts, the evictor and the trash queue of the cache, on loom's locks. In the place of the stores below them stands a
//! [`shelf`], and no index is on a disk.

#[path = "../../../../src/cache/accounts/mod.rs"]
mod accounts;
#[path = "../../../../src/cache/codec.rs"]
mod codec;
#[path = "../../../../src/cache/error.rs"]
mod error;
#[path = "../../../../src/cache/id.rs"]
mod id;
mod models;
#[path = "../../../../src/cache/policy.rs"]
mod policy;
#[path = "../../../../src/cache/progress.rs"]
mod progress;
mod shelf;
#[path = "../../../../src/cache/timestamp.rs"]
mod timestamp;
#[path = "../../../../src/cache/trash_queue.rs"]
mod trash_queue;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
}

mod evict;

/// No index is kept.
#[expect(clippy::unused_self, reason = "as what it stands for")]
mod index {
    use super::accounts::Accounts;
    use super::error::CacheError;

    pub(in crate::cache) mod files {
        pub(in crate::cache) struct IndexFiles;

        #[derive(Clone, Copy, Default)]
        pub(in crate::cache) struct Sizes;

        impl Sizes {
            pub(in crate::cache) fn most_bytes(self, _assets: u64) -> u64 {
                0
            }
        }

        pub(in crate::cache) fn most_bytes(_assets: u64) -> u64 {
            0
        }
    }

    impl Accounts {
        pub(in crate::cache) fn begin(&self) -> Result<(), CacheError> {
            self.check()
        }

        pub(in crate::cache) fn flush(&self) {}

        pub(in crate::cache) fn checkpoint(&self) -> Result<(), CacheError> {
            self.refresh_unread()
        }
    }
}

/// What the accounts are told of assets, and the one call that the evictor makes.
mod store {
    use std::fmt;

    use super::error::CacheError;
    use super::id::AssetId;
    use super::timestamp::Timestamp;

    #[derive(Clone, Debug)]
    pub(super) struct AssetInfo {
        pub(super) id: AssetId,
        pub(super) bytes: u64,
        pub(super) files: u64,
        pub(super) last_access: Timestamp,
        pub(super) leased: bool,
        pub(super) pinned: bool,
        pub(super) modified: Option<Timestamp>,
    }

    pub(super) struct Committed {
        pub(super) bytes: u64,
        pub(super) replaced: Option<u64>,
        pub(super) displaced: bool,
    }

    pub(super) trait Store: fmt::Debug + Send + Sync {
        fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError>;
    }

    type Work = Box<dyn FnOnce() -> Result<(), CacheError> + Send>;

    pub(super) struct Trash(pub(super) Work);

    impl Trash {
        pub(super) fn empty(self) -> Result<(), CacheError> {
            (self.0)()
        }
    }

    impl fmt::Debug for Trash {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Trash")
        }
    }
}

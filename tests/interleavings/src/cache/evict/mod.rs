//! The evictor, with what its own module alone may call.

#[path = "../../../../../src/cache/evict/evictor.rs"]
mod evictor;

use std::sync::Arc;

pub(super) use self::evictor::Evictor;
use super::accounts::Accounts;
use super::error::CacheError;
use super::store::Store;

pub(super) fn evictor(store: Arc<dyn Store>, accounts: &Arc<Accounts>) -> Evictor {
    Evictor::new(store, accounts)
}

pub(super) fn reserve(evictor: &Evictor, bytes: u64) -> Result<u64, CacheError> {
    evictor.reserve(bytes, u64::MAX)
}

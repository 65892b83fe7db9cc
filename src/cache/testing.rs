//! What tests of the layers need besides the public calls. Needs the feature `test-util`; no part of the stable interface.
//!
//! The functions reach between the steps of a layer: they count waiting threads, so that a test can go on when a thread
//! waits instead of sleeping, and they start work that otherwise begins by itself.

use super::evict::EvictingStore;
use super::id::AssetId;
use super::index::IndexStore;
use super::store::Store;

/// How many threads wait for the eviction policy now.
pub fn policy_waiters<S, P>(store: &EvictingStore<S, P>) -> usize {
    store.policy_waiters()
}

/// How often a thread has waited for another one to empty trash.
pub fn trash_waits<S, P>(store: &EvictingStore<S, P>) -> usize {
    store.trash_queue().waits()
}

/// Reads the figures of an asset anew from the inner store, as a scan does.
pub fn refresh<S: Store>(index: &IndexStore<S>, asset: &AssetId) {
    index.refresh(asset);
}

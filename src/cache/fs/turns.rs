//! One change of an entry at a time: whoever replaces or removes it takes a turn.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::cache::id::AssetId;
use crate::cache::path::CachePath;

/// Without turns two commits of one entry could both believe that they replaced the same old version, and the
/// accounts would drift.
#[derive(Default)]
pub(crate) struct Turns {
    taken: Mutex<HashSet<(AssetId, CachePath)>>,
    given_back: Condvar,
}

/// A turn; ends when it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    entry: (AssetId, CachePath),
}

impl Turns {
    /// Waits until nobody else is changing this entry.
    pub(crate) fn take(&self, asset: &AssetId, path: &CachePath) -> Turn<'_> {
        let entry = (asset.bare(), path.clone());
        let mut taken = self.lock();
        while !taken.insert(entry.clone()) {
            taken = self
                .given_back
                .wait(taken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Turn { turns: self, entry }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(AssetId, CachePath)>> {
        // A set is whole after every call made on it, also after a panic between two.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.entry);
        self.turns.given_back.notify_all();
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

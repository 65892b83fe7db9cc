//! What the holders of partial entries leave for whoever finds them taken.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fs::turns::{Turn, Turns};
use super::id::AssetId;
use super::path::CachePath;

/// Of a type that only who left it knows. It must not keep the entry, which would then never end.
pub(crate) type Note = Arc<dyn Any + Send + Sync>;

#[derive(Default)]
pub(crate) struct Notes {
    turns: Turns,
    left: Mutex<HashMap<(AssetId, CachePath), Note>>,
}

impl Notes {
    /// One at a time looks for a note and, where there is none, gets what it leaves one for.
    pub(crate) fn turn(&self, asset: &AssetId, path: &CachePath) -> Turn<'_> {
        self.turns.take(asset, path)
    }

    pub(super) fn leave(&self, asset: &AssetId, path: &CachePath, note: Note) {
        // The one before is dropped without the lock: what it holds is not ours.
        let before = self.lock().insert((asset.bare(), path.clone()), note);
        drop(before);
    }

    pub(super) fn take_away(&self, asset: &AssetId, path: &CachePath) {
        let note = self.lock().remove(&(asset.bare(), path.clone()));
        drop(note);
    }

    pub(crate) fn read(&self, asset: &AssetId, path: &CachePath) -> Option<Note> {
        self.lock().get(&(asset.bare(), path.clone())).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(AssetId, CachePath), Note>> {
        // Each change is one call on the map, which a panic elsewhere does not break.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

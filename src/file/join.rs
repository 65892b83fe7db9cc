//! Two sources of one file in one process: the second reads what the first fetches.
//!
//! The one who has the cache's partial entry leaves a note with it. Whoever finds the entry taken finds the note, and
//! becomes one more reader of the same resource; the fetcher goes on until the last of them is gone.

use std::sync::Arc;

use async_channel::Sender;

use super::dials::Dials;
use super::{FileControl, FileError};
use crate::cache::{AssetId, BlockingCache, CachePath, PartialEntry, WeakPartialEntry};
use crate::storage::{Condition, StatusWatch, StreamingResource, WeakResource};

/// What a fetcher leaves for others. Keeps neither the entry nor the resource.
struct Note {
    entry: WeakPartialEntry,
    resource: WeakResource<FileError>,
    dials: Arc<Dials>,
}

/// A file that somebody else has open.
pub(super) struct Shared {
    pub(super) resource: StreamingResource<FileError>,
    pub(super) entry: PartialEntry,
    /// Those of the one who opened it.
    pub(super) dials: Arc<Dials>,
}

/// Lets others join.
pub(super) fn invite(entry: &PartialEntry, resource: &StreamingResource<FileError>, dials: &Arc<Dials>) {
    entry.leave_note(Arc::new(Note {
        entry: entry.downgrade(),
        resource: resource.downgrade(),
        dials: Arc::clone(dials),
    }));
}

/// What there is to join: somebody reads it, and it goes to the disk.
pub(super) fn find(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Option<Shared> {
    let note = cache.notes().read(asset, path)?.downcast::<Note>().ok()?;
    let (entry, resource) = (note.entry.upgrade()?, note.resource.upgrade()?);
    // Bytes that are let go again are fetched for those who came first.
    if resource.has_let_go() || matches!(resource.status().condition, Condition::Discarded(_)) {
        return None;
    }
    Some(Shared {
        resource,
        entry,
        dials: Arc::clone(&note.dials),
    })
}

/// Waits until it is known what the fetcher of a resource has to fetch. `false` if there is no fetcher any more.
pub(super) async fn is_fetched(resource: &StreamingResource<FileError>) -> bool {
    let mut watch = resource.watch();
    loop {
        let status = watch.changed().await;
        match status.condition {
            Condition::Complete => return true,
            Condition::Writing if status.len.is_some() || !status.available.is_empty() => return true,
            Condition::Writing => {}
            Condition::Idle | Condition::Failed(_) | Condition::Discarded(_) => return false,
        }
    }
}

/// Says when the file is complete, and ends then or when nobody fetches it any more.
pub(super) async fn follow(mut watch: StatusWatch<FileError>, control: Sender<FileControl>) {
    loop {
        match watch.changed().await.condition {
            Condition::Writing => {}
            Condition::Complete => {
                // Whoever does not listen is not told.
                let _ = control.try_send(FileControl::Cached);
                return;
            }
            Condition::Idle | Condition::Failed(_) | Condition::Discarded(_) => return,
        }
    }
}

//! Two sources of one file in one process: the second reads what the first fetches.
//!
//! Whoever claims the cache's partial entry invites others. Who comes later finds the invitation and becomes one more
//! reader of the same resource; the fetcher goes on until the last of them is gone.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use async_channel::Sender;
use async_lock::Mutex as Line;

use super::company::Company;
use super::dials::Dials;
use super::{FileControl, FileError};
use crate::cache::{
    AssetId, BlockingCache, CachePath, EntryGuard, EntryLocks, PartialEntry, WeakPartialEntry,
};
use crate::storage::{Condition, StatusWatch, StreamingResource, WeakResource};

/// Of the process, as caches are: a root is open once.
static OPEN: LazyLock<Open> = LazyLock::new(Open::default);

#[derive(Default)]
struct Open {
    turns: EntryLocks,
    invitations: Mutex<HashMap<(usize, AssetId, CachePath), Arc<Invitation>>>,
}

/// Keeps neither the entry, which would then never end, nor the resource.
struct Invitation {
    entry: WeakPartialEntry,
    resource: WeakResource<FileError>,
    dials: Arc<Dials>,
    opening: Opening,
    company: Arc<Company>,
}

/// Held by the one who opens the file. As long as it is not open its fetcher ends with whoever asked for it; then the
/// next in line opens it.
pub(super) type Opening = Arc<Line<()>>;

/// A file that somebody else has open.
pub(super) struct Shared {
    pub(super) resource: StreamingResource<FileError>,
    pub(super) entry: PartialEntry,
    /// Those of the one who opened it.
    pub(super) dials: Arc<Dials>,
    pub(super) opening: Opening,
    pub(super) company: Arc<Company>,
}

impl Open {
    fn invitations(&self) -> MutexGuard<'_, HashMap<(usize, AssetId, CachePath), Arc<Invitation>>> {
        // Each change is one call on the map, which a panic elsewhere does not break.
        self.invitations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One at a time looks for somebody to join and, where there is nobody, claims the entry and invites.
pub(super) fn turn(asset: &AssetId, path: &CachePath) -> EntryGuard<'static> {
    OPEN.turns.take(asset, path)
}

/// Lets others join, as long as `entry` is held.
pub(super) fn invite(
    entry: &PartialEntry,
    resource: &StreamingResource<FileError>,
    dials: &Arc<Dials>,
    company: &Arc<Company>,
) -> Opening {
    let opening = Opening::default();
    let invitation = Invitation {
        entry: entry.downgrade(),
        resource: resource.downgrade(),
        dials: Arc::clone(dials),
        opening: Arc::clone(&opening),
        company: Arc::clone(company),
    };
    let mut invitations = OPEN.invitations();
    invitations.retain(|_, invitation| invitation.entry.is_held());
    entry.beside(|cache, asset, path| {
        invitations.insert((cache.id(), asset.bare(), path.clone()), Arc::new(invitation));
    });
    opening
}

/// What there is to join: somebody reads it, and it goes to the disk.
pub(super) fn find(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Option<Shared> {
    let invitation = OPEN
        .invitations()
        .get(&(cache.id(), asset.bare(), path.clone()))
        .cloned()?;
    let (entry, resource) = (invitation.entry.upgrade()?, invitation.resource.upgrade()?);
    // Bytes that are let go again are fetched for those who came first.
    if resource.has_let_go() || matches!(resource.status().condition, Condition::Discarded(_)) {
        return None;
    }
    Some(Shared {
        resource,
        entry,
        dials: Arc::clone(&invitation.dials),
        opening: Arc::clone(&invitation.opening),
        company: Arc::clone(&invitation.company),
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

//! What one opened stream knows while it fetches.

use super::{HlsError, Resource, pending_commits::PendingCommits};
use crate::{cache::CacheError, media::Bypass};

/// What one opened stream knows while it fetches: whether it may use the network, the cache writes that it has begun, and
/// what bypassed the cache.
///
/// The part ahead has a context of its own, because it is fetched while the part before it is read. What it gathered is
/// taken over when its turn comes.
pub(super) struct FetchContext {
    pub(super) is_offline: bool,
    /// Remembers the first failure as well: that is the one which the control message tells.
    pub(super) commits: PendingCommits,
}

impl FetchContext {
    pub(super) fn new(is_offline: bool) -> Self {
        Self {
            is_offline,
            commits: PendingCommits::default(),
        }
    }

    /// Notes that something is not kept, or not read from the cache.
    pub(super) fn bypass(&mut self, resource: &Resource, reason: Bypass) {
        self.commits
            .append(PendingCommits::failed((resource.clone(), reason)));
    }

    /// An entry failed before any byte of it was given out. `Ok` means that it is fetched instead.
    ///
    /// A damaged entry is a miss, not a bypass: what is fetched takes its place in the cache.
    pub(super) fn unread_entry_failed(
        &mut self,
        resource: &Resource,
        source: CacheError,
    ) -> Result<(), HlsError> {
        if matches!(source, CacheError::Damaged { .. }) {
            log::warn!("{resource} in the cache is damaged");
            return self.allow_network(resource);
        }
        self.entry_failed(resource, source)
    }

    /// An entry cannot be read, or not any further. `Ok` means that it is fetched instead.
    pub(super) fn entry_failed(&mut self, resource: &Resource, source: CacheError) -> Result<(), HlsError> {
        // Offline there is nothing to go on with. That the cache failed is told, not that the resource is missing: the app may
        // find it again when the disk is back.
        if self.is_offline {
            let resource = resource.clone();
            return Err(HlsError::OfflineCache { resource, source });
        }
        self.bypass(resource, Bypass::Refused(source));
        Ok(())
    }

    /// The one place that decides whether a connection may be made. Every request passes it.
    pub(super) fn allow_network(&self, resource: &Resource) -> Result<(), HlsError> {
        if self.is_offline {
            let resource = resource.clone();
            return Err(HlsError::OfflineMiss { resource });
        }
        Ok(())
    }
}

//! What one opened stream knows while it fetches.

use snafu::ResultExt;

use super::{
    error::{HlsError, OfflineCacheSnafu, OfflineMissSnafu, Resource},
    pending_commits::PendingCommits,
};
use crate::{cache::CacheError, media::Bypass};

/// What one stream knows: whether it may use the network, and what it has yet to say about the cache.
pub(super) struct FetchContext {
    pub(super) offline: bool,
    /// Its first failure is what the control message will tell.
    pub(super) commits: PendingCommits,
}

impl FetchContext {
    pub(super) fn new(offline: bool) -> Self {
        Self {
            offline,
            commits: PendingCommits::default(),
        }
    }

    /// Notes that the cache failed.
    pub(super) fn bypass(&mut self, resource: &Resource, reason: Bypass) {
        self.commits
            .append(PendingCommits::failed((resource.clone(), reason)));
    }

    /// As [`unreadable`](Self::unreadable), before any byte was read: a damaged entry is a miss, and what is fetched
    /// takes its place.
    pub(super) fn unread(&mut self, resource: &Resource, source: CacheError) -> Result<(), HlsError> {
        if matches!(source, CacheError::Damaged { .. }) {
            log::warn!("{resource} in the cache is damaged");
            return self.online(resource);
        }
        self.unreadable(resource, source)
    }

    /// Takes in a cache that cannot be read: a reason to go on without it, or the end when there is nothing else.
    pub(super) fn unreadable(&mut self, resource: &Resource, source: CacheError) -> Result<(), HlsError> {
        if self.offline {
            return Err(source).context(OfflineCacheSnafu {
                resource: resource.clone(),
            });
        }
        self.bypass(resource, Bypass::Refused(source));
        Ok(())
    }

    /// The last word before the network.
    pub(super) fn online(&self, resource: &Resource) -> Result<(), HlsError> {
        if self.offline {
            OfflineMissSnafu {
                resource: resource.clone(),
            }
            .fail()
        } else {
            Ok(())
        }
    }
}

//! What the cache has of a file, and where the rest will be put.

use std::sync::Arc;

use super::company::Company;
use super::dials::Dials;
use super::join::{self, Opening};
use super::shelf;
use super::{Bypass, FileError};
use crate::cache::{AssetId, BlockingCache, CacheError, CachePath, PartialEntry};
use crate::net::{Url, Validator, redacted};
use crate::rt;
use crate::storage::StreamingResource;

pub(super) type Resource = StreamingResource<FileError>;

/// Where the bytes will be kept, and what is there already.
pub(super) struct Desk {
    pub(super) resource: Resource,
    pub(super) entry: Option<PartialEntry>,
    pub(super) bypass: Option<Bypass>,
    /// Of the source that it was joined to.
    pub(super) dials: Option<Arc<Dials>>,
    /// Where others may join.
    pub(super) opening: Option<Opening>,
    /// Those who joined this, or this one has joined.
    pub(super) company: Arc<Company>,
}

/// What the cache has of a file.
pub(super) enum Looked {
    Whole(Resource),
    Desk(Desk),
    /// It cannot tell.
    Unknown(CacheError),
}

impl Looked {
    /// `None` if the cache does not have the whole file.
    pub(super) fn whole(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Option<Self> {
        let found = match cache.resource(asset, path) {
            // It is there, in memory.
            Err(CacheError::NoFiles) => shelf::open(cache, asset, path),
            found => found,
        };
        match found {
            Ok(Some(whole)) => Some(Self::Whole(whole)),
            Ok(None) => None,
            Err(error) => Some(Self::Unknown(error)),
        }
    }
}

impl Desk {
    /// Joins who has the cache's partial entry, or claims it, or says why it has to do without.
    pub(super) fn take(
        cache: &BlockingCache,
        asset: &AssetId,
        path: &CachePath,
        dials: &Arc<Dials>,
        whole: bool,
    ) -> Result<Looked, Bypass> {
        let _turn = join::turn(asset, path);
        if let Some(shared) = join::find(cache, asset, path) {
            return Ok(Looked::Desk(Self::shared(shared)));
        }
        let entry = match cache.partial(asset, path) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Err(Bypass::InUse),
            Err(CacheError::NoFiles) => return Err(Bypass::NoCache),
            Err(error) => return Err(Bypass::Refused(Arc::new(error))),
        };
        // Whoever had the claim may have made the file whole.
        if whole && let Some(found @ Looked::Whole(_)) = Looked::whole(cache, asset, path) {
            return Ok(found);
        }
        let opened = entry.open();
        let resource = opened.map_err(|error| Bypass::Failed(Arc::new(error)))?;
        let company = Arc::default();
        let opening = join::invite(&entry, &resource, dials, &company);
        Ok(Looked::Desk(Self {
            resource,
            entry: Some(entry),
            bypass: None,
            dials: None,
            opening: Some(opening),
            company,
        }))
    }

    fn shared(shared: join::Shared) -> Self {
        Self {
            resource: shared.resource,
            entry: Some(shared.entry),
            bypass: None,
            dials: Some(shared.dials),
            opening: Some(shared.opening),
            company: shared.company,
        }
    }

    pub(super) fn in_memory(url: &Url, reason: Bypass) -> Self {
        Self {
            resource: Resource::in_memory(redacted(url)),
            entry: None,
            bypass: Some(reason),
            dials: None,
            opening: None,
            company: Arc::default(),
        }
    }

    pub(super) fn is_whole(&self) -> Option<u64> {
        let len = self.resource.len()?;
        self.resource.missing(0..len).is_empty().then_some(len)
    }

    pub(super) fn missing(&self) -> Vec<std::ops::Range<u64>> {
        match self.resource.len() {
            Some(len) => self.resource.missing(0..len),
            None => Vec::new(),
        }
    }

    /// Which file the bytes are of, as an earlier session noted.
    pub(super) fn identity(&self) -> Option<(Validator, u64)> {
        let tag = String::from_utf8(self.resource.tag()).ok()?;
        Some((Validator::parse(&tag)?, self.resource.len()?))
    }

    pub(super) async fn commit(self, len: u64) -> Resource {
        let Self { resource, entry, .. } = self;
        rt::unblock(move || {
            if let (Some(entry), Ok(mut writer)) = (entry, resource.writer())
                && let Err(error) = entry.commit(&mut writer, len)
            {
                log::warn!("not kept in the cache: {error}");
            }
            resource
        })
        .await
    }
}

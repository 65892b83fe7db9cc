//! What the cache has of a file, and where the rest will be put.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::revalidate::StoredValidators;
use super::sharing::{self, DownloadSettings, OpenLock, Subscribers};
use super::{Bypass, FileControl, FileError};
use crate::cache::{AssetId, BlockingCache, CacheError, CachePath, PartialEntry};
use crate::net::{Url, Validator, redacted};
use crate::rt;
use crate::storage::{Found, StreamingResource, Writer};

pub(super) type Resource = StreamingResource<FileError>;

/// Where the bytes will be kept, and what is there already.
pub(super) struct DownloadTarget {
    pub(super) resource: Resource,
    pub(super) entry: Option<PartialEntry>,
    pub(super) bypass: Option<Bypass>,
    /// Of the source that it was joined to.
    pub(super) settings: Option<Arc<DownloadSettings>>,
    /// Where others may join.
    pub(super) open_lock: Option<OpenLock>,
    /// Those who joined this, or this one has joined.
    pub(super) subscribers: Arc<Subscribers>,
}

/// What the cache has of a file.
pub(super) enum CacheLookup {
    Whole(Resource),
    DownloadTarget(DownloadTarget),
    /// It cannot tell.
    Unknown(CacheError),
}

impl CacheLookup {
    /// `None` if the cache does not have the whole file.
    pub(super) fn whole(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Option<Self> {
        let found = match cache.resource(asset, path) {
            // It is there, in memory.
            Err(CacheError::NoFiles) => open_memory_entry(cache, asset, path),
            found => found,
        };
        match found {
            Ok(Some(whole)) => Some(Self::Whole(whole)),
            Ok(None) => None,
            Err(error) => Some(Self::Unknown(error)),
        }
    }
}

impl DownloadTarget {
    /// Joins who has the cache's partial entry, or claims it, or says why it has to do without.
    pub(super) fn take(
        cache: &BlockingCache,
        asset: &AssetId,
        path: &CachePath,
        settings: &Arc<DownloadSettings>,
        whole: bool,
    ) -> Result<CacheLookup, Bypass> {
        let _guard = sharing::lock_entry(asset, path);
        if let Some(shared) = sharing::find(cache, asset, path) {
            return Ok(CacheLookup::DownloadTarget(Self::shared(shared)));
        }
        let entry = match cache.partial(asset, path) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Err(Bypass::InUse),
            Err(CacheError::NoFiles) => return Err(Bypass::NoCache),
            Err(error) => return Err(Bypass::Refused(Arc::new(error))),
        };
        // Whoever had the claim may have made the file whole.
        if whole && let Some(found @ CacheLookup::Whole(_)) = CacheLookup::whole(cache, asset, path) {
            return Ok(found);
        }
        let opened = entry.open();
        let resource = opened.map_err(|error| Bypass::Failed(Arc::new(error)))?;
        let subscribers = Arc::default();
        let open_lock = sharing::register(&entry, &resource, settings, &subscribers);
        Ok(CacheLookup::DownloadTarget(Self {
            resource,
            entry: Some(entry),
            bypass: None,
            settings: None,
            open_lock: Some(open_lock),
            subscribers,
        }))
    }

    fn shared(shared: sharing::SharedDownload) -> Self {
        Self {
            resource: shared.resource,
            entry: Some(shared.entry),
            bypass: None,
            settings: Some(shared.settings),
            open_lock: Some(shared.open_lock),
            subscribers: shared.subscribers,
        }
    }

    pub(super) fn in_memory(url: &Url, reason: Bypass) -> Self {
        Self {
            resource: Resource::in_memory(redacted(url)),
            entry: None,
            bypass: Some(reason),
            settings: None,
            open_lock: None,
            subscribers: Arc::default(),
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

/// The place of one file.
pub(super) struct MemoryEntry {
    pub(super) cache: BlockingCache,
    pub(super) asset: AssetId,
    pub(super) path: CachePath,
}

impl MemoryEntry {
    /// Puts the whole file there, and says whether it is kept.
    pub(super) fn put(
        &self,
        writer: &Writer<FileError>,
        len: u64,
        validators: Option<StoredValidators>,
    ) -> FileControl {
        let Some(bytes) = gather(writer, len) else {
            return FileControl::CacheBypassed {
                reason: Bypass::NoCache,
            };
        };
        match self.cache.put_atomic(&self.asset, &self.path, bytes) {
            Ok(()) => {
                if let Some(validators) = validators {
                    validators.store(&self.cache, &self.asset, &self.path);
                }
                FileControl::Cached
            }
            Err(error) => {
                log::warn!("not kept in the cache: {error}");
                let reason = Bypass::Refused(Arc::new(error));
                FileControl::CacheBypassed { reason }
            }
        }
    }
}

fn gather(writer: &Writer<FileError>, len: u64) -> Option<Bytes> {
    let mut whole = BytesMut::zeroed(usize::try_from(len).ok()?);
    let mut at = 0;
    while at < whole.len() {
        match writer.read_at(at as u64, whole.get_mut(at..)?) {
            Ok(Found::Bytes(count)) => at += count,
            _ => return None,
        }
    }
    Some(whole.freeze())
}

/// The file as it stands there.
fn open_memory_entry(
    cache: &BlockingCache,
    asset: &AssetId,
    path: &CachePath,
) -> Result<Option<Resource>, CacheError> {
    let Some(bytes) = cache.get(asset, path)? else {
        return Ok(None);
    };
    let resource = Resource::in_memory(path.as_str());
    let filled = resource.writer().and_then(|mut writer| {
        writer.set_len(bytes.len() as u64)?;
        writer.hold(0, &bytes)
    });
    Ok(filled.is_ok().then_some(resource))
}

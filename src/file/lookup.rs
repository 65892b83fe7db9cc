//! What the cache has of a file, and the claim on the rest.
//!
//! A cache on the disk has a complete file or a partial entry, which one download at a time may write. A cache in memory
//! takes a file whole or not at all: there the download gathers the file in its window first, and a file longer than the
//! window is not kept ([`MemoryEntry`]).

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::revalidate::StoredValidators;
use super::sharing::{self, DownloadSettings, OpenLock, SharedDownload, Subscribers};
use super::{Bypass, FileControl, FileError};
use crate::cache::{AssetId, BlockingCache, CacheError, CachePath, PartialEntry};
use crate::net::{Url, redacted};
use crate::rt;
use crate::storage::{Found, StreamingResource, Writer};

pub(super) type Resource = StreamingResource<FileError>;

/// What the cache has of a file.
pub(super) enum CacheLookup {
    Complete(Resource),
    Incomplete(DownloadTarget),
    /// The cache failed.
    Unknown(CacheError),
}

/// Where a download writes, and what is there already.
pub(super) struct DownloadTarget {
    pub(super) resource: Resource,
    /// The claim on the cache's partial entry. `None` if bytes go to memory only.
    pub(super) entry: Option<PartialEntry>,
    /// Why there is no entry.
    pub(super) bypass: Option<Bypass>,
    /// Those of the source whose download this one shares.
    pub(super) settings: Option<Arc<DownloadSettings>>,
    /// Where sources that open the same file stand in line. `None` if the download cannot be shared.
    pub(super) open_lock: Option<OpenLock>,
    /// The sources that share the download.
    pub(super) subscribers: Arc<Subscribers>,
}

impl CacheLookup {
    /// `None` if the cache does not have the complete file. Blocks.
    pub(super) fn complete(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Option<Self> {
        let found = match cache.resource(asset, path) {
            // A cache in memory has entries and no files to read them from.
            Err(CacheError::NotSupported { .. }) => open_memory_entry(cache, asset, path),
            found => found,
        };
        match found {
            Ok(Some(complete)) => Some(Self::Complete(complete)),
            Ok(None) => None,
            Err(error) => Some(Self::Unknown(error)),
        }
    }
}

impl DownloadTarget {
    /// Shares the download of the partial entry, or claims the entry. `Err` says why neither is possible. Blocks.
    pub(super) fn find(
        cache: &BlockingCache,
        asset: &AssetId,
        path: &CachePath,
        settings: &Arc<DownloadSettings>,
        accepts_complete: bool,
    ) -> Result<CacheLookup, Bypass> {
        // Held until the claim is registered. Between the claim and the registration another source would find the entry
        // taken and nothing to share, and would download the file a second time.
        let _guard = sharing::lock_entry(asset, path);
        if let Some(shared) = sharing::find(cache, asset, path) {
            return Ok(CacheLookup::Incomplete(Self::shared(shared)));
        }
        let entry = match cache.partial(asset, path) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Err(Bypass::InUse),
            Err(CacheError::NotSupported { .. }) => return Err(Bypass::NoCache),
            Err(error) => return Err(Bypass::Refused(error)),
        };
        // The last holder of the claim may have committed the file after it was looked for.
        if accepts_complete
            && let Some(found @ CacheLookup::Complete(_)) = CacheLookup::complete(cache, asset, path)
        {
            return Ok(found);
        }
        let resource = entry.open().map_err(Bypass::Failed)?;
        let subscribers = Arc::default();
        let open_lock = sharing::register(&entry, &resource, settings, &subscribers);
        Ok(CacheLookup::Incomplete(Self {
            resource,
            entry: Some(entry),
            bypass: None,
            settings: None,
            open_lock: Some(open_lock),
            subscribers,
        }))
    }

    fn shared(shared: SharedDownload) -> Self {
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

    /// The file's length, if all of its bytes are there.
    pub(super) fn complete_len(&self) -> Option<u64> {
        let len = self.resource.len()?;
        self.resource.missing(0..len).is_empty().then_some(len)
    }

    /// The missing ranges. Empty if the length is unknown.
    pub(super) fn missing(&self) -> Vec<Range<u64>> {
        match self.resource.len() {
            Some(len) => self.resource.missing(0..len),
            None => Vec::new(),
        }
    }

    /// Which file the bytes are of, as an earlier session recorded it: the tag and the length.
    pub(super) fn identity(&self) -> Option<(String, u64)> {
        // Both or none: without the length the server's total could not be compared.
        let tag = String::from_utf8(self.resource.tag()).ok()?;
        Some((tag, self.resource.len()?)).filter(|(tag, _)| !tag.is_empty())
    }

    /// Commits bytes that are all there. If that fails they can be read all the same.
    pub(super) async fn commit(self, len: u64) -> Resource {
        let Self { resource, entry, .. } = self;
        // The writer may be taken: another source is committing the same bytes then, and there is nothing to do.
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

/// Where the complete file goes in a cache in memory.
pub(super) struct MemoryEntry {
    pub(super) cache: BlockingCache,
    pub(super) asset: AssetId,
    pub(super) path: CachePath,
}

impl MemoryEntry {
    /// Puts the complete file into the cache. Returns what there is to tell.
    pub(super) fn put(
        &self,
        writer: &Writer<FileError>,
        len: u64,
        validators: Option<StoredValidators>,
    ) -> FileControl {
        let Some(bytes) = read_all(writer, len) else {
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
                let reason = Bypass::Refused(error);
                FileControl::CacheBypassed { reason }
            }
        }
    }
}

/// `None` if a byte has left the window.
fn read_all(writer: &Writer<FileError>, len: u64) -> Option<Bytes> {
    let mut all = BytesMut::zeroed(usize::try_from(len).ok()?);
    let mut at = 0;
    while at < all.len() {
        match writer.read_at(at as u64, all.get_mut(at..)?) {
            Ok(Found::Bytes(count)) => at += count,
            _ => return None,
        }
    }
    Some(all.freeze())
}

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
        writer.keep_in_memory(0, &bytes)
    });
    Ok(filled.is_ok().then_some(resource))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::cache::AssetCache;
    use crate::file::LookAhead;

    fn settings() -> Arc<DownloadSettings> {
        Arc::new(DownloadSettings::new(LookAhead::Whole, 1))
    }

    fn opened(found: Result<CacheLookup, Bypass>) -> DownloadTarget {
        match found {
            Ok(CacheLookup::Incomplete(target)) => target,
            _ => panic!("no target"),
        }
    }

    /// W59: between the last reader's drop and the end of the commit a complete file is waited for.
    #[test]
    fn w59_a_file_that_is_being_committed_is_found() {
        let root = tempfile::tempdir().unwrap();
        let cache = AssetCache::builder(root.path()).open_blocking().unwrap();
        let cache = cache.blocking().clone();
        let (asset, path) = (AssetId::from_key("a").unwrap(), CachePath::parse("b").unwrap());
        let DownloadTarget { resource, entry, .. } =
            opened(DownloadTarget::find(&cache, &asset, &path, &settings(), true));
        let mut writer = resource.writer().unwrap();
        writer.write_at(0, b"complete").unwrap();
        // The last reader is gone, and the commit still syncs the disk.
        drop(resource);
        let (answer, answered) = mpsc::channel();
        let opening = thread::spawn({
            let (cache, asset, path) = (cache.clone(), asset.clone(), path.clone());
            move || {
                let found = DownloadTarget::find(&cache, &asset, &path, &settings(), true);
                answer
                    .send(matches!(found, Ok(CacheLookup::Complete(_))))
                    .unwrap();
            }
        });
        // Longer than a claim is waited for that nobody is about to give up.
        let early = answered.recv_timeout(Duration::from_secs(1));
        assert_eq!(
            early,
            Err(mpsc::RecvTimeoutError::Timeout),
            "it is not waited for"
        );
        let entry = entry.unwrap();
        entry.commit(&mut writer, 8).unwrap();
        drop((writer, entry));
        assert!(answered.recv().unwrap());
        opening.join().unwrap();
    }
}

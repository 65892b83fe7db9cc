//! From a location to a resource: the cache first, then what is left of an earlier session, then the network.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_channel::Receiver;
use snafu::{OptionExt as _, ResultExt as _};

use super::driver::{Dials, Fetch, FileDriver, Manner, Over};
use super::error::{CacheSnafu, LocalSnafu, NoClientSnafu, OfflineMissSnafu};
use super::pen::Pen;
use super::remote::Remote;
use super::{Bypass, FileControl, FileError, FileParams, Location, Origin};
use crate::cache::{AssetId, BlockingCache, CacheError, CachePath, PartialEntry};
use crate::net::{Url, Validator, redacted};
use crate::rt;
use crate::storage::{StreamingOptions, StreamingResource};

type Resource = StreamingResource<FileError>;

/// A file that is open.
pub(super) struct Opened {
    pub(super) resource: Resource,
    pub(super) driver: FileDriver,
    pub(super) control: Receiver<FileControl>,
}

/// A file's location and how it is to be fetched.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) location: Location,
    pub(super) params: FileParams,
    pub(super) dials: Arc<Dials>,
}

/// Where the bytes will be kept, and what is there already.
struct Desk {
    resource: Resource,
    entry: Option<PartialEntry>,
    bypass: Option<Bypass>,
}

impl Place {
    pub(super) fn new(location: Location, params: FileParams) -> Self {
        let dials = Dials {
            bytes_per_second: AtomicU64::new(params.bytes_per_second),
        };
        Self {
            location,
            params,
            dials: Arc::new(dials),
        }
    }

    /// Opens the file for somebody who reads at `position` first.
    pub(super) async fn open(&self, position: u64, offline: bool) -> Result<Opened, FileError> {
        match &self.location {
            Location::Path(path) => {
                let path = path.clone();
                let resource = rt::unblock(move || local(&path)).await?;
                Ok(Opened::whole(resource, Origin::Local))
            }
            Location::Url(url) => self.open_url(url, position, offline || self.params.offline).await,
        }
    }

    async fn open_url(&self, url: &Url, position: u64, offline: bool) -> Result<Opened, FileError> {
        let (asset, path) = self.names(url);
        let desk = match self.look(url, &asset, &path, true).await {
            Looked::Whole(whole) => return Ok(Opened::whole(whole, Origin::Cache)),
            Looked::Unknown(error) if offline => return Err(error).context(CacheSnafu),
            // C16: what the cache cannot tell, the server can.
            Looked::Unknown(error) => Desk::in_memory(url, Bypass::Refused(Arc::new(error))),
            Looked::Desk(desk) => desk,
        };
        if let Some(len) = desk.is_whole() {
            // The session that fetched the last byte was killed before its commit.
            let resource = desk.commit(len).await;
            return Ok(Opened::whole(resource, Origin::Cache));
        }
        if offline {
            return OfflineMissSnafu {
                resource: redacted(url),
                missing: desk.missing(),
                len: desk.resource.len(),
            }
            .fail();
        }
        self.fetch(url, &asset, &path, desk, position).await
    }

    async fn fetch(
        &self,
        url: &Url,
        asset: &AssetId,
        path: &CachePath,
        mut desk: Desk,
        position: u64,
    ) -> Result<Opened, FileError> {
        let client = self
            .params
            .client
            .clone()
            .with_context(|| NoClientSnafu { url: redacted(url) })?;
        let (sender, control) = async_channel::unbounded();
        let mut remote = Remote::new(client, url.clone());
        loop {
            let known = desk.identity();
            let resumed = known.is_some();
            match known {
                Some((validator, len)) => remote.resume(validator, len),
                // Bytes of which nobody can say what file they are of.
                None if !desk.resource.available().is_empty() || desk.resource.len().is_some() => {
                    desk.wipe();
                    desk = self.desk_anew(url, asset, path).await;
                    continue;
                }
                None => {}
            }
            let Ok(writer) = desk.resource.writer() else {
                desk = Desk::in_memory(url, Bypass::InUse);
                continue;
            };
            let mut pen = Pen::new(writer, desk.entry.take(), sender.clone());
            pen.resumable = resumed;
            let Some(mut fetch) = Fetch::new(remote, pen, self.manner()) else {
                return Err(FileError::Stopped);
            };
            match fetch.first(position).await {
                Ok(()) => {}
                Err(Over::Changed) if resumed => {
                    log::info!("{}: changed on the server, fetching it anew", redacted(url));
                    let cause = fetch.changed();
                    let Fetch {
                        remote: back, pen, ..
                    } = fetch;
                    rt::unblock(move || pen.discard(cause)).await;
                    drop(desk);
                    remote = back;
                    remote.forget();
                    desk = self.desk_anew(url, asset, path).await;
                    continue;
                }
                Err(Over::Changed) => return Err(fetch.changed()),
                // What an earlier session left can be played meanwhile.
                Err(Over::Failed(error)) if resumed && error.is_transient() => {
                    log::warn!("{error}; starting with what is there");
                }
                Err(Over::Failed(error)) => return Err(error),
            }
            let opened = FileControl::Opened {
                origin: Origin::Network,
                len: desk.resource.len(),
            };
            fetch.pen.announce(opened, desk.bypass);
            return Ok(Opened {
                resource: desk.resource,
                driver: FileDriver::of(fetch),
                control,
            });
        }
    }

    fn names(&self, url: &Url) -> (AssetId, CachePath) {
        let FileParams { asset, path, .. } = &self.params;
        (
            asset.clone().unwrap_or_else(|| AssetId::from_url(url)),
            path.clone().unwrap_or_else(|| CachePath::from_url(url)),
        )
    }

    fn manner(&self) -> Manner {
        let params = &self.params;
        Manner {
            look_ahead: params.look_ahead,
            window: params.window,
            unknown_length_limit: params.unknown_length_limit,
            accept_unproven_end: params.accept_unproven_end,
            dials: Arc::clone(&self.dials),
        }
    }

    async fn desk_anew(&self, url: &Url, asset: &AssetId, path: &CachePath) -> Desk {
        match self.look(url, asset, path, false).await {
            Looked::Desk(desk) => desk,
            Looked::Unknown(error) => Desk::in_memory(url, Bypass::Refused(Arc::new(error))),
            Looked::Whole(_) => Desk::in_memory(url, Bypass::InUse),
        }
    }

    /// Looks for the whole file in the cache (`whole`), and claims its partial entry otherwise: one hop to a thread that
    /// may block.
    async fn look(&self, url: &Url, asset: &AssetId, path: &CachePath, whole: bool) -> Looked {
        let Some(cache) = &self.params.cache else {
            return Looked::Desk(Desk::in_memory(url, Bypass::NoCache));
        };
        let (cache, asset, path, url) = (cache.blocking().clone(), asset.clone(), path.clone(), url.clone());
        rt::unblock(move || {
            if whole {
                match cache.resource(&asset, &path) {
                    Ok(Some(whole)) => return Looked::Whole(whole),
                    Ok(None) | Err(CacheError::NoFiles) => {}
                    Err(error) => return Looked::Unknown(error),
                }
            }
            Looked::Desk(Desk::claim(&cache, &asset, &path).unwrap_or_else(|why| Desk::in_memory(&url, why)))
        })
        .await
    }
}

/// What the cache has of a file.
enum Looked {
    Whole(Resource),
    Desk(Desk),
    /// It cannot tell.
    Unknown(CacheError),
}

impl Desk {
    /// Claims the cache's partial entry, or says why it has to do without.
    fn claim(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Result<Self, Bypass> {
        let entry = match cache.partial(asset, path) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Err(Bypass::InUse),
            Err(CacheError::NoFiles) => return Err(Bypass::NoCache),
            Err(error) => return Err(Bypass::Refused(Arc::new(error))),
        };
        let opened = entry.open();
        Ok(Self {
            resource: opened.map_err(|error| Bypass::Failed(Arc::new(error)))?,
            entry: Some(entry),
            bypass: None,
        })
    }

    fn in_memory(url: &Url, reason: Bypass) -> Self {
        Self {
            resource: Resource::in_memory(redacted(url)),
            entry: None,
            bypass: Some(reason),
        }
    }

    fn is_whole(&self) -> Option<u64> {
        let len = self.resource.len()?;
        self.resource.missing(0..len).is_empty().then_some(len)
    }

    fn missing(&self) -> Vec<std::ops::Range<u64>> {
        match self.resource.len() {
            Some(len) => self.resource.missing(0..len),
            None => Vec::new(),
        }
    }

    /// Which file the bytes are of, as an earlier session noted.
    fn identity(&self) -> Option<(Validator, u64)> {
        let tag = String::from_utf8(self.resource.tag()).ok()?;
        Some((Validator::parse(&tag)?, self.resource.len()?))
    }

    fn wipe(&self) {
        if let Ok(writer) = self.resource.writer() {
            drop(writer.discard(FileError::Stopped));
        }
    }

    async fn commit(self, len: u64) -> Resource {
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

impl Opened {
    fn whole(resource: Resource, origin: Origin) -> Self {
        let (sender, control) = async_channel::bounded(1);
        let len = resource.len();
        // The channel is new and has room for one.
        let _ = sender.try_send(FileControl::Opened { origin, len });
        Self {
            resource,
            driver: FileDriver::idle(),
            control,
        }
    }
}

fn local(path: &Path) -> Result<Resource, FileError> {
    // Resolved first: what the storage floor opens must not be a symbolic link, what a user opens may be.
    let resolved = path.canonicalize().context(LocalSnafu { path })?;
    let kind = resolved.metadata().context(LocalSnafu { path })?;
    if !kind.is_file() {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput)).context(LocalSnafu { path });
    }
    StreamingOptions::new(resolved)
        .open_finished(None)
        .map_err(std::io::Error::from)
        .context(LocalSnafu { path })
}

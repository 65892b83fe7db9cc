//! From a location to a resource: the cache first, then what is left of an earlier session, then the network.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_channel::{Receiver, Sender};
use futures_lite::future;
use snafu::{OptionExt as _, ResultExt as _};

use super::download::{Download, DownloadOptions, StopReason};
use super::driver::FileDriver;
use super::error::{CacheSnafu, LocalSnafu, NoClientSnafu, OfflineMissSnafu};
use super::lookup::{CacheLookup, DownloadTarget, MemoryEntry, Resource};
use super::remote::Remote;
use super::repair;
use super::revalidate::{self, StoredValidators};
use super::sharing::{self, DownloadSettings};
use super::sink::Sink;
use super::transfers::{CancelOnDrop, Transfers};
use super::{Bypass, FileControl, FileError, FileParams, Location, Origin};
use crate::cache::{AssetId, CachePath};
use crate::net::{Url, redacted};
use crate::rt;
use crate::storage::{StreamingError, StreamingOptions};

/// A file that is open.
pub(super) struct OpenFile {
    pub(super) resource: Resource,
    pub(super) driver: FileDriver,
    pub(super) control: Receiver<FileControl>,
}

/// A file that is open, and whose fetcher runs.
pub(super) struct StartedFile {
    pub(super) resource: Resource,
    pub(super) control: Receiver<FileControl>,
}

/// A file's location and how it is to be fetched.
#[derive(Debug)]
pub(super) struct FileContext {
    pub(super) location: Location,
    pub(super) params: FileParams,
    /// Those of another source, if this one has joined it.
    settings: Mutex<Arc<DownloadSettings>>,
}

impl FileContext {
    pub(super) fn new(location: Location, params: FileParams) -> Self {
        let settings = DownloadSettings::new(params.look_ahead, params.bytes_per_second);
        Self {
            location,
            params,
            settings: Mutex::new(Arc::new(settings)),
        }
    }

    pub(super) fn settings(&self) -> Arc<DownloadSettings> {
        // A pointer is whole whatever panics.
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the file for somebody who reads at `position` first, on a thread of its own that goes on to fetch it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(super) async fn start(
        self: &Arc<Self>,
        position: u64,
        offline: bool,
    ) -> Result<StartedFile, FileError> {
        let (answer, started) = async_channel::bounded(1);
        let transfers = Arc::new(Transfers::default());
        let _cancel_on_drop = CancelOnDrop(Arc::clone(&transfers));
        let context = Arc::clone(self);
        rt::spawn_on_thread(async move {
            let open_lock = async { Some(context.open(position, offline, transfers).await) };
            let unwanted = async {
                answer.closed().await;
                None
            };
            match future::or(open_lock, unwanted).await {
                None => {}
                // Whoever asked may be gone by now: then the answer is dropped, and the fetcher finds nobody reading.
                Some(Err(error)) => drop(answer.try_send(Err(error))),
                Some(Ok(opened)) => {
                    let OpenFile {
                        resource,
                        driver,
                        control,
                    } = opened;
                    drop(answer.try_send(Ok(StartedFile { resource, control })));
                    // What nobody hears lives as long as the channel, and is a reader of what this is about to fetch.
                    drop((answer, context));
                    if driver.serves_readers() {
                        driver.await;
                    }
                }
            }
        });
        started.recv().await.unwrap_or(Err(FileError::Stopped))
    }

    /// Opens the file for somebody who reads at `position` first. Its requests are put on `lines`.
    pub(super) async fn open(
        &self,
        position: u64,
        offline: bool,
        transfers: Arc<Transfers>,
    ) -> Result<OpenFile, FileError> {
        match &self.location {
            Location::Path(path) => {
                let path = path.clone();
                let resource = rt::unblock(move || local(&path)).await?;
                Ok(OpenFile::whole(resource, Origin::Local).0)
            }
            Location::Url(url) => {
                let offline = offline || self.params.offline;
                self.open_url(url, position, offline, transfers).await
            }
        }
    }

    async fn open_url(
        &self,
        url: &Url,
        position: u64,
        offline: bool,
        transfers: Arc<Transfers>,
    ) -> Result<OpenFile, FileError> {
        let (asset, path) = self.entry_name(url);
        let mut stale = false;
        let target = match self.look_up(url, &asset, &path, true).await {
            CacheLookup::Whole(whole) if offline || self.is_unchanged(url, &asset, &path, &whole).await? => {
                return Ok(self.opened(whole, url, offline));
            }
            CacheLookup::Whole(whole) => {
                log::info!("{}: changed on the server, fetching it anew", redacted(url));
                // It stays in the cache until the new one is whole.
                drop(whole);
                stale = true;
                match self.look_up(url, &asset, &path, false).await {
                    CacheLookup::DownloadTarget(target) => target,
                    _ => DownloadTarget::in_memory(url, Bypass::InUse),
                }
            }
            CacheLookup::Unknown(error) if offline => return Err(error).context(CacheSnafu),
            // C16: what the cache cannot tell, the server can.
            CacheLookup::Unknown(error) => DownloadTarget::in_memory(url, Bypass::Refused(Arc::new(error))),
            CacheLookup::DownloadTarget(target) => target,
        };
        if let Some(len) = target.is_whole() {
            // The session that fetched the last byte was killed before its commit.
            let resource = target.commit(len).await;
            return Ok(self.opened(resource, url, offline));
        }
        if offline {
            return OfflineMissSnafu {
                resource: redacted(url),
                missing: target.missing(),
                len: target.resource.len(),
            }
            .fail();
        }
        self.fetch(url, (&asset, &path), target, position, !stale, &transfers)
            .await
    }

    /// The whole file as it is in the cache. What the disk has lost of it is fetched, if that is allowed.
    fn opened(&self, whole: Resource, url: &Url, offline: bool) -> OpenFile {
        let (opened, sender) = OpenFile::whole(whole, Origin::Cache);
        if let Some(client) = self.params.client.as_ref().filter(|_| !offline) {
            repair::repair_on_damage(&opened.resource, client, url, sender);
        }
        opened
    }

    /// Whether the whole file in the cache may be played as it is.
    async fn is_unchanged(
        &self,
        url: &Url,
        asset: &AssetId,
        path: &CachePath,
        whole: &Resource,
    ) -> Result<bool, FileError> {
        let FileParams {
            client,
            cache,
            revalidate,
            ..
        } = &self.params;
        let (Some(client), Some(cache), Some(len), true) = (client, cache, whole.len(), revalidate) else {
            return Ok(true);
        };
        let (cache, asset, path) = (cache.blocking().clone(), asset.clone(), path.clone());
        let validators = rt::unblock(move || StoredValidators::load(&cache, &asset, &path)).await;
        revalidate::is_unchanged(client, url, validators.as_ref(), len).await
    }

    async fn fetch(
        &self,
        url: &Url,
        (asset, path): (&AssetId, &CachePath),
        target: DownloadTarget,
        position: u64,
        whole: bool,
        transfers: &Arc<Transfers>,
    ) -> Result<OpenFile, FileError> {
        let client = self
            .params
            .client
            .clone()
            .with_context(|| NoClientSnafu { url: redacted(url) })?;
        let (sender, control) = async_channel::unbounded();
        let mut remote = Remote::new(client, url.clone());
        let mut found = Some(target);
        loop {
            transfers.clear();
            let mut target = match found.take() {
                Some(target) => target,
                // What was there is worthless, or somebody else's who has given up.
                None => match self.look_up(url, asset, path, whole).await {
                    CacheLookup::DownloadTarget(target) => target,
                    CacheLookup::Unknown(error) => {
                        DownloadTarget::in_memory(url, Bypass::Refused(Arc::new(error)))
                    }
                    CacheLookup::Whole(whole) => return Ok(self.opened(whole, url, false)),
                },
            };
            let _open_lock = match &target.open_lock {
                Some(open_lock) => Some(open_lock.lock_arc().await),
                None => None,
            };
            let writer = match target.resource.writer() {
                Ok(writer) => writer,
                Err(_) if sharing::has_started(&target.resource).await => {
                    return Ok(OpenFile::shared(target, sender, control));
                }
                Err(error) => {
                    found = Some(target).filter(|_| matches!(error, StreamingError::Taken { .. }));
                    continue;
                }
            };
            let known = target.identity();
            let resumed = known.is_some();
            match known {
                Some((validator, len)) => remote.resume(validator, len),
                // Bytes of which nobody can say what file they are of.
                None if !target.resource.available().is_empty() || target.resource.len().is_some() => {
                    drop(writer.discard(FileError::Stopped));
                    continue;
                }
                None => {}
            }
            let mut sink = Sink::new(
                writer,
                target.entry.take(),
                sender.clone(),
                Arc::clone(&target.subscribers),
            );
            sink.resumable = resumed;
            if let (Some(Bypass::NoCache), Some(cache)) = (&target.bypass, &self.params.cache) {
                sink.memory_entry = Some(MemoryEntry {
                    cache: cache.blocking().clone(),
                    asset: asset.clone(),
                    path: path.clone(),
                });
            }
            let Some(mut fetch) = Download::new(remote, sink, self.options(), Arc::clone(transfers)) else {
                return Err(FileError::Stopped);
            };
            match fetch.first(position).await {
                Ok(()) => {}
                Err(StopReason::Changed) if resumed => {
                    log::info!("{}: changed on the server, fetching it anew", redacted(url));
                    let cause = fetch.changed();
                    let Download {
                        remote: back, sink, ..
                    } = fetch;
                    rt::unblock(move || sink.discard(cause)).await;
                    remote = back;
                    remote.forget();
                    continue;
                }
                Err(StopReason::Changed) => return Err(fetch.changed()),
                // What an earlier session left can be played meanwhile.
                Err(StopReason::Failed(error)) if resumed && error.is_transient() => {
                    log::warn!("{error}; starting with what is there");
                }
                Err(StopReason::Failed(error)) => return Err(error),
            }
            // Still in line: from here on others join, and whoever asked is one reader of several.
            if !transfers.mark_open() {
                return Err(FileError::Stopped);
            }
            let opened = FileControl::Opened {
                origin: Origin::Network,
                len: target.resource.len(),
            };
            // What fits a cache in memory is said to be cached, or not, once it is whole.
            let bypass = target.bypass.filter(|_| !fetch.fits_memory_entry());
            fetch.sink.announce(opened, bypass);
            return Ok(OpenFile {
                resource: target.resource,
                driver: FileDriver::of(fetch),
                control,
            });
        }
    }

    fn entry_name(&self, url: &Url) -> (AssetId, CachePath) {
        let FileParams { asset, path, .. } = &self.params;
        (
            asset.clone().unwrap_or_else(|| AssetId::from_url(url)),
            path.clone().unwrap_or_else(|| CachePath::from_url(url)),
        )
    }

    fn options(&self) -> DownloadOptions {
        let params = &self.params;
        DownloadOptions {
            window: params.window,
            unknown_length_limit: params.unknown_length_limit,
            stores_validators: params.revalidate,
            accept_unproven_end: params.accept_unproven_end,
            settings: self.settings(),
        }
    }

    /// Looks for the whole file in the cache (`whole`), and claims its partial entry otherwise: one hop to a thread that
    /// may block.
    async fn look_up(&self, url: &Url, asset: &AssetId, path: &CachePath, whole: bool) -> CacheLookup {
        let Some(cache) = &self.params.cache else {
            return CacheLookup::DownloadTarget(DownloadTarget::in_memory(url, Bypass::NoCache));
        };
        let (cache, asset, path, url) = (cache.blocking().clone(), asset.clone(), path.clone(), url.clone());
        let settings = self.settings();
        let found = rt::unblock(move || {
            if whole && let Some(found) = CacheLookup::whole(&cache, &asset, &path) {
                return found;
            }
            DownloadTarget::take(&cache, &asset, &path, &settings, whole)
                .unwrap_or_else(|why| CacheLookup::DownloadTarget(DownloadTarget::in_memory(&url, why)))
        })
        .await;
        if let CacheLookup::DownloadTarget(DownloadTarget {
            settings: Some(theirs),
            ..
        }) = &found
        {
            let mut ours = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            theirs.widen_to(&ours);
            *ours = Arc::clone(theirs);
        }
        found
    }
}

impl OpenFile {
    /// Fetched by another source.
    fn shared(target: DownloadTarget, sender: Sender<FileControl>, control: Receiver<FileControl>) -> Self {
        let DownloadTarget {
            resource,
            subscribers,
            ..
        } = target;
        let (origin, len) = (Origin::Network, resource.len());
        // The channel has no limit and its other end is here.
        let _ = sender.try_send(FileControl::Opened { origin, len });
        subscribers.subscribe(&sender);
        Self {
            driver: FileDriver::following(resource.watch(), sender),
            resource,
            control,
        }
    }

    fn whole(resource: Resource, origin: Origin) -> (Self, Sender<FileControl>) {
        // For two messages at most.
        let (sender, control) = async_channel::unbounded();
        let len = resource.len();
        // Its other end is here.
        let _ = sender.try_send(FileControl::Opened { origin, len });
        let opened = Self {
            resource,
            driver: FileDriver::idle(),
            control,
        };
        (opened, sender)
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

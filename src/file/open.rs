//! Opening: from a location to a resource and its driver.
//!
//! The complete file in the cache comes first, then what an earlier session left of it, then the network:
//!
//! ```text
//!   look up ──▶ complete ──▶ unchanged? ──▶ play from the cache (damage: repair)
//!      │                         └ no ──┐
//!      ├──▶ download target ◀───────────┘
//!      │       │ every byte present: commit, play from the cache
//!      │       │ offline: OfflineMiss
//!      │       │ another source writes it: share its download
//!      │       └ else: send the first request, hand out the driver
//!      └──▶ the cache failed: download into memory; offline an error
//! ```

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_channel::Sender;
use futures_lite::future;
use snafu::{OptionExt as _, ResultExt as _};

use super::beginning::{self, Probed};
use super::download::{Download, DownloadOptions, StopReason};
use super::driver::FileDriver;
use super::error::{LocalSnafu, NoClientSnafu, OfflineMissSnafu, UnsupportedUrlSnafu};
use super::lookup::{CacheLookup, DownloadTarget, MemoryEntry, Resource};
use super::remote::Remote;
use super::repair;
use super::revalidate::{self, StoredValidators};
use super::sharing::{self, DownloadSettings};
use super::sink::Sink;
use super::transfers::{CancelOnDrop, Transfers};
use super::{Bypass, FileControl, FileError, FileEvents, FileParams, Location, OpenMode, Origin};
use crate::cache::{AssetId, CachePath};
use crate::net::{Url, redacted};
use crate::rt;
use crate::storage::{StreamingError, StreamingOptions};

/// An open file.
pub(super) struct OpenFile {
    pub(super) resource: Resource,
    pub(super) driver: FileDriver,
    pub(super) events: FileEvents,
    /// Where another source downloads the file: the other end of `events`, which tells when they are dropped.
    listener: Option<Sender<FileControl>>,
}

/// An open file whose driver runs.
pub(super) struct StartedFile {
    pub(super) resource: Resource,
    pub(super) events: FileEvents,
}

/// Where a file is and how it is downloaded: what a source hands to each open.
#[derive(Debug)]
pub(super) struct FileContext {
    pub(super) location: Location,
    pub(super) params: FileParams,
    /// Those of another source, once this one shares its download.
    settings: Mutex<Arc<DownloadSettings>>,
}

/// The name under which the cache keeps a file.
#[derive(Clone)]
struct EntryName {
    asset: AssetId,
    path: CachePath,
}

impl FileContext {
    pub(super) fn new(location: Location, mut params: FileParams) -> Self {
        params.access = params.access.for_one_source();
        let settings = DownloadSettings::new(params.look_ahead, params.bytes_per_second)
            .with_priority(params.access.priority.clone());
        Self {
            location,
            params,
            settings: Mutex::new(Arc::new(settings)),
        }
    }

    /// Asset and path of the file's entry.
    pub(super) fn entry(&self) -> Option<(AssetId, CachePath)> {
        let Location::Url(url) = &self.location else {
            return None;
        };
        let EntryName { asset, path } = self.entry_name(url);
        Some((asset, path))
    }

    pub(super) fn settings(&self) -> Arc<DownloadSettings> {
        // The lock guards one pointer, which a panic cannot leave half written: poisoning says nothing.
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the file for a reader that starts at `position`, on a thread of its own. The thread goes on as the driver.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(super) async fn start(
        self: &Arc<Self>,
        position: u64,
        mode: OpenMode,
    ) -> Result<StartedFile, FileError> {
        let (answer, started) = async_channel::bounded(1);
        let transfers = Arc::new(Transfers::default());
        let _cancel_on_drop = CancelOnDrop(Arc::clone(&transfers));
        let context = Arc::clone(self);
        rt::spawn_on_thread(async move {
            let open = async { Some(context.open(position, mode, transfers).await) };
            let cancelled = async {
                answer.closed().await;
                None
            };
            match future::or(open, cancelled).await {
                None => {}
                // The caller may be gone by now. Then the answer is dropped, and the driver finds that nobody reads.
                Some(Err(error)) => drop(answer.try_send(Err(error))),
                Some(Ok(opened)) => {
                    let OpenFile {
                        resource,
                        mut driver,
                        events,
                        listener,
                    } = opened;
                    if driver.serves_readers() {
                        driver.share_with_readers_of(&resource);
                    }
                    drop(answer.try_send(Ok(StartedFile { resource, events })));
                    // An answer that is never received holds the resource, and that counts as a reader. It lives as long
                    // as the channel: kept over the driver's run, it would keep the download going for nobody.
                    drop((answer, context));
                    if driver.serves_readers() {
                        driver.await;
                    } else if let Some(listener) = listener {
                        // Tells when the other source's download is kept, as long as there is somebody to tell.
                        future::or(driver, listener.closed()).await;
                    }
                }
            }
        });
        started.recv().await.unwrap_or(Err(FileError::Stopped))
    }

    /// Opens the file for a reader that starts at `position`. Its requests are made through `transfers`.
    pub(super) async fn open(
        &self,
        position: u64,
        mode: OpenMode,
        transfers: Arc<Transfers>,
    ) -> Result<OpenFile, FileError> {
        match &self.location {
            Location::Path(path) => {
                let path = path.clone();
                let resource = rt::unblock(move || local(&path)).await?;
                Ok(OpenFile::complete(resource, Origin::Local).0)
            }
            // Before the cache is asked: nothing can have put an entry there under such a name.
            Location::Url(url) if !matches!(url.scheme(), "http" | "https") => {
                UnsupportedUrlSnafu { scheme: url.scheme() }.fail()
            }
            Location::Url(url) => self.open_url(url, position, mode, transfers).await,
        }
    }

    async fn open_url(
        &self,
        url: &Url,
        position: u64,
        mode: OpenMode,
        transfers: Arc<Transfers>,
    ) -> Result<OpenFile, FileError> {
        let name = self.entry_name(url);
        let mut accepts_complete = true;
        let target = match self.look_up(url, &name, accepts_complete).await {
            CacheLookup::Complete(complete)
                if mode.is_offline() || self.is_unchanged(url, &name, &complete).await? =>
            {
                return Ok(self.opened_complete(complete, url, mode));
            }
            CacheLookup::Complete(complete) => {
                log::info!("{}: changed on the server, downloading it anew", redacted(url));
                // The old file stays in the cache until the new one is complete.
                drop(complete);
                accepts_complete = false;
                match self.look_up(url, &name, accepts_complete).await {
                    CacheLookup::Incomplete(target) => target,
                    _ => DownloadTarget::in_memory(url, Bypass::InUse),
                }
            }
            CacheLookup::Unknown(error) if mode.is_offline() => return Err(error.into()),
            // C16: a cache that fails does not stop playback. The server has the file.
            CacheLookup::Unknown(error) => DownloadTarget::in_memory(url, Bypass::Refused(error)),
            CacheLookup::Incomplete(target) => target,
        };
        if let Some(len) = target.complete_len() {
            // A process that was killed between the last byte and the commit left this.
            let resource = target.commit(len).await;
            return Ok(self.opened_complete(resource, url, mode));
        }
        if mode.is_offline() {
            return OfflineMissSnafu {
                resource: redacted(url),
                missing: target.missing(),
                len: target.resource.len(),
            }
            .fail();
        }
        self.start_download(url, &name, target, position, accepts_complete, &transfers)
            .await
    }

    /// The complete file in the cache. Blocks that turn out to be damaged are downloaded again, unless offline.
    fn opened_complete(&self, complete: Resource, url: &Url, mode: OpenMode) -> OpenFile {
        let (opened, sender) = OpenFile::complete(complete, Origin::Cache);
        let access = &self.params.access;
        if let Some(client) = access.client.as_ref().filter(|_| !mode.is_offline()) {
            repair::repair_on_damage(&opened.resource, client, access.headers_of(url), url, sender);
        }
        opened
    }

    /// Whether the complete file in the cache may be played as it is.
    async fn is_unchanged(
        &self,
        url: &Url,
        name: &EntryName,
        complete: &Resource,
    ) -> Result<bool, FileError> {
        let FileParams {
            access, revalidate, ..
        } = &self.params;
        let (Some(client), Some(cache), Some(len), true) =
            (&access.client, &access.cache, complete.len(), revalidate)
        else {
            return Ok(true);
        };
        let (cache, EntryName { asset, path }) = (cache.blocking().clone(), name.clone());
        let validators = rt::unblock(move || StoredValidators::load(&cache, &asset, &path)).await;
        let request = || access.headers_of(url).request(url.clone());
        let same_file = &self.params.same_file;
        if revalidate::is_unchanged(client, request(), validators.as_ref(), len, same_file).await? {
            return Ok(true);
        }
        // Any answer but the file's own contradicts it. Only another file is worth a download.
        match beginning::probe(client, request(), &access.judge, same_file).await {
            Probed::Media(_) => Ok(false),
            Probed::NotMedia(refusal) => {
                log::warn!("{refusal}; the file in the cache plays");
                Ok(true)
            }
            Probed::Unknown => Ok(true),
        }
    }

    /// Sends the first request, or shares the download of another source. Each round of the loop has a target; it starts
    /// over where the target turns out to be of no use.
    async fn start_download(
        &self,
        url: &Url,
        name: &EntryName,
        target: DownloadTarget,
        position: u64,
        accepts_complete: bool,
        transfers: &Arc<Transfers>,
    ) -> Result<OpenFile, FileError> {
        let access = &self.params.access;
        let client = access
            .client
            .clone()
            .with_context(|| NoClientSnafu { url: redacted(url) })?;
        let (sender, events) = FileEvents::channel();
        let mut remote = Remote::new(
            client,
            access.headers_of(url),
            url.clone(),
            self.params.same_file.clone(),
        );
        let mut found = Some(target);
        loop {
            transfers.clear();
            let mut target = match found.take() {
                Some(target) => target,
                // The last target was discarded, or it was of another source that has given up.
                None => match self.look_up(url, name, accepts_complete).await {
                    CacheLookup::Incomplete(target) => target,
                    CacheLookup::Unknown(error) => DownloadTarget::in_memory(url, Bypass::Refused(error)),
                    CacheLookup::Complete(complete) => {
                        return Ok(self.opened_complete(complete, url, OpenMode::Online));
                    }
                },
            };
            // Fault C14. Sources that open one file at the same time stand in line here until one has its first
            // response. Before that its download ends with its caller, and must not end with it for the others: the next
            // in line then finds the writer free and takes over.
            let _open_lock = match &target.open_lock {
                Some(open_lock) => Some(open_lock.lock_arc().await),
                None => None,
            };
            let writer = match target.resource.writer() {
                Ok(writer) => writer,
                Err(_) if sharing::has_started(&target.resource).await => {
                    return Ok(OpenFile::shared(target, sender, events));
                }
                Err(error) => {
                    // Taken: the other download may have ended between the two looks, so this target is tried again.
                    found = Some(target).filter(|_| matches!(error, StreamingError::Taken { .. }));
                    continue;
                }
            };
            let identity = target.identity();
            let is_resumed = identity.is_some_and(|(tag, len)| remote.resume(&tag, len));
            // Bytes without a validator: nothing can prove that the server's file is the same.
            if !is_resumed && (!target.resource.available().is_empty() || target.resource.len().is_some()) {
                drop(writer.discard(FileError::Stopped));
                continue;
            }
            let mut sink = Sink::new(
                writer,
                target.entry.take(),
                sender.clone(),
                Arc::clone(&target.subscribers),
            );
            sink.resumable = is_resumed;
            sink.memory_entry = self.memory_entry(name, &target);
            let Some(mut download) = Download::new(remote, sink, self.options(), Arc::clone(transfers))
            else {
                return Err(FileError::Stopped);
            };
            let first = match download.first_response(position).await {
                // A network's login page contradicts what is there as a new version does.
                Err(StopReason::Changed(change)) if is_resumed => Err(download.explain_change(change).await),
                first => first,
            };
            match first {
                Ok(()) | Err(StopReason::Passed) => {}
                // From its start the file plays all the same: nothing has been given out yet.
                Err(StopReason::Failed(
                    error @ (FileError::UnstableValidators { .. } | FileError::LengthChanged { .. }),
                )) if is_resumed => {
                    log::warn!("{error}, downloading it anew");
                    remote = download.discard_changed(None).await;
                    continue;
                }
                Err(StopReason::Changed(change)) if is_resumed => {
                    log::info!("{}: changed on the server, downloading it anew", redacted(url));
                    remote = download.discard_changed(change).await;
                    continue;
                }
                Err(StopReason::Changed(change)) => return Err(download.remote.changed(change)),
                // What an earlier session left can be played meanwhile.
                Err(StopReason::Failed(error)) if is_resumed && error.is_outage() => {
                    // Told behind `Opened`.
                    download.note_outage(error);
                }
                Err(StopReason::Failed(error)) => return Err(error),
            }
            // Under the open lock, before the next in line looks: from here on other sources share this download, and
            // its caller is one reader of several. A caller that is gone by now must not leave them an open download that
            // nothing drives.
            if !transfers.mark_open() {
                return Err(FileError::Stopped);
            }
            let opened = FileControl::Opened {
                origin: Origin::Network,
                len: target.resource.len(),
            };
            // A file that fits a cache in memory: whether it is kept is told when it is complete.
            let bypass = target.bypass.filter(|_| !download.fits_memory_entry());
            download.sink.announce(opened, bypass);
            return Ok(OpenFile {
                resource: target.resource,
                driver: FileDriver::of(download),
                listener: None,
                events,
            });
        }
    }

    /// Where the complete file goes if the cache keeps no files: a cache in memory.
    fn memory_entry(&self, name: &EntryName, target: &DownloadTarget) -> Option<MemoryEntry> {
        let cache = self.params.access.cache.as_ref()?;
        matches!(target.bypass, Some(Bypass::NoCache)).then(|| MemoryEntry {
            cache: cache.blocking().clone(),
            asset: name.asset.clone(),
            path: name.path.clone(),
        })
    }

    fn entry_name(&self, url: &Url) -> EntryName {
        let FileParams { access, path, .. } = &self.params;
        EntryName {
            asset: access.asset_of(url),
            path: path.clone().unwrap_or_else(|| access.names.entry(url, None)),
        }
    }

    fn options(&self) -> DownloadOptions {
        let params = &self.params;
        DownloadOptions {
            window: params.window,
            unknown_length_limit: params.unknown_length_limit,
            stores_validators: params.revalidate,
            respects_no_store: params.respect_no_store,
            accept_unproven_end: params.accept_unproven_end,
            outage_limit: params.outage_limit,
            settings: self.settings(),
            judge: params.access.judge.clone(),
        }
    }

    /// Looks for the complete file, if that is accepted, and else for a target of its download. One hop to a thread that
    /// may block.
    async fn look_up(&self, url: &Url, name: &EntryName, accepts_complete: bool) -> CacheLookup {
        let Some(cache) = &self.params.access.cache else {
            return CacheLookup::Incomplete(DownloadTarget::in_memory(url, Bypass::NoCache));
        };
        let (cache, EntryName { asset, path }, url) = (cache.blocking().clone(), name.clone(), url.clone());
        let settings = self.settings();
        let found = rt::unblock(move || {
            if accepts_complete && let Some(found) = CacheLookup::complete(&cache, &asset, &path) {
                return found;
            }
            DownloadTarget::find(&cache, &asset, &path, &settings, accepts_complete)
                .unwrap_or_else(|why| CacheLookup::Incomplete(DownloadTarget::in_memory(&url, why)))
        })
        .await;
        if let CacheLookup::Incomplete(DownloadTarget {
            settings: Some(theirs),
            ..
        }) = &found
        {
            // Of two look-aheads the wider counts. Later changes reach the download through its own settings.
            let mut ours = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            theirs.widen_to(&ours);
            *ours = Arc::clone(theirs);
        }
        found
    }
}

impl OpenFile {
    /// A file that another source downloads.
    fn shared(target: DownloadTarget, sender: Sender<FileControl>, events: FileEvents) -> Self {
        let DownloadTarget {
            resource,
            subscribers,
            ..
        } = target;
        let (origin, len) = (Origin::Network, resource.len());
        // Cannot fail: the channel has no limit, and `events` is its other end.
        let _ = sender.try_send(FileControl::Opened { origin, len });
        subscribers.subscribe(&sender);
        Self {
            driver: FileDriver::following(resource.watch(), sender.clone()),
            listener: Some(sender),
            resource,
            events,
        }
    }

    /// A complete file, and the sender for what may still come up.
    fn complete(resource: Resource, origin: Origin) -> (Self, Sender<FileControl>) {
        let (sender, events) = FileEvents::channel();
        let len = resource.len();
        // Cannot fail: the channel has no limit, and `events` is its other end.
        let _ = sender.try_send(FileControl::Opened { origin, len });
        let opened = Self {
            resource,
            driver: FileDriver::idle(),
            listener: None,
            events,
        };
        (opened, sender)
    }
}

fn local(path: &Path) -> Result<Resource, FileError> {
    // An app may open a symbolic link, the storage refuses to: the link is resolved here.
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

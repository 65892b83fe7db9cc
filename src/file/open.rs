//! From a location to a resource: the cache first, then what is left of an earlier session, then the network.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_channel::{Receiver, Sender};
use futures_lite::future;
use snafu::{OptionExt as _, ResultExt as _};

use super::desk::{Desk, Looked, Resource};
use super::dials::Dials;
use super::driver::FileDriver;
use super::error::{CacheSnafu, LocalSnafu, NoClientSnafu, OfflineMissSnafu};
use super::fetch::{Fetch, Manner, Over};
use super::fresh::{self, Said};
use super::join;
use super::lines::{CallOff, Lines};
use super::mend;
use super::pen::Pen;
use super::remote::Remote;
use super::shelf::Shelf;
use super::{Bypass, FileControl, FileError, FileParams, Location, Origin};
use crate::cache::{AssetId, CachePath};
use crate::net::{Url, redacted};
use crate::rt;
use crate::storage::{StreamingError, StreamingOptions};

/// A file that is open.
pub(super) struct Opened {
    pub(super) resource: Resource,
    pub(super) driver: FileDriver,
    pub(super) control: Receiver<FileControl>,
}

/// A file that is open, and whose fetcher runs.
pub(super) struct Started {
    pub(super) resource: Resource,
    pub(super) control: Receiver<FileControl>,
}

/// A file's location and how it is to be fetched.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) location: Location,
    pub(super) params: FileParams,
    /// Those of another source, if this one has joined it.
    dials: Mutex<Arc<Dials>>,
}

impl Place {
    pub(super) fn new(location: Location, params: FileParams) -> Self {
        let dials = Dials::new(params.look_ahead, params.bytes_per_second);
        Self {
            location,
            params,
            dials: Mutex::new(Arc::new(dials)),
        }
    }

    pub(super) fn dials(&self) -> Arc<Dials> {
        // A pointer is whole whatever panics.
        Arc::clone(&self.dials.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the file for somebody who reads at `position` first, on a thread of its own that goes on to fetch it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(super) async fn start(self: &Arc<Self>, position: u64, offline: bool) -> Result<Started, FileError> {
        let (answer, started) = async_channel::bounded(1);
        let lines = Arc::new(Lines::default());
        let _call_off = CallOff(Arc::clone(&lines));
        let place = Arc::clone(self);
        rt::spawn_on_thread(async move {
            let opening = async { Some(place.open(position, offline, lines).await) };
            let unwanted = async {
                answer.closed().await;
                None
            };
            match future::or(opening, unwanted).await {
                None => {}
                // Whoever asked may be gone by now: then the answer is dropped, and the fetcher finds nobody reading.
                Some(Err(error)) => drop(answer.try_send(Err(error))),
                Some(Ok(opened)) => {
                    let Opened {
                        resource,
                        driver,
                        control,
                    } = opened;
                    drop(answer.try_send(Ok(Started { resource, control })));
                    // What nobody hears lives as long as the channel, and is a reader of what this is about to fetch.
                    drop((answer, place));
                    if driver.fetches() {
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
        lines: Arc<Lines>,
    ) -> Result<Opened, FileError> {
        match &self.location {
            Location::Path(path) => {
                let path = path.clone();
                let resource = rt::unblock(move || local(&path)).await?;
                Ok(Opened::whole(resource, Origin::Local).0)
            }
            Location::Url(url) => {
                let offline = offline || self.params.offline;
                self.open_url(url, position, offline, lines).await
            }
        }
    }

    async fn open_url(
        &self,
        url: &Url,
        position: u64,
        offline: bool,
        lines: Arc<Lines>,
    ) -> Result<Opened, FileError> {
        let (asset, path) = self.names(url);
        let mut stale = false;
        let desk = match self.look(url, &asset, &path, true).await {
            Looked::Whole(whole) if offline || self.is_fresh(url, &asset, &path, &whole).await? => {
                return Ok(self.opened(whole, url, offline));
            }
            Looked::Whole(whole) => {
                log::info!("{}: changed on the server, fetching it anew", redacted(url));
                // It stays in the cache until the new one is whole.
                drop(whole);
                stale = true;
                match self.look(url, &asset, &path, false).await {
                    Looked::Desk(desk) => desk,
                    _ => Desk::in_memory(url, Bypass::InUse),
                }
            }
            Looked::Unknown(error) if offline => return Err(error).context(CacheSnafu),
            // C16: what the cache cannot tell, the server can.
            Looked::Unknown(error) => Desk::in_memory(url, Bypass::Refused(Arc::new(error))),
            Looked::Desk(desk) => desk,
        };
        if let Some(len) = desk.is_whole() {
            // The session that fetched the last byte was killed before its commit.
            let resource = desk.commit(len).await;
            return Ok(self.opened(resource, url, offline));
        }
        if offline {
            return OfflineMissSnafu {
                resource: redacted(url),
                missing: desk.missing(),
                len: desk.resource.len(),
            }
            .fail();
        }
        self.fetch(url, (&asset, &path), desk, position, !stale, &lines)
            .await
    }

    /// The whole file as it is in the cache. What the disk has lost of it is fetched, if that is allowed.
    fn opened(&self, whole: Resource, url: &Url, offline: bool) -> Opened {
        let (opened, sender) = Opened::whole(whole, Origin::Cache);
        if let Some(client) = self.params.client.as_ref().filter(|_| !offline) {
            mend::keep_whole(&opened.resource, client, url, sender);
        }
        opened
    }

    /// Whether the whole file in the cache may be played as it is.
    async fn is_fresh(
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
        let said = rt::unblock(move || Said::kept(&cache, &asset, &path)).await;
        fresh::is_same(client, url, said.as_ref(), len).await
    }

    async fn fetch(
        &self,
        url: &Url,
        (asset, path): (&AssetId, &CachePath),
        desk: Desk,
        position: u64,
        whole: bool,
        lines: &Arc<Lines>,
    ) -> Result<Opened, FileError> {
        let client = self
            .params
            .client
            .clone()
            .with_context(|| NoClientSnafu { url: redacted(url) })?;
        let (sender, control) = async_channel::unbounded();
        let mut remote = Remote::new(client, url.clone());
        let mut looked = Some(desk);
        loop {
            lines.clear();
            let mut desk = match looked.take() {
                Some(desk) => desk,
                // What was there is worthless, or somebody else's who has given up.
                None => match self.look(url, asset, path, whole).await {
                    Looked::Desk(desk) => desk,
                    Looked::Unknown(error) => Desk::in_memory(url, Bypass::Refused(Arc::new(error))),
                    Looked::Whole(whole) => return Ok(self.opened(whole, url, false)),
                },
            };
            let _opening = match &desk.opening {
                Some(opening) => Some(opening.lock_arc().await),
                None => None,
            };
            let writer = match desk.resource.writer() {
                Ok(writer) => writer,
                Err(_) if join::is_fetched(&desk.resource).await => {
                    return Ok(Opened::joined(desk, sender, control));
                }
                Err(error) => {
                    looked = Some(desk).filter(|_| matches!(error, StreamingError::Taken { .. }));
                    continue;
                }
            };
            let known = desk.identity();
            let resumed = known.is_some();
            match known {
                Some((validator, len)) => remote.resume(validator, len),
                // Bytes of which nobody can say what file they are of.
                None if !desk.resource.available().is_empty() || desk.resource.len().is_some() => {
                    drop(writer.discard(FileError::Stopped));
                    continue;
                }
                None => {}
            }
            let mut pen = Pen::new(
                writer,
                desk.entry.take(),
                sender.clone(),
                Arc::clone(&desk.company),
            );
            pen.resumable = resumed;
            if let (Some(Bypass::NoCache), Some(cache)) = (&desk.bypass, &self.params.cache) {
                pen.shelf = Some(Shelf {
                    cache: cache.blocking().clone(),
                    asset: asset.clone(),
                    path: path.clone(),
                });
            }
            let Some(mut fetch) = Fetch::new(remote, pen, self.manner(), Arc::clone(lines)) else {
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
                    remote = back;
                    remote.forget();
                    continue;
                }
                Err(Over::Changed) => return Err(fetch.changed()),
                // What an earlier session left can be played meanwhile.
                Err(Over::Failed(error)) if resumed && error.is_transient() => {
                    log::warn!("{error}; starting with what is there");
                }
                Err(Over::Failed(error)) => return Err(error),
            }
            // Still in line: from here on others join, and whoever asked is one reader of several.
            if !lines.has_opened() {
                return Err(FileError::Stopped);
            }
            let opened = FileControl::Opened {
                origin: Origin::Network,
                len: desk.resource.len(),
            };
            // What fits a cache in memory is said to be cached, or not, once it is whole.
            let bypass = desk.bypass.filter(|_| !fetch.fits_shelf());
            fetch.pen.announce(opened, bypass);
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
            window: params.window,
            unknown_length_limit: params.unknown_length_limit,
            keeps_words: params.revalidate,
            accept_unproven_end: params.accept_unproven_end,
            dials: self.dials(),
        }
    }

    /// Looks for the whole file in the cache (`whole`), and claims its partial entry otherwise: one hop to a thread that
    /// may block.
    async fn look(&self, url: &Url, asset: &AssetId, path: &CachePath, whole: bool) -> Looked {
        let Some(cache) = &self.params.cache else {
            return Looked::Desk(Desk::in_memory(url, Bypass::NoCache));
        };
        let (cache, asset, path, url) = (cache.blocking().clone(), asset.clone(), path.clone(), url.clone());
        let dials = self.dials();
        let looked = rt::unblock(move || {
            if whole && let Some(found) = Looked::whole(&cache, &asset, &path) {
                return found;
            }
            Desk::take(&cache, &asset, &path, &dials, whole)
                .unwrap_or_else(|why| Looked::Desk(Desk::in_memory(&url, why)))
        })
        .await;
        if let Looked::Desk(Desk {
            dials: Some(theirs), ..
        }) = &looked
        {
            let mut ours = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
            theirs.widen_to(&ours);
            *ours = Arc::clone(theirs);
        }
        looked
    }
}

impl Opened {
    /// Fetched by another source.
    fn joined(desk: Desk, sender: Sender<FileControl>, control: Receiver<FileControl>) -> Self {
        let Desk {
            resource, company, ..
        } = desk;
        let (origin, len) = (Origin::Network, resource.len());
        // The channel has no limit and its other end is here.
        let _ = sender.try_send(FileControl::Opened { origin, len });
        company.join(&sender);
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

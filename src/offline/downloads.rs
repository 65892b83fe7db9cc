//! What an app calls.

use std::{fmt, sync::Arc};

use super::{
    DownloadId, DownloadInfo, DownloadRequest, Kind, OfflineError, State, Watch,
    builder::DownloadsBuilder,
    inner::Inner,
    saved::{Saved, Wanted},
    store,
    table::{Entry, Table},
};
#[cfg(feature = "hls")]
use crate::hls::{HlsSource, OpenMode};
use crate::{
    file::FileSource,
    media::{Access, Stored},
};

/// The downloads of one cache: what an app wants offline, and how far it is.
///
/// Cheap to clone: clones are the same downloads. They survive restarts; [`run`](Self::run) fetches them. There is one of it for
/// a cache: two would not know of each other's changes.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_lite::future;
/// use kithara::cache::AssetCache;
/// use kithara::media::Access;
/// use kithara::net::{HttpClient, Url};
/// use kithara::offline::{DownloadRequest, Downloads};
///
/// let cache = AssetCache::builder("music").max_bytes(8 << 30).open().await?;
/// let access = Access::new(HttpClient::new()?, cache);
/// let downloads = Downloads::builder(access).parallel(2).open().await?;
/// let url = Url::parse("https://example.com/episode.mp3")?;
/// let id = downloads.add(DownloadRequest::file(url)).await?;
/// future::or(async { drop(downloads.run().await) }, downloads.idle()).await;
/// assert!(downloads.state(&id).await?.is_complete());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Downloads {
    pub(super) inner: Arc<Inner>,
}

impl Downloads {
    /// Settings for the downloads of the access's cache, fetched by its client.
    pub fn builder(access: Access) -> DownloadsBuilder {
        DownloadsBuilder::new(access)
    }

    pub(super) async fn open_with(settings: DownloadsBuilder) -> Result<Self, OfflineError> {
        let (Some(cache), Some(_)) = (settings.access.cache.clone(), &settings.access.client) else {
            return Err(OfflineError::NoCache);
        };
        let mut table = Table::default();
        for saved in store::load(&cache).await? {
            table.load(saved);
        }
        Ok(Self {
            inner: Arc::new(Inner::new(cache, settings, table)),
        })
    }

    /// Asks for a download. What is there already, of this session or an earlier one, is not fetched again.
    ///
    /// Asked for again, it goes on: one that was paused or has failed is queued. The selections of both requests are merged; of
    /// all else the later request counts, so that a new URL takes the place of one that has expired. When this returns the
    /// request survives a restart. One whose [`valid_until`](DownloadRequest::valid_until) is over is
    /// [`Expired`](super::Change::Expired) at once, and nothing of it is fetched.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Cache`]; [`OfflineError::NotBuilt`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it may be asked for all the same.
    pub async fn add(&self, request: DownloadRequest) -> Result<DownloadId, OfflineError> {
        if request.kind == Kind::Hls && !cfg!(feature = "hls") {
            return Err(OfflineError::NotBuilt);
        }
        let id = self.inner.id_of(&request);
        self.inner.change(&id, |table| {
            let known = table.entries.get(&id).map(|entry| &entry.saved);
            let known = known.filter(|saved| saved.wanted != Wanted::Removing);
            let order = known.map(|saved| saved.order);
            let selection = known.map(|saved| saved.request.selection.clone());
            // As it was noted before. What is other with this request is told below, once it is kept.
            let is_expired = known.is_some_and(|saved| saved.is_expired);
            let mut request = request;
            if let Some(selection) = selection {
                request.selection = selection.and(request.selection);
            }
            let order = order.unwrap_or_else(|| table.order());
            let saved = Saved {
                id: id.clone(),
                request,
                wanted: Wanted::Queued,
                order,
                failure: None,
                verdict: None,
                is_expired,
            };
            match table.entries.get_mut(&id) {
                // A task that fetches it already goes on with what it was begun with, unless that is of no use any more. What
                // it leaves is a hole, and is fetched after it.
                Some(entry) => entry.ask(saved),
                None => drop(table.entries.insert(id.clone(), Entry::new(saved))),
            }
            true
        });
        self.inner.persist(&id).await?;
        // A request whose time is over, or is not any more, need not wait for a run to be so.
        if let Ok(info) = self.inner.info(&id) {
            self.inner.check_end(&info).await?;
        }
        Ok(id)
    }

    /// Has a download wait. What has come stays.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Unknown`]; [`OfflineError::Cache`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it waits all the same, in this session.
    pub async fn pause(&self, id: &DownloadId) -> Result<(), OfflineError> {
        let from = [Wanted::Queued, Wanted::Failed];
        self.inner.set_wanted(id, &from, Wanted::Paused).await
    }

    /// Has a download go on, that was paused, has failed, or is to be looked through for holes.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Unknown`]; [`OfflineError::Cache`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it goes on all the same, in this session.
    pub async fn resume(&self, id: &DownloadId) -> Result<(), OfflineError> {
        let from = [Wanted::Paused, Wanted::Failed, Wanted::Completed];
        self.inner.set_wanted(id, &from, Wanted::Queued).await
    }

    /// Pauses all that are queued or being fetched.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Cache`]. Some may be paused by then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped some may be paused.
    pub async fn pause_all(&self) -> Result<(), OfflineError> {
        for id in self.inner.with_wanted(Wanted::Queued) {
            self.pause(&id).await?;
        }
        Ok(())
    }

    /// Has all go on that are paused.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Cache`]. Some may go on by then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped some may go on.
    pub async fn resume_all(&self) -> Result<(), OfflineError> {
        for id in self.inner.with_wanted(Wanted::Paused) {
            self.resume(&id).await?;
        }
        Ok(())
    }

    /// Removes a download with all its bytes, by one rename, however much it is. When this returns that survives a restart. While
    /// something of it is played it is [removing](State::Removing): it goes when that has ended.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Unknown`]; [`OfflineError::Cache`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it is removed by [`run`](Self::run), or with the next call.
    pub async fn remove(&self, id: &DownloadId) -> Result<(), OfflineError> {
        let all = [
            Wanted::Queued,
            Wanted::Paused,
            Wanted::Failed,
            Wanted::Completed,
            Wanted::Removing,
        ];
        let kept = self.inner.set_wanted(id, &all, Wanted::Removing).await;
        match &kept {
            // The wish takes room too. The removal makes it, and where nothing is left of the download no wish need be kept.
            Err(OfflineError::Cache { source }) if source.is_full() => {}
            Err(_) => return kept,
            Ok(()) => {}
        }
        self.inner.finish_removal(id).await?;
        if self.inner.info(id).is_ok() { kept } else { Ok(()) }
    }

    /// All downloads: what ends first before what ends later, and that before what does not end; then by their turn.
    ///
    /// What is [completed](State::Completed) is so by its files: each is looked at, as far as something of it has changed.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Cache`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn list(&self) -> Result<Vec<DownloadInfo>, OfflineError> {
        for id in self.inner.doubtful().await {
            // One that cannot be looked at is no longer said to be complete. Its own call tells why.
            if let Err(error) = self.state(&id).await {
                log::warn!("{error}");
                self.inner.doubt(&id);
            }
        }
        Ok(self.inner.table().sorted())
    }

    /// One download, as [`list`](Self::list) has it.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Unknown`]; those of [`state`](Self::state).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn get(&self, id: &DownloadId) -> Result<DownloadInfo, OfflineError> {
        if self.inner.info(id)?.state == State::Completed {
            self.state(id).await?;
        }
        self.inner.info(id)
    }

    /// What the cache has of a download, found by looking: which bytes and seconds are there, and what is missing. A completed one
    /// that has holes is queued again.
    ///
    /// What was found the last time is said again only while the asset has the files, the bytes and the folder's time of then. A
    /// byte that turned on the disk is seen by [`verify`](Self::verify) alone.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Unknown`]; [`OfflineError::Cache`], [`OfflineError::File`] and `Hls` where the cache cannot tell.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn state(&self, id: &DownloadId) -> Result<Stored, OfflineError> {
        Ok(self.inner.stored(id).await?.1)
    }

    /// Reads all of a download against the checksums that were written with it. `on_progress` is told how many bytes were read, and
    /// of how many. What is damaged or missing is named; a completed one is queued again for it.
    ///
    /// # Errors
    ///
    /// Those of [`state`](Self::state).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the reading.
    pub async fn verify(
        &self,
        id: &DownloadId,
        on_progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Stored, OfflineError> {
        let request = self.inner.request(id)?;
        let stored = Box::pin(self.inner.settings.verify(&request, on_progress)).await?;
        self.inner.found(id, &request, stored.clone(), None).await?;
        Ok(stored)
    }

    /// All changes from now on. The stream begins with each download as it is.
    pub fn watch(&self) -> Watch {
        let mut table = self.inner.table();
        let infos: Vec<_> = table.sorted();
        table.watchers.add(infos.into_iter())
    }

    /// Opens or closes a gate: downloads that [need](DownloadRequest::needs) it are fetched while it is open. All are closed at
    /// the start of a session. The app knows whether the network is metered, or the machine charges.
    pub fn set_gate(&self, gate: &str, open: bool) {
        let mut table = self.inner.table();
        table.set_gate(gate, open);
        let needs = |entry: &Entry| entry.saved.request.needs.iter().any(|needed| needed == gate);
        let concerned: Vec<_> = table
            .entries
            .iter()
            .filter(|(_, entry)| needs(entry))
            .flat_map(|(id, _)| table.change(id))
            .collect();
        drop(table);
        self.inner.wake(concerned);
    }

    /// Resolves when nothing is queued that may be fetched, nothing is being fetched and nothing removed. What cannot be removed is
    /// not waited for: its [failure](DownloadInfo::failure) tells why.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn idle(&self) {
        use futures_lite::StreamExt as _;
        let mut watch = self.watch();
        while self.inner.table().is_busy() {
            if watch.next().await.is_none() {
                return;
            }
        }
    }

    /// The file of a download, to be played: offline where it is complete.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Expired`]; [`OfflineError::Unknown`], for a track too.
    pub fn file(&self, id: &DownloadId) -> Result<FileSource, OfflineError> {
        let request = self.inner.playable(id, Kind::File)?;
        let settings = &self.inner.settings;
        Ok(settings.file(&request, settings.access_of(&request)))
    }

    /// The track of a download, to be played: the first Variant Stream and language that were selected, so that offline plays what
    /// was downloaded.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Expired`]; [`OfflineError::Unknown`], for a file too; [`OfflineError::Hls`] where its playlists are not
    /// there yet.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    #[cfg(feature = "hls")]
    pub async fn track(&self, id: &DownloadId) -> Result<HlsSource, OfflineError> {
        let request = self.inner.playable(id, Kind::Hls)?;
        let settings = &self.inner.settings;
        let tracks = settings
            .tracks(&request, settings.access_of(&request), OpenMode::Offline)
            .await?;
        let first = tracks.all.into_iter().next();
        first.ok_or_else(|| OfflineError::Unknown { id: id.clone() })
    }
}

impl DownloadsBuilder {
    /// Opens the downloads of the access's cache, as the last session left them. Nothing is fetched before
    /// [`run`](Downloads::run).
    ///
    /// # Errors
    ///
    /// [`OfflineError::NoCache`]; [`OfflineError::Cache`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn open(self) -> Result<Downloads, OfflineError> {
        Downloads::open_with(self).await
    }
}

impl fmt::Debug for Downloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downloads")
            .field("settings", &self.inner.settings)
            .field("count", &self.inner.table().entries.len())
            .finish_non_exhaustive()
    }
}

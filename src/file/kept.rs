//! What the cache has of a file, whether it is right, and the download of the rest.
//!
//! ```text
//!   stored     a complete file, or the ranges that a partial one has     no byte is read
//!   verify     each block against its checksum
//!   download   an open file whose look-ahead is all of it, until it is told as cached
//! ```
//!
//! The rule: **what is said is what was looked at.** No note says that a file is there.

use std::{pin::pin, sync::Arc, task::Poll};

use futures_core::Stream as _;

use super::lookup::{CacheLookup, DownloadTarget};
use super::open::StartedFile;
use super::sharing::DownloadSettings;
use super::{FileControl, FileError, FileReader, FileSource, Location, LookAhead, OpenMode};
use crate::cache::CacheError;
use crate::media::{Download, DownloadError, Hole, Meter, Stored, Total};
use crate::net::redacted;
use crate::rt;
use crate::storage::{Condition, Status};

/// How often a download begins anew because the file changed under it. A server that sends another file each time would
/// otherwise be asked for ever.
const MAX_CHANGES: u32 = 3;

/// How the work on a file has ended.
enum Ended {
    Cached,
    Changed(FileError),
    Failed(DownloadError<FileError>),
}

impl FileSource {
    /// What the cache has of the file. Nothing is fetched, and no byte is read: see [`verify`](Self::verify). Of a file that
    /// a source of this process downloads, what has come so far.
    ///
    /// # Errors
    ///
    /// [`FileError::Cache`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn stored(&self) -> Result<Stored, FileError> {
        let resource = match self.location() {
            Location::Url(url) => redacted(url),
            // Nothing of a local file is in the cache, and nothing of it is missing there.
            Location::Path(path) => {
                let len = path.metadata().map_or(0, |found| found.len());
                return Ok(whole(len));
            }
        };
        let (Some((asset, path)), Some(cache)) = (self.context.entry(), &self.context.params.access.cache)
        else {
            return Ok(Stored::nothing(resource));
        };
        let cache = cache.blocking().clone();
        // Settings of its own. A question must not widen the look-ahead of the download that it finds.
        let settings = Arc::new(DownloadSettings::new(LookAhead::Bytes(0), 0));
        let found = rt::unblock(move || {
            if let Some(found) = CacheLookup::complete(&cache, &asset, &path) {
                return Ok(found);
            }
            DownloadTarget::find(&cache, &asset, &path, &settings, true)
        })
        .await;
        Ok(match found {
            Ok(CacheLookup::Unknown(error)) => return Err(error.into()),
            Ok(CacheLookup::Complete(complete)) => whole(complete.len().unwrap_or_default()),
            Ok(CacheLookup::Incomplete(target)) => part(resource, &target),
            // A cache that cannot have a partial file has none.
            Err(_) => Stored::nothing(resource),
        })
    }

    /// Reads all that the cache has of a complete file, and holds it against the checksums that were written with it.
    /// `on_progress` is told how many bytes were read, and of how many.
    ///
    /// What is damaged is named in [`Stored::holes`]. The cache gives up a damaged entry, so that the file is missing then: the
    /// next [`download`](Self::download) brings it back. Of an incomplete file nothing is read here; what it has is read
    /// against its checksums when its download goes on.
    ///
    /// # Errors
    ///
    /// [`FileError::Cache`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the reading.
    pub async fn verify(&self, mut on_progress: impl FnMut(u64, u64) + Send) -> Result<Stored, FileError> {
        let mut stored = self.stored().await?;
        let (Some((asset, path)), Some(cache)) = (self.context.entry(), &self.context.params.access.cache)
        else {
            return Ok(stored);
        };
        if !stored.is_complete() {
            return Ok(stored);
        }
        let Some(mut reader) = cache.open(&asset, &path).await? else {
            // Removed since.
            return self.stored().await;
        };
        let (len, mut at) = (reader.len(), 0);
        while at < len {
            // Where a read ends is the reader's to say, also where it fails: it ends with a checksum block.
            match reader.next_chunk().await {
                Ok(Some(chunk)) => at += chunk.len() as u64,
                Ok(None) => break,
                Err(CacheError::Damaged { .. }) => {
                    let end = (at / CHUNK + 1).saturating_mul(CHUNK).min(len);
                    stored.holes.push(Hole {
                        bytes: Some(at..end),
                        is_damaged: true,
                        ..Hole::of(self.shown())
                    });
                    at = end;
                    reader.seek(at);
                }
                Err(error) => return Err(error.into()),
            }
            on_progress(at, len);
        }
        if !stored.is_complete() {
            stored.bytes = 0;
        }
        Ok(stored)
    }

    /// Downloads all of the file into the cache. See [`Download`]. A download of another source of the file is shared.
    ///
    /// An outage does not end it. A file that changes on the server meanwhile is downloaded anew.
    ///
    /// ```no_run
    /// # async fn keep(source: kithara::file::FileSource) -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_lite::StreamExt;
    ///
    /// let mut download = source.download();
    /// while let Some(progress) = download.next().await {
    ///     println!("{:.0} %", progress?.fraction() * 100.0);
    /// }
    /// assert!(source.stored().await?.is_complete());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The stream yields [`DownloadError::NotKept`] where the cache has no room, or may not keep what the server sends;
    /// [`DownloadError::Source`] with what a reader would get.
    pub fn download(&self) -> Download<FileError> {
        let source = self.clone();
        Download::new(|meter| async move {
            let mut changes = 0;
            loop {
                match source.download_once(&meter).await {
                    Ended::Cached => return Ok(()),
                    Ended::Changed(error) if changes >= MAX_CHANGES => return Err(error.into()),
                    Ended::Changed(error) => log::info!("{error}: downloading it anew"),
                    Ended::Failed(error) => return Err(error),
                }
                changes += 1;
            }
        })
    }

    fn shown(&self) -> String {
        match self.location() {
            Location::Url(url) => redacted(url),
            Location::Path(path) => path.display().to_string(),
        }
    }

    async fn download_once(&self, meter: &Meter) -> Ended {
        self.context.settings().widen(LookAhead::Whole);
        let started = self.context.start(0, OpenMode::Online).await;
        let StartedFile { resource, mut events } = match started {
            Ok(started) => started,
            Err(error) if error.is_changed() => return Ended::Changed(error),
            Err(error) => return Ended::Failed(error.into()),
        };
        // Nobody reads, and the file is downloaded as long as there is a reader.
        let _reader = FileReader::new(&resource);
        let mut watch = resource.watch();
        loop {
            let mut changed = pin!(watch.changed());
            // Events first: the last one says how it ended, and is there before the resource has no writer any more.
            let event = std::future::poll_fn(|cx| {
                if let Poll::Ready(event) = std::pin::Pin::new(&mut events).poll_next(cx) {
                    return Poll::Ready(Event::Told(event));
                }
                changed.as_mut().poll(cx).map(Event::Changed)
            })
            .await;
            match event {
                Event::Changed(status) => {
                    note(meter, &status);
                    // Of a file that was complete before nothing more is told: what repairs it keeps the events open.
                    if matches!(status.condition, Condition::Complete) {
                        return Ended::Cached;
                    }
                }
                Event::Told(Some(FileControl::Cached)) => {
                    note(meter, &resource.status());
                    return Ended::Cached;
                }
                Event::Told(Some(FileControl::CacheBypassed { reason })) => {
                    return Ended::Failed(DownloadError::NotKept { reason });
                }
                Event::Told(Some(FileControl::OutageBegan { .. })) => meter.set_away(true),
                Event::Told(Some(FileControl::OutageEnded)) => meter.set_away(false),
                Event::Told(Some(_)) => {}
                Event::Told(None) => return ended(meter, &resource.status()),
            }
        }
    }
}

/// What a download waits for.
enum Event {
    Told(Option<FileControl>),
    Changed(Status<FileError>),
}

/// The entry's reader gives out so much at once, and ends where a checksum block does.
const CHUNK: u64 = 256 * 1024;

/// There is nothing more to tell.
fn ended(meter: &Meter, status: &Status<FileError>) -> Ended {
    note(meter, status);
    match &status.condition {
        Condition::Complete => Ended::Cached,
        Condition::Failed(cause) | Condition::Discarded(cause) if cause.is_changed() => {
            Ended::Changed(FileError::clone(cause))
        }
        Condition::Failed(cause) | Condition::Discarded(cause) => {
            Ended::Failed(FileError::clone(cause).into())
        }
        // Of the source that shares its download, the driver was dropped.
        _ => Ended::Failed(DownloadError::Incomplete),
    }
}

fn note(meter: &Meter, status: &Status<FileError>) {
    let bytes = status.available.iter().map(|range| range.end - range.start).sum();
    let total = status.len.map_or(Total::AtLeast(bytes), Total::Exact);
    meter.note(bytes, total, None, None);
}

fn whole(len: u64) -> Stored {
    Stored {
        bytes: len,
        total: Total::Exact(len),
        time: None,
        duration: None,
        holes: Vec::new(),
    }
}

fn part(resource: String, target: &DownloadTarget) -> Stored {
    let available = target.resource.available();
    let bytes = available.iter().map(|range| range.end - range.start).sum();
    let Some(len) = target.resource.len() else {
        return Stored {
            bytes,
            total: Total::AtLeast(bytes),
            ..Stored::nothing(resource)
        };
    };
    let hole = |missing| Hole {
        bytes: Some(missing),
        ..Hole::of(resource.clone())
    };
    let mut holes: Vec<_> = target.missing().into_iter().map(hole).collect();
    if holes.is_empty() {
        // All bytes are there, and a kill came before the commit. Not complete before that: the next open commits.
        holes.push(Hole::of(resource.clone()));
    }
    Stored {
        holes,
        bytes,
        total: Total::Exact(len),
        time: None,
        duration: None,
    }
}

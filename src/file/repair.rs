//! Repair: damaged blocks of a complete file are downloaded again while it plays.
//!
//! A damaged block is missing. Readers wait for it as for any byte that has not come yet:
//!
//! ```text
//!   reader ──▶ checksum differs ──▶ block is missing ──▶ damage callback
//!                                        ▲                    │ a thread, for as long as blocks are missing
//!                                        │                    ▼
//!                  memory, if the checksum is right ◀── range request
//! ```
//!
//! The stored checksum decides whether the bytes are of the same version, whatever the server says. Repaired blocks stay in
//! memory: the entry left the cache when the damage was found, and the next session downloads the file anew.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_channel::Sender;
use bytes::Bytes;
use futures_lite::future;

use super::error::ChangedSnafu;
use super::outage::{NextTry, Outage};
use super::{Bypass, FileControl, FileError};
use crate::media::SourceHeaders;
use crate::net::{ByteRange, HttpClient, NetError, Request, Url, redacted};
use crate::rt;
use crate::storage::{BLOCK, StreamingResource, WeakResource, Writer};

/// Downloads blocks of `resource` from `url` when they turn out to be damaged. The first damage is told to the app.
pub(super) fn repair_on_damage(
    resource: &StreamingResource<FileError>,
    client: &HttpClient,
    headers: SourceHeaders,
    url: &Url,
    events: Sender<FileControl>,
) {
    // Weak: the resource holds the callback, and would hold itself.
    let (weak, client, url) = (resource.downgrade(), client.clone(), url.clone());
    let is_told = AtomicBool::new(false);
    let is_running = Arc::new(AtomicBool::new(false));
    resource.repair_with(Box::new(move |error| {
        log::warn!("{error}; downloading them from {}", redacted(&url));
        if !is_told.swap(true, Ordering::Relaxed) {
            let reason = Bypass::Failed(error);
            // An error means that the app has dropped the events.
            drop(events.try_send(FileControl::CacheBypassed { reason }));
        }
        // One thread, however many blocks are damaged. This runs on the thread that reads, which must not wait for the
        // network.
        if !is_running.swap(true, Ordering::SeqCst) {
            let repair = Repair {
                weak: weak.clone(),
                client: client.clone(),
                headers: headers.clone(),
                url: url.clone(),
            };
            rt::spawn_on_thread(repair.run(Arc::clone(&is_running)));
        }
    }));
}

struct Repair {
    weak: WeakResource<FileError>,
    client: HttpClient,
    headers: SourceHeaders,
    url: Url,
}

impl Repair {
    async fn run(self, is_running: Arc<AtomicBool>) {
        loop {
            let failed = self.download_all().await.is_err();
            is_running.store(false, Ordering::SeqCst);
            // A block that was found damaged between the last look and the store has seen a repair running, and started none.
            if failed || !is_damaged(&self.weak) || is_running.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Downloads all that is missing, as long as there are readers.
    async fn download_all(&self) -> Result<(), Failed> {
        let mut outage = None;
        while let Some(mut writer) = writer(&self.weak) {
            let mut demand = writer.demand();
            let unwanted = async {
                while demand.changed().await.is_some() {}
                None
            };
            let downloaded =
                async { Some(download_missing(&mut writer, &self.client, &self.headers, &self.url).await) };
            // The last reader's drop closes the connection.
            match future::or(unwanted, downloaded).await {
                None => return Ok(()),
                Some(Ok(())) => outage = None,
                // Readers of the lost bytes get the cause, all others read on. The next demand tries again.
                Some(Err(cause)) if cause.is_outage() => {
                    let now = Instant::now();
                    outage
                        .get_or_insert_with(|| Outage::new(now))
                        .failed(now, true, Duration::ZERO);
                    log::warn!("{cause}");
                    writer.fail_waits(cause);
                    if let Some(outage) = &mut outage
                        && !wait_for_demand(&writer, outage).await
                    {
                        return Ok(());
                    }
                }
                Some(Err(cause)) => {
                    log::warn!("{cause}");
                    writer.fail(cause);
                    return Err(Failed);
                }
            }
        }
        Ok(())
    }
}

/// The readers were told why.
struct Failed;

/// Waits until a reader waits and the pause of the outage is over. `false` if the last reader was dropped.
async fn wait_for_demand(writer: &Writer<FileError>, outage: &mut Outage) -> bool {
    let mut demand = writer.demand();
    loop {
        if writer.demand_now().waiting.is_empty() {
            if demand.changed().await.is_none() {
                return false;
            }
            continue;
        }
        match outage.decide(Instant::now(), true) {
            NextTry::Now => return true,
            NextTry::After(rest) => rt::sleep(rest).await,
        }
    }
}

fn is_damaged(weak: &WeakResource<FileError>) -> bool {
    let Some(resource) = weak.upgrade() else {
        return false;
    };
    let len = resource.len().unwrap_or_default();
    !resource.missing(0..len).is_empty()
}

/// `None` if nothing is missing, nobody reads, or another repair has the writer.
fn writer(weak: &WeakResource<FileError>) -> Option<Writer<FileError>> {
    let resource = weak.upgrade()?;
    is_damaged(weak).then(|| resource.writer().ok()).flatten()
}

async fn download_missing(
    writer: &mut Writer<FileError>,
    client: &HttpClient,
    headers: &SourceHeaders,
    url: &Url,
) -> Result<(), FileError> {
    while let Some(missing) = writer.first_missing(0..writer.end().unwrap_or_default()) {
        // The checksum is of the whole block: a part of it could not be verified.
        let block = writer.damaged_range(missing.start).unwrap_or(missing);
        let bytes = download_block(client, headers.request(url.clone()), block.clone()).await?;
        if !matches!(writer.repair(block.start, &bytes), Ok(true)) {
            // The checksum says that the bytes are others, and no word of the server does.
            let (url, change) = (redacted(url), None);
            return ChangedSnafu { url, change }.fail();
        }
    }
    Ok(())
}

async fn download_block(client: &HttpClient, request: Request, range: Range<u64>) -> Result<Bytes, NetError> {
    let request = request.range(ByteRange::new(range.start, range.end));
    client.send(request).await?.bytes(BLOCK).await
}

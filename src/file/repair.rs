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
use std::sync::atomic::{AtomicBool, Ordering};

use async_channel::Sender;
use bytes::Bytes;
use futures_lite::future;

use super::error::ChangedSnafu;
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
    resource.repair_with(Box::new(move |error| {
        log::warn!("{error}; downloading them from {}", redacted(&url));
        if !is_told.swap(true, Ordering::Relaxed) {
            let reason = Bypass::Failed(error);
            // An error means that the app has dropped the events.
            drop(events.try_send(FileControl::CacheBypassed { reason }));
        }
        // This runs on the thread that reads, which must not wait for the network.
        rt::spawn_on_thread(repair(weak.clone(), client.clone(), headers.clone(), url.clone()));
    }));
}

/// Downloads all that is missing. Ends at once if another repair is under way: that one looks again when it is done, so a
/// block found damaged meanwhile is not forgotten.
async fn repair(weak: WeakResource<FileError>, client: HttpClient, headers: SourceHeaders, url: Url) {
    while let Some(mut writer) = writer(&weak) {
        let mut demand = writer.demand();
        let unwanted = async {
            while demand.changed().await.is_some() {}
            None
        };
        let downloaded = async { Some(download_missing(&mut writer, &client, &headers, &url).await) };
        // The last reader's drop closes the connection.
        match future::or(unwanted, downloaded).await {
            None => return,
            Some(Ok(())) => {}
            // Readers of the lost bytes get the cause, all others read on.
            Some(Err(cause)) => {
                log::warn!("{cause}");
                writer.fail(cause);
                return;
            }
        }
    }
}

/// `None` if nothing is missing, nobody reads, or another repair has the writer.
fn writer(weak: &WeakResource<FileError>) -> Option<Writer<FileError>> {
    let resource = weak.upgrade()?;
    let is_damaged = resource
        .len()
        .is_some_and(|len| !resource.missing(0..len).is_empty());
    is_damaged.then(|| resource.writer().ok()).flatten()
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
            return ChangedSnafu { url: redacted(url) }.fail();
        }
    }
    Ok(())
}

async fn download_block(client: &HttpClient, request: Request, range: Range<u64>) -> Result<Bytes, NetError> {
    let request = request.range(ByteRange::new(range.start, range.end));
    client.send(request).await?.bytes(BLOCK).await
}

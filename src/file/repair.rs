//! A complete file of which the disk has lost something.
//!
//! The rule: *what is damaged is missing*. Readers wait for it as for any byte that has not come yet, and it is asked for
//! again, block by block, on a thread that lives as long as that takes. The bytes are taken only if they are what the
//! block's checksum says, so they are of the same version whatever the server says of it. They stay in memory: the
//! entry left the cache when the damage was found, and the next session fetches the file anew.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_channel::Sender;
use bytes::Bytes;
use futures_lite::future;
use snafu::ResultExt as _;

use super::error::{ChangedSnafu, NetSnafu};
use super::{Bypass, FileControl, FileError};
use crate::net::{ByteRange, HttpClient, Request, Url, redacted};
use crate::rt;
use crate::storage::{BLOCK, StreamingResource, WeakResource, Writer};

/// Has what is found damaged of `resource` fetched from `url`, and the first time said.
pub(super) fn repair_on_damage(
    resource: &StreamingResource<FileError>,
    client: &HttpClient,
    url: &Url,
    control: Sender<FileControl>,
) {
    let (weak, client, url) = (resource.downgrade(), client.clone(), url.clone());
    let reported = AtomicBool::new(false);
    resource.mend_with(Box::new(move |error| {
        log::warn!("{error}; fetching them from {}", redacted(&url));
        if !reported.swap(true, Ordering::Relaxed) {
            let reason = Bypass::Failed(Arc::new(error));
            // Whoever does not listen is not told.
            drop(control.try_send(FileControl::CacheBypassed { reason }));
        }
        rt::spawn_on_thread(mend(weak.clone(), client.clone(), url.clone()));
    }));
}

/// Fetches all that is missing, unless somebody is at it: then he looks again when he has done.
async fn mend(weak: WeakResource<FileError>, client: HttpClient, url: Url) {
    while let Some(mut writer) = writer(&weak) {
        let mut demand = writer.demand();
        let unwanted = async {
            while demand.changed().await.is_some() {}
            None
        };
        let fetched = async { Some(fetch_missing(&mut writer, &client, &url).await) };
        // The connection closes as soon as the last reader is gone.
        match future::or(unwanted, fetched).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(cause)) => {
                log::warn!("{cause}");
                writer.fail(cause);
                return;
            }
        }
    }
}

/// `None` if there is nothing to be done here.
fn writer(weak: &WeakResource<FileError>) -> Option<Writer<FileError>> {
    let resource = weak.upgrade()?;
    let lost = resource
        .len()
        .is_some_and(|len| !resource.missing(0..len).is_empty());
    lost.then(|| resource.writer().ok()).flatten()
}

async fn fetch_missing(
    writer: &mut Writer<FileError>,
    client: &HttpClient,
    url: &Url,
) -> Result<(), FileError> {
    while let Some(missing) = writer.first_missing(0..writer.end().unwrap_or_default()) {
        let block = writer.stretch(missing.start).unwrap_or(missing);
        let bytes = fetch_block(client, url, block.clone())
            .await
            .context(NetSnafu { url: redacted(url) })?;
        if !matches!(writer.mend(block.start, &bytes), Ok(true)) {
            return ChangedSnafu { url: redacted(url) }.fail();
        }
    }
    Ok(())
}

async fn fetch_block(
    client: &HttpClient,
    url: &Url,
    range: Range<u64>,
) -> Result<Bytes, crate::net::NetError> {
    let request = Request::get(url.clone()).range(ByteRange::new(range.start, range.end));
    client.send(request).await?.bytes(BLOCK).await
}

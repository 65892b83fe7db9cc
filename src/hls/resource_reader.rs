//! One media resource, read from the cache, or from the network and into the cache.
//!
//! ```text
//!   cache entry ──────────────────────────────▶ bytes
//!      │ damaged, unreadable, of a wrong length: the network
//!      │ goes on at the byte where the entry stopped
//!      ▼
//!   response ─▶ web page? ─▶ EntryWriter ─▶ length right? ─▶ bytes
//!                                 │
//!                                 └─▶ commit at the proven end, else nothing
//! ```
//!
//! The rule: **an entry is committed only when its end is proven** (faults C21, C22). Bytes are kept as they were fetched, so
//! encrypted resources are kept encrypted.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures_lite::StreamExt;

use super::{
    HlsError, Resource, fetch::Fetcher, fetch_context::FetchContext, playlist, track::MediaResource,
};
use crate::{
    cache::{CacheError, CachePath, EntryReader, EntryWriter},
    media::{Bypass, Origin},
    net::{Body, ByteRange},
};

/// How many bytes are looked at before any is given out.
const SNIFFED: usize = 64;

/// A resource being read.
pub(super) struct ResourceReader {
    media: Arc<MediaResource>,
    pub(super) resource: Resource,
    input: Input,
    /// The length in bytes that the playlist's byte range or the cache entry gives.
    expected: Option<u64>,
    /// Bytes read from the present input.
    position: u64,
    /// Bytes given out, whichever input they came from.
    delivered: u64,
}

enum Input {
    Cache(EntryReader),
    Network(Box<NetworkInput>),
}

struct NetworkInput {
    body: Body,
    /// The bytes that were looked at.
    first: Option<Bytes>,
    /// `None` where the resource is not kept.
    writer: Option<EntryWriter>,
}

impl ResourceReader {
    /// Opens a resource: the cache's entry, or else a response that does not begin as a web page does.
    ///
    /// `is_right_len` is whether an entry of that length can be right. An entry that cannot is fetched again.
    ///
    /// # Errors
    ///
    /// `OfflineMiss`, `OfflineCache`, `NoClient`, `Network`, `NotMedia`.
    pub(super) async fn open(
        fetcher: &Fetcher,
        context: &mut FetchContext,
        media: &Arc<MediaResource>,
        is_right_len: impl Fn(u64) -> bool,
    ) -> Result<Self, HlsError> {
        let resource = media.resource();
        let range = media.locator.range.as_ref();
        let expected = range.map(|range| range.end - range.start);
        if let Some(entry) = fetcher.open_entry(context, &resource, &media.path).await? {
            let len = entry.len();
            // The length is told by the entry's footer, before a byte is read. A playlist that was published anew may give
            // another range, and a decryptor knows lengths that cannot be.
            if expected.is_none_or(|expected| expected == len) && is_right_len(len) {
                return Ok(Self::new(media, resource, Input::Cache(entry), Some(len)));
            }
            log::warn!("{resource} in the cache has {len} bytes: fetched again");
        }
        let network = NetworkInput::open(fetcher, context, &resource, media).await?;
        Ok(Self::new(
            media,
            resource,
            Input::Network(Box::new(network)),
            expected,
        ))
    }

    fn new(media: &Arc<MediaResource>, resource: Resource, input: Input, expected: Option<u64>) -> Self {
        Self {
            media: media.clone(),
            resource,
            input,
            expected,
            position: 0,
            delivered: 0,
        }
    }

    pub(super) fn origin(&self) -> Origin {
        match self.input {
            Input::Cache(_) => Origin::Cache,
            Input::Network(_) => Origin::Network,
        }
    }

    /// The next bytes as they were fetched; `None` at the proven end.
    ///
    /// An entry that fails halfway is fetched anew, and read on where it failed.
    ///
    /// # Errors
    ///
    /// `Network`, `Length`, `NotMedia`, `NoClient`, `OfflineMiss`, `OfflineCache`.
    ///
    /// # Cancel safety
    ///
    /// None: a dropped call may have taken a chunk out of the input. The player polls it to its end or drops the reader too.
    pub(super) async fn next(
        &mut self,
        fetcher: &Fetcher,
        context: &mut FetchContext,
    ) -> Result<Option<Bytes>, HlsError> {
        loop {
            let chunk = match &mut self.input {
                Input::Cache(entry) => match entry.next_chunk().await {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        self.change_to_network(fetcher, context, error).await?;
                        continue;
                    }
                },
                Input::Network(network) => network.next(context, &self.resource).await?,
            };
            self.check_len(chunk.as_ref())?;
            let Some(mut chunk) = chunk else { return Ok(None) };
            // After a change of input the bytes given out before come again. They are cut off: a decoder must not get them
            // twice.
            let begin = self.position - chunk.len() as u64;
            let again = self.delivered.saturating_sub(begin).min(chunk.len() as u64);
            chunk.advance(usize::try_from(again).unwrap_or(usize::MAX).min(chunk.len()));
            self.delivered += chunk.len() as u64;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    /// Goes on from the network, because the entry has failed with `error`.
    async fn change_to_network(
        &mut self,
        fetcher: &Fetcher,
        context: &mut FetchContext,
        error: CacheError,
    ) -> Result<(), HlsError> {
        if self.delivered == 0 {
            context.unread_entry_failed(&self.resource, error)?;
        } else {
            context.entry_failed(&self.resource, error)?;
        }
        let network = NetworkInput::open(fetcher, context, &self.resource, &self.media).await?;
        self.input = Input::Network(Box::new(network));
        // The new input starts at the resource's first byte. `delivered` stays, and says what to cut off.
        self.position = 0;
        Ok(())
    }

    /// Counts a chunk, or the end, against the length that is expected. Too long shows before the end, too short at it.
    fn check_len(&mut self, chunk: Option<&Bytes>) -> Result<(), HlsError> {
        self.position += chunk.map_or(0, Bytes::len) as u64;
        let is_wrong = |expected: &u64| match chunk {
            Some(_) => self.position > *expected,
            None => self.position != *expected,
        };
        match self.expected.filter(is_wrong) {
            None => Ok(()),
            Some(expected) => Err(HlsError::Length {
                resource: self.resource.clone(),
                expected,
                received: self.position,
            }),
        }
    }

    /// Keeps what was read to its end and found good. Dropping the reader instead discards what was written.
    pub(super) fn commit(self, context: &mut FetchContext) {
        let Input::Network(network) = self.input else {
            return;
        };
        let Some(writer) = network.writer else { return };
        let resource = self.resource;
        if network.body.ends_with_connection() && self.expected.is_none() {
            // The end of the connection proves nothing: it may have broken (fault C22). The bytes were given out, because
            // there are servers that send no length, but the cache does not believe them.
            context.bypass(&resource, Bypass::UnknownLength);
            return;
        }
        context.commits.push(async move {
            let error = writer.commit().await.err()?;
            Some((resource, Bypass::Refused(error)))
        });
    }

    /// The entry to remove, if the bytes came from the cache and turned out to be wrong.
    pub(super) fn into_damaged(self) -> Option<CachePath> {
        matches!(self.input, Input::Cache(_)).then(|| self.media.path.clone())
    }
}

impl NetworkInput {
    async fn open(
        fetcher: &Fetcher,
        context: &mut FetchContext,
        resource: &Resource,
        media: &MediaResource,
    ) -> Result<Self, HlsError> {
        let locator = &media.locator;
        let mut request = fetcher.request(locator.url.clone());
        if let Some(range) = &locator.range {
            request = request.range(ByteRange::new(range.start, range.end));
        }
        let response = fetcher.send(context, resource, request).await?;
        let mut body = response.into_body();
        // Looked at before a byte is given out or written. A login page with status 200 would otherwise be played, and kept
        // as the segment for ever (faults D3, E15).
        let mut first = Bytes::new();
        // One chunk is enough as a rule, and is then not copied.
        while first.len() < SNIFFED {
            let Some(chunk) = body.try_next().await.map_err(HlsError::network(resource))? else {
                break;
            };
            first = if first.is_empty() {
                chunk
            } else {
                join(&first, &chunk)
            };
        }
        if is_web_page(&first) {
            return Err(HlsError::NotMedia {
                resource: resource.clone(),
                begins: playlist::beginning(&String::from_utf8_lossy(&first)),
            });
        }
        Ok(Self {
            body,
            first: Some(first).filter(|first| !first.is_empty()),
            writer: writer(fetcher, context, resource, &media.path).await,
        })
    }

    async fn next(
        &mut self,
        context: &mut FetchContext,
        resource: &Resource,
    ) -> Result<Option<Bytes>, HlsError> {
        let chunk = match self.first.take() {
            None => self.body.try_next().await.map_err(HlsError::network(resource))?,
            first => first,
        };
        // Written before it is given out, so that the cache is never behind what a decoder has. A write that fails ends the
        // keeping, not the playing (C16).
        if let (Some(chunk), Some(writer)) = (&chunk, &mut self.writer)
            && let Err(error) = writer.write(chunk.clone()).await
        {
            context.bypass(resource, Bypass::Refused(error));
            self.writer = None;
        }
        Ok(chunk)
    }
}

/// The writer of an entry, where the resource can be kept.
async fn writer(
    fetcher: &Fetcher,
    context: &mut FetchContext,
    resource: &Resource,
    path: &CachePath,
) -> Option<EntryWriter> {
    let Some(cache) = fetcher.cache() else {
        context.bypass(resource, Bypass::NoCache);
        return None;
    };
    match cache.writer(&fetcher.asset, path).await {
        Ok(writer) => Some(writer),
        Err(error) => {
            context.bypass(resource, Bypass::Refused(error));
            None
        }
    }
}

fn join(first: &[u8], second: &[u8]) -> Bytes {
    let mut joined = BytesMut::with_capacity(first.len() + second.len());
    joined.extend_from_slice(first);
    joined.extend_from_slice(second);
    joined.freeze()
}

/// Whether a web page begins so. No media container and no elementary stream does (faults D3, E15).
fn is_web_page(first: &[u8]) -> bool {
    let text = first
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(first)
        .trim_ascii_start();
    [
        b"<!doctype html".as_slice(),
        b"<html",
        b"<head",
        b"<body",
        b"<?xml",
    ]
    .iter()
    .any(|start| {
        text.get(..start.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(start))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E15.
    #[test]
    fn a_web_page_is_told_from_media() {
        for page in [
            "<!DOCTYPE html>",
            "\u{feff}\r\n <HTML lang=en>",
            "<?xml version=\"1.0\"?><Error>",
        ] {
            assert!(is_web_page(page.as_bytes()), "{page}");
        }
        for media in [
            b"".as_slice(),
            b"<",
            b"\0\0\0\x1cftypiso5",
            b"ID3\x04",
            b"G@\x11\x10",
            b"\xff\xf1\x50\x80",
            b"fLaC",
        ] {
            assert!(!is_web_page(media));
        }
    }
}

//! One media resource on its way from the cache or the network, and into the cache.
//!
//! Bytes pass through as they come and are kept as they were fetched. What comes to the end whole is committed; whatever
//! else happens leaves nothing (faults C21, C22).

use bytes::{Buf, Bytes, BytesMut};
use futures_lite::StreamExt;
use snafu::ResultExt;

use super::{
    error::{HlsError, LengthSnafu, NetworkSnafu, NotMediaSnafu, Resource},
    fetch::Fetcher,
    fetch_context::FetchContext,
    playlist::Locator,
    track::MediaResource,
};
use crate::{
    cache::{CachePath, EntryReader, EntryWriter},
    media::{Bypass, Origin},
    net::{Body, ByteRange},
};

/// How many bytes are looked at before any is passed on.
const SNIFFED: usize = 64;

/// A resource being read.
pub(super) struct ResourceReader {
    pub(super) resource: Resource,
    locator: Locator,
    path: CachePath,
    supply: Supply,
    /// The length that the playlist's byte range or the cache entry promises.
    expected: Option<u64>,
    /// Bytes read from where they come from now.
    position: u64,
    /// Bytes handed out, whichever way they came.
    delivered: u64,
}

enum Supply {
    Cache(EntryReader),
    Network(Box<NetworkBody>),
}

struct NetworkBody {
    body: Body,
    /// The bytes that were looked at.
    first: Option<Bytes>,
    writer: Option<EntryWriter>,
}

impl ResourceReader {
    /// Opens a resource: the cache's entry, or else a response whose first bytes are not a web page's.
    ///
    /// `whole` is whether an entry of that length can be right; one that cannot is fetched again.
    ///
    /// # Errors
    ///
    /// `OfflineMiss`, `OfflineCache`, `NoClient`, `Network`, `NotMedia`.
    pub(super) async fn open(
        fetcher: &Fetcher,
        context: &mut FetchContext,
        media: &MediaResource,
        whole: impl Fn(u64) -> bool,
    ) -> Result<Self, HlsError> {
        let (resource, locator, path) = (media.resource(), &media.locator, media.path.clone());
        let length = locator.range.as_ref().map(|range| range.end - range.start);
        if let Some(reader) = fetcher.open(context, &resource, &path).await? {
            let expected = reader.len();
            if length.is_none_or(|length| length == expected) && whole(expected) {
                return Ok(Self {
                    resource,
                    locator: locator.clone(),
                    path,
                    supply: Supply::Cache(reader),
                    expected: Some(expected),
                    position: 0,
                    delivered: 0,
                });
            }
            log::warn!("{resource} in the cache has {expected} bytes: fetched again");
        }
        let network = NetworkBody::open(fetcher, context, &resource, locator, &path).await?;
        let supply = Supply::Network(Box::new(network));
        Ok(Self {
            resource,
            locator: locator.clone(),
            path,
            supply,
            expected: length,
            position: 0,
            delivered: 0,
        })
    }

    pub(super) fn origin(&self) -> Origin {
        match self.supply {
            Supply::Cache(_) => Origin::Cache,
            Supply::Network(_) => Origin::Network,
        }
    }

    /// The next bytes as they were fetched; `None` at the proven end.
    ///
    /// An entry that fails halfway is fetched anew and read on where it failed (C16).
    ///
    /// # Errors
    ///
    /// `Network`, `Length`, `OfflineCache`.
    pub(super) async fn next(
        &mut self,
        fetcher: &Fetcher,
        context: &mut FetchContext,
    ) -> Result<Option<Bytes>, HlsError> {
        loop {
            let chunk = match &mut self.supply {
                Supply::Cache(reader) => match reader.next_chunk().await {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        if self.delivered == 0 {
                            context.unread(&self.resource, error)?;
                        } else {
                            context.unreadable(&self.resource, error)?;
                        }
                        let (resource, locator) = (&self.resource, &self.locator);
                        let network =
                            NetworkBody::open(fetcher, context, resource, locator, &self.path).await?;
                        self.supply = Supply::Network(Box::new(network));
                        self.position = 0;
                        continue;
                    }
                },
                Supply::Network(network) => network.next(context, &self.resource).await?,
            };
            let length = chunk.as_ref().map_or(0, Bytes::len) as u64;
            self.position += length;
            // Too long is wrong before the end, too short at it.
            let wrong = |expected: &u64| {
                if chunk.is_some() {
                    self.position > *expected
                } else {
                    self.position != *expected
                }
            };
            if let Some(expected) = self.expected.filter(wrong) {
                return LengthSnafu {
                    resource: self.resource.clone(),
                    expected,
                    received: self.position,
                }
                .fail();
            }
            let Some(mut chunk) = chunk else { return Ok(None) };
            // After a change of ways, what was delivered before comes again and is left out.
            let again = self.delivered.saturating_sub(self.position - length).min(length);
            chunk.advance(usize::try_from(again).unwrap_or(usize::MAX).min(chunk.len()));
            self.delivered += chunk.len() as u64;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    /// Keeps what was read to its end and found good.
    pub(super) fn commit(self, context: &mut FetchContext) {
        let Supply::Network(network) = self.supply else {
            return;
        };
        let Some(writer) = network.writer else { return };
        let resource = self.resource;
        if network.body.ends_with_connection() && self.expected.is_none() {
            // The end of the connection proves nothing: it may have broken (fault C22).
            context.bypass(&resource, Bypass::UnknownLength);
            return;
        }
        context.commits.push(async move {
            let error = writer.commit().await.err()?;
            Some((resource, Bypass::Refused(error)))
        });
    }

    /// The entry that turned out not to be what it should, if it is one.
    pub(super) fn into_damaged(self) -> Option<CachePath> {
        matches!(self.supply, Supply::Cache(_)).then_some(self.path)
    }
}

impl NetworkBody {
    async fn open(
        fetcher: &Fetcher,
        context: &mut FetchContext,
        resource: &Resource,
        locator: &Locator,
        path: &CachePath,
    ) -> Result<Self, HlsError> {
        let network = || NetworkSnafu {
            resource: resource.clone(),
        };
        let mut request = fetcher.request(locator.url.clone());
        if let Some(range) = &locator.range {
            request = request.range(ByteRange::new(range.start, range.end));
        }
        let response = fetcher.send(context, resource, request).await?;
        let mut body = response.into_body();
        let mut first = Bytes::new();
        while first.len() < SNIFFED {
            let Some(chunk) = body.try_next().await.with_context(|_| network())? else {
                break;
            };
            first = if first.is_empty() {
                chunk
            } else {
                join(&first, &chunk)
            };
        }
        if is_web_page(&first) {
            let begins = super::playlist::beginning(&String::from_utf8_lossy(&first));
            return NotMediaSnafu {
                resource: resource.clone(),
                begins,
            }
            .fail();
        }
        let writer = match fetcher.cache() {
            None => Err(Bypass::NoCache),
            Some(cache) => {
                let writer = cache.writer(&fetcher.asset, path).await;
                writer.map_err(Bypass::Refused)
            }
        };
        let writer = match writer {
            Ok(writer) => Some(writer),
            Err(reason) => {
                context.bypass(resource, reason);
                None
            }
        };
        Ok(Self {
            body,
            first: Some(first).filter(|first| !first.is_empty()),
            writer,
        })
    }

    async fn next(
        &mut self,
        context: &mut FetchContext,
        resource: &Resource,
    ) -> Result<Option<Bytes>, HlsError> {
        let chunk = match self.first.take() {
            None => {
                let chunk = self.body.try_next().await;
                chunk.with_context(|_| NetworkSnafu {
                    resource: resource.clone(),
                })?
            }
            first => first,
        };
        if let (Some(chunk), Some(writer)) = (&chunk, &mut self.writer)
            && let Err(error) = writer.write(chunk.clone()).await
        {
            context.bypass(resource, Bypass::Refused(error));
            self.writer = None;
        }
        Ok(chunk)
    }
}

fn join(first: &[u8], second: &[u8]) -> Bytes {
    let mut joined = BytesMut::with_capacity(first.len() + second.len());
    joined.extend_from_slice(first);
    joined.extend_from_slice(second);
    joined.freeze()
}

/// Whether this is how a web page begins; no media container and no elementary stream does (faults D3, E15).
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

//! One media resource, read from the cache, or from the network and into the cache.
//!
//! ```text
//!   cache entry ─────────────────────────────────▶ bytes
//!      │ damaged, unreadable, of a wrong length: the network
//!      ▼
//!   response ─▶ EntryWriter ─▶ length right? ─────▶ bytes
//!      │             │
//!      │             └─▶ commit at the proven end, else nothing
//!      │ broken, and nothing to resume with:
//!      └─▶ the same URL again, from its start
//! ```
//!
//! What comes again is compared by checksum with what was given out, and left out.
//!
//! The rule: **an entry is committed only when its end is proven** (faults C21, C22). Bytes are kept as they were fetched, so
//! encrypted resources are kept encrypted.

use std::sync::Arc;

use bytes::Bytes;
use futures_lite::StreamExt;

use super::{
    HlsError, Resource,
    edition::{Witness, WitnessPlace},
    fetch::Fetcher,
    fetch_context::FetchContext,
    local::LocalReader,
    pending_commits::Bypassed,
    repetition::{Different, Repetition},
    track::MediaResource,
};
use crate::{
    cache::{CacheError, CachePath, EntryReader, EntryWriter},
    media::{Bypass, Candidate, Origin},
    net::{Body, ByteRange, NetError, Response},
};

/// A resource being read.
pub(super) struct ResourceReader {
    media: Arc<MediaResource>,
    pub(super) resource: Resource,
    input: Input,
    /// What the first bytes of the present response are to be judged by, until the part has taken it.
    pub(super) candidate: Option<Candidate>,
    /// What the server says of the resource, if it is one that editions are told by.
    pub(super) witness: Option<Witness>,
    /// The length in bytes that the playlist's byte range or the cache entry gives.
    expected: Option<u64>,
    /// Bytes read from the present input.
    position: u64,
    repetition: Repetition,
    /// How often the resource was begun again.
    failures: u32,
}

enum Input {
    Local(LocalReader),
    Cache(EntryReader),
    Network(Box<NetworkInput>),
}

struct NetworkInput {
    body: Body,
    /// The length that the server announces. It may be wrong.
    announced: Option<u64>,
    /// `None` where the resource is not kept.
    writer: Option<EntryWriter>,
}

impl ResourceReader {
    /// Opens a resource: the cache's entry, or else a response whose head is fit for media.
    ///
    /// `is_right_len` is whether an entry of that length can be right. An entry that cannot is fetched again.
    ///
    /// # Errors
    ///
    /// `DataUri`, `LocalFile`, `OfflineMiss`, `OfflineCache`, `NoClient`, `Network`, `NotMedia`.
    pub(super) async fn open(
        fetcher: &Fetcher,
        context: &mut FetchContext,
        media: &Arc<MediaResource>,
        is_right_len: impl Fn(u64) -> bool,
    ) -> Result<Self, HlsError> {
        let resource = media.resource();
        let range = media.locator.range.as_ref();
        let expected = range.map(|range| range.end - range.start);
        let limit = fetcher.params.max_playlist_bytes;
        if let Some(reader) = LocalReader::open(&resource, &media.locator, limit).await? {
            let expected = expected.or(Some(reader.left()));
            let start = range.map_or(0, |range| range.start);
            let mut reader = Self::new(media, resource, Input::Local(reader), expected);
            reader.candidate = Some(fetcher.params.access.judge.local(&media.locator.url, start));
            return Ok(reader);
        }
        if let Some(entry) = fetcher.open_entry(context, &resource, media.path()).await? {
            let len = entry.len();
            // The length is told by the entry's footer, before a byte is read. A playlist that was published anew may give
            // another range, and a decryptor knows lengths that cannot be.
            if expected.is_none_or(|expected| expected == len) && is_right_len(len) {
                return Ok(Self::new(media, resource, Input::Cache(entry), Some(len)));
            }
            log::warn!("{resource} in the cache has {len} bytes: fetched again");
        }
        let response = send(fetcher, context, &resource, media).await?;
        let witness = witness(media, &response);
        let (network, candidate) = NetworkInput::new(fetcher, context, &resource, media, response).await?;
        let mut reader = Self::new(media, resource, Input::Network(Box::new(network)), expected);
        (reader.candidate, reader.witness) = (Some(candidate), witness);
        Ok(reader)
    }

    fn new(media: &Arc<MediaResource>, resource: Resource, input: Input, expected: Option<u64>) -> Self {
        Self {
            media: media.clone(),
            resource,
            input,
            candidate: None,
            witness: None,
            expected,
            position: 0,
            repetition: Repetition::default(),
            failures: 0,
        }
    }

    /// The length in bytes of what was fetched, as the playlist or the server gives it.
    pub(super) fn announced_len(&self) -> Option<u64> {
        match &self.input {
            Input::Local(_) | Input::Cache(_) => self.expected,
            Input::Network(network) => self.expected.or(network.announced),
        }
    }

    pub(super) fn origin(&self) -> Origin {
        match self.input {
            Input::Local(_) => Origin::Local,
            Input::Cache(_) => Origin::Cache,
            Input::Network(_) => Origin::Network,
        }
    }

    /// The next bytes as they were fetched; `None` at the proven end.
    ///
    /// An entry that fails halfway is fetched anew, and read on where it failed. A response that breaks and cannot be resumed
    /// is asked for again, as often as the client's [`RetryPolicy`](crate::net::RetryPolicy) tries a request.
    ///
    /// # Errors
    ///
    /// `Network`, `Length`, `NotMedia`, `Changed`, `NoClient`, `OfflineMiss`, `OfflineCache`.
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
                Input::Local(reader) => reader.next(&self.resource).await?,
                Input::Cache(entry) => match entry.next_chunk().await {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        self.change_to_network(fetcher, context, error).await?;
                        continue;
                    }
                },
                Input::Network(network) => match network.next(context, &self.resource).await {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        self.begin_again(fetcher, context, error).await?;
                        continue;
                    }
                },
            };
            self.check_len(chunk.as_ref())?;
            let Some(chunk) = chunk else {
                // The end came before all that was given out: the bytes are others.
                return match self.repetition.end() {
                    Ok(()) => Ok(None),
                    Err(Different) => Err(self.changed()),
                };
            };
            let new = self.repetition.leave_out(chunk);
            let new = new.map_err(|Different| self.changed())?;
            if !new.is_empty() {
                return Ok(Some(new));
            }
        }
    }

    fn changed(&self) -> HlsError {
        HlsError::Changed {
            resource: self.resource.clone(),
        }
    }

    /// Goes on from the network, because the entry has failed with `error`.
    async fn change_to_network(
        &mut self,
        fetcher: &Fetcher,
        context: &mut FetchContext,
        error: CacheError,
    ) -> Result<(), HlsError> {
        if self.repetition.delivered() == 0 {
            context.unread_entry_failed(&self.resource, error)?;
        } else {
            context.entry_failed(&self.resource, error)?;
        }
        let response = send(fetcher, context, &self.resource, &self.media).await?;
        self.begin(fetcher, context, response).await
    }

    /// Asks for the resource again, because its response has broken with `error` and cannot be resumed: there is no validator
    /// that would prove the rest to be of the same file (fault W8).
    async fn begin_again(
        &mut self,
        fetcher: &Fetcher,
        context: &mut FetchContext,
        error: NetError,
    ) -> Result<(), HlsError> {
        self.failures += 1;
        let again = match &mut self.input {
            Input::Network(network) => network.body.again(&error, self.failures).await,
            Input::Local(_) | Input::Cache(_) => None,
        };
        let Some(response) = again else {
            return Err(HlsError::media(&self.resource)(error));
        };
        let response = response.map_err(HlsError::media(&self.resource))?;
        self.begin(fetcher, context, response).await
    }

    /// Reads `response` from the resource's first byte on. What was given out is left out.
    async fn begin(
        &mut self,
        fetcher: &Fetcher,
        context: &mut FetchContext,
        response: Response,
    ) -> Result<(), HlsError> {
        let witness = witness(&self.media, &response);
        let opened = NetworkInput::new(fetcher, context, &self.resource, &self.media, response).await;
        let (network, candidate) = opened?;
        self.witness = witness;
        self.input = Input::Network(Box::new(network));
        // Behind the first byte the checksum is the judge.
        self.candidate = Some(candidate).filter(|_| self.repetition.delivered() == 0);
        // An entry's length is no promise of what the server has.
        self.expected = self
            .media
            .locator
            .range
            .as_ref()
            .map(|range| range.end - range.start);
        self.position = 0;
        self.repetition.begin_again();
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

    /// Whether the cache has it, or takes it.
    pub(super) fn is_kept(&self) -> bool {
        match &self.input {
            Input::Local(_) => false,
            Input::Cache(_) => true,
            Input::Network(network) => network.writer.is_some() && !self.ends_unproven(network),
        }
    }

    /// Whether its end will prove nothing.
    fn ends_unproven(&self, network: &NetworkInput) -> bool {
        network.body.ends_with_connection() && self.expected.is_none()
    }

    /// Keeps what was read to its end and found good: the commit, or `None` where it is not kept. Dropping the reader instead
    /// discards what was written.
    pub(super) fn commit(
        self,
        context: &mut FetchContext,
    ) -> Option<impl Future<Output = Option<Bypassed>> + Send + 'static> {
        let is_unproven = match &self.input {
            Input::Network(network) => self.ends_unproven(network),
            Input::Local(_) | Input::Cache(_) => false,
        };
        let writer = match self.input {
            Input::Local(_) => return None,
            Input::Cache(_) => None,
            Input::Network(network) => {
                let writer = network.writer?;
                if is_unproven {
                    // The end of the connection proves nothing: it may have broken (fault C22). The bytes were given out,
                    // because there are servers that send no length, but the cache does not believe them.
                    context.bypass(&self.resource, Bypass::UnknownLength);
                    return None;
                }
                Some(writer)
            }
        };
        let resource = self.resource;
        Some(async move {
            let error = writer?.commit().await.err()?;
            Some((resource, Bypass::Refused(error)))
        })
    }

    /// What the server said of the resource, if it tells editions apart and was fetched.
    pub(super) fn take_witness(&mut self) -> Option<(WitnessPlace, Witness)> {
        Some((self.media.witness?, self.witness.take()?))
    }

    /// The entry to remove, if the bytes came from the cache and turned out to be wrong.
    pub(super) fn into_damaged(self) -> Option<CachePath> {
        matches!(self.input, Input::Cache(_)).then(|| self.media.path().clone())
    }
}

fn witness(media: &MediaResource, response: &Response) -> Option<Witness> {
    media.witness?;
    Some(Witness::of(response.headers(), response.total_length()))
}

/// Asks for the resource's bytes.
async fn send(
    fetcher: &Fetcher,
    context: &mut FetchContext,
    resource: &Resource,
    media: &MediaResource,
) -> Result<Response, HlsError> {
    let locator = &media.locator;
    let mut request = fetcher.request(locator.url.clone());
    if let Some(range) = &locator.range {
        request = request.range(ByteRange::new(range.start, range.end));
    }
    let sent = fetcher.send(context, resource, request).await;
    sent.map_err(|error| match error {
        // A status of success that stands for no bytes.
        HlsError::Network { source, .. } => HlsError::media(resource)(source),
        other => other,
    })
}

impl NetworkInput {
    async fn new(
        fetcher: &Fetcher,
        context: &mut FetchContext,
        resource: &Resource,
        media: &MediaResource,
        response: Response,
    ) -> Result<(Self, Candidate), HlsError> {
        let start = media.locator.range.as_ref().map_or(0, |range| range.start);
        let candidate = fetcher.params.access.judge.head(&response, start);
        let candidate = candidate.map_err(|source| HlsError::NotMedia {
            resource: resource.clone(),
            source: Box::new(source),
        })?;
        let announced = response.content_length();
        let network = Self {
            announced,
            body: response.into_body(),
            writer: writer(fetcher, context, resource, media.path(), announced).await,
        };
        Ok((network, candidate))
    }

    async fn next(
        &mut self,
        context: &mut FetchContext,
        resource: &Resource,
    ) -> Result<Option<Bytes>, NetError> {
        let chunk = self.body.try_next().await?;
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
    len: Option<u64>,
) -> Option<EntryWriter> {
    let Some(cache) = fetcher.cache() else {
        context.bypass(resource, Bypass::NoCache);
        return None;
    };
    let opened = match len {
        Some(len) => cache.writer_with_len(&fetcher.asset, path, len).await,
        None => cache.writer(&fetcher.asset, path).await,
    };
    match opened {
        Ok(writer) => Some(writer),
        Err(error) => {
            context.bypass(resource, Bypass::Refused(error));
            None
        }
    }
}

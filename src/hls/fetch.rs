//! What is fetched whole: playlists and keys.
//!
//! The one rule: **what is kept has been proven good.** A playlist is kept when it has parsed, a key when it has its length.
//! What the cache has and is not good is fetched once more (fault C21).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_lock::Mutex as AsyncMutex;
use bytes::{Bytes, BytesMut};

#[cfg(feature = "decode")]
use super::selection::Adaptive;
use super::{
    HlsError, Resource, ResourceKind, VariantChoice,
    crypt::Key,
    data_uri,
    fetch_context::FetchContext,
    local,
    params::{HlsParams, KeyContext},
    playlist::{self, BodyEnd, Locator, MultivariantPlaylist, Playlist, PlaylistError, References},
    stored::{self, CopyFacts},
};
use crate::{
    cache::{AssetCache, AssetId, CachePath, EntryReader},
    media::{Bypass, SourceHeaders},
    net::{Request, Response, Url},
};

/// What the parts of a track are fetched with. All streams of one source share it.
pub(super) struct Fetcher {
    pub(super) params: HlsParams,
    /// The source's own URL.
    pub(super) url: Url,
    headers: SourceHeaders,
    pub(super) asset: AssetId,
    /// The source's own playlist, where the app has brought it.
    text: Option<Bytes>,
    /// Keys by entry. Each is fetched once in the source's life, also where the cache keeps nothing.
    keys: Mutex<HashMap<CachePath, Arc<KnownKey>>>,
}

/// A key, once it is known.
#[derive(Default)]
pub(super) struct KnownKey {
    /// Locked by the part that fetches it.
    key: AsyncMutex<Option<Key>>,
    /// What is to be kept when it has decrypted something. Any 16 bytes look like a key.
    unproven: Mutex<Option<KeptEntry>>,
}

/// Whether a playlist's copy will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The copy in the cache, if there is one.
    Cache,
    /// The server, whether the copy is current.
    Server,
    /// The server, whatever the copy is: what it names was refused.
    Anew,
}

/// A playlist, and what is to be done about its copy.
pub(super) struct Fetched {
    pub(super) playlist: Playlist,
    /// Whether it is a copy that the server is to be asked about.
    pub(super) needs_check: bool,
    /// Whether it is no copy: from the server, from a file, or the app's own.
    pub(super) is_new: bool,
    /// What to keep: see [`Fetcher::keep`]. Not kept yet, because it may be of another edition.
    pub(super) entry: Option<KeptEntry>,
}

/// An entry to be written.
pub(super) type KeptEntry = (Resource, CachePath, Bytes);

/// Which key decrypts a resource, and how.
pub(super) struct KeyReference {
    pub(super) locator: Arc<Locator>,
    /// The entry that keeps it.
    pub(super) path: CachePath,
    pub(super) iv: [u8; 16],
}

impl KnownKey {
    fn unproven(&self) -> MutexGuard<'_, Option<KeptEntry>> {
        // Each change is one store.
        self.unproven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetcher {
    pub(super) fn new(params: HlsParams, url: Url) -> Self {
        Self {
            asset: params.access.asset_of(&url),
            headers: params.access.headers_of(&url),
            params,
            url,
            text: None,
            keys: Mutex::default(),
        }
    }

    /// With the source's own playlist: `url` is where it came from, and is not asked.
    pub(super) fn with_text(self, text: Bytes) -> Self {
        Self {
            text: Some(text),
            ..self
        }
    }

    /// The same for a chosen Variant Stream.
    pub(super) fn choosing(&self, variant: VariantChoice) -> Self {
        let fetcher = Self::new(self.params.clone().choosing(variant), self.url.clone());
        Self {
            text: self.text.clone(),
            ..fetcher
        }
    }

    /// The same with an adaptive selector.
    #[cfg(feature = "decode")]
    pub(super) fn adaptive(&self) -> Self {
        let params = self.params.clone().selector(Adaptive::new());
        Self {
            text: self.text.clone(),
            ..Self::new(params, self.url.clone())
        }
    }

    pub(super) fn cache(&self) -> Option<&AssetCache> {
        self.params.access.cache.as_ref()
    }

    /// A request for `url`, with the source's headers if `url` is of the source's own origin.
    pub(super) fn request(&self, url: Url) -> Request {
        self.headers.request(url)
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// `OfflineMiss`, `NoClient`, `Network`.
    // `&mut`, because a future that holds a shared reference to the context would not be `Send`.
    pub(super) async fn send(
        &self,
        context: &mut FetchContext,
        resource: &Resource,
        request: Request,
    ) -> Result<Response, HlsError> {
        context.allow_network(resource)?;
        let Some(client) = &self.params.access.client else {
            let resource = resource.clone();
            return Err(HlsError::NoClient { resource });
        };
        client.send(request).await.map_err(HlsError::network(resource))
    }

    /// A playlist, parsed: the copy in the cache, or what the server has. A copy that does not parse is fetched once more.
    /// `parent` is the Multivariant Playlist that names it.
    ///
    /// # Errors
    ///
    /// `Playlist`, `DataUri`, `LocalFile`, `Network`, `NoClient`, `OfflineMiss`, `OfflineCache`.
    pub(super) async fn playlist(
        &self,
        context: &mut FetchContext,
        url: &Url,
        path: &CachePath,
        parent: Option<&MultivariantPlaylist>,
        ask: Ask,
    ) -> Result<Fetched, HlsError> {
        let resource = Resource::new(ResourceKind::Playlist, url);
        let parse = |body: &[u8], url: &Url, end: BodyEnd| {
            let base = self.params.base_url.as_ref().unwrap_or(url);
            let imports = parent.map(|parent| &parent.variables);
            let parsed = playlist::parse(body, &References { url, base, imports }, end);
            parsed.map_err(|source| HlsError::Playlist {
                resource: resource.clone(),
                source,
            })
        };
        let local = match &self.text {
            Some(text) if parent.is_none() => Some(text.clone()),
            _ => local::read(&resource, url, self.params.max_playlist_bytes).await?,
        };
        if let Some(body) = local {
            // A `data:` URI is no base (RFC 3986, 5.1): that of the playlist it stands in is taken.
            let base = parent
                .map(|parent| &parent.base)
                .filter(|_| data_uri::is_inline(url));
            return Ok(Fetched {
                playlist: parse(&body, base.unwrap_or(url), BodyEnd::Proven)?,
                needs_check: false,
                is_new: true,
                entry: None,
            });
        }
        let entry = self.read_entry(context, &resource, path).await?;
        let copy = entry.as_ref().and_then(|entry| stored::unwrap(entry, url));
        // Nothing is kept whose end was not proven.
        let copy = copy.and_then(|(body, facts)| match parse(body, &facts.url, BodyEnd::Proven) {
            Ok(playlist) => Some((playlist, body, facts)),
            Err(error) => {
                log::warn!("damaged in the cache: {error}");
                None
            }
        });
        let mut request = self.request(url.clone()).compressed();
        if let Some((playlist, body, facts)) = copy {
            if ask == Ask::Cache {
                return Ok(Fetched {
                    playlist,
                    needs_check: self.params.playlist_check.is_due(&facts),
                    is_new: false,
                    entry: None,
                });
            }
            // Past the caches on the way: one of them may have the copy too, with URLs that have expired.
            request = request.header("cache-control", "no-cache");
            // An answer without a body does not say where a redirect leads today. Nor is it of use where a URL in the body has
            // expired: the tag may be the same for ever.
            if ask == Ask::Server && facts.url == *url {
                request = facts.condition(request);
            }
            match self.send(context, &resource, request).await {
                Ok(response) => {
                    let entry = (resource.clone(), path);
                    return self.received(context, entry, url, response, parse).await;
                }
                Err(HlsError::Network { source, .. }) if source.status() == Some(304) => {}
                Err(error) => return Err(error),
            }
            // Written again only if that makes it fresh: a durable write for each play would be for nothing.
            let facts = facts.checked_now();
            let entry = facts.is_fresh().then(|| stored::wrap(body, url, &facts));
            return Ok(Fetched {
                playlist,
                needs_check: false,
                is_new: true,
                entry: entry.map(|bytes| (resource, path.clone(), bytes)),
            });
        }
        let response = self.send(context, &resource, request.clone()).await?;
        let entry = (resource.clone(), path);
        match self.received(context, entry, url, response, &parse).await {
            Err(HlsError::Playlist {
                source: PlaylistError::MayBeCut,
                ..
            }) => {}
            received => return received,
        }
        // The client resumes a body whose end it misses. Of this one it cannot know: the connection may have broken, and the
        // same URL may give the rest.
        log::debug!("{resource} may be cut, and is asked for once more");
        let response = self.send(context, &resource, request).await?;
        self.received(context, (resource.clone(), path), url, response, parse)
            .await
    }

    async fn received(
        &self,
        context: &mut FetchContext,
        (resource, path): (Resource, &CachePath),
        url: &Url,
        response: Response,
        parse: impl Fn(&[u8], &Url, BodyEnd) -> Result<Playlist, HlsError>,
    ) -> Result<Fetched, HlsError> {
        // The URL after redirects is what its relative URLs resolve against (fault D11).
        let facts = CopyFacts::of(response.url(), response.headers());
        let body = response.bytes_and_proof(self.params.max_playlist_bytes).await;
        let (body, is_proven) = body.map_err(HlsError::network(&resource))?;
        let end = if is_proven {
            BodyEnd::Proven
        } else {
            BodyEnd::Unproven
        };
        let playlist = parse(&body, &facts.url, end)?;
        let entry = if !is_proven && matches!(playlist, Playlist::Multivariant(_)) {
            // It plays, but Variant Streams may be missing at its end. Kept, they would be missing for ever (fault W7). A
            // Media Playlist has proven its end by EXT-X-ENDLIST, or it was refused.
            context.bypass(&resource, Bypass::UnknownLength);
            None
        } else {
            // Only now: a page or a broken playlist in the cache would be there for ever.
            Some((resource, path.clone(), stored::wrap(&body, url, &facts)))
        };
        Ok(Fetched {
            playlist,
            needs_check: false,
            is_new: true,
            entry,
        })
    }

    /// A key, processed. Fetched once per entry, whatever the number of segments, seeks and IVs (fault E2).
    ///
    /// # Errors
    ///
    /// `KeyLength`, `Key`, `DataUri`, `LocalFile`, `Network`, `NoClient`, `OfflineMiss`, `OfflineCache`.
    pub(super) async fn key(
        &self,
        context: &mut FetchContext,
        reference: &KeyReference,
    ) -> Result<(Key, Arc<KnownKey>), HlsError> {
        let known = self.keys().entry(reference.path.clone()).or_default().clone();
        // Parts that are on their way side by side have one key as a rule: the first one fetches it, the others wait. Offline
        // nobody waits for a server.
        let mut key = if context.is_offline {
            known.key.try_lock()
        } else {
            Some(known.key.lock().await)
        };
        if let Some(Some(key)) = key.as_deref() {
            let key = key.clone();
            return Ok((key, known.clone()));
        }
        let resource = Resource::new(ResourceKind::Key, &reference.locator.url);
        let url = &reference.locator.url;
        let found = if let Some(bytes) = local::read(&resource, url, self.params.max_key_bytes).await? {
            self.process_key(&resource, url, bytes)?.0
        } else {
            let entry = self.read_entry(context, &resource, &reference.path).await?;
            if let Some(key) = entry.and_then(|entry| Key::new(&entry)) {
                key
            } else {
                let (key, bytes) = self.fetch_key(context, &resource, reference).await?;
                let entry = (resource, reference.path.clone(), bytes);
                *known.unproven() = Some(entry);
                key
            }
        };
        if let Some(key) = &mut key {
            **key = Some(found.clone());
        }
        drop(key);
        Ok((found, known))
    }

    async fn fetch_key(
        &self,
        context: &mut FetchContext,
        resource: &Resource,
        reference: &KeyReference,
    ) -> Result<(Key, Bytes), HlsError> {
        let url = &reference.locator.url;
        // The entry's name and the processor's context are of the URL without these parameters: they may be tokens.
        let mut requested = url.clone();
        if !self.params.key_query.is_empty() {
            requested.query_pairs_mut().extend_pairs(&self.params.key_query);
        }
        let mut request = self.request(requested);
        // After the source's own headers: of two with one name the key's is sent.
        for (name, value) in &self.params.key_headers {
            request = request.header(name, value);
        }
        let response = self.send(context, resource, request).await?;
        let bytes = response.bytes(self.params.max_key_bytes).await;
        let bytes = bytes.map_err(HlsError::network(resource))?;
        // What the processor made, never what the server sent: a wrapped key must not reach the disk (H4).
        self.process_key(resource, url, bytes)
    }

    /// Keeps a key that has decrypted a part to its end.
    pub(super) fn keep_key(&self, context: &mut FetchContext, key: &Arc<KnownKey>) {
        let Some((resource, path, bytes)) = key.unproven().clone() else {
            return;
        };
        let Some(cache) = self.cache().cloned() else {
            *key.unproven() = None;
            return context.bypass(&resource, Bypass::NoCache);
        };
        let (asset, key) = (self.asset.clone(), key.clone());
        context.commits.push(async move {
            let error = cache.put_atomic(&asset, &path, bytes).await.err();
            // Only now: with its stream a commit may be dropped, and the next part keeps the key then.
            *key.unproven() = None;
            Some((resource, Bypass::Refused(error?)))
        });
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<CachePath, Arc<KnownKey>>> {
        // Each change is one call on the map.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that came as `bytes`, and the bytes that the key processor made of it.
    fn process_key(
        &self,
        resource: &Resource,
        url: &Url,
        mut bytes: Bytes,
    ) -> Result<(Key, Bytes), HlsError> {
        if let Some(process) = &self.params.key_processor {
            let key_context = KeyContext::new(url.clone());
            bytes = process(bytes, &key_context).map_err(|source| HlsError::Key {
                resource: resource.clone(),
                source,
            })?;
        }
        let Some(key) = Key::new(&bytes) else {
            return Err(HlsError::KeyLength {
                resource: resource.clone(),
                length: bytes.len(),
            });
        };
        Ok((key, bytes))
    }

    /// Forgets the key of an entry, if it is one of a key.
    pub(super) fn forget_key(&self, path: &CachePath) {
        self.keys().remove(path);
    }

    /// Removes an entry that turned out to be damaged.
    pub(super) async fn remove_entry(&self, path: &CachePath) {
        let Some(cache) = self.cache() else { return };
        if let Err(error) = cache.remove_entry(&self.asset, path).await {
            log::debug!("a damaged entry stays in the cache: {error}");
        }
    }

    /// Whether the cache has an entry. One that it cannot say so of is not given up for that.
    pub(super) async fn has(&self, path: &CachePath) -> bool {
        let Some(cache) = self.cache() else {
            return false;
        };
        cache.contains(&self.asset, path).await.unwrap_or(true)
    }

    /// A small entry that the module keeps for itself. One that cannot be read is none: nothing depends on it but what is
    /// asked for again.
    pub(super) async fn own_entry(&self, path: &CachePath) -> Option<Bytes> {
        self.cache()?.get(&self.asset, path).await.ok().flatten()
    }

    /// An entry with all its bytes. `None` if it is not there, or damaged and to be fetched.
    async fn read_entry(
        &self,
        context: &mut FetchContext,
        resource: &Resource,
        path: &CachePath,
    ) -> Result<Option<Bytes>, HlsError> {
        let Some(mut reader) = self.open_entry(context, resource, path).await? else {
            return Ok(None);
        };
        // Not from the entry's length: what a footer announces is no reason to allocate.
        let mut bytes = BytesMut::new();
        loop {
            match reader.next_chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => return Ok(Some(bytes.freeze())),
                Err(error) => {
                    return context.unread_entry_failed(resource, error).map(|()| None);
                }
            }
        }
    }

    /// Opens an entry. Its reader gives out no byte that the disk changed.
    pub(super) async fn open_entry(
        &self,
        context: &mut FetchContext,
        resource: &Resource,
        path: &CachePath,
    ) -> Result<Option<EntryReader>, HlsError> {
        let Some(cache) = self.cache() else {
            return Ok(None);
        };
        match cache.open(&self.asset, path).await {
            Ok(reader) => Ok(reader),
            Err(error) => context.entry_failed(resource, error).map(|()| None),
        }
    }

    /// Begins to write an entry. The stream goes on meanwhile.
    pub(super) fn keep(&self, context: &mut FetchContext, (resource, path, bytes): KeptEntry) {
        let Some(cache) = self.cache().cloned() else {
            return context.bypass(&resource, Bypass::NoCache);
        };
        let asset = self.asset.clone();
        context.commits.push(async move {
            let error = cache.put_atomic(&asset, &path, bytes).await.err()?;
            Some((resource, Bypass::Refused(error)))
        });
    }
}

//! Small things fetched whole: playlists and keys. From the cache if it has them, else from the network, kept only once
//! they are proven good (fault C21).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use snafu::ResultExt;

use super::{
    crypt::Key,
    error::{
        HlsError, KeyLengthSnafu, KeySnafu, NetworkSnafu, NoClientSnafu, PlaylistSnafu, Resource,
        ResourceKind,
    },
    fetch_context::FetchContext,
    params::{HlsParams, KeyContext},
    playlist::{self, Locator, Playlist, References, Variables},
    stored,
};
use crate::{
    cache::{AssetCache, AssetId, CachePath, EntryReader},
    media::{Bypass, SourceHeaders},
    net::{Request, Response, Url},
};

/// The largest playlist, before and after decompression: 100 000 segments fit.
const PLAYLIST_LIMIT: usize = 16 << 20;
/// The largest key as the server sends it: wrapped keys are larger than 16 bytes, but not by much.
const KEY_LIMIT: usize = 64 << 10;

/// Everything the parts of a track are fetched with, shared by all streams of one source.
pub(super) struct Fetcher {
    pub(super) params: HlsParams,
    /// The source's own URL.
    pub(super) url: Url,
    headers: SourceHeaders,
    pub(super) asset: AssetId,
    /// Keys by entry: each is fetched once.
    keys: Mutex<HashMap<CachePath, Key>>,
}

/// Which key decrypts a resource, and how.
pub(super) struct KeyReference {
    pub(super) locator: Locator,
    pub(super) path: CachePath,
    pub(super) iv: [u8; 16],
}

impl Fetcher {
    pub(super) fn new(params: HlsParams, url: Url) -> Self {
        Self {
            asset: params.access.asset_of(&url),
            headers: params.access.headers_of(&url),
            params,
            url,
            keys: Mutex::default(),
        }
    }

    pub(super) fn cache(&self) -> Option<&AssetCache> {
        self.params.access.cache.as_ref()
    }

    /// A request for `url`, with the headers that are for its host.
    pub(super) fn request(&self, url: Url) -> Request {
        self.headers.request(url)
    }

    /// Sends a request, if the network may be used.
    ///
    /// # Errors
    ///
    /// `OfflineMiss`, `NoClient`, `Network`.
    pub(super) async fn send(
        &self,
        context: &mut FetchContext,
        resource: &Resource,
        request: Request,
    ) -> Result<Response, HlsError> {
        context.online(resource)?;
        let Some(client) = &self.params.access.client else {
            return NoClientSnafu {
                resource: resource.clone(),
            }
            .fail();
        };
        let response = client.send(request).await;
        response.with_context(|_| NetworkSnafu {
            resource: resource.clone(),
        })
    }

    /// A playlist, parsed. One from the cache that does not parse is fetched once more.
    ///
    /// # Errors
    ///
    /// `Playlist`, `Network`, `NoClient`, `OfflineMiss`, `OfflineCache`.
    pub(super) async fn playlist(
        &self,
        context: &mut FetchContext,
        url: &Url,
        path: &CachePath,
        imports: Option<&Variables>,
    ) -> Result<Playlist, HlsError> {
        let resource = Resource::new(ResourceKind::Playlist, url);
        let parse = |body: &[u8], url: &Url| {
            let base = self.params.base_url.as_ref().unwrap_or(url);
            playlist::parse(body, &References { url, base, imports })
        };
        let entry = self.cached(context, &resource, path).await?;
        if let Some((body, final_url)) = entry.as_ref().and_then(|entry| stored::unwrap(entry, url)) {
            match parse(body, &final_url) {
                Ok(playlist) => return Ok(playlist),
                Err(error) => log::warn!("{resource} in the cache is damaged: {error}"),
            }
        }
        let request = self.request(url.clone()).compressed();
        let response = self.send(context, &resource, request).await?;
        let final_url = response.url().clone();
        let body = response.bytes(PLAYLIST_LIMIT).await;
        let body = body.with_context(|_| NetworkSnafu {
            resource: resource.clone(),
        })?;
        let playlist = parse(&body, &final_url).with_context(|_| PlaylistSnafu {
            resource: resource.clone(),
        })?;
        self.keep(context, &resource, path, stored::wrap(&body, url, &final_url));
        Ok(playlist)
    }

    /// A key, processed. Fetched once per entry, whatever the number of segments, seeks and IVs (fault E2).
    ///
    /// # Errors
    ///
    /// `KeyLength`, `Key`, `Network`, `NoClient`, `OfflineMiss`, `OfflineCache`.
    pub(super) async fn key(
        &self,
        context: &mut FetchContext,
        reference: &KeyReference,
    ) -> Result<Key, HlsError> {
        let known = self
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&reference.path)
            .cloned();
        if let Some(key) = known {
            return Ok(key);
        }
        let resource = Resource::new(ResourceKind::Key, &reference.locator.url);
        let cached = self.cached(context, &resource, &reference.path).await?;
        let key = match cached.and_then(|entry| Key::new(&entry)) {
            Some(key) => key,
            None => self.fetch_key(context, &resource, reference).await?,
        };
        self.keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(reference.path.clone(), key.clone());
        Ok(key)
    }

    async fn fetch_key(
        &self,
        context: &mut FetchContext,
        resource: &Resource,
        reference: &KeyReference,
    ) -> Result<Key, HlsError> {
        let url = &reference.locator.url;
        let mut asked = url.clone();
        if !self.params.key_query.is_empty() {
            asked.query_pairs_mut().extend_pairs(&self.params.key_query);
        }
        let mut request = self.request(asked);
        for (name, value) in &self.params.key_headers {
            request = request.header(name, value);
        }
        let response = self.send(context, resource, request).await?;
        let bytes = response.bytes(KEY_LIMIT).await;
        let mut bytes = bytes.with_context(|_| NetworkSnafu {
            resource: resource.clone(),
        })?;
        if let Some(process) = &self.params.key_processor {
            let key_context = KeyContext::new(url.clone());
            bytes = process(bytes, &key_context).with_context(|_| KeySnafu {
                resource: resource.clone(),
            })?;
        }
        let Some(key) = Key::new(&bytes) else {
            return KeyLengthSnafu {
                resource: resource.clone(),
                length: bytes.len(),
            }
            .fail();
        };
        self.keep(context, resource, &reference.path, bytes);
        Ok(key)
    }

    /// Forgets a key that did not decrypt. Its entry is the caller's to drop, once no write of it is under way.
    pub(super) fn forget_key(&self, reference: &KeyReference) {
        self.keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&reference.path);
    }

    /// Drops an entry that turned out to be damaged.
    pub(super) async fn forget(&self, path: &CachePath) {
        let Some(cache) = self.cache() else { return };
        if let Err(error) = cache.remove_entry(&self.asset, path).await {
            log::debug!("a damaged entry stays in the cache: {error}");
        }
    }

    /// An entry with all its bytes, if it has those that were written.
    async fn cached(
        &self,
        context: &mut FetchContext,
        resource: &Resource,
        path: &CachePath,
    ) -> Result<Option<Bytes>, HlsError> {
        let Some(mut reader) = self.open(context, resource, path).await? else {
            return Ok(None);
        };
        let mut bytes = BytesMut::new();
        loop {
            match reader.next_chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => return Ok(Some(bytes.freeze())),
                Err(error) => return context.unread(resource, error).map(|()| None),
            }
        }
    }

    /// Opens an entry. Its reader gives out no byte that the disk changed.
    pub(super) async fn open(
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
            Err(error) => context.unreadable(resource, error).map(|()| None),
        }
    }

    fn keep(&self, context: &mut FetchContext, resource: &Resource, path: &CachePath, bytes: Bytes) {
        let Some(cache) = self.cache().cloned() else {
            return context.bypass(resource, Bypass::NoCache);
        };
        let asset = self.asset.clone();
        let (resource, path) = (resource.clone(), path.clone());
        context.commits.push(async move {
            let error = cache.put_atomic(&asset, &path, bytes).await.err()?;
            Some((resource, Bypass::Refused(error)))
        });
    }
}

//! From a request to the sources that fetch it, and to what the cache has of them.

use super::{DownloadRequest, Kind, OfflineError, builder::DownloadsBuilder};
#[cfg(feature = "hls")]
use super::{Renditions, room};
#[cfg(feature = "hls")]
use crate::hls::{HlsError, HlsParams, HlsSource, Listing, Needs, OpenMode, VariantChoice};
use crate::{
    file::{FileParams, FileSource},
    media::{Access, Stored},
};

/// What fetches a download.
pub(super) enum Sources {
    File(Box<FileSource>),
    #[cfg(feature = "hls")]
    Hls(Tracks),
}

/// The Variant Streams and Renditions that are selected, each as a source of its own.
#[cfg(feature = "hls")]
pub(super) struct Tracks {
    pub(super) all: Vec<HlsSource>,
    pub(super) window: crate::hls::Window,
}

impl DownloadsBuilder {
    /// The access of one download.
    pub(super) fn access_of(&self, request: &DownloadRequest) -> Access {
        self.access.clone().asset(request.asset_id())
    }

    pub(super) fn file(&self, request: &DownloadRequest, access: Access) -> FileSource {
        let mut params = FileParams::with_access(access);
        if let Some(path) = &request.path {
            params = params.cache_path(path.clone());
        }
        if let Some(hook) = &self.file_hook {
            params = hook(request, params);
        }
        FileSource::new(request.url.clone(), params)
    }

    #[cfg(feature = "hls")]
    fn track_params(&self, request: &DownloadRequest, access: Access) -> HlsParams {
        let params = HlsParams::with_access(access);
        let params = match &self.hls_hook {
            Some(hook) => hook(request, params),
            None => params,
        };
        // What is fetched in front of what is noted is taken without a look at the room: so no more than a step of it.
        match [self.max_bytes, request.max_bytes].into_iter().flatten().min() {
            Some(limit) => params.look_ahead_bytes(room::step(limit)),
            None => params,
        }
    }

    /// The tracks that are selected, by the playlists of the cache, or the server's.
    ///
    /// # Errors
    ///
    /// `OfflineMiss` where the playlists are not in the cache, and those of a stream's first message.
    #[cfg(feature = "hls")]
    pub(super) async fn tracks(
        &self,
        request: &DownloadRequest,
        access: Access,
        mode: OpenMode,
    ) -> Result<Tracks, HlsError> {
        let params = self.track_params(request, access);
        let source = HlsSource::new(request.url.clone(), params.clone());
        let outline = source.outline(mode).await?;
        let mut preferred: Vec<_> = (0..outline.variants.len()).collect();
        // As a stream chooses: audio alone before video, and else the author's order.
        preferred.sort_by_key(|index| outline.variants.get(*index).map(|(_, content)| *content));
        // Of those that a stream would prefer: a rule of rates must not lead to video.
        let best = preferred.first().and_then(|first| outline.variants.get(*first));
        let best = best.map(|(_, content)| *content);
        preferred.retain(|index| outline.variants.get(*index).map(|(_, content)| *content) == best);
        let rates: Vec<_> = outline.variants.iter().map(|(rate, _)| *rate).collect();
        let variants = &request.selection.variants;
        let count = rates.len();
        let indices = variants
            .resolve(&rates, &preferred)
            .ok_or_else(|| HlsError::NoSuchVariant {
                index: variants.beyond(count).unwrap_or_default(),
                count,
            })?;
        let renditions = renditions(&request.selection.renditions, &outline.languages);
        let mut all = Vec::new();
        for index in indices {
            for rendition in &renditions {
                let params = params.clone().variant(VariantChoice::Index(index));
                let params = match rendition {
                    Rendition::Default => params,
                    Rendition::Language(language) => params.audio_language(language),
                    Rendition::Name(name) => params.audio_name(name),
                };
                all.push(HlsSource::new(request.url.clone(), params));
            }
        }
        Ok(Tracks {
            all,
            window: request.selection.window.clone(),
        })
    }

    /// What fetches a download.
    ///
    /// # Errors
    ///
    /// Those of [`tracks`](Self::tracks) for a track; `NotBuilt`.
    #[cfg_attr(
        not(feature = "hls"),
        expect(clippy::unused_async, reason = "it is the tracks that wait")
    )]
    pub(super) async fn sources(
        &self,
        request: &DownloadRequest,
        access: Access,
        #[cfg(feature = "hls")] mode: OpenMode,
    ) -> Result<Sources, OfflineError> {
        match request.kind {
            Kind::File => Ok(Sources::File(Box::new(self.file(request, access)))),
            #[cfg(feature = "hls")]
            Kind::Hls => Ok(Sources::Hls(self.tracks(request, access, mode).await?)),
            #[cfg(not(feature = "hls"))]
            Kind::Hls => Err(OfflineError::NotBuilt),
        }
    }

    /// What the cache has of a download, found by looking.
    pub(super) async fn look(&self, request: &DownloadRequest) -> Result<Stored, OfflineError> {
        let access = self.access_of(request);
        match request.kind {
            Kind::File => Ok(self.file(request, access).stored().await?),
            #[cfg(feature = "hls")]
            Kind::Hls => match self.tracks(request, access, OpenMode::Offline).await {
                Ok(tracks) => Ok(tracks.stored().await?),
                Err(HlsError::OfflineMiss { resource }) => Ok(Stored::nothing(resource.to_string())),
                Err(error) => Err(error.into()),
            },
            #[cfg(not(feature = "hls"))]
            Kind::Hls => Err(OfflineError::NotBuilt),
        }
    }

    /// The same by reading all of it against its checksums.
    pub(super) async fn verify(
        &self,
        request: &DownloadRequest,
        on_progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Stored, OfflineError> {
        let access = self.access_of(request);
        match request.kind {
            Kind::File => Ok(self.file(request, access).verify(on_progress).await?),
            #[cfg(feature = "hls")]
            Kind::Hls => match self.tracks(request, access, OpenMode::Offline).await {
                Ok(tracks) => Ok(tracks.verify(on_progress).await?),
                Err(HlsError::OfflineMiss { resource }) => Ok(Stored::nothing(resource.to_string())),
                Err(error) => Err(error.into()),
            },
            #[cfg(not(feature = "hls"))]
            Kind::Hls => Err(OfflineError::NotBuilt),
        }
    }
}

#[cfg(feature = "hls")]
impl Tracks {
    /// What all of them need, each thing once, and the entries that are there. `None` for the needs of those whose playlists
    /// are not.
    pub(super) async fn needs(&self) -> Result<(Vec<Option<Needs>>, Listing), HlsError> {
        let mut listing = Listing::new();
        let mut needs = Vec::new();
        for (number, source) in self.all.iter().enumerate() {
            // One asset, and so one listing for all of them.
            if number == 0 {
                listing = source.listing().await?;
            }
            needs.push(match source.needs(&self.window, &listing).await {
                Ok(needs) => Some(needs),
                Err(HlsError::OfflineMiss { .. }) => None,
                Err(error) => return Err(error),
            });
        }
        Ok((needs, listing))
    }

    async fn stored(&self) -> Result<Stored, HlsError> {
        let (needs, listing) = self.needs().await?;
        Ok(union(needs).map_or_else(
            || Stored::nothing("a playlist".to_owned()),
            |needs| needs.held_against(&listing),
        ))
    }

    async fn verify(&self, on_progress: impl FnMut(u64, u64) + Send) -> Result<Stored, HlsError> {
        let (needs, listing) = self.needs().await?;
        match (union(needs), self.all.first()) {
            (Some(needs), Some(source)) => source.verify_needs(&needs, listing, on_progress).await,
            _ => Ok(Stored::nothing("a playlist".to_owned())),
        }
    }
}

/// One of a Variant Stream's Renditions.
#[cfg(feature = "hls")]
enum Rendition {
    Default,
    Language(String),
    Name(String),
}

/// What rules lead to. Two that lead to one Rendition do no harm: it is fetched once.
#[cfg(feature = "hls")]
fn renditions(rules: &Renditions, languages: &[String]) -> Vec<Rendition> {
    let mut found = Vec::new();
    for rule in rules.clone().into_rules() {
        match rule {
            Renditions::Languages(languages) => found.extend(languages.into_iter().map(Rendition::Language)),
            Renditions::Names(names) => found.extend(names.into_iter().map(Rendition::Name)),
            Renditions::All if !languages.is_empty() => {
                found.extend(languages.iter().cloned().map(Rendition::Language));
            }
            _ => found.push(Rendition::Default),
        }
    }
    found
}

/// All needs as one; `None` if those of one are not known.
#[cfg(feature = "hls")]
pub(super) fn union(needs: Vec<Option<Needs>>) -> Option<Needs> {
    let all: Option<Vec<_>> = needs.into_iter().collect();
    all?.into_iter().reduce(Needs::and)
}

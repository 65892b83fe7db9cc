//! What is played: one Variant Stream's Media Playlist, laid out as the parts whose plaintext, one after another, is the
//! stream.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use snafu::ResultExt;

use super::{
    control::HlsControl,
    error::{HlsError, NoSuchVariantSnafu, PlaylistSnafu, Resource, ResourceKind},
    fetch::{Fetcher, KeyReference},
    fetch_context::FetchContext,
    names::ResourceNames,
    params::VariantChoice,
    playlist::{
        Encryption, InitializationSection, Locator, MediaPlaylist, MultivariantPlaylist, Playlist,
        PlaylistError, StartPoint,
    },
};
use crate::{cache::CachePath, media::Origin};

/// A Media Playlist ready to be read from any byte on.
pub(super) struct Track {
    variant: usize,
    bandwidth: u64,
    codecs: Option<String>,
    rendition: Option<String>,
    start: Option<StartPoint>,
    duration: Duration,
    /// In stream order.
    parts: Vec<Part>,
    /// Plaintext bytes of each part, as far as they are known by now.
    sizes: Mutex<Vec<Option<u64>>>,
}

/// A contiguous part of the stream: a segment, the initialisation section before it, or a gap.
pub(super) struct Part {
    /// `None` for a gap: nothing is fetched for it (fault E9).
    pub(super) media: Option<Arc<MediaResource>>,
    media_sequence: u64,
    /// When the segment starts that this is, or is needed for.
    time: Duration,
    duration: Duration,
    discontinuity_sequence: u64,
    /// The Discontinuity Sequence Number that begins here.
    discontinuity: Option<u64>,
}

/// Where a part's bytes are and how they are read.
pub(super) struct MediaResource {
    pub(super) kind: ResourceKind,
    pub(super) locator: Locator,
    /// The entry that keeps it, as it was fetched.
    pub(super) path: CachePath,
    /// `None` for plain text.
    pub(super) key: Option<KeyReference>,
}

impl MediaResource {
    fn new(
        names: &mut ResourceNames<'_>,
        kind: ResourceKind,
        locator: Locator,
        encryption: Option<Encryption>,
    ) -> Result<Arc<Self>, HlsError> {
        let key = match encryption {
            None => None,
            Some(Encryption { key: locator, iv }) => {
                let path = names.entry(ResourceKind::Key, &locator)?;
                Some(KeyReference { locator, path, iv })
            }
        };
        let path = names.entry(kind, &locator)?;
        Ok(Arc::new(Self {
            kind,
            locator,
            path,
            key,
        }))
    }

    /// Its name for errors and messages.
    pub(super) fn resource(&self) -> Resource {
        Resource::new(self.kind, &self.locator.url)
    }

    /// How many bytes of plaintext it has, where the playlist says.
    fn size(&self) -> Option<u64> {
        let range = self.locator.range.as_ref().filter(|_| self.key.is_none())?;
        Some(range.end - range.start)
    }
}

impl Track {
    /// # Errors
    ///
    /// `SameName`.
    fn new(playlist: MediaPlaylist, names: &mut ResourceNames<'_>) -> Result<Self, HlsError> {
        let mut parts = Vec::with_capacity(playlist.segments.len() + 1);
        let mut time = Duration::ZERO;
        let mut current: Option<Arc<InitializationSection>> = None;
        for segment in playlist.segments {
            let (media_sequence, duration) = (segment.sequence, segment.duration);
            let discontinuity_sequence = segment.discontinuity_sequence;
            let mut discontinuity = segment.discontinuity.then_some(discontinuity_sequence);
            if segment.discontinuity {
                // A decoder may begin anew here, and a new decoder needs the section (H13, fault W34). If the segment is a
                // gap the section waits for the next one that has bytes.
                current = None;
            }
            let mut push = |media: Option<Arc<MediaResource>>| {
                parts.push(Part {
                    media,
                    media_sequence,
                    discontinuity_sequence,
                    time,
                    duration,
                    discontinuity: discontinuity.take(),
                });
            };
            // A section is for the segments after it; it comes again after another one and after a discontinuity.
            if let Some(map) = segment
                .map
                .filter(|map| !segment.gap && current.as_ref() != Some(map))
            {
                let (locator, encryption) = (map.locator.clone(), map.encryption.clone());
                let kind = ResourceKind::InitializationSection;
                push(Some(MediaResource::new(names, kind, locator, encryption)?));
                current = Some(map);
            }
            push(if segment.gap {
                None
            } else {
                let kind = ResourceKind::Segment { media_sequence };
                Some(MediaResource::new(
                    names,
                    kind,
                    segment.locator,
                    segment.encryption,
                )?)
            });
            time += duration;
        }
        Ok(Self {
            variant: 0,
            bandwidth: 0,
            codecs: None,
            rendition: None,
            start: playlist.start,
            duration: time,
            sizes: Mutex::new(vec![None; parts.len()]),
            parts,
        })
    }

    /// Finds what the source's URL leads to: the playlists are read and the choice is made, no media is touched.
    ///
    /// # Errors
    ///
    /// Those of [`Fetcher::playlist`], `NoSuchVariant` and `SameName`.
    pub(super) async fn load(fetcher: &Fetcher, context: &mut FetchContext) -> Result<Self, HlsError> {
        let choice = fetcher.params.variant;
        let mut names = ResourceNames::new(&fetcher.params.access.names);
        let locator = Locator {
            url: fetcher.url.clone(),
            range: None,
        };
        let path = names.entry(ResourceKind::Playlist, &locator)?;
        let master = match fetcher.playlist(context, &fetcher.url, &path, None).await? {
            Playlist::Multivariant(master) => master,
            Playlist::Media(playlist) => {
                return match choice {
                    VariantChoice::Index(index) if index > 0 => NoSuchVariantSnafu {
                        index,
                        count: 1_usize,
                    }
                    .fail(),
                    _ => Self::new(playlist, &mut names),
                };
            }
        };
        // What is not played today may be played tomorrow, from the same cache.
        for locator in master.locators() {
            names.entry(ResourceKind::Playlist, locator)?;
        }
        let candidates = candidates(&master, choice)?;
        let mut index = candidates.first().copied().unwrap_or_default();
        // Offline, the best that is whole; the asked one, if none is (H5, fault E11).
        if context.offline && candidates.len() > 1 {
            for candidate in candidates {
                if Self::is_cached(fetcher, &names, &master, candidate).await {
                    index = candidate;
                    break;
                }
            }
        }
        Self::load_variant(fetcher, context, &names, &master, index).await
    }

    async fn load_variant(
        fetcher: &Fetcher,
        context: &mut FetchContext,
        names: &ResourceNames<'_>,
        master: &MultivariantPlaylist,
        index: usize,
    ) -> Result<Self, HlsError> {
        let Some(variant) = master.variants.get(index) else {
            return NoSuchVariantSnafu {
                index,
                count: master.variants.len(),
            }
            .fail();
        };
        let rendition = master.audio(variant, fetcher.params.language.as_deref());
        let separate = rendition.and_then(|rendition| Some((rendition, rendition.locator.as_ref()?)));
        let locator = separate.map_or(&variant.locator, |(_, locator)| locator);
        let mut names = names.clone();
        let path = names.entry(ResourceKind::Playlist, locator)?;
        let playlist = match fetcher
            .playlist(context, &locator.url, &path, Some(&master.variables))
            .await?
        {
            Playlist::Media(playlist) => playlist,
            Playlist::Multivariant(_) => {
                let resource = Resource::new(ResourceKind::Playlist, &locator.url);
                return Err(PlaylistError::Nested).context(PlaylistSnafu { resource });
            }
        };
        let track = Self::new(playlist, &mut names)?;
        Ok(Self {
            variant: index,
            bandwidth: variant.bandwidth,
            codecs: variant.codecs.clone(),
            rendition: separate.map(|(rendition, _)| rendition.name.clone()),
            start: track.start.or(master.start),
            ..track
        })
    }

    /// Whether every last part of a Variant Stream is in the cache (fault E12).
    async fn is_cached(
        fetcher: &Fetcher,
        names: &ResourceNames<'_>,
        master: &MultivariantPlaylist,
        index: usize,
    ) -> bool {
        let Some(cache) = fetcher.cache() else {
            return false;
        };
        let mut context = FetchContext::new(true);
        let Ok(track) = Self::load_variant(fetcher, &mut context, names, master, index).await else {
            return false;
        };
        for media in track.parts.iter().filter_map(|part| part.media.as_ref()) {
            if let Some(reference) = &media.key
                && fetcher.key(&mut context, reference).await.is_err()
            {
                return false;
            }
            let cached = cache.contains(&fetcher.asset, &media.path).await;
            if !cached.unwrap_or(false) {
                return false;
            }
        }
        true
    }

    /// The parts to begin with at `time`: what plays then, and before it the initialization section it needs, unless that
    /// comes with it. Past the end there is nothing to begin with.
    pub(super) fn at(&self, time: Duration) -> (Option<usize>, usize) {
        let first = self
            .parts
            .partition_point(|part| part.time.saturating_add(part.duration) <= time);
        let section = |part: &Part| {
            let media = part.media.as_ref();
            media.is_some_and(|media| media.kind == ResourceKind::InitializationSection)
        };
        let (before, from) = self.parts.split_at_checked(first).unwrap_or_default();
        let brings_its_own = from.iter().find(|part| part.media.is_some()).is_none_or(section);
        let needed = if brings_its_own {
            None
        } else {
            before.iter().rposition(section)
        };
        (needed, first)
    }

    pub(super) fn part(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)
    }

    /// How many bytes of plaintext a part has, if that is known without reading it.
    pub(super) fn size(&self, index: usize) -> Option<u64> {
        let Some(media) = &self.parts.get(index)?.media else {
            return Some(0);
        };
        let learnt = || {
            self.sizes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(index)
                .copied()
                .flatten()
        };
        media.size().or_else(learnt)
    }

    /// Remembers a size, for seeks to come.
    pub(super) fn learn(&self, index: usize, size: u64) {
        // A poisoned lock holds what it held: each change is one store.
        if let Some(slot) = self
            .sizes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(index)
        {
            *slot = Some(size);
        }
    }

    pub(super) fn variant_applied(&self) -> HlsControl {
        HlsControl::VariantApplied {
            variant: self.variant,
            bandwidth: self.bandwidth,
            codecs: self.codecs.clone(),
            rendition: self.rendition.clone(),
            duration: self.duration,
            start: self.start,
        }
    }

    /// What is said before the first byte of a part, or in its place.
    pub(super) fn announcements(
        &self,
        part: &Part,
        origin: Origin,
    ) -> impl Iterator<Item = HlsControl> + use<> {
        let Part {
            media_sequence,
            discontinuity_sequence,
            time,
            duration,
            discontinuity,
            ..
        } = *part;
        let variant = self.variant;
        let itself = match part.media.as_ref().map(|media| media.kind) {
            None => HlsControl::Gap {
                variant,
                media_sequence,
                duration,
                time,
            },
            Some(ResourceKind::InitializationSection) => self.section_start(origin),
            Some(_) => HlsControl::SegmentStart {
                variant,
                media_sequence,
                discontinuity_sequence,
                duration,
                time,
                origin,
            },
        };
        discontinuity
            .map(|sequence| HlsControl::Discontinuity { sequence })
            .into_iter()
            .chain([itself])
    }

    /// What is said before the first byte of an initialization section that comes without what stands before it.
    pub(super) fn section_start(&self, origin: Origin) -> HlsControl {
        HlsControl::InitializationSection {
            variant: self.variant,
            origin,
        }
    }
}

/// The Variant Streams that may be played, the preferred one first.
fn candidates(master: &MultivariantPlaylist, choice: VariantChoice) -> Result<Vec<usize>, HlsError> {
    let count = master.variants.len();
    let mut all: Vec<usize> = (0..count).collect();
    let bandwidth = |index: &usize| master.variants.get(*index).map_or(0, |variant| variant.bandwidth);
    match choice {
        VariantChoice::First => {}
        VariantChoice::Index(index) if index < count => all = vec![index],
        VariantChoice::Index(index) => return NoSuchVariantSnafu { index, count }.fail(),
        VariantChoice::Highest => all.sort_by_key(|index| std::cmp::Reverse(bandwidth(index))),
        VariantChoice::Lowest => all.sort_by_key(bandwidth),
    }
    Ok(all)
}

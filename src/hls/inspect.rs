//! What an app can know of a track without playing it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    DateRange, HlsError, PlaylistError, ProgramDate, ResourceKind, SessionData, StartPoint, VariantContent,
    edition::EditionId,
    editions,
    fetch::{Ask, Fetcher},
    fetch_context::FetchContext,
    load::{self, Load},
    local,
    names::ResourceNames,
    playlist::{Locator, MultivariantPlaylist, Rendition, VariantStream},
    source_state::SourceState,
    track::{MediaResource, Track},
    variants,
};
use crate::cache::CachePath;

/// A track as its playlists describe it, and what of it is in the cache. Of [`HlsSource::inspect`](super::HlsSource::inspect).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub struct Presentation {
    /// The Variant Streams, in the playlist's order. One, of which nothing is said, where the URL leads to a Media Playlist.
    pub variants: Vec<VariantInfo>,
    /// The audio Renditions, in the playlist's order.
    pub renditions: Vec<RenditionInfo>,
    /// The Variant Stream that plays: its number. 0 if the track is live.
    pub variant: usize,
    /// The Rendition that plays with it, if it has a Media Playlist of its own: its place in `renditions`.
    pub rendition: Option<usize>,
    /// How long it plays. `None` if it is live.
    pub duration: Option<Duration>,
    /// Whether it is live, or may grow: it can be looked at, and not be played.
    pub is_live: bool,
    /// Whether any segment is encrypted (AES-128).
    pub is_encrypted: bool,
    /// Where the author would have playback start.
    pub start: Option<StartPoint>,
    /// When it was recorded: of the first segment that says so, and of the first behind each discontinuity.
    pub dates: Vec<ProgramDate>,
    /// What the author says of spans of time.
    pub date_ranges: Vec<DateRange>,
    /// What the author says of all of it.
    pub session_data: Vec<SessionData>,
}

/// One Variant Stream (EXT-X-STREAM-INF; RFC 8216, 4.3.4.2).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantInfo {
    /// Peak bits per second; 0 where the playlist does not say.
    pub bandwidth: u64,
    /// Average bits per second.
    pub average_bandwidth: Option<u64>,
    /// Formats (RFC 6381), as the playlist has them.
    pub codecs: Option<String>,
    /// Width and height of its video, in pixels.
    pub resolution: Option<(u64, u64)>,
    /// What would be fetched of it.
    pub content: VariantContent,
    /// The Rendition Group of its audio.
    pub audio_group: Option<String>,
    /// What of it is in the cache; of its Rendition, if that has a Media Playlist of its own. `None` if its Media Playlist is
    /// not there.
    pub cached: Option<Cached>,
}

/// One audio Rendition (EXT-X-MEDIA; RFC 8216, 4.3.4.1).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionInfo {
    /// GROUP-ID.
    pub group: String,
    /// NAME.
    pub name: String,
    /// LANGUAGE (RFC 5646).
    pub language: Option<String>,
    /// CHANNELS: the number of channels, and what else the author says of them.
    pub channels: Option<String>,
    /// DEFAULT.
    pub is_default: bool,
    /// Whether it has a Media Playlist of its own. Else its audio is in the Variant Stream.
    pub is_separate: bool,
    /// What of it is in the cache. `None` if its Media Playlist is not there.
    pub cached: Option<Cached>,
}

/// How much of a Variant Stream or Rendition is in the cache.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cached {
    /// Segments and initialization sections that are there.
    pub parts: usize,
    /// Those that there are.
    pub all_parts: usize,
    /// Bytes that are there, as they were fetched. Keys and playlists do not count.
    pub bytes: u64,
    /// How long what is there plays.
    pub duration: Duration,
}

impl Cached {
    /// Whether every part is there.
    pub fn is_whole(&self) -> bool {
        self.parts == self.all_parts
    }
}

pub(super) async fn presentation(
    state: &SourceState,
    context: &mut FetchContext,
) -> Result<Presentation, HlsError> {
    let fetcher = &state.fetcher;
    let found = state.track(context).await;
    // What was fetched is in the cache before the cache is asked.
    context.commits.wait_for_at_most(0).await;
    let track = match found {
        Ok(found) => Some(found.track),
        Err(HlsError::Playlist {
            source: PlaylistError::Live,
            ..
        }) => None,
        Err(error) => return Err(error),
    };
    let Some(track) = track else {
        let editions = editions::editions(fetcher).await;
        let load = Load {
            ask: Ask::Cache,
            edition: editions.newest(),
            variant: None,
        };
        let master = match load::master(fetcher, context, load).await {
            // The live playlist is the source's own.
            Err(HlsError::Playlist {
                source: PlaylistError::Live,
                ..
            }) => None,
            master => master?,
        };
        context.commits.wait_for_at_most(0).await;
        return Ok(Inspector::new(fetcher, load.edition)
            .await
            .of(master.as_ref(), None));
    };
    let inspector = Inspector::new(fetcher, track.edition()).await;
    Ok(inspector.of(track.master().map(Arc::as_ref), Some(&track)))
}

/// What is in the cache, looked up once.
struct Inspector<'a> {
    fetcher: &'a Fetcher,
    cached: HashMap<CachePath, Cached>,
    edition: Option<&'a EditionId>,
}

impl<'a> Inspector<'a> {
    async fn new(fetcher: &'a Fetcher, edition: Option<&'a EditionId>) -> Self {
        let mut cached = HashMap::new();
        if let Some(cache) = fetcher.cache() {
            // A listing that fails is an empty one: what is there plays all the same.
            let entries = cache.entries(&fetcher.asset).await.unwrap_or_default();
            let bytes: HashMap<_, _> = entries.into_iter().map(|entry| (entry.path, entry.len)).collect();
            for track in load::cached_tracks(fetcher, edition).await {
                if let Some(playlist) = track.playlist() {
                    cached.insert(playlist.clone(), of_track(&track, &bytes));
                }
            }
        }
        Self {
            fetcher,
            cached,
            edition,
        }
    }

    fn of(&self, master: Option<&MultivariantPlaylist>, track: Option<&Track>) -> Presentation {
        let playing = track.map_or(0, |track| track.facts().number);
        let variants = master.map_or(&[][..], |master| &master.variants);
        let renditions = master.map_or(&[][..], |master| &master.renditions);
        let separate =
            |variant: &VariantStream| Some(variants::separate_audio(self.fetcher, master?, variant)?.0);
        let variant_info = |variant: &VariantStream| {
            let rendition = separate(variant);
            let locator = rendition.and_then(|rendition| rendition.locator.as_ref());
            VariantInfo {
                bandwidth: variant.bandwidth,
                average_bandwidth: variant.average_bandwidth,
                codecs: variant.codecs.clone(),
                resolution: variant.resolution,
                content: variant.content(rendition.is_some()),
                audio_group: variant.audio.clone(),
                cached: self.cached_at(locator.unwrap_or(&variant.locator)),
            }
        };
        let mut variants: Vec<_> = variants.iter().map(variant_info).collect();
        if master.is_none() {
            variants.push(VariantInfo {
                bandwidth: 0,
                average_bandwidth: None,
                codecs: None,
                resolution: None,
                content: VariantContent::Audio,
                audio_group: None,
                cached: track.and_then(|track| self.cached.get(track.playlist()?).copied()),
            });
        }
        let chosen = master.and_then(|master| master.variants.get(playing));
        let rendition = chosen.and_then(separate);
        let of_rendition =
            |other: &Rendition| rendition.is_some_and(|rendition| std::ptr::eq(rendition, other));
        Presentation {
            variant: playing,
            rendition: renditions.iter().position(of_rendition),
            renditions: renditions
                .iter()
                .map(|rendition| RenditionInfo {
                    group: rendition.group.clone(),
                    name: rendition.name.clone(),
                    language: rendition.language.clone(),
                    channels: rendition.channels.clone(),
                    is_default: rendition.default,
                    is_separate: rendition.locator.is_some(),
                    cached: rendition
                        .locator
                        .as_ref()
                        .and_then(|locator| self.cached_at(locator)),
                })
                .collect(),
            variants,
            duration: track.map(Track::duration),
            is_live: track.is_none(),
            is_encrypted: track.is_some_and(|track| track.media().any(|media| media.key.is_some())),
            start: track.map_or_else(|| master?.start, |track| track.facts().start),
            dates: track.map_or_else(Vec::new, |track| track.dates().to_vec()),
            date_ranges: track.map_or_else(Vec::new, |track| track.date_ranges().to_vec()),
            session_data: master.map_or_else(Vec::new, |master| master.session_data.clone()),
        }
    }

    fn cached_at(&self, locator: &Locator) -> Option<Cached> {
        let path = ResourceNames::new(&self.fetcher.params.access.names, self.edition)
            .entry(ResourceKind::Playlist, locator);
        self.cached.get(&path.ok()?).copied()
    }
}

fn of_track(track: &Track, bytes: &HashMap<CachePath, u64>) -> Cached {
    let (mut cached, mut seen) = (Cached::default(), HashSet::new());
    // What is local is there, and not in the cache.
    let fetched = |media: &MediaResource| !local::is_local(&media.locator.url);
    for (media, duration) in track.media_durations().filter(|(media, _)| fetched(media)) {
        cached.all_parts += 1;
        if let Some(bytes) = bytes.get(media.path()) {
            cached.parts += 1;
            cached.duration += duration;
            // A section may be named more than once.
            cached.bytes += if seen.insert(media.path()) { *bytes } else { 0 };
        }
    }
    cached
}

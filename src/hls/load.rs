//! From the source's URL to the track: the playlists are read, and the Variant Stream is chosen. No media is touched.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::{
    HlsError, Resource, ResourceKind, VariantChoice,
    edition::EditionId,
    fetch::{Ask, Fetched, Fetcher, KeptEntry},
    fetch_context::FetchContext,
    local,
    names::ResourceNames,
    playlist::{
        Locator, MediaPlaylist, MultivariantPlaylist, Playlist, PlaylistError, Rendition, VariantStream,
    },
    selection::Situation,
    track::{Track, VariantFacts},
    variants, whole,
};
use crate::{cache::CachePath, media::Bypass};

/// What to load.
#[derive(Clone, Copy)]
pub(super) struct Load<'a> {
    pub(super) ask: Ask,
    pub(super) edition: Option<&'a EditionId>,
    /// The Variant Stream to take again, if the playlist still has it. Else the params choose.
    pub(super) variant: Option<&'a VariantFacts>,
}

/// A track, and what is to be done about the copies that it was made of.
pub(super) struct Loaded {
    pub(super) track: Track,
    /// Whether the server is to be asked about a copy.
    pub(super) needs_check: bool,
    /// Whether a playlist is no copy.
    pub(super) is_new: bool,
    /// Playlists to keep, if the track is played. Where the cache was asked they are kept already.
    pub(super) entries: Vec<KeptEntry>,
}

/// Playlists on their way to a track.
struct Loader<'a> {
    fetcher: &'a Fetcher,
    load: Load<'a>,
    needs_check: bool,
    is_new: bool,
    entries: Vec<KeptEntry>,
    /// The entries of the playlists that led to the track.
    paths: Vec<CachePath>,
}

/// The track that the source's URL leads to.
///
/// # Errors
///
/// Those of [`Fetcher::playlist`], `NoSuchVariant` and `SameName`.
pub(super) async fn track(
    fetcher: &Fetcher,
    context: &mut FetchContext,
    load: Load<'_>,
) -> Result<Loaded, HlsError> {
    let mut loader = Loader::new(fetcher, load);
    let track = loader.track(context).await?;
    Ok(loader.into_loaded(track))
}

/// Names all Media Playlists of a Multivariant Playlist, though one plays: another may play tomorrow, from the same cache.
fn name_lists(names: &mut ResourceNames<'_>, master: &MultivariantPlaylist) -> Result<(), HlsError> {
    for locator in master.locators() {
        names.entry(ResourceKind::Playlist, locator)?;
    }
    Ok(())
}

/// What the cache has of an edition: a track for each Media Playlist that is there, of Variant Streams and of Renditions.
pub(super) async fn cached_tracks(fetcher: &Fetcher, edition: Option<&EditionId>) -> Vec<Track> {
    let mut context = FetchContext::new(true);
    let load = Load {
        ask: Ask::Cache,
        edition,
        variant: None,
    };
    let mut names = ResourceNames::new(&fetcher.params.access.names, edition);
    let mut loader = Loader::new(fetcher, load);
    let master = match loader.source(&mut context, &mut names).await {
        Err(_) => return Vec::new(),
        Ok(Playlist::Media(playlist)) => {
            let track = loader.lay_out(VariantFacts::default(), playlist, None, &mut names);
            return track.into_iter().collect();
        }
        Ok(Playlist::Multivariant(master)) => Arc::new(master),
    };
    let mut tracks = Vec::new();
    for locator in master.locators() {
        let mut loader = Loader::new(fetcher, load);
        let track = loader
            .media(&mut context, &names, &master, locator, VariantFacts::default())
            .await;
        tracks.extend(track);
    }
    tracks
}

/// The track of one Variant Stream of a Multivariant Playlist that is known.
///
/// # Errors
///
/// Those of [`track`].
pub(super) async fn variant(
    fetcher: &Fetcher,
    context: &mut FetchContext,
    load: Load<'_>,
    master: &Arc<MultivariantPlaylist>,
    index: usize,
) -> Result<Loaded, HlsError> {
    let mut names = ResourceNames::new(&fetcher.params.access.names, load.edition);
    let mut loader = Loader::new(fetcher, load);
    loader.paths.push(loader.name_source(&mut names)?);
    name_lists(&mut names, master)?;
    let track = loader.variant(context, &names, master, index).await?;
    Ok(loader.into_loaded(track))
}

/// The playlist at the source's URL, where it is a Multivariant Playlist.
///
/// # Errors
///
/// Those of [`Fetcher::playlist`], and `SameName`.
pub(super) async fn master(
    fetcher: &Fetcher,
    context: &mut FetchContext,
    load: Load<'_>,
) -> Result<Option<MultivariantPlaylist>, HlsError> {
    let mut names = ResourceNames::new(&fetcher.params.access.names, load.edition);
    let source = Loader::new(fetcher, load).source(context, &mut names).await?;
    Ok(match source {
        Playlist::Multivariant(master) => Some(master),
        Playlist::Media(_) => None,
    })
}

impl<'a> Loader<'a> {
    fn new(fetcher: &'a Fetcher, load: Load<'a>) -> Self {
        Self {
            fetcher,
            load,
            needs_check: false,
            is_new: false,
            entries: Vec::new(),
            paths: Vec::new(),
        }
    }

    async fn track(&mut self, context: &mut FetchContext) -> Result<Track, HlsError> {
        let fetcher = self.fetcher;
        let choice = fetcher.params.choice();
        let mut names = ResourceNames::new(&fetcher.params.access.names, self.load.edition);
        let master = match self.source(context, &mut names).await? {
            Playlist::Multivariant(master) => Arc::new(master),
            Playlist::Media(playlist) => {
                return match choice {
                    VariantChoice::Index(index) if index > 0 => {
                        Err(HlsError::NoSuchVariant { index, count: 1 })
                    }
                    _ => self.lay_out(VariantFacts::default(), playlist, None, &mut names),
                };
            }
        };
        let candidates = self.candidates(&master, choice)?;
        let known = self
            .load
            .variant
            .and_then(|known| variants::same_variant(&master, known));
        let mut index = known.or(candidates.first().copied()).unwrap_or_default();
        // Offline, the preferred one among those that are whole. If none is, the preferred one plays as far as it goes (H5,
        // fault E11).
        if context.is_offline && known.is_none() && candidates.len() > 1 {
            index = self
                .whole_one(context, &names, &master, &candidates)
                .await
                .unwrap_or(index);
        }
        let error = match self.variant(context, &names, &master, index).await {
            Err(error) if error.is_of_playlist() && !context.is_offline => error,
            found => return found,
        };
        // The one that plays is asked about, and no other answers for it.
        if known.is_some() {
            return Err(error);
        }
        // The copy of a Multivariant Playlist may name URLs that have expired: it is loaded again before anything else is tried.
        if error.is_refused() && self.load.ask == Ask::Cache && !self.is_new {
            return Err(error);
        }
        let locator = |index: usize| {
            let variant = master.variants.get(index)?;
            let separate = self.separate_audio(&master, variant);
            Some(separate.map_or(&variant.locator, |(_, locator)| locator))
        };
        let host = |locator: &Locator| {
            (
                locator.url.host_str().map(str::to_owned),
                locator.url.port_or_known_default(),
            )
        };
        let mut tried: Vec<Locator> = locator(index).into_iter().cloned().collect();
        let others: Vec<_> = self
            .alternatives(&master, index)
            .into_iter()
            .filter_map(|other| Some((other, locator(other)?.clone())))
            .collect();
        let mut from_cache = FetchContext::new(true);
        for (other, locator) in others {
            // Several may lead to one list.
            if tried.contains(&locator) {
                continue;
            }
            // Where a host is away all that it has is away. The cache may have it.
            let is_away = error.is_unanswered() && tried.iter().any(|tried| host(tried) == host(&locator));
            let context = if is_away { &mut from_cache } else { &mut *context };
            tried.push(locator);
            if let Ok(track) = self.variant(context, &names, &master, other).await {
                log::warn!("{error}: another Variant Stream plays");
                return Ok(track);
            }
        }
        Err(error)
    }

    fn alternatives(&self, master: &MultivariantPlaylist, index: usize) -> Vec<usize> {
        variants::alternatives(self.fetcher, master, index)
    }

    fn into_loaded(self, track: Track) -> Loaded {
        Loaded {
            track,
            needs_check: self.needs_check,
            is_new: self.is_new,
            entries: self.entries,
        }
    }

    fn name_source(&self, names: &mut ResourceNames<'_>) -> Result<CachePath, HlsError> {
        let locator = Locator {
            url: self.fetcher.url.clone(),
            range: None,
        };
        names.entry(ResourceKind::Playlist, &locator)
    }

    /// The playlist at the source's URL; it and those that it names are named.
    async fn source(
        &mut self,
        context: &mut FetchContext,
        names: &mut ResourceNames<'_>,
    ) -> Result<Playlist, HlsError> {
        let fetcher = self.fetcher;
        let path = self.name_source(names)?;
        let answer = fetcher
            .playlist(context, &fetcher.url, &path, None, self.load.ask)
            .await?;
        let playlist = self.take(context, path, answer);
        if let Playlist::Multivariant(master) = &playlist {
            name_lists(names, master)?;
        }
        Ok(playlist)
    }

    /// Takes a playlist, and notes what is to be done about its copy.
    fn take(&mut self, context: &mut FetchContext, path: CachePath, fetched: Fetched) -> Playlist {
        self.paths.push(path);
        self.needs_check |= fetched.needs_check;
        self.is_new |= fetched.is_new;
        if let Some(entry) = fetched.entry {
            // Where the cache has been asked and had none there is no other edition that this one could replace.
            match self.load.ask {
                Ask::Cache => self.fetcher.keep(context, entry),
                Ask::Server | Ask::Anew => self.entries.push(entry),
            }
        }
        fetched.playlist
    }

    fn lay_out(
        &mut self,
        facts: VariantFacts,
        playlist: MediaPlaylist,
        master: Option<Arc<MultivariantPlaylist>>,
        names: &mut ResourceNames<'_>,
    ) -> Result<Track, HlsError> {
        let paths = std::mem::take(&mut self.paths);
        Track::new(facts, playlist, paths, master, names)
    }

    /// The track of one Variant Stream, or of the audio Rendition that plays with it.
    async fn variant(
        &mut self,
        context: &mut FetchContext,
        names: &ResourceNames<'_>,
        master: &Arc<MultivariantPlaylist>,
        index: usize,
    ) -> Result<Track, HlsError> {
        let Some(variant) = master.variants.get(index) else {
            let count = master.variants.len();
            return Err(HlsError::NoSuchVariant { index, count });
        };
        let separate = self.separate_audio(master, variant);
        let locator = separate.map_or(&variant.locator, |(_, locator)| locator);
        let facts = VariantFacts {
            number: index,
            bandwidth: variant.bandwidth,
            codecs: variant.codecs.clone(),
            rendition: separate.map(|(rendition, _)| rendition.name.clone()),
            start: master.start,
        };
        self.media(context, names, master, locator, facts).await
    }

    /// The track of one Media Playlist.
    async fn media(
        &mut self,
        context: &mut FetchContext,
        names: &ResourceNames<'_>,
        master: &Arc<MultivariantPlaylist>,
        locator: &Locator,
        mut facts: VariantFacts,
    ) -> Result<Track, HlsError> {
        // A copy: the names of one track are checked against each other, and not against those of Variant Streams whose
        // playlists were looked at before.
        let mut names = names.clone();
        let path = names.entry(ResourceKind::Playlist, locator)?;
        let ask = self.load.ask;
        let fetched = self
            .fetcher
            .playlist(context, &locator.url, &path, Some(master), ask)
            .await?;
        let playlist = match self.take(context, path, fetched) {
            Playlist::Media(playlist) => playlist,
            // Refused, because a playlist that leads to itself would be followed for ever.
            Playlist::Multivariant(_) => {
                return Err(HlsError::Playlist {
                    resource: Resource::new(ResourceKind::Playlist, &locator.url),
                    source: PlaylistError::Nested,
                });
            }
        };
        facts.start = playlist.start.or(facts.start);
        self.lay_out(facts, playlist, Some(master.clone()), &mut names)
    }

    /// The Variant Streams that may be played, the preferred one first. Where the choice is open those that are audio alone come
    /// before those with video, and those without audio last (fault W30).
    fn candidates(
        &self,
        master: &MultivariantPlaylist,
        choice: VariantChoice,
    ) -> Result<Vec<usize>, HlsError> {
        let count = master.variants.len();
        let mut all: Vec<(usize, &VariantStream)> = master.variants.iter().enumerate().collect();
        // Stable sorts: among equals the author's order decides.
        match choice {
            VariantChoice::First => {}
            VariantChoice::Index(index) if index < count => return Ok(vec![index]),
            VariantChoice::Index(index) => return Err(HlsError::NoSuchVariant { index, count }),
            VariantChoice::Highest => all.sort_by_key(|(_, variant)| std::cmp::Reverse(variant.bandwidth)),
            VariantChoice::Lowest => all.sort_by_key(|(_, variant)| variant.bandwidth),
        }
        all.sort_by_key(|(_, variant)| variant.content(self.separate_audio(master, variant).is_some()));
        let mut all: Vec<_> = all.into_iter().map(|(index, _)| index).collect();
        if let Some(chosen) = all.first().and_then(|first| self.first_choice(master, *first)) {
            all.retain(|index| *index != chosen);
            all.insert(0, chosen);
        }
        Ok(all)
    }

    /// What the selector begins with. A copy of it is asked, which knows as little: where the stream begins it is asked itself.
    fn first_choice(&self, master: &MultivariantPlaylist, first: usize) -> Option<usize> {
        let is_known = self.load.variant.is_some();
        let make = self.fetcher.params.selector.as_ref().filter(|_| !is_known)?;
        let (variants, rungs) = variants::rungs(self.fetcher, master, first);
        let params = &self.fetcher.params;
        let situation = Situation::new(Duration::ZERO, &rungs)
            .look_ahead(params.reach.time)
            .max_bit_rate(params.controls.max_bit_rate());
        // The app's own. A panic is met once more where segments are chosen, and ends choosing there.
        let answer = catch_unwind(AssertUnwindSafe(|| make().next(&situation)));
        let place = answer.ok()?.min(variants.len().checked_sub(1)?);
        variants.get(place).copied()
    }

    fn separate_audio<'m>(
        &self,
        master: &'m MultivariantPlaylist,
        variant: &VariantStream,
    ) -> Option<(&'m Rendition, &'m Locator)> {
        // What plays is asked about, whatever the app has chosen since.
        let known = self.load.variant.and_then(|known| known.rendition.as_deref());
        if let Some(rendition) = known.and_then(|name| master.audio_named(variant, name)) {
            return Some((rendition, rendition.locator.as_ref()?));
        }
        variants::separate_audio(self.fetcher, master, variant)
    }

    /// The first of the candidates that is whole in the cache, with each part and each key (fault E12).
    async fn whole_one(
        &self,
        context: &mut FetchContext,
        names: &ResourceNames<'_>,
        master: &Arc<MultivariantPlaylist>,
        candidates: &[usize],
    ) -> Option<usize> {
        let noted = whole::noted(self.fetcher).await;
        // A context of its own: what is missed on the way is no failure of the stream.
        let mut own_context = FetchContext::new(true);
        for candidate in candidates {
            if !noted.is_empty() && self.is_noted(&noted, names, master, *candidate) {
                return Some(*candidate);
            }
            let mut loader = Loader::new(self.fetcher, self.load);
            let found = loader.variant(&mut own_context, names, master, *candidate).await;
            if let Ok(track) = found
                && is_whole(self.fetcher, &track).await
            {
                // The next time it is known.
                if let Err(error) = whole::note(self.fetcher, &track).await {
                    context.bypass(
                        &Resource::new(ResourceKind::Playlist, &self.fetcher.url),
                        Bypass::Refused(error),
                    );
                }
                return Some(*candidate);
            }
        }
        None
    }

    fn is_noted(
        &self,
        noted: &[String],
        names: &ResourceNames<'_>,
        master: &MultivariantPlaylist,
        candidate: usize,
    ) -> bool {
        let Some(variant) = master.variants.get(candidate) else {
            return false;
        };
        let separate = self.separate_audio(master, variant);
        let locator = separate.map_or(&variant.locator, |(_, locator)| locator);
        let path = names.clone().entry(ResourceKind::Playlist, locator);
        path.is_ok_and(|path| noted.iter().any(|noted| noted == path.as_str()))
    }
}

/// Whether all parts and keys of a track are in the cache.
pub(super) async fn is_whole(fetcher: &Fetcher, track: &Track) -> bool {
    let Some(cache) = fetcher.cache() else {
        return false;
    };
    for media in track.media() {
        // Of keys what is on the disk counts, not what is in memory. Of what is local nothing is kept, and nothing is missing.
        let key = media.key.as_ref().map(|key| (&key.locator.url, &key.path));
        for (url, path) in [Some((&media.locator.url, media.path())), key]
            .into_iter()
            .flatten()
        {
            let contains = cache.contains(&fetcher.asset, path).await;
            if !local::is_local(url) && !contains.unwrap_or(false) {
                return false;
            }
        }
    }
    true
}

/// Whether the cache has what plays at `time`, and the section before it.
pub(super) async fn is_cached_at(fetcher: &Fetcher, track: &Track, time: Duration) -> bool {
    let (section, first) = track.part_at(time);
    for part in section.into_iter().chain([first]) {
        match track.part(part).and_then(|part| part.media.as_ref()) {
            Some(media) if fetcher.has(media.path()).await => {}
            _ => return false,
        }
    }
    true
}

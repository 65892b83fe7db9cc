//! From the source's URL to the track: the playlists are read, and the Variant Stream is chosen. No media is touched.

use super::{
    HlsError, Resource, ResourceKind, VariantChoice, data_uri,
    fetch::Fetcher,
    fetch_context::FetchContext,
    names::ResourceNames,
    playlist::{Locator, MultivariantPlaylist, Playlist, PlaylistError},
    track::{Track, VariantFacts},
};

/// The track that the source's URL leads to.
///
/// # Errors
///
/// Those of [`Fetcher::playlist`], `NoSuchVariant` and `SameName`.
pub(super) async fn track(fetcher: &Fetcher, context: &mut FetchContext) -> Result<Track, HlsError> {
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
                VariantChoice::Index(index) if index > 0 => Err(HlsError::NoSuchVariant { index, count: 1 }),
                _ => Track::new(VariantFacts::default(), playlist, &mut names),
            };
        }
    };
    // All of them, though one plays: another may play tomorrow, from the same cache.
    for locator in master.locators() {
        names.entry(ResourceKind::Playlist, locator)?;
    }
    let candidates = candidates(&master, choice)?;
    let mut index = candidates.first().copied().unwrap_or_default();
    // Offline, the preferred one among those that are whole. If none is, the preferred one plays as far as it goes (H5,
    // fault E11).
    if context.is_offline && candidates.len() > 1 {
        for candidate in candidates {
            if is_cached(fetcher, &names, &master, candidate).await {
                index = candidate;
                break;
            }
        }
    }
    variant(fetcher, context, &names, &master, index).await
}

/// The track of one Variant Stream, or of the audio Rendition that plays with it.
async fn variant(
    fetcher: &Fetcher,
    context: &mut FetchContext,
    names: &ResourceNames<'_>,
    master: &MultivariantPlaylist,
    index: usize,
) -> Result<Track, HlsError> {
    let Some(variant) = master.variants.get(index) else {
        let count = master.variants.len();
        return Err(HlsError::NoSuchVariant { index, count });
    };
    let rendition = master.audio(variant, fetcher.params.language.as_deref());
    let separate = rendition.and_then(|rendition| Some((rendition, rendition.locator.as_ref()?)));
    let locator = separate.map_or(&variant.locator, |(_, locator)| locator);
    // A copy: the names of one track are checked against each other, and not against those of Variant Streams whose
    // playlists were looked at before.
    let mut names = names.clone();
    let path = names.entry(ResourceKind::Playlist, locator)?;
    let playlist = match fetcher
        .playlist(context, &locator.url, &path, Some(master))
        .await?
    {
        Playlist::Media(playlist) => playlist,
        // Refused, because a playlist that leads to itself would be followed for ever.
        Playlist::Multivariant(_) => {
            return Err(HlsError::Playlist {
                resource: Resource::new(ResourceKind::Playlist, &locator.url),
                source: PlaylistError::Nested,
            });
        }
    };
    let facts = VariantFacts {
        number: index,
        bandwidth: variant.bandwidth,
        codecs: variant.codecs.clone(),
        rendition: separate.map(|(rendition, _)| rendition.name.clone()),
        start: playlist.start.or(master.start),
    };
    Track::new(facts, playlist, &mut names)
}

/// Whether each part of a Variant Stream is in the cache, and each key (fault E12).
async fn is_cached(
    fetcher: &Fetcher,
    names: &ResourceNames<'_>,
    master: &MultivariantPlaylist,
    index: usize,
) -> bool {
    let Some(cache) = fetcher.cache() else {
        return false;
    };
    // A context of its own: what is missed on the way is no failure of the stream.
    let mut context = FetchContext::new(true);
    let Ok(track) = variant(fetcher, &mut context, names, master, index).await else {
        return false;
    };
    for media in track.media() {
        if let Some(reference) = &media.key
            && fetcher.key(&mut context, reference).await.is_err()
        {
            return false;
        }
        // Of a `data:` URI nothing is kept, and nothing is missing.
        if data_uri::is_inline(&media.locator.url) {
            continue;
        }
        let contains = cache.contains(&fetcher.asset, &media.path).await;
        if !contains.unwrap_or(false) {
            return false;
        }
    }
    true
}

/// The Variant Streams that may be played, the preferred one first.
fn candidates(master: &MultivariantPlaylist, choice: VariantChoice) -> Result<Vec<usize>, HlsError> {
    let count = master.variants.len();
    let mut all: Vec<usize> = (0..count).collect();
    let bandwidth = |index: &usize| master.variants.get(*index).map_or(0, |variant| variant.bandwidth);
    match choice {
        VariantChoice::First => {}
        VariantChoice::Index(index) if index < count => all = vec![index],
        VariantChoice::Index(index) => return Err(HlsError::NoSuchVariant { index, count }),
        // Stable sorts: among equals the author's order decides.
        VariantChoice::Highest => all.sort_by_key(|index| std::cmp::Reverse(bandwidth(index))),
        VariantChoice::Lowest => all.sort_by_key(bandwidth),
    }
    Ok(all)
}

//! Which Variant Streams of a Multivariant Playlist may play, and with which Rendition.

use super::{
    fetch::Fetcher,
    playlist::{Locator, MultivariantPlaylist, Rendition, VariantStream},
    selection::Rung,
    track::VariantFacts,
};

/// What may play in the place of a Variant Stream that fails, the best first.
pub(super) fn alternatives(fetcher: &Fetcher, master: &MultivariantPlaylist, index: usize) -> Vec<usize> {
    let content =
        |variant: &VariantStream| variant.content(separate_audio(fetcher, master, variant).is_some());
    master.alternatives(index, fetcher.params.is_redundant_only(), content)
}

/// The rungs of a Multivariant Playlist, for the Variant Stream at hand and those that may play in its place.
pub(super) fn rungs(
    fetcher: &Fetcher,
    master: &MultivariantPlaylist,
    variant: usize,
) -> (Vec<usize>, Vec<Rung>) {
    let variants = ladder(fetcher, master, variant);
    let rungs = variants.iter().filter_map(|variant| {
        let variant = master.variants.get(*variant)?;
        Some(Rung {
            bandwidth: variant.bandwidth,
            average_bandwidth: variant.average_bandwidth,
            codecs: variant.codecs.clone(),
            ..Rung::default()
        })
    });
    let rungs = rungs.collect();
    (variants, rungs)
}

/// The Variant Streams of the same content as this one, and itself: one for each Media Playlist, and of redundant ones the first.
fn ladder(fetcher: &Fetcher, master: &MultivariantPlaylist, index: usize) -> Vec<usize> {
    let all = master.variants.iter().enumerate().map(|(index, variant)| {
        let separate = separate_audio(fetcher, master, variant);
        let list = separate.map_or(&variant.locator, |(_, locator)| locator);
        (index, variant, variant.content(separate.is_some()), list)
    });
    let all: Vec<_> = all.collect();
    let Some(chosen) = all.get(index) else {
        return Vec::new();
    };
    let said = |variant: &VariantStream| (variant.bandwidth, variant.codecs.clone(), variant.resolution);
    let mut found = vec![chosen];
    for other in &all {
        let (_, variant, content, list) = other;
        let is_redundant = found.iter().any(|(_, known, _, known_list)| {
            known_list == list || known.bandwidth > 0 && said(known) == said(variant)
        });
        if !is_redundant && *content == chosen.2 {
            found.push(other);
        }
    }
    let mut found: Vec<_> = found.into_iter().map(|(index, ..)| *index).collect();
    found.sort_unstable();
    found
}

/// The audio Rendition that plays with a Variant Stream, if it has a Media Playlist of its own, and where that is.
pub(super) fn separate_audio<'m>(
    fetcher: &Fetcher,
    master: &'m MultivariantPlaylist,
    variant: &VariantStream,
) -> Option<(&'m Rendition, &'m Locator)> {
    let params = &fetcher.params;
    let name = params.rendition_name();
    let named = name.and_then(|name| master.audio_named(variant, &name));
    let rendition = named.or_else(|| master.audio(variant, params.language.as_deref()))?;
    Some((rendition, rendition.locator.as_ref()?))
}

/// The Variant Stream of a playlist that is the one known: by its number, or else by what is said of it.
pub(super) fn same_variant(master: &MultivariantPlaylist, known: &VariantFacts) -> Option<usize> {
    let is_same = |index: &usize| {
        let variant = master.variants.get(*index);
        variant.is_some_and(|variant| variant.bandwidth == known.bandwidth && variant.codecs == known.codecs)
    };
    Some(known.number)
        .filter(is_same)
        .or_else(|| (0..master.variants.len()).find(is_same))
}

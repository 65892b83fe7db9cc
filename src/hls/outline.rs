//! What a download chooses from: Variant Streams and languages, without a look at any Media Playlist's segments.

use super::{
    HlsError, HlsSource, OpenMode, VariantContent, editions,
    fetch::Ask,
    fetch_context::FetchContext,
    load::{self, Load},
    variants,
};

/// What a track's Multivariant Playlist offers. Of a Media Playlist alone: one Variant Stream.
pub(crate) struct Outline {
    /// Bits a second and content of each Variant Stream.
    pub(crate) variants: Vec<(u64, VariantContent)>,
    /// The languages of audio Renditions, each once.
    pub(crate) languages: Vec<String>,
}

impl HlsSource {
    /// What there is to choose from. Online the playlists of this source's own choice are looked for and kept as well.
    ///
    /// # Errors
    ///
    /// Those of a stream's first message.
    pub(crate) async fn outline(&self, mode: OpenMode) -> Result<Outline, HlsError> {
        let fetcher = &self.state.fetcher;
        let mut context = FetchContext::new(mode.is_offline());
        if !mode.is_offline() {
            // By the track, and not by the master alone: this is where a copy whose URLs have expired is loaded again.
            let found = self.state.track(&mut context).await;
            context.commits.wait_for_at_most(0).await;
            found?;
        }
        let editions = editions::editions(fetcher).await;
        let load = Load {
            ask: Ask::Cache,
            edition: editions.newest(),
            variant: None,
        };
        let master = load::master(fetcher, &mut context, load).await;
        context.commits.wait_for_at_most(0).await;
        let Some(master) = master? else {
            return Ok(Outline {
                variants: vec![(0, VariantContent::Audio)],
                languages: Vec::new(),
            });
        };
        let carries = |variant| {
            let separate = variants::separate_audio(fetcher, &master, variant);
            variant.content(separate.is_some())
        };
        let mut languages: Vec<String> = Vec::new();
        for language in master
            .renditions
            .iter()
            .filter_map(|rendition| rendition.language.clone())
        {
            if !languages.contains(&language) {
                languages.push(language);
            }
        }
        let variants = master.variants.iter();
        Ok(Outline {
            variants: variants
                .map(|variant| (variant.bandwidth, carries(variant)))
                .collect(),
            languages,
        })
    }
}

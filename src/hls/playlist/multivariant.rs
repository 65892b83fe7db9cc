//! Multivariant (Master) Playlists (RFC 8216, 4.3.4).

use super::{
    body_end::BodyEnd,
    error::{MayBeCutSnafu, NoVariantsSnafu, PlaylistError, malformed},
    lines::{Attributes, Line, Lines, tolerated},
    reference::{Locator, References, StartPoint},
    variables::Variables,
};
use crate::net::Url;

/// A Multivariant Playlist: what there is to choose from.
pub(crate) struct MultivariantPlaylist {
    /// In the playlist's order; never empty.
    pub(crate) variants: Vec<VariantStream>,
    /// Audio Renditions only.
    pub(crate) renditions: Vec<Rendition>,
    pub(crate) start: Option<StartPoint>,
    /// For the Media Playlists that IMPORT them.
    pub(crate) variables: Variables,
    /// What its references resolve against, and those of Media Playlists that stand in it as `data:` URIs.
    pub(crate) base: Url,
}

/// EXT-X-STREAM-INF and its URI.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VariantStream {
    pub(crate) locator: Locator,
    /// Peak bits per second; 0 when the playlist does not say.
    pub(crate) bandwidth: u64,
    pub(crate) codecs: Option<String>,
    /// The Rendition Group of its audio.
    pub(crate) audio: Option<String>,
}

/// EXT-X-MEDIA of TYPE=AUDIO.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rendition {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) language: Option<String>,
    pub(crate) default: bool,
    pub(crate) autoselect: bool,
    /// `None`: its media is in the Variant Stream itself.
    pub(crate) locator: Option<Locator>,
}

impl MultivariantPlaylist {
    pub(super) fn parse(
        text: &str,
        references: &References<'_>,
        end: BodyEnd,
    ) -> Result<Self, PlaylistError> {
        const STREAM_INF: &str = "EXT-X-STREAM-INF";
        let mut playlist = Self {
            variants: Vec::new(),
            renditions: Vec::new(),
            start: None,
            variables: Variables::default(),
            base: references.base.clone(),
        };
        // The attributes of the Variant Stream whose URI is yet to come.
        let mut pending: Option<(usize, Attributes<'_>)> = None;
        for (line, content) in Lines::new(text) {
            match content {
                Line::Tag("-X-STREAM-INF", value) => {
                    let attributes = Attributes::parse(line, STREAM_INF, value);
                    if let Some((line, _)) = pending.replace((line, attributes)) {
                        tolerated(line, STREAM_INF, "no URI follows");
                    }
                }
                Line::Tag("-X-MEDIA", value) => playlist.rendition(line, value, references)?,
                Line::Tag("-X-DEFINE", value) => {
                    let References { url, imports, .. } = *references;
                    playlist.variables.define(line, value, url, imports);
                }
                Line::Tag("-X-START", value) => playlist.start = StartPoint::parse(line, value),
                // Both kinds in one text: whichever was meant, half of it would be left out.
                Line::Tag("INF", _) => {
                    return malformed(line, "EXTINF", "a media segment among variant streams");
                }
                Line::Tag("-X-I-FRAME-STREAM-INF", _) => {
                    tolerated(
                        line,
                        "EXT-X-I-FRAME-STREAM-INF",
                        "pictures play no part in the sound",
                    );
                }
                Line::Tag("-X-CONTENT-STEERING", _) => {
                    tolerated(line, "EXT-X-CONTENT-STEERING", "not followed");
                }
                Line::Tag(..) => {}
                Line::Uri(uri) => {
                    let Some((_, attributes)) = pending.take() else {
                        tolerated(line, "URI", "no EXT-X-STREAM-INF above it");
                        continue;
                    };
                    // Before it is resolved: a reference may stand for the whole URI.
                    let uri = playlist.variables.substitute(line, uri)?;
                    let variant = VariantStream {
                        locator: references.resolve(line, "URI", &uri)?,
                        // Required by the RFC, and left out by some encoders of one Variant Stream.
                        bandwidth: attributes.integer("BANDWIDTH").unwrap_or(0),
                        codecs: attributes.advice("CODECS", &playlist.variables).map(Into::into),
                        audio: attributes.quoted("AUDIO", &playlist.variables)?.map(Into::into),
                    };
                    playlist.variants.push(variant);
                }
            }
        }
        if let Some((line, _)) = pending {
            tolerated(line, STREAM_INF, "no URI follows");
        }
        if playlist.variants.is_empty() {
            // No tag ends a Multivariant Playlist: what is missing behind the last line does not show.
            return match end {
                BodyEnd::Proven => NoVariantsSnafu.fail(),
                BodyEnd::Unproven => MayBeCutSnafu.fail(),
            };
        }
        Ok(playlist)
    }

    fn rendition(
        &mut self,
        line: usize,
        value: &str,
        references: &References<'_>,
    ) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-MEDIA";
        let attributes = Attributes::parse(line, TAG, value);
        // Video, subtitles and closed captions play no part in the sound.
        if attributes.enumerated("TYPE").ok().flatten() != Some("AUDIO") {
            return Ok(());
        }
        // Without a group no Variant Stream can name it.
        let Some(group) = attributes.quoted("GROUP-ID", &self.variables)? else {
            attributes.tolerated("GROUP-ID is missing");
            return Ok(());
        };
        let locator = match attributes.quoted("URI", &self.variables)? {
            Some(uri) => Some(references.resolve(line, TAG, &uri)?),
            None => None,
        };
        self.renditions.push(Rendition {
            group: group.into(),
            name: attributes
                .advice("NAME", &self.variables)
                .unwrap_or_default()
                .into(),
            language: attributes.advice("LANGUAGE", &self.variables).map(Into::into),
            default: attributes.flag("DEFAULT"),
            autoselect: attributes.flag("AUTOSELECT"),
            locator,
        });
        Ok(())
    }

    /// All Media Playlists that it names.
    pub(crate) fn locators(&self) -> impl Iterator<Item = &Locator> {
        let variants = self.variants.iter().map(|variant| &variant.locator);
        let renditions = self.renditions.iter();
        variants.chain(renditions.filter_map(|rendition| rendition.locator.as_ref()))
    }

    /// The audio Rendition that plays with `variant`, exactly one (fault E19): the first in `language` if there is one,
    /// else the DEFAULT one, else the first AUTOSELECT, else the first (RFC 8216, 4.3.4.1).
    pub(crate) fn audio(&self, variant: &VariantStream, language: Option<&str>) -> Option<&Rendition> {
        let group = variant.audio.as_deref()?;
        let members = || {
            self.renditions
                .iter()
                .filter(|rendition| rendition.group == group)
        };
        // A Rendition without LANGUAGE may be in any: it is not taken for the one asked for.
        let spoken = |rendition: &&Rendition| match (language, &rendition.language) {
            (Some(wanted), Some(language)) => language.eq_ignore_ascii_case(wanted),
            _ => false,
        };
        members()
            .find(spoken)
            .or_else(|| members().find(|rendition| rendition.default))
            .or_else(|| members().find(|rendition| rendition.autoselect))
            .or_else(|| members().next())
    }
}

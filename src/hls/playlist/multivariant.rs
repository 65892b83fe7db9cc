//! Multivariant (Master) Playlists (RFC 8216, 4.3.4).

use super::{
    body_end::BodyEnd,
    error::{MayBeCutSnafu, NoVariantsSnafu, PlaylistError, malformed},
    language,
    lines::{Attributes, Line, Lines, tolerated},
    number,
    reference::{Locator, References, StartPoint},
    variables::Variables,
};
use crate::net::Url;

/// A Multivariant Playlist: what there is to choose from.
#[derive(PartialEq)]
pub(crate) struct MultivariantPlaylist {
    /// In the playlist's order; never empty.
    pub(crate) variants: Vec<VariantStream>,
    /// Audio Renditions only.
    pub(crate) renditions: Vec<Rendition>,
    pub(crate) start: Option<StartPoint>,
    pub(crate) session_data: Vec<SessionData>,
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
    /// Average bits per second.
    pub(crate) average_bandwidth: Option<u64>,
    pub(crate) codecs: Option<String>,
    /// Width and height in pixels.
    pub(crate) resolution: Option<(u64, u64)>,
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
    /// CHANNELS: the number of channels, and what else the author says of them.
    pub(crate) channels: Option<String>,
    /// `None`: its media is in the Variant Stream itself.
    pub(crate) locator: Option<Locator>,
}

/// What the author says of the whole presentation (EXT-X-SESSION-DATA; RFC 8216, 4.3.4.4).
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionData {
    /// DATA-ID: what it is, commonly a reversed domain name.
    pub id: String,
    /// VALUE.
    pub value: Option<String>,
    /// URI of a JSON file, as the playlist has it. It is not fetched.
    pub uri: Option<String>,
    /// LANGUAGE of the value.
    pub language: Option<String>,
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
            session_data: Vec::new(),
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
                Line::Tag("-X-SESSION-DATA", value) => playlist.session_data(line, value),
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
                        average_bandwidth: attributes.integer("AVERAGE-BANDWIDTH"),
                        codecs: attributes.advice("CODECS", &playlist.variables).map(Into::into),
                        resolution: resolution(&attributes),
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
            channels: attributes.advice("CHANNELS", &self.variables).map(Into::into),
            locator,
        });
        Ok(())
    }

    fn session_data(&mut self, line: usize, value: &str) {
        let attributes = Attributes::parse(line, "EXT-X-SESSION-DATA", value);
        let text = |name| attributes.advice(name, &self.variables).map(Into::into);
        match text("DATA-ID") {
            None => attributes.tolerated("DATA-ID is missing"),
            Some(id) => {
                let (value, uri, language) = (text("VALUE"), text("URI"), text("LANGUAGE"));
                let data = SessionData {
                    id,
                    value,
                    uri,
                    language,
                };
                self.session_data.push(data);
            }
        }
    }

    /// All Media Playlists that it names.
    pub(crate) fn locators(&self) -> impl Iterator<Item = &Locator> {
        let variants = self.variants.iter().map(|variant| &variant.locator);
        let renditions = self.renditions.iter();
        variants.chain(renditions.filter_map(|rendition| rendition.locator.as_ref()))
    }

    /// What may play in the place of a Variant Stream that fails, the best first: redundant ones, which are said to be the same;
    /// then, unless only those will do, the others that have sound, from the next lower bit rate down, then the higher ones.
    /// `content` is what would be fetched of each.
    pub(crate) fn alternatives(
        &self,
        index: usize,
        is_redundant_only: bool,
        content: impl Fn(&VariantStream) -> VariantContent,
    ) -> Vec<usize> {
        let Some(failed) = self.variants.get(index) else {
            return Vec::new();
        };
        // Where nothing is said of any nothing says that they are the same.
        let is_redundant = |variant: &VariantStream| {
            failed.bandwidth > 0
                && (
                    variant.bandwidth,
                    &variant.codecs,
                    variant.resolution,
                    &variant.audio,
                ) == (failed.bandwidth, &failed.codecs, failed.resolution, &failed.audio)
        };
        let others = self.variants.iter().enumerate();
        let mut others: Vec<_> = others
            .filter(|(other, variant)| {
                let may_play = !is_redundant_only && content(variant) != VariantContent::Video;
                *other != index && (is_redundant(variant) || may_play)
            })
            .collect();
        others.sort_by_key(|(_, variant)| {
            let is_higher = variant.bandwidth > failed.bandwidth;
            let distance = variant.bandwidth.abs_diff(failed.bandwidth);
            (!is_redundant(variant), content(variant), is_higher, distance)
        });
        others.into_iter().map(|(other, _)| other).collect()
    }

    /// The Rendition of the Variant Stream's group with this NAME: there is one of it at most (RFC 8216, 4.3.4.1.1).
    pub(crate) fn audio_named(&self, variant: &VariantStream, name: &str) -> Option<&Rendition> {
        let group = variant.audio.as_deref()?;
        let mut members = self.renditions.iter();
        members.find(|rendition| rendition.group == group && rendition.name == name)
    }

    /// The audio Rendition that plays with `variant`, exactly one (fault E19).
    ///
    /// Those in `language` if there are any, else all of its group. Of these the one that is the Variant Stream itself, where
    /// a playlist lists each quality as a Rendition too: any other would be another quality (fault W29). Else the DEFAULT one,
    /// else the first AUTOSELECT, else the first (RFC 8216, 4.3.4.1).
    pub(crate) fn audio(&self, variant: &VariantStream, language: Option<&str>) -> Option<&Rendition> {
        let group = variant.audio.as_deref()?;
        let mut members: Vec<&Rendition> = self
            .renditions
            .iter()
            .filter(|rendition| rendition.group == group)
            .collect();
        let tags = members.iter().map(|rendition| rendition.language.as_deref());
        if let Some(best) = language.and_then(|wanted| language::best(wanted, tags)) {
            let spoken = members.get(best).and_then(|rendition| rendition.language.clone());
            members.retain(|rendition| rendition.language == spoken);
        }
        let itself = |rendition: &&&Rendition| rendition.locator.as_ref() == Some(&variant.locator);
        let found = members.iter().find(itself);
        found
            .or_else(|| members.iter().find(|rendition| rendition.default))
            .or_else(|| members.iter().find(|rendition| rendition.autoselect))
            .or_else(|| members.first())
            .copied()
    }
}

/// What a Variant Stream carries, as far as the playlist tells.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VariantContent {
    /// Audio alone, or nothing that tells of video.
    Audio,
    /// Video with audio in it.
    AudioAndVideo,
    /// Video without audio.
    Video,
}

/// How the names of video codecs begin (RFC 6381; `mp4ra.org`).
const VIDEO: [&str; 22] = [
    "avc1", "avc2", "avc3", "avc4", "hvc1", "hev1", "dvh1", "dvhe", "dva1", "dvav", "vp8", "vp08", "vp9",
    "vp09", "av01", "dav1", "mp4v", "vvc1", "vvi1", "s263", "theora", "mjpg",
];
/// The same of audio codecs.
const AUDIO: [&str; 20] = [
    "mp4a", "ac-3", "ec-3", "ac-4", "opus", "flac", "alac", "mp3", "vorbis", "mha1", "mhm1", "dtsc", "dtse",
    "dtsh", "dtsl", "dtsx", "samr", "sawb", "iamf", "lpcm",
];

impl VariantStream {
    /// What of it would be fetched, if `separate` is whether its audio has a Media Playlist of its own.
    pub(crate) fn content(&self, separate: bool) -> VariantContent {
        let codecs = self.codecs.as_deref().unwrap_or_default();
        let is_any = |of: &[&str]| {
            codecs.split(',').any(|codec| {
                let name = codec.trim().split('.').next().unwrap_or_default();
                of.iter().any(|known| name.eq_ignore_ascii_case(known))
            })
        };
        if separate {
            return VariantContent::Audio;
        }
        match (is_any(&AUDIO), is_any(&VIDEO) || self.resolution.is_some()) {
            (_, false) => VariantContent::Audio,
            (true, true) => VariantContent::AudioAndVideo,
            // Without CODECS video is taken to have sound: most has.
            (false, true) if self.codecs.is_none() => VariantContent::AudioAndVideo,
            (false, true) => VariantContent::Video,
        }
    }
}

fn resolution(attributes: &Attributes<'_>) -> Option<(u64, u64)> {
    let text = attributes.enumerated("RESOLUTION").ok()??;
    let (width, height) = text.split_once(['x', 'X'])?;
    Some((number::whole(width)?, number::whole(height)?))
}

//! Playlists as RFC 8216 defines them, resolved: every Media Segment knows its absolute URL, byte range, key and Media
//! Initialization Section.
//!
//! quick-m3u8 reads the lines; what they mean together is decided here. Whatever the input, the outcome is a playlist or a
//! [`PlaylistError`] that names the line, never a panic (fault E16).

mod error;
mod key;
mod lines;
mod media;
mod multivariant;
mod number;
mod variables;

#[cfg(test)]
mod tests;

use std::{fmt, ops::Range, time::Duration};

use crate::net::{Url, redacted};

pub use error::PlaylistError;
pub(crate) use key::Encryption;
pub(crate) use media::{InitializationSection, MediaPlaylist};
pub(crate) use multivariant::MultivariantPlaylist;
pub(crate) use variables::Variables;

use error::{MalformedSnafu, NotAPlaylistSnafu};
use lines::{Attributes, Line, Lines};

/// One of the two kinds of playlist (RFC 8216, 4.1).
pub(crate) enum Playlist {
    Multivariant(MultivariantPlaylist),
    Media(MediaPlaylist),
}

/// What a playlist's references mean.
pub(crate) struct References<'a> {
    /// Where the playlist came from, after redirects: QUERYPARAM reads it.
    pub(crate) url: &'a Url,
    /// What relative references resolve against (RFC 3986, 5): `url`, unless the caller set another base.
    pub(crate) base: &'a Url,
    /// The variables of the Multivariant Playlist that led here.
    pub(crate) imports: Option<&'a Variables>,
}

impl References<'_> {
    fn resolve(&self, line: usize, tag: &'static str, reference: &str) -> Result<Locator, PlaylistError> {
        let reference = reference.trim();
        if reference.is_empty() {
            return MalformedSnafu {
                line,
                tag,
                problem: "an empty URI",
            }
            .fail();
        }
        if reference.contains(char::REPLACEMENT_CHARACTER) {
            return MalformedSnafu {
                line,
                tag,
                problem: "a URI that is not UTF-8",
            }
            .fail();
        }
        match self.base.join(reference) {
            Ok(url) => Ok(Locator { url, range: None }),
            Err(_) => MalformedSnafu {
                line,
                tag,
                problem: "not a URI",
            }
            .fail(),
        }
    }
}

/// Where bytes are: a URL, or a range of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Locator {
    pub(crate) url: Url,
    /// `None` is the whole resource.
    pub(crate) range: Option<Range<u64>>,
}

/// Without query and credentials: those are secrets.
impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.url))?;
        if let Some(range) = &self.range {
            write!(f, "[{range:?}]")?;
        }
        Ok(())
    }
}

/// Where the author would have playback start (EXT-X-START; RFC 8216, 4.3.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartPoint {
    /// Time from the beginning, or back from the end.
    pub offset: Duration,
    /// Whether `offset` counts back from the end.
    pub from_end: bool,
    /// Whether samples before the point should not be played at all.
    pub precise: bool,
}

impl StartPoint {
    fn parse(line: usize, value: &str) -> Result<Self, PlaylistError> {
        let attributes = Attributes::parse(line, "EXT-X-START", value)?;
        let text = attributes.enumerated("TIME-OFFSET").unwrap_or_default();
        let (from_end, magnitude) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        match number::seconds(magnitude) {
            Some(offset) => Ok(Self {
                offset,
                from_end,
                precise: attributes.enumerated("PRECISE") == Some("YES"),
            }),
            None => attributes.malformed("TIME-OFFSET is not a decimal number"),
        }
    }
}

/// Reads a playlist of either kind.
///
/// # Errors
///
/// Any [`PlaylistError`] but `Nested`.
pub(crate) fn parse(body: &[u8], references: &References<'_>) -> Result<Playlist, PlaylistError> {
    // Titles in other encodings do no harm; a URI that is not UTF-8 is refused where it stands.
    let text = String::from_utf8_lossy(body);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if !matches!(Lines::new(text).next(), Some((_, Line::Tag("M3U", _)))) {
        return NotAPlaylistSnafu {
            begins: beginning(text),
        }
        .fail();
    }
    for (_, line) in Lines::new(text) {
        match line {
            Line::Tag("-X-STREAM-INF" | "-X-MEDIA" | "-X-I-FRAME-STREAM-INF", _) => {
                return MultivariantPlaylist::parse(text, references).map(Playlist::Multivariant);
            }
            Line::Tag("INF" | "-X-TARGETDURATION" | "-X-MEDIA-SEQUENCE" | "-X-KEY" | "-X-MAP", _) => break,
            _ => {}
        }
    }
    MediaPlaylist::parse(text, references).map(Playlist::Media)
}

/// The first characters of what should have been a playlist, fit for an error message.
pub(crate) fn beginning(text: &str) -> String {
    const SHOWN: usize = 60;
    text.chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

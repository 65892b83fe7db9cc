//! What both kinds of playlist refer to: resources, and the place where playback starts.

use std::{fmt, ops::Range, time::Duration};

use super::{
    error::{PlaylistError, malformed},
    lines::Attributes,
    number,
    variables::Variables,
};
use crate::net::{Url, redacted};

/// What the references in a playlist resolve against.
pub(crate) struct References<'a> {
    /// Where the playlist came from, after redirects: QUERYPARAM reads it.
    pub(crate) url: &'a Url,
    /// What relative references resolve against (RFC 3986, 5): `url`, unless the caller set another base.
    pub(crate) base: &'a Url,
    /// The variables of the Multivariant Playlist that led here.
    pub(crate) imports: Option<&'a Variables>,
}

/// Servers refuse longer ones (RFC 9110, 4.1, asks them to take 8 000 bytes).
const LONGEST_URI: usize = 64 << 10;

impl References<'_> {
    pub(super) fn resolve(
        &self,
        line: usize,
        tag: &'static str,
        reference: &str,
    ) -> Result<Locator, PlaylistError> {
        let reference = reference.trim();
        if reference.is_empty() {
            return malformed(line, tag, "an empty URI");
        }
        // `parse` reads the text lossily. A URI that lost bytes would lead to another resource.
        if !reference.is_ascii() && reference.contains(char::REPLACEMENT_CHARACTER) {
            return malformed(line, tag, "a URI that is not UTF-8");
        }
        // A playlist may name one URI half a million times, and each segment holds its own.
        if reference.len() > LONGEST_URI && !reference.starts_with("data:") {
            return malformed(line, tag, "a URI longer than 64 KiB");
        }
        match self.base.join(reference) {
            // Else a server could have an app play what it finds on the user's disk.
            Ok(url) if url.scheme() == "file" && self.url.scheme() != "file" => {
                malformed(line, tag, "a local file in a playlist of the network")
            }
            Ok(url) => Ok(Locator { url, range: None }),
            Err(_) => malformed(line, tag, "not a URI"),
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
    /// `None` if it cannot be understood: the tag is advice, and its playlist plays without it.
    pub(super) fn parse(line: usize, value: &str) -> Option<Self> {
        let attributes = Attributes::parse(line, "EXT-X-START", value);
        let text = attributes
            .enumerated("TIME-OFFSET")
            .ok()
            .flatten()
            .unwrap_or_default();
        let (from_end, magnitude) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let Some(offset) = number::seconds(magnitude) else {
            attributes.tolerated("TIME-OFFSET is not a decimal number");
            return None;
        };
        Some(Self {
            offset,
            from_end,
            precise: attributes.flag("PRECISE"),
        })
    }
}

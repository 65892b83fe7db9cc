//! Media Playlists (RFC 8216, 4.3.2 and 4.3.3).

use std::{sync::Arc, time::Duration};

use super::{
    error::{LiveSnafu, MalformedSnafu, NoSegmentsSnafu, PlaylistError},
    key::{Encryption, KeyInForce, KeysInForce},
    lines::{Attributes, Line, Lines},
    number,
    reference::{Locator, References, StartPoint},
    variables::Variables,
};

/// A Media Playlist that is complete (VOD).
#[derive(Debug)]
pub(crate) struct MediaPlaylist {
    /// Never empty.
    pub(crate) segments: Vec<MediaSegment>,
    pub(crate) start: Option<StartPoint>,
}

/// A Media Segment with everything that lines above it say of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MediaSegment {
    pub(crate) locator: Locator,
    /// The Media Sequence Number.
    pub(crate) sequence: u64,
    /// The Discontinuity Sequence Number.
    pub(crate) discontinuity_sequence: u64,
    pub(crate) duration: Duration,
    /// EXT-X-DISCONTINUITY stands before it.
    pub(crate) discontinuity: bool,
    /// EXT-X-GAP: absent on purpose, not to be fetched.
    pub(crate) gap: bool,
    pub(crate) encryption: Option<Encryption>,
    pub(crate) map: Option<Arc<InitializationSection>>,
}

/// A Media Initialization Section, encrypted as the key in force at its own line says (RFC 8216, 4.3.2.5).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InitializationSection {
    pub(crate) locator: Locator,
    pub(crate) encryption: Option<Encryption>,
}

/// What the lines since the last URI say of the next Media Segment.
#[derive(Default)]
struct Next {
    /// The line and value of EXTINF.
    duration: Option<(usize, Duration)>,
    /// The line, length and offset of EXT-X-BYTERANGE.
    range: Option<(usize, u64, Option<u64>)>,
    discontinuity: bool,
    gap: bool,
}

struct Parser<'a> {
    references: &'a References<'a>,
    variables: Variables,
    keys: KeysInForce,
    map: Option<Arc<InitializationSection>>,
    next: Next,
    /// With their IVs still as the playlist gives them; see `finish`.
    segments: Vec<(MediaSegment, Option<[u8; 16]>)>,
    /// The line and value of EXT-X-MEDIA-SEQUENCE.
    first_sequence: (usize, u64),
    total: Duration,
    discontinuities: u64,
    complete: bool,
    start: Option<StartPoint>,
}

impl MediaPlaylist {
    pub(super) fn parse(text: &str, references: &References<'_>) -> Result<Self, PlaylistError> {
        let mut parser = Parser {
            references,
            variables: Variables::default(),
            keys: KeysInForce::default(),
            map: None,
            next: Next::default(),
            segments: Vec::new(),
            first_sequence: (0, 0),
            total: Duration::ZERO,
            discontinuities: 0,
            complete: false,
            start: None,
        };
        for (line, content) in Lines::new(text) {
            match content {
                Line::Tag(name, value) => parser.tag(line, name, value)?,
                Line::Uri(uri) => parser.segment(line, uri)?,
            }
        }
        parser.finish()
    }
}

impl Parser<'_> {
    fn tag(&mut self, line: usize, name: &str, value: &str) -> Result<(), PlaylistError> {
        match name {
            "INF" => {
                let seconds = value.split(',').next().unwrap_or_default().trim();
                let Some(duration) = number::seconds(seconds) else {
                    return MalformedSnafu {
                        line,
                        tag: "EXTINF",
                        problem: "not a duration in seconds",
                    }
                    .fail();
                };
                if let Some((line, _)) = self.next.duration.replace((line, duration)) {
                    return MalformedSnafu {
                        line,
                        tag: "EXTINF",
                        problem: "no URI follows",
                    }
                    .fail();
                }
            }
            "-X-BYTERANGE" => {
                let Some((length, offset)) = number::length_and_offset(value.trim_matches('"')) else {
                    return MalformedSnafu {
                        line,
                        tag: "EXT-X-BYTERANGE",
                        problem: "not a byte range",
                    }
                    .fail();
                };
                self.next.range = Some((line, length, offset));
            }
            "-X-DISCONTINUITY" => self.next.discontinuity = true,
            "-X-GAP" => self.next.gap = true,
            "-X-KEY" => self.keys.apply(line, value, &self.variables, self.references)?,
            "-X-MAP" => self.map(line, value)?,
            "-X-MEDIA-SEQUENCE" => {
                self.first_sequence = (line, integer(line, "EXT-X-MEDIA-SEQUENCE", value)?);
            }
            "-X-DISCONTINUITY-SEQUENCE" => {
                self.discontinuities = integer(line, "EXT-X-DISCONTINUITY-SEQUENCE", value)?;
            }
            "-X-PLAYLIST-TYPE" => self.complete |= value == "VOD",
            "-X-ENDLIST" => self.complete = true,
            "-X-DEFINE" => {
                self.variables
                    .define(line, value, self.references.url, self.references.imports)?;
            }
            "-X-START" => self.start = Some(StartPoint::parse(line, value)?),
            // Segments left out, which only a client that asked for an update could fill in.
            "-X-SKIP" => {
                return MalformedSnafu {
                    line,
                    tag: "EXT-X-SKIP",
                    problem: "an update, not a playlist",
                }
                .fail();
            }
            "-X-STREAM-INF" => {
                let problem = "a variant stream among media segments";
                return MalformedSnafu {
                    line,
                    tag: "EXT-X-STREAM-INF",
                    problem,
                }
                .fail();
            }
            _ => {}
        }
        Ok(())
    }

    fn map(&mut self, line: usize, value: &str) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-MAP";
        let attributes = Attributes::parse(line, TAG, value)?;
        let uri = attributes.required("URI", &self.variables)?;
        let mut locator = self.references.resolve(line, TAG, &uri)?;
        if let Some(text) = attributes.quoted("BYTERANGE", &self.variables)? {
            // The offset is required here; a missing one can only mean the start, never a segment's end (fault E1).
            let parsed = number::length_and_offset(&text);
            match parsed.and_then(|(length, offset)| number::range(offset.unwrap_or(0), length)) {
                None => return attributes.malformed("not a byte range"),
                range => locator.range = range,
            }
        }
        let encryption = match self.keys.current()? {
            None => None,
            // There is no Media Sequence Number to make one from (RFC 8216, 4.3.2.5).
            Some(KeyInForce { iv: None, .. }) => {
                return attributes.malformed("encrypted by a key without IV");
            }
            Some(KeyInForce {
                locator: key,
                iv: Some(iv),
            }) => Some(Encryption { key, iv }),
        };
        let map = InitializationSection { locator, encryption };
        // The same section named again is the same section: it is not repeated to the decoder.
        if self.map.as_deref() != Some(&map) {
            self.map = Some(Arc::new(map));
        }
        Ok(())
    }

    fn segment(&mut self, line: usize, uri: &str) -> Result<(), PlaylistError> {
        let next = std::mem::take(&mut self.next);
        let Some((duration_line, duration)) = next.duration else {
            return MalformedSnafu {
                line,
                tag: "URI",
                problem: "no EXTINF above it",
            }
            .fail();
        };
        // Sums of durations are times in the stream: they must not overflow later.
        let Some(total) = self.total.checked_add(duration) else {
            let problem = "durations beyond 64 bits";
            return MalformedSnafu {
                line: duration_line,
                tag: "EXTINF",
                problem,
            }
            .fail();
        };
        self.total = total;
        let mut locator = self
            .references
            .resolve(line, "URI", &self.variables.substitute(line, uri)?)?;
        if let Some((line, length, offset)) = next.range {
            locator.range = Some(self.range(line, &locator, length, offset)?);
        }
        if next.discontinuity {
            self.discontinuities = self.discontinuities.saturating_add(1);
        }
        let (encryption, iv) = match self.keys.current()? {
            Some(KeyInForce { locator: key, iv }) => (Some(Encryption { key, iv: [0; 16] }), iv),
            None => (None, None),
        };
        let segment = MediaSegment {
            locator,
            sequence: 0,
            discontinuity_sequence: self.discontinuities,
            duration,
            discontinuity: next.discontinuity,
            gap: next.gap,
            encryption,
            map: self.map.clone(),
        };
        self.segments.push((segment, iv));
        Ok(())
    }

    /// RFC 8216, 4.3.2.2: without an offset, the range begins where that of the previous Media Segment ends, which must
    /// be a range of the same resource (fault E1).
    fn range(
        &self,
        line: usize,
        locator: &Locator,
        length: u64,
        offset: Option<u64>,
    ) -> Result<std::ops::Range<u64>, PlaylistError> {
        const TAG: &str = "EXT-X-BYTERANGE";
        let previous = || {
            let (segment, _) = self.segments.last()?;
            (segment.locator.url == locator.url)
                .then(|| segment.locator.range.as_ref().map(|range| range.end))?
        };
        let Some(offset) = offset.or_else(previous) else {
            let problem = "no offset, and no range of the same resource before it";
            return MalformedSnafu {
                line,
                tag: TAG,
                problem,
            }
            .fail();
        };
        match number::range(offset, length) {
            Some(range) => Ok(range),
            None => MalformedSnafu {
                line,
                tag: TAG,
                problem: "empty or too large",
            }
            .fail(),
        }
    }

    /// Numbers the segments, which gives those without an IV theirs: the Media Sequence Number as 128 bits, big-endian
    /// (RFC 8216, 5.2; fault E4).
    fn finish(self) -> Result<MediaPlaylist, PlaylistError> {
        if let Some((line, _)) = self.next.duration {
            return MalformedSnafu {
                line,
                tag: "EXTINF",
                problem: "no URI follows",
            }
            .fail();
        }
        if !self.complete {
            return LiveSnafu.fail();
        }
        let (line, first) = self.first_sequence;
        let mut sequence = Some(first);
        let mut segments = Vec::with_capacity(self.segments.len());
        for (mut segment, iv) in self.segments {
            let Some(number) = sequence else {
                let problem = "sequence numbers beyond 64 bits";
                return MalformedSnafu {
                    line,
                    tag: "EXT-X-MEDIA-SEQUENCE",
                    problem,
                }
                .fail();
            };
            segment.sequence = number;
            if let Some(encryption) = &mut segment.encryption {
                encryption.iv = iv.unwrap_or_else(|| u128::from(number).to_be_bytes());
            }
            sequence = number.checked_add(1);
            segments.push(segment);
        }
        if segments.is_empty() {
            return NoSegmentsSnafu.fail();
        }
        Ok(MediaPlaylist {
            segments,
            start: self.start,
        })
    }
}

fn integer(line: usize, tag: &'static str, value: &str) -> Result<u64, PlaylistError> {
    match number::integer(value) {
        Some(value) => Ok(value),
        None => MalformedSnafu {
            line,
            tag,
            problem: "not a decimal integer",
        }
        .fail(),
    }
}

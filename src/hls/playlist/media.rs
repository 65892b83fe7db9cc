//! Media Playlists (RFC 8216, 4.3.2 and 4.3.3).

use std::{sync::Arc, time::Duration};

use super::{
    body_end::BodyEnd,
    date::{DateRange, ProgramDate},
    error::{LiveSnafu, MayBeCutSnafu, NoSegmentsSnafu, PlaylistError, malformed},
    key::{Encryption, KeyInForce, KeysInForce},
    lines::{Attributes, Line, Lines, tolerated},
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
    /// Of the first segment that has one, and of the first behind each discontinuity.
    pub(crate) dates: Vec<ProgramDate>,
    pub(crate) date_ranges: Vec<DateRange>,
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
    /// EXT-X-PROGRAM-DATE-TIME.
    date: Option<String>,
}

impl Next {
    /// Tolerates half of a segment: an EXTINF without its URI, or a URI without its EXTINF.
    ///
    /// Not where a tag of that one segment was seen: it would then be the next segment's, which would play other bytes.
    fn check_lost(&self, line: usize, tag: &'static str, problem: &'static str) -> Result<(), PlaylistError> {
        if self.range.is_some() || self.gap {
            return malformed(line, tag, problem);
        }
        tolerated(line, tag, problem);
        Ok(())
    }
}

/// A playlist at its limit, each of whose lines is made twenty times as long by its base.
const LONGEST_URIS: usize = 256 << 20;

struct Parser<'a> {
    references: &'a References<'a>,
    variables: Variables,
    keys: KeysInForce,
    map: Option<Arc<InitializationSection>>,
    next: Next,
    segments: Vec<MediaSegment>,
    /// Those that have a default IV, which is made of the segment's number, which `finish` gives.
    without_iv: Vec<usize>,
    /// The line and value of EXT-X-MEDIA-SEQUENCE.
    first_sequence: (usize, u64),
    total: Duration,
    /// Bytes of all segments' URIs, resolved.
    uris: usize,
    discontinuities: u64,
    end: BodyEnd,
    /// EXT-X-PLAYLIST-TYPE:VOD.
    vod: bool,
    /// The number of segments above EXT-X-ENDLIST.
    ended_after: Option<usize>,
    /// The line of the EXT-X-BYTERANGE of a segment without bytes.
    empty: Option<usize>,
    start: Option<StartPoint>,
    dates: Vec<ProgramDate>,
    date_ranges: Vec<DateRange>,
}

impl MediaPlaylist {
    pub(super) fn parse(
        text: &str,
        references: &References<'_>,
        end: BodyEnd,
    ) -> Result<Self, PlaylistError> {
        let mut parser = Parser {
            references,
            variables: Variables::default(),
            keys: KeysInForce::default(),
            map: None,
            next: Next::default(),
            // A playlist of a day is megabytes: what grows with it is made once.
            segments: Vec::with_capacity(text.matches("#EXTINF").count().min(1 << 15)),
            without_iv: Vec::new(),
            first_sequence: (0, 0),
            total: Duration::ZERO,
            uris: 0,
            discontinuities: 0,
            end,
            vod: false,
            ended_after: None,
            empty: None,
            start: None,
            dates: Vec::new(),
            date_ranges: Vec::new(),
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
                // Up to the comma; what follows is a title.
                let seconds = value.split(',').next().unwrap_or_default().trim();
                let Some(duration) = number::seconds(seconds) else {
                    return malformed(line, "EXTINF", "not a duration in seconds");
                };
                if let Some((line, _)) = self.next.duration.replace((line, duration)) {
                    self.next.check_lost(line, "EXTINF", "no URI follows")?;
                }
            }
            // `#EXTINF 6,`: the URI below it would be taken for a stray line, and its segment would be a hole.
            name if name.starts_with("INF ") => {
                return malformed(line, "EXTINF", "no colon before the duration");
            }
            "-X-BYTERANGE" => {
                let Some((length, offset)) = number::length_and_offset(value.trim_matches('"')) else {
                    return malformed(line, "EXT-X-BYTERANGE", "not a byte range");
                };
                self.next.range = Some((line, length, offset));
            }
            // These two are of the next segment only. Keys and maps hold until they are replaced.
            "-X-DISCONTINUITY" => self.next.discontinuity = true,
            "-X-GAP" => self.next.gap = true,
            "-X-KEY" => self.keys.apply(line, value, &self.variables, self.references)?,
            "-X-MAP" => self.map(line, value)?,
            "-X-MEDIA-SEQUENCE" => {
                // Must stand above the first segment (RFC 8216, 4.3.3.2), and does not everywhere: numbers are given at the end.
                self.first_sequence = (line, integer(line, "EXT-X-MEDIA-SEQUENCE", value)?);
            }
            "-X-DISCONTINUITY-SEQUENCE" => {
                const TAG: &str = "EXT-X-DISCONTINUITY-SEQUENCE";
                // It only numbers; which segment is discontinuous is said elsewhere.
                self.discontinuities = integer(line, TAG, value).unwrap_or_else(|_| {
                    tolerated(line, TAG, "not a decimal integer");
                    0
                });
            }
            "-X-PLAYLIST-TYPE" => self.vod |= value.trim_matches('"').eq_ignore_ascii_case("VOD"),
            "-X-ENDLIST" => self.ended_after = Some(self.segments.len()),
            "-X-DEFINE" => {
                let References { url, imports, .. } = *self.references;
                self.variables.define(line, value, url, imports);
            }
            "-X-START" => self.start = StartPoint::parse(line, value),
            "-X-PROGRAM-DATE-TIME" => self.next.date = Some(value.to_owned()),
            "-X-DATERANGE" => self
                .date_ranges
                .extend(DateRange::parse(line, value, &self.variables)),
            // Low-Latency HLS. The segments that the parts make up are named too.
            "-X-PART" | "-X-PRELOAD-HINT" | "-X-RENDITION-REPORT" => {
                tolerated(
                    line,
                    "EXT-X-PART",
                    "partial segments are not played by themselves",
                );
            }
            // Segments left out, which only a client that asked for an update could fill in.
            "-X-SKIP" => {
                return malformed(line, "EXT-X-SKIP", "an update, not a playlist");
            }
            "-X-STREAM-INF" => {
                return malformed(line, "EXT-X-STREAM-INF", "a variant stream among media segments");
            }
            // Unknown tags are ignored (RFC 8216, 6.3.1).
            _ => {}
        }
        Ok(())
    }

    fn map(&mut self, line: usize, value: &str) -> Result<(), PlaylistError> {
        const TAG: &str = "EXT-X-MAP";
        let attributes = Attributes::parse(line, TAG, value);
        let uri = attributes.required("URI", &self.variables)?;
        let mut locator = self.references.resolve(line, TAG, &uri)?;
        if let Some(text) = attributes.quoted("BYTERANGE", &self.variables)? {
            // The RFC requires the offset here. A missing one can only mean the start: a range that goes on where the last
            // segment ended would be that segment's rule, not this one's (fault E1).
            let parsed = number::length_and_offset(&text);
            match parsed.and_then(|(length, offset)| number::range(offset.unwrap_or(0), length)) {
                None => return attributes.malformed("not a byte range"),
                range => locator.range = range,
            }
        }
        let encryption = match self.keys.current()? {
            None => None,
            // A section has no Media Sequence Number that a default IV could be made of (RFC 8216, 4.3.2.5).
            Some(KeyInForce { iv: None, .. }) => {
                return attributes.malformed("encrypted by a key without IV");
            }
            Some(KeyInForce {
                locator: key,
                iv: Some(iv),
            }) => Some(Encryption { key, iv }),
        };
        let map = InitializationSection { locator, encryption };
        // The same section named again is the same section. The old `Arc` stays, and `Track` sees by it that nothing
        // changed.
        if self.map.as_deref() != Some(&map) {
            self.map = Some(Arc::new(map));
        }
        Ok(())
    }

    fn segment(&mut self, line: usize, uri: &str) -> Result<(), PlaylistError> {
        let Some((duration_line, duration)) = self.next.duration else {
            return self.next.check_lost(line, "URI", "no EXTINF above it");
        };
        // Taken, so that nothing of it reaches the segment after this one.
        let next = std::mem::take(&mut self.next);
        // Known to be harmless at the end only, so what follows decides: see `finish`.
        match (next.range, self.empty) {
            (Some((line, 0, _)), _) => {
                self.empty.get_or_insert(line);
                return Ok(());
            }
            (_, Some(line)) => return malformed(line, "EXT-X-BYTERANGE", "empty or too large"),
            _ => {}
        }
        let begins = self.dates.is_empty() || next.discontinuity;
        if let Some(date) = next.date.filter(|_| begins) {
            let time = self.total;
            self.dates.push(ProgramDate { time, date });
        }
        // Sums of durations are times in the stream. Checked here, they cannot overflow later.
        let Some(total) = self.total.checked_add(duration) else {
            return malformed(duration_line, "EXTINF", "durations beyond 64 bits");
        };
        self.total = total;
        let mut locator = self
            .references
            .resolve(line, "URI", &self.variables.substitute(line, uri)?)?;
        if let Some((line, length, offset)) = next.range {
            locator.range = Some(self.range(line, &locator, length, offset)?);
        }
        // Variables may make each line long.
        self.uris = self.uris.saturating_add(locator.url.as_str().len());
        if self.uris > LONGEST_URIS {
            return malformed(line, "URI", "all URIs together are longer than 256 MiB");
        }
        // A gap counts as well: its discontinuity is one for all that comes after it.
        if next.discontinuity {
            self.discontinuities = self.discontinuities.saturating_add(1);
        }
        let encryption = self.keys.current()?.map(|KeyInForce { locator: key, iv }| {
            if iv.is_none() {
                self.without_iv.push(self.segments.len());
            }
            let iv = iv.unwrap_or_default();
            Encryption { key, iv }
        });
        let segment = MediaSegment {
            locator,
            // As a default IV: given by `finish`.
            sequence: 0,
            discontinuity_sequence: self.discontinuities,
            duration,
            discontinuity: next.discontinuity,
            gap: next.gap,
            encryption,
            map: self.map.clone(),
        };
        self.segments.push(segment);
        Ok(())
    }

    /// A segment's byte range. Without an offset it begins where that of the previous Media Segment ends, which must be a
    /// range of the same resource (RFC 8216, 4.3.2.2; fault E1).
    fn range(
        &self,
        line: usize,
        locator: &Locator,
        length: u64,
        offset: Option<u64>,
    ) -> Result<std::ops::Range<u64>, PlaylistError> {
        const TAG: &str = "EXT-X-BYTERANGE";
        // Of the previous segment, not of the last range that was named: EXT-X-MAP may stand between.
        let previous = || {
            let segment = self.segments.last()?;
            (segment.locator.url == locator.url)
                .then(|| segment.locator.range.as_ref().map(|range| range.end))?
        };
        let Some(offset) = offset.or_else(previous) else {
            return malformed(
                line,
                TAG,
                "no offset, and no range of the same resource before it",
            );
        };
        match number::range(offset, length) {
            Some(range) => Ok(range),
            None => malformed(line, TAG, "empty or too large"),
        }
    }

    /// Whether all segments are there. Either of EXT-X-ENDLIST and the type VOD says that none will be added.
    fn check_complete(&self) -> Result<(), PlaylistError> {
        match (self.end, self.ended_after) {
            (BodyEnd::Proven, Some(_)) => Ok(()),
            (BodyEnd::Proven, None) if self.vod => Ok(()),
            // EXT-X-ENDLIST may stand anywhere (RFC 8216, 4.3.3.4). Above a segment it does not prove that the segment is the
            // last one, and the type VOD proves nothing of where the text ends (fault W7).
            (BodyEnd::Unproven, Some(above)) if above == self.segments.len() => Ok(()),
            (BodyEnd::Unproven, ended) if self.vod || ended.is_some() || self.segments.is_empty() => {
                MayBeCutSnafu.fail()
            }
            _ => LiveSnafu.fail(),
        }
    }

    /// Numbers the segments, and gives those without an IV the default one: the Media Sequence Number as 128 bits,
    /// big-endian (RFC 8216, 5.2; fault E4).
    fn finish(mut self) -> Result<MediaPlaylist, PlaylistError> {
        if let Some((line, _)) = self.next.duration {
            tolerated(line, "EXTINF", "no URI follows");
        }
        // A packager that cuts one file by time writes such a last segment where the one before took all that was left. In
        // front of another segment it would be a hole.
        if let Some(line) = self.empty {
            const TAG: &str = "EXT-X-BYTERANGE";
            if self.segments.is_empty() {
                return malformed(line, TAG, "empty or too large");
            }
            tolerated(line, TAG, "a last segment without bytes");
        }
        self.check_complete()?;
        let (line, first) = self.first_sequence;
        let Some(last) = self.segments.len().checked_sub(1) else {
            return NoSegmentsSnafu.fail();
        };
        // A wrapped number would give two segments one default IV.
        if u64::try_from(last).is_ok_and(|last| first.checked_add(last).is_none()) {
            return malformed(line, "EXT-X-MEDIA-SEQUENCE", "sequence numbers beyond 64 bits");
        }
        let mut without_iv = self.without_iv.into_iter().peekable();
        for (index, (sequence, segment)) in (first..=u64::MAX).zip(&mut self.segments).enumerate() {
            segment.sequence = sequence;
            if without_iv.next_if_eq(&index).is_some()
                && let Some(encryption) = &mut segment.encryption
            {
                encryption.iv = u128::from(sequence).to_be_bytes();
            }
        }
        Ok(MediaPlaylist {
            segments: self.segments,
            start: self.start,
            dates: self.dates,
            date_ranges: self.date_ranges,
        })
    }
}

fn integer(line: usize, tag: &'static str, value: &str) -> Result<u64, PlaylistError> {
    let Some(whole) = number::whole(value) else {
        return malformed(line, tag, "not a decimal integer");
    };
    if number::integer(value).is_none() {
        tolerated(line, tag, "an integer with a fraction");
    }
    Ok(whole)
}

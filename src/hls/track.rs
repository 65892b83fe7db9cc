//! A Media Playlist laid out as it plays.
//!
//! ```text
//!   playlist   #EXT-X-MAP:i0   s0   s1   #DISCONTINUITY   s2   #GAP s3
//!   parts      [section i0] [s0] [s1] [section i0] [s2] [gap s3]
//!   bytes      0            │    │    │            │    │  end
//! ```
//!
//! The plaintext of the parts, one after another, is the stream. The position of a byte in the stream is the sum of the
//! lengths before it, as far as they are known.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    HlsControl, HlsError, Resource, ResourceKind, StartPoint,
    edition::{EditionId, WitnessPlace},
    fetch::KeyReference,
    local,
    names::{MediaName, ResourceNames},
    playlist::{
        DateRange, Encryption, InitializationSection, Locator, MediaPlaylist, MultivariantPlaylist,
        ProgramDate,
    },
};
use crate::{cache::CachePath, media::Origin};

/// What [`HlsControl::VariantApplied`] tells of a Variant Stream, but its duration.
#[derive(Default)]
pub(super) struct VariantFacts {
    pub(super) number: usize,
    pub(super) bandwidth: u64,
    pub(super) codecs: Option<String>,
    pub(super) rendition: Option<String>,
    pub(super) start: Option<StartPoint>,
}

/// One Variant Stream's Media Playlist, ready to be read from any part on.
pub(super) struct Track {
    facts: VariantFacts,
    duration: Duration,
    /// The edition that its entries belong to. `None` for the one under plain names.
    edition: Option<EditionId>,
    /// The entries of the playlists that led to it, its own last.
    playlists: Vec<CachePath>,
    /// The Multivariant Playlist that led to it, if one did.
    master: Option<Arc<MultivariantPlaylist>>,
    dates: Vec<ProgramDate>,
    date_ranges: Vec<DateRange>,
    /// In the order in which they play.
    parts: Vec<Part>,
    /// The plaintext length of each part in bytes, as far as it was learned. Streams of one source share what they learn:
    /// after one has played to the end another can seek anywhere without a request.
    lens: Arc<Mutex<Vec<Option<u64>>>>,
}

/// One step of the track: an initialization section, a segment, or a gap.
pub(super) struct Part {
    /// `None` for a gap: nothing is fetched for it (fault E9).
    pub(super) media: Option<Arc<MediaResource>>,
    media_sequence: u64,
    pub(super) discontinuity_sequence: u64,
    /// When the segment starts that this is, or that this section comes before.
    time: Duration,
    duration: Duration,
    /// Whether EXT-X-DISCONTINUITY stands before it. Of a section and its segment the section has it.
    pub(super) discontinuity: bool,
}

/// Where the bytes of a part are, and how they are read.
pub(super) struct MediaResource {
    pub(super) kind: ResourceKind,
    pub(super) locator: Locator,
    name: MediaName,
    /// `None` for plain text.
    pub(super) key: Option<KeyReference>,
    /// Whether it tells editions apart, and as what.
    pub(super) witness: Option<WitnessPlace>,
}

impl MediaResource {
    fn new(
        names: &mut ResourceNames<'_>,
        kind: ResourceKind,
        locator: Locator,
        encryption: Option<Encryption>,
        witness: Option<WitnessPlace>,
    ) -> Result<Arc<Self>, HlsError> {
        let key = match encryption {
            None => None,
            Some(Encryption { key: locator, iv }) => {
                let path = names.entry(ResourceKind::Key, &locator)?;
                Some(KeyReference { locator, path, iv })
            }
        };
        let name = names.media(kind, &locator)?;
        Ok(Arc::new(Self {
            kind,
            locator,
            name,
            key,
            witness,
        }))
    }

    /// The entry that keeps it, as it was fetched.
    pub(super) fn path(&self) -> &CachePath {
        self.name.path(&self.locator)
    }

    /// As errors and messages name it.
    pub(super) fn resource(&self) -> Resource {
        Resource::new(self.kind, &self.locator.url)
    }

    /// Whether the two are one resource: the same entry, range and key. The URLs may differ.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let key = |media: &Self| media.key.as_ref().map(|key| (key.path.clone(), key.iv));
        self.path() == other.path() && self.locator.range == other.locator.range && key(self) == key(other)
    }

    pub(super) fn is_section(&self) -> bool {
        self.kind == ResourceKind::InitializationSection
    }

    /// The length of its plaintext in bytes, if the playlist says.
    fn len(&self) -> Option<u64> {
        // Of an encrypted range the plaintext is shorter by the padding.
        let range = self.locator.range.as_ref().filter(|_| self.key.is_none())?;
        Some(range.end - range.start)
    }
}

impl Part {
    pub(super) fn is_section(&self) -> bool {
        self.media.as_ref().is_some_and(|media| media.is_section())
    }

    /// When the segment starts that it is, or that it comes before.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// How long the segment plays that it is, or that it comes before.
    pub(super) fn duration(&self) -> Duration {
        self.duration
    }

    fn is_same(&self, other: &Self) -> bool {
        let is_same_media = match (&self.media, &other.media) {
            (Some(one), Some(other)) => one.is_same(other),
            (None, None) => true,
            _ => false,
        };
        is_same_media
            && self.media_sequence == other.media_sequence
            && self.duration == other.duration
            && self.discontinuity == other.discontinuity
    }
}

impl Track {
    /// Lays out `playlist`.
    ///
    /// # Errors
    ///
    /// `SameName`.
    pub(super) fn new(
        facts: VariantFacts,
        playlist: MediaPlaylist,
        playlists: Vec<CachePath>,
        master: Option<Arc<MultivariantPlaylist>>,
        names: &mut ResourceNames<'_>,
    ) -> Result<Self, HlsError> {
        let mut parts = Vec::with_capacity(playlist.segments.len() + 1);
        let mut time = Duration::ZERO;
        // The first section and the first segment of the list tell editions apart.
        let (mut section_witness, mut segment_witness) =
            (Some(WitnessPlace::Section), Some(WitnessPlace::FirstSegment));
        // The section that a decoder has been given.
        let mut current: Option<Arc<InitializationSection>> = None;
        for segment in playlist.segments {
            let (media_sequence, duration) = (segment.sequence, segment.duration);
            let mut discontinuity = segment.discontinuity;
            if segment.discontinuity {
                // A decoder may begin anew here, and a new decoder needs the section (H13, fault W34). If the segment is a
                // gap the section waits for the next one that has bytes.
                current = None;
            }
            let mut push = |media: Option<Arc<MediaResource>>| {
                parts.push(Part {
                    media,
                    media_sequence,
                    discontinuity_sequence: segment.discontinuity_sequence,
                    time,
                    duration,
                    discontinuity: std::mem::take(&mut discontinuity),
                });
            };
            if let Some(map) = segment
                .map
                .filter(|map| !segment.gap && current.as_ref() != Some(map))
            {
                let (locator, encryption) = (map.locator.clone(), map.encryption.clone());
                let kind = ResourceKind::InitializationSection;
                let witness = section_witness.take();
                push(Some(MediaResource::new(
                    names, kind, locator, encryption, witness,
                )?));
                current = Some(map);
            }
            if segment.gap {
                push(None);
            } else {
                let kind = ResourceKind::Segment { media_sequence };
                let (locator, encryption) = (segment.locator, segment.encryption);
                let witness = segment_witness.take();
                push(Some(MediaResource::new(
                    names, kind, locator, encryption, witness,
                )?));
            }
            time += duration;
        }
        Ok(Self {
            facts,
            duration: time,
            edition: names.edition().cloned(),
            playlists,
            master,
            dates: playlist.dates,
            date_ranges: playlist.date_ranges,
            lens: Arc::new(Mutex::new(vec![None; parts.len()])),
            parts,
        })
    }

    pub(super) fn facts(&self) -> &VariantFacts {
        &self.facts
    }

    pub(super) fn duration(&self) -> Duration {
        self.duration
    }

    pub(super) fn master(&self) -> Option<&Arc<MultivariantPlaylist>> {
        self.master.as_ref()
    }

    pub(super) fn dates(&self) -> &[ProgramDate] {
        &self.dates
    }

    pub(super) fn date_ranges(&self) -> &[DateRange] {
        &self.date_ranges
    }

    pub(super) fn edition(&self) -> Option<&EditionId> {
        self.edition.as_ref()
    }

    /// The entry of its Media Playlist.
    pub(super) fn playlist(&self) -> Option<&CachePath> {
        self.playlists.last()
    }

    /// The entries of the playlists that led to it, its own last.
    pub(super) fn playlists(&self) -> &[CachePath] {
        &self.playlists
    }

    /// The entries that its media and their keys may have in the cache.
    pub(super) fn media_entries(&self) -> impl Iterator<Item = &CachePath> {
        self.media().flat_map(|media| {
            let key = media.key.as_ref().map(|key| &key.path);
            [Some(media.path()), key].into_iter().flatten()
        })
    }

    /// Whether the two are one list: the same parts under the same names, of the same ranges and durations and under the
    /// same keys. The URLs may differ in what the names leave out.
    pub(super) fn is_same_list(&self, other: &Self) -> bool {
        self.parts.len() == other.parts.len()
            && self
                .parts
                .iter()
                .zip(&other.parts)
                .all(|(one, other)| one.is_same(other))
    }

    /// The same. If its parts are those of `old` it takes over the lengths that `old` learned.
    pub(super) fn renewing(mut self, old: &Self) -> Self {
        if self.is_same_list(old) {
            self.lens = old.lens.clone();
        }
        self
    }

    /// What tells this list from another one.
    pub(super) fn identity(&self) -> impl Iterator<Item = Vec<u8>> {
        self.parts.iter().map(|part| {
            let media = part.media.as_ref();
            let path = media.map_or("", |media| media.path().as_str());
            let key = media.and_then(|media| media.key.as_ref());
            let (key, iv) = key.map_or(("", [0; 16]), |key| (key.path.as_str(), key.iv));
            format!("{path} {} {key} {iv:?}", part.duration.as_nanos()).into_bytes()
        })
    }

    /// How many parts there are.
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn part(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)
    }

    /// Whether a segment begins with this part: neither it nor the section before it has been read.
    pub(super) fn is_start_of_segment(&self, number: usize) -> bool {
        let before = number.checked_sub(1).and_then(|before| self.part(before));
        match (before, self.part(number)) {
            (Some(before), Some(here)) => !before.is_section() || before.time != here.time,
            _ => true,
        }
    }

    /// The part with which the segment of this part begins: its section, if that stands before it.
    pub(super) fn start_of_segment(&self, number: usize) -> usize {
        if self.is_start_of_segment(number) {
            number
        } else {
            number - 1
        }
    }

    /// The resources of all parts that are no gaps.
    pub(super) fn media(&self) -> impl Iterator<Item = &Arc<MediaResource>> {
        self.parts.iter().filter_map(|part| part.media.as_ref())
    }

    /// The same with how long each plays: a section for no time, as its segment does.
    pub(super) fn media_durations(&self) -> impl Iterator<Item = (&MediaResource, Duration)> {
        let parts = self.parts.iter();
        parts.filter_map(|part| {
            let media = part.media.as_deref()?;
            let duration = if media.is_section() {
                Duration::ZERO
            } else {
                part.duration
            };
            Some((media, duration))
        })
    }

    /// The part that plays at `time`, and before it the initialization section to read first, if that lies further back. At
    /// or past the end it is the part behind the last.
    pub(super) fn part_at(&self, time: Duration) -> (Option<usize>, usize) {
        // Times never fall from part to part, and a section has its segment's: the first part that ends after `time` is the
        // one to begin with, the section in front of its segment. One without duration that starts at `time` plays (fault
        // W61).
        let is_over = |part: &Part| part.time < time && part.time.saturating_add(part.duration) <= time;
        let first = self.parts.partition_point(is_over);
        let (before, from) = self.parts.split_at_checked(first).unwrap_or_default();
        // A section of the same time as its segment is not further back: it is the part at `time`. Gaps need none.
        let next_media = from.iter().find_map(|part| part.media.as_ref());
        if next_media.is_none_or(|media| media.is_section()) {
            return (None, first);
        }
        let is_section = |part: &Part| part.media.as_ref().is_some_and(|media| media.is_section());
        (before.iter().rposition(is_section), first)
    }

    /// Where a part begins, in bytes; behind the last one, the length of the track. `None` if the length of a part before it is
    /// not known.
    pub(super) fn position_of(&self, part: usize) -> Option<u64> {
        (0..part.min(self.parts.len())).try_fold(0_u64, |sum, part| sum.checked_add(self.part_len(part)?))
    }

    /// When the part plays that holds a byte; behind the last one, the duration.
    pub(super) fn time_at(&self, position: u64) -> Option<Duration> {
        let mut end = 0_u64;
        for (index, part) in self.parts.iter().enumerate() {
            end = end.checked_add(self.part_len(index)?)?;
            if position < end {
                return Some(part.time);
            }
        }
        Some(self.duration)
    }

    /// The length of a part's plaintext in bytes, if it is known without reading the part.
    pub(super) fn part_len(&self, index: usize) -> Option<u64> {
        let Some(media) = &self.parts.get(index)?.media else {
            return Some(0);
        };
        // The playlist's own figure first: it needs no lock.
        let learned = || {
            let lens = self.lens.lock().unwrap_or_else(PoisonError::into_inner);
            lens.get(index).copied().flatten()
        };
        media.len().or_else(learned)
    }

    /// Whether each part has been read to its end by a stream of this source, or its length is known otherwise.
    pub(super) fn is_known_whole(&self) -> bool {
        (0..self.parts.len()).all(|index| self.part_len(index).is_some())
    }

    /// The files that tell editions apart, as far as there is a server to be asked.
    pub(super) fn witnesses(&self) -> impl Iterator<Item = (&Arc<MediaResource>, WitnessPlace)> {
        self.media().filter_map(|media| {
            let is_fetched = !local::is_local(&media.locator.url);
            Some((media, media.witness.filter(|_| is_fetched)?))
        })
    }

    /// The first segment of the list, and its number.
    pub(super) fn first_segment(&self) -> Option<(usize, &Arc<MediaResource>)> {
        let parts = self.parts.iter().enumerate();
        parts
            .filter_map(|(number, part)| Some((number, part.media.as_ref()?)))
            .find(|(_, media)| media.witness == Some(WitnessPlace::FirstSegment))
    }

    /// Whether it is one of several Variant Streams, or may be.
    pub(super) fn has_alternatives(&self) -> bool {
        self.playlists.len() > 1
    }

    /// Remembers a length, for later seeks.
    pub(super) fn set_part_len(&self, index: usize, len: u64) {
        // A poisoned lock holds what it held: each change is one store.
        let mut lens = self.lens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = lens.get_mut(index) {
            *slot = Some(len);
        }
    }

    pub(super) fn variant_applied(&self) -> HlsControl {
        HlsControl::VariantApplied {
            variant: self.facts.number,
            bandwidth: self.facts.bandwidth,
            codecs: self.facts.codecs.clone(),
            rendition: self.facts.rendition.clone(),
            duration: self.duration,
            start: self.facts.start,
        }
    }

    /// What is told before the first byte of a part, or in the place of a gap.
    pub(super) fn announcements(
        &self,
        part: &Part,
        origin: Origin,
    ) -> impl Iterator<Item = HlsControl> + use<> {
        let (variant, media_sequence) = (self.facts.number, part.media_sequence);
        let (duration, time) = (part.duration, part.time);
        let itself = match part.media.as_ref().map(|media| media.kind) {
            None => self.gap(part),
            Some(ResourceKind::InitializationSection) => self.section_start(origin),
            Some(_) => HlsControl::SegmentStart {
                variant,
                media_sequence,
                discontinuity_sequence: part.discontinuity_sequence,
                duration,
                time,
                origin,
            },
        };
        let sequence = part.discontinuity_sequence;
        part.discontinuity
            .then_some(HlsControl::Discontinuity { sequence })
            .into_iter()
            .chain([itself])
    }

    /// What is told in the place of a part.
    pub(super) fn gap(&self, part: &Part) -> HlsControl {
        HlsControl::Gap {
            variant: self.facts.number,
            media_sequence: part.media_sequence,
            duration: part.duration,
            time: part.time,
        }
    }

    /// What is told before the first byte of a section, without the discontinuity that may stand before it.
    pub(super) fn section_start(&self, origin: Origin) -> HlsControl {
        HlsControl::InitializationSection {
            variant: self.facts.number,
            origin,
        }
    }
}

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
    fetch::KeyReference,
    names::ResourceNames,
    playlist::{Encryption, InitializationSection, Locator, MediaPlaylist},
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
    /// In the order in which they play.
    parts: Vec<Part>,
    /// The plaintext length of each part in bytes, as far as it was learned. Streams of one source share what they learn:
    /// after one has played to the end another can seek anywhere without a request.
    lens: Mutex<Vec<Option<u64>>>,
}

/// One step of the track: an initialization section, a segment, or a gap.
pub(super) struct Part {
    /// `None` for a gap: nothing is fetched for it (fault E9).
    pub(super) media: Option<Arc<MediaResource>>,
    media_sequence: u64,
    discontinuity_sequence: u64,
    /// When the segment starts that this is, or that this section comes before.
    time: Duration,
    duration: Duration,
    /// Whether EXT-X-DISCONTINUITY stands before it. Of a section and its segment the section has it.
    discontinuity: bool,
}

/// Where the bytes of a part are, and how they are read.
pub(super) struct MediaResource {
    pub(super) kind: ResourceKind,
    pub(super) locator: Locator,
    /// The entry that keeps it, as it was fetched.
    pub(super) path: CachePath,
    /// `None` for plain text.
    pub(super) key: Option<KeyReference>,
}

impl MediaResource {
    fn new(
        names: &mut ResourceNames<'_>,
        kind: ResourceKind,
        locator: Locator,
        encryption: Option<Encryption>,
    ) -> Result<Arc<Self>, HlsError> {
        let key = match encryption {
            None => None,
            Some(Encryption { key: locator, iv }) => {
                let path = names.entry(ResourceKind::Key, &locator)?;
                Some(KeyReference { locator, path, iv })
            }
        };
        let path = names.entry(kind, &locator)?;
        Ok(Arc::new(Self {
            kind,
            locator,
            path,
            key,
        }))
    }

    /// As errors and messages name it.
    pub(super) fn resource(&self) -> Resource {
        Resource::new(self.kind, &self.locator.url)
    }

    fn is_section(&self) -> bool {
        self.kind == ResourceKind::InitializationSection
    }

    /// The length of its plaintext in bytes, if the playlist says.
    fn len(&self) -> Option<u64> {
        // Of an encrypted range the plaintext is shorter by the padding.
        let range = self.locator.range.as_ref().filter(|_| self.key.is_none())?;
        Some(range.end - range.start)
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
        names: &mut ResourceNames<'_>,
    ) -> Result<Self, HlsError> {
        let mut parts = Vec::with_capacity(playlist.segments.len() + 1);
        let mut time = Duration::ZERO;
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
                push(Some(MediaResource::new(names, kind, locator, encryption)?));
                current = Some(map);
            }
            if segment.gap {
                push(None);
            } else {
                let kind = ResourceKind::Segment { media_sequence };
                let (locator, encryption) = (segment.locator, segment.encryption);
                push(Some(MediaResource::new(names, kind, locator, encryption)?));
            }
            time += duration;
        }
        Ok(Self {
            facts,
            duration: time,
            lens: Mutex::new(vec![None; parts.len()]),
            parts,
        })
    }

    pub(super) fn part(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)
    }

    /// The resources of all parts that are no gaps.
    pub(super) fn media(&self) -> impl Iterator<Item = &Arc<MediaResource>> {
        self.parts.iter().filter_map(|part| part.media.as_ref())
    }

    /// The part that plays at `time`, and before it the initialization section to read first, if that lies further back. At
    /// or past the end it is the part behind the last.
    pub(super) fn part_at(&self, time: Duration) -> (Option<usize>, usize) {
        // Times never fall from part to part, and a section has its segment's: the first part that ends after `time` is the
        // one to begin with, the section in front of its segment.
        let first = self
            .parts
            .partition_point(|part| part.time.saturating_add(part.duration) <= time);
        let (before, from) = self.parts.split_at_checked(first).unwrap_or_default();
        // A section of the same time as its segment is not further back: it is the part at `time`. Gaps need none.
        let next_media = from.iter().find_map(|part| part.media.as_ref());
        if next_media.is_none_or(|media| media.is_section()) {
            return (None, first);
        }
        let is_section = |part: &Part| part.media.as_ref().is_some_and(|media| media.is_section());
        (before.iter().rposition(is_section), first)
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
            None => HlsControl::Gap {
                variant,
                media_sequence,
                duration,
                time,
            },
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

    /// What is told before the first byte of a section, without the discontinuity that may stand before it.
    pub(super) fn section_start(&self, origin: Origin) -> HlsControl {
        HlsControl::InitializationSection {
            variant: self.facts.number,
            origin,
        }
    }
}

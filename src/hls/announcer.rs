//! What a stream gives out: bytes cut to where the seek begins, and what is told in front of them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::{
    HlsControl,
    open_part::OpenPart,
    pending_commits::Bypassed,
    timeline::Timeline,
    track::{Part, Track},
};
use crate::{media::Origin, stream::Message};

/// Which Variant Stream was told.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Told {
    #[default]
    Nothing,
    /// The one that plays.
    Variant,
    /// One that played before.
    Earlier,
}

/// Messages on their way out, in order with the bytes.
#[derive(Default)]
pub(super) struct Announcer {
    queue: VecDeque<Message<HlsControl>>,
    /// The first byte wanted.
    pub(super) from: u64,
    /// Where the part begins that comes next: in the track, or after a seek by time in what is played from there on.
    pub(super) position: u64,
    told: Told,
    is_bypass_told: bool,
    /// Whether a discontinuity is to be told before the next part: the edition has changed.
    owes_discontinuity: bool,
}

impl Announcer {
    pub(super) fn pop(&mut self) -> Option<Message<HlsControl>> {
        self.queue.pop_front()
    }

    /// Whether what comes next lies before the first byte wanted.
    pub(super) fn is_skipping(&self) -> bool {
        self.position < self.from
    }

    /// The first byte wanted has been given out.
    pub(super) fn stop_skipping(&mut self) {
        self.position = self.position.max(self.from);
    }

    /// Whether anything of the track was told.
    pub(super) fn has_begun(&self) -> bool {
        self.told != Told::Nothing
    }

    /// Queues what of `plain` is at or behind the first byte wanted.
    pub(super) fn give_out(
        &mut self,
        timeline: &Timeline,
        part: &mut OpenPart,
        mut plain: Bytes,
        buffered: impl FnOnce() -> Option<HlsControl>,
    ) {
        let start = self.position + part.plain;
        let len = plain.len();
        part.plain += len as u64;
        let unwanted = usize::try_from(self.from.saturating_sub(start)).unwrap_or(usize::MAX);
        if unwanted >= len {
            return;
        }
        plain.advance(unwanted);
        // The queue counts the bytes that a chunk shows. A chunk that shows little of a large buffer would hold more memory
        // than is counted (S4), so it is copied.
        if plain.len() < len / 2 {
            plain = Bytes::copy_from_slice(&plain);
        }
        if !part.is_announced {
            self.announce(timeline, part);
            self.tell(buffered());
        }
        self.queue.push_back(Message::Data(plain));
    }

    /// Queues the messages that stand before the part's first byte, once.
    pub(super) fn announce(&mut self, timeline: &Timeline, part: &mut OpenPart) {
        if std::mem::replace(&mut part.is_announced, true) {
            return;
        }
        let (track, origin) = (timeline.track(), part.origin());
        let Some(part) = track.part(timeline.number()) else {
            return;
        };
        self.begin(track, part);
        if timeline.is_section_of_later_part() {
            // A section from further back. The discontinuity that stands before it there is not one here.
            self.tell([track.section_start(origin)]);
        } else {
            self.tell(track.announcements(part, origin));
        }
    }

    /// Queues what is told of the look-ahead, behind the messages that stand before a part.
    pub(super) fn look_ahead(&mut self, control: HlsControl) {
        self.tell([control]);
    }

    /// Queues what is told in the place of a gap.
    pub(super) fn gap(&mut self, track: &Track, part: &Part) {
        self.begin(track, part);
        self.tell(track.announcements(part, Origin::Cache));
    }

    /// Queues what is told in the place of a segment that is not to be had.
    pub(super) fn left_out(&mut self, track: &Track, part: &Part) {
        self.begin(track, part);
        let sequence = part.discontinuity_sequence;
        let discontinuity = HlsControl::Discontinuity { sequence };
        self.tell(part.discontinuity.then_some(discontinuity));
        self.tell([track.gap(part)]);
    }

    /// Tells which Variant Stream plays, once its first part is there: before that it is only a choice.
    fn begin(&mut self, track: &Track, part: &Part) {
        if std::mem::replace(&mut self.told, Told::Variant) != Told::Variant {
            self.tell([track.variant_applied()]);
        }
        if std::mem::take(&mut self.owes_discontinuity) && !part.discontinuity {
            let sequence = part.discontinuity_sequence;
            self.tell([HlsControl::Discontinuity { sequence }]);
        }
    }

    /// Another edition goes on, at this part.
    pub(super) fn change_edition(&mut self, first: Option<&Part>) {
        let time = first.map(Part::time).unwrap_or_default();
        self.change_variant();
        self.tell([HlsControl::EditionChanged { time }]);
    }

    /// Another Variant Stream goes on.
    pub(super) fn change_variant(&mut self) {
        if self.told == Told::Variant {
            (self.told, self.owes_discontinuity) = (Told::Earlier, true);
        }
    }

    /// All of the track is in the cache.
    pub(super) fn cached(&mut self) {
        self.queue.push_back(Message::Control(HlsControl::Cached));
    }

    /// Tells a bypass, if it is the first one.
    pub(super) fn bypass(&mut self, (resource, reason): Bypassed) {
        log::debug!("{resource} is not kept: {reason}");
        if std::mem::replace(&mut self.is_bypass_told, true) {
            return;
        }
        let control = HlsControl::CacheBypassed { resource, reason };
        // In front of the bytes that are queued: they may be of the resource. But behind the variant, which is always the
        // first message of a stream.
        let first = self.queue.front();
        let is_variant = matches!(first, Some(Message::Control(HlsControl::VariantApplied { .. })));
        self.queue
            .insert(usize::from(is_variant), Message::Control(control));
    }

    fn tell(&mut self, messages: impl IntoIterator<Item = HlsControl>) {
        self.queue.extend(messages.into_iter().map(Message::Control));
    }
}

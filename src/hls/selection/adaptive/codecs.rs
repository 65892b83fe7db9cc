//! How often the codec changes.

use std::time::Duration;

use super::super::situation::{Rung, Situation};

/// What two Variant Streams have in common if a decoder goes on from one to the other: the first letters of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Codec([u8; 4]);

impl Codec {
    /// Of the first format that CODECS names. `None` where it names none.
    pub(super) fn of(rung: &Rung) -> Option<Self> {
        let first = rung.codecs.as_deref()?.split(',').next()?.trim();
        // RFC 6381 puts MP3 under MPEG-4 audio. The kinds of AAC are one codec.
        let is_mp3 = ["mp4a.40.34", "mp4a.69", "mp4a.6b"];
        if is_mp3.iter().any(|name| first.eq_ignore_ascii_case(name)) {
            return Some(Self(*b"mp3 "));
        }
        let name = first.split('.').next().unwrap_or_default();
        let mut letters = [b' '; 4];
        for (letter, byte) in letters.iter_mut().zip(name.bytes()) {
            *letter = byte.to_ascii_lowercase();
        }
        (!name.is_empty()).then_some(Self(letters))
    }
}

/// Lets the codec change once in a while only: a change can be heard, and costs a new decoder.
#[derive(Debug, Clone, Default)]
pub(super) struct CodecGuard {
    /// The last one that was named.
    present: Option<Codec>,
    changed_at: Option<Duration>,
    changes: u32,
}

impl CodecGuard {
    /// Takes note of what plays. The player may have changed the codec itself, where a Variant Stream failed: that counts.
    pub(super) fn notice(&mut self, situation: &Situation<'_>) {
        if let Some(rung) = situation.current.and_then(|place| situation.ladder.get(place)) {
            self.take(situation.now, rung);
        }
    }

    /// Takes note of what was chosen.
    pub(super) fn take(&mut self, now: Duration, rung: &Rung) {
        if self.present.is_some() && self.is_other(rung) {
            self.changed_at = Some(now);
            self.changes = self.changes.saturating_add(1);
        }
        if let Some(codec) = Codec::of(rung) {
            self.present = Some(codec);
        }
    }

    /// Whether a Variant Stream is known to be of another codec than what plays.
    pub(super) fn is_other(&self, rung: &Rung) -> bool {
        match (self.present, Codec::of(rung)) {
            (Some(present), Some(codec)) => present != codec,
            _ => false,
        }
    }

    /// Whether there was one change, and no other before it.
    pub(super) fn has_changed_once(&self) -> bool {
        self.changes == 1
    }

    /// Whether the last change is so long ago, or there was none.
    pub(super) fn may_change(&self, now: Duration, seconds: f64) -> bool {
        self.changed_at
            .is_none_or(|changed| now.saturating_sub(changed).as_secs_f64() >= seconds)
    }
}

//! Where frames stand in a file of constant bit rate.

use super::CHECKED;
use crate::decode::demux::frames::{self, Frame, Kind};

/// A constant bit rate: every frame is as long as the others, give or take the byte that rounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constant {
    pub(super) kbits: u32,
    /// Where frame 0 begins.
    start: u64,
    /// The exact length of a frame is `bytes / per`.
    bytes: u64,
    per: u64,
}

impl Constant {
    /// The bytes of so many frames.
    pub(super) fn mean(self) -> (u64, u64) {
        (self.bytes, self.per)
    }

    pub(super) fn place(&self, number: u64) -> u64 {
        // From the start, and not from frame to frame: the byte that rounds comes where this says.
        let offset = u128::from(number) * u128::from(self.bytes) / u128::from(self.per);
        self.start
            .saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// The number of the frame at a place, if one can begin there.
    pub(super) fn number(&self, place: u64) -> Option<u64> {
        let offset = u128::from(place.checked_sub(self.start)?);
        let number = (offset * u128::from(self.per) + u128::from(self.bytes) / 2) / u128::from(self.bytes);
        let number = u64::try_from(number).ok()?;
        // Encoders round in their own way; a frame is hundreds of bytes long.
        (self.place(number).abs_diff(place) <= 2).then_some(number)
    }
}

/// A constant bit rate, if all frames seen have it.
pub(super) fn constant(
    kind: Kind,
    start: u64,
    seen: &[&Frame],
    sample_rate: u32,
    length: u64,
) -> Option<Constant> {
    let kbits = frames::kbits_of(&seen.first()?.data)?;
    let same = seen.len() >= CHECKED
        && seen
            .iter()
            .all(|frame| frames::kbits_of(&frame.data) == Some(kbits));
    (kind == Kind::Mpeg && same).then_some(Constant {
        kbits,
        start,
        bytes: length / 8 * 1000 * u64::from(kbits),
        per: u64::from(sample_rate).max(1),
    })
}

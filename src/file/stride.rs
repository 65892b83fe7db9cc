//! How much to ask for at once where little is wanted ahead of readers.
//!
//! After a jump nobody knows how long the reader stays. An answer without end would go on filling the system's buffers,
//! megabytes that the next jump throws away, and its connection with them. So a jump asks for what is wanted now; each
//! request that goes on where the last one ended asks for twice as much, and soon for the rest.

/// The least to ask for: a request costs more than so many bytes.
const LEAST: u64 = 64 * 1024;
/// Who has come so far reads on.
const MOST: u64 = 8 * 1024 * 1024;

/// What was asked for last.
#[derive(Debug, Default)]
pub(super) struct Stride {
    /// `None` as long as nobody jumps.
    len: Option<u64>,
    end: u64,
}

impl Stride {
    /// Where to let a request end that begins at `start`, `ahead` of a reader being wanted; not beyond `end`.
    pub(super) fn next(&mut self, is_jump: bool, start: u64, ahead: u64, end: Option<u64>) -> Option<u64> {
        let first = Some(ahead.max(LEAST));
        self.len = match self.len {
            _ if is_jump => first,
            Some(_) if start != self.end => first,
            len => len.map(|len| len.saturating_mul(2)),
        };
        self.len = self.len.filter(|len| *len <= MOST);
        let Some(len) = self.len else { return end };
        self.end = start.saturating_add(len).min(end.unwrap_or(u64::MAX));
        Some(self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    #[test]
    fn who_never_jumps_asks_for_all_of_it() {
        let mut stride = Stride::default();
        assert_eq!(stride.next(false, 0, 16 * KIB, None), None);
        assert_eq!(stride.next(false, MIB, 16 * KIB, Some(2 * MIB)), Some(2 * MIB));
    }

    #[test]
    fn a_jump_asks_for_little_and_who_stays_for_more_and_more() {
        let mut stride = Stride::default();
        let mut at = 100 * MIB;
        for part in [
            64 * KIB,
            128 * KIB,
            256 * KIB,
            512 * KIB,
            MIB,
            2 * MIB,
            4 * MIB,
            8 * MIB,
        ] {
            assert_eq!(stride.next(part == 64 * KIB, at, 16 * KIB, None), Some(at + part));
            at += part;
        }
        assert_eq!(stride.next(false, at, 16 * KIB, None), None);
        assert_eq!(stride.next(false, 0, 16 * KIB, None), None, "as before the jump");
    }

    #[test]
    fn a_jump_after_a_whole_answer_is_one_too() {
        let mut stride = Stride::default();
        assert_eq!(stride.next(true, 0, MIB, None), Some(MIB));
        assert_eq!(stride.next(false, 50 * MIB, MIB, None), Some(51 * MIB));
        assert_eq!(stride.next(false, 51 * MIB, MIB, None), Some(53 * MIB));
    }

    #[test]
    fn what_is_there_already_is_not_asked_for() {
        let mut stride = Stride::default();
        assert_eq!(stride.next(true, 0, MIB, Some(100 * KIB)), Some(100 * KIB));
        assert_eq!(stride.next(true, 0, 100 * MIB, Some(KIB)), Some(KIB));
        assert_eq!(stride.next(true, 0, 100 * MIB, None), None, "a long look-ahead");
    }
}

//! What of a file takes room on the disk: whole units, though a byte of each is written.
//!
//! ```text
//!   written         ├─┤          ├──────┤
//!   units      ├────────┼────────┼────────┼────────┤
//!   spans      ├────────┤        ├────────┤              two units, whatever was written into them
//! ```
//!
//! A file of many pieces takes a little more: the file system's list of where they lie ([`list_bytes`]).
//!
//! Counted in bytes written, a file that is jumped about in takes many times what is counted (fault W46). The same measure, of
//! the same file, is what the file system itself tells when the file is opened again.

use std::ops::Range;

use rangemap::RangeSet;

use crate::storage::durable::list_bytes;

/// The units of a file that were written to.
#[derive(Debug)]
pub(super) struct Spans {
    /// Bytes of a unit, at least one.
    unit: u64,
    taken: RangeSet<u64>,
    /// The most bytes that the list of the pieces took so far. It need not shrink when pieces grow together.
    list: u64,
}

impl Spans {
    pub(super) fn of(unit: u64, written: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut spans = Self {
            unit: unit.max(1),
            taken: RangeSet::new(),
            list: 0,
        };
        for range in written {
            spans.take(&range);
        }
        // What is there is measured by the file system, with its list.
        let _ = spans.grow_list();
        spans
    }

    /// Takes the units of `range`. Returns those that were free.
    pub(super) fn take(&mut self, range: &Range<u64>) -> Vec<Range<u64>> {
        let units = self.floor(range.start)..self.ceil(range.end);
        if range.is_empty() {
            return Vec::new();
        }
        let free = self.taken.gaps(&units).collect();
        self.taken.insert(units);
        free
    }

    /// Bytes that the list of the pieces takes beyond what it took.
    pub(super) fn grow_list(&mut self) -> u64 {
        let list = list_bytes(self.taken.len(), self.unit);
        let more = list.saturating_sub(self.list);
        self.list += more;
        more
    }

    /// Takes back a growth of the list that there was no room for.
    pub(super) fn shrink_list(&mut self, by: u64) {
        self.list = self.list.saturating_sub(by);
    }

    /// Frees those of `spans` that were to be written from `start` on, of which nothing from `end` on was.
    pub(super) fn free(&mut self, spans: &[Range<u64>], start: u64, end: u64) -> u64 {
        // The unit that the last written byte is in stays.
        let from = if end > start {
            self.ceil(end)
        } else {
            self.floor(end)
        };
        let mut freed = 0;
        for span in spans {
            let unwritten = span.start.max(from)..span.end;
            if !unwritten.is_empty() {
                freed += unwritten.end - unwritten.start;
                self.taken.remove(unwritten);
            }
        }
        freed
    }

    fn floor(&self, position: u64) -> u64 {
        position - position % self.unit
    }

    fn ceil(&self, position: u64) -> u64 {
        position.checked_next_multiple_of(self.unit).unwrap_or(u64::MAX)
    }
}

/// Bytes of `spans`.
pub(super) fn bytes(spans: &[Range<u64>]) -> u64 {
    spans.iter().map(|span| span.end - span.start).sum()
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one span is what is meant")]
mod tests {
    use super::*;

    /// W46, C33: a byte takes its unit, once.
    #[test]
    fn w46_a_byte_takes_its_unit_and_the_next_one_in_it_nothing() {
        let mut spans = Spans::of(4096, [0..10, 8192..8193]);
        assert_eq!(bytes(&spans.take(&(20..4096))), 0);
        assert_eq!(spans.take(&(4095..4097)), [4096..8192]);
        assert_eq!(bytes(&spans.take(&(0..12_288))), 0);
        assert_eq!(spans.take(&(20_000..30_000)), [16_384..32_768]);
        assert_eq!(spans.take(&(50_000..50_000)), []);
        assert_eq!(spans.take(&(u64::MAX - 1..u64::MAX)), [u64::MAX - 4095..u64::MAX]);
    }

    /// W46: the list of many pieces takes blocks too, and they are counted once.
    #[test]
    fn w46_the_list_of_many_pieces_counts() {
        let mut spans = Spans::of(4096, (0..4).map(|n| n * 8192..n * 8192 + 1));
        assert_eq!(spans.grow_list(), 0);
        spans.take(&(40_000..40_001));
        assert_eq!((spans.grow_list(), spans.grow_list()), (4096, 0));
        for n in 0..200 {
            spans.take(&(n * 8192..n * 8192 + 1));
        }
        assert_eq!(spans.grow_list(), 4096);
        spans.take(&(0..1 << 24));
        assert_eq!(spans.grow_list(), 0);
        assert_eq!(Spans::of(1, (0..300).map(|n| n * 2..n * 2 + 1)).grow_list(), 0);
    }

    /// W46: what was not written after all is free again, but for the unit that the last byte is in.
    #[test]
    fn w46_what_was_not_written_is_free_again() {
        let mut spans = Spans::of(4096, [0..10]);
        let taken = spans.take(&(100..20_000));
        assert_eq!(bytes(&taken), 16_384);
        assert_eq!(spans.free(&taken, 100, 100), 16_384);
        let taken = spans.take(&(5000..20_000));
        assert_eq!(spans.free(&taken, 5000, 5001), 12_288);
        assert_eq!(spans.take(&(5001..20_000)), [8192..20_480]);
        let taken = spans.take(&(40_000..50_000));
        assert_eq!(spans.free(&taken, 40_000, 45_056), 8192);
        let mut exact = Spans::of(1, []);
        let taken = exact.take(&(3..10));
        assert_eq!(exact.free(&taken, 3, 5), 5);
        assert_eq!(exact.take(&(0..10)), [0..3, 5..10]);
    }
}

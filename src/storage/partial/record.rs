//! The record beside a partial file: which of its bytes were on the disk before the record was written.
//!
//! ```text
//! "kithpart" | version u32 | end u64 (MAX: unknown) | tag length u32 | tag
//!            | runs u32 | (start u64, end u64, crc32 u32)* | crc32 of all before, u32       little-endian
//! ```

use rangemap::RangeSet;

use super::checksum::{Run, block_end};

/// The most bytes that a [tag](super::Writer::set_tag) may have.
pub const TAG_LIMIT: usize = 4096;

const MAGIC: [u8; 8] = *b"kithpart";
/// 2: no run goes on from one block into the next.
const VERSION: u32 = 2;
const RUN_BYTES: usize = 20;
/// More runs are not recorded, and their bytes are fetched again. Without holes this many are 8 GiB.
const RUNS_LIMIT: usize = 1 << 16;
/// A longer file is no record: nothing is allocated for it.
pub(super) const RECORD_LIMIT: usize = 64 + TAG_LIMIT + RUNS_LIMIT * RUN_BYTES;

/// What the next process knows of a partial file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) len: Option<u64>,
    pub(super) tag: Vec<u8>,
    /// Ascending and apart.
    pub(super) runs: Vec<(u64, Run)>,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        // What is left out is missing to the next process, and fetched again: less than the truth is safe, more is not.
        let runs = self.runs.get(..RUNS_LIMIT).unwrap_or(&self.runs);
        let mut out = Vec::with_capacity(64 + self.tag.len() + runs.len() * RUN_BYTES);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(self.len.unwrap_or(u64::MAX).to_le_bytes());
        // Both numbers are below their limits, far from `u32::MAX`.
        out.extend(u32::try_from(self.tag.len()).unwrap_or(0).to_le_bytes());
        out.extend(&self.tag);
        out.extend(u32::try_from(runs.len()).unwrap_or(0).to_le_bytes());
        for (start, run) in runs {
            out.extend(start.to_le_bytes());
            out.extend(run.end.to_le_bytes());
            out.extend(run.crc32.to_le_bytes());
        }
        // Over all before it: a record is torn if it was written in part, whatever part that is.
        out.extend(crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// The most bytes [`encode`](Self::encode) makes of this many runs.
    pub(super) fn encoded_bytes(runs: usize) -> u64 {
        (64 + TAG_LIMIT + runs.min(RUNS_LIMIT) * RUN_BYTES) as u64
    }

    /// `None` for anything but a whole, undamaged record: nothing of it is trusted then.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        // The checksum first: nothing of a torn or damaged record is looked at.
        let (body, check) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*check) {
            return None;
        }
        let mut rest = body;
        let mut record = Self::default();
        if take::<8>(&mut rest)? != MAGIC || u32::from_le_bytes(take(&mut rest)?) != VERSION {
            return None;
        }
        record.len = Some(u64::from_le_bytes(take(&mut rest)?)).filter(|len| *len != u64::MAX);
        let tag = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
        let (tag, mut rest) = rest.split_at_checked(tag)?;
        record.tag = tag.to_vec();
        let count = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
        // Before anything is allocated: the number must fit the bytes that are there.
        if rest.len() != count.checked_mul(RUN_BYTES)? {
            return None;
        }
        let mut reached = 0;
        for _ in 0..count {
            let start = u64::from_le_bytes(take(&mut rest)?);
            let end = u64::from_le_bytes(take(&mut rest)?);
            let crc32 = u32::from_le_bytes(take(&mut rest)?);
            // A checksum proves that the bytes are those that were written, not that an older version wrote them by today's
            // rules.
            let beyond = end > block_end(start) || record.len.is_some_and(|len| end > len);
            // Overlapping or empty runs would let one byte count twice, or a checksum cover nothing.
            if start < reached || end <= start || beyond {
                return None;
            }
            reached = end;
            record.runs.push((start, Run { end, crc32 }));
        }
        Some(record)
    }

    pub(super) fn present(&self) -> RangeSet<u64> {
        self.runs.iter().map(|(start, run)| *start..run.end).collect()
    }

    /// Where the last recorded byte ends.
    pub(super) fn reach(&self) -> u64 {
        self.runs.last().map_or(0, |(_, run)| run.end)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::checksum::BLOCK;
    use super::*;

    fn sample() -> Record {
        Record {
            len: Some(1000),
            tag: b"etag".to_vec(),
            runs: vec![(0, Run { end: 10, crc32: 1 }), (700, Run { end: 1000, crc32: 2 })],
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        assert_eq!(Record::decode(&sample().encode()), Some(sample()));
        assert_eq!(
            Record::decode(&Record::default().encode()),
            Some(Record::default())
        );
    }

    /// R3: a damaged record proves nothing.
    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let whole = sample().encode();
        for at in 0..whole.len() {
            assert_eq!(Record::decode(&whole[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(Record::decode(&flipped), None, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn runs_that_contradict_each_other_or_the_end_are_refused() {
        for runs in [
            vec![(5, Run { end: 5, crc32: 0 })],
            vec![(5, Run { end: 9, crc32: 0 }), (8, Run { end: 12, crc32: 0 })],
            vec![(900, Run { end: 1001, crc32: 0 })],
            // Version 1 had such.
            vec![(
                BLOCK as u64 - 1,
                Run {
                    end: BLOCK as u64 + 1,
                    crc32: 0,
                },
            )],
        ] {
            let len = sample().len.filter(|_| runs[0].0 < 1000);
            let record = Record {
                len,
                runs,
                ..sample()
            };
            assert_eq!(Record::decode(&record.encode()), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut lies = MAGIC.to_vec();
            lies.extend(VERSION.to_le_bytes());
            lies.extend(bytes);
            let check = crc32fast::hash(&lies);
            lies.extend(check.to_le_bytes());
            Record::decode(&lies);
        }
    }
}

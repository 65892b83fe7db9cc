//! CRC-32 of bytes that arrive in any order, block by block, so that a commit need not read the file again.

use std::collections::BTreeMap;

use crc32fast::Hasher;

/// Bytes that one checksum of a [`Payload`](super::Payload) covers; the last covers what is left.
pub const BLOCK: usize = 256 * 1024;

/// The runs of bytes written so far, each with the checksum of exactly its bytes. No run goes on from one block into the
/// next: what checks a file later reads no more than a block for a byte.
///
/// The writer alone owns it. It covers the bytes that are in the file, and no byte twice: only what is missing is
/// written, and what is in the file never goes missing again.
#[derive(Debug, Default, Clone)]
pub(super) struct Checksums {
    runs: BTreeMap<u64, Run>,
}

/// A stretch of bytes and its CRC-32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) end: u64,
    pub(super) crc32: u32,
}

/// Where the block that holds the byte at `offset` ends.
pub(super) fn block_end(offset: u64) -> u64 {
    (offset / BLOCK as u64 + 1).saturating_mul(BLOCK as u64)
}

impl Checksums {
    pub(super) fn from_runs(runs: impl IntoIterator<Item = (u64, Run)>) -> Self {
        Self {
            runs: runs.into_iter().collect(),
        }
    }

    pub(super) fn runs(&self) -> impl ExactSizeIterator<Item = (u64, Run)> {
        self.runs.iter().map(|(start, run)| (*start, *run))
    }

    /// Takes in `bytes` at `offset`, none of which is known yet.
    pub(super) fn add(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(block_end(offset) - offset).unwrap_or(BLOCK);
            let (part, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.add_to_block(offset, part);
            offset += part.len() as u64;
            bytes = rest;
        }
    }

    fn add_to_block(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let before = self
            .runs
            .range(..offset)
            .next_back()
            .filter(|(_, run)| run.end == offset && !offset.is_multiple_of(BLOCK as u64))
            .map(|(start, run)| (*start, run.crc32));
        let (start, seed) = before.unwrap_or((offset, 0));
        let mut hasher = Hasher::new_with_initial_len(seed, offset - start);
        hasher.update(bytes);
        let mut joined = end;
        if !end.is_multiple_of(BLOCK as u64)
            && let Some(next) = self.runs.remove(&end)
        {
            hasher.combine(&Hasher::new_with_initial_len(next.crc32, next.end - end));
            joined = next.end;
        }
        self.runs.insert(
            start,
            Run {
                end: joined,
                crc32: hasher.finalize(),
            },
        );
    }

    /// The checksums of the blocks of bytes `0..len`, if all of those are there and nothing else. No bytes are one block.
    pub(super) fn blocks(&self, len: u64) -> Option<Vec<u32>> {
        if len == 0 && self.runs.is_empty() {
            return Some(vec![Hasher::new().finalize()]);
        }
        let mut reached = 0;
        let mut sums = Vec::with_capacity(self.runs.len());
        for (start, run) in &self.runs {
            if *start != reached || run.end != block_end(*start).min(len) {
                return None;
            }
            reached = run.end;
            sums.push(run.crc32);
        }
        (reached == len).then_some(sums)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lengths about a block's, and others.
    fn len() -> impl Strategy<Value = usize> {
        let block = (1_usize..4, 0_usize..3).prop_map(|(blocks, about)| blocks * BLOCK + about - 1);
        prop_oneof![1_usize..400, block, 1..3 * BLOCK]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn pieces_in_any_order_add_up_to_the_checksums_of_the_blocks(
            len in len(),
            cuts in proptest::collection::btree_set(0_usize..4 * BLOCK, 0..12),
            borders in any::<[bool; 3]>(),
            order in any::<u64>(),
        ) {
            let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut cuts = cuts;
            for (n, cut) in borders.into_iter().enumerate() {
                if cut {
                    cuts.insert((n + 1) * BLOCK);
                }
            }
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| (1..len).contains(cut)).collect();
            cuts.push(len);
            let mut start = 0;
            let mut pieces: Vec<_> = cuts.iter().map(|end| std::mem::replace(&mut start, *end)..*end).collect();
            let mut order = order;
            let mut sums = Checksums::default();
            while !pieces.is_empty() {
                prop_assert_eq!(sums.blocks(len as u64), None);
                let piece = pieces.swap_remove(usize::try_from(order % pieces.len() as u64).unwrap());
                order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 1;
                sums.add(piece.start as u64, &bytes[piece]);
                for (start, run) in sums.runs() {
                    prop_assert!(run.end <= block_end(start));
                }
            }
            let blocks: Vec<u32> = bytes.chunks(BLOCK).map(crc32fast::hash).collect();
            prop_assert_eq!(sums.blocks(len as u64), Some(blocks));
            prop_assert_eq!(sums.blocks(len as u64 + 1), None);
            prop_assert_eq!(sums.blocks(len as u64 - 1), None);
        }
    }

    #[test]
    fn nothing_is_one_block_of_nothing() {
        assert_eq!(Checksums::default().blocks(0), Some(vec![0]));
        assert_eq!(Checksums::default().blocks(1), None);
    }
}

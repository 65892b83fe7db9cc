//! CRC-32 of bytes that arrive in any order, for each block, so that a commit need not read the file again.

use std::collections::{BTreeMap, BTreeSet};

use crc32fast::Hasher;

/// How many bytes one checksum of a [`Payload`] covers. The last one covers the rest. A reader that reads in steps of this
/// size, from a multiple of it, has each block verified in its own buffer, without a copy.
pub const BLOCK: usize = 128 * 1024;

/// What a commit hands to the maker of the footer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Payload {
    /// Length of the content in bytes.
    pub len: u64,
    /// CRC-32 (ISO-HDLC, as in gzip) of each [`BLOCK`] of the content as it was written; one at least.
    pub blocks: Vec<u32>,
}

/// The runs of bytes written so far, each with the checksum of exactly its bytes. No run goes on from one block into the
/// next, so that a verifier reads no more than a block for a byte.
///
/// It covers the bytes that are in the file, and no byte twice: only missing bytes are written. Bytes that are in the file go
/// missing again only if an earlier session recorded them and they are found damaged. Therefore a recorded run is never merged
/// with others: it can be forgotten alone.
#[derive(Debug, Default, Clone)]
pub(super) struct Checksums {
    runs: BTreeMap<u64, Run>,
    /// Where the runs of an earlier session start.
    recorded: BTreeSet<u64>,
}

/// Where a run of bytes ends, and its CRC-32.
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
    /// What an earlier session recorded.
    pub(super) fn recorded(runs: impl IntoIterator<Item = (u64, Run)>) -> Self {
        let runs: BTreeMap<_, _> = runs.into_iter().collect();
        Self {
            recorded: runs.keys().copied().collect(),
            runs,
        }
    }

    /// The recorded run that starts there is damaged.
    pub(super) fn forget(&mut self, start: u64) {
        // Only while it is still the recorded one: this session may have written a run there since.
        if self.recorded.remove(&start) {
            self.runs.remove(&start);
        }
    }

    pub(super) fn runs(&self) -> impl ExactSizeIterator<Item = (u64, Run)> {
        self.runs.iter().map(|(start, run)| (*start, *run))
    }

    /// Adds `bytes` at `offset`, none of which is known yet.
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
        // The run that ends where these bytes begin goes on with them, unless a block begins here, or an earlier session
        // recorded that run: it has to stay as it was recorded, to be forgotten alone.
        let before = self
            .runs
            .range(..offset)
            .next_back()
            .filter(|(_, run)| run.end == offset && !offset.is_multiple_of(BLOCK as u64))
            .filter(|(start, _)| !self.recorded.contains(start))
            .map(|(start, run)| (*start, run.crc32));
        let (start, seed) = before.unwrap_or((offset, 0));
        let mut hasher = Hasher::new_with_initial_len(seed, offset - start);
        hasher.update(bytes);
        // So does the run that begins where they end, by the same rule. Its bytes are not read again: two checksums combine.
        let mut joined = end;
        if !end.is_multiple_of(BLOCK as u64)
            && !self.recorded.contains(&end)
            && let Some(next) = self.runs.remove(&end)
        {
            hasher.combine(&Hasher::new_with_initial_len(next.crc32, next.end - end));
            joined = next.end;
        }
        if start == offset {
            // The bytes replace a recorded run that starts here and was lost. Were it still marked as recorded, a late
            // `forget` would take the new run away.
            self.recorded.remove(&start);
        }
        self.runs.insert(
            start,
            Run {
                end: joined,
                crc32: hasher.finalize(),
            },
        );
    }

    /// The checksums of the blocks of `0..len`, if exactly these bytes are covered. No bytes are one block.
    pub(super) fn blocks(&self, len: u64) -> Option<Vec<u32>> {
        if len == 0 && self.runs.is_empty() {
            return Some(vec![Hasher::new().finalize()]);
        }
        let (mut reached, mut sums, mut block) = (0, Vec::new(), Hasher::new());
        for (start, run) in &self.runs {
            // A hole, or bytes behind the end.
            if *start != reached || run.end > len {
                return None;
            }
            block.combine(&Hasher::new_with_initial_len(run.crc32, run.end - start));
            reached = run.end;
            if reached == len || reached.is_multiple_of(BLOCK as u64) {
                sums.push(std::mem::take(&mut block).finalize());
            }
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

    /// R3: a run that an earlier session recorded may be given up, and what comes in its place is summed anew.
    #[test]
    fn a_recorded_run_is_replaced_without_a_trace() {
        let bytes: Vec<u8> = (0..1000).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let run = |start: usize, end: usize| {
            let crc32 = crc32fast::hash(&bytes[start..end]);
            (
                start as u64,
                Run {
                    end: end as u64,
                    crc32,
                },
            )
        };
        let lies = |(start, run): (u64, Run)| {
            let crc32 = !run.crc32;
            (start, Run { crc32, ..run })
        };
        let whole = Some(vec![crc32fast::hash(&bytes)]);
        let mut sums = Checksums::recorded([run(0, 300), lies(run(400, 600))]);
        sums.add(300, &bytes[300..400]);
        sums.add(600, &bytes[600..]);
        assert_eq!(sums.runs().len(), 4, "a recorded run is not merged");
        assert_ne!(sums.blocks(1000), whole);
        sums.forget(400);
        sums.forget(600);
        assert_eq!(sums.blocks(1000), None);
        sums.add(500, &bytes[500..600]);
        sums.add(400, &bytes[400..500]);
        assert_eq!(sums.blocks(1000), whole);
        sums.forget(400);
        assert_eq!(sums.blocks(1000), whole, "it is this session's by now");
    }

    #[test]
    fn nothing_is_one_block_of_nothing() {
        assert_eq!(Checksums::default().blocks(0), Some(vec![0]));
        assert_eq!(Checksums::default().blocks(1), None);
    }
}

//! CRC-32 of bytes that arrive in any order, so that a commit need not read the file again.

use std::collections::BTreeMap;

use crc32fast::Hasher;

/// The runs of bytes written so far, each with the checksum of exactly its bytes.
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
    pub(super) fn add(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let before = self
            .runs
            .range(..offset)
            .next_back()
            .filter(|(_, run)| run.end == offset)
            .map(|(start, run)| (*start, run.crc32));
        let (start, seed) = before.unwrap_or((offset, 0));
        let mut hasher = Hasher::new_with_initial_len(seed, offset - start);
        hasher.update(bytes);
        let mut joined = end;
        if let Some(next) = self.runs.remove(&end) {
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

    /// The checksum of bytes `0..len`, if they are one run.
    pub(super) fn whole(&self, len: u64) -> Option<u32> {
        match self.runs.first_key_value() {
            None if len == 0 => Some(Hasher::new().finalize()),
            Some((0, run)) if run.end == len => Some(run.crc32),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_in_any_order_add_up_to_the_checksum_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 1..400),
            cuts in proptest::collection::btree_set(1_usize..400, 0..12),
            order in any::<u64>(),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            cuts.push(bytes.len());
            let mut start = 0;
            let mut pieces: Vec<_> = cuts.iter().map(|end| std::mem::replace(&mut start, *end)..*end).collect();
            let mut order = order;
            let mut sums = Checksums::default();
            while !pieces.is_empty() {
                let piece = pieces.swap_remove(usize::try_from(order % pieces.len() as u64).unwrap());
                order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 1;
                sums.add(piece.start as u64, &bytes[piece]);
            }
            prop_assert_eq!(sums.runs().len(), 1);
            prop_assert_eq!(sums.whole(bytes.len() as u64), Some(crc32fast::hash(&bytes)));
        }
    }
}

//! What vouches for bytes that this session did not write: the checksums that an earlier one left.
//!
//! The rule: a stretch of the file that has a checksum is read whole and found right before its first byte is given out.
//! That is done once: a byte that turns on the disk while the file is open, after its stretch was found right, is not seen.

use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crc32fast::Hasher;

use super::StreamingError;
use super::checksum::{BLOCK, Run};
use super::sparse::Sparse;

/// Why a read of the file gave no bytes.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The file itself.
    Failed(StreamingError),
    /// These bytes are not what was written, or cannot be read to see.
    Harmed {
        range: Range<u64>,
        error: StreamingError,
    },
    /// The byte was lost; who looks again whether it is present learns whether it has been replaced.
    Lost,
}

impl From<StreamingError> for Trouble {
    fn from(error: StreamingError) -> Self {
        Self::Failed(error)
    }
}

/// The stretches that have a checksum. None is longer than a [`BLOCK`].
pub(super) struct Checked {
    /// Ascending and apart.
    stretches: Vec<Stretch>,
    kept: Mutex<Kept>,
}

struct Stretch {
    start: u64,
    run: Run,
    state: AtomicU8,
}

/// Not read yet, or found wrong by somebody who left it there.
const UNSEEN: u8 = 0;
const RIGHT: u8 = 1;
/// Given up. What is there now this session has put there.
const LOST: u8 = 2;

/// Bytes that were checked last and not given out yet: who reads in order gets them from here, still warm.
#[derive(Default)]
struct Kept {
    start: u64,
    /// How much of the buffer that is.
    len: usize,
    buffer: Vec<u8>,
}

impl Checked {
    /// `None` if nothing is to be checked.
    pub(super) fn of_runs(runs: impl IntoIterator<Item = (u64, Run)>) -> Option<Self> {
        let stretches: Vec<_> = runs
            .into_iter()
            .map(|(start, run)| Stretch {
                start,
                run,
                state: AtomicU8::new(UNSEEN),
            })
            .collect();
        (!stretches.is_empty()).then(|| Self {
            stretches,
            kept: Mutex::default(),
        })
    }

    /// The blocks of a file of `len` bytes.
    pub(super) fn of_blocks(blocks: &[u32], len: u64) -> Option<Self> {
        let starts = (0..len).step_by(BLOCK);
        Self::of_runs(starts.zip(blocks).map(|(start, crc32)| {
            let end = len.min(start + BLOCK as u64);
            (start, Run { end, crc32: *crc32 })
        }))
    }

    /// The stretch that holds a byte, or where the next one starts.
    fn stretch(&self, offset: u64) -> Result<&Stretch, u64> {
        let after = self.stretches.partition_point(|stretch| stretch.start <= offset);
        let before = after.checked_sub(1).and_then(|at| self.stretches.get(at));
        before
            .filter(|stretch| offset < stretch.run.end)
            .ok_or_else(|| self.stretches.get(after).map_or(u64::MAX, |next| next.start))
    }

    /// Fills some of `buffer`, at least one byte. `looked`: that the bytes are present was seen after they had been lost.
    pub(super) fn read(
        &self,
        file: &Sparse,
        offset: u64,
        buffer: &mut [u8],
        looked: bool,
    ) -> Result<usize, Trouble> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_some(file, offset + filled as u64, rest, looked) {
                Ok(read) => filled += read,
                // Who reads on meets it again.
                Err(_) if filled > 0 => break,
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(filled)
    }

    /// As far as one stretch goes, or to the next.
    fn read_some(
        &self,
        file: &Sparse,
        offset: u64,
        buffer: &mut [u8],
        looked: bool,
    ) -> Result<usize, Trouble> {
        let stretch = self.stretch(offset);
        let end = stretch
            .as_ref()
            .map_or_else(|next| *next, |stretch| stretch.run.end);
        let room = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let room = room.min(buffer.len());
        let buffer = buffer.get_mut(..room).unwrap_or_default();
        let Ok(stretch) = stretch else {
            return Ok(file.read_some(offset, buffer)?);
        };
        match stretch.state.load(Ordering::Acquire) {
            LOST if !looked => Err(Trouble::Lost),
            LOST => Ok(file.read_some(offset, buffer)?),
            RIGHT => {
                let kept = mem::take(&mut *self.kept());
                let read = kept.give(offset, buffer);
                self.keep(kept);
                match read {
                    0 => Ok(file.read_some(offset, buffer)?),
                    read => Ok(read),
                }
            }
            _ => {
                let mut kept = mem::take(&mut *self.kept());
                let read = stretch.read(file, offset, buffer, &mut kept);
                self.keep(kept);
                read
            }
        }
    }

    pub(super) fn range(&self, offset: u64) -> Option<Range<u64>> {
        let stretch = self.stretch(offset).ok()?;
        Some(stretch.start..stretch.run.end)
    }

    /// Gives the stretch that starts there up; `false` if that was done before.
    pub(super) fn lose(&self, start: u64) -> bool {
        let stretch = self.stretch(start);
        stretch.is_ok_and(|stretch| stretch.state.swap(LOST, Ordering::AcqRel) != LOST)
    }

    /// Whether `bytes` are what the stretch that starts there has to be.
    pub(super) fn is_stretch(&self, start: u64, bytes: &[u8]) -> bool {
        self.stretch(start).is_ok_and(|stretch| {
            let len = stretch.run.end - start;
            stretch.start == start && len == bytes.len() as u64 && stretch.run.crc32 == crc32fast::hash(bytes)
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // It is taken out and put back whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, kept: Kept) {
        let stale = mem::replace(&mut *self.kept(), kept);
        drop(stale);
    }
}

impl Stretch {
    /// Reads all of the stretch and gives out what is wanted of it: the beginning goes where it is wanted at once.
    fn read(&self, file: &Sparse, offset: u64, buffer: &mut [u8], kept: &mut Kept) -> Result<usize, Trouble> {
        let harmed = |error| Trouble::Harmed {
            range: self.start..self.run.end,
            error,
        };
        let at_once = if offset == self.start { buffer.len() } else { 0 };
        let first = buffer.get_mut(..at_once).unwrap_or_default();
        file.read_exact(self.start, first).map_err(harmed)?;
        let rest = self.start + at_once as u64;
        // No longer than a block.
        let len = usize::try_from(self.run.end - rest).unwrap_or_default();
        kept.len = 0;
        kept.buffer.resize(len, 0);
        file.read_exact(rest, &mut kept.buffer).map_err(harmed)?;
        let mut hasher = Hasher::new();
        hasher.update(first);
        hasher.update(&kept.buffer);
        if hasher.finalize() != self.run.crc32 {
            return Err(harmed(file.damaged(self.start..self.run.end)));
        }
        // Whoever found it wrong a moment ago has told others.
        let seen = self
            .state
            .compare_exchange(UNSEEN, RIGHT, Ordering::AcqRel, Ordering::Acquire);
        if seen == Err(LOST) {
            return Err(Trouble::Lost);
        }
        (kept.start, kept.len) = (rest, len);
        Ok(if at_once > 0 {
            at_once
        } else {
            kept.give(offset, buffer)
        })
    }
}

impl Kept {
    /// How many bytes were here to be copied.
    fn give(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let within = offset
            .checked_sub(self.start)
            .and_then(|at| usize::try_from(at).ok());
        let there = within.and_then(|at| self.buffer.get(..self.len)?.get(at..));
        let from = there.unwrap_or_default();
        let count = from.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), from.get(..count)) {
            to.copy_from_slice(from);
        }
        count
    }
}

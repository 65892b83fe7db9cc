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
use super::file::NamedFile;

/// Why a read of the file gave no bytes.
#[derive(Debug)]
pub(super) enum ReadFault {
    /// The file itself.
    Failed(StreamingError),
    /// These bytes are not what was written, or cannot be read to see.
    Damaged {
        range: Range<u64>,
        error: StreamingError,
    },
    /// The byte was lost; who looks again whether it is present learns whether it has been replaced.
    Lost,
}

impl From<StreamingError> for ReadFault {
    fn from(error: StreamingError) -> Self {
        Self::Failed(error)
    }
}

/// The runs that have a checksum. None is longer than a [`BLOCK`].
pub(super) struct Verifier {
    /// Ascending and apart.
    runs: Vec<CheckedRun>,
    tail: Mutex<Tail>,
}

struct CheckedRun {
    start: u64,
    run: Run,
    state: AtomicU8,
}

/// Not read yet, or found wrong by somebody who left it there.
const UNVERIFIED: u8 = 0;
const VERIFIED: u8 = 1;
/// Given up. What is there now this session has put there.
const LOST: u8 = 2;

/// Bytes that were checked last and not given out yet: who reads in order gets them from here, still warm.
#[derive(Default)]
struct Tail {
    start: u64,
    /// How much of the buffer that is.
    len: usize,
    buffer: Vec<u8>,
}

impl Verifier {
    /// `None` if nothing is to be checked.
    pub(super) fn of_runs(runs: impl IntoIterator<Item = (u64, Run)>) -> Option<Self> {
        let runs: Vec<_> = runs
            .into_iter()
            .map(|(start, run)| CheckedRun {
                start,
                run,
                state: AtomicU8::new(UNVERIFIED),
            })
            .collect();
        (!runs.is_empty()).then(|| Self {
            runs,
            tail: Mutex::default(),
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
    fn run_at(&self, offset: u64) -> Result<&CheckedRun, u64> {
        let after = self.runs.partition_point(|stretch| stretch.start <= offset);
        let before = after.checked_sub(1).and_then(|at| self.runs.get(at));
        before
            .filter(|stretch| offset < stretch.run.end)
            .ok_or_else(|| self.runs.get(after).map_or(u64::MAX, |next| next.start))
    }

    /// Fills some of `buffer`, at least one byte. `seen_after_loss`: that the bytes are present was seen after they had been lost.
    pub(super) fn read(
        &self,
        file: &NamedFile,
        offset: u64,
        buffer: &mut [u8],
        seen_after_loss: bool,
    ) -> Result<usize, ReadFault> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_some(file, offset + filled as u64, rest, seen_after_loss) {
                Ok(read) => filled += read,
                // Who reads on meets it again.
                Err(_) if filled > 0 => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(filled)
    }

    /// As far as one stretch goes, or to the next.
    fn read_some(
        &self,
        file: &NamedFile,
        offset: u64,
        buffer: &mut [u8],
        seen_after_loss: bool,
    ) -> Result<usize, ReadFault> {
        let stretch = self.run_at(offset);
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
            LOST if !seen_after_loss => Err(ReadFault::Lost),
            LOST => Ok(file.read_some(offset, buffer)?),
            VERIFIED => {
                let tail = mem::take(&mut *self.tail());
                let read = tail.copy_to(offset, buffer);
                self.put_back(tail);
                match read {
                    0 => Ok(file.read_some(offset, buffer)?),
                    read => Ok(read),
                }
            }
            _ => {
                let mut tail = mem::take(&mut *self.tail());
                let read = stretch.read(file, offset, buffer, &mut tail);
                self.put_back(tail);
                read
            }
        }
    }

    pub(super) fn range(&self, offset: u64) -> Option<Range<u64>> {
        let stretch = self.run_at(offset).ok()?;
        Some(stretch.start..stretch.run.end)
    }

    /// Gives the stretch that starts there up; `false` if that was done before.
    pub(super) fn lose(&self, start: u64) -> bool {
        let stretch = self.run_at(start);
        stretch.is_ok_and(|stretch| stretch.state.swap(LOST, Ordering::AcqRel) != LOST)
    }

    /// Whether `bytes` are what the stretch that starts there has to be.
    pub(super) fn matches_checksum(&self, start: u64, bytes: &[u8]) -> bool {
        self.run_at(start).is_ok_and(|stretch| {
            let len = stretch.run.end - start;
            stretch.start == start && len == bytes.len() as u64 && stretch.run.crc32 == crc32fast::hash(bytes)
        })
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // It is taken out and put back whole.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_back(&self, tail: Tail) {
        let stale = mem::replace(&mut *self.tail(), tail);
        drop(stale);
    }
}

impl CheckedRun {
    /// Reads all of the stretch and gives out what is wanted of it: the beginning goes where it is wanted at once.
    fn read(
        &self,
        file: &NamedFile,
        offset: u64,
        buffer: &mut [u8],
        tail: &mut Tail,
    ) -> Result<usize, ReadFault> {
        let fault = |error| ReadFault::Damaged {
            range: self.start..self.run.end,
            error,
        };
        let at_once = if offset == self.start { buffer.len() } else { 0 };
        let first = buffer.get_mut(..at_once).unwrap_or_default();
        file.read_exact(self.start, first).map_err(fault)?;
        let rest = self.start + at_once as u64;
        // No longer than a block.
        let len = usize::try_from(self.run.end - rest).unwrap_or_default();
        tail.len = 0;
        tail.buffer.resize(len, 0);
        file.read_exact(rest, &mut tail.buffer).map_err(fault)?;
        let mut hasher = Hasher::new();
        hasher.update(first);
        hasher.update(&tail.buffer);
        if hasher.finalize() != self.run.crc32 {
            return Err(fault(file.damaged(self.start..self.run.end)));
        }
        // Whoever found it wrong a moment ago has told others.
        let seen = self
            .state
            .compare_exchange(UNVERIFIED, VERIFIED, Ordering::AcqRel, Ordering::Acquire);
        if seen == Err(LOST) {
            return Err(ReadFault::Lost);
        }
        (tail.start, tail.len) = (rest, len);
        Ok(if at_once > 0 {
            at_once
        } else {
            tail.copy_to(offset, buffer)
        })
    }
}

impl Tail {
    /// How many bytes were here to be copied.
    fn copy_to(&self, offset: u64, buffer: &mut [u8]) -> usize {
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

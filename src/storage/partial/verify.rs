//! Verifying bytes that this session did not write, against the checksums that an earlier one left.
//!
//! The rule: a run of bytes that has a checksum is read whole and compared before its first byte is given out. That is done
//! once. A byte that the disk changes later, while the file is open, is not seen.

use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crc32fast::Hasher;

use super::checksum::{BLOCK, Run};
use super::error::StreamingError;
use super::file::NamedFile;

/// Why a read of the file gave no bytes.
#[derive(Debug)]
pub(super) enum ReadFault {
    /// The file itself failed.
    Failed(StreamingError),
    /// These bytes are not what was written, or cannot be read to compare them.
    Damaged {
        range: Range<u64>,
        error: StreamingError,
    },
    /// The byte was lost before. The caller asks the presence again: it may have been replaced.
    Lost,
}

impl From<StreamingError> for ReadFault {
    fn from(error: StreamingError) -> Self {
        Self::Failed(error)
    }
}

/// The runs that have a checksum. None is longer than a [`BLOCK`].
pub(super) struct Verifier {
    /// Ascending, not overlapping.
    runs: Vec<CheckedRun>,
    tail: Mutex<Tail>,
}

struct CheckedRun {
    start: u64,
    run: Run,
    state: AtomicU8,
}

/// Not read yet, or found wrong by a reader that left it present.
const UNVERIFIED: u8 = 0;
/// Read whole and found right.
const VERIFIED: u8 = 1;
/// Given up. Bytes that are present there now were put there by this session.
const LOST: u8 = 2;

/// The bytes of the run that was verified last, behind those given out at once. A reader that reads in order takes them from
/// here: the file need not be read twice.
#[derive(Default)]
struct Tail {
    start: u64,
    /// How much of the buffer that is.
    len: usize,
    buffer: Vec<u8>,
}

impl Verifier {
    /// `None` if there is nothing to verify.
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

    /// The run that has a byte, or where the next run starts.
    fn run_at(&self, offset: u64) -> Result<&CheckedRun, u64> {
        let next = self.runs.partition_point(|run| run.start <= offset);
        let before = next.checked_sub(1).and_then(|at| self.runs.get(at));
        before
            .filter(|run| offset < run.run.end)
            .ok_or_else(|| self.runs.get(next).map_or(u64::MAX, |next| next.start))
    }

    /// Fills some of `buffer`, at least one byte. `seen_after_loss`: the bytes were seen present after they had been lost.
    pub(super) fn read(
        &self,
        file: &NamedFile,
        offset: u64,
        buffer: &mut [u8],
        seen_after_loss: bool,
    ) -> Result<usize, ReadFault> {
        let mut filled = 0;
        // Run by run, as each has a checksum of its own. Decoders read less than a block, and go round once.
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_some(file, offset + filled as u64, rest, seen_after_loss) {
                Ok(read) => filled += read,
                // The next read meets it again.
                Err(_) if filled > 0 => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(filled)
    }

    /// Reads to the end of one run, or up to the next.
    fn read_some(
        &self,
        file: &NamedFile,
        offset: u64,
        buffer: &mut [u8],
        seen_after_loss: bool,
    ) -> Result<usize, ReadFault> {
        let run = self.run_at(offset);
        let end = run.as_ref().map_or_else(|next| *next, |run| run.run.end);
        let room = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let room = room.min(buffer.len());
        let buffer = buffer.get_mut(..room).unwrap_or_default();
        // Bytes without a checksum were written by this session.
        let Ok(run) = run else {
            return Ok(file.read_some(offset, buffer)?);
        };
        match run.state.load(Ordering::Acquire) {
            // Seen present before the loss: the file may still have the damaged bytes.
            LOST if !seen_after_loss => Err(ReadFault::Lost),
            LOST => Ok(file.read_some(offset, buffer)?),
            VERIFIED => {
                // Another reader that comes meanwhile finds an empty tail, and reads the file.
                let tail = mem::take(&mut *self.tail());
                let read = tail.copy_to(offset, buffer);
                self.put_back(tail);
                match read {
                    0 => Ok(file.read_some(offset, buffer)?),
                    read => Ok(read),
                }
            }
            _ => {
                // Taken out, so that the lock is not held while the disk works.
                let mut tail = mem::take(&mut *self.tail());
                let read = run.read(file, offset, buffer, &mut tail);
                self.put_back(tail);
                read
            }
        }
    }

    pub(super) fn range(&self, offset: u64) -> Option<Range<u64>> {
        let run = self.run_at(offset).ok()?;
        Some(run.start..run.run.end)
    }

    /// Gives up the run that starts there. `false` if that was done before.
    pub(super) fn lose(&self, start: u64) -> bool {
        let run = self.run_at(start);
        run.is_ok_and(|run| run.state.swap(LOST, Ordering::AcqRel) != LOST)
    }

    /// Whether `bytes` are the run that starts there, by its checksum.
    pub(super) fn matches_checksum(&self, start: u64, bytes: &[u8]) -> bool {
        self.run_at(start).is_ok_and(|run| {
            let len = run.run.end - start;
            run.start == start && len == bytes.len() as u64 && run.run.crc32 == crc32fast::hash(bytes)
        })
    }

    /// Poison is ignored: the tail is taken out and put back whole.
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_back(&self, tail: Tail) {
        let stale = mem::replace(&mut *self.tail(), tail);
        drop(stale);
    }
}

impl CheckedRun {
    /// Reads the whole run and gives out what is wanted of it. If it is wanted from its start, that part is read into the
    /// caller's buffer directly, and only the rest into the tail.
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
        // Not valid until the checksum is right.
        tail.len = 0;
        tail.buffer.resize(len, 0);
        file.read_exact(rest, &mut tail.buffer).map_err(fault)?;
        let mut hasher = Hasher::new();
        hasher.update(first);
        hasher.update(&tail.buffer);
        if hasher.finalize() != self.run.crc32 {
            return Err(fault(file.damaged(self.start..self.run.end)));
        }
        // Another reader may have found it wrong a moment ago (a disk can answer differently twice), and may have had it
        // given up. A plain store would take that back.
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
    /// Copies what it has from `offset` on, and answers how many bytes that were.
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

//! What all handles of a resource share: the presence, the file, and what one writer leaves to the next.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use snafu::ResultExt;

use super::checksum::Checksums;
use super::error::{CommittedSnafu, DiscardedSnafu, IoSnafu, TakenSnafu};
use super::held::Held;
use super::presence::Presence;
use super::progress::Record;
use super::recorder::Recorder;
use super::sparse::Sparse;
use super::state::{Ahead, RoleRefused};
use super::{Budget, Found, StreamingError};

pub(super) struct Inner<E> {
    pub(super) presence: Presence<E>,
    pub(super) file: Sparse,
    pub(super) held: Held,
    pub(super) target: PathBuf,
    pub(super) checkpoint_every: u64,
    pub(super) budget: Option<Arc<dyn Budget>>,
    pub(super) desk: Mutex<Desk>,
    pub(super) recorder: Mutex<Recorder>,
}

/// What a writer leaves to the next one.
pub(super) struct Desk {
    pub(super) sums: Checksums,
    pub(super) tag: Vec<u8>,
    /// Bytes written since the last checkpoint.
    pub(super) unsynced: u64,
    pub(super) checkpoints: u64,
}

impl Desk {
    pub(super) fn resume(record: Record) -> Self {
        Self {
            sums: Checksums::from_runs(record.runs),
            tag: record.tag,
            unsynced: 0,
            checkpoints: 0,
        }
    }
}

impl<E> Inner<E> {
    pub(super) fn role(&self, taken: Result<(), RoleRefused>) -> Result<(), StreamingError> {
        let path = &self.target;
        match taken {
            Ok(()) => Ok(()),
            Err(RoleRefused::Taken) => TakenSnafu { path }.fail(),
            Err(RoleRefused::Complete) => CommittedSnafu { path }.fail(),
            Err(RoleRefused::Discarded) => DiscardedSnafu { path }.fail(),
        }
    }

    pub(super) fn refuse_committed(&self) -> Result<(), StreamingError> {
        if self.presence.is_complete() {
            CommittedSnafu { path: &self.target }.fail()
        } else {
            Ok(())
        }
    }

    /// Reads what lies `ahead` of `offset`.
    pub(super) fn read(&self, ahead: Ahead, offset: u64, buffer: &mut [u8]) -> Result<Found, StreamingError> {
        self.held.read(&self.presence, &self.file, ahead, offset, buffer)
    }

    /// Poison is ignored: each step under this lock leaves the desk whole.
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Poison is ignored: each step under this lock ends with its own flag set.
    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `bytes`, none of which is present, piece by piece, so that readers see the first soon.
    pub(super) fn write_missing(&self, mut offset: u64, bytes: &[u8]) -> Result<(), StreamingError> {
        const PIECE: usize = 256 * 1024;
        self.reserve(bytes.len() as u64)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = rest.get(..PIECE).unwrap_or(rest);
            let written = match self.file.write_at(offset, piece) {
                Ok(written) => written,
                Err(error) => {
                    self.release(rest.len() as u64);
                    return Err(error);
                }
            };
            let (done, left) = rest.split_at_checked(written).unwrap_or((rest, &[]));
            let end = offset + done.len() as u64;
            {
                let mut desk = self.desk();
                desk.sums.add(offset, done);
                desk.unsynced += done.len() as u64;
            }
            self.presence.insert(offset..end);
            offset = end;
            rest = left;
        }
        Ok(())
    }

    pub(super) fn reserve(&self, bytes: u64) -> Result<(), StreamingError> {
        let reserved = self
            .budget
            .as_ref()
            .map_or(Ok(()), |budget| budget.reserve(bytes));
        reserved.context(IoSnafu {
            action: "make room for",
            path: &self.target,
        })
    }

    pub(super) fn release(&self, bytes: u64) {
        if let Some(budget) = &self.budget {
            budget.release(bytes);
        }
    }
}

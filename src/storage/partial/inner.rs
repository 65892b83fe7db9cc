//! What all handles of a resource share: the presence, the file, and what one writer leaves to the next.
//!
//! ```text
//!   lock            taken by                         held for
//!   memory pieces   readers, the writer              a few steps
//!   presence        all                              a few steps, no I/O
//!   writer state    the writer, readers that lose    a few steps
//!   recorder        checkpoints, commits             the work of the disk; readers never wait for it
//! ```
//!
//! The first three are taken in this order: one of them is never asked for under one that stands below it.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use snafu::OptionExt;

use super::checksum::{Checksums, Payload};
use super::error::{CommittedSnafu, DiscardedSnafu, IncompleteSnafu, StreamingError, TakenSnafu};
use super::fetcher::{Fetcher, Turn};
use super::file::NamedFile;
use super::memory::MemoryPieces;
use super::options::Budget;
use super::presence::{Loss, Presence};
use super::record::Record;
use super::recorder::Recorder;
use super::spans::{self, Spans};
use super::state::{Ahead, RoleRefused};
use super::status::Found;
use super::verify::ReadFault;
use crate::storage::damage::DamageCallback;

/// Bytes that came in a row are written together, up to a multiple of this offset in the file. A page cache that is filled in
/// long, aligned steps is read a fifth faster later on, and costs less to fill (a tenth of a download's time, compared with
/// half as much; `cargo bench --bench file --features file -- throughput`). Twice as much fills it no faster.
pub(super) const STEP: u64 = 1024 * 1024;

/// Called with the error for each range that is lost, on the reading thread, with no lock held.
pub(crate) type RepairCallback = Box<dyn Fn(StreamingError) + Send + Sync>;

/// What is set when a resource is opened.
pub(super) struct Settings {
    pub(super) target: PathBuf,
    pub(super) checkpoint_every: u64,
    pub(super) budget: Option<Arc<dyn Budget>>,
    /// Called for damage to a complete resource.
    pub(super) on_damage: DamageCallback,
    /// In what units a file takes room on the disk, in bytes.
    pub(super) unit: u64,
}

pub(super) struct Inner<E> {
    pub(super) presence: Presence<E>,
    pub(super) file: NamedFile,
    pub(super) memory: MemoryPieces,
    pub(super) settings: Settings,
    /// Whether missing bytes come in their order only.
    pub(super) is_sequential: AtomicBool,
    /// Fetches what a complete resource has lost. Without it the reader gets the error.
    pub(super) repair: OnceLock<RepairCallback>,
    /// Brings what is missing, if reading threads may run it.
    fetcher: Mutex<Option<Weak<dyn Fetcher>>>,
    writer_state: Mutex<WriterState>,
    recorder: Mutex<Recorder>,
}

/// What a writer leaves to the next one.
pub(super) struct WriterState {
    pub(super) sums: Checksums,
    pub(super) tag: Vec<u8>,
    /// Present, and not written yet: in the order in which they came.
    pub(super) unwritten: VecDeque<UnwrittenRun>,
    /// What of the file is paid for with the budget.
    spans: Spans,
    /// Bytes written since the last checkpoint.
    pub(super) unsynced: u64,
    pub(super) checkpoints: u64,
}

/// A run of bytes in the order in which they came. Each part is a memory piece.
#[derive(Default)]
pub(super) struct UnwrittenRun {
    start: u64,
    len: u64,
    parts: Vec<Bytes>,
}

impl UnwrittenRun {
    pub(super) fn end(&self) -> u64 {
        self.start + self.len
    }

    pub(super) fn begin(start: u64) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    /// Adds what follows the run.
    pub(super) fn push(&mut self, part: Bytes) {
        self.len += part.len() as u64;
        self.parts.push(part);
    }
}

impl<E> Inner<E> {
    pub(super) fn new(
        settings: Settings,
        presence: Presence<E>,
        file: NamedFile,
        recorder: Recorder,
        record: Record,
    ) -> Self {
        let spans = Spans::of(
            settings.unit,
            record.runs.iter().map(|(start, run)| *start..run.end),
        );
        Self {
            presence,
            file,
            memory: MemoryPieces::default(),
            settings,
            is_sequential: AtomicBool::new(false),
            repair: OnceLock::new(),
            fetcher: Mutex::default(),
            writer_state: Mutex::new(WriterState {
                sums: Checksums::recorded(record.runs),
                tag: record.tag,
                unwritten: VecDeque::new(),
                spans,
                unsynced: 0,
                checkpoints: 0,
            }),
            recorder: Mutex::new(recorder),
        }
    }

    pub(super) fn role(&self, taken: Result<(), RoleRefused>) -> Result<(), StreamingError> {
        let path = &self.settings.target;
        match taken {
            Ok(()) => Ok(()),
            Err(RoleRefused::Taken) => TakenSnafu { path }.fail(),
            Err(RoleRefused::Complete) => CommittedSnafu { path }.fail(),
            Err(RoleRefused::Discarded) => DiscardedSnafu { path }.fail(),
        }
    }

    pub(super) fn refuse_committed(&self) -> Result<(), StreamingError> {
        if self.presence.is_complete() {
            let path = &self.settings.target;
            CommittedSnafu { path }.fail()
        } else {
            Ok(())
        }
    }

    /// Poison is ignored: each step under this lock leaves the state whole.
    pub(super) fn writer_state(&self) -> MutexGuard<'_, WriterState> {
        self.writer_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Poison is ignored: each step under this lock ends with its own flag set.
    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Running the fetcher.

    /// Poison is ignored: the lock guards one pointer.
    #[cfg_attr(not(feature = "file"), allow(dead_code, reason = "`file` has a fetcher"))]
    pub(super) fn set_fetcher(&self, fetcher: Weak<dyn Fetcher>) {
        *self.fetcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(fetcher);
    }

    /// The right to run the fetcher, if there is one that this thread may run.
    #[cfg_attr(not(feature = "io"), allow(dead_code, reason = "`io` reads"))]
    pub(super) fn take_turn(&self) -> Option<Turn> {
        // Complete, it has no fetcher: replay is spared the lock.
        if self.presence.is_finished() {
            return None;
        }
        let fetcher = {
            let fetcher = self.fetcher.lock().unwrap_or_else(PoisonError::into_inner);
            fetcher.as_ref()?.upgrade()?
        };
        // Not under the lock: the fetcher may wake its driver.
        Turn::take(fetcher)
    }

    // Reading.

    /// Reads what is present at `offset`.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<Found, StreamingError> {
        if buffer.is_empty() {
            return Ok(Found::Bytes(0));
        }
        let ahead = self.presence.ahead(offset, buffer.len() as u64);
        self.read(ahead, offset, buffer)
    }

    /// Reads what lies `ahead` of `offset`.
    pub(super) fn read(
        &self,
        mut ahead: Ahead,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<Found, StreamingError> {
        let mut seen_after_loss = false;
        loop {
            let (presence, file) = (&self.presence, &self.file);
            let read = self
                .memory
                .read(presence, file, ahead, offset, buffer, seen_after_loss);
            match read {
                Ok(found) => return Ok(found),
                Err(ReadFault::Failed(error)) => return Err(error),
                Err(ReadFault::Damaged { range, error }) => self.lose(range, error)?,
                Err(ReadFault::Lost) => {}
            }
            // What was seen present before the loss may be the lost bytes. What is seen present after it is not: either the
            // loss was refused, or the bytes were replaced.
            seen_after_loss = true;
            ahead = presence.ahead(offset, buffer.len() as u64);
        }
    }

    /// Counts `range`, which cannot be read as it was written, as missing, if a fetcher can replace it.
    fn lose(&self, range: Range<u64>, error: StreamingError) -> Result<(), StreamingError> {
        // Runs under the lock of presence, and takes the writer state's. The other order would deadlock: the writer never
        // asks for presence while it has its state locked.
        let first = || {
            let first = self.file.lose(range.start);
            if first {
                self.writer_state().sums.forget(range.start);
            }
            first
        };
        let repair = self.repair.get();
        match self.presence.lose(range.clone(), repair.is_some(), first) {
            Loss::Refused => {
                self.report_damage(&error);
                return Err(error);
            }
            Loss::Known => {}
            Loss::New => {
                if let Some(repair) = repair {
                    self.report_damage(&error);
                    repair(error);
                }
            }
        }
        Ok(())
    }

    fn report_damage(&self, error: &StreamingError) {
        if error.is_damaged() {
            self.settings.on_damage.call();
        }
    }

    // Writing.

    /// Writes `bytes`, none of which is present, in pieces, so that readers see the first ones soon.
    pub(super) fn write_missing(&self, mut offset: u64, bytes: &[u8]) -> Result<(), StreamingError> {
        const PIECE: usize = 256 * 1024;
        // Before the first byte is written: the space has to be set aside before the file takes it.
        let start = offset;
        let paid = self.pay(start..start + bytes.len() as u64)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = rest.get(..PIECE).unwrap_or(rest);
            let written = match self.file.write_at(offset, piece) {
                Ok(written) => written,
                // What was written before stays, and stays paid for.
                Err(error) => {
                    self.pay_back(&paid, start, offset);
                    return Err(error);
                }
            };
            let (done, left) = rest.split_at_checked(written).unwrap_or((rest, &[]));
            let end = offset + done.len() as u64;
            {
                let mut state = self.writer_state();
                state.sums.add(offset, done);
                state.unsynced += done.len() as u64;
            }
            // Last: what is present can be read, and is in the checksums that a checkpoint records.
            self.presence.insert(offset..end);
            offset = end;
            rest = left;
        }
        Ok(())
    }

    /// Takes the bytes of `gap`, none of which is present, out of `parts`, which follow each other from `offset`. They are
    /// present at once, and written by [`flush`](Self::flush), or if `may_write`, here where they fill a step.
    pub(super) fn put_missing(
        &self,
        gap: Range<u64>,
        offset: u64,
        parts: &[Bytes],
        may_write: bool,
    ) -> Result<(), StreamingError> {
        let mut pieces = Vec::new();
        let mut start = offset;
        for part in parts {
            let end = start + part.len() as u64;
            let mut at = start.max(gap.start);
            while at < end.min(gap.end) {
                let stop = end.min(gap.end).min((at / STEP + 1) * STEP);
                // Within the part, whose length is a `usize`.
                let within = |position: u64| usize::try_from(position - start).unwrap_or(usize::MAX);
                let piece = part.slice(within(at)..within(stop));
                pieces.push((at, piece));
                at = stop;
            }
            start = end;
        }
        // Readers get the bytes from memory before a write is tried: a slow disk delays none of them.
        self.memory.take_in(&self.presence, gap, &pieces);
        for (at, piece) in pieces {
            let follows = |state: &WriterState| state.unwritten.back().is_none_or(|run| run.end() == at);
            // One run at a time. A jump writes the run that it leaves.
            if may_write && !follows(&self.writer_state()) {
                self.flush()?;
            }
            let end = at + piece.len() as u64;
            {
                let unwritten = &mut self.writer_state().unwritten;
                if let Some(run) = unwritten.back_mut().filter(|run| run.end() == at) {
                    run.push(piece);
                } else {
                    let mut run = UnwrittenRun::begin(at);
                    run.push(piece);
                    unwritten.push_back(run);
                }
            }
            if may_write && end.is_multiple_of(STEP) {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes the unwritten runs. What cannot be written stays in memory, and is not tried again.
    pub(super) fn flush(&self) -> Result<(), StreamingError> {
        // Taken out: the lock is not held while the disk works, and after an error no run is written again.
        let runs = std::mem::take(&mut self.writer_state().unwritten);
        runs.into_iter().try_for_each(|run| self.write_run(run))
    }

    fn write_run(&self, run: UnwrittenRun) -> Result<(), StreamingError> {
        let UnwrittenRun { start, len, parts } = run;
        let paid = self.pay(start..start + len)?;
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        let mut at = start;
        while at < start + len {
            match self.file.write_parts_at(at, left) {
                Ok(written) => {
                    IoSlice::advance_slices(&mut left, written);
                    at += written as u64;
                }
                // What is in the file so far counts as written. The rest stays in memory, unpaid.
                Err(error) => {
                    self.pay_back(&paid, start, at);
                    self.written(start, at, &parts);
                    return Err(error);
                }
            }
        }
        self.written(start, at, &parts);
        Ok(())
    }

    /// Of `parts`, which follow each other from `start`, what lies before `end` is in the file now.
    fn written(&self, start: u64, end: u64, parts: &[Bytes]) {
        let mut at = start;
        for part in parts {
            let room = usize::try_from(end - at).unwrap_or(usize::MAX);
            let done = part.get(..room).unwrap_or(part);
            if done.is_empty() {
                return;
            }
            {
                let mut state = self.writer_state();
                state.sums.add(at, done);
                state.unsynced += done.len() as u64;
            }
            // After the write: until here readers find the bytes in memory, from here on in the file.
            let done = done.len();
            if done < part.len() {
                self.memory.shorten(at, (at + done as u64, part.slice(done..)));
            } else {
                self.memory.written(at);
            }
            at += done as u64;
        }
    }

    /// Gives the file its footer and its final name. All `len` bytes are present and [sealed](Presence::seal).
    pub(super) fn commit<F: AsRef<[u8]>>(
        &self,
        len: u64,
        footer: impl FnOnce(Payload) -> F,
    ) -> Result<(), StreamingError> {
        // Bytes that are present in memory only have no checksum: they stand in the way of a commit.
        let blocks = self.writer_state().sums.blocks(len);
        let blocks = blocks.context(IncompleteSnafu {
            path: &self.settings.target,
            missing: 0..len,
        })?;
        let footer = footer(Payload { len, blocks });
        let footer = footer.as_ref();
        let paid = self.pay(len..len + footer.len() as u64)?;
        // A footer of an earlier commit that failed may be longer than this one: the file is cut behind it.
        let finished = self
            .file
            .write_all_at(len, footer)
            .and_then(|()| self.file.set_len(len + footer.len() as u64))
            .and_then(|()| self.recorder().finish(&self.file, &self.settings.target));
        // Not `finished.is_ok()`: an error after the rename leaves a file that is committed, and perhaps not durable.
        if self.recorder().is_closed() {
            self.presence.complete();
        } else {
            self.pay_back(&paid, len, len);
        }
        finished
    }

    /// Asks the budget for what writing to `range` takes on the disk beyond what is taken already. Returns the spans it is.
    fn pay(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, StreamingError> {
        let Some(budget) = self.settings.budget.as_ref() else {
            return Ok(Vec::new());
        };
        // One writer at a time, so nobody else takes spans between the two locks. The budget is asked under none: it may have
        // other files removed.
        let (spans, list) = {
            let taken = &mut self.writer_state().spans;
            (taken.take(&range), taken.grow_list())
        };
        budget.reserve(spans::bytes(&spans) + list).map_err(|source| {
            let taken = &mut self.writer_state().spans;
            taken.free(&spans, range.start, range.start);
            taken.shrink_list(list);
            StreamingError::Io {
                action: "make room for",
                path: self.settings.target.clone(),
                source: source.into(),
            }
        })?;
        Ok(spans)
    }

    /// Gives back those of `spans` that a write from `start` on did not come to: it ended at `end`.
    fn pay_back(&self, spans: &[Range<u64>], start: u64, end: u64) {
        if let Some(budget) = &self.settings.budget {
            let freed = self.writer_state().spans.free(spans, start, end);
            budget.release(freed);
        }
    }
}

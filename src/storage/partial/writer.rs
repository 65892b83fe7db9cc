//! The writer's role: one at a time, handed on by dropping it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::error::{BeyondEndSnafu, EndConflictSnafu, IncompleteSnafu, TagTooLongSnafu};
use super::record::Record;
use super::state::EndConflict;
use super::{Demand, DemandWatch, Found, Inner, StreamingError, TAG_LIMIT};
use bytes::Bytes;

/// Missing ranges, each with the bytes for it.
type Gaps<'b> = Vec<(Range<u64>, &'b [u8])>;

/// What a commit hands to the maker of the footer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Payload {
    /// Length of the content in bytes.
    pub len: u64,
    /// CRC-32 (ISO-HDLC, as in gzip) of each [`BLOCK`](super::BLOCK) of the content as it was written, one at least.
    pub blocks: Vec<u32>,
}

/// The one writer of a [`StreamingResource`](super::StreamingResource). From
/// [`StreamingResource::writer`](super::StreamingResource::writer).
///
/// Bytes once present never change: a write over them keeps the old ones. (What an earlier session recorded is missing
/// again when it is read and found damaged.) All methods but
/// [`commit`](Self::commit) and a [`Checkpoint`] cost a write to the page cache at most; those two sync. They all
/// block: call them from a thread that may.
///
/// Dropping the writer hands the role on. It commits nothing, loses nothing that is present, and ends no wait:
/// readers wait for the next writer. A fetcher whose end should end them calls [`fail`](Self::fail).
#[must_use = "dropping the writer gives its role away"]
pub struct Writer<E> {
    inner: Arc<Inner<E>>,
    holds_role: bool,
}

impl<E> Writer<E> {
    pub(super) fn new(inner: Arc<Inner<E>>) -> Self {
        Self {
            inner,
            holds_role: true,
        }
    }

    /// The end in bytes, once it was [said](Self::set_len).
    pub fn end(&self) -> Option<u64> {
        self.inner.presence.len()
    }

    /// The bytes present: half-open ranges, ascending, apart.
    pub fn available(&self) -> Vec<Range<u64>> {
        self.inner.presence.available()
    }

    /// The first bytes of `range` that are missing, up to the next ones present or to the known end.
    pub fn first_missing(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.inner.presence.first_missing(&range)
    }

    /// As [`StreamingResource::read_at`](super::StreamingResource::read_at).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<Found, StreamingError> {
        self.inner.read_at(offset, buffer)
    }

    /// What readers need, right now.
    pub fn demand_now(&self) -> Demand {
        self.inner.presence.demand()
    }

    /// Runs `hook` when the last reader and the last handle are gone, on the thread that drops it, before anybody who
    /// watches the demand hears of it; at once if that is so already. It must not wait for anything. There is one hook:
    /// the last one that was set.
    pub fn when_unused(&self, hook: impl FnOnce() + Send + 'static) {
        self.inner.presence.when_unused(Box::new(hook));
    }

    /// What readers need, to watch.
    pub fn demand(&self) -> DemandWatch<E> {
        DemandWatch::new(self.inner.clone())
    }

    /// Writes what is missing of `bytes` at `offset`, in any order with other writes, and shows it to readers. Answers
    /// how many bytes were new.
    ///
    /// # Errors
    ///
    /// [`StreamingError::BeyondEnd`], and nothing is written. [`StreamingError::Io`] from the file system or the
    /// [`Budget`](super::Budget): what was written before it is present and stays, and the call can be repeated.
    /// [`StreamingError::Committed`].
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, StreamingError> {
        let mut new = 0;
        for (gap, piece) in self.gaps(offset, bytes)? {
            self.inner.write_missing(gap.start, piece)?;
            new += piece.len() as u64;
        }
        Ok(new)
    }

    /// As [`write_at`](Self::write_at) of `parts` that follow each other from `offset` on, but readers see the bytes
    /// before they are written, which happens when so many came in a row that one write is worth while, or by
    /// [`flush`](Self::flush). No record tells of them until then.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at), but after [`StreamingError::Io`] all is present nevertheless, as if it had been
    /// given to [`keep_in_memory`](Self::keep_in_memory).
    pub fn put(&mut self, offset: u64, parts: &[Bytes]) -> Result<u64, StreamingError> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let mut new = 0;
        let mut failed = None;
        for gap in self.missing_of(offset, len)? {
            new += gap.end - gap.start;
            if let Err(error) = self.inner.put_missing(gap, offset, parts) {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(new), Err)
    }

    /// What was lost with the byte at `offset`.
    #[cfg_attr(
        not(feature = "file"),
        expect(dead_code, reason = "`file` fetches what is lost")
    )]
    pub(crate) fn damaged_range(&self, offset: u64) -> Option<Range<u64>> {
        self.inner.file.checked_range(offset)
    }

    /// Takes in `bytes` in the place of what was lost at `offset`, and holds them, if they are what was there.
    #[cfg_attr(
        not(feature = "file"),
        expect(dead_code, reason = "`file` fetches what is lost")
    )]
    pub(crate) fn repair(&mut self, offset: u64, bytes: &[u8]) -> Result<bool, StreamingError> {
        if !self.inner.file.matches_checksum(offset, bytes) {
            return Ok(false);
        }
        self.keep_in_memory(offset, bytes).map(|_| true)
    }

    /// Writes what was [put](Self::put) and is not written yet. To be called before waiting for more.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Io`] from the file system or the [`Budget`](super::Budget): what could not be written stays
    /// in memory, as if it had been given to [`keep_in_memory`](Self::keep_in_memory).
    pub fn flush(&mut self) -> Result<(), StreamingError> {
        self.inner.flush()
    }

    /// Whether there is nothing to [flush](Self::flush).
    pub fn is_flushed(&self) -> bool {
        self.inner.writer_state().unwritten.is_empty()
    }

    /// The parts of `bytes` that are missing, each with its place.
    fn gaps<'b>(&self, offset: u64, bytes: &'b [u8]) -> Result<Gaps<'b>, StreamingError> {
        let part = |gap: &Range<u64>| {
            let (from, to) = (gap.start - offset, gap.end - offset);
            bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
        };
        let gaps = self.missing_of(offset, bytes.len() as u64)?.into_iter();
        Ok(gaps.filter_map(|gap| Some((gap.clone(), part(&gap)?))).collect())
    }

    /// What is missing of `len` bytes at `offset`, which may be written.
    fn missing_of(&self, offset: u64, len: u64) -> Result<Vec<Range<u64>>, StreamingError> {
        let inner = &*self.inner;
        inner.refuse_committed()?;
        let end = offset.saturating_add(len);
        let limit = inner.presence.len().unwrap_or(i64::MAX.unsigned_abs());
        if end > limit {
            return BeyondEndSnafu {
                path: &inner.target,
                range: offset..end,
            }
            .fail();
        }
        Ok(inner.presence.missing(&(offset..end)))
    }

    /// Takes in what is missing of `bytes` at `offset` and shows it to readers, but keeps it in memory: it is neither
    /// written nor counted by the [`Budget`](super::Budget) nor recorded, and stands in the way of a commit. For when
    /// there is no file, or no room for it.
    ///
    /// # Errors
    ///
    /// [`StreamingError::BeyondEnd`], [`StreamingError::Committed`]; nothing is taken in.
    pub fn keep_in_memory(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, StreamingError> {
        let mut new = 0;
        for (gap, piece) in self.gaps(offset, bytes)? {
            self.inner.memory.copy_in(&self.inner.presence, gap.start, piece);
            new += piece.len() as u64;
        }
        Ok(new)
    }

    /// How many bytes are [held](Self::keep_in_memory).
    pub fn memory_bytes(&self) -> u64 {
        self.inner.memory.bytes()
    }

    /// Lets all held bytes go that are not near any of `keep`, in pieces of up to 64 KiB. They are missing from now on.
    pub fn free_memory(&mut self, keep: &[Range<u64>]) {
        self.inner.memory.free(&self.inner.presence, keep);
    }

    /// States where the end is. The caller vouches for it: readers take it as proven.
    ///
    /// # Errors
    ///
    /// [`StreamingError::EndConflict`] if another end is known or bytes lie beyond it.
    pub fn set_len(&mut self, len: u64) -> Result<(), StreamingError> {
        let inner = &*self.inner;
        inner.presence.set_len(len).map_err(|EndConflict { known }| {
            EndConflictSnafu {
                path: &inner.target,
                known,
                said: len,
            }
            .build()
        })
    }

    /// Keeps a few bytes with the progress, for the next process: a validator of the remote file, say. It is recorded
    /// by the next checkpoint.
    ///
    /// # Errors
    ///
    /// [`StreamingError::TagTooLong`].
    pub fn set_tag(&mut self, tag: impl Into<Vec<u8>>) -> Result<(), StreamingError> {
        let tag = tag.into();
        if tag.len() > TAG_LIMIT {
            return TagTooLongSnafu { len: tag.len() }.fail();
        }
        self.inner.writer_state().tag = tag;
        Ok(())
    }

    /// A checkpoint, if enough bytes are new since the last one. Run it here or on another thread; writing can go on
    /// meanwhile.
    pub fn due_checkpoint(&mut self) -> Option<Checkpoint<E>> {
        let due = self.inner.writer_state().unsynced >= self.inner.checkpoint_every;
        due.then(|| self.checkpoint())
    }

    /// A checkpoint of all that is written by now. Run it before a planned stop, so that the next process need not
    /// fetch anything again.
    pub fn checkpoint(&mut self) -> Checkpoint<E> {
        let len = self.inner.presence.len();
        let mut state = self.inner.writer_state();
        state.unsynced = 0;
        state.checkpoints += 1;
        Checkpoint {
            record: Record {
                len,
                tag: state.tag.clone(),
                runs: state.sums.runs().collect(),
            },
            number: state.checkpoints,
            inner: self.inner.clone(),
        }
    }

    /// Ends the writing: all `len` bytes are present, they are synced, and the file takes its final name in one
    /// rename.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Incomplete`], [`EndConflict`](StreamingError::EndConflict): the writer can go on.
    /// [`StreamingError::SyncLost`]: discard it. [`StreamingError::Committed`] the second time.
    /// [`StreamingError::Io`]: not committed, unless only the sync of the directory failed; then it is (the next
    /// commit says `Committed`), and a power cut may take it back.
    pub fn commit(&mut self, len: u64) -> Result<(), StreamingError> {
        self.commit_with_footer(len, |_| [])
    }

    /// [`commit`](Self::commit) with some bytes after the content, which readers never see: `footer` makes them, once
    /// it is certain that all is present.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn commit_with_footer<F: AsRef<[u8]>>(
        &mut self,
        len: u64,
        footer: impl FnOnce(Payload) -> F,
    ) -> Result<(), StreamingError> {
        self.inner.refuse_committed()?;
        self.inner.recorder().refuse_sync_lost()?;
        self.set_len(len)?;
        self.inner.flush()?;
        let inner = &*self.inner;
        if let Err(missing) = inner.presence.seal(len) {
            return IncompleteSnafu {
                path: &inner.target,
                missing,
            }
            .fail();
        }
        let committed = inner.commit(len, footer);
        inner.presence.unseal();
        committed
    }

    /// Gives up with `cause`: every wait for a missing byte ends with it, now and until the next writer. What is
    /// present stays readable, and resumable. Deferred a commit it does nothing.
    pub fn fail(mut self, cause: impl Into<Arc<E>>) {
        self.holds_role = false;
        self.inner.presence.fail(cause.into(), false);
    }

    /// Gives up with `cause` for good and removes the files, so that the resource can be opened anew (another version
    /// upstream, say). Readers that have it open still read what is present.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Io`] if a file could not be removed; the resource is given up all the same.
    pub fn discard(mut self, cause: impl Into<Arc<E>>) -> Result<(), StreamingError> {
        let inner = &*self.inner;
        inner.refuse_committed()?;
        let removed = inner.recorder().give_up();
        self.holds_role = false;
        inner.presence.fail(cause.into(), true);
        removed
    }
}

impl<E> Drop for Writer<E> {
    fn drop(&mut self) {
        if self.holds_role {
            self.inner.presence.leave_role();
        }
    }
}

impl<E> fmt::Debug for Writer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("target", &self.inner.target)
            .finish_non_exhaustive()
    }
}

/// The bytes written up to a moment, to be synced and then recorded. From [`Writer::due_checkpoint`].
///
/// Dropping it records nothing; the next one covers the same bytes.
#[must_use = "a checkpoint does nothing until it is run"]
pub struct Checkpoint<E> {
    inner: Arc<Inner<E>>,
    record: Record,
    number: u64,
}

impl<E> Checkpoint<E> {
    /// The most bytes its record takes beside the partial file.
    pub fn record_bytes(&self) -> u64 {
        Record::encoded_bytes(self.record.runs.len())
    }

    /// Syncs the file, then writes the record, in this order. Blocks for as long as the disk takes. Of two run at once,
    /// the newer record stays.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Io`]: if the record could not be written, a later checkpoint can make up for it; if the file
    /// could not be synced, every later checkpoint and commit answers [`StreamingError::SyncLost`].
    pub fn run(self) -> Result<(), StreamingError> {
        let Self {
            inner,
            record,
            number,
        } = self;
        inner.recorder().checkpoint(&inner.file, number, &record)
    }
}

impl<E> fmt::Debug for Checkpoint<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("number", &self.number)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

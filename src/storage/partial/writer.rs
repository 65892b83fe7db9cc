//! The writer's role: one writer at a time, and dropping it passes the role on.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::checkpoint::Checkpoint;
use super::checksum::Payload;
use super::error::{BeyondEndSnafu, EndConflictSnafu, IncompleteSnafu, StreamingError, TagTooLongSnafu};
use super::inner::Inner;
use super::record::{Record, TAG_LIMIT};
use super::state::EndConflict;
use super::status::{Demand, Found};
use super::watch::DemandWatch;

/// Missing ranges, each with the bytes for it.
type Gaps<'b> = Vec<(Range<u64>, &'b [u8])>;

/// The one writer of a [`StreamingResource`](super::StreamingResource). From
/// [`StreamingResource::writer`](super::StreamingResource::writer).
///
/// Bytes that are present never change: a write over them keeps the old ones. (Bytes that an earlier session recorded, and
/// that are found damaged when they are read, are missing again.)
///
/// All methods block: call them from a thread that may. [`commit`](Self::commit) and a [`Checkpoint`] sync; the others cost
/// one write to the page cache at most.
///
/// Dropping the writer passes the role on. It commits nothing, loses nothing that is present, and ends no wait: readers wait
/// for the next writer. [`fail`](Self::fail) ends their waits.
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

    /// The end in bytes, once it was [stated](Self::set_len).
    pub fn end(&self) -> Option<u64> {
        self.inner.presence.len()
    }

    /// The bytes present: half-open ranges, ascending, none touching the next.
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

    /// What readers need now.
    pub fn demand_now(&self) -> Demand {
        self.inner.presence.demand()
    }

    /// Calls `hook` when the last reader and the last handle are dropped, on the thread that drops the last one, before the
    /// watchers of the demand learn of it. It is called at once if that is so already. The hook must not block. A later call
    /// replaces the hook.
    #[cfg_attr(
        not(any(feature = "file", test, feature = "test-util")),
        allow(dead_code, reason = "`file` ends its download then")
    )]
    pub(crate) fn when_unused(&self, hook: impl FnOnce() + Send + 'static) {
        self.inner.presence.when_unused(Box::new(hook));
    }

    /// Watches what readers need.
    pub fn demand(&self) -> DemandWatch<E> {
        DemandWatch::new(self.inner.clone())
    }

    /// Writes what is missing of `bytes` at `offset`, in any order with other writes, and shows it to readers. Answers how
    /// many bytes were new.
    ///
    /// # Errors
    ///
    /// - [`StreamingError::BeyondEnd`], [`StreamingError::Committed`]: nothing is written.
    /// - [`StreamingError::Io`], from the file system or the limit of the cache: what was written before is present and
    ///   stays. The call can be repeated.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, StreamingError> {
        let mut new = 0;
        for (gap, piece) in self.gaps(offset, bytes)? {
            self.inner.write_missing(gap.start, piece)?;
            new += piece.len() as u64;
        }
        Ok(new)
    }

    /// As [`write_at`](Self::write_at), of `parts` that follow each other from `offset`. Readers see the bytes before they are
    /// written: that happens when enough came in a row to make one write worth while, or by [`flush`](Self::flush). No record
    /// tells of them before.
    ///
    /// # Errors
    ///
    /// As [`write_at`](Self::write_at), but after [`StreamingError::Io`] all bytes are present nevertheless, as if they had
    /// been given to [`keep_in_memory`](Self::keep_in_memory).
    pub fn put(&mut self, offset: u64, parts: &[Bytes]) -> Result<u64, StreamingError> {
        self.put_or_defer(offset, parts, true)
    }

    /// As [`put`](Self::put), but never writes: that is left to [`flush`](Self::flush). For a thread that the disk must not
    /// delay. Call `flush` soon: the bytes take memory until then.
    ///
    /// # Errors
    ///
    /// [`StreamingError::BeyondEnd`], [`StreamingError::Committed`].
    #[cfg_attr(not(feature = "file"), allow(dead_code, reason = "`file` has such threads"))]
    pub(crate) fn put_deferred(&mut self, offset: u64, parts: &[Bytes]) -> Result<u64, StreamingError> {
        self.put_or_defer(offset, parts, false)
    }

    fn put_or_defer(&mut self, offset: u64, parts: &[Bytes], may_write: bool) -> Result<u64, StreamingError> {
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let mut new = 0;
        let mut failed = None;
        for gap in self.missing_of(offset, len)? {
            new += gap.end - gap.start;
            // The other gaps are taken in all the same: after an error all bytes are present.
            if let Err(error) = self.inner.put_missing(gap, offset, parts, may_write) {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(new), Err)
    }

    /// The range that was lost together with the byte at `offset`.
    #[cfg_attr(
        not(feature = "file"),
        expect(dead_code, reason = "`file` fetches what is lost")
    )]
    pub(crate) fn damaged_range(&self, offset: u64) -> Option<Range<u64>> {
        self.inner.file.checked_range(offset)
    }

    /// Replaces what was lost at `offset` by `bytes`, kept in memory, if they have its checksum. Answers whether they have.
    #[cfg_attr(
        not(feature = "file"),
        expect(dead_code, reason = "`file` fetches what is lost")
    )]
    pub(crate) fn repair(&mut self, offset: u64, bytes: &[u8]) -> Result<bool, StreamingError> {
        // The server's bytes prove nothing: the file may have changed there. The checksum of what was lost does.
        if !self.inner.file.matches_checksum(offset, bytes) {
            return Ok(false);
        }
        self.keep_in_memory(offset, bytes).map(|_| true)
    }

    /// Writes what was [put](Self::put) and is not written yet. Call it before waiting for more bytes.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Io`] from the file system or the limit of the cache. What could not be written stays in memory,
    /// as if it had been given to [`keep_in_memory`](Self::keep_in_memory).
    pub fn flush(&mut self) -> Result<(), StreamingError> {
        self.inner.flush()
    }

    /// Whether there is nothing to [flush](Self::flush).
    pub fn is_flushed(&self) -> bool {
        self.inner.writer_state().unwritten.is_empty()
    }

    /// The missing parts of `bytes`, each with its range.
    fn gaps<'b>(&self, offset: u64, bytes: &'b [u8]) -> Result<Gaps<'b>, StreamingError> {
        let part = |gap: &Range<u64>| {
            let (from, to) = (gap.start - offset, gap.end - offset);
            bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
        };
        let gaps = self.missing_of(offset, bytes.len() as u64)?.into_iter();
        Ok(gaps.filter_map(|gap| Some((gap.clone(), part(&gap)?))).collect())
    }

    /// What is missing of `len` bytes at `offset`, if these may be written.
    fn missing_of(&self, offset: u64, len: u64) -> Result<Vec<Range<u64>>, StreamingError> {
        let inner = &*self.inner;
        inner.refuse_committed()?;
        let end = offset.saturating_add(len);
        // Without a known end the limit is that of file positions, which are signed.
        let limit = inner.presence.len().unwrap_or(i64::MAX.unsigned_abs());
        if end > limit {
            return BeyondEndSnafu {
                path: &inner.settings.target,
                range: offset..end,
            }
            .fail();
        }
        Ok(inner.presence.missing(&(offset..end)))
    }

    /// Shows what is missing of `bytes` at `offset` to readers, but keeps it in memory. It is neither written, nor counted by
    /// the limit of the cache, nor recorded, and stands in the way of a commit. For a resource without a file, or
    /// without room for it. Answers how many bytes were new.
    ///
    /// # Errors
    ///
    /// [`StreamingError::BeyondEnd`], [`StreamingError::Committed`]. No bytes are kept then.
    pub fn keep_in_memory(&mut self, offset: u64, bytes: &[u8]) -> Result<u64, StreamingError> {
        let mut new = 0;
        for (gap, piece) in self.gaps(offset, bytes)? {
            self.inner.memory.copy_in(&self.inner.presence, gap.start, piece);
            new += piece.len() as u64;
        }
        Ok(new)
    }

    /// How many bytes are [in memory](Self::keep_in_memory).
    pub fn memory_bytes(&self) -> u64 {
        self.inner.memory.bytes()
    }

    /// Frees the bytes in memory, in pieces of up to 64 KiB, but those pieces that overlap one of `keep`. They are missing from
    /// then on.
    pub fn free_memory(&mut self, keep: &[Range<u64>]) {
        self.inner.memory.free(&self.inner.presence, keep);
    }

    /// States where the end is. The caller vouches for it: readers take it as proven.
    ///
    /// # Errors
    ///
    /// [`StreamingError::EndConflict`] if another end is known, or bytes lie beyond it.
    pub fn set_len(&mut self, len: u64) -> Result<(), StreamingError> {
        let inner = &*self.inner;
        inner.presence.set_len(len).map_err(|EndConflict { known }| {
            EndConflictSnafu {
                path: &inner.settings.target,
                known,
                stated: len,
            }
            .build()
        })
    }

    /// Keeps a few bytes with the record, for the next process: the validator of a remote file, for example. The next
    /// checkpoint records it.
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
        let due = self.inner.writer_state().unsynced >= self.inner.settings.checkpoint_every;
        due.then(|| self.checkpoint())
    }

    /// A checkpoint of all that is written by now. Run it before a planned stop, so that the next process does not fetch
    /// anything again.
    pub fn checkpoint(&mut self) -> Checkpoint<E> {
        // Presence first: it is never asked for under the writer's state.
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

    /// What syncs the bytes written so far, and records nothing. Run on another thread, it has the disk work while bytes come,
    /// and the [commit](Self::commit) behind the last one waits for less. After an error the commit is refused.
    #[cfg_attr(not(feature = "file"), allow(dead_code, reason = "`file` downloads"))]
    pub(crate) fn sync_ahead(&self) -> impl FnOnce() -> Result<(), StreamingError> + use<E> {
        let inner = self.inner.clone();
        move || inner.recorder().sync_ahead(&inner.file)
    }

    /// Completes the resource: all `len` bytes are present, they are synced, and the file takes its final name in one rename.
    ///
    /// # Errors
    ///
    /// - [`StreamingError::Incomplete`], [`EndConflict`](StreamingError::EndConflict): the writer can go on.
    /// - [`StreamingError::SyncLost`]: discard the resource.
    /// - [`StreamingError::Committed`]: it was committed before.
    /// - [`StreamingError::Io`]: it is not committed, unless only the sync of the directory failed. Then it is (the next commit
    ///   answers `Committed`), and a power cut may take it back.
    pub fn commit(&mut self, len: u64) -> Result<(), StreamingError> {
        self.commit_with_footer(len, |_| [])
    }

    /// [`commit`](Self::commit) with some bytes behind the content, which readers never see. `footer` makes them, once it is
    /// certain that all bytes are present.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub(crate) fn commit_with_footer<F: AsRef<[u8]>>(
        &mut self,
        len: u64,
        footer: impl FnOnce(Payload) -> F,
    ) -> Result<(), StreamingError> {
        self.inner.refuse_committed()?;
        self.inner.recorder().refuse_sync_lost()?;
        self.set_len(len)?;
        // Bytes that are only in memory have no checksum yet: the commit would find the file incomplete.
        self.inner.flush()?;
        let inner = &*self.inner;
        // From here to the unseal no reader can turn present bytes into missing ones.
        if let Err(missing) = inner.presence.seal(len) {
            return IncompleteSnafu {
                path: &inner.settings.target,
                missing,
            }
            .fail();
        }
        let committed = inner.commit(len, footer);
        inner.presence.unseal();
        committed
    }

    /// Gives up with `cause`: every wait for a missing byte ends with it, now and until the next writer. What is present stays
    /// readable, and can be resumed. After a commit it does nothing.
    pub fn fail(mut self, cause: impl Into<Arc<E>>) {
        // The failure ends the role. Left to the drop, it would be ended again, and perhaps that of the next writer.
        self.holds_role = false;
        self.inner.presence.fail(cause.into(), false);
    }

    /// Tells readers whether missing bytes come in their order only, so that a jump forward waits for all before it.
    #[cfg_attr(
        not(feature = "file"),
        allow(dead_code, reason = "`file` knows whether ranges are served")
    )]
    pub(crate) fn set_sequential(&self, is_sequential: bool) {
        self.inner.is_sequential.store(is_sequential, Ordering::Relaxed);
    }

    /// Ends the waits of this moment with `cause`, and goes on. Later waits wait for this writer.
    #[cfg_attr(not(feature = "file"), allow(dead_code, reason = "`file` sits out outages"))]
    pub(crate) fn fail_waits(&self, cause: impl Into<Arc<E>>) {
        self.inner.presence.fail_waits(&cause.into());
    }

    /// Gives up with `cause` for good and removes the files, so that the resource can be opened anew (when the remote file
    /// changed, for example). Readers that have it open still read what is present.
    ///
    /// # Errors
    ///
    /// - [`StreamingError::Committed`]: nothing happens.
    /// - [`StreamingError::Io`]: a file could not be removed. The resource is given up all the same.
    pub fn discard(mut self, cause: impl Into<Arc<E>>) -> Result<(), StreamingError> {
        let inner = &*self.inner;
        inner.refuse_committed()?;
        // The files first: a reader that learns of the failure may open the resource anew at once.
        let removed = inner.recorder().discard();
        self.holds_role = false;
        inner.presence.fail(cause.into(), true);
        removed
    }
}

impl<E> Drop for Writer<E> {
    fn drop(&mut self) {
        // Ends no wait: readers wait for the next writer. To end them is the app's decision, see `fail`.
        if self.holds_role {
            self.inner.presence.leave_role();
        }
    }
}

impl<E> fmt::Debug for Writer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("target", &self.inner.settings.target)
            .finish_non_exhaustive()
    }
}

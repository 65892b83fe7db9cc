//! Making durable what was written up to a moment.

use std::fmt;
use std::sync::Arc;

use super::error::StreamingError;
use super::inner::Inner;
use super::record::Record;

/// The bytes written up to a moment, to be synced and then recorded. From
/// [`Writer::due_checkpoint`](super::Writer::due_checkpoint).
///
/// Dropping it records nothing. The next one covers the same bytes.
#[must_use = "a checkpoint does nothing until it is run"]
pub struct Checkpoint<E> {
    pub(super) inner: Arc<Inner<E>>,
    pub(super) record: Record,
    pub(super) number: u64,
}

impl<E> Checkpoint<E> {
    /// The most bytes that its record takes on the disk beside the partial file.
    pub fn record_bytes(&self) -> u64 {
        let len = Record::encoded_bytes(self.record.runs.len());
        let unit = self.inner.settings.unit.max(1);
        len.checked_next_multiple_of(unit).unwrap_or(u64::MAX)
    }

    /// Syncs the file, then writes the record, in this order. It blocks for as long as the disk takes. Of two that run at
    /// once, the newer record stays.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Io`]. If the record could not be written, a later checkpoint makes up for it. If the file could not
    /// be synced, every later checkpoint and commit answers [`StreamingError::SyncLost`].
    pub fn run(self) -> Result<(), StreamingError> {
        let Self {
            inner,
            record,
            number,
        } = self;
        // The record was made before the sync begins, so that it tells of nothing that the sync may miss.
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

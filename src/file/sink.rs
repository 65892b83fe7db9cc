//! Where the fetched bytes go: into the cache's partial entry, or where that fails into memory (C16).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_channel::Sender;
use bytes::Bytes;

use super::lookup::MemoryEntry;
use super::revalidate::StoredValidators;
use super::sharing::Subscribers;
use super::{Bypass, FileControl, FileError};
use crate::cache::PartialEntry;
use crate::rt;
use crate::storage::{Checkpoint, DemandWatch, StreamingError, Writer};

/// Checkpoints follow each other at this distance at least: a fast download need not stop for the disk.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(2);

/// The writer of a file, and what its bytes are to become. Dropped, it records what it has written, if that can be
/// resumed, and ends every wait with [`FileError::Stopped`].
pub(super) struct Sink {
    /// `None` once it is over.
    writer: Option<Writer<FileError>>,
    /// The cache's partial entry, if bytes go there.
    entry: Option<PartialEntry>,
    /// Whether bytes go to memory from now on.
    pub(super) bypassed: bool,
    /// Whether the next session can go on from what is written: it can prove that the file is the same.
    pub(super) resumable: bool,
    /// Where the whole file goes instead, in a cache in memory.
    pub(super) memory_entry: Option<MemoryEntry>,
    /// What the server says of the file, if it is to be kept beside it.
    pub(super) validators: Option<StoredValidators>,
    control: Sender<FileControl>,
    /// Those who read along.
    subscribers: Arc<Subscribers>,
    /// What is to be said once the file is announced as open.
    pending_events: Option<Vec<FileControl>>,
    unrecorded: u64,
    checkpoint: Arc<AtomicBool>,
    checkpoint_at: Instant,
}

impl Sink {
    pub(super) fn new(
        writer: Writer<FileError>,
        entry: Option<PartialEntry>,
        control: Sender<FileControl>,
        subscribers: Arc<Subscribers>,
    ) -> Self {
        subscribers.reset();
        Self {
            writer: Some(writer),
            bypassed: entry.is_none(),
            entry,
            resumable: false,
            memory_entry: None,
            validators: None,
            control,
            subscribers,
            pending_events: Some(Vec::new()),
            unrecorded: 0,
            checkpoint: Arc::default(),
            checkpoint_at: Instant::now(),
        }
    }

    /// Nothing if it is over.
    pub(super) fn writer(&mut self) -> Option<&mut Writer<FileError>> {
        self.writer.as_mut()
    }

    /// Has `hook` run when the last reader is dropped, by whoever drops it.
    pub(super) fn when_unwanted(&self, hook: impl FnOnce() + Send + 'static) {
        if let Some(writer) = &self.writer {
            writer.when_unwanted(hook);
        }
    }

    pub(super) fn watch(&self) -> Option<DemandWatch<FileError>> {
        self.writer.as_ref().map(Writer::demand)
    }

    fn emit(&mut self, control: FileControl) {
        match &mut self.pending_events {
            Some(pending_events) => pending_events.push(control),
            // Whoever does not listen is not told.
            None => drop(self.control.try_send(control)),
        }
    }

    /// Says that the file is open, and then what came up meanwhile.
    pub(super) fn announce(&mut self, opened: FileControl, bypass: Option<Bypass>) {
        let pending_events = self.pending_events.take().unwrap_or_default();
        self.emit(opened);
        if let Some(reason) = bypass {
            self.emit(FileControl::CacheBypassed { reason });
        }
        for control in pending_events {
            self.emit(control);
        }
    }

    /// From now on bytes go to memory. What is on the disk stays readable.
    pub(super) fn bypass(&mut self, reason: Bypass) {
        if !self.bypassed {
            self.bypassed = true;
            log::warn!("not kept in the cache: {reason:?}");
            self.subscribers.bypass(&reason);
            self.emit(FileControl::CacheBypassed { reason });
        }
    }

    /// Takes bytes in. They reach readers at once and whatever the disk does.
    pub(super) fn write(&mut self, at: u64, parts: &[Bytes]) -> Result<(), StreamingError> {
        let Some(writer) = self.writer.as_mut() else {
            return Ok(());
        };
        if self.bypassed {
            let mut at = at;
            for part in parts {
                writer.hold(at, part)?;
                at += part.len() as u64;
            }
            return Ok(());
        }
        match writer.put(at, parts) {
            Ok(new) => {
                self.unrecorded += new;
                self.record_if_due();
                Ok(())
            }
            // Not the disk's fault: the server sends what cannot be.
            Err(error @ StreamingError::BeyondEnd { .. }) => Err(error),
            // In memory by now.
            Err(error) => {
                self.bypass(Bypass::Failed(Arc::new(error)));
                Ok(())
            }
        }
    }

    /// Whether all that was taken in is where it is to stay.
    pub(super) fn is_flushed(&self) -> bool {
        self.writer.as_ref().is_none_or(Writer::is_flushed)
    }

    /// Brings what was taken in to the disk. To be called before waiting.
    ///
    /// A slow link has it write in small pieces, and those are dearer to read later on: 16 MiB that came at 1 MiB/s are
    /// read at 0.53 of a plain file's speed, those that came at once at 0.88 (`cargo bench --features file --bench file
    /// -- slow`).
    pub(super) fn flush(&mut self) {
        if let Some(Err(error)) = self.writer.as_mut().map(Writer::flush) {
            self.bypass(Bypass::Failed(Arc::new(error)));
        }
    }

    /// Lets the window go along with the readers, see [`kept`].
    pub(super) fn slide(&mut self, behind: u64, ahead: u64, window: u64, once: bool) {
        if let Some(writer) = self.writer.as_mut().filter(|writer| writer.held_bytes() > window) {
            writer.let_go(&ranges_to_keep(
                &writer.demand_now().positions,
                behind,
                ahead,
                once,
            ));
        }
    }

    fn record_if_due(&mut self) {
        if !self.resumable
            || self.checkpoint_at.elapsed() < CHECKPOINT_AFTER
            || self.checkpoint.load(Ordering::Acquire)
        {
            return;
        }
        let (Some(writer), Some(entry)) = (&mut self.writer, &self.entry) else {
            return;
        };
        let Some(checkpoint) = writer.due_checkpoint() else {
            return;
        };
        self.unrecorded = 0;
        self.checkpoint_at = Instant::now();
        self.checkpoint.store(true, Ordering::Release);
        let (running, entry) = (Arc::clone(&self.checkpoint), entry.clone());
        rt::unblock_detached(move || {
            record(&entry, checkpoint);
            running.store(false, Ordering::Release);
        });
    }

    /// Makes the whole file an entry of the cache.
    pub(super) async fn finish(mut self, len: u64) {
        let Some(mut writer) = self.writer.take() else {
            return;
        };
        if let Some(memory_entry) = self.memory_entry.take() {
            // No disk, so no hop. Every byte is there to be read, so nobody waits for a writer.
            let control = memory_entry.put(&writer, len, self.validators.take());
            self.emit(control);
            return;
        }
        let Some(entry) = self.entry.take() else {
            return;
        };
        let (control, subscribers) = (self.control.clone(), Arc::clone(&self.subscribers));
        let validators = self.validators.take();
        rt::unblock(move || match entry.commit(&mut writer, len) {
            Ok(()) => {
                if let Some(validators) = validators {
                    entry.beside(|cache, asset, path| validators.store(cache, asset, path));
                }
                let _ = control.try_send(FileControl::Cached);
            }
            Err(error) => {
                log::warn!("not kept in the cache: {error}");
                let reason = Bypass::Failed(Arc::new(error));
                subscribers.bypass(&reason);
                let _ = control.try_send(FileControl::CacheBypassed { reason });
                // Every byte is there to be read, so nobody waits and nobody meets this cause.
                drop(writer.discard(FileError::Stopped));
            }
        })
        .await;
    }

    /// Ends every wait with `cause`; what is written stays readable, and resumable if it was.
    pub(super) fn fail(mut self, cause: FileError) {
        self.end(cause);
    }

    /// Ends every wait with `cause` and removes what is written: it is of a file that is no more.
    pub(super) fn discard(mut self, cause: FileError) {
        if let Some(Err(error)) = self.writer.take().map(|writer| writer.discard(cause)) {
            log::warn!("cannot remove a partial file: {error}");
        }
    }

    /// Nobody reads any more.
    pub(super) fn close(mut self) {
        if let Some(entry) = &self.entry {
            entry.closing();
        }
        self.end(FileError::Stopped);
    }

    fn end(&mut self, cause: FileError) {
        // Nothing is left to be written where the driver was waiting when it was dropped.
        self.flush();
        let Some(mut writer) = self.writer.take() else {
            return;
        };
        let Some(entry) = self.entry.take() else {
            writer.fail(cause);
            return;
        };
        if !self.resumable {
            rt::unblock_detached(move || {
                if let Err(error) = writer.discard(cause) {
                    log::warn!("cannot remove a partial file: {error}");
                }
                drop(entry);
            });
        } else if self.unrecorded == 0 {
            writer.fail(cause);
        } else {
            let checkpoint = writer.checkpoint();
            writer.fail(cause);
            rt::unblock_detached(move || record(&entry, checkpoint));
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.end(FileError::Stopped);
    }
}

/// What readers keep of a window: each some bytes `behind` it and what comes up to so far `ahead`. Where bytes come `once`, the
/// foremost keeps all that is still before it, which is no more than what came in one step beyond the look-ahead.
fn ranges_to_keep(readers: &[u64], behind: u64, ahead: u64, once: bool) -> Vec<Range<u64>> {
    let foremost = readers.iter().max().filter(|_| once);
    let around = |at: &u64| {
        let ahead = if Some(at) == foremost { u64::MAX } else { ahead };
        at.saturating_sub(behind)..at.saturating_add(ahead)
    };
    readers.iter().map(around).collect()
}

fn record(entry: &PartialEntry, checkpoint: Checkpoint<FileError>) {
    match entry.reserve_record(&checkpoint) {
        Ok(()) => {
            if let Err(error) = checkpoint.run() {
                log::warn!("a restart will fetch again: {error}");
            }
        }
        Err(error) => log::warn!("a restart will fetch again: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes only once is not let go before its reader comes to it, and a paused reader keeps no more than a window.
    #[test]
    fn what_comes_once_is_kept_for_the_foremost_reader() {
        let readers = [1000, 50];
        assert_eq!(ranges_to_keep(&readers, 100, 200, false), [900..1200, 0..250]);
        assert_eq!(ranges_to_keep(&readers, 100, 200, true), [900..u64::MAX, 0..250]);
        assert_eq!(ranges_to_keep(&[], 100, 200, true), []);
    }
}

//! Where downloaded bytes are written: the cache's partial entry, or memory.
//!
//! Readers come first. A write goes to memory, where readers find it at once, and the file gets it later:
//!
//! ```text
//!   write ──▶ memory pieces ──▶ presence: readers wake
//!                  │
//!                flush (when nothing else is to be done, or a piece is full)
//!                  ▼
//!             partial file ──▶ checkpoint: sync the data, then the record
//!                  │
//!                finish ─────▶ commit: footer, sync, rename ──▶ told as cached
//! ```
//!
//! Where the file fails (no space, I/O error), the bytes stay in memory and the sink bypasses the cache from then on:
//! no reader notices.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_channel::Sender;
use bytes::Bytes;

use super::lookup::MemoryEntry;
use super::revalidate::StoredValidators;
use super::sharing::Subscribers;
use super::{Bypass, FileControl, FileError, shared_work};
use crate::cache::PartialEntry;
use crate::rt;
use crate::storage::{Checkpoint, DemandWatch, StreamingError, Writer};

/// The least time between two checkpoints: the disk has other work than to sync this file.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// The most time until what was written is recorded, however little it is.
const LATEST_CHECKPOINT: Duration = Duration::from_secs(2);
/// So many bytes are worth a checkpoint after [`CHECKPOINT_INTERVAL`].
const CHECKPOINT_BYTES: u64 = 512 * 1024;
/// So many bytes of a download that nobody plays are synced while more come.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;
/// How long a checkpoint that is due waits for the one that is under way.
const CHECKPOINT_RETRY: Duration = Duration::from_millis(100);

/// The writer of a file, and what becomes of its bytes.
///
/// Dropping it ends every wait with [`FileError::Stopped`], and has what was written recorded in the background, if a later
/// session can go on from there. The drop itself does no I/O.
#[expect(clippy::struct_excessive_bools, reason = "four independent facts")]
pub(super) struct Sink {
    /// `None` once it has ended.
    writer: Option<Writer<FileError>>,
    /// The claim on the cache's partial entry, if bytes go there.
    entry: Option<PartialEntry>,
    /// Whether bytes go to memory only.
    pub(super) bypassed: bool,
    /// Whether a later session can go on from what is written: it can prove that the server's file is the same.
    pub(super) resumable: bool,
    /// Where the complete file goes in a cache in memory.
    pub(super) memory_entry: Option<MemoryEntry>,
    /// The server's validators, if they are to be stored beside the file.
    pub(super) validators: Option<StoredValidators>,
    events: Sender<FileControl>,
    subscribers: Arc<Subscribers>,
    /// Events of the time before the file is announced as open. `None` afterwards.
    pending_events: Option<Vec<FileControl>>,
    /// Whether it was told that the file is kept, or why not.
    is_told: bool,
    /// Whether the cache was told the file's length.
    len_told: bool,
    /// At most so many bytes are in memory. Counted here, as the writer sums up its pieces when it is asked.
    held: u64,
    /// Bytes written since the last checkpoint.
    unrecorded: u64,
    /// Bytes given to the writer since the last sync began.
    unsynced: u64,
    /// Whether a checkpoint is under way, or a sync ahead of the commit.
    checkpoint_runs: Arc<AtomicBool>,
    checkpoint_at: Instant,
}

impl Sink {
    pub(super) fn new(
        writer: Writer<FileError>,
        entry: Option<PartialEntry>,
        events: Sender<FileControl>,
        subscribers: Arc<Subscribers>,
    ) -> Self {
        // A new download tries the cache again. The bypass of the last one must not be told to its subscribers.
        subscribers.reset();
        Self {
            writer: Some(writer),
            bypassed: entry.is_none(),
            entry,
            resumable: false,
            memory_entry: None,
            validators: None,
            events,
            subscribers,
            pending_events: Some(Vec::new()),
            is_told: false,
            len_told: false,
            held: 0,
            unrecorded: 0,
            unsynced: 0,
            checkpoint_runs: Arc::default(),
            checkpoint_at: Instant::now(),
        }
    }

    /// `None` once the sink has ended.
    pub(super) fn writer(&mut self) -> Option<&mut Writer<FileError>> {
        self.writer.as_mut()
    }

    /// Runs `hook` when the last reader is dropped, on the thread that drops it.
    pub(super) fn when_unused(&self, hook: impl FnOnce() + Send + 'static) {
        if let Some(writer) = &self.writer {
            writer.when_unused(hook);
        }
    }

    pub(super) fn demand(&self) -> Option<DemandWatch<FileError>> {
        self.writer.as_ref().map(Writer::demand)
    }

    /// Tells the source whose download this is.
    fn emit(&mut self, event: FileControl) {
        // `Opened` is the first event of a file. What comes up while the file opens waits for it.
        match &mut self.pending_events {
            Some(pending) => pending.push(event),
            // An error means that the app has dropped the events.
            None => drop(self.events.try_send(event)),
        }
    }

    /// Tells the source whose download this is, and those that share it.
    pub(super) fn emit_to_all(&mut self, event: FileControl) {
        self.subscribers.tell(&event);
        self.emit(event);
    }

    /// Tells that the file is open, and then what came up before.
    pub(super) fn announce(&mut self, opened: FileControl, bypass: Option<Bypass>) {
        let pending = self.pending_events.take().unwrap_or_default();
        self.emit(opened);
        if let Some(reason) = bypass {
            self.is_told = true;
            self.emit(FileControl::CacheBypassed { reason });
        }
        for event in pending {
            self.emit(event);
        }
    }

    /// Sends bytes to memory from now on. What is on the disk stays readable.
    pub(super) fn bypass(&mut self, reason: Bypass) {
        if !self.bypassed {
            (self.bypassed, self.is_told) = (true, true);
            // What waits for its write stays in memory too.
            self.held = self.writer.as_ref().map_or(0, Writer::memory_bytes);
            log::warn!("not kept in the cache: {reason:?}");
            self.subscribers.bypass(&reason);
            self.emit(FileControl::CacheBypassed { reason });
        }
    }

    /// Tells the cache the length, once it is known. A file that can never fit goes to memory from its first byte on: the
    /// cache would evict all else for it, and refuse it in the end (fault W11).
    fn tell_len(&mut self) {
        let len = self.writer.as_ref().and_then(Writer::end);
        if let (false, Some(len), Some(entry)) = (self.len_told, len, &self.entry) {
            self.len_told = true;
            if let Err(error) = entry.expect_len(len) {
                self.bypass(Bypass::Refused(error));
            }
        }
    }

    /// Writes the consecutive `parts` at `at`. Readers find them when this returns, whatever the disk does.
    ///
    /// # Errors
    ///
    /// [`StreamingError::BeyondEnd`]: the server sent a byte behind the end that it announced.
    pub(super) fn write(&mut self, at: u64, parts: &[Bytes]) -> Result<(), StreamingError> {
        self.tell_len();
        let Some(writer) = self.writer.as_mut() else {
            return Ok(());
        };
        if self.bypassed {
            let mut at = at;
            for part in parts {
                self.held += writer.keep_in_memory(at, part)?;
                at += part.len() as u64;
            }
            return Ok(());
        }
        // A reading thread must not wait for the disk. It hands over, and the driver writes.
        let put = if shared_work::is_run_by_reader() {
            writer.put_deferred(at, parts)
        } else {
            writer.put(at, parts)
        };
        match put {
            Ok(new) => {
                self.unrecorded += new;
                self.unsynced += new;
                self.record_if_due();
                Ok(())
            }
            // Says something about the server and nothing about the disk.
            Err(error @ StreamingError::BeyondEnd { .. }) => Err(error),
            // The disk failed. The writer holds the bytes in memory, so that nothing is lost.
            Err(error) => {
                self.bypass(Bypass::Failed(error));
                Ok(())
            }
        }
    }

    /// Whether everything written is in the file, if it is to go there.
    pub(super) fn is_flushed(&self) -> bool {
        self.writer.as_ref().is_none_or(Writer::is_flushed)
    }

    /// Moves what is held in memory to the file. Call it before waiting.
    ///
    /// A slow connection leads to small writes, and the file is then slower to read: 16 MiB that came at 1 MiB/s read at
    /// 0.53 of a plain file's speed, those that came at once at 0.88 (`cargo bench --features file --bench file -- slow`).
    pub(super) fn flush(&mut self) {
        if let Some(Err(error)) = self.writer.as_mut().map(Writer::flush) {
            self.bypass(Bypass::Failed(error));
        }
    }

    /// Drops from memory what lies outside [`ranges_to_keep`], once more than `window` bytes are held.
    pub(super) fn slide(&mut self, behind: u64, ahead: u64, window: u64, once: bool) {
        let Some(writer) = self.writer.as_mut().filter(|_| self.held > window) else {
            return;
        };
        // Less than was counted, where some of it has gone into the file.
        if writer.memory_bytes() > window {
            let positions = writer.demand_now().positions;
            writer.free_memory(&ranges_to_keep(&positions, behind, ahead, once));
        }
        self.held = writer.memory_bytes();
    }

    /// How long until a checkpoint is due. `None` if there is nothing to record.
    pub(super) fn checkpoint_wait(&self) -> Option<Duration> {
        if !self.resumable || self.bypassed || self.unrecorded == 0 {
            return None;
        }
        let interval = if self.unrecorded >= CHECKPOINT_BYTES {
            CHECKPOINT_INTERVAL
        } else {
            LATEST_CHECKPOINT
        };
        let wait = interval.saturating_sub(self.checkpoint_at.elapsed());
        // Of two at once the second would only wait for the disk.
        let is_running = self.checkpoint_runs.load(Ordering::Acquire);
        Some(if is_running {
            wait.max(CHECKPOINT_RETRY)
        } else {
            wait
        })
    }

    /// Starts a checkpoint if one is due. F3: what a killed process loses is what came since the last one began.
    pub(super) fn record_if_due(&mut self) {
        if self.checkpoint_wait() == Some(Duration::ZERO) {
            self.record_now();
        }
    }

    /// Starts a checkpoint if there is something to record and none is under way. It runs on another thread: the disk's
    /// sync would hold up the connection.
    pub(super) fn record_now(&mut self) {
        if self.checkpoint_wait().is_none() || self.checkpoint_runs.load(Ordering::Acquire) {
            return;
        }
        let (Some(writer), Some(entry)) = (&mut self.writer, &self.entry) else {
            return;
        };
        let checkpoint = writer.checkpoint();
        (self.unrecorded, self.unsynced) = (0, 0);
        self.checkpoint_at = Instant::now();
        self.checkpoint_runs.store(true, Ordering::Release);
        let (running, entry) = (Arc::clone(&self.checkpoint_runs), entry.clone());
        rt::unblock_detached(move || {
            record(&entry, checkpoint);
            running.store(false, Ordering::Release);
        });
    }

    /// Has what is written synced on another thread, if it is much. For a download that nobody plays: it comes as fast as it
    /// can, and its commit would wait for the disk with all of its bytes, and the next download for that.
    pub(super) fn sync_ahead_if_due(&mut self) {
        if self.bypassed || self.unsynced < SYNC_BYTES || self.checkpoint_runs.load(Ordering::Acquire) {
            return;
        }
        let (Some(writer), Some(entry)) = (&self.writer, &self.entry) else {
            return;
        };
        let sync = writer.sync_ahead();
        self.unsynced = 0;
        self.checkpoint_runs.store(true, Ordering::Release);
        let (running, entry) = (Arc::clone(&self.checkpoint_runs), entry.clone());
        rt::unblock_detached(move || {
            // Told by the commit, which is refused after a failed sync.
            if let Err(error) = sync() {
                log::warn!("{error}");
            }
            running.store(false, Ordering::Release);
            // Under the claim: whoever opens the file next finds it closed.
            drop(entry);
        });
    }

    /// Makes the complete file an entry of the cache.
    pub(super) async fn finish(mut self, len: u64) {
        let Some(mut writer) = self.writer.take() else {
            return;
        };
        self.is_told = true;
        if let Some(memory_entry) = self.memory_entry.take() {
            // Memory only, so this blocks nobody. Every byte is present: no reader waits for the writer.
            let event = memory_entry.put(&writer, len, self.validators.take());
            self.emit(event);
            return;
        }
        let Some(entry) = self.entry.take() else {
            return;
        };
        let (events, subscribers) = (self.events.clone(), Arc::clone(&self.subscribers));
        let validators = self.validators.take();
        rt::unblock_in_turn(move || match entry.commit(&mut writer, len) {
            // The validators follow the file, and `Cached` follows both. Were the validators first, a kill in between
            // would leave them beside the old file, which would then pass for the new one.
            Ok(()) => {
                if let Some(validators) = validators {
                    entry.beside(|cache, asset, path| validators.store(cache, asset, path));
                }
                let _ = events.try_send(FileControl::Cached);
            }
            Err(error) => {
                log::warn!("not kept in the cache: {error}");
                let reason = Bypass::Failed(error);
                subscribers.bypass(&reason);
                let _ = events.try_send(FileControl::CacheBypassed { reason });
                // Every byte is present, so no reader waits and none gets this cause.
                drop(writer.discard(FileError::Stopped));
            }
        })
        .await;
    }

    /// Ends every wait with `cause`. What is written stays readable, and resumable if it was.
    pub(super) fn fail(mut self, cause: FileError) {
        self.flush();
        self.end(cause);
    }

    /// Ends every wait with `cause` and removes what is written: the server has another file now.
    pub(super) fn discard(mut self, cause: FileError) {
        self.tell_incomplete();
        // Not in the background: what follows may claim the entry, and would find the old bytes.
        if let Some(Err(error)) = self.writer.take().map(|writer| writer.discard(cause)) {
            log::warn!("cannot remove a partial file: {error}");
        }
    }

    /// The last reader was dropped.
    pub(super) fn close(mut self) {
        // Before the writer ends, which may take the disk's time: a source that opens the file meanwhile waits for the
        // claim instead of being told that it is in use.
        if let Some(entry) = &self.entry {
            entry.closing();
        }
        self.flush();
        self.end(FileError::Stopped);
    }

    /// The download ends, and the file is not complete. Bypassed or kept, the source was told before.
    fn tell_incomplete(&mut self) {
        let Some(writer) = self.writer.as_ref().filter(|_| !self.is_told) else {
            return;
        };
        let missing = writer.end().map(|len| {
            let present = writer.available();
            len - present.iter().map(|range| range.end - range.start).sum::<u64>()
        });
        self.is_told = true;
        self.emit(FileControl::Incomplete { missing });
    }

    /// Does no I/O on this thread, which may be that of an app that drops a driver.
    fn end(&mut self, cause: FileError) {
        self.tell_incomplete();
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
                // The claim ends last: before the old bytes are gone nobody may write new ones.
                drop(entry);
            });
        } else if self.unrecorded == 0 {
            writer.fail(cause);
        } else {
            // Readers get their error now. The record follows in the background, under the claim that it holds.
            let checkpoint = writer.checkpoint();
            writer.fail(cause);
            rt::unblock_detached(move || record(&entry, checkpoint));
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Without a flush, which may reserve room, and evict for it. A driver flushes before it waits, so one that is dropped
        // while it waits leaves nothing to flush; what is left all the same stays in memory and is fetched again after a
        // restart.
        self.end(FileError::Stopped);
    }
}

/// The ranges of a window: for each reader some bytes `behind` it and some `ahead`. Where the server sends each byte only
/// `once`, the foremost reader keeps everything ahead of it; that is no more than what came beyond the look-ahead in one
/// read.
fn ranges_to_keep(readers: &[u64], behind: u64, ahead: u64, once: bool) -> Vec<Range<u64>> {
    let foremost = readers.iter().max().filter(|_| once);
    let around = |at: &u64| {
        let ahead = if Some(at) == foremost { u64::MAX } else { ahead };
        at.saturating_sub(behind)..at.saturating_add(ahead)
    };
    readers.iter().map(around).collect()
}

/// Writes a checkpoint. Without one a restart downloads again, which is no error.
fn record(entry: &PartialEntry, checkpoint: Checkpoint<FileError>) {
    match entry.reserve_record(&checkpoint) {
        Ok(()) => {
            if let Err(error) = checkpoint.run() {
                log::warn!("a restart will download again: {error}");
            }
        }
        Err(error) => log::warn!("a restart will download again: {error}"),
    }
}

#[cfg(test)]
mod tests;

//! Opening a streaming resource: what is trusted, and where its files stand.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use rangemap::RangeSet;
use snafu::ResultExt;

use super::StreamingResource;
use super::error::{InUseSnafu, IoSnafu, StreamingError};
use super::file::NamedFile;
use super::inner::{Inner, WriterState};
use super::lazy::LazyFile;
use super::memory::MemoryPieces;
use super::presence::Presence;
use super::record::Record;
use super::recorder::{Recorder, with_suffix};
use super::verify::Verifier;
use crate::storage::damage::DamageCallback;
use crate::storage::durable::{Disk, DiskFile, Durability, OsDisk};

/// Says whether the partial file may grow. The owner of a limited space gives one to
/// [`StreamingOptions::budget`].
///
/// It is asked with no lock held, from the thread that writes.
pub trait Budget: fmt::Debug + Send + Sync + 'static {
    /// Sets `bytes` aside before they are written.
    ///
    /// # Errors
    ///
    /// An error refuses the write, which reports it as the file system's. For "no room" use
    /// [`io::ErrorKind::QuotaExceeded`].
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Takes back what was reserved last and could not be written.
    fn release(&self, bytes: u64);
}

/// How a [`StreamingResource`] is opened.
#[derive(Debug, Clone)]
#[must_use]
pub struct StreamingOptions {
    target: PathBuf,
    partial: PathBuf,
    checkpoint_every: u64,
    durability: Durability,
    budget: Option<Arc<dyn Budget>>,
    disk: Arc<dyn Disk>,
    create_lazily: bool,
    on_damage: DamageCallback,
}

impl StreamingOptions {
    /// The ways to open a resource that stands, or will stand, at `target`.
    pub fn new(target: impl Into<PathBuf>) -> Self {
        let target = target.into();
        let partial = with_suffix(&target, "~part");
        Self {
            target,
            partial,
            checkpoint_every: 8 * 1024 * 1024,
            durability: Durability::default(),
            budget: None,
            disk: OsDisk::shared(),
            create_lazily: false,
            on_damage: DamageCallback::default(),
        }
    }

    /// A partial file that is not there yet is made by the first write, after the [`Budget`] was asked. For whoever
    /// sees to it by himself that nobody else opens it.
    #[cfg_attr(
        not(feature = "cache"),
        expect(dead_code, reason = "the cache keeps claims on its files")
    )]
    pub(crate) fn create_lazily(mut self) -> Self {
        self.create_lazily = true;
        self
    }

    /// Has it told when what is complete turns out to be damaged.
    #[cfg_attr(
        not(feature = "cache"),
        expect(dead_code, reason = "the cache takes away what is damaged")
    )]
    pub(crate) fn on_damage(mut self, callback: DamageCallback) -> Self {
        self.on_damage = callback;
        self
    }

    /// Where the partial file stands until the commit: on the target's file system. Without it, beside the target with
    /// `~part` added to the name. The record of its progress stands beside it, with `~ranges` added.
    pub fn partial(mut self, path: impl Into<PathBuf>) -> Self {
        self.partial = path.into();
        self
    }

    /// Deferred how many new bytes a [checkpoint](super::Writer::due_checkpoint) falls due; 8 MiB without it. Fewer
    /// bytes are fetched again after a crash, at the price of more syncs.
    pub fn checkpoint_every(mut self, bytes: u64) -> Self {
        self.checkpoint_every = bytes;
        self
    }

    /// What a commit that has returned has been through.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Asks `budget` before the partial file grows. What it holds already at opening
    /// ([`StreamingResource::stored_bytes`]) is not asked for.
    pub fn budget(mut self, budget: Arc<dyn Budget>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Opens it on another file system, for tests that cut the power.
    #[cfg(any(test, feature = "test-util"))]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Opens the partial file, or makes it. Of a file left by an earlier process exactly the recorded ranges are
    /// taken as present; the directories must exist. What stands at the target is not looked at, and replaced by the
    /// commit.
    ///
    /// # Errors
    ///
    /// [`StreamingError::InUse`] if another resource holds the partial file; [`StreamingError::Io`].
    pub fn open<E>(self) -> Result<StreamingResource<E>, StreamingError> {
        let recorder = Recorder::new(self.disk, self.durability, self.partial);
        let partial = &recorder.partial;
        let absent = |path| match recorder.disk.metadata(path) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(_) => false,
        };
        if self.create_lazily && absent(partial) && absent(&recorder.record) {
            let file = LazyFile::new(Arc::clone(&recorder.disk), partial.clone());
            return Ok(StreamingResource::new(Inner {
                presence: Presence::new(RangeSet::new(), None, false),
                file: NamedFile::new(Box::new(file), partial.clone()),
                memory: MemoryPieces::default(),
                target: self.target,
                checkpoint_every: self.checkpoint_every,
                budget: self.budget,
                writer_state: Mutex::new(WriterState::resume(Record::default())),
                recorder: Mutex::new(recorder),
                on_damage: self.on_damage,
                repair: OnceLock::new(),
            }));
        }
        let file = match recorder.disk.open_partial(partial) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return InUseSnafu { path: partial }.fail();
            }
            opened => opened.context(IoSnafu {
                action: "open",
                path: partial,
            })?,
        };
        // From here on the file is ours alone.
        let file = NamedFile::new(file, partial.clone());
        let on_disk = file.len()?;
        let record = match recorder.read() {
            // A record that reaches beyond its file belongs to one that is gone; it must not be believed of this one,
            // now or later.
            Some(record) if record.reach() <= on_disk => record,
            _ => {
                recorder.forget()?;
                Record::default()
            }
        };
        if on_disk > record.reach() {
            file.set_len(record.reach())?;
        }
        Ok(StreamingResource::new(Inner {
            presence: Presence::new(record.present(), record.len, false),
            file: file.verified_by(Verifier::of_runs(record.runs.iter().copied())),
            memory: MemoryPieces::default(),
            target: self.target,
            checkpoint_every: self.checkpoint_every,
            budget: self.budget,
            writer_state: Mutex::new(WriterState::resume(record)),
            recorder: Mutex::new(recorder),
            on_damage: self.on_damage,
            repair: OnceLock::new(),
        }))
    }

    /// Opens the finished file at the target for reading: complete, its content the first `len` bytes of the file, or
    /// all of it. What follows `len` (the footer of a commit) is never shown.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Cut`] if the file is shorter than `len`; [`StreamingError::Io`].
    pub fn open_finished<E>(self, len: Option<u64>) -> Result<StreamingResource<E>, StreamingError> {
        let file = self.disk.open(&self.target).context(IoSnafu {
            action: "open",
            path: &self.target,
        })?;
        let file = NamedFile::new(file, self.target.clone());
        let on_disk = file.len()?;
        let len = len.unwrap_or(on_disk);
        file.expect_len(on_disk, len)?;
        Ok(self.finished(file, len))
    }

    /// As [`open_finished`](Self::open_finished), of a file that is open, whose content is the first `len` bytes and has
    /// these checksums, one for each [`BLOCK`](super::BLOCK).
    #[cfg_attr(
        not(feature = "cache"),
        expect(dead_code, reason = "the cache's entries have checksums")
    )]
    pub(crate) fn open_checked<E>(
        self,
        file: Box<dyn DiskFile>,
        len: u64,
        blocks: &[u32],
    ) -> StreamingResource<E> {
        let file = NamedFile::new(file, self.target.clone()).verified_by(Verifier::of_blocks(blocks, len));
        self.finished(file, len)
    }

    fn finished<E>(self, file: NamedFile, len: u64) -> StreamingResource<E> {
        let present = Some(0..len)
            .into_iter()
            .filter(|whole| !whole.is_empty())
            .collect();
        StreamingResource::new(Inner {
            presence: Presence::new(present, Some(len), true),
            file,
            memory: MemoryPieces::default(),
            target: self.target,
            checkpoint_every: self.checkpoint_every,
            budget: self.budget,
            writer_state: Mutex::new(WriterState::resume(Record::default())),
            recorder: Mutex::new(Recorder::new(self.disk, self.durability, self.partial)),
            on_damage: self.on_damage,
            repair: OnceLock::new(),
        })
    }
}

//! A file that is read while it is still being written, in any order.
//!
//! The rule this adds to `storage`: *a byte is there or it is not*. A sparse file holds the bytes, a set of ranges
//! says which of them are there, and every answer comes from the set: a hole is never read as zeros, and the end is
//! the end only once a writer has vouched for it.
//!
//! ```text
//!             writer()                    commit(len)
//!   Idle ─────────────────▶ Writing ─────────────────────▶ Complete
//!    ▲ ◀───────────────────  │ │ │                          the final name, read for ever
//!    │     drop the writer   │ │ └────── discard(cause) ──▶ Discarded
//!    │                       │ ▼ fail(cause)                files removed; readers keep what they have
//!    └ (next process)        │ Failed
//!                            └──┘ writer() goes on from what is present
//! ```
//!
//! In every state the bytes present can be read. A wait for missing ones lasts through `Idle` and `Writing`, and ends
//! with the cause in `Failed` and `Discarded`.
//!
//! ```text
//!   readers ──▶ presence (state, waits, demand; no I/O) ◀── writer ──▶ checksum, recorder
//!      └──────▶ sparse file  ◀──────────────────────────────┘             │ record, rename
//!                 └ checked: what earlier sessions left is read against its checksums
//! ```

mod checksum;
mod error;
mod file;
mod inner;
mod lazy;
mod memory;
#[cfg(test)]
mod memory_model;
#[cfg(test)]
mod model;
mod notify;
mod options;
mod presence;
mod record;
mod recorder;
mod state;
mod verify;
mod waiter;
mod watch;
mod writer;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use rangemap::RangeSet;

use self::file::NamedFile;
use self::inner::{Inner, RepairCallback, WriterState};
use self::memory::MemoryPieces;
use self::presence::Presence;
use self::record::Record;
use self::recorder::Recorder;
use super::damage::DamageCallback;

pub use self::checksum::BLOCK;
pub use self::error::{StreamingError, WaitError};
pub use self::options::{Budget, StreamingOptions};
#[cfg(feature = "cache")]
pub(crate) use self::recorder::{RECORD_SUFFIX, STAGED_SUFFIX};
pub use self::waiter::{Interrupter, Waited, Waiter};
pub use self::watch::{Condition, Demand, DemandWatch, Status, StatusWatch};
pub use self::writer::{Checkpoint, Payload, Writer};

/// The most bytes a [tag](Writer::set_tag) may have.
pub const TAG_LIMIT: usize = 4096;

/// The locks under `presence` and `held`. The models put others in their place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
    pub(super) use std::sync::{Mutex, MutexGuard};
}

/// What [`StreamingResource::read_at`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// So many bytes were read, at least one (none only into an empty buffer).
    Bytes(usize),
    /// The byte at the offset is not there yet.
    Missing,
    /// The offset is at or after the proven end.
    End,
}

/// One file, readable while it is written in any order: many readers, one writer at a time.
///
/// `E` is why its writer may give up, a [`WaitError`]'s cause. Clones are handles to the same resource. A handle or a
/// reader keeps the resource wanted, a [`Writer`] does not; so when [`DemandWatch::changed`] says `None`, nobody reads
/// any more.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use kithara::storage::{Found, StreamingResource, Waited};
///
/// let track = StreamingResource::<std::io::Error>::open(dir.path().join("track.ogg"))?;
/// let mut writer = track.writer()?;
/// writer.set_len(8)?;
/// writer.write_at(4, b"tail")?;
///
/// let mut buffer = [0; 16];
/// assert_eq!(track.read_at(0, &mut buffer)?, Found::Missing);
/// assert_eq!(track.read_at(4, &mut buffer)?, Found::Bytes(4));
/// assert_eq!(track.read_at(8, &mut buffer)?, Found::End);
///
/// writer.write_at(0, b"head")?;
/// assert_eq!(track.wait_range_blocking(0..100)?, Waited::Present(0..8));
/// writer.commit(8)?;
/// assert_eq!(std::fs::read(dir.path().join("track.ogg"))?, b"headtail");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StreamingResource<E> {
    inner: Arc<Inner<E>>,
}

impl<E> StreamingResource<E> {
    /// Opens the resource that will stand at `target`, resuming from what an earlier process recorded. See
    /// [`StreamingOptions::open`].
    ///
    /// # Errors
    ///
    /// [`StreamingError::InUse`], [`StreamingError::Io`].
    pub fn open(target: impl Into<PathBuf>) -> Result<Self, StreamingError> {
        StreamingOptions::new(target).open()
    }

    /// A resource without a file: its writer [keeps](Writer::keep_in_memory) bytes in memory and lets them go again. It cannot be
    /// written to, committed or resumed. `name` is what errors call it.
    pub fn in_memory(name: impl Into<PathBuf>) -> Self {
        let name = name.into();
        Self::new(Inner {
            presence: Presence::new(RangeSet::new(), None, false),
            file: NamedFile::none(name.clone()),
            memory: MemoryPieces::default(),
            checkpoint_every: u64::MAX,
            budget: None,
            writer_state: Mutex::new(WriterState::resume(Record::default())),
            recorder: Mutex::new(Recorder::none(name.clone())),
            target: name,
            on_damage: DamageCallback::default(),
            repair: OnceLock::new(),
        })
    }

    fn new(inner: Inner<E>) -> Self {
        inner.presence.add_handle();
        Self {
            inner: Arc::new(inner),
        }
    }

    /// A handle that does not keep the resource wanted.
    pub fn downgrade(&self) -> WeakResource<E> {
        WeakResource(Arc::downgrade(&self.inner))
    }

    /// Whether bytes that were there are gone: the writer [let them go](Writer::free_memory).
    pub fn has_freed_memory(&self) -> bool {
        self.inner.memory.has_freed()
    }

    /// Where the resource stands once it is complete.
    pub fn path(&self) -> &Path {
        &self.inner.target
    }

    /// The end in bytes, once a writer has vouched for it.
    pub fn len(&self) -> Option<u64> {
        self.inner.presence.len()
    }

    /// Whether the end is known to be at 0.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The bytes present: half-open ranges, ascending, apart.
    pub fn available(&self) -> Vec<Range<u64>> {
        self.inner.presence.available()
    }

    /// The bytes of `range` that are not present, up to the end if it is known.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.inner.presence.missing(&range)
    }

    /// How many bytes are present; the partial file holds no more.
    pub fn stored_bytes(&self) -> u64 {
        self.available().iter().map(|range| range.end - range.start).sum()
    }

    /// What the last [`Writer::set_tag`] left, in this process or (as of the last checkpoint) an earlier one.
    pub fn tag(&self) -> Vec<u8> {
        self.inner.writer_state().tag.clone()
    }

    /// Has what is found damaged fetched again: `mend` is told of each block, on the thread that reads it, and must see to
    /// it without waiting. Readers find the block missing meanwhile.
    #[cfg_attr(
        not(feature = "file"),
        expect(dead_code, reason = "`file` fetches what is lost")
    )]
    pub(crate) fn repair_with(&self, repair: RepairCallback) {
        let _ = self.inner.repair.set(repair);
    }

    /// Reads what is present at `offset`, up to the first missing byte; never waits for bytes. What an earlier session
    /// left is checked before it is given out, 128 KiB at a time and once as long as the resource is open; if the disk
    /// has changed it, it is missing from now on.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Io`]; [`StreamingError::Cut`] if the file lost bytes that were there;
    /// [`StreamingError::Damaged`] if it is finished, and no longer what was written.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<Found, StreamingError> {
        self.inner.read_at(offset, buffer)
    }

    /// Resolves when all of `range` is present, or at once where the end is proven to lie before it. Nothing else ends
    /// the wait but a failure: not other bytes, not a writer's coming or going.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`] with the writer's cause.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and withdraws it from the fetcher's demand; nothing is lost.
    pub async fn wait_range(&self, range: Range<u64>) -> Result<Waited, WaitError<E>> {
        self.waiter().wait(range).await
    }

    /// [`wait_range`](Self::wait_range) for a thread that may block. To be able to call it off use a
    /// [`waiter`](Self::waiter).
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`] with the writer's cause.
    pub fn wait_range_blocking(&self, range: Range<u64>) -> Result<Waited, WaitError<E>> {
        self.waiter().wait_blocking(range)
    }

    /// One who waits and can be interrupted.
    pub fn waiter(&self) -> Waiter<E> {
        Waiter::new(self.clone(), None)
    }

    /// A waiter that reads, from `position` first: the fetcher is told of its place.
    pub fn reading(&self, position: u64) -> Waiter<E> {
        Waiter::new(self.clone(), Some(position))
    }

    /// What readers need right now.
    pub fn demand(&self) -> Demand {
        self.inner.presence.demand()
    }

    /// How the resource stands right now.
    pub fn status(&self) -> Status<E> {
        self.inner.presence.status()
    }

    /// How the resource stands, to watch.
    pub fn watch(&self) -> StatusWatch<E> {
        StatusWatch::new(self.inner.clone())
    }

    /// Takes the writer's role. Deferred a failure this clears it: waits wait again.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Taken`], [`StreamingError::Committed`], [`StreamingError::Discarded`].
    pub fn writer(&self) -> Result<Writer<E>, StreamingError> {
        let taken = self.inner.presence.take_role();
        self.inner.role(taken).map(|()| Writer::new(self.inner.clone()))
    }

    /// Takes the writer's role as soon as nobody has it.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Committed`], [`StreamingError::Discarded`]: there is nothing left to write.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue.
    pub async fn next_writer(&self) -> Result<Writer<E>, StreamingError> {
        let queue = RoleQueue {
            presence: &self.inner.presence,
            id: self.inner.presence.new_id(),
        };
        let taken = std::future::poll_fn(|cx| queue.presence.poll_role(queue.id, cx)).await;
        self.inner.role(taken).map(|()| Writer::new(self.inner.clone()))
    }
}

/// A handle that does not keep the [`StreamingResource`] wanted. From [`StreamingResource::downgrade`].
pub struct WeakResource<E>(Weak<Inner<E>>);

impl<E> Clone for WeakResource<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> fmt::Debug for WeakResource<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakResource").finish_non_exhaustive()
    }
}

impl<E> WeakResource<E> {
    /// One more handle like the others; `None` if there is none left, so that the fetcher was told to end.
    pub fn upgrade(&self) -> Option<StreamingResource<E>> {
        let inner = self.0.upgrade()?;
        inner.presence.join().then_some(StreamingResource { inner })
    }
}

struct RoleQueue<'a, E> {
    presence: &'a Presence<E>,
    id: u64,
}

impl<E> Drop for RoleQueue<'_, E> {
    fn drop(&mut self) {
        self.presence.leave_role_queue(self.id);
    }
}

impl<E> Clone for StreamingResource<E> {
    fn clone(&self) -> Self {
        self.inner.presence.add_handle();
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<E> Drop for StreamingResource<E> {
    fn drop(&mut self) {
        self.inner.presence.drop_handle();
    }
}

impl<E> fmt::Debug for StreamingResource<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingResource")
            .field("path", &self.inner.target)
            .field("len", &self.len())
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

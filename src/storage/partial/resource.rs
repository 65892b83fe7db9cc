//! The handles of a resource that is written while it is read.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use rangemap::RangeSet;

use super::error::{StreamingError, WaitError};
use super::fetcher::Fetcher;
use super::file::NamedFile;
use super::inner::{Inner, RepairCallback, Settings};
use super::options::StreamingOptions;
use super::presence::Presence;
use super::record::Record;
use super::recorder::Recorder;
use super::status::{Demand, Found, Status, Waited};
use super::waiter::Waiter;
use super::watch::StatusWatch;
use super::writer::Writer;
use crate::storage::damage::DamageCallback;

/// One file that is read while it is written in any order: many readers, one writer at a time.
///
/// `E` is the cause with which a writer gives up, the one in a [`WaitError`]. Clones are handles to the same resource.
/// Handles and readers keep it in use, a [`Writer`] does not: when [`DemandWatch::changed`](super::DemandWatch::changed)
/// answers `None`, nobody reads any more.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use kithara::storage::{Found, StreamingResource, Waited};
///
/// let path = dir.path().join("track.ogg");
/// let track = StreamingResource::<std::io::Error>::open(&path)?;
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
/// assert_eq!(std::fs::read(path)?, b"headtail");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StreamingResource<E> {
    pub(super) inner: Arc<Inner<E>>,
}

impl<E> StreamingResource<E> {
    /// Opens the resource that will stand at `target`, and resumes what an earlier process recorded. See
    /// [`StreamingOptions::open`].
    ///
    /// # Errors
    ///
    /// [`StreamingError::InUse`], [`StreamingError::Io`].
    pub fn open(target: impl Into<PathBuf>) -> Result<Self, StreamingError> {
        StreamingOptions::new(target).open()
    }

    /// A resource without a file: its writer [keeps](Writer::keep_in_memory) bytes in memory and frees them again. It cannot
    /// be written to, committed or resumed. `name` is what errors call it.
    pub fn in_memory(name: impl Into<PathBuf>) -> Self {
        let name = name.into();
        let settings = Settings {
            target: name.clone(),
            checkpoint_every: u64::MAX,
            budget: None,
            on_damage: DamageCallback::default(),
            unit: 1,
        };
        let presence = Presence::new(RangeSet::new(), None, false);
        let (file, recorder) = (NamedFile::none(name.clone()), Recorder::none(name));
        Self::new(Inner::new(settings, presence, file, recorder, Record::default()))
    }

    pub(super) fn new(inner: Inner<E>) -> Self {
        // Counted before it can be cloned or watched: a resource without handles counts as unused.
        inner.presence.add_handle();
        Self {
            inner: Arc::new(inner),
        }
    }

    /// A handle that does not keep the resource in use.
    #[cfg_attr(
        not(any(feature = "file", test, feature = "test-util")),
        allow(dead_code, reason = "`file` shares downloads")
    )]
    pub(crate) fn downgrade(&self) -> WeakResource<E> {
        WeakResource(Arc::downgrade(&self.inner))
    }

    /// Whether bytes that were present are gone, because the writer [freed](Writer::free_memory) them.
    #[cfg_attr(
        not(any(feature = "file", test, feature = "test-util")),
        allow(dead_code, reason = "`file` shares downloads")
    )]
    pub(crate) fn has_freed_memory(&self) -> bool {
        self.inner.memory.has_freed()
    }

    /// Where the resource stands once it is complete.
    pub fn path(&self) -> &Path {
        &self.inner.settings.target
    }

    /// The end in bytes, once a writer has stated it.
    pub fn len(&self) -> Option<u64> {
        self.inner.presence.len()
    }

    /// Whether the end is known to be at 0.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The bytes present: half-open ranges, ascending, none touching the next.
    pub fn available(&self) -> Vec<Range<u64>> {
        self.inner.presence.available()
    }

    /// The bytes of `range` that are not present, up to the end if it is known.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.inner.presence.missing(&range)
    }

    /// How many bytes are present. The partial file has no more.
    pub fn stored_bytes(&self) -> u64 {
        self.available().iter().map(|range| range.end - range.start).sum()
    }

    /// The tag that [`Writer::set_tag`] set last, in this process or, as of the last checkpoint, in an earlier one.
    pub fn tag(&self) -> Vec<u8> {
        self.inner.writer_state().tag.clone()
    }

    /// Has damaged blocks fetched again: `repair` is given the error of each block, on the thread that reads it, and starts
    /// the repair without waiting. Meanwhile readers find the block missing.
    #[cfg_attr(
        not(feature = "file"),
        expect(dead_code, reason = "`file` fetches what is lost")
    )]
    pub(crate) fn repair_with(&self, repair: RepairCallback) {
        // The first one stays: its download serves every handle of the resource.
        let _ = self.inner.repair.set(repair);
    }

    /// Lets threads that wait for a byte run `fetcher`. Another one replaces it.
    #[cfg_attr(not(feature = "file"), allow(dead_code, reason = "`file` has a fetcher"))]
    pub(crate) fn fetched_by(&self, fetcher: Weak<dyn Fetcher>) {
        self.inner.set_fetcher(fetcher);
    }

    /// Reads what is present at `offset`, up to the first missing byte. It never waits for bytes.
    ///
    /// What an earlier session left is verified before it is given out, in blocks of 128 KiB, once while the resource is
    /// open. If the disk has changed it, it is missing from then on.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Io`]; [`StreamingError::Cut`] if the file lost bytes that were present;
    /// [`StreamingError::Damaged`] if the resource is complete and a block is no longer what was written.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<Found, StreamingError> {
        self.inner.read_at(offset, buffer)
    }

    /// Resolves when all of `range` is present, or at a proven end before that. Nothing else ends the wait but a failure: no
    /// other bytes, and no writer that comes or goes.
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`] with the writer's cause.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and withdraws it from the demand. Nothing is lost.
    pub async fn wait_range(&self, range: Range<u64>) -> Result<Waited, WaitError<E>> {
        self.waiter().wait(range).await
    }

    /// [`wait_range`](Self::wait_range) for a thread that may block. To be able to interrupt it use a
    /// [`waiter`](Self::waiter).
    ///
    /// # Errors
    ///
    /// [`WaitError::Failed`] with the writer's cause.
    pub fn wait_range_blocking(&self, range: Range<u64>) -> Result<Waited, WaitError<E>> {
        self.waiter().wait_blocking(range)
    }

    /// A waiter, which can be interrupted.
    pub fn waiter(&self) -> Waiter<E> {
        Waiter::new(self.clone(), None)
    }

    /// A waiter that reads, from `position` first. The fetcher is told of its position.
    pub fn reading(&self, position: u64) -> Waiter<E> {
        Waiter::new(self.clone(), Some(position))
    }

    /// What readers need now.
    pub fn demand(&self) -> Demand {
        self.inner.presence.demand()
    }

    /// Whether missing bytes come in their order only, so that a jump forward waits for all that lies before its target: a
    /// server without ranges. `false` once all bytes are present.
    pub fn is_sequential(&self) -> bool {
        self.inner.is_sequential.load(Ordering::Relaxed) && !self.inner.presence.is_finished()
    }

    /// How the resource stands now.
    pub fn status(&self) -> Status<E> {
        self.inner.presence.status()
    }

    /// Watches how the resource stands.
    pub fn watch(&self) -> StatusWatch<E> {
        StatusWatch::new(self.inner.clone())
    }

    /// Takes the writer's role. After a failure this clears it: waits wait again.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Taken`], [`StreamingError::Committed`], [`StreamingError::Discarded`].
    pub fn writer(&self) -> Result<Writer<E>, StreamingError> {
        let taken = self.inner.presence.take_role();
        self.inner.role(taken).map(|()| Writer::new(self.inner.clone()))
    }

    /// Takes the writer's role as soon as it is free.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Committed`], [`StreamingError::Discarded`]: there is nothing left to write.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue.
    pub async fn next_writer(&self) -> Result<Writer<E>, StreamingError> {
        // A guard, so that a dropped future leaves no waker behind.
        let queue = RoleQueue {
            presence: &self.inner.presence,
            id: self.inner.presence.new_id(),
        };
        let taken = std::future::poll_fn(|cx| queue.presence.poll_role(queue.id, cx)).await;
        self.inner.role(taken).map(|()| Writer::new(self.inner.clone()))
    }
}

/// A handle that does not keep the [`StreamingResource`] in use.
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
    /// A handle like the others. `None` if there is none left: the fetcher was told to end then.
    #[cfg_attr(
        not(any(feature = "file", test, feature = "test-util")),
        allow(dead_code, reason = "`file` shares downloads")
    )]
    pub fn upgrade(&self) -> Option<StreamingResource<E>> {
        let inner = self.0.upgrade()?;
        // The memory outlives the last handle (a writer has it, too). Whether there are handles is the presence's to say, under
        // its lock: a handle that came after the fetcher was told to end would wait for ever.
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
            .field("path", &self.path())
            .field("len", &self.len())
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

//! An entry that is fetched piece by piece, in any order, over several sessions.
//!
//! ```text
//! <root>/assets/<aa>/<id>/<name>                the entry, once it is whole
//!                        /.part-<name>          its bytes until then, with holes
//!                        /.part-<name>~ranges   which of them are there
//! ```
//!
//! The rule: a partial file counts, is protected and leaves like everything else of its asset, and becomes the entry
//! by one rename. Each layer of the stack does its part of that in a [`Partial`].

use std::fmt;
use std::io;
use std::mem;
#[cfg(feature = "file")]
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::blocking::BlockingCache;
use super::entry::EntryFile;
use super::error::CacheError;
use super::footer;
use super::id::AssetId;
use super::lease::Lease;
use super::path::CachePath;
use super::store::Partial;
use crate::storage::{Budget, Checkpoint, StreamingError, StreamingOptions, StreamingResource, Writer};

/// The partial file of one entry, claimed. From [`AssetCache::partial`](super::AssetCache::partial).
///
/// As long as this or the resource opened from it lives, the asset is not evicted and nobody else gets the file.
/// Dropped without a commit, the file stays and counts as any other of its asset.
#[derive(Clone)]
pub struct PartialEntry {
    claim: Arc<Claim>,
}

/// The claim as the streaming resource holds it: its budget.
struct Claim {
    partial: Box<dyn Partial>,
    /// Whether there is something for the files to stand in.
    prepared: AtomicBool,
    /// What is reserved for the record and its next version.
    for_records: Mutex<u64>,
    /// What is reserved for the footer and not yet asked for.
    for_footer: Mutex<u64>,
    /// Keeps the cache open: what the claim counts is noted before the cache's last note.
    cache: BlockingCache,
    asset: AssetId,
    path: CachePath,
}

/// A [`PartialEntry`] of somebody else.
#[cfg(feature = "file")]
pub(crate) struct WeakPartialEntry(Weak<Claim>);

#[cfg(feature = "file")]
impl WeakPartialEntry {
    /// The entry, if its holder still has it.
    pub(crate) fn upgrade(&self) -> Option<PartialEntry> {
        let claim = self.0.upgrade()?;
        Some(PartialEntry { claim })
    }

    pub(crate) fn is_held(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl PartialEntry {
    pub(super) fn new(
        partial: Box<dyn Partial>,
        cache: &BlockingCache,
        asset: &AssetId,
        path: &CachePath,
    ) -> Self {
        Self {
            claim: Arc::new(Claim {
                partial,
                prepared: AtomicBool::new(false),
                for_records: Mutex::new(0),
                for_footer: Mutex::new(0),
                cache: cache.clone(),
                asset: asset.clone(),
                path: path.clone(),
            }),
        }
    }

    #[cfg(feature = "file")]
    pub(crate) fn downgrade(&self) -> WeakPartialEntry {
        WeakPartialEntry(Arc::downgrade(&self.claim))
    }

    /// Lets `work` put something beside the entry.
    #[cfg(feature = "file")]
    pub(crate) fn beside(&self, work: impl FnOnce(&BlockingCache, &AssetId, &CachePath)) {
        let Claim {
            cache, asset, path, ..
        } = &*self.claim;
        work(cache, asset, path);
    }

    /// Opens the file with what earlier sessions recorded. Writing to it fails with
    /// [`StreamingError::Io`] and [`is_full`](StreamingError::is_full) where the cache has no room. Blocks.
    ///
    /// # Errors
    ///
    /// As [`StreamingOptions::open`]; [`StreamingError::InUse`] the second time.
    pub fn open<E>(&self) -> Result<StreamingResource<E>, StreamingError> {
        let place = self.claim.partial.place();
        StreamingOptions::new(&place.target)
            .partial(&place.partial)
            .durability(place.durability)
            .budget(Arc::clone(&self.claim) as Arc<dyn Budget>)
            .alarm(self.claim.cache.alarm(&self.claim.asset, &self.claim.path))
            .made_late()
            .open()
    }

    /// Makes room for the record that `checkpoint` is about to write.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] or [`CacheError::PolicyBusy`]: skip the checkpoint.
    pub fn reserve_record<E>(&self, checkpoint: &Checkpoint<E>) -> Result<(), CacheError> {
        let wanted = 2 * checkpoint.record_bytes();
        let more = wanted.saturating_sub(*self.claim.for_records());
        if more > 0 {
            // Under no lock: it runs the eviction policy. Two at once reserve too much, which is no harm.
            self.claim.partial.reserve(more)?;
            *self.claim.for_records() += more;
        }
        Ok(())
    }

    /// Makes the whole file the entry. Blocks for as long as the disk takes.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Incomplete`] and the others of [`Writer::commit`]; the cache's own as
    /// [`StreamingError::Io`].
    pub fn commit<E>(&self, writer: &mut Writer<E>, len: u64) -> Result<(), StreamingError> {
        // Before the entry's turn is taken: making room runs the eviction policy, which may use this very entry. And
        // before the footer is paid for, since what is flushed would spend that.
        writer.flush()?;
        self.claim
            .prepay(footer::len(&self.claim.asset, &self.claim.path, len))
            .map_err(|source| StreamingError::Io {
                action: "make room for",
                path: self.claim.partial.place().target.clone(),
                source,
            })?;
        let mut refusal = None;
        let mut rename = || {
            let mut bytes = len;
            let done = writer.commit_with_footer(len, |payload| {
                let footer =
                    footer::encode(&self.claim.asset, &self.claim.path, payload.len, &payload.blocks);
                bytes = payload.len + footer.len() as u64;
                footer.to_vec()
            });
            match done {
                Ok(()) => Ok(bytes),
                Err(error) => {
                    refusal = Some(error);
                    Err(CacheError::Abandoned)
                }
            }
        };
        let committed = self.claim.partial.commit(&mut rename);
        let unspent = mem::take(&mut *self.claim.for_footer());
        if committed.is_err() {
            self.claim.partial.release(unspent);
        }
        self.claim.cache.tidy();
        match (refusal, committed) {
            (Some(refusal), _) => Err(refusal),
            (None, Ok(_)) => Ok(()),
            (None, Err(error)) => Err(StreamingError::Io {
                action: "commit",
                path: self.claim.partial.place().target.clone(),
                source: as_io(error),
            }),
        }
    }

    /// Says that the file is about to be let go: who wants it meanwhile waits instead of being refused.
    pub fn closing(&self) {
        self.claim.partial.closing();
    }
}

impl fmt::Debug for PartialEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartialEntry")
            .field("asset", &self.claim.asset)
            .field("path", &self.claim.path)
            .finish_non_exhaustive()
    }
}

impl Claim {
    fn for_records(&self) -> MutexGuard<'_, u64> {
        // A number is whole whatever panics.
        self.for_records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn for_footer(&self) -> MutexGuard<'_, u64> {
        // As above.
        self.for_footer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepay(&self, footer: u64) -> io::Result<()> {
        self.reserve(footer)?;
        *self.for_footer() += footer;
        Ok(())
    }
}

/// A refusal of the cache as the resource tells it: of the kind that [`StreamingError::is_full`] goes by.
fn as_io(error: CacheError) -> io::Error {
    let kind = match &error {
        CacheError::Io { source, .. } => source.kind(),
        error if error.is_full() => io::ErrorKind::QuotaExceeded,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl Budget for Claim {
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut paid = self.for_footer();
        let (left, bytes) = (paid.saturating_sub(bytes), bytes.saturating_sub(*paid));
        *paid = left;
        drop(paid);
        if bytes == 0 {
            return Ok(());
        }
        let prepared = if self.prepared.load(Ordering::Acquire) {
            Ok(())
        } else {
            self.partial.prepare()
        };
        self.prepared.store(prepared.is_ok(), Ordering::Release);
        prepared.and_then(|()| self.partial.reserve(bytes)).map_err(as_io)
    }

    fn release(&self, bytes: u64) {
        self.partial.release(bytes);
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.partial.fmt(f)
    }
}

/// The entry's finished file for many readers at once, its asset leased as long as one of them lives.
pub(super) fn open_finished<E>(entry: EntryFile, lease: Lease) -> StreamingResource<E> {
    let EntryFile {
        file,
        path,
        footer,
        alarm,
    } = entry;
    StreamingOptions::new(path)
        .budget(Arc::new(Leased(lease)))
        .alarm(alarm)
        .open_checked(file, footer.payload, &footer.sums())
}

/// A budget that is never asked: a finished file does not grow. It holds the lease.
#[derive(Debug)]
struct Leased(#[expect(dead_code, reason = "held for its drop")] Lease);

impl Budget for Leased {
    fn reserve(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn release(&self, _bytes: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C11, C16.
    #[test]
    fn a_refusal_for_want_of_room_stays_one() {
        let of_the_disk = |kind: io::ErrorKind| CacheError::Io {
            action: "create",
            path: "x".into(),
            source: kind.into(),
        };
        for (error, is_full) in [
            (CacheError::PolicyBusy, true),
            (of_the_disk(io::ErrorKind::StorageFull), true),
            (of_the_disk(io::ErrorKind::PermissionDenied), false),
        ] {
            let refused = StreamingError::Io {
                action: "commit",
                path: "x".into(),
                source: as_io(error),
            };
            assert_eq!(refused.is_full(), is_full, "{refused}");
        }
    }
}

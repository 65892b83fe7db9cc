//! Entries that are fetched piece by piece, in any order, over several sessions.
//!
//! ```text
//! <root>/assets/<aa>/<id>/<name>                the entry, once it is whole
//!                        /.part-<name>          its bytes until then, with holes
//!                        /.part-<name>~ranges   which of them are there
//! ```
//!
//! The rule: a partial file counts under the limit, is protected and is removed like every other file of its asset, and
//! becomes the entry by one rename. Each layer of the stack does its part of that in a [`Partial`].

use std::fmt;
use std::io;
use std::sync::Arc;
#[cfg(feature = "file")]
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::accounts::Lease;
use super::blocking::BlockingCache;
use super::entry::EntryFile;
use super::error::CacheError;
use super::footer;
use super::id::AssetId;
use super::path::CachePath;
use super::store::Partial;
use crate::storage::durable::UNIT;
use crate::storage::{Budget, Checkpoint, StreamingError, StreamingOptions, StreamingResource, Writer};

/// The partial file of one entry, claimed. From [`AssetCache::partial`](super::AssetCache::partial).
///
/// While this or the resource opened from it lives, the asset is not evicted and nothing else can claim the file. If it is
/// dropped without a commit, the file stays and counts like every other file of its asset.
#[derive(Clone)]
pub struct PartialEntry {
    claim: Arc<Claim>,
}

/// The claim, as the streaming resource holds it: as its budget.
struct Claim {
    partial: Box<dyn Partial>,
    /// Whether the asset's directory exists.
    prepared: AtomicBool,
    /// Bytes reserved for the record and for its next version beside it.
    for_records: AtomicU64,
    /// Bytes reserved for the footer that the resource has not asked for yet.
    for_footer: AtomicU64,
    /// Keeps the cache open. The end of the claim changes the accounts, and must come before the cache's last checkpoint.
    cache: BlockingCache,
    asset: AssetId,
    path: CachePath,
}

/// A [`PartialEntry`] that another source holds.
#[cfg(feature = "file")]
pub(crate) struct WeakPartialEntry(Weak<Claim>);

#[cfg(feature = "file")]
impl WeakPartialEntry {
    /// The entry, if it is still held.
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
                for_records: AtomicU64::new(0),
                for_footer: AtomicU64::new(0),
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

    /// Lets `work` put another entry beside this one.
    #[cfg(feature = "file")]
    pub(crate) fn beside(&self, work: impl FnOnce(&BlockingCache, &AssetId, &CachePath)) {
        let Claim {
            cache, asset, path, ..
        } = &*self.claim;
        work(cache, asset, path);
    }

    /// Opens the file with what earlier sessions recorded. Blocks on the disk. Where the cache has no room, writing fails with
    /// a [`StreamingError::Io`] that [`is_full`](StreamingError::is_full).
    ///
    /// # Errors
    ///
    /// As [`StreamingOptions::open`]; [`StreamingError::InUse`] if it is open already.
    pub fn open<E>(&self) -> Result<StreamingResource<E>, StreamingError> {
        let place = self.claim.partial.place();
        let options = StreamingOptions::new(&place.target);
        let options = match &place.disk {
            Some(disk) => options.on_disk(Arc::clone(&disk.0)),
            None => options,
        };
        options
            .partial(&place.partial)
            .durability(place.durability)
            .budget(Arc::clone(&self.claim) as Arc<dyn Budget>)
            .on_damage(
                self.claim
                    .cache
                    .damage_callback(&self.claim.asset, &self.claim.path),
            )
            .create_lazily()
            .open()
    }

    /// Tells how long the file will be, as soon as that is known. Until then no more than 64 MiB of other assets, or a quarter
    /// of the limit where that is less, are evicted for it. Blocks on no disk.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`] if the file can never fit beside what is leased, pinned and being written now. Nothing was
    /// evicted for it.
    pub fn expect_len(&self, len: u64) -> Result<(), CacheError> {
        let footer = footer::len(&self.claim.asset, &self.claim.path, len);
        self.claim.partial.expect_len(len.saturating_add(footer))
    }

    /// Reserves room for the record that `checkpoint` is about to write.
    ///
    /// # Errors
    ///
    /// [`CacheError::CacheFull`]: skip the checkpoint.
    pub fn reserve_record<E>(&self, checkpoint: &Checkpoint<E>) -> Result<(), CacheError> {
        let wanted = 2 * checkpoint.record_bytes();
        let more = wanted.saturating_sub(self.claim.for_records.load(Ordering::Relaxed));
        if more > 0 {
            // Under no lock, since reserving may run the eviction policy. Two threads at once reserve too much, which does no
            // harm.
            self.claim.partial.reserve(more)?;
            self.claim.for_records.fetch_add(more, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes the whole file the entry. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`StreamingError::Incomplete`] and the other errors of [`Writer::commit`]. Errors of the cache come as
    /// [`StreamingError::Io`].
    pub fn commit<E>(&self, writer: &mut Writer<E>, len: u64) -> Result<(), StreamingError> {
        // All room is reserved before the entry's lock is taken. Reserving may run the eviction policy, which may use this
        // very entry and would wait for the lock (fault C25). Flushing comes before the footer's room is reserved, for the flushed
        // bytes would use that up.
        writer.flush()?;
        let footer = footer::len(&self.claim.asset, &self.claim.path, len);
        self.claim
            // In whole units: the last one of the content has room for the beginning of the footer.
            .prepay((len + footer).next_multiple_of(UNIT) - len.next_multiple_of(UNIT))
            .map_err(|source| StreamingError::Io {
                action: "make room for",
                path: self.claim.partial.place().target.clone(),
                source: source.into(),
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
        // After a commit all of the reservation is given up at once. After a failure the file stays partial and goes on
        // reserving, so only the footer's part is released.
        let unspent = self.claim.for_footer.swap(0, Ordering::Relaxed);
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
                source: as_io(error).into(),
            }),
        }
    }

    /// Announces that the claim ends soon. A caller that wants the file meanwhile waits instead of being refused.
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
    fn prepay(&self, footer: u64) -> io::Result<()> {
        self.reserve(footer)?;
        self.for_footer.fetch_add(footer, Ordering::Relaxed);
        Ok(())
    }
}

/// An error of the cache as the resource reports it, with the kind by which [`StreamingError::is_full`] tells a want of room.
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
        // Room that is reserved for the footer is spent first: the commit asks for it, byte by byte, as for any other.
        // In one step: of two threads that see the same rest one gets it.
        let less = |paid: u64| Some(paid.saturating_sub(bytes));
        let paid = self
            .for_footer
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let bytes = bytes.saturating_sub(paid.unwrap_or(0));
        if bytes == 0 {
            return Ok(());
        }
        // The directory is created with the first byte. Another thread may create it at the same time, which does no harm.
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

/// The entry's file for many readers at once. Its asset is leased until the last of them is dropped.
pub(super) fn open_finished<E>(entry: EntryFile, lease: Lease) -> StreamingResource<E> {
    let EntryFile {
        file,
        path,
        footer,
        on_damage,
    } = entry;
    StreamingOptions::new(path)
        .budget(Arc::new(Leased(lease)))
        .on_damage(on_damage)
        .open_checked(file, footer.payload, &footer.sums())
}

/// Holds the lease as the budget of a finished file, which does not grow and so never asks it.
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
            source: Arc::new(kind.into()),
        };
        for (error, is_full) in [
            (
                CacheError::CacheFull {
                    needed: 1,
                    max_bytes: 1,
                    held: 1,
                },
                true,
            ),
            (of_the_disk(io::ErrorKind::StorageFull), true),
            (of_the_disk(io::ErrorKind::PermissionDenied), false),
        ] {
            let refused = StreamingError::Io {
                action: "commit",
                path: "x".into(),
                source: as_io(error).into(),
            };
            assert_eq!(refused.is_full(), is_full, "{refused}");
        }
    }
}

//! The directories and files below a root, as [`FsStore`](super::FsStore) sees them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use super::claims::Claims;
use super::layout::Layout;
use super::lock::RootLock;
use super::protection::Protection;
use crate::cache::entry::Entry;
use crate::cache::error::{CacheError, Trying as _};
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::store::Committed;
use crate::cache::timestamp::Timestamp;
use crate::storage::Durability;
use crate::storage::durable::{Disk, DiskFile, Kind, Meta};
use crate::storage::lenient::LenientDisk;

#[derive(Debug)]
pub(in crate::cache) struct Tree {
    pub(in crate::cache) disk: Arc<dyn Disk>,
    pub(in crate::cache) layout: Layout,
    pub(in crate::cache) durability: Durability,
    pub(in crate::cache) entry_locks: EntryLocks,
    /// Partial files that are claimed.
    pub(super) claims: Arc<Claims>,
    /// Directories whose names are known to be durable.
    durable: Mutex<HashSet<PathBuf>>,
    /// Bytes of earlier sessions' trash that could not be removed.
    pub(super) stuck: AtomicU64,
    /// Entries count in whole units.
    in_units: AtomicBool,
    /// Earlier than every access of this session.
    pub(super) before: Timestamp,
    /// `None` on a disk that no other cache can reach.
    lock: Option<Arc<RootLock>>,
    protection: Protection,
}

/// Creates a directory unless it exists.
pub(in crate::cache) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), CacheError> {
    match disk.create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.trying("create", dir),
    }
}

/// Turns the errors for an absent path into `None`.
pub(in crate::cache) fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if is_absent(&error) => Ok(None),
        result => result.map(Some),
    }
}

/// What stands under an entry's name.
pub(super) enum Found<T> {
    Absent,
    Entry(T),
    /// Something that is not the whole entry.
    Other,
}

/// Whether nothing stands at a path. A path below something that is no directory is absent too.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

impl Tree {
    pub(in crate::cache) fn new(
        disk: Arc<dyn Disk>,
        root: &Path,
        durability: Durability,
        lock: Option<Arc<RootLock>>,
    ) -> Result<Self, CacheError> {
        let disk = LenientDisk::new(disk);
        let protection = Protection {
            hold: lock.as_ref().map(|lock| lock.hold()),
            syncs_refused: disk.refused(),
        };
        let tree = Self {
            disk: Arc::new(disk),
            layout: Layout::new(root),
            durability,
            entry_locks: EntryLocks::default(),
            claims: Arc::default(),
            durable: Mutex::default(),
            stuck: AtomicU64::new(0),
            in_units: AtomicBool::new(false),
            // The clock stands still between ticks: an access in the tick of the opening must be later.
            before: Timestamp(Timestamp::now().0.saturating_sub(1)),
            lock,
            protection,
        };
        if !tree.protection.is_read_only() {
            for dir in [tree.layout.assets(), tree.layout.trash()] {
                tree.own_dir(&dir)?;
            }
            let index = tree.layout.index();
            if tree.meta(&index)?.is_some() {
                tree.own_dir(&index)?;
            }
        }
        Ok(tree)
    }

    /// What an entry of `len` bytes counts.
    pub(in crate::cache) fn room(&self, len: u64) -> u64 {
        len.checked_next_multiple_of(self.unit()).unwrap_or(u64::MAX)
    }

    /// In what units entries and index files count, in bytes.
    pub(in crate::cache) fn unit(&self) -> u64 {
        if self.in_units.load(Ordering::Relaxed) {
            self.disk.unit()
        } else {
            1
        }
    }

    /// Has entries and index files count in the units that the disk gives them room in. Counted by their lengths, thousands of
    /// entries would take the disk over the limit. Called before anything is counted.
    pub(in crate::cache) fn count_in_units(&self) {
        self.in_units.store(true, Ordering::Relaxed);
    }

    pub(in crate::cache) fn protection(&self) -> &Protection {
        &self.protection
    }

    /// Bytes that the disk has room for still.
    #[cfg(feature = "offline")]
    pub(in crate::cache) fn free(&self) -> Option<u64> {
        self.disk.free(self.layout.root())
    }

    /// Refuses what would change something under the root, unless this cache may.
    pub(in crate::cache) fn may_write(&self) -> Result<(), CacheError> {
        self.lock.as_ref().map_or(Ok(()), |lock| lock.may_write())
    }

    /// Whether another cache may have the root open, whose lock file was deleted.
    pub(super) fn may_have_company(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.is_new())
    }

    pub(in crate::cache) fn meta(&self, path: &Path) -> Result<Option<Meta>, CacheError> {
        absent(self.disk.metadata(path)).trying("look at", path)
    }

    pub(super) fn kind(&self, path: &Path) -> Result<Option<Kind>, CacheError> {
        Ok(self.meta(path)?.map(|meta| meta.kind))
    }

    pub(in crate::cache) fn modified(&self, asset: &AssetId) -> Result<Option<Timestamp>, CacheError> {
        let meta = self.meta(&self.layout.asset(asset))?;
        let dir = meta.filter(|meta| meta.kind == Kind::Dir);
        Ok(dir.and_then(|dir| dir.modified).map(Timestamp::from))
    }

    /// Creates a directory of the cache's own. A link in its place is not followed: it would have the cache write, and remove,
    /// outside of its root (fault W52).
    pub(super) fn own_dir(&self, dir: &Path) -> Result<(), CacheError> {
        if self.kind(dir)?.is_some_and(|kind| kind != Kind::Dir) {
            log::warn!("something else stood in the place of {}", dir.display());
            // Fails also if another thread has removed it by now, and has created the directory.
            let removed = self.disk.remove_file(dir);
            if self.kind(dir)? != Some(Kind::Dir) {
                absent(removed).trying("remove", dir)?;
            }
        }
        make_dir(&*self.disk, dir)
    }

    /// Puts an entry under its name. A directory in its place is moved away; `rename` replaces anything else, and returns
    /// the bytes of the entry. The caller holds the entry's lock, so that what is measured here is what the rename replaces.
    pub(super) fn place(
        &self,
        asset: &AssetId,
        target: &Path,
        rename: impl FnOnce() -> Result<u64, CacheError>,
    ) -> Result<Committed, CacheError> {
        // Measured just before the rename, under the entry's lock: these are the bytes that the rename replaces.
        let found = self.meta(target)?;
        let displaced = found.as_ref().is_some_and(|meta| meta.kind == Kind::Dir);
        if displaced {
            self.displace(asset, target)?;
        }
        Ok(Committed {
            bytes: self.room(rename()?),
            replaced: found
                .filter(|meta| meta.kind == Kind::File)
                .map(|meta| self.room(meta.len)),
            displaced,
        })
    }

    /// The asset's directory, created if it is missing. With [`Durability::Full`] its name is durable, and so are the names of
    /// its shard and of `assets`.
    pub(in crate::cache) fn ready_dir(
        &self,
        asset: &AssetId,
        durability: Durability,
    ) -> Result<PathBuf, CacheError> {
        let dir = self.layout.asset(asset);
        let found = self.kind(&dir)?;
        if found != Some(Kind::Dir) {
            let (shard, assets) = (self.layout.shard(asset), self.layout.assets());
            if found.is_some() {
                self.displace(asset, &dir)?;
            }
            // Forgotten before the directories are created anew. A thread that finds a new one must not take it for the
            // durable one that was removed, and skip the sync.
            self.known_durable().remove(&dir);
            if self.kind(&shard)? != Some(Kind::Dir) {
                let mut durable = self.known_durable();
                durable.remove(&shard);
                durable.remove(&assets);
                drop(durable);
                self.own_dir(&assets)?;
                self.own_dir(&shard)?;
            }
            make_dir(&*self.disk, &dir)?;
        }
        // From the asset's directory up: each one's name stands in its parent, and a parent that is synced once stays so.
        if durability == Durability::Full {
            // An existing directory may be another thread's that has not synced yet, or a killed session's that never did.
            // Only a sync by this session counts.
            let shard = self.layout.shard(asset);
            let assets = self.layout.assets();
            for (made, parent) in [
                (&dir, shard.as_path()),
                (&shard, &assets),
                (&assets, self.layout.root()),
            ] {
                if !self.known_durable().contains(made) {
                    self.disk.sync_dir(parent).trying("sync", parent)?;
                    self.known_durable().insert(made.clone());
                }
            }
        }
        Ok(dir)
    }

    pub(in crate::cache) fn known_durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        // A set is whole after every call made on it, also after a panic between two.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an entry's file and hands it to `take`, which returns `None` if it is not the whole entry.
    pub(super) fn with_entry<T>(
        &self,
        path: &Path,
        take: impl FnOnce(Box<dyn DiskFile>) -> io::Result<Option<T>>,
    ) -> Result<Found<T>, CacheError> {
        let taken = absent(self.disk.open(path)).and_then(|file| file.map(take).transpose());
        match taken {
            Ok(None) => Ok(Found::Absent),
            Ok(Some(taken)) => Ok(taken.map_or(Found::Other, Found::Entry)),
            // What is no file cannot be opened or read: a symlink, a directory.
            Err(error) => match self.disk.metadata(path) {
                Ok(meta) if meta.kind != Kind::File => Ok(Found::Other),
                _ => Err(error).trying("open", path),
            },
        }
    }

    /// Opens an entry. What stands in its place without being one is removed.
    pub(super) fn open_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        match self.find_entry(asset, path)? {
            Found::Absent => Ok(None),
            Found::Entry(entry) => Ok(Some(entry)),
            Found::Other => self.heal(asset, path),
        }
    }

    fn find_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Found<Entry>, CacheError> {
        let file = self.layout.entry(asset, path);
        self.with_entry(&file, |opened| Entry::file(opened, &file, asset, path))
    }

    /// Removes what stands in an entry's place without being one. The caller saw that before it had the entry's lock, so it is
    /// checked again: a commit may have replaced it meanwhile, and the new entry must not be removed.
    pub(super) fn heal(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        if self.may_write().is_err() {
            return Ok(None);
        }
        let _locked = self.entry_locks.take(asset, path);
        match self.find_entry(asset, path)? {
            Found::Absent => {}
            // A commit was faster.
            Found::Entry(entry) => return Ok(Some(entry)),
            Found::Other => drop(self.take_away(asset, path)?),
        }
        Ok(None)
    }

    /// Removes an entry whose bytes do not match their checksums, and returns its length. Checked under the entry's lock, as
    /// in [`heal`](Self::heal).
    pub(super) fn remove_damaged(
        &self,
        asset: &AssetId,
        path: &CachePath,
    ) -> Result<Option<u64>, CacheError> {
        if self.may_write().is_err() {
            return Ok(None);
        }
        let _locked = self.entry_locks.take(asset, path);
        match self.find_entry(asset, path)? {
            Found::Absent => Ok(None),
            Found::Entry(entry) if entry.verify(asset, path)? => Ok(None),
            Found::Entry(_) | Found::Other => self.take_away(asset, path),
        }
    }

    /// Removes what stands under an entry's name. Returns its length if it was a file.
    fn take_away(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        log::warn!("removing a damaged entry of asset {asset}");
        let file = self.layout.entry(asset, path);
        let Some(meta) = self.meta(&file)? else {
            return Ok(None);
        };
        if let Err(error) = self.displace(asset, &file) {
            // The entry is a miss all the same, and a put replaces the file.
            log::warn!("cannot remove a damaged entry: {error}");
            return Ok(None);
        }
        Ok((meta.kind == Kind::File).then_some(self.room(meta.len)))
    }
}

/// A lock for each entry: one thread at a time replaces or removes it.
///
/// A commit measures what it replaces and renames over it. Without the lock two commits of one entry could both measure
/// the same old version, and take its bytes out of the accounts twice.
#[derive(Default)]
pub(crate) struct EntryLocks {
    taken: Mutex<HashSet<(AssetId, CachePath)>>,
    given_back: Condvar,
    /// How many threads have waited for a lock.
    #[cfg(test)]
    waited: std::sync::atomic::AtomicUsize,
}

/// The lock of one entry. Dropping it unlocks the entry.
pub(crate) struct EntryGuard<'a> {
    entry_locks: &'a EntryLocks,
    entry: (AssetId, CachePath),
}

impl EntryLocks {
    /// Locks an entry, waiting while another thread has it.
    pub(crate) fn take(&self, asset: &AssetId, path: &CachePath) -> EntryGuard<'_> {
        // A set of what is locked, and not a lock for each entry: an entry that is not being changed costs nothing.
        let entry = (asset.bare(), path.clone());
        let mut taken = self.lock();
        while !taken.insert(entry.clone()) {
            #[cfg(test)]
            self.waited.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            taken = self
                .given_back
                .wait(taken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        EntryGuard {
            entry_locks: self,
            entry,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(AssetId, CachePath)>> {
        // A set is whole after every call made on it, also after a panic between two.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EntryGuard<'_> {
    fn drop(&mut self) {
        self.entry_locks.lock().remove(&self.entry);
        self.entry_locks.given_back.notify_all();
    }
}

impl fmt::Debug for EntryLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryLocks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::thread;

    use bytes::Bytes;

    use super::*;
    use crate::cache::fs::FsStore;
    use crate::cache::store::Store;

    /// C3, C10: everything that replaces or removes an entry waits for its lock.
    #[test]
    fn every_change_of_an_entry_waits_for_its_lock() {
        type Change = fn(&FsStore, &AssetId, &CachePath) -> Result<(), CacheError>;
        let put: Change = |store, a, x| store.put(a, x, Bytes::from_static(b"anew")).map(|_| ());
        let remove: Change = |store, a, x| store.remove_entry(a, x).map(|_| ());
        let heal: Change = |store, a, x| store.open(a, x).map(drop);
        let remove_damaged: Change = |store, a, x| store.remove_damaged(a, x).map(|_| ());
        let commit: Change = |store, a, x| {
            let partial = store.partial(a, x)?.unwrap();
            partial.commit(&mut || Ok(0)).map(|_| ())
        };
        for (n, change) in [put, remove, heal, remove_damaged, commit]
            .into_iter()
            .enumerate()
        {
            let root = tempfile::tempdir().unwrap();
            let store = FsStore::open(root.path(), Durability::Ordered).unwrap();
            let (a, x) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
            store.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
            std::fs::write(store.tree().layout.entry(&a, &x), "damaged").unwrap();
            let entry_locks = &store.tree().entry_locks;
            let guard = entry_locks.take(&a, &x);
            thread::scope(|scope| {
                let changes = scope.spawn(|| change(&store, &a, &x).unwrap());
                while entry_locks.waited.load(Ordering::Relaxed) == 0 && !changes.is_finished() {
                    thread::yield_now();
                }
                assert!(!changes.is_finished(), "number {n} did not wait");
                drop(guard);
            });
        }
    }

    /// C3, C10: what was damaged when a reader opened it is whole when the reader has the lock, as after a commit. It is opened,
    /// and stays.
    #[test]
    fn an_entry_that_became_whole_meanwhile_is_not_removed() {
        let root = tempfile::tempdir().unwrap();
        let store = FsStore::open(root.path(), Durability::Ordered).unwrap();
        let (a, x) = (AssetId::from_key("a").unwrap(), CachePath::parse("x").unwrap());
        store.put(&a, &x, Bytes::from_static(b"bytes")).unwrap();
        let file = store.tree().layout.entry(&a, &x);
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, "damaged").unwrap();
        let entry_locks = &store.tree().entry_locks;
        let guard = entry_locks.take(&a, &x);
        thread::scope(|scope| {
            let reader = scope.spawn(|| store.get(&a, &x).unwrap());
            while entry_locks.waited.load(Ordering::Relaxed) == 0 && !reader.is_finished() {
                thread::yield_now();
            }
            std::fs::write(&file, &whole).unwrap();
            drop(guard);
            assert_eq!(reader.join().unwrap().unwrap(), "bytes");
        });
        assert!(store.exists(&a, &x).unwrap());
    }
}

//! The directories and files below a root, as [`FsStore`](super::FsStore) sees them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use snafu::ResultExt as _;

use super::claims::Claims;
use super::entry_locks::EntryLocks;
use super::layout::{Layout, PIN};
use super::lock::RootLock;
use super::protection::Protection;
use crate::cache::entry::Entry;
use crate::cache::error::{CacheError, IoSnafu};
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::store::{AssetInfo, Committed};
use crate::cache::timestamp::Timestamp;
use crate::storage::Durability;
use crate::storage::durable::{Disk, DiskFile, Kind, Meta};
use crate::storage::lenient::LenientDisk;

/// A leftover that was written to within this time may have a living writer.
const YOUNG: Duration = Duration::from_secs(3600);

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
    /// Whether the trash of earlier sessions was removed.
    swept: Mutex<bool>,
    /// Bytes of that trash which could not be removed.
    stuck: AtomicU64,
    /// Entries count in whole units.
    in_units: AtomicBool,
    /// Earlier than every access of this session.
    before: Timestamp,
    /// `None` on a disk that no other cache can reach.
    lock: Option<Arc<RootLock>>,
    protection: Protection,
}

/// Creates a directory unless it exists.
pub(in crate::cache) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), CacheError> {
    match disk.create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.context(IoSnafu {
            action: "create",
            path: dir,
        }),
    }
}

/// Turns the errors for an absent path into `None`.
pub(in crate::cache) fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if is_absent(&error) => Ok(None),
        result => result.map(Some),
    }
}

/// Whether nothing stands at a path. A path below something that is no directory is absent too.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// What became of something that was to leave.
pub(super) enum Discarded {
    /// Nothing stood there.
    Absent,
    /// It stands in the trash under this name.
    Moved(PathBuf),
    /// It could not be moved, and was unlinked where it stood.
    Unlinked,
}

/// Whether a file or directory cannot be moved or removed for a reason of its own, which trying again does not mend: it is
/// immutable, another user's, or a mount point.
pub(in crate::cache) fn is_stuck(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::ResourceBusy
    )
}

/// The error for something of `asset` that could not be moved or removed.
pub(super) fn not_removed(
    action: &'static str,
    asset: &AssetId,
    path: &Path,
    source: io::Error,
) -> CacheError {
    let (path, stuck) = (path.to_owned(), is_stuck(&source));
    let source = Arc::new(source);
    if stuck {
        let asset = asset.name();
        return CacheError::Unremovable { asset, path, source };
    }
    CacheError::Io { action, path, source }
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
            swept: Mutex::new(false),
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

    /// Refuses what would change something under the root, unless this cache may.
    pub(in crate::cache) fn may_write(&self) -> Result<(), CacheError> {
        self.lock.as_ref().map_or(Ok(()), |lock| lock.may_write())
    }

    /// Whether another cache may have the root open, whose lock file was deleted.
    pub(super) fn may_have_company(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.is_new())
    }

    /// Whether a leftover may be removed. Its writer is dead if it held the lock that this session holds. But where the lock
    /// file was made by this session, the earlier one may have been deleted under a cache that still writes: what is young
    /// stays for one session (fault W50).
    fn is_dead(&self, leftover: &Meta) -> bool {
        if !self.may_have_company() {
            return true;
        }
        let now = Timestamp::now();
        leftover
            .modified
            .map(Timestamp::from)
            .is_none_or(|at| at.age(now).max(now.age(at)) > YOUNG)
    }

    /// Whether a killed session left something in the trash.
    pub(in crate::cache) fn has_leftovers(&self) -> Result<bool, CacheError> {
        Ok(!self.leftovers()?.is_empty())
    }

    /// Removes what a killed session left in the trash.
    pub(in crate::cache) fn sweep(&self) -> Result<(), CacheError> {
        // Only a panic of the disk poisons the lock. The flag is still unset then, and this call sweeps again.
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if !*swept && self.may_write().is_ok() {
            let mut stuck = 0;
            for path in self.leftovers()? {
                stuck += self.sweep_dead(&path)?;
            }
            self.stuck.store(stuck, Ordering::Release);
            *swept = true;
        }
        Ok(())
    }

    /// Bytes of trash that no session could remove so far. They stand under the root, and so they count.
    pub(in crate::cache) fn stuck_bytes(&self) -> u64 {
        self.stuck.load(Ordering::Acquire)
    }

    /// Removes what a killed session left, if it was one. Returns the bytes of what stays.
    fn sweep_dead(&self, path: &Path) -> Result<u64, CacheError> {
        match self.meta(path)? {
            Some(meta) if !self.is_dead(&meta) => self.tree_bytes(path, meta),
            _ => self.sweep_away(path),
        }
    }

    /// Removes what is of no use. Returns the bytes of what cannot be removed: it counts, and stands in nothing's way. Were
    /// it an error, one immutable file would keep the whole cache from being written to (fault W45).
    pub(super) fn sweep_away(&self, path: &Path) -> Result<u64, CacheError> {
        let removed = if self.may_write().is_ok() {
            self.destroy(path)
        } else {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        };
        match removed {
            Ok(()) => Ok(0),
            Err(error) if is_stuck(&error) => {
                log::warn!("cannot remove {}: {error}", path.display());
                match self.meta(path)? {
                    Some(meta) => self.tree_bytes(path, meta),
                    None => Ok(0),
                }
            }
            // Perhaps it works the next time: the caller tries again.
            Err(source) => Err(CacheError::Io {
                action: "remove",
                path: path.to_owned(),
                source: Arc::new(source),
            }),
        }
    }

    /// The trash that earlier sessions left. Files that no cache put there are left alone.
    fn leftovers(&self) -> Result<Vec<PathBuf>, CacheError> {
        let trash = self.layout.trash();
        let names = absent(self.disk.read_dir(&trash)).context(IoSnafu {
            action: "list",
            path: &trash,
        })?;
        let old = |name: &OsString| self.layout.is_discarded_now(&name.to_string_lossy()) == Some(false);
        Ok(names
            .unwrap_or_default()
            .into_iter()
            .filter(old)
            .map(|name| trash.join(name))
            .collect())
    }

    pub(in crate::cache) fn meta(&self, path: &Path) -> Result<Option<Meta>, CacheError> {
        absent(self.disk.metadata(path)).context(IoSnafu {
            action: "look at",
            path,
        })
    }

    pub(in crate::cache) fn modified(&self, asset: &AssetId) -> Result<Option<Timestamp>, CacheError> {
        let meta = self.meta(&self.layout.asset(asset))?;
        Ok(meta
            .filter(|meta| meta.kind == Kind::Dir)
            .and_then(|meta| meta.modified)
            .map(Timestamp::from))
    }

    /// Removes whatever stands at `path`. Symlinks are not followed.
    pub(in crate::cache) fn destroy(&self, path: &Path) -> io::Result<()> {
        let Some(meta) = absent(self.disk.metadata(path))? else {
            return Ok(());
        };
        let removed = match meta.kind {
            Kind::Dir => self.disk.remove_dir_all(path),
            Kind::File | Kind::Other => self.disk.remove_file(path),
        };
        absent(removed).map(|_| ())
    }

    /// Moves whatever stands at `path` to the trash in one step. Where the file system moves no directories, unlinks it.
    pub(super) fn discard(&self, asset: &AssetId, path: &Path) -> Result<Discarded, CacheError> {
        // One rename takes the whole directory out of sight. Unlinked in place, a reader would find some of its entries and
        // miss others, and a crash would leave an asset with holes.
        let discarded = self.layout.discarded(asset);
        let mut renamed = self.disk.rename(path, &discarded);
        if renamed.as_ref().is_err_and(is_absent) {
            if self.meta(path)?.is_none() {
                return Ok(Discarded::Absent);
            }
            // `path` exists, so it is the trash directory that is missing.
            self.make_trash()?;
            renamed = self.disk.rename(path, &discarded);
            // Another thread may have moved it meanwhile.
            if renamed.is_err() && self.meta(path)?.is_none() {
                return Ok(Discarded::Absent);
            }
        }
        match renamed {
            Ok(()) => Ok(Discarded::Moved(discarded)),
            // overlayfs moves no directory of a lower layer, and a directory may be a mount of its own. What cannot leave in
            // one step leaves in many: the other way is an asset that no eviction ever frees (fault W45).
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                self.destroy(path)
                    .map_err(|source| not_removed("remove", asset, path, source))?;
                Ok(Discarded::Unlinked)
            }
            Err(source) => Err(not_removed("move to the trash", asset, path, source)),
        }
    }

    /// Moves what stands at `path` and belongs to no asset to the trash, for the sweep; or unlinks it. `false` if neither can be.
    pub(in crate::cache) fn set_aside(&self, path: &Path) -> bool {
        let moved = self.disk.rename(path, &self.layout.set_aside());
        moved.or_else(|_| self.destroy(path)).is_ok()
    }

    /// Takes what stands in the place of a file of the cache's own out of the way, if it is no file: a directory, a link.
    pub(super) fn clear_place(&self, asset: &AssetId, path: &Path) -> Result<(), CacheError> {
        match self.meta(path)?.map(|meta| meta.kind) {
            None | Some(Kind::File) => Ok(()),
            Some(Kind::Dir) => self.displace(asset, path),
            Some(Kind::Other) => self
                .destroy(path)
                .map_err(|source| not_removed("remove", asset, path, source)),
        }
    }

    /// Creates a directory of the cache's own. A link in its place is not followed: it would have the cache write, and remove,
    /// outside of its root (fault W52).
    fn own_dir(&self, dir: &Path) -> Result<(), CacheError> {
        if self.meta(dir)?.is_some_and(|meta| meta.kind != Kind::Dir) {
            log::warn!("something else stood in the place of {}", dir.display());
            self.destroy(dir).context(IoSnafu {
                action: "remove",
                path: dir,
            })?;
        }
        make_dir(&*self.disk, dir)
    }

    /// Creates the trash directory, also where something else stands in its place: a file, a dangling link.
    fn make_trash(&self) -> Result<(), CacheError> {
        let trash = self.layout.trash();
        if self.meta(&trash)?.is_some_and(|meta| meta.kind != Kind::Dir) {
            // Fails if another thread has done it by now, and has created the directory.
            let _ = self.disk.remove_file(&trash);
        }
        make_dir(&*self.disk, &trash)
    }

    /// Moves whatever stands at `path` to the trash in one step, then removes it there.
    pub(in crate::cache) fn displace(&self, asset: &AssetId, path: &Path) -> Result<(), CacheError> {
        let Discarded::Moved(discarded) = self.discard(asset, path)? else {
            return Ok(());
        };
        self.destroy(&discarded)
            .map_err(|source| not_removed("remove", asset, &discarded, source))
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
        let found = self.meta(&dir)?.map(|meta| meta.kind);
        if found != Some(Kind::Dir) {
            let (shard, assets) = (self.layout.shard(asset), self.layout.assets());
            if found.is_some() {
                self.displace(asset, &dir)?;
            }
            // Forgotten before the directories are created anew. A thread that finds a new one must not take it for the
            // durable one that was removed, and skip the sync.
            self.known_durable().remove(&dir);
            if self.meta(&shard)?.map(|meta| meta.kind) != Some(Kind::Dir) {
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
                    self.disk.sync_dir(parent).context(IoSnafu {
                        action: "sync",
                        path: parent,
                    })?;
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

    /// Opens an entry's file and hands it to `take`. `Ok(None)` if nothing stands under the name; `Err(None)` if something
    /// other than the whole entry does. `take` tells the latter by `None`.
    pub(in crate::cache) fn with_entry<T>(
        &self,
        path: &Path,
        take: impl FnOnce(Box<dyn DiskFile>) -> io::Result<Option<T>>,
    ) -> Result<Option<T>, Option<CacheError>> {
        let taken = absent(self.disk.open(path)).and_then(|file| file.map(take).transpose());
        match taken {
            Ok(None) => Ok(None),
            Ok(Some(Some(taken))) => Ok(Some(taken)),
            Ok(Some(None)) => Err(None),
            // What is no file cannot be opened or read: a symlink, a directory.
            Err(source) => match self.disk.metadata(path) {
                Ok(meta) if meta.kind != Kind::File => Err(None),
                _ => Err(Some(CacheError::Io {
                    action: "open",
                    path: path.to_owned(),
                    source: Arc::new(source),
                })),
            },
        }
    }

    /// Removes what stands in an entry's place without being one. The caller saw that before it had the entry's lock, so it is
    /// checked again: a commit may have replaced it meanwhile, and the new entry must not be removed.
    pub(in crate::cache) fn heal(
        &self,
        asset: &AssetId,
        path: &CachePath,
    ) -> Result<Option<Entry>, CacheError> {
        if self.may_write().is_err() {
            return Ok(None);
        }
        let _locked = self.entry_locks.take(asset, path);
        let file = self.layout.entry(asset, path);
        match self.with_entry(&file, |opened| Entry::file(opened, &file, asset, path)) {
            // A commit was faster: this is its entry, or there is none.
            Ok(entry) => return Ok(entry),
            Err(Some(error)) => return Err(error),
            Err(None) => {}
        }
        let _ = self.take_away(asset, &file)?;
        Ok(None)
    }

    /// Removes an entry whose bytes do not match their checksums, and returns its length. Checked under the entry's lock, as
    /// in [`heal`](Self::heal).
    pub(in crate::cache) fn remove_damaged(
        &self,
        asset: &AssetId,
        path: &CachePath,
    ) -> Result<Option<u64>, CacheError> {
        if self.may_write().is_err() {
            return Ok(None);
        }
        let _locked = self.entry_locks.take(asset, path);
        let file = self.layout.entry(asset, path);
        match self.with_entry(&file, |opened| Entry::file(opened, &file, asset, path)) {
            Ok(None) => return Ok(None),
            Ok(Some(entry)) if entry.verify(asset, path)? => return Ok(None),
            Ok(Some(_)) | Err(None) => {}
            Err(Some(error)) => return Err(error),
        }
        self.take_away(asset, &file)
    }

    /// Removes what stands under an entry's name. Returns its length if it was a file.
    fn take_away(&self, asset: &AssetId, file: &Path) -> Result<Option<u64>, CacheError> {
        log::warn!("removing a damaged entry of asset {asset}");
        let Some(meta) = self.meta(file)? else {
            return Ok(None);
        };
        let removed = match meta.kind {
            Kind::Dir => self.displace(asset, file),
            Kind::File | Kind::Other => absent(self.disk.remove_file(file)).map(|_| ()).context(IoSnafu {
                action: "remove",
                path: file,
            }),
        };
        if let Err(error) = removed {
            // The entry is a miss all the same, and a put replaces the file.
            log::warn!("cannot remove a damaged entry: {error}");
            return Ok(None);
        }
        Ok((meta.kind == Kind::File).then_some(self.room(meta.len)))
    }

    /// Reads an asset's directory. Removes the staged files of killed sessions in it.
    pub(in crate::cache) fn scan_asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        let dir = self.layout.asset(asset);
        let Some(meta) = self.meta(&dir)?.filter(|meta| meta.kind == Kind::Dir) else {
            return Ok(None);
        };
        let names = absent(self.disk.read_dir(&dir)).context(IoSnafu {
            action: "list",
            path: &dir,
        })?;
        let Some(names) = names else { return Ok(None) };
        let mut info = AssetInfo {
            id: asset.bare(),
            bytes: 0,
            files: 0,
            // No later than any timestamp of this session, also if the clock ran ahead before.
            last_access: meta
                .modified
                .map_or(Timestamp::default(), |at| Timestamp::from(at).min(self.before)),
            leased: false,
            pinned: false,
            modified: meta.modified.map(Timestamp::from),
        };
        for name in names {
            let text = name.to_string_lossy();
            let path = dir.join(&name);
            match self.layout.is_staged_now(&text) {
                Some(true) => continue,
                Some(false) => {
                    info.bytes += self.sweep_dead(&path)?;
                    // The removal changed the directory's time, so the one read above is no longer right.
                    info.modified = None;
                    continue;
                }
                None => {}
            }
            // Before the other files: a claimed partial file counts with its claim, and an unusable one is removed.
            if let Some(part) = Layout::part(&text) {
                info.bytes += self.scan_part(asset, &text, part)?;
                // A partial file grows, and after a power cut shrinks, without a change of the directory's time.
                info.modified = None;
                continue;
            }
            let Some(meta) = self.meta(&path)? else { continue };
            match meta.kind {
                Kind::File if text == PIN => info.pinned = true,
                Kind::File => info.files += u64::from(CachePath::is_file_name(&text)),
                Kind::Dir | Kind::Other => {}
            }
            info.bytes += self.tree_bytes(&path, meta)?;
        }
        Ok(Some(info).filter(|info| info.bytes > 0 || info.files > 0 || info.pinned))
    }

    /// Bytes of a file, or of all files in a directory.
    pub(in crate::cache) fn tree_bytes(&self, path: &Path, meta: Meta) -> Result<u64, CacheError> {
        match meta.kind {
            Kind::File => Ok(self.room(meta.len)),
            Kind::Other => Ok(0),
            Kind::Dir => {
                let names = absent(self.disk.read_dir(path)).context(IoSnafu { action: "list", path })?;
                let mut bytes = 0;
                for name in names.unwrap_or_default() {
                    // What is being written counts as reserved, above.
                    if self.layout.is_staged_now(&name.to_string_lossy()) == Some(true) {
                        continue;
                    }
                    let path = path.join(name);
                    if let Some(meta) = self.meta(&path)? {
                        bytes += self.tree_bytes(&path, meta)?;
                    }
                }
                Ok(bytes)
            }
        }
    }

    /// Ids of the assets in one shard directory.
    pub(in crate::cache) fn ids(&self, shard: &Path) -> Result<Vec<AssetId>, CacheError> {
        let names = absent(self.disk.read_dir(shard)).context(IoSnafu {
            action: "list",
            path: shard,
        })?;
        let ids = names
            .unwrap_or_default()
            .into_iter()
            .filter_map(|name| AssetId::parse_name(name.to_str()?));
        // An asset under another shard's name is not found by its id, so it is none.
        Ok(ids.filter(|id| self.layout.shard(id) == shard).collect())
    }
}

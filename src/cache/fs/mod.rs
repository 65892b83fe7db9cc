//! Entries on a file system: the truth.

mod claims;
mod layout;
mod lock;
mod partial;
mod protection;
pub(super) mod scan;
mod trash;
pub(super) mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use bytes::Bytes;

use self::layout::PIN;
pub(super) use self::lock::Closing;
use self::lock::RootLock;
use self::partial::FsPartial;
pub use self::protection::MissingProtection;
pub(super) use self::protection::Protection;
use self::scan::if_readable;
use self::trash::{Discarded, not_removed};
pub(super) use self::tree::absent;
use self::tree::{Found, Tree, make_dir};
use super::entry::Entry;
use super::error::{CacheError, Trying as _};
use super::footer::{self, Footer, Sums};
use super::id::AssetId;
use super::parallel;
use super::path::CachePath;
use super::store::{AssetInfo, Committed, EntryInfo, Partial, Staged, Store, Trash};
use crate::storage::durable::{Disk, DiskFile, Kind, OsDisk};
use crate::storage::{AtomicResource, Durability};

/// How many entries are looked into by one thread at a time. One is opened in 4 µs: less is not worth a thread.
const ENTRIES_TOGETHER: usize = 64;

/// Keeps assets as directories and entries as files, under one root that no other store has open.
///
/// Its rule: a file under an entry's name is one whole version. The store remembers nothing and reads every answer from the
/// disk, so [`list`](Store::list) costs a walk over the tree. An
/// [`IndexStore`](super::IndexStore) above it remembers.
///
/// ```text
/// <root>/lock                     held while the store is open
/// <root>/assets/<aa>/<id>/<name>  entries, and `.pin`
/// <root>/assets/<aa>/<id>/.stage… entries being written
/// <root>/assets/<aa>/<id>/.part-… entries being fetched piece by piece
/// <root>/trash/<id>-…/            removed assets on their way out
/// ```
///
/// Where the root cannot be written to (a read-only file system, another user's folder), the store opens for reading: what
/// would change something answers [`CacheError::ReadOnly`], and nothing is attempted.
#[derive(Debug)]
pub struct FsStore {
    tree: Arc<Tree>,
    _release: Option<Release>,
}

/// Frees the root's lock when it is dropped, though entries being written still hold the tree.
#[derive(Debug)]
struct Release(Arc<RootLock>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl FsStore {
    /// Opens the store at `root`, and creates the directory if it is missing.
    ///
    /// # Errors
    ///
    /// [`CacheError::Locked`] if the root is open elsewhere, in this process or another; [`CacheError::Io`] if it
    /// cannot be created, locked or listed.
    pub fn open(root: impl AsRef<Path>, durability: Durability) -> Result<Self, CacheError> {
        let root = root.as_ref();
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let make_parent = |parent| fs_err::create_dir_all(parent).trying("create", parent);
        let made = root
            .parent()
            .map_or(Ok(()), make_parent)
            .and_then(|()| make_dir(&*disk, root));
        // A read-only file system may refuse even what is there already.
        if let Err(error) = made
            && !root.is_dir()
        {
            return Err(error);
        }
        // Before anything else under the root is touched: another process may have it open.
        let lock = Arc::new(RootLock::take(root)?);
        let release = Some(Release(Arc::clone(&lock)));
        Self::with(disk, root, durability, Some(lock), release)
    }

    /// Opens the store on another disk, without a lock. The directory `root` exists.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn on(disk: Arc<dyn Disk>, root: &Path, durability: Durability) -> Result<Self, CacheError> {
        Self::with(disk, root, durability, None, None)
    }

    /// As [`on`](Self::on), for reading only.
    #[cfg(feature = "test-util")]
    pub(super) fn on_read_only(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, CacheError> {
        let lock = Some(Arc::new(RootLock::reading(root, None)));
        Self::with(disk, root, Durability::Full, lock, None)
    }

    fn with(
        disk: Arc<dyn Disk>,
        root: &Path,
        durability: Durability,
        lock: Option<Arc<RootLock>>,
        release: Option<Release>,
    ) -> Result<Self, CacheError> {
        Ok(Self {
            tree: Arc::new(Tree::new(disk, root, durability, lock)?),
            _release: release,
        })
    }

    /// Protection that the file system of the root does not offer, as far as that is known.
    pub fn missing_protection(&self) -> Vec<MissingProtection> {
        self.tree.protection().missing()
    }

    /// Whether the root can only be read.
    pub fn is_read_only(&self) -> bool {
        self.tree.protection().is_read_only()
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }
}

impl Store for FsStore {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        self.tree.open_entry(asset, path)
    }

    fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        let file = self.tree.layout.entry(asset, path);
        let read = |opened: Box<dyn DiskFile>| {
            let found = Footer::read_with_payload(&*opened)?;
            Ok(found.filter(|(_, footer)| footer.is_of(asset, path)))
        };
        match self.tree.with_entry(&file, read)? {
            Found::Absent => Ok(None),
            Found::Entry((payload, footer)) if footer.are_blocks(0, &payload) => Ok(Some(payload)),
            Found::Entry(_) => self.tree.remove_damaged(asset, path).map(|_| None),
            // It may have changed while it was read: the check is made again under the entry's lock.
            Found::Other => match self.tree.heal(asset, path)? {
                Some(entry) => entry.read_or_miss(),
                None => Ok(None),
            },
        }
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        self.tree.may_write()?;
        Ok(Box::new(FsStaged::new(&self.tree, asset, path)?))
    }

    fn partial(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Box<dyn Partial>>, CacheError> {
        self.tree.may_write()?;
        let claimed = FsPartial::claim(&self.tree, asset, path)?;
        Ok(claimed.map(|partial| Box::new(partial) as Box<dyn Partial>))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        let tree = &self.tree;
        tree.may_write()?;
        let file = tree.layout.entry(asset, path);
        let _locked = tree.entry_locks.take(asset, path);
        let Some(meta) = tree.meta(&file)? else {
            return Ok(None);
        };
        // A directory under an entry's name is no entry, but it is in the way of one.
        if meta.kind == Kind::Dir {
            tree.displace(asset, &file)?;
            return Ok(None);
        }
        let removed = absent(tree.disk.remove_file(&file)).trying("remove", file)?;
        // Only a file is an entry, and was counted as one.
        Ok(removed
            .filter(|()| meta.kind == Kind::File)
            .map(|()| tree.room(meta.len)))
    }

    fn remove_damaged(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        self.tree.remove_damaged(asset, path)
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        let tree = Arc::clone(&self.tree);
        tree.may_write()?;
        let dir = tree.layout.asset(asset);
        // Forgotten before the rename: a put that makes the directory anew right after it must sync it again.
        tree.known_durable().remove(&dir);
        Ok(match tree.discard(asset, &dir)? {
            Discarded::Absent => None,
            Discarded::Moved(discarded) => {
                let asset = asset.bare();
                Some(Trash::new(move || {
                    tree.destroy(&discarded)
                        .map_err(|source| not_removed("remove", &asset, &discarded, source))
                }))
            }
            // Its bytes are off the disk already.
            Discarded::Unlinked => Some(Trash::new(|| Ok(()))),
        })
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let tree = &self.tree;
        tree.may_write()?;
        let pin = tree.layout.asset(asset).join(PIN);
        let pin = AtomicResource::on_disk(Arc::clone(&tree.disk), pin);
        // Both are durable whatever the entries are: a pin is a promise that outlives a power cut, and after one an unpinned
        // asset must not be kept for ever.
        let (action, done) = if pinned {
            tree.ready_dir(asset, Durability::Full)?;
            tree.clear_place(asset, pin.path())?;
            ("pin", pin.mark())
        } else {
            tree.clear_place(asset, pin.path())?;
            ("unpin", pin.remove().map(drop))
        };
        done.trying(action, pin.path())
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.tree.scan_asset(asset)
    }

    fn list(&self) -> Result<Vec<AssetInfo>, CacheError> {
        let of_shard = |shard: &PathBuf| -> Result<Vec<_>, CacheError> {
            let ids = if_readable(self.tree.ids(shard))?.unwrap_or_default();
            let infos = ids.iter().map(|id| if_readable(self.tree.scan_asset(id)));
            infos
                .filter_map(|info| info.map(Option::flatten).transpose())
                .collect()
        };
        let shards = parallel::map(&self.tree.shards()?, of_shard)?;
        Ok(shards.into_iter().flatten().collect())
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        let names = self.tree.entry_names(asset)?;
        let some: Vec<_> = names.chunks(ENTRIES_TOGETHER).collect();
        let of_some = |some: &&[String]| -> Result<Vec<_>, CacheError> {
            let infos = some.iter().map(|name| self.tree.entry_info(asset, name));
            infos.filter_map(Result::transpose).collect()
        };
        let entries = parallel::map(&some, of_some)?;
        Ok(entries.into_iter().flatten().collect())
    }
}

/// An entry being written to a staged file beside its target.
///
/// ```text
/// new      create .stage-<session>-<n> in the asset's directory
/// write    append, summing each block
/// commit   append the footer ─▶ fsync ─▶ entry lock ─▶ rename ─▶ fsync directory
/// drop     remove the staged file
/// ```
///
/// The fsync must come before the rename. Without it a power cut can leave the final name on a file whose bytes never
/// reached the disk.
struct FsStaged {
    file: Option<Box<dyn DiskFile>>,
    staged: PathBuf,
    asset: AssetId,
    path: CachePath,
    sums: Sums,
    /// A write failed, and part of it may be in the file.
    failed: bool,
    /// The file has its final name.
    placed: bool,
    tree: Arc<Tree>,
}

impl FsStaged {
    fn new(tree: &Arc<Tree>, asset: &AssetId, path: &CachePath) -> Result<Self, CacheError> {
        let dir = tree.ready_dir(asset, tree.durability)?;
        let staged = tree.layout.staged(&dir);
        let file = tree.disk.create_new(&staged).trying("create", &staged)?;
        Ok(Self {
            file: Some(file),
            staged,
            asset: asset.clone(),
            path: path.clone(),
            sums: Sums::default(),
            failed: false,
            placed: false,
            tree: Arc::clone(tree),
        })
    }
}

impl Staged for FsStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        let Some(file) = self.file.as_mut().filter(|_| !self.failed) else {
            return Err(CacheError::Abandoned);
        };
        let written = file.append(parts).trying("write", &self.staged);
        self.failed = written.is_err();
        written?;
        for part in parts {
            self.sums.update(part);
        }
        Ok(())
    }

    fn overhead(&self, payload: u64) -> u64 {
        let len = payload.saturating_add(footer::len(&self.asset, &self.path, payload));
        self.tree.room(len).saturating_sub(payload)
    }

    fn commit(mut self: Box<Self>) -> Result<Committed, CacheError> {
        let sums = std::mem::take(&mut self.sums);
        let payload = sums.payload();
        let footer = footer::encode(&self.asset, &self.path, payload, &sums.blocks());
        let bytes = payload + footer.len() as u64;
        // The footer is the last thing written. A file without it is no entry, wherever a crash leaves it.
        self.write(&[footer])?;
        let Some(file) = self.file.take() else {
            return Err(CacheError::Abandoned);
        };
        file.sync().trying("sync", &self.staged)?;
        // Closed before the rename, which some systems refuse for an open file.
        drop(file);

        // Locked from here to the end of the rename, and not while the bytes are synced: two commits of one entry sync side by
        // side and rename one after the other.
        let tree = &self.tree;
        // Asked again: a writer may live for long, and the root may have become another cache's meanwhile.
        tree.may_write()?;
        let target = tree.layout.entry(&self.asset, &self.path);
        let _locked = tree.entry_locks.take(&self.asset, &self.path);
        let rename = || {
            let renamed = tree.disk.replace(&self.staged, &target, tree.durability);
            renamed.trying("rename to", &target)?;
            // Set only if the rename succeeded for certain. After an error it may have happened too: removing the staged name
            // then finds nothing.
            self.placed = true;
            Ok(bytes)
        };
        tree.place(&self.asset, &target, rename)
    }
}

impl Drop for FsStaged {
    fn drop(&mut self) {
        drop(self.file.take());
        if !self.placed {
            let removed = self.tree.disk.remove_file(&self.staged);
            if removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
                // Once more, in case the first try was interrupted. If it fails too, the next session sweeps the file.
                let _ = self.tree.disk.remove_file(&self.staged);
            }
        }
    }
}

impl fmt::Debug for FsStaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsStaged")
            .field("path", &self.path)
            .field("len", &self.sums.payload())
            .finish_non_exhaustive()
    }
}

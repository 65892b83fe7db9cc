//! Entries on a file system: the truth.

mod claims;
pub(super) mod entry_locks;
mod layout;
mod lock;
mod partial;
mod protection;
mod staged;
mod tree;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fs_err as fs;
use snafu::ResultExt as _;

use self::layout::PIN;
pub(super) use self::lock::Closing;
use self::lock::RootLock;
use self::partial::FsPartial;
pub use self::protection::MissingProtection;
pub(super) use self::protection::Protection;
use self::staged::FsStaged;
use self::tree::{Discarded, Tree, absent, make_dir, not_removed};
use super::entry::Entry;
use super::error::{CacheError, IoSnafu};
use super::footer::Footer;
use super::id::AssetId;
use super::parallel;
use super::path::CachePath;
use super::store::{AssetInfo, EntryInfo, Partial, Staged, Store, Trash};
use crate::storage::durable::{Disk, DiskFile, Kind, OsDisk};
use crate::storage::{AtomicResource, Durability};

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
        let make_parent = |parent| {
            fs::create_dir_all(parent).context(IoSnafu {
                action: "create",
                path: parent,
            })
        };
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
        let lock = Some(Arc::new(RootLock::reading(root)));
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

/// Whether a name is that of a shard: two hexadecimal digits, the first ones of its assets' names.
fn is_shard(name: &OsStr) -> bool {
    let digits = name.as_encoded_bytes();
    digits.len() == 2
        && digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

impl FsStore {
    /// The shards. Other names beside them are none of the cache's. What stands under a shard's name and is no directory, such as
    /// a link to elsewhere, is removed.
    pub(super) fn shards(&self) -> Result<Vec<PathBuf>, CacheError> {
        let assets = self.tree.layout.assets();
        let names = absent(self.tree.disk.read_dir(&assets)).context(IoSnafu {
            action: "list",
            path: &assets,
        })?;
        let mut shards = Vec::new();
        for name in names
            .unwrap_or_default()
            .into_iter()
            .filter(|name| is_shard(name))
        {
            let shard = assets.join(name);
            match self.tree.meta(&shard)?.map(|meta| meta.kind) {
                Some(Kind::Dir) => shards.push(shard),
                Some(_) => drop(self.tree.sweep_away(&shard)?),
                None => {}
            }
        }
        Ok(shards)
    }

    /// The names of an asset's files that can be entries. Pins, staged and partial files, and foreign names are none.
    fn entry_names(&self, asset: &AssetId) -> Result<Vec<String>, CacheError> {
        let dir = self.tree.layout.asset(asset);
        let names = absent(self.tree.disk.read_dir(&dir)).context(IoSnafu {
            action: "list",
            path: &dir,
        })?;
        let names = names
            .into_iter()
            .flatten()
            .filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| CachePath::is_file_name(name)).collect())
    }

    /// What the entry under this name says of itself. A file that belongs under another name is no entry.
    fn entry_info(&self, asset: &AssetId, name: &str) -> Result<Option<EntryInfo>, CacheError> {
        let file = self.tree.layout.asset(asset).join(name);
        let footer = match self.tree.with_entry(&file, |file| Footer::read(&*file)) {
            Ok(footer) => footer,
            Err(None) => None,
            Err(Some(error)) => return Err(error),
        };
        let found = footer.and_then(|footer| Some((footer.payload, footer.names()?)));
        let found = found.filter(|(_, (path, _))| path.file_name() == name);
        Ok(found.map(|(len, (path, asset_key))| EntryInfo::new(path, len, asset_key)))
    }

    /// The id with the key that the first entry tells. The record is asked before the directory is listed: an app that lists
    /// many assets has one for each.
    pub(super) fn find_key(&self, asset: &AssetId) -> Result<Option<AssetId>, CacheError> {
        let key_in = |name: &str| -> Result<_, CacheError> {
            let key = self.entry_info(asset, name)?.and_then(|info| info.asset_key);
            Ok(key.and_then(|key| asset.with_key(&key)))
        };
        let found = key_in(&CachePath::record().file_name())?;
        if found.is_some() {
            return Ok(found);
        }
        for name in self.entry_names(asset)? {
            let found = key_in(&name)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl Store for FsStore {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let file = self.tree.layout.entry(asset, path);
        match self
            .tree
            .with_entry(&file, |opened| Entry::file(opened, &file, asset, path))
        {
            Ok(entry) => Ok(entry),
            Err(Some(error)) => Err(error),
            // Something else stands there, or the file changed while it was read: the check is made again under the lock.
            Err(None) => self.tree.heal(asset, path),
        }
    }

    fn get(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Bytes>, CacheError> {
        let file = self.tree.layout.entry(asset, path);
        let read = |opened: Box<dyn DiskFile>| {
            let found = Footer::read_with_payload(&*opened)?;
            Ok(found.filter(|(_, footer)| footer.is_of(asset, path)))
        };
        match self.tree.with_entry(&file, read) {
            Ok(Some((payload, footer))) if footer.are_blocks(0, &payload) => Ok(Some(payload)),
            Ok(Some(_)) => {
                self.tree.remove_damaged(asset, path)?;
                Ok(None)
            }
            Ok(None) => Ok(None),
            Err(Some(error)) => Err(error),
            Err(None) => match self.tree.heal(asset, path)? {
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
        let removed = absent(tree.disk.remove_file(&file)).context(IoSnafu {
            action: "remove",
            path: file,
        })?;
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
        done.context(IoSnafu {
            action,
            path: pin.path(),
        })
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.tree.scan_asset(asset)
    }

    fn list(&self) -> Result<Vec<AssetInfo>, CacheError> {
        let of_shard = |shard: &PathBuf| -> Result<Vec<_>, CacheError> {
            let ids = self.tree.ids(shard)?;
            let infos = ids.iter().map(|id| self.tree.scan_asset(id));
            infos.filter_map(Result::transpose).collect()
        };
        let shards = parallel::map(&self.shards()?, of_shard)?;
        Ok(shards.into_iter().flatten().collect())
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        let mut entries = Vec::new();
        for name in self.entry_names(asset)? {
            entries.extend(self.entry_info(asset, &name)?);
        }
        Ok(entries)
    }
}

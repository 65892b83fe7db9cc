//! Bytes on a file system: the truth.

use std::collections::HashSet;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::Bytes;
use fs_err as fs;
use snafu::ResultExt as _;

use super::entry::{Entry, Footer};
use super::error::{CacheError, IoSnafu, LockedSnafu};
use super::id::AssetId;
use super::layout::{Layout, PIN};
use super::path::CachePath;
use super::store::{AssetInfo, Committed, EntryInfo, Staged, Stamp, Store, Trash};
use super::turns::Turns;
use crate::storage::Durability;
use crate::storage::durable::{Disk, DiskFile, Kind, Meta, OsDisk};

/// Assets as directories, entries as files, under one root that this store alone has open.
///
/// Its rule: a file under an entry's name is one whole version. Everything it says it reads from the disk, so
/// [`assets`](Store::assets) and [`used_bytes`](Store::used_bytes) cost a walk over the tree; the layers above
/// remember.
///
/// ```text
/// <root>/lock                     held while the store is open
/// <root>/assets/<aa>/<id>/<name>  entries, and `.pin`
/// <root>/assets/<aa>/<id>/.stage… entries being written
/// <root>/trash/<id>-…/            removed assets on their way out
/// ```
#[derive(Debug)]
pub struct FsStore {
    shared: Arc<Shared>,
    /// Whether [`Store::news`] has told what was there.
    told: AtomicBool,
    _lock: Option<fs::File>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    layout: Layout,
    durability: Durability,
    turns: Turns,
    /// Directories known to be durable under their own names.
    durable: Mutex<HashSet<PathBuf>>,
}

impl FsStore {
    /// Opens the store at `root`, making the directory if need be, and removes what a killed process left in the
    /// trash.
    ///
    /// # Errors
    ///
    /// [`CacheError::Locked`] if the root is open elsewhere, in this process or another; [`CacheError::Io`] if it
    /// cannot be made, locked or listed.
    pub fn open(root: impl AsRef<Path>, durability: Durability) -> Result<Self, CacheError> {
        let root = root.as_ref();
        if let Some(parent) = root.parent() {
            fs::create_dir_all(parent).context(IoSnafu {
                action: "create",
                path: parent,
            })?;
        }
        let disk = OsDisk::shared();
        make_dir(&*disk, root)?;
        let lock = lock(root)?;
        Ok(Self {
            _lock: Some(lock),
            ..Self::on(disk, root, durability)?
        })
    }

    /// Opens the store on a disk of the caller's, without a lock. `root` exists.
    pub(crate) fn on(disk: Arc<dyn Disk>, root: &Path, durability: Durability) -> Result<Self, CacheError> {
        let layout = Layout::new(root);
        make_dir(&*disk, &layout.assets())?;
        make_dir(&*disk, &layout.trash())?;
        let shared = Shared {
            disk,
            layout,
            durability,
            turns: Turns::default(),
            durable: Mutex::default(),
        };
        shared.sweep_trash()?;
        Ok(Self {
            shared: Arc::new(shared),
            told: AtomicBool::new(false),
            _lock: None,
        })
    }
}

/// Takes the root's lock. The operating system frees it when the process ends, however it ends.
fn lock(root: &Path) -> Result<fs::File, CacheError> {
    let path = root.join("lock");
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use fs::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(&path).context(IoSnafu {
        action: "open",
        path: &path,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => LockedSnafu { root }.fail(),
        Err(std::fs::TryLockError::Error(source)) => Err(CacheError::Io {
            action: "lock",
            path,
            source,
        }),
    }
}

/// Makes a directory unless it is there.
fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), CacheError> {
    match disk.create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.context(IoSnafu {
            action: "create",
            path: dir,
        }),
    }
}

/// `None` for what is not there, or stands below something that is no directory.
fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Shared {
    fn sweep_trash(&self) -> Result<(), CacheError> {
        let trash = self.layout.trash();
        let names = self.disk.read_dir(&trash).context(IoSnafu {
            action: "list",
            path: &trash,
        })?;
        for name in names {
            if Layout::is_discarded(&name.to_string_lossy()) {
                let path = trash.join(&name);
                self.destroy(&path).context(IoSnafu {
                    action: "remove",
                    path,
                })?;
            }
        }
        Ok(())
    }

    fn meta(&self, path: &Path) -> Result<Option<Meta>, CacheError> {
        absent(self.disk.metadata(path)).context(IoSnafu {
            action: "look at",
            path,
        })
    }

    fn modified(&self, asset: &AssetId) -> Result<Option<Stamp>, CacheError> {
        let meta = self.meta(&self.layout.asset(asset))?;
        Ok(meta
            .filter(|meta| meta.kind == Kind::Dir)
            .and_then(|meta| meta.modified)
            .map(Stamp::from))
    }

    /// Removes whatever stands at `path`; symlinks are not followed.
    fn destroy(&self, path: &Path) -> io::Result<()> {
        let Some(meta) = absent(self.disk.metadata(path))? else {
            return Ok(());
        };
        let removed = match meta.kind {
            Kind::Dir => self.disk.remove_dir_all(path),
            Kind::File | Kind::Other => self.disk.remove_file(path),
        };
        absent(removed).map(|_| ())
    }

    /// Moves whatever stands at `path` out of the way in one step, then removes it.
    fn displace(&self, asset: &AssetId, path: &Path) -> Result<(), CacheError> {
        let discarded = self.layout.discarded(asset);
        absent(self.disk.rename(path, &discarded)).context(IoSnafu {
            action: "move away",
            path,
        })?;
        self.destroy(&discarded).context(IoSnafu {
            action: "remove",
            path: discarded,
        })
    }

    /// The asset's directory, made if need be, and durable under its name where that is asked for.
    fn ready_dir(&self, asset: &AssetId) -> Result<PathBuf, CacheError> {
        let dir = self.layout.asset(asset);
        match self.meta(&dir)? {
            Some(Meta { kind: Kind::Dir, .. }) => {}
            Some(_) => {
                self.displace(asset, &dir)?;
                make_dir(&*self.disk, &dir)?;
            }
            None => {
                make_dir(&*self.disk, &self.layout.assets())?;
                make_dir(&*self.disk, &self.layout.fan(asset))?;
                make_dir(&*self.disk, &dir)?;
                self.known_durable().remove(&dir);
            }
        }
        if self.durability == Durability::Full {
            // Whoever made a directory may have been killed, or be about to sync it: only our own sync counts.
            let fan = self.layout.fan(asset);
            let assets = self.layout.assets();
            for (made, parent) in [
                (&dir, fan.as_path()),
                (&fan, &assets),
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

    fn known_durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        // A set is whole after every call made on it, also after a panic between two.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an entry; `Err(None)` if something else than one whole entry stands under its name.
    fn open_entry(&self, path: &Path) -> Result<Option<Entry>, Option<CacheError>> {
        let io_error = |source| {
            Some(CacheError::Io {
                action: "open",
                path: path.to_owned(),
                source,
            })
        };
        let file = match absent(self.disk.open(path)) {
            Ok(None) => return Ok(None),
            Ok(Some(file)) => file,
            // Some things that are no files cannot be opened: a symlink, a socket.
            Err(source) => match self.disk.metadata(path) {
                Ok(meta) if meta.kind != Kind::File => return Err(None),
                _ => return Err(io_error(source)),
            },
        };
        // Reading a directory fails, which says as much as a bad footer does.
        match file.metadata() {
            Ok(meta) if meta.kind == Kind::File => {}
            Ok(_) => return Err(None),
            Err(source) => return Err(io_error(source)),
        }
        match Entry::file(file, path) {
            Ok(Some(entry)) => Ok(Some(entry)),
            Ok(None) => Err(None),
            Err(source) => Err(io_error(source)),
        }
    }

    /// Takes away what stands in an entry's place without being one. The caller saw it damaged; by now a commit may
    /// have mended it.
    fn heal(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        let _turn = self.turns.take(asset, path);
        let file = self.layout.entry(asset, path);
        match self.open_entry(&file) {
            Ok(entry) => return Ok(entry),
            Err(Some(error)) => return Err(error),
            Err(None) => {}
        }
        log::warn!("removing a damaged entry of asset {asset}");
        let removed = match self.meta(&file)? {
            Some(Meta { kind: Kind::Dir, .. }) => self.displace(asset, &file),
            _ => absent(self.disk.remove_file(&file)).map(|_| ()).context(IoSnafu {
                action: "remove",
                path: &file,
            }),
        };
        if let Err(error) = removed {
            // The entry is a miss all the same; a put replaces the file.
            log::warn!("cannot remove a damaged entry: {error}");
        }
        Ok(None)
    }

    /// What one asset's directory holds, and removes what dead writers left in it.
    fn look(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
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
            last_access: meta.modified.map_or(Stamp::default(), Stamp::from),
            leased: false,
            pinned: false,
            modified: meta.modified.map(Stamp::from),
        };
        for name in names {
            let text = name.to_string_lossy();
            let path = dir.join(&name);
            match self.layout.is_staged_now(&text) {
                Some(true) => continue,
                Some(false) => {
                    self.destroy(&path).context(IoSnafu {
                        action: "remove",
                        path: &path,
                    })?;
                    // The directory was changed by us just now: what it says of its time is not the time above.
                    info.modified = None;
                    continue;
                }
                None => {}
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
    fn tree_bytes(&self, path: &Path, meta: Meta) -> Result<u64, CacheError> {
        match meta.kind {
            Kind::File => Ok(meta.len),
            Kind::Other => Ok(0),
            Kind::Dir => {
                let names = absent(self.disk.read_dir(path)).context(IoSnafu { action: "list", path })?;
                let mut bytes = 0;
                for name in names.unwrap_or_default() {
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

    /// Ids of the assets in one fan-out directory.
    fn ids(&self, fan: &Path) -> Result<Vec<AssetId>, CacheError> {
        let names = absent(self.disk.read_dir(fan)).context(IoSnafu {
            action: "list",
            path: fan,
        })?;
        let ids = names
            .unwrap_or_default()
            .into_iter()
            .filter_map(|name| AssetId::parse_name(name.to_str()?));
        Ok(ids.filter(|id| self.layout.fan(id) == fan).collect())
    }
}

impl FsStore {
    /// Looks at every asset, on several threads.
    pub(crate) fn scan(&self) -> Result<Vec<AssetInfo>, CacheError> {
        let assets = self.shared.layout.assets();
        let fans = self.shared.disk.read_dir(&assets).context(IoSnafu {
            action: "list",
            path: &assets,
        })?;
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Ok(Vec::new()));
        let work = || {
            while let Some(fan) = fans.get(next.fetch_add(1, Ordering::Relaxed)) {
                let ids = self.shared.ids(&assets.join(fan));
                let infos: Result<Vec<_>, _> = ids.and_then(|ids| {
                    ids.iter()
                        .filter_map(|id| self.shared.look(id).transpose())
                        .collect()
                });
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                match (&mut *found, infos) {
                    (Ok(found), Ok(infos)) => found.extend(infos),
                    (Ok(_), Err(error)) => *found = Err(error),
                    (Err(_), _) => return,
                }
            }
        };
        thread::scope(|scope| {
            let threads = thread::available_parallelism().map_or(1, NonZero::get).min(8);
            for _ in 1..threads {
                // Without more threads this one does all the work.
                let _ = thread::Builder::new()
                    .name("kithara-scan".into())
                    .spawn_scoped(scope, work);
            }
            work();
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for FsStore {
    fn open(&self, asset: &AssetId, path: &CachePath) -> Result<Option<Entry>, CacheError> {
        match self.shared.open_entry(&self.shared.layout.entry(asset, path)) {
            Ok(entry) => Ok(entry),
            Err(Some(error)) => Err(error),
            Err(None) => self.shared.heal(asset, path),
        }
    }

    fn contains(&self, asset: &AssetId, path: &CachePath) -> Result<bool, CacheError> {
        Ok(self.open(asset, path)?.is_some())
    }

    fn stage(&self, asset: &AssetId, path: &CachePath) -> Result<Box<dyn Staged>, CacheError> {
        let shared = &self.shared;
        let dir = shared.ready_dir(asset)?;
        let staged = shared.layout.staged(&dir);
        let file = shared.disk.create_new(&staged).context(IoSnafu {
            action: "create",
            path: &staged,
        })?;
        Ok(Box::new(FsStaged {
            file: Some(file),
            staged,
            asset: asset.clone(),
            path: path.clone(),
            len: 0,
            crc: crc32fast::Hasher::new(),
            failed: false,
            placed: false,
            shared: Arc::clone(shared),
        }))
    }

    fn remove_entry(&self, asset: &AssetId, path: &CachePath) -> Result<Option<u64>, CacheError> {
        let shared = &self.shared;
        let file = shared.layout.entry(asset, path);
        let _turn = shared.turns.take(asset, path);
        let Some(meta) = shared.meta(&file)? else {
            return Ok(None);
        };
        if meta.kind == Kind::Dir {
            shared.displace(asset, &file)?;
            return Ok(None);
        }
        let removed = absent(shared.disk.remove_file(&file)).context(IoSnafu {
            action: "remove",
            path: file,
        })?;
        Ok(removed.map(|()| meta.len))
    }

    fn remove(&self, asset: &AssetId) -> Result<Option<Trash>, CacheError> {
        let shared = Arc::clone(&self.shared);
        let dir = shared.layout.asset(asset);
        let discarded = shared.layout.discarded(asset);
        shared.known_durable().remove(&dir);
        let mut renamed = absent(shared.disk.rename(&dir, &discarded));
        if matches!(renamed, Ok(None)) && shared.meta(&dir)?.is_some() {
            make_dir(&*shared.disk, &shared.layout.trash())?;
            renamed = absent(shared.disk.rename(&dir, &discarded));
        }
        let renamed = renamed.context(IoSnafu {
            action: "move to the trash",
            path: dir,
        })?;
        Ok(renamed.map(|()| {
            Trash::new(move || {
                shared.destroy(&discarded).context(IoSnafu {
                    action: "remove",
                    path: discarded,
                })
            })
        }))
    }

    fn set_pinned(&self, asset: &AssetId, pinned: bool) -> Result<(), CacheError> {
        let shared = &self.shared;
        let pin = shared.layout.asset(asset).join(PIN);
        let dir = if pinned {
            let dir = shared.ready_dir(asset)?;
            match shared.disk.create_new(&pin) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => drop(made.context(IoSnafu {
                    action: "create",
                    path: &pin,
                })?),
            }
            dir
        } else {
            let removed = absent(shared.disk.remove_file(&pin)).context(IoSnafu {
                action: "remove",
                path: &pin,
            })?;
            if removed.is_none() {
                return Ok(());
            }
            shared.layout.asset(asset)
        };
        shared.disk.sync_dir(&dir).context(IoSnafu {
            action: "sync",
            path: dir,
        })
    }

    fn asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        self.shared.look(asset)
    }

    fn modified(&self, asset: &AssetId) -> Result<Option<Stamp>, CacheError> {
        self.shared.modified(asset)
    }

    fn assets(&self) -> Result<Vec<AssetInfo>, CacheError> {
        self.scan()
    }

    fn entries(&self, asset: &AssetId) -> Result<Vec<EntryInfo>, CacheError> {
        let dir = self.shared.layout.asset(asset);
        let names = absent(self.shared.disk.read_dir(&dir)).context(IoSnafu {
            action: "list",
            path: &dir,
        })?;
        let mut entries = Vec::new();
        for name in names.unwrap_or_default() {
            let Some(name) = name.to_str().filter(|name| CachePath::is_file_name(name)) else {
                continue;
            };
            let path = dir.join(name);
            let Ok(Some(file)) = absent(self.shared.disk.open(&path)) else {
                continue;
            };
            let found = Footer::read(&*file).and_then(|footer| match footer {
                Some(footer) => Ok(footer.names(&*file)?.map(|(path, _)| (footer, path))),
                None => Ok(None),
            });
            let found = found.context(IoSnafu { action: "read", path })?;
            // An entry under another's name is not one.
            if let Some((footer, path)) = found.filter(|(_, path)| path.file_name() == name) {
                entries.push(EntryInfo {
                    path,
                    len: footer.payload,
                });
            }
        }
        Ok(entries)
    }

    fn used_bytes(&self) -> Result<u64, CacheError> {
        let root = self.shared.layout.root();
        match self.shared.meta(root)? {
            Some(meta) => self.shared.tree_bytes(root, meta),
            None => Ok(0),
        }
    }

    fn overhead(&self, asset: &AssetId, path: &CachePath) -> u64 {
        Footer::len(asset, path)
    }

    fn touch(&self, _asset: &AssetId, _at: Stamp) {}

    fn is_held(&self, _asset: &AssetId) -> Result<bool, CacheError> {
        Ok(false)
    }

    fn news(&self) -> Result<Vec<(AssetId, Stamp)>, CacheError> {
        if self.told.swap(true, Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        Ok(self
            .scan()?
            .into_iter()
            .map(|info| (info.id, info.last_access))
            .collect())
    }

    fn checkpoint(&self) -> Result<(), CacheError> {
        Ok(())
    }
}

/// An entry being written to a file beside its target.
struct FsStaged {
    file: Option<Box<dyn DiskFile>>,
    staged: PathBuf,
    asset: AssetId,
    path: CachePath,
    len: u64,
    crc: crc32fast::Hasher,
    /// A write failed: part of it may be in the file.
    failed: bool,
    /// The file has its final name.
    placed: bool,
    shared: Arc<Shared>,
}

impl Staged for FsStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        let Some(file) = self.file.as_mut().filter(|_| !self.failed) else {
            return Err(CacheError::Abandoned);
        };
        if let Err(source) = file.append(parts) {
            self.failed = true;
            return Err(CacheError::Io {
                action: "write",
                path: self.staged.clone(),
                source,
            });
        }
        for part in parts {
            self.crc.update(part);
            self.len += part.len() as u64;
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<Committed, CacheError> {
        let crc = std::mem::take(&mut self.crc).finalize();
        let payload = self.len;
        let footer = Footer::encode(&self.asset, &self.path, payload, crc);
        let bytes = payload + footer.len() as u64;
        self.write(&[footer])?;
        let Some(file) = self.file.take() else {
            return Err(CacheError::Abandoned);
        };
        file.sync().context(IoSnafu {
            action: "sync",
            path: &self.staged,
        })?;
        drop(file);

        let shared = &self.shared;
        let target = shared.layout.entry(&self.asset, &self.path);
        let _turn = shared.turns.take(&self.asset, &self.path);
        let replaced = match shared.meta(&target)? {
            Some(Meta { kind: Kind::Dir, .. }) => {
                shared.displace(&self.asset, &target)?;
                None
            }
            Some(Meta {
                kind: Kind::File,
                len,
                ..
            }) => Some(len),
            Some(Meta {
                kind: Kind::Other, ..
            })
            | None => None,
        };
        let renamed = shared.disk.replace(&self.staged, &target, shared.durability);
        renamed.context(IoSnafu {
            action: "rename to",
            path: &target,
        })?;
        self.placed = true;
        let modified = shared.modified(&self.asset)?;
        Ok(Committed {
            bytes,
            replaced,
            modified,
        })
    }
}

impl Drop for FsStaged {
    fn drop(&mut self) {
        drop(self.file.take());
        if !self.placed {
            // What cannot be removed now is swept by the next session.
            let _ = self.shared.disk.remove_file(&self.staged);
        }
    }
}

impl std::fmt::Debug for FsStaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FsStaged")
            .field("path", &self.path)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

//! What leaves: by one rename into the trash, or, left there by a killed session, by the sweep.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::tree::{Tree, absent, is_absent};
use crate::cache::error::{CacheError, Trying as _};
use crate::cache::id::AssetId;
use crate::cache::timestamp::Timestamp;
use crate::storage::durable::{Kind, Meta, remove_any};

/// A leftover that was written to within this time may have a living writer.
const YOUNG: Duration = Duration::from_secs(3600);

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
    /// Moves whatever stands at `path` to the trash in one step. Where the file system moves no directories, unlinks it.
    pub(super) fn discard(&self, asset: &AssetId, path: &Path) -> Result<Discarded, CacheError> {
        // One rename takes the whole directory out of sight. Unlinked in place, a reader would find some of its entries and
        // miss others, and a crash would leave an asset with holes.
        let discarded = self.layout.discarded(asset);
        let mut renamed = self.disk.rename(path, &discarded);
        if renamed.as_ref().is_err_and(is_absent) {
            // It is `path` that is absent, or else the trash.
            self.own_dir(&self.layout.trash())?;
            renamed = self.disk.rename(path, &discarded);
        }
        match renamed {
            Ok(()) => Ok(Discarded::Moved(discarded)),
            // From the start, or since: another thread may have moved it.
            Err(error) if is_absent(&error) && self.meta(path)?.is_none() => Ok(Discarded::Absent),
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

    /// Moves whatever stands at `path` to the trash in one step, then removes it there.
    pub(in crate::cache) fn displace(&self, asset: &AssetId, path: &Path) -> Result<(), CacheError> {
        let Discarded::Moved(discarded) = self.discard(asset, path)? else {
            return Ok(());
        };
        self.destroy(&discarded)
            .map_err(|source| not_removed("remove", asset, &discarded, source))
    }

    /// Takes what stands in the place of a file of the cache's own out of the way, if it is no file: a directory, a link.
    pub(super) fn clear_place(&self, asset: &AssetId, path: &Path) -> Result<(), CacheError> {
        match self.kind(path)? {
            None | Some(Kind::File) => Ok(()),
            Some(Kind::Dir | Kind::Other) => self.displace(asset, path),
        }
    }

    /// Moves what stands at `path` and belongs to no asset to the trash, for the sweep; or unlinks it. `false` if neither can be.
    pub(in crate::cache) fn set_aside(&self, path: &Path) -> bool {
        let moved = self.disk.rename(path, &self.layout.set_aside());
        moved.or_else(|_| self.destroy(path)).is_ok()
    }

    /// Removes whatever stands at `path`. Symlinks are not followed.
    pub(in crate::cache) fn destroy(&self, path: &Path) -> io::Result<()> {
        absent(remove_any(&*self.disk, path)).map(drop)
    }

    /// Whether a killed session left something in the trash.
    pub(in crate::cache) fn has_leftovers(&self) -> Result<bool, CacheError> {
        Ok(!self.leftovers()?.is_empty())
    }

    /// The trash that earlier sessions left. Files that no cache put there are left alone.
    fn leftovers(&self) -> Result<Vec<PathBuf>, CacheError> {
        let trash = self.layout.trash();
        let old = |name: &OsString| self.layout.is_discarded_now(&name.to_string_lossy()) == Some(false);
        let names = self.names(&trash)?.into_iter().filter(old);
        Ok(names.map(|name| trash.join(name)).collect())
    }

    /// Removes what a killed session left in the trash. One thread at a time calls this.
    pub(in crate::cache) fn sweep(&self) -> Result<(), CacheError> {
        let mut stuck = 0;
        for path in self.leftovers()? {
            stuck += self.sweep_dead(&path)?;
        }
        self.stuck.store(stuck, Ordering::Release);
        Ok(())
    }

    /// Bytes of trash that no session could remove so far. They stand under the root, and so they count.
    pub(in crate::cache) fn stuck_bytes(&self) -> u64 {
        self.stuck.load(Ordering::Acquire)
    }

    /// Removes what a killed session left, if it was one. Returns the bytes of what stays.
    pub(super) fn sweep_dead(&self, path: &Path) -> Result<u64, CacheError> {
        match self.meta(path)? {
            Some(meta) if !self.is_dead(&meta) => self.tree_bytes(path, meta),
            _ => self.sweep_away(path),
        }
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
                let left = self.meta(path)?;
                left.map_or(Ok(0), |meta| self.tree_bytes(path, meta))
            }
            // Perhaps it works the next time: the caller tries again.
            Err(error) => Err(error).trying("remove", path),
        }
    }
}

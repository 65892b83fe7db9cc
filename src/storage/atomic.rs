//! The one owner of "replace a small file whole": [`AtomicResource`], used by the app, by the records of partial files, and by
//! the cache for its index and its pins.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::durable::{self, Disk, DiskFile, Durability, Kind, OsDisk};

/// A small object in one file, read and replaced as a whole: settings, a playlist, a session.
///
/// A reader sees the old bytes or the new ones, whole, at every instant and after every crash. A write that has returned
/// survives a power cut. On Unix the file is readable and writable by its owner only.
///
/// Several writers at once are safe: the last rename wins. While a write is under way its bytes stand in a hidden file beside
/// the target. If the process is killed meanwhile, that file stays until [`sweep`](Self::sweep) removes it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use kithara::storage::AtomicResource;
///
/// let resume = AtomicResource::new(dir.path().join("resume.json"));
/// assert_eq!(resume.read()?, None);
/// resume.write(r#"{"track": 7}"#)?;
/// assert_eq!(resume.read()?.as_deref(), Some(&br#"{"track": 7}"#[..]));
/// assert!(resume.remove()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct AtomicResource {
    path: PathBuf,
    /// Where new bytes stand until the rename. Without it, each write draws a name.
    staged: Option<PathBuf>,
    durability: Durability,
    disk: Arc<dyn Disk>,
}

impl AtomicResource {
    /// The object at `path`. Nothing is touched yet. The directory has to exist when the object is written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::on_disk(OsDisk::shared(), path)
    }

    pub(crate) fn on_disk(disk: Arc<dyn Disk>, path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            staged: None,
            durability: Durability::Full,
            disk,
        }
    }

    /// Stages new bytes at `path`. The caller makes sure that nobody else writes there, and that nothing stands there when
    /// [`replace`](Self::replace) is called: an owner with a directory of its own sweeps it by fixed names.
    pub(crate) fn staged_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.staged = Some(path.into());
        self
    }

    /// What a write that has returned survives. [`Durability::Full`] unless set.
    pub(crate) fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Where the object stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole object, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if something stands there that is no regular file; otherwise what the file system says.
    pub fn read(&self) -> io::Result<Option<Bytes>> {
        self.read_within(u64::MAX)
    }

    /// As [`read`](Self::read). A file longer than `limit` bytes is [`io::ErrorKind::FileTooLarge`], and nothing is allocated
    /// for it.
    pub(crate) fn read_within(&self, limit: u64) -> io::Result<Option<Bytes>> {
        let file = match self.disk.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        // Asked of the open file and not of the name, which may stand for another file by now.
        let meta = file.metadata()?;
        if meta.kind != Kind::File {
            return Err(not_a_file());
        }
        if meta.len > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        durable::read_range(&*file, 0, meta.len).map(Some)
    }

    /// Replaces the whole object. When the call returns the new bytes are durable.
    ///
    /// # Errors
    ///
    /// What the file system says. The old object still stands then, whole. Only if the sync of the directory failed, the new one
    /// does, and a power cut may take it back.
    pub fn write(&self, bytes: impl Into<Bytes>) -> io::Result<()> {
        self.replace(bytes.into()).map(drop)
    }

    /// As [`write`](Self::write). Returns the file, to append to.
    ///
    /// ```text
    ///   create staged · write · sync · rename to the target · sync the directory (Durability::Full)
    /// ```
    ///
    /// The sync before the rename is not optional: without it a power cut leaves an empty file under the final name.
    pub(crate) fn replace(&self, bytes: Bytes) -> io::Result<Box<dyn DiskFile>> {
        let drawn;
        let staged = if let Some(staged) = &self.staged {
            staged
        } else {
            // Drawn for each write: no other writer has it, of this process, of another, or of one that was killed.
            drawn = self.staged_with(RandomState::new().build_hasher().finish());
            &drawn
        };
        let mut file = self.disk.create_new(staged)?;
        // A failed sync is not tried again: the next one would answer `Ok` of pages that are lost.
        let written = file.append(&[bytes]).and_then(|()| file.sync());
        let replaced = written.and_then(|()| self.disk.replace(staged, &self.path, self.durability));
        match replaced {
            Ok(()) => Ok(file),
            Err(error) => {
                drop(file);
                // It is gone already if only the sync of the directory failed. If it cannot be removed now, a sweep does it.
                let _ = self.disk.remove_file(staged);
                Err(error)
            }
        }
    }

    /// Makes the object exist, empty, if there is none. It is durable when the call returns. An empty file is whole at every
    /// instant: it needs no staging.
    #[cfg(feature = "cache")]
    pub(crate) fn mark(&self) -> io::Result<()> {
        loop {
            match self.disk.create_new(&self.path) {
                Ok(_) => break,
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {}
            }
            // Of one that is there already the name may not be durable yet: it is synced all the same. But a directory or a
            // link in its place is no object, and the next session would not find one (fault W49).
            match self.disk.metadata(&self.path) {
                Ok(meta) if meta.kind == Kind::File => break,
                Ok(_) => return Err(not_a_file()),
                // Another thread has removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // An empty file has no content to sync. Its name is what has to last.
        self.disk.sync_dir(self.dir())
    }

    /// Removes the object. When the call returns the removal is durable. Answers whether there was one.
    ///
    /// # Errors
    ///
    /// What the file system says. If only the sync of the directory failed, a power cut may bring the object back.
    pub fn remove(&self) -> io::Result<bool> {
        match self.disk.remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            removed => removed?,
        }
        self.disk.sync_dir(self.dir()).map(|()| true)
    }

    /// Removes what a killed process left while it wrote this object. Call it when no other process writes the same object.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn sweep(&self) -> io::Result<()> {
        let Some(name) = self.path.file_name() else {
            return Ok(());
        };
        let prefix = format!(".{}.staged-", name.to_string_lossy());
        for found in self.disk.read_dir(self.dir())? {
            // Only names that `staged_with` makes: other hidden files are the app's.
            if found
                .to_string_lossy()
                .strip_prefix(&prefix)
                .is_some_and(|n| n.parse::<u64>().is_ok())
            {
                self.disk.remove_file(&self.dir().join(found))?;
            }
        }
        Ok(())
    }

    fn dir(&self) -> &Path {
        match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        }
    }

    fn staged_with(&self, number: u64) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.staged-{number}"))
    }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

impl fmt::Debug for AtomicResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicResource")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::{Dice, FakeDisk};

    /// R1.
    #[test]
    fn a_write_replaces_the_whole_object_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let object = AtomicResource::new(dir.path().join("state"));
        assert_eq!(object.read().unwrap(), None);
        object.write("a longer first version").unwrap();
        object.write("short").unwrap();
        assert_eq!(object.read().unwrap().unwrap(), "short");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// R1: a process killed while it wrote leaves a staged file that is in no later process's way.
    #[test]
    fn a_killed_writers_leftovers_are_in_no_later_writers_way() {
        let dir = tempfile::tempdir().unwrap();
        let object = AtomicResource::new(dir.path().join("state"));
        for first in 0..100 {
            std::fs::write(dir.path().join(format!(".state.staged-{first}")), "left").unwrap();
        }
        object.write("written").unwrap();
        assert_eq!(object.read().unwrap().unwrap(), "written");
        object.sweep().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// R1: the last object whose write had returned, or the one being written.
    #[test]
    fn a_power_cut_after_any_change_leaves_one_whole_object() {
        let disk = FakeDisk::default();
        let object = |disk: &FakeDisk| AtomicResource::on_disk(Arc::new(disk.clone()), "/state");
        let mut returned = Vec::new();
        for version in 1..6 {
            let bytes = vec![version; 100 * usize::from(version)];
            object(&disk).write(bytes).unwrap();
            returned.push(disk.changes());
        }
        for (changes, seed) in (0..=disk.changes()).flat_map(|cut| (0..100).map(move |seed| (cut, seed))) {
            let found = disk.power_cut(changes, &mut Dice(seed));
            let bytes = object(&found).read().unwrap().unwrap_or_default();
            let version = bytes.first().copied().unwrap_or(0);
            assert_eq!(bytes, vec![version; 100 * usize::from(version)], "not whole");
            let last = returned.iter().filter(|&&at| at <= changes).count();
            assert!(
                (last..=last + 1).contains(&usize::from(version)),
                "{version}, not {last} or the next"
            );
            object(&found).sweep().unwrap();
            assert!(found.files().len() <= 1, "left over: {:?}", found.files());
        }
    }

    #[test]
    fn a_directory_in_its_place_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let object = AtomicResource::new(dir.path());
        assert_eq!(object.read().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(object.write("x").is_err());
        assert!(dir.path().is_dir());
    }

    #[test]
    fn a_sweep_removes_staged_leftovers_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let object = AtomicResource::new(dir.path().join("state"));
        object.write("kept").unwrap();
        for name in [".state.staged-7", ".state.staged-x", ".other.staged-7"] {
            std::fs::write(dir.path().join(name), "left").unwrap();
        }
        object.sweep().unwrap();
        assert!(!dir.path().join(".state.staged-7").exists());
        assert!(dir.path().join(".state.staged-x").exists() && dir.path().join(".other.staged-7").exists());
        assert_eq!(object.read().unwrap().unwrap(), "kept");
    }

    #[test]
    fn what_is_removed_stays_removed_after_a_power_cut() {
        let disk = FakeDisk::default();
        let object = |disk: &FakeDisk| AtomicResource::on_disk(Arc::new(disk.clone()), "/state");
        object(&disk).write("old").unwrap();
        assert!(object(&disk).remove().unwrap());
        assert!(!object(&disk).remove().unwrap(), "there is none left");
        for seed in 0..200 {
            let found = disk.power_cut(disk.changes(), &mut Dice(seed));
            assert_eq!(object(&found).read().unwrap(), None);
        }
    }

    #[test]
    fn a_file_longer_than_the_limit_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let object = AtomicResource::new(dir.path().join("state"));
        object.write("12345").unwrap();
        assert_eq!(object.read_within(5).unwrap().unwrap(), "12345");
        assert_eq!(
            object.read_within(4).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }
}

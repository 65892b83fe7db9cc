//! A small object in one file, read and replaced as a whole.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::durable::{self, Disk, Durability, Kind, OsDisk};

/// A whole object in one file: settings, a playlist, a session.
///
/// A reader sees the old bytes or the new ones, whole, at every instant and after every crash. A write that has
/// returned survives a power cut. The file is for its owner only on Unix.
///
/// Two writers at once are safe, the later rename wins. While a write is under way its bytes stand in a hidden file
/// beside the target; what a killed process left there is removed by the next write of the same object that follows
/// [`sweep`](Self::sweep).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use kithara::storage::AtomicResource;
///
/// let resume = AtomicResource::new(dir.path().join("resume.json"));
/// assert_eq!(resume.read()?, None);
/// resume.write(r#"{"track": 7, "seconds": 93.5}"#)?;
/// assert_eq!(resume.read()?.as_deref(), Some(&br#"{"track": 7, "seconds": 93.5}"#[..]));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct AtomicResource {
    path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl AtomicResource {
    /// The object at `path`. Touches nothing yet; the directory must exist when it is written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            disk: OsDisk::shared(),
        }
    }

    /// Where the object stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole object, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if what stands there is no regular file; otherwise what the file system says.
    pub fn read(&self) -> io::Result<Option<Bytes>> {
        let file = match self.disk.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let meta = file.metadata()?;
        if meta.kind != Kind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        durable::read_range(&*file, 0, meta.len).map(Some)
    }

    /// Replaces the whole object. When the call returns the new bytes are durable.
    ///
    /// # Errors
    ///
    /// What the file system says. The old object then still stands, whole; only after a failed sync of the
    /// directory the new one does, and a power cut may take it back.
    pub fn write(&self, bytes: impl Into<Bytes>) -> io::Result<()> {
        // Drawn for each write: no other one has it, of this process, another, or one that was killed.
        let staged = self.staged(RandomState::new().build_hasher().finish());
        durable::write_whole(
            &*self.disk,
            &staged,
            &self.path,
            &[bytes.into()],
            Durability::Full,
        )
        .map(drop)
    }

    /// Removes what a killed process left behind while writing this object. Call it where no other process writes
    /// the same object.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn sweep(&self) -> io::Result<()> {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(());
        };
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        let prefix = format!(".{}.staged-", name.to_string_lossy());
        for found in self.disk.read_dir(dir)? {
            if found
                .to_string_lossy()
                .strip_prefix(&prefix)
                .is_some_and(|n| n.parse::<u64>().is_ok())
            {
                self.disk.remove_file(&dir.join(found))?;
            }
        }
        Ok(())
    }

    fn staged(&self, number: u64) -> PathBuf {
        let name = self
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        self.path.with_file_name(format!(".{name}.staged-{number}"))
    }
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
        let object = |disk: &FakeDisk| AtomicResource {
            path: "/state".into(),
            disk: Arc::new(disk.clone()),
        };
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
}

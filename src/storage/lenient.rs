//! A disk whose file system may be unable to make names durable.
//!
//! CIFS, shared folders of virtual machines and some FUSE file systems answer the sync of a directory with an error that says
//! that there is no such thing. Its files are as whole as anywhere: they were synced before they got their names. Only the
//! newest names may be taken back by a power cut, as under [`Durability::Ordered`]. Were that an error, nothing would ever be
//! kept there (fault W25).

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::durable::{Disk, DiskFile, Durability, Meta};

/// Takes the sync of a directory that the file system does not offer for done, and remembers that it was refused.
#[derive(Clone, Debug)]
pub(crate) struct LenientDisk {
    inner: Arc<dyn Disk>,
    refused: Arc<AtomicBool>,
}

impl LenientDisk {
    pub(crate) fn new(inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            refused: Arc::default(),
        }
    }

    /// Whether the sync of a directory was refused so far.
    #[cfg(feature = "cache")]
    pub(crate) fn refused(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.refused)
    }

    fn refuse(&self, dir: &Path) {
        // Told once: it is a property of the file system, and every put would tell it again.
        if !self.refused.swap(true, Ordering::Relaxed) {
            #[cfg(feature = "cache")]
            log::warn!(
                "the file system of {} cannot sync directories: a power cut may take the newest files",
                dir.display()
            );
            #[cfg(not(feature = "cache"))]
            let _ = dir;
        }
    }
}

/// Whether the error says that directories cannot be synced here, and not that this sync failed.
fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    if let Some(number) = os_number(error) {
        return [
            libc::EINVAL,
            libc::ENOTSUP,
            libc::EOPNOTSUPP,
            libc::ENOSYS,
            // Of systems that sync only what is open for writing, as a directory never is.
            libc::EBADF,
        ]
        .contains(&number);
    }
    error.kind() == io::ErrorKind::Unsupported
}

/// The system's number of an error, which may stand below the one that names the path.
#[cfg(unix)]
fn os_number(error: &io::Error) -> Option<i32> {
    let mut error: &(dyn std::error::Error + 'static) = error;
    loop {
        let number = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        if number.is_some() {
            return number;
        }
        error = error.source()?;
    }
}

impl Disk for LenientDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn create_new(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.inner.create_new(file)
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.inner.open(file)
    }

    fn open_partial(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.inner.open_partial(file)
    }

    fn replace(&self, staged: &Path, target: &Path, durability: Durability) -> io::Result<()> {
        match self.inner.replace(staged, target, durability) {
            // The error may be the rename's or the sync's. A staged name that is gone tells that the rename took place.
            Err(error)
                if durability == Durability::Full
                    && is_unsupported(&error)
                    && self
                        .inner
                        .metadata(staged)
                        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound) =>
            {
                self.refuse(target);
                Ok(())
            }
            replaced => replaced,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.inner.sync_dir(dir) {
            Err(error) if is_unsupported(&error) => {
                self.refuse(dir);
                Ok(())
            }
            synced => synced,
        }
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        self.inner.remove_file(file)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        self.inner.metadata(path)
    }

    fn unit(&self) -> u64 {
        self.inner.unit()
    }

    fn allocated(&self, path: &Path) -> io::Result<u64> {
        self.inner.allocated(path)
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.inner.read_dir(dir)
    }

    #[cfg(feature = "offline")]
    fn free(&self, dir: &Path) -> Option<u64> {
        self.inner.free(dir)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::storage::testing::FakeDisk;
    use crate::storage::{AtomicResource, StreamingOptions};

    fn lenient(error: i32) -> (FakeDisk, Arc<LenientDisk>) {
        let disk = FakeDisk::default();
        disk.refuse("sync_dir", "/", error);
        (disk.clone(), Arc::new(LenientDisk::new(Arc::new(disk))))
    }

    /// W25, C31: an object, its removal, and a file that arrives, where directories cannot be synced.
    #[test]
    fn w25_files_are_kept_where_directories_cannot_be_synced() {
        for error in [libc::EINVAL, libc::ENOTSUP, libc::ENOSYS] {
            let (disk, lenient) = lenient(error);
            let object = AtomicResource::on_disk(lenient.clone(), "/object");
            object.write("bytes").unwrap();
            assert_eq!(object.read().unwrap().unwrap(), "bytes");
            assert!(object.remove().unwrap());
            let track = StreamingOptions::new("/track").disk(lenient.clone());
            let track = track.open::<io::Error>().unwrap();
            let mut writer = track.writer().unwrap();
            writer.write_at(0, b"bytes").unwrap();
            writer.checkpoint().run().unwrap();
            writer.commit(5).unwrap();
            assert_eq!(disk.files(), ["/track"]);
            assert!(lenient.refused.load(Ordering::Relaxed));
        }
    }

    /// C11: a directory that can be synced and was not is an error as ever.
    #[test]
    fn w25_a_sync_that_fails_is_no_sync_that_is_not_offered() {
        for error in [libc::EIO, libc::ENOSPC, libc::EROFS] {
            let (_, lenient) = lenient(error);
            AtomicResource::on_disk(lenient.clone(), "/object")
                .write("bytes")
                .unwrap_err();
            assert!(!lenient.refused.load(Ordering::Relaxed));
        }
    }

    /// C2: the error of the rename itself, though it looks like that of a sync.
    #[test]
    fn w25_a_rename_that_is_refused_is_an_error() {
        let disk = FakeDisk::default();
        disk.refuse("replace", "/", libc::EINVAL);
        let lenient = Arc::new(LenientDisk::new(Arc::new(disk.clone())));
        AtomicResource::on_disk(lenient.clone(), "/object")
            .write("bytes")
            .unwrap_err();
        assert!(disk.files().is_empty());
        assert!(!lenient.refused.load(Ordering::Relaxed));
    }
}

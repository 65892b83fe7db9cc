//! The file-system calls of which every durable change is made: write, sync, rename, sync of the directory.
//!
//! [`Disk`] is the seam. [`OsDisk`] is the file system; in tests a fake disk with live and durable bytes stands in its place.
//! No file above this one calls the file system. The order of calls is the business of their owners: `atomic` for small files,
//! `partial::recorder` for resources that are written while they are read, the cache for its entries.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IoSlice, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fs_err as fs;

use super::file_lock::{self, Attempt};
use super::lenient::LenientDisk;

/// What a power cut can take of a finished write.
///
/// A *killed process* loses nothing under either: the kernel has the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The data is synced, the file renamed, the directory synced. When the call returns, a power cut cannot take the write
    /// back.
    #[default]
    Full,
    /// The data is synced, the file renamed. A power cut can take back the writes of the last seconds, but only whole: under
    /// each name stands the old version, the new one, or nothing. It saves about one disk flush for each write.
    Ordered,
}

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink, fifo, socket or device. This crate makes none.
    Other,
}

/// Kind, length and modification time of what a name stands for. Symlinks are not followed.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Length in bytes.
    pub len: u64,
    /// When the content of a file, or the names in a directory, last changed.
    #[cfg_attr(
        not(feature = "cache"),
        allow(dead_code, reason = "the cache's index asks for it")
    )]
    pub modified: Option<SystemTime>,
    /// How many names a file has. 1 where that is not known.
    pub links: u64,
}

impl Meta {
    /// Whether it is a file that has no other name, so that writing to it changes nothing else.
    pub(crate) fn is_own_file(&self) -> bool {
        self.kind == Kind::File && self.links <= 1
    }
}

/// The file-system calls that storage and cache are made of.
///
/// # Contract
///
/// Each call is one step, after which a crash can come. Errors keep their [`io::ErrorKind`].
#[allow(
    clippy::missing_errors_doc,
    reason = "each call fails with what the system said"
)]
#[cfg_attr(
    not(feature = "cache"),
    allow(dead_code, reason = "the cache is made of more calls than storage")
)]
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes one directory, for its owner only.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a file that must not exist yet, for its owner only.
    fn create_new(&self, file: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens what stands under a name for reading, without following a symlink or waiting for a fifo's writer.
    fn open(&self, file: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens or makes a file that is written in any order, for its owner only, and claims it until it is closed:
    /// [`io::ErrorKind::WouldBlock`] if another handle has it, of this process or another one. Symlinks are not followed.
    fn open_partial(&self, file: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives `staged` the name `target` in one step, whatever stood there, and with [`Durability::Full`] syncs the directories.
    /// An error can come after the rename: the caller has to look what stands there.
    fn replace(&self, staged: &Path, target: &Path, durability: Durability) -> io::Result<()>;
    /// Moves a file or directory to a name that is free.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the directory's names durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a name that is no directory's.
    fn remove_file(&self, file: &Path) -> io::Result<()>;
    /// Removes a directory with all its contents. Symlinks inside are removed, not followed.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// What stands under a name; symlinks are not followed.
    fn metadata(&self, path: &Path) -> io::Result<Meta>;
    /// In what units files take room on the disk, in bytes.
    fn unit(&self) -> u64 {
        1
    }
    /// The bytes that a file takes on the disk, in whole units: less than its length if it has holes.
    fn allocated(&self, path: &Path) -> io::Result<u64> {
        let meta = self.metadata(path)?;
        Ok(meta.len.checked_next_multiple_of(self.unit()).unwrap_or(u64::MAX))
    }
    /// Names in a directory, in no order, without `.` and `..`.
    fn read_dir(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Bytes that may still be written where `dir` lies. `None` if that is not known.
    #[cfg(feature = "offline")]
    fn free(&self, _dir: &Path) -> Option<u64> {
        None
    }
}

/// An open file of a [`Disk`].
#[allow(
    clippy::missing_errors_doc,
    reason = "each call fails with what the system said"
)]
#[allow(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: Send + Sync {
    /// What was opened.
    fn metadata(&self) -> io::Result<Meta>;
    /// Length in bytes. Meaningless for what is no regular file; a read tells.
    #[cfg_attr(
        not(feature = "cache"),
        allow(dead_code, reason = "the cache asks before each read")
    )]
    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|meta| meta.len)
    }
    /// Reads at `offset`. Behind the end it reads nothing.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads at `offset` what `buf` has room for, behind what is in it.
    fn read_more(&self, buf: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        let filled = buf.len();
        buf.resize(buf.capacity(), 0);
        let read = self.read_at(buf.get_mut(filled..).unwrap_or_default(), offset);
        buf.truncate(filled + read.as_ref().copied().unwrap_or(0));
        read
    }
    /// Writes all of `parts` at the end.
    fn append(&mut self, parts: &[Bytes]) -> io::Result<()>;
    /// Writes some of `bytes` at `offset`; a gap before it reads as zeros.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Writes some of `parts`, which follow each other, at `offset`.
    fn write_parts_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        match parts.iter().find(|part| !part.is_empty()) {
            Some(part) => self.write_at(part, offset),
            None => Ok(0),
        }
    }
    /// Cuts the file, or extends it by a gap.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The bytes of a file with holes, in whole units, and in how many pieces they lie. `None` if that is not known.
    #[cfg(unix)]
    fn pieces(&self) -> Option<(u64, usize)> {
        None
    }
    /// Makes the content durable. After an error the content has to be given up: the kernel takes the pages for written, and
    /// the next sync answers `Ok`.
    fn sync(&self) -> io::Result<()>;
}

/// Opens or makes a file that is written in any order, as [`Disk::open_partial`]. Whatever else stands under its name is
/// removed first: a link, a directory, a fifo; and a file with other names, for those are somebody else's.
pub(crate) fn open_own(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    for _ in 0..2 {
        // Claimed before it is looked at: the file of another resource is not removed under it.
        match disk.open_partial(path) {
            Ok(file) if file.metadata()?.is_own_file() => return Ok(file),
            Ok(_) => {}
            Err(error) => match disk.metadata(path) {
                Ok(meta) if meta.kind != Kind::File => {}
                _ => return Err(error),
            },
        }
        remove_any(disk, path)?;
    }
    Err(io::ErrorKind::InvalidInput.into())
}

/// Removes what stands under a name, whatever it is.
pub(crate) fn remove_any(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.metadata(path)?.kind {
        Kind::Dir => disk.remove_dir_all(path),
        Kind::File | Kind::Other => disk.remove_file(path),
    }
}

/// Pieces of a file whose places are listed without another block.
const LISTED: usize = 4;
/// Pieces that one more block lists at least.
const LISTED_BY_BLOCK: usize = 170;

/// What the file system's own list of the pieces of a file takes. ext4 has room for four beside the file's other figures, and then
/// takes blocks for 340 each, which may be half full.
pub(crate) fn list_bytes(pieces: usize, unit: u64) -> u64 {
    // In a file system of single bytes, which only tests have, lists take nothing.
    if pieces <= LISTED || unit == 1 {
        return 0;
    }
    (pieces.div_ceil(LISTED_BY_BLOCK) as u64).saturating_mul(unit)
}

/// In what units the usual file systems give room to files, in bytes.
pub(crate) const UNIT: u64 = 4096;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl OsDisk {
    /// The disk of all stores, unless a test brings its own.
    pub(crate) fn shared() -> Arc<dyn Disk> {
        Arc::new(LenientDisk::new(Arc::new(Self)))
    }
}

impl Disk for OsDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt as _;
            // With its mode from the start. A `chmod` afterwards would leave a moment in which others can open it.
            std::fs::DirBuilder::new().mode(0o700).create(dir)
        }
        #[cfg(not(unix))]
        fs::create_dir(dir)
    }

    fn create_new(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        // `create_new` follows no symlink and opens no file that stands there: two writers that drew one name would
        // otherwise write into each other's file.
        options.write(true).read(true).create_new(true);
        #[cfg(unix)]
        {
            use fs::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        Ok(Box::new(options.open(file)?))
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use fs::os::unix::fs::OpenOptionsExt as _;
            // A symlink in an entry's place would give out a file of somebody else. A fifo would block the open until
            // something writes to it; regular files do not heed the flag.
            options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        }
        Ok(Box::new(options.open(file)?))
    }

    fn open_partial(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = std::fs::OpenOptions::new();
        // Not truncated: what an earlier session left is resumed.
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        }
        let opened = options.open(file)?;
        // The lock belongs to the open file: it ends when the file is closed, also by a killed process, so that none is ever
        // left behind. A lock file would be. On a file system without locks the caller's own claims, or the lock of the whole
        // cache, have to do.
        if file_lock::try_lock(&opened, false)? == Attempt::Taken {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(fs::File::from_parts(opened, file)))
    }

    fn replace(&self, staged: &Path, target: &Path, durability: Durability) -> io::Result<()> {
        match durability {
            // Renames, and then syncs the directories of both names.
            Durability::Full => atomicwrites::replace_atomic(staged, target),
            Durability::Ordered => fs::rename(staged, target),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    // A directory's sync makes its names durable, those of its files and not their content: both are needed, each by its
    // own call.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Windows cannot open a directory as a file, and syncs its metadata by itself.
        if cfg!(windows) {
            Ok(())
        } else {
            fs::File::open(dir)?.sync_all()
        }
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        Ok(meta(&fs::symlink_metadata(path)?))
    }

    // Asked of the system it would be a call for each root, and network file systems answer what suits their transfers.
    fn unit(&self) -> u64 {
        UNIT
    }

    #[cfg(unix)]
    fn allocated(&self, path: &Path) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::symlink_metadata(path)?;
        let whole = meta.len().checked_next_multiple_of(UNIT).unwrap_or(u64::MAX);
        let blocks = meta.blocks().saturating_mul(512);
        // The file system may have set blocks aside that the file has not grown into.
        if blocks >= whole || !meta.is_file() {
            return Ok(whole.min(blocks));
        }
        // With holes. The list of the pieces is made when they are written back, which may be later: it is counted by the
        // pieces, and not by what is on the disk now.
        let pieces = self.open(path)?.pieces();
        Ok(blocks.max(pieces.map_or(0, |(bytes, number)| bytes + list_bytes(number, UNIT))))
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    #[cfg(all(feature = "offline", unix))]
    fn free(&self, dir: &Path) -> Option<u64> {
        let found = rustix::fs::statvfs(dir).ok()?;
        // What this user may write: some blocks are kept for the system's own.
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

fn meta(from: &std::fs::Metadata) -> Meta {
    let kind = match from.file_type() {
        file if file.is_file() => Kind::File,
        dir if dir.is_dir() => Kind::Dir,
        _ => Kind::Other,
    };
    Meta {
        kind,
        len: from.len(),
        modified: from.modified().ok(),
        #[cfg(unix)]
        links: std::os::unix::fs::MetadataExt::nlink(from),
        #[cfg(not(unix))]
        links: 1,
    }
}

impl DiskFile for fs::File {
    fn metadata(&self) -> io::Result<Meta> {
        Ok(meta(&fs::File::metadata(self)?))
    }

    fn len(&self) -> io::Result<u64> {
        // Costs a third of a `stat`. The cursor that it moves is nobody's: all reads and writes are positioned, but for
        // `append`, which writes to new files only.
        let mut file = self.file();
        file.seek(io::SeekFrom::End(0))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        {
            fs::os::unix::fs::FileExt::read_at(self, buf, offset)
        }
        #[cfg(windows)]
        {
            fs::os::windows::fs::FileExt::seek_read(self, buf, offset)
        }
    }

    #[cfg(unix)]
    fn read_more(&self, buf: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        // Into memory that was not filled with zeros before: that would take as long as the read.
        let room = rustix::buffer::spare_capacity(buf);
        Ok(rustix::io::pread(self.file(), room, offset)?)
    }

    fn append(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        // Leaves out empty parts at the front: a write of nothing answers 0, which counts as a failure below.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        // Positioned, like the reads: several threads use one file, and none may move another's cursor. On Windows the call
        // moves it, which disturbs nobody, as nobody relies on it.
        #[cfg(unix)]
        {
            use std::os::unix::fs::FileExt as _;
            self.file().write_at(bytes, offset)
        }
        #[cfg(windows)]
        {
            use std::os::windows::fs::FileExt as _;
            self.file().seek_write(bytes, offset)
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn write_parts_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self.file(), parts, offset)?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn pieces(&self) -> Option<(u64, usize)> {
        use rustix::fs::{SeekFrom, seek};
        let (mut bytes, mut number, mut at) = (0, 0, 0);
        loop {
            let Ok(start) = seek(self.file(), SeekFrom::Data(at)) else {
                // No data behind `at`; or the file system knows no holes, and then there is not even a first piece.
                return (number > 0).then_some((bytes, number));
            };
            let end = seek(self.file(), SeekFrom::Hole(start)).ok()?;
            bytes += end.next_multiple_of(UNIT).saturating_sub(start - start % UNIT);
            number += 1;
            at = end;
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Reads up to `len` bytes from `offset`: fewer if the file ends before.
///
/// The memory is reserved before the read, and a length for which there is none is an error, not an abort.
///
/// # Errors
///
/// What the system said; [`io::ErrorKind::OutOfMemory`] if there is no memory for `len` bytes.
pub fn read_range(file: &dyn DiskFile, offset: u64, len: u64) -> io::Result<Bytes> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut buf = Vec::new();
    buf.try_reserve_exact(len)
        .map_err(|_| io::ErrorKind::OutOfMemory)?;
    // A read may be short, by a signal or by a file system's limit. Only 0 is the end.
    while buf.len() < len {
        let at = offset + buf.len() as u64;
        match file.read_more(&mut buf, at) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // The allocator may have given more room than was asked for, and the reads filled it.
    buf.truncate(len);
    Ok(buf.into())
}

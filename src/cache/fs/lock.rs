//! The lock of a root: one cache at a time.
//!
//! ```text
//!  take    open lock, or create it ─▶ flock ─▶ is it still the file of that name? ─ no ─▶ again
//!            │ EROFS, EACCES             │ ENOLCK, ENOTSUP
//!            ▼                           ▼
//!          Reading: shared with        Unlocked: this process alone
//!          others that only read         keeps count of its roots
//!
//!  write   is it still the file of that name? ─ gone ─▶ create it anew, lock it
//!                                             └ another ─▶ Locked, from here on
//! ```
//!
//! A cache closes in the background after its last handle is dropped. A thread of the same process that opens the root
//! again waits for that. Without the wait, dropping a cache and opening it again would fail now and then.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use fs_err as fs;

use crate::cache::error::{CacheError, LockedSnafu, ReadOnlySnafu, Trying as _};
use crate::storage::file_lock::{self, Attempt};

/// Roots whose last handle is gone and whose maintenance thread is about to free the lock.
static CLOSING: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
static CLOSED: Condvar = Condvar::new();
/// Roots that this process has open on file systems without locks.
static UNLOCKED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// Tries to lock a file, alone or shared.
type TryLock = fn(&std::fs::File, bool) -> io::Result<Attempt>;

/// How often a lock file that is replaced while it is being locked is opened again.
const TRIES: usize = 16;

/// What a lock protects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache) enum Hold {
    /// No other cache has the root open.
    Exclusive,
    /// The file system has no locks. No other cache of this process has the root open.
    Unlocked,
    /// The root can only be read. Others may read it too.
    Reading,
}

/// An open lock file.
#[derive(Debug)]
pub(super) struct LockFile {
    open: fs::File,
    /// Device and inode. They stay the file's own while it is open: they are asked for once, and not for each write.
    #[cfg(unix)]
    id: (u64, u64),
}

/// The lock of a root. The operating system frees it when the process ends, in whatever way.
#[derive(Debug)]
pub(in crate::cache) struct RootLock {
    root: PathBuf,
    hold: Hold,
    /// `None` once it is released, or where there is no lock to hold.
    file: Mutex<Option<LockFile>>,
    /// The lock file was not there when the root was opened.
    is_new: bool,
    /// Another cache has the root open although this one never closed it.
    lost: AtomicBool,
    /// In [`UNLOCKED`].
    unlocked: Option<PathBuf>,
}

impl RootLock {
    /// Takes the lock. Waits for a cache of this process that is closing, and for no other.
    pub(in crate::cache) fn take(root: &Path) -> Result<Self, CacheError> {
        Self::take_by(root, file_lock::try_lock)
    }

    fn take_by(root: &Path, try_lock: TryLock) -> Result<Self, CacheError> {
        // By its real path, since the same root may be opened under two names.
        let canonical = fs::canonicalize(root).trying("find", root)?;
        let mut closing = closing();
        while closing.as_ref().is_some_and(|roots| roots.contains(&canonical)) {
            closing = CLOSED.wait(closing).unwrap_or_else(PoisonError::into_inner);
        }
        drop(closing);
        let path = path_of(root);
        // A lock file that is deleted between the open and the lock is a lock that no other process meets.
        for _ in 0..TRIES {
            let (file, is_new) = match open(&path) {
                Ok(opened) => opened,
                Err(error) if is_read_only(&error) => {
                    let file = open_to_read(&path);
                    let attempt = file.as_ref().map(|held| try_lock(held.open.file(), true));
                    return match attempt.transpose().trying("lock", &path)? {
                        Some(Attempt::Taken) => LockedSnafu { root }.fail(),
                        None | Some(Attempt::Held | Attempt::Unsupported) => Ok(Self::reading(root, file)),
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error).trying("open", &path),
            };
            let (hold, unlocked) = match try_lock(file.open.file(), false).trying("lock", &path)? {
                Attempt::Held if file.is_at(&path).trying("look at", &path)? == Some(true) => {
                    (Hold::Exclusive, None)
                }
                Attempt::Held => continue,
                Attempt::Taken => break,
                Attempt::Unsupported => {
                    log::warn!(
                        "the file system of {} has no locks: a second process could open it too",
                        root.display()
                    );
                    if !unlocked().get_or_insert_default().insert(canonical.clone()) {
                        break;
                    }
                    (Hold::Unlocked, Some(canonical))
                }
            };
            return Ok(Self {
                root: root.to_owned(),
                hold,
                file: Mutex::new(Some(file)),
                is_new,
                lost: AtomicBool::new(false),
                unlocked,
            });
        }
        LockedSnafu { root }.fail()
    }

    /// The lock of a root that can only be read.
    pub(super) fn reading(root: &Path, file: Option<LockFile>) -> Self {
        Self {
            root: root.to_owned(),
            hold: Hold::Reading,
            file: Mutex::new(file),
            is_new: false,
            lost: AtomicBool::new(false),
            unlocked: None,
        }
    }

    pub(in crate::cache) fn hold(&self) -> Hold {
        self.hold
    }

    /// Whether this session made the lock file. In a root that is not new it may have been deleted under a cache that is
    /// still open.
    pub(in crate::cache) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Refuses what would change the root unless this cache is the one that may.
    ///
    /// Somebody may have deleted the lock file meanwhile. If nobody else has opened the root since, the file is made anew.
    /// Otherwise this cache has lost the root for good: the other's accounts know nothing of what it would write.
    ///
    /// # Errors
    ///
    /// [`CacheError::ReadOnly`], [`CacheError::Locked`], [`CacheError::Io`].
    pub(in crate::cache) fn may_write(&self) -> Result<(), CacheError> {
        let root = &self.root;
        if self.hold == Hold::Reading {
            return ReadOnlySnafu { root }.fail();
        }
        let mut file = self.file();
        let Some(held) = file.as_ref().filter(|_| !self.lost.load(Ordering::Relaxed)) else {
            return LockedSnafu { root }.fail();
        };
        let path = path_of(root);
        let still = held.is_at(&path).trying("look at", &path)?;
        if still == Some(true) || self.hold == Hold::Unlocked {
            return Ok(());
        }
        log::warn!(
            "the lock file of {} was removed while the cache is open",
            root.display()
        );
        // Created and not opened: a file that stands there by now is another cache's, or was.
        if still.is_none()
            && let Ok(anew) = create(&path)
            && matches!(file_lock::try_lock(anew.open.file(), false), Ok(Attempt::Held))
        {
            *file = Some(anew);
            return Ok(());
        }
        self.lost.store(true, Ordering::Relaxed);
        LockedSnafu { root }.fail()
    }

    /// Frees the lock. Nothing may be written from here on.
    pub(super) fn release(&self) {
        if let Some(held) = self.file().take() {
            // Closing the file is not enough: a child process that the app is starting has the file open too, from its fork to
            // its exec.
            file_lock::unlock(held.open.file());
        }
        if let (Some(root), Some(roots)) = (&self.unlocked, unlocked().as_mut()) {
            roots.remove(root);
        }
    }

    fn file(&self) -> MutexGuard<'_, Option<LockFile>> {
        // The file is there or not, whatever panics.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RootLock {
    fn drop(&mut self) {
        self.release();
    }
}

fn path_of(root: &Path) -> PathBuf {
    root.join("lock")
}

/// Opens the lock file, or creates it. Returns it and whether it is new.
fn open(path: &Path) -> io::Result<(LockFile, bool)> {
    // Anything else in its place is no lock: a link would have a file elsewhere locked, and a fifo or a directory would keep
    // the cache closed for ever (fault W52). A directory with something in it is not removed: that is an error.
    if let Some(found) = look_at(path)?
        && !found.is_file()
    {
        log::warn!("something else stood in the place of {}", path.display());
        if found.is_dir() {
            fs::remove_dir(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    match options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((create(path)?, true)),
        opened => Ok((LockFile::new(opened?)?, false)),
    }
}

fn create(path: &Path) -> io::Result<LockFile> {
    LockFile::new(options().read(true).write(true).create_new(true).open(path)?)
}

fn open_to_read(path: &Path) -> Option<LockFile> {
    let file = options().read(true).open(path).ok()?;
    let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
    LockFile::new(file).ok().filter(|_| is_file)
}

fn options() -> fs::OpenOptions {
    let options = fs::OpenOptions::new();
    #[cfg(unix)]
    {
        use fs::os::unix::fs::OpenOptionsExt as _;
        let mut options = options;
        options
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        options
    }
    #[cfg(not(unix))]
    options
}

fn look_at(path: &Path) -> io::Result<Option<std::fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

impl LockFile {
    fn new(file: fs::File) -> io::Result<Self> {
        #[cfg(unix)]
        let id = id(&file.metadata()?);
        Ok(Self {
            open: file,
            #[cfg(unix)]
            id,
        })
    }

    /// Whether this is the file that stands at `path`; `None` if nothing does.
    fn is_at(&self, path: &Path) -> io::Result<Option<bool>> {
        let found = look_at(path)?;
        #[cfg(unix)]
        let is_it = found.map(|found| id(&found) == self.id);
        // An open file cannot be replaced there.
        #[cfg(not(unix))]
        let is_it = found.map(|_| true);
        Ok(is_it)
    }
}

#[cfg(unix)]
fn id(meta: &std::fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (meta.dev(), meta.ino())
}

/// Whether the error says that nothing can be written here, and not that this write failed.
fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

fn unlocked() -> MutexGuard<'static, Option<HashSet<PathBuf>>> {
    // A set is whole after every call made on it.
    UNLOCKED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closing() -> MutexGuard<'static, Option<HashSet<PathBuf>>> {
    // As above.
    CLOSING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this lives, a thread of this process that opens the root waits instead of being refused.
#[derive(Debug)]
pub(in crate::cache) struct Closing {
    root: PathBuf,
}

impl Closing {
    /// Marks `root`, as it was given to open it, as closing.
    pub(in crate::cache) fn new(root: &Path) -> Self {
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        closing().get_or_insert_default().insert(root.clone());
        Self { root }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(roots) = closing().as_mut() {
            roots.remove(&self.root);
        }
        CLOSED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file system without locks answers.
    const REFUSED: TryLock = |_, _| Ok(Attempt::Unsupported);

    /// C9: a child between fork and exec has every file of its parent open.
    #[test]
    fn a_lock_that_a_child_has_inherited_ends_with_its_holder() {
        let root = tempfile::tempdir().unwrap();
        let lock = RootLock::take(root.path()).unwrap();
        let _inherited = lock.file().as_ref().unwrap().open.try_clone().unwrap();
        assert!(RootLock::take(root.path()).unwrap_err().is_locked());
        drop(lock);
        RootLock::take(root.path()).unwrap();
    }

    /// W25, C31, C9: without locks the root opens, and no second time in this process.
    #[test]
    fn w25_a_root_without_locks_opens_once_in_a_process() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let lock = RootLock::take_by(root.path(), REFUSED).unwrap();
        assert_eq!(lock.hold(), Hold::Unlocked);
        lock.may_write().unwrap();
        // Another file of that name says nothing: none of them was ever locked.
        fs::remove_file(path_of(root.path())).unwrap();
        fs::write(path_of(root.path()), "").unwrap();
        lock.may_write().unwrap();
        assert!(RootLock::take_by(root.path(), REFUSED).unwrap_err().is_locked());
        RootLock::take_by(other.path(), REFUSED).unwrap();
        drop(lock);
        RootLock::take_by(root.path(), REFUSED).unwrap();
    }

    /// W25: an error of the lock itself is no want of locks.
    #[test]
    fn w25_a_lock_that_fails_opens_nothing() {
        let root = tempfile::tempdir().unwrap();
        let failed = |_: &std::fs::File, _: bool| Err(io::Error::other("no"));
        let error = RootLock::take_by(root.path(), failed).unwrap_err();
        assert!(
            matches!(error, CacheError::Io { action: "lock", .. }),
            "{error:?}"
        );
    }

    /// W50, C9: a lock file that is deleted between the open and the lock is no lock: the next one is taken.
    #[cfg(unix)]
    #[test]
    fn w50_a_lock_file_that_is_deleted_while_it_is_taken_is_not_held() {
        static DELETED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
        let delete_first: TryLock = |file, shared| {
            if let Some(path) = DELETED.lock().unwrap().pop() {
                fs::remove_file(path)?;
            }
            file_lock::try_lock(file, shared)
        };
        let root = tempfile::tempdir().unwrap();
        let path = path_of(root.path());
        DELETED.lock().unwrap().push(path.clone());
        let lock = RootLock::take_by(root.path(), delete_first).unwrap();
        assert!(RootLock::take(root.path()).unwrap_err().is_locked());
        drop(lock);
        // Each time: no root is opened without a lock.
        DELETED.lock().unwrap().extend(vec![path; TRIES]);
        let refused = RootLock::take_by(root.path(), delete_first);
        assert!(refused.unwrap_err().is_locked());
    }

    /// W50, C9: deleted and opened by nobody else, the lock is made anew.
    #[cfg(unix)]
    #[test]
    fn w50_a_lock_file_that_is_deleted_is_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let lock = RootLock::take(root.path()).unwrap();
        assert!(lock.is_new());
        fs::remove_file(path_of(root.path())).unwrap();
        lock.may_write().unwrap();
        assert!(RootLock::take(root.path()).unwrap_err().is_locked());
        drop(lock);
        assert!(!RootLock::take(root.path()).unwrap().is_new());
    }

    /// W50, C9: another cache came in between. The first one writes no more, also after the other has closed.
    #[cfg(unix)]
    #[test]
    fn w50_a_root_that_another_cache_has_opened_is_lost() {
        let root = tempfile::tempdir().unwrap();
        let first = RootLock::take(root.path()).unwrap();
        fs::remove_file(path_of(root.path())).unwrap();
        let second = RootLock::take(root.path()).unwrap();
        assert!(second.is_new());
        assert!(first.may_write().unwrap_err().is_locked());
        second.may_write().unwrap();
        drop(second);
        fs::remove_file(path_of(root.path())).unwrap();
        assert!(first.may_write().unwrap_err().is_locked());
    }

    /// W52: what stands in the lock's place is neither followed nor waited for, and is replaced.
    #[cfg(unix)]
    #[test]
    fn w52_what_stands_in_the_place_of_the_lock_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (dir.path().join("root"), dir.path().join("elsewhere"));
        fs::create_dir(&root).unwrap();
        fs::write(&elsewhere, "another's").unwrap();
        let path = path_of(&root);
        let place: [&dyn Fn(); 5] = [
            &|| std::os::unix::fs::symlink(&elsewhere, &path).unwrap(),
            &|| std::os::unix::fs::symlink("nowhere", &path).unwrap(),
            &|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            &|| fs::create_dir(&path).unwrap(),
            &|| {
                let made = std::process::Command::new("mkfifo").arg(&path).status();
                assert!(made.unwrap().success());
            },
        ];
        for place in place {
            place();
            let lock = RootLock::take(&root).unwrap();
            assert_eq!(lock.hold(), Hold::Exclusive);
            assert!(fs::symlink_metadata(&path).unwrap().is_file());
            assert!(RootLock::take(&root).unwrap_err().is_locked());
            drop(lock);
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read(&elsewhere).unwrap(), b"another's");
        // Something is in it: not the cache's to remove.
        fs::create_dir_all(path.join("a")).unwrap();
        let error = RootLock::take(&root).unwrap_err();
        assert!(matches!(error, CacheError::Io { .. }), "{error:?}");
        assert!(path.join("a").exists());
    }
}

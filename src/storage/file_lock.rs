//! The operating system's lock of an open file, which ends with the file or its process.

use std::fs::File;
use std::io;

/// What became of an attempt to lock a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The lock is held, until the file is closed or unlocked.
    Held,
    /// Another open file has it, of this process or another one.
    Taken,
    /// The file system has no locks.
    Unsupported,
}

/// Tries to lock `file`, without waiting: for this open file alone, or `shared` with others that only read.
///
/// # Errors
///
/// What the system said.
pub(crate) fn try_lock(file: &File, shared: bool) -> io::Result<Attempt> {
    let locked = loop {
        match lock(file, shared) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            locked => break locked,
        }
    };
    match locked {
        Ok(()) => Ok(Attempt::Held),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Attempt::Taken),
        Err(error) if is_unsupported(&error) => Ok(Attempt::Unsupported),
        Err(error) => Err(error),
    }
}

// By `flock` itself and not by the standard library, whose lock is a stub on Android.
#[cfg(unix)]
fn lock(file: &File, shared: bool) -> io::Result<()> {
    use rustix::fs::{FlockOperation, flock};
    let operation = if shared {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    Ok(flock(file, operation)?)
}

#[cfg(not(unix))]
fn lock(file: &File, shared: bool) -> io::Result<()> {
    let locked = if shared {
        file.try_lock_shared()
    } else {
        file.try_lock()
    };
    locked.map_err(io::Error::from)
}

/// Unlocks `file`. Closing it does so too, but only when no copy of its descriptor is left.
#[cfg(feature = "cache")]
pub(crate) fn unlock(file: &File) {
    // If it fails, closing still does it.
    #[cfg(unix)]
    let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::Unlock);
    #[cfg(not(unix))]
    let _ = file.unlock();
}

/// Whether the file system has no locks: NFS without its lock daemon, some FUSE and network file systems.
fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    if let Some(number) = error.raw_os_error() {
        return [
            libc::ENOTSUP,
            libc::EOPNOTSUPP,
            libc::ENOSYS,
            libc::ENOLCK,
            libc::EINVAL,
        ]
        .contains(&number);
    }
    error.kind() == io::ErrorKind::Unsupported
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C9: shared locks stand beside each other, an exclusive one beside none; each ends with its file.
    #[test]
    fn a_lock_is_refused_beside_another_and_ends_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(dir.path().join("f"))
                .unwrap()
        };
        let (first, second, third) = (open(), open(), open());
        assert_eq!(try_lock(&first, true).unwrap(), Attempt::Held);
        assert_eq!(try_lock(&second, true).unwrap(), Attempt::Held);
        assert_eq!(try_lock(&third, false).unwrap(), Attempt::Taken);
        drop((first, second));
        assert_eq!(try_lock(&third, false).unwrap(), Attempt::Held);
        assert_eq!(try_lock(&open(), true).unwrap(), Attempt::Taken);
    }

    /// W25, C31.
    #[cfg(unix)]
    #[test]
    fn w25_what_file_systems_without_locks_answer_is_known() {
        for number in [libc::ENOLCK, libc::ENOSYS, libc::ENOTSUP, libc::EOPNOTSUPP] {
            assert!(is_unsupported(&io::Error::from_raw_os_error(number)), "{number}");
        }
        for number in [libc::EIO, libc::EBADF, libc::EACCES, libc::EINTR] {
            assert!(!is_unsupported(&io::Error::from_raw_os_error(number)), "{number}");
        }
    }
}

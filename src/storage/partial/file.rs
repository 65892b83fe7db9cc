//! The file under a streaming resource: positioned reads and writes whose errors name it.

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use snafu::ResultExt;

use super::error::{CutSnafu, DamagedSnafu, IoSnafu, StreamingError};
use super::verify::{ReadFault, Verifier};
use crate::storage::durable::{Disk, DiskFile, Kind, Meta, open_own};

/// An open file with the name under which it was opened. A rename does not end the reads.
pub(super) struct NamedFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    verifier: Option<Verifier>,
}

impl NamedFile {
    pub(super) fn new(file: Box<dyn DiskFile>, path: PathBuf) -> Self {
        Self {
            file,
            path,
            verifier: None,
        }
    }

    /// Has what an earlier session wrote verified before it is given out.
    pub(super) fn verified_by(mut self, verifier: Option<Verifier>) -> Self {
        self.verifier = verifier;
        self
    }

    /// No file at all.
    pub(super) fn none(name: PathBuf) -> Self {
        Self::new(Box::new(NoFile), name)
    }

    pub(super) fn len(&self) -> Result<u64, StreamingError> {
        self.named("measure", self.file.metadata())
            .map(|metadata| metadata.len)
    }

    pub(super) fn expect_len(&self, found: u64, expected: u64) -> Result<(), StreamingError> {
        if found < expected {
            return CutSnafu {
                path: &self.path,
                offset: found,
            }
            .fail();
        }
        Ok(())
    }

    pub(super) fn set_len(&self, len: u64) -> Result<(), StreamingError> {
        self.named("cut", self.file.set_len(len))
    }

    pub(super) fn sync(&self) -> Result<(), StreamingError> {
        self.named("sync", self.file.sync())
    }

    /// Fills some of `buffer` from bytes known to be present, at least one byte: none would be a false end.
    /// `seen_after_loss`: they were seen present after they had been lost.
    pub(super) fn read_at(
        &self,
        offset: u64,
        buffer: &mut [u8],
        seen_after_loss: bool,
    ) -> Result<usize, ReadFault> {
        match &self.verifier {
            Some(verifier) => verifier.read(self, offset, buffer, seen_after_loss),
            None => Ok(self.read_some(offset, buffer)?),
        }
    }

    /// Gives up the bytes that are verified together with the one at `start`. `false` if that was done before.
    pub(super) fn lose(&self, start: u64) -> bool {
        let verifier = self.verifier.as_ref();
        verifier.is_some_and(|verifier| verifier.lose(start))
    }

    /// The bytes that are verified together with the one at `offset`.
    pub(super) fn checked_range(&self, offset: u64) -> Option<Range<u64>> {
        self.verifier.as_ref()?.range(offset)
    }

    /// Whether `bytes` have the checksum of the range that starts at `start`.
    pub(super) fn matches_checksum(&self, start: u64, bytes: &[u8]) -> bool {
        let verifier = self.verifier.as_ref();
        verifier.is_some_and(|verifier| verifier.matches_checksum(start, bytes))
    }

    pub(super) fn damaged(&self, range: Range<u64>) -> StreamingError {
        DamagedSnafu {
            path: &self.path,
            range,
        }
        .build()
    }

    pub(super) fn read_exact(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), StreamingError> {
        while !buffer.is_empty() {
            let read = self.read_some(offset, buffer)?;
            offset += read as u64;
            buffer = buffer.get_mut(read..).unwrap_or_default();
        }
        Ok(())
    }

    /// As [`read_at`](Self::read_at), unverified.
    pub(super) fn read_some(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StreamingError> {
        loop {
            match self.file.read_at(buffer, offset) {
                // The bytes are known to be present, so the file was cut by another program. Passed on, the 0 would be a
                // false end.
                Ok(0) if !buffer.is_empty() => {
                    return CutSnafu {
                        path: &self.path,
                        offset,
                    }
                    .fail();
                }
                // A signal came, nothing failed.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return self.named("read", other),
            }
        }
    }

    /// Writes some of `bytes`, at least one.
    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize, StreamingError> {
        self.write_parts_at(offset, &[IoSlice::new(bytes)])
    }

    /// Writes some of `parts`, which follow each other, at least one byte.
    pub(super) fn write_parts_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<usize, StreamingError> {
        loop {
            match self.file.write_parts_at(parts, offset) {
                // Neither progress nor an error: the caller's loop would never end.
                Ok(0) if parts.iter().any(|part| !part.is_empty()) => {
                    return self.named("write", Err(io::ErrorKind::WriteZero.into()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return self.named("write", other),
            }
        }
    }

    pub(super) fn write_all_at(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(), StreamingError> {
        while !bytes.is_empty() {
            let written = self.write_at(offset, bytes)?;
            offset += written as u64;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn named<T>(&self, action: &'static str, result: io::Result<T>) -> Result<T, StreamingError> {
        result.context(IoSnafu {
            action,
            path: &self.path,
        })
    }
}

impl fmt::Debug for NamedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamedFile").field(&self.path).finish()
    }
}

/// A partial file that its first write creates; empty until then.
///
/// To create a file, and perhaps its directory, takes longer than a server nearby takes to answer. So a reader need not wait
/// for it.
pub(super) struct LazyFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: OnceLock<Box<dyn DiskFile>>,
    creating: Mutex<()>,
}

impl LazyFile {
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self {
            disk,
            path,
            file: OnceLock::new(),
            creating: Mutex::new(()),
        }
    }

    fn created(&self) -> io::Result<&dyn DiskFile> {
        if self.file.get().is_none() {
            // The lock guards no data: one thread creates the file while the others wait. An open file is claimed, so that the
            // second of two threads that both opened it would be refused.
            let _creating = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
            // Asked again under the lock: another thread may have created it while this one waited.
            if self.file.get().is_none() {
                let file = open_own(&*self.disk, &self.path)?;
                // A file that came to stand here meanwhile has no record: what its bytes are is unknown.
                if file.metadata()?.len > 0 {
                    file.set_len(0)?;
                }
                let _ = self.file.set(file);
            }
        }
        let created = self.file.get().ok_or(io::ErrorKind::NotFound)?;
        Ok(&**created)
    }
}

impl DiskFile for LazyFile {
    fn metadata(&self) -> io::Result<Meta> {
        match self.file.get() {
            Some(file) => file.metadata(),
            // What it will be when it is created.
            None => Ok(Meta {
                kind: Kind::File,
                len: 0,
                modified: None,
                links: 1,
            }),
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.get().map_or(Ok(0), |file| file.read_at(buf, offset))
    }

    fn append(&mut self, _: &[Bytes]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.created()?.write_at(bytes, offset)
    }

    fn write_parts_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.created()?.write_parts_at(parts, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.file.get() {
            // A cut to nothing is no reason to create it.
            None if len == 0 => Ok(()),
            _ => self.created()?.set_len(len),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.get().map_or(Ok(()), |file| file.sync())
    }
}

/// Refuses everything.
struct NoFile;

impl DiskFile for NoFile {
    fn metadata(&self) -> io::Result<Meta> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn append(&mut self, _: &[Bytes]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

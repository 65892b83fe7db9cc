//! The file under a streaming resource: positioned reads and writes whose errors name it.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::PathBuf;

use bytes::Bytes;
use snafu::ResultExt;

use super::error::{CutSnafu, IoSnafu, StreamingError};
use crate::storage::durable::{DiskFile, Meta};

/// An open file with the name it was opened under; a rename does not end the reads.
pub(super) struct Sparse {
    file: Box<dyn DiskFile>,
    path: PathBuf,
}

impl Sparse {
    pub(super) fn new(file: Box<dyn DiskFile>, path: PathBuf) -> Self {
        Self { file, path }
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

    /// Fills some of `buffer`, at least one byte, from bytes known to be there: none would be a false end.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StreamingError> {
        loop {
            match self.file.read_at(buffer, offset) {
                Ok(0) if !buffer.is_empty() => {
                    return CutSnafu {
                        path: &self.path,
                        offset,
                    }
                    .fail();
                }
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

impl fmt::Debug for Sparse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sparse").field(&self.path).finish()
    }
}

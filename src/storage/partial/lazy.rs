//! A file that is made when something is written to it.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use crate::storage::durable::{Disk, DiskFile, Kind, Meta};

/// Empty until the first write makes it: to make a file, and perhaps its directory, takes longer than a server nearby
/// takes to answer.
pub(super) struct LazyFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: OnceLock<Box<dyn DiskFile>>,
    making: Mutex<()>,
}

impl LazyFile {
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self {
            disk,
            path,
            file: OnceLock::new(),
            making: Mutex::new(()),
        }
    }

    fn created(&self) -> io::Result<&dyn DiskFile> {
        if self.file.get().is_none() {
            // Nothing is kept under this lock but the turn.
            let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            if self.file.get().is_none() {
                let file = self.disk.open_partial(&self.path)?;
                if file.metadata()?.len > 0 {
                    file.set_len(0)?;
                }
                let _ = self.file.set(file);
            }
        }
        let made = self.file.get().ok_or(io::ErrorKind::NotFound)?;
        Ok(&**made)
    }
}

impl DiskFile for LazyFile {
    fn metadata(&self) -> io::Result<Meta> {
        match self.file.get() {
            Some(file) => file.metadata(),
            None => Ok(Meta {
                kind: Kind::File,
                len: 0,
                modified: None,
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

    fn write_parts_at(&self, parts: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.created()?.write_parts_at(parts, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.file.get() {
            None if len == 0 => Ok(()),
            _ => self.created()?.set_len(len),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.get().map_or(Ok(()), |file| file.sync())
    }
}

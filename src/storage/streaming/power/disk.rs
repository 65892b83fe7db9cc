//! A disk with live and durable bytes, and a day on which it is switched off.
//!
//! It is harsher than a journal: of the writes to a file since its last sync, and of the changes of names since the
//! directory's, any subset may have reached the platter.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::storage::durable::{Disk, DiskFile, Durability, Kind, Meta};

#[derive(Default, Clone)]
pub(super) struct Inode {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => to.resize(*len, 0),
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                to.resize(to.len().max(end), 0);
                to[*at..end].copy_from_slice(bytes);
            }
        }
    }
}

/// Each is about one inode, whatever else bore or bears its name.
#[derive(Clone)]
pub(super) enum Naming {
    Link(PathBuf, usize),
    Unlink(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
}

impl Naming {
    fn forget(to: &mut BTreeMap<PathBuf, usize>, name: &Path, inode: usize) {
        if to.get(name) == Some(&inode) {
            to.remove(name);
        }
    }

    fn apply(&self, to: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(name, inode) => drop(to.insert(name.clone(), *inode)),
            Self::Unlink(name, inode) => Self::forget(to, name, *inode),
            Self::Rename(from, name, inode) => {
                Self::forget(to, from, *inode);
                to.insert(name.clone(), *inode);
            }
        }
    }
}

#[derive(Default, Clone)]
pub(super) struct Platter {
    pub(super) inodes: Vec<Inode>,
    pub(super) names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced: Vec<Naming>,
    /// Calls until the power goes.
    pub(super) calls: Option<u32>,
    pub(super) syncs_fail: bool,
    /// For the test: the last version of the file that began.
    pub(super) versions: u8,
}

impl Platter {
    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced.push(naming);
    }

    /// What the machine finds when it is switched on again. `coins` decide what had reached the platter.
    pub(super) fn after_power_cut(&self, mut coins: u64) -> Self {
        let mut heads = || {
            coins = coins
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            coins >> 63 == 1
        };
        let mut names = self.durable_names.clone();
        for naming in self.unsynced.iter().filter(|_| heads()) {
            naming.apply(&mut names);
        }
        let inodes = self.inodes.iter().map(|inode| {
            let mut kept = inode.durable.clone();
            for change in inode.unsynced.iter().filter(|_| heads()) {
                change.apply(&mut kept);
            }
            Inode {
                live: kept.clone(),
                durable: kept,
                unsynced: Vec::new(),
            }
        });
        Self {
            inodes: inodes.collect(),
            durable_names: names.clone(),
            names,
            versions: self.versions,
            ..Self::default()
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct FakeDisk(Arc<Mutex<Platter>>);

impl From<Platter> for FakeDisk {
    fn from(platter: Platter) -> Self {
        Self(Arc::new(Mutex::new(platter)))
    }
}

impl FakeDisk {
    pub(super) fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    fn call(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let mut platter = self.0.lock().unwrap();
        match &mut platter.calls {
            Some(0) => return Err(io::Error::other("the power is gone")),
            Some(calls) => *calls -= 1,
            None => {}
        }
        Ok(platter)
    }

    fn file(&self, inode: usize) -> Box<dyn DiskFile> {
        Box::new(FakeFile {
            disk: self.clone(),
            inode,
        })
    }
}

impl fmt::Debug for FakeDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeDisk")
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for FakeDisk {
    fn create_new(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        if self.call()?.names.contains_key(file) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.open_partial(file)
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.call()?.names.get(file).ok_or_else(missing)?;
        Ok(self.file(inode))
    }

    fn open_partial(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut platter = self.call()?;
        let inode = platter.names.get(file).copied().unwrap_or_else(|| {
            platter.inodes.push(Inode::default());
            let inode = platter.inodes.len() - 1;
            platter.name(Naming::Link(file.into(), inode));
            inode
        });
        Ok(self.file(inode))
    }

    fn replace(&self, staged: &Path, target: &Path, durability: Durability) -> io::Result<()> {
        let mut platter = self.call()?;
        let inode = *platter.names.get(staged).ok_or_else(missing)?;
        platter.name(Naming::Rename(staged.into(), target.into(), inode));
        drop(platter);
        match durability {
            Durability::Ordered => Ok(()),
            Durability::Full => self.sync_dir(Path::new("")),
        }
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut platter = self.call()?;
        platter.durable_names = platter.names.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        let mut platter = self.call()?;
        let inode = *platter.names.get(file).ok_or_else(missing)?;
        platter.name(Naming::Unlink(file.into(), inode));
        Ok(())
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        self.open(path)?.metadata()
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_dir(&self, _: &Path) -> io::Result<Vec<OsString>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

pub(super) struct FakeFile {
    disk: FakeDisk,
    inode: usize,
}

impl FakeFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut platter = self.disk.call()?;
        let inode = &mut platter.inodes[self.inode];
        change.apply(&mut inode.live);
        inode.unsynced.push(change);
        Ok(())
    }
}

impl DiskFile for FakeFile {
    fn metadata(&self) -> io::Result<Meta> {
        let len = self.disk.call()?.inodes[self.inode].live.len() as u64;
        Ok(Meta {
            kind: Kind::File,
            len,
            modified: None,
        })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let platter = self.disk.call()?;
        let from = usize::try_from(offset).unwrap();
        let there = platter.inodes[self.inode].live.get(from..).unwrap_or_default();
        let count = there.len().min(buf.len());
        buf[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn append(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let at = usize::try_from(self.metadata()?.len).unwrap();
        self.change(Change::Write(at, parts.concat()))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.change(Change::Write(usize::try_from(offset).unwrap(), bytes.to_vec()))?;
        Ok(bytes.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(usize::try_from(len).unwrap()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut platter = self.disk.call()?;
        let failing = platter.syncs_fail;
        let inode = &mut platter.inodes[self.inode];
        // A failed sync marks the pages clean all the same: the next one says Ok of what is lost.
        inode.unsynced.clear();
        if failing {
            return Err(io::Error::other("EIO"));
        }
        inode.durable = inode.live.clone();
        Ok(())
    }
}

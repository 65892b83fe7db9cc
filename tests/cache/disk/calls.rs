//! C11: each file-system call fails once, in each way a disk has.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use kithara::cache::{
    AssetId, CacheError, CachePath, Durability, EvictingStore, FsStore, IndexStore, LeaseStore, Lru,
    Store as _, Trash, testing,
};
use kithara::storage::testing::{Disk, DiskFile, Meta, OsDisk};

/// A call that changes the disk, or any call at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    Changing,
    All,
}

/// The operating system's disk, one call of which fails.
#[derive(Debug)]
struct Faulty {
    disk: OsDisk,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Faults {
    calls: Calls,
    made: AtomicU64,
    /// Which call fails, how, and whether a rename takes place before it fails.
    fault: Mutex<Option<(u64, io::ErrorKind, bool)>>,
}

impl Faults {
    fn call(&self, changing: bool) -> io::Result<()> {
        match self.due(changing) {
            Some((kind, _)) => Err(kind.into()),
            None => Ok(()),
        }
    }

    fn due(&self, changing: bool) -> Option<(io::ErrorKind, bool)> {
        if !changing && self.calls == Calls::Changing {
            return None;
        }
        let call = self.made.fetch_add(1, Ordering::SeqCst);
        let mut fault = self.fault.lock().unwrap();
        let (at, kind, after) = (*fault)?;
        (call >= at).then(|| {
            *fault = None;
            (kind, after)
        })
    }
}

impl Faulty {
    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FaultyFile {
            file,
            faults: Arc::clone(&self.faults),
        })
    }
}

impl Disk for Faulty {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.call(true)?;
        self.disk.create_dir(dir)
    }

    fn create_new(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.faults.call(true)?;
        Ok(self.file(self.disk.create_new(file)?))
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.faults.call(false)?;
        Ok(self.file(self.disk.open(file)?))
    }

    fn open_partial(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.faults.call(true)?;
        Ok(self.file(self.disk.open_partial(file)?))
    }

    fn replace(&self, staged: &Path, target: &Path, durability: Durability) -> io::Result<()> {
        match self.faults.due(true) {
            Some((kind, true)) => {
                // As when the directory cannot be synced: the new name stands.
                self.disk.replace(staged, target, durability)?;
                Err(kind.into())
            }
            Some((kind, false)) => Err(kind.into()),
            None => self.disk.replace(staged, target, durability),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.call(true)?;
        self.disk.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.call(true)?;
        self.disk.sync_dir(dir)
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        self.faults.call(true)?;
        self.disk.remove_file(file)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.faults.call(true)?;
        self.disk.remove_dir_all(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        self.faults.call(false)?;
        self.disk.metadata(path)
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.faults.call(false)?;
        self.disk.read_dir(dir)
    }
}

struct FaultyFile {
    file: Box<dyn DiskFile>,
    faults: Arc<Faults>,
}

impl DiskFile for FaultyFile {
    fn metadata(&self) -> io::Result<Meta> {
        self.faults.call(false)?;
        self.file.metadata()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.call(false)?;
        self.file.read_at(buf, offset)
    }

    fn append(&mut self, parts: &[Bytes]) -> io::Result<()> {
        if let Err(error) = self.faults.call(true) {
            // Some of it arrived, as when the disk is full.
            let some: Vec<Bytes> = parts.iter().map(|part| part.slice(..part.len() / 2)).collect();
            self.file.append(&some)?;
            return Err(error);
        }
        self.file.append(parts)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.faults.call(true)?;
        self.file.write_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.call(true)?;
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.call(true)?;
        self.file.sync()
    }
}

const LIMIT: u64 = 60_000;

use crate::stack;

type Stack = EvictingStore<LeaseStore<IndexStore<FsStore>>, Lru>;

fn asset(name: &str) -> AssetId {
    AssetId::from_key(name).unwrap()
}

fn x() -> CachePath {
    CachePath::parse("x").unwrap()
}

fn bytes(len: usize, seed: u8) -> Bytes {
    vec![seed; len].into()
}

fn open(root: &Path, disk: Arc<dyn Disk>) -> Result<(Stack, IndexStore<FsStore>), CacheError> {
    let index = IndexStore::open(testing::fs_store(disk, root, Durability::Full)?, true)?;
    Ok((stack(index.clone(), Lru::new(), LIMIT), index))
}

fn du(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.path().symlink_metadata().unwrap();
        sum += if meta.is_dir() {
            du(&entry.path())
        } else {
            meta.len()
        };
    }
    sum
}

fn names(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        names.push(entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            names.extend(self::names(&entry.path()));
        }
    }
    names
}

/// What is there before the fault: as much as fits but 15 000 bytes.
fn prepare(root: &Path) {
    let (store, index) = open(root, Arc::new(OsDisk)).unwrap();
    for (n, name) in ["old", "older", "kept"].into_iter().enumerate() {
        store
            .put(&asset(name), &x(), bytes(13_000, u8::try_from(n).unwrap()))
            .unwrap();
    }
    store.set_pinned(&asset("kept"), true).unwrap();
    testing::seal(&index);
}

/// Everything that changes something, in one session. Each step may fail; the next is tried all the same.
fn session(store: &Stack, index: &IndexStore<FsStore>) -> Vec<CacheError> {
    let mut errors = Vec::new();
    let mut note = |done: Result<(), CacheError>| errors.extend(done.err());
    note(store.put(&asset("new"), &x(), bytes(5000, 10)).map(drop));
    note(store.put(&asset("kept"), &x(), bytes(4000, 11)).map(drop));
    note(
        store
            .stage(&asset("dropped"), &x())
            .and_then(|mut staged| staged.write(&[bytes(3000, 12)])),
    );
    note(store.put(&asset("evicts"), &x(), bytes(20_000, 13)).map(drop));
    note(store.set_pinned(&asset("pinned"), true));
    note(store.set_pinned(&asset("pinned"), false));
    note(store.remove_entry(&asset("new"), &x()).map(drop));
    note(store.put(&asset("removed"), &x(), bytes(10, 14)).map(drop));
    note(
        store
            .remove(&asset("removed"))
            .and_then(|trash| trash.map_or(Ok(()), Trash::empty)),
    );
    note(store.checkpoint());
    testing::seal(index);
    errors
}

fn check(root: &Path, store: &Stack, what: &str) {
    // Whatever is there is one version, whole.
    let versions: &[(&str, &[(usize, u8)])] = &[
        ("old", &[(13_000, 0)]),
        ("older", &[(13_000, 1)]),
        ("kept", &[(13_000, 2), (4000, 11)]),
        ("new", &[(5000, 10)]),
        ("dropped", &[]),
        ("evicts", &[(20_000, 13)]),
        ("removed", &[(10, 14)]),
    ];
    for (name, versions) in versions {
        let found = store
            .open(&asset(name), &x())
            .unwrap()
            .map(|entry| entry.read().unwrap());
        let known = found
            .as_ref()
            .is_none_or(|found| versions.iter().any(|&(len, seed)| *found == bytes(len, seed)));
        assert!(known, "{what}: {name}");
        assert!(found.is_some() || *name != "kept", "{what}: what is pinned stays");
    }
    store.ready().unwrap();
    let sum: u64 = store.list().unwrap().iter().map(|info| info.bytes).sum();
    assert_eq!(sum, du(&root.join("assets")), "{what}: accounts");
    assert!(
        du(root) <= store.used_bytes().unwrap(),
        "{what}: {} on disk",
        du(root)
    );
    assert!(store.used_bytes().unwrap() <= LIMIT, "{what}");
    assert!(
        names(root).iter().all(|name| !name.starts_with(".stage")),
        "{what}: leftovers {:?}",
        names(root)
    );
}

fn run(calls: Calls, fault: Option<(u64, io::ErrorKind, bool)>) -> (u64, Vec<CacheError>) {
    let what = format!("{fault:?}");
    // In memory where there is such a file system: thousands of syncs.
    let root = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let root = root.path();
    prepare(root);
    let faults = Arc::new(Faults {
        calls,
        made: AtomicU64::new(0),
        fault: Mutex::new(fault),
    });
    let mut errors = Vec::new();
    match open(
        root,
        Arc::new(Faulty {
            disk: OsDisk,
            faults: Arc::clone(&faults),
        }),
    ) {
        Ok((store, index)) => {
            errors = session(&store, &index);
            *faults.fault.lock().unwrap() = None;
            check(root, &store, &what);
        }
        Err(error) => errors.push(error),
    }
    for error in &errors {
        let Some((_, kind, _)) = fault else {
            panic!("{error}")
        };
        let (CacheError::Io { source, .. } | CacheError::Unremovable { source, .. }) = error else {
            panic!("{what}: {error:?}")
        };
        assert_eq!(source.kind(), kind, "{what}");
    }
    let (store, index) = open(root, Arc::new(OsDisk)).unwrap();
    index.scan().unwrap();
    check(root, &store, &format!("{what}, reopened"));
    store.put(&asset("after"), &x(), bytes(9000, 20)).unwrap();
    check(root, &store, &format!("{what}, reopened, and a put"));
    (faults.made.load(Ordering::SeqCst), errors)
}

#[test]
fn each_changing_call_fails_once_in_each_way() {
    let (calls, errors) = run(Calls::Changing, None);
    assert!(calls > 60 && errors.is_empty(), "{calls}");
    let kinds = [
        io::ErrorKind::StorageFull,
        io::ErrorKind::Other,
        io::ErrorKind::ReadOnlyFilesystem,
    ];
    let mut failed = 0;
    for at in 0..calls {
        for kind in kinds {
            failed += run(Calls::Changing, Some((at, kind, false))).1.len();
        }
        failed += run(Calls::Changing, Some((at, io::ErrorKind::Other, true)))
            .1
            .len();
    }
    // Some calls are for the index or the trash, and fail no step. After a full disk a put evicts and tries again.
    assert!(failed as u64 > calls, "{failed} of {calls}");
}

#[test]
fn each_call_fails_once() {
    let (calls, _) = run(Calls::All, None);
    for at in 0..calls {
        run(Calls::All, Some((at, io::ErrorKind::PermissionDenied, false)));
    }
}

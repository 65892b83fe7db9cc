//! Power cuts (R3, faults B14 and C13), on a disk that forgets what was not synced.
//!
//! The disk is harsher than a journal: of the writes to a file since its last sync, and of the changes of names since
//! the directory's, any subset may have reached the platter. What is opened after a cut at any call must trust no byte
//! that is not the one written, and must have kept what a checkpoint or a commit promised.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use proptest::prelude::*;

use super::{Found, StreamingError, StreamingOptions, StreamingResource, Writer};
use crate::storage::durable::{Disk, DiskFile, Durability, Kind, Meta};

#[derive(Default, Clone)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
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

#[derive(Clone)]
enum Naming {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Naming {
    fn apply(&self, to: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(name, inode) => drop(to.insert(name.clone(), *inode)),
            Self::Unlink(name) => drop(to.remove(name)),
            Self::Rename(from, name) => {
                if let Some(inode) = to.remove(from) {
                    to.insert(name.clone(), inode);
                }
            }
        }
    }
}

#[derive(Default, Clone)]
struct Platter {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced: Vec<Naming>,
    /// Calls until the power goes.
    calls: Option<u32>,
    syncs_fail: bool,
    versions: u8,
}

impl Platter {
    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced.push(naming);
    }

    /// What the machine finds when it is switched on again. `coins` decide what had reached the platter.
    fn after_power_cut(&self, mut coins: u64) -> Self {
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
struct FakeDisk(Arc<Mutex<Platter>>);

impl FakeDisk {
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
        self.call()?.name(Naming::Rename(staged.into(), target.into()));
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
        if !platter.names.contains_key(file) {
            return Err(missing());
        }
        platter.name(Naming::Unlink(file.into()));
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

struct FakeFile {
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

const LEN: usize = 64;
const VERSIONS: u8 = 15;
const TARGET: &str = "/track";
const FOOTER: [u8; 4] = *b"foot";

type Resource = StreamingResource<io::Error>;

/// The bytes of a version of the file: no two versions share one, and none is a hole's.
fn version(number: u8) -> Vec<u8> {
    (0..LEN)
        .map(|at| u8::try_from(at).unwrap() % 16 + 1 + number * 16)
        .collect()
}

fn open(disk: &FakeDisk) -> Result<Resource, StreamingError> {
    StreamingOptions::new(TARGET).disk(Arc::new(disk.clone())).open()
}

#[derive(Debug, Clone)]
enum Act {
    Write(Range<usize>),
    WriteAll,
    Checkpoint,
    Commit,
    NextVersion,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let range = (0..LEN, 1_usize..24).prop_map(|(start, len)| start..(start + len).min(LEN));
    prop_oneof![
        6 => range.prop_map(Act::Write),
        1 => Just(Act::WriteAll),
        3 => Just(Act::Checkpoint),
        2 => Just(Act::Commit),
        2 => Just(Act::NextVersion),
        1 => Just(Act::Restart),
    ]
}

/// What has been promised so far, and must be found after the cut.
#[derive(Default)]
struct Promises {
    /// A checkpoint that returned, of a version that has been neither discarded nor committed since.
    recorded: Option<(u8, Vec<Range<u64>>)>,
    /// A commit that returned.
    committed: Option<u8>,
}

/// Acts until the power goes, or the process is killed.
fn live(disk: &FakeDisk, acts: &[Act], promises: &mut Promises) -> Result<(), StreamingError> {
    let (mut track, mut writer, mut current) = resume(disk)?;
    for act in acts {
        match act {
            Act::Write(range) => {
                writer.write_at(range.start as u64, &version(current)[range.clone()])?;
            }
            Act::WriteAll => {
                writer.write_at(0, &version(current))?;
            }
            Act::Checkpoint => {
                let ranges = track.available();
                writer.checkpoint().run()?;
                promises.recorded = Some((current, ranges));
            }
            Act::Commit if track.missing(0..LEN as u64).is_empty() => {
                // From here on the old or the new, until the call returns.
                *promises = Promises::default();
                writer.commit_with_footer(LEN as u64, |_| FOOTER)?;
                promises.committed = Some(current);
                drop((writer, track));
                (track, writer, current) = resume(disk)?;
            }
            Act::Commit => {}
            Act::NextVersion => {
                promises.recorded = None;
                writer.discard(io::Error::other("changed upstream"))?;
                drop(track);
                (track, writer, current) = resume(disk)?;
            }
            Act::Restart => {
                drop((writer, track));
                (track, writer, current) = resume(disk)?;
            }
        }
    }
    Ok(())
}

/// Opens what is there; a new one gets a version never seen before.
fn resume(disk: &FakeDisk) -> Result<(Resource, Writer<io::Error>, u8), StreamingError> {
    let track = open(disk)?;
    let mut writer = track.writer()?;
    let current = if let Some(tag) = track.tag().first() {
        *tag
    } else {
        assert!(track.available().is_empty());
        let mut platter = disk.0.lock().unwrap();
        platter.versions = (platter.versions + 1) % VERSIONS;
        platter.versions
    };
    writer.set_tag([current])?;
    Ok((track, writer, current))
}

/// What is found after the cut is true, and what was promised is found.
fn verify(disk: &FakeDisk, promises: &Promises) {
    let target = disk.0.lock().unwrap().names.get(Path::new(TARGET)).copied();
    let target = target.map(|inode| disk.0.lock().unwrap().inodes[inode].live.clone());
    if let Some(bytes) = &target {
        let whole = |number| *bytes == [version(number), FOOTER.to_vec()].concat();
        assert!(
            (0..VERSIONS).any(whole),
            "a mixed or partial file under the final name"
        );
    }
    if let Some(number) = promises.committed {
        assert_eq!(target.unwrap(), [version(number), FOOTER.to_vec()].concat());
    }

    let track = open(disk).unwrap();
    let mut buffer = [0; LEN];
    for range in track.available() {
        let number = track.tag()[0];
        let len = usize::try_from(range.end - range.start).unwrap();
        assert_eq!(
            track.read_at(range.start, &mut buffer[..len]).unwrap(),
            Found::Bytes(len)
        );
        let from = usize::try_from(range.start).unwrap();
        assert_eq!(
            buffer[..len],
            version(number)[from..from + len],
            "version {number} at {range:?}"
        );
    }
    if let Some((number, ranges)) = &promises.recorded {
        assert_eq!(track.tag(), [*number]);
        for range in ranges {
            assert!(
                track.missing(range.clone()).is_empty(),
                "{range:?} was recorded and is gone"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// R3, B14, C13.
    #[test]
    fn after_a_power_cut_at_any_call_only_true_bytes_are_there(
        first in proptest::collection::vec(act(), 1..16),
        killed in 0_u32..150,
        second in proptest::collection::vec(act(), 1..16),
        cut in 0_u32..150,
        coins in any::<u64>(),
    ) {
        let disk = FakeDisk::default();
        let mut promises = Promises::default();
        // A killed process loses nothing that it had handed to the system; then the power goes.
        for (acts, calls) in [(first, killed), (second, cut)] {
            disk.0.lock().unwrap().calls = Some(calls);
            if let Err(error) = live(&disk, &acts, &mut promises) {
                prop_assert!(matches!(error, StreamingError::Io { .. }), "{}", error);
            }
        }
        let after = disk.0.lock().unwrap().after_power_cut(coins);
        let disk = FakeDisk(Arc::new(Mutex::new(after)));
        verify(&disk, &promises);
        // And once more, with the resource that was opened dropped without a word.
        let again = disk.0.lock().unwrap().after_power_cut(coins.rotate_left(17));
        verify(&FakeDisk(Arc::new(Mutex::new(again))), &promises);
    }
}

/// A failed sync is never asked again: the next one would say Ok of lost pages.
#[test]
fn after_a_failed_sync_nothing_more_is_recorded_or_committed() {
    let disk = FakeDisk::default();
    let track = open(&disk).unwrap();
    let mut writer = track.writer().unwrap();
    writer.write_at(0, &version(1)[..16]).unwrap();
    writer.checkpoint().run().unwrap();
    writer.write_at(16, &version(1)[16..]).unwrap();
    disk.0.lock().unwrap().syncs_fail = true;
    assert!(matches!(
        writer.checkpoint().run(),
        Err(StreamingError::Io { action: "sync", .. })
    ));
    disk.0.lock().unwrap().syncs_fail = false;
    assert!(matches!(
        writer.checkpoint().run(),
        Err(StreamingError::SyncLost { .. })
    ));
    assert!(matches!(
        writer.commit(LEN as u64),
        Err(StreamingError::SyncLost { .. })
    ));
    assert_eq!(
        track.read_at(16, &mut [0; 48]).unwrap(),
        Found::Bytes(48),
        "R4: readers go on"
    );
    drop((writer, track));

    let after = disk.0.lock().unwrap().after_power_cut(0);
    let disk = FakeDisk(Arc::new(Mutex::new(after)));
    assert_eq!(
        open(&disk).unwrap().available(),
        [0..16],
        "what was recorded before is still true"
    );
}

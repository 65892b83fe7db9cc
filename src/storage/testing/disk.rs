//! A disk in memory that can lose its power and fail on demand.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::Dice;
use super::history::{Action, Change, Losses, power_cut};
use super::tree::{Content, Tree};
use crate::storage::clock;
use crate::storage::durable::{Disk, DiskFile, Durability, Kind, Meta};

/// Kernels give files the time of the last timer tick. In milliseconds.
const TICK: u64 = 4;

/// A disk in memory that can lose its power and fail on demand. Clones are handles to the same disk.
///
/// It keeps every change since it was made. [`power_cut`](Self::power_cut) makes the disk that a machine could find after
/// losing power at any of them: what was synced is there; of the rest any subset of the data, and of the changes of
/// names an ordered prefix, either of all or of each directory by itself, or any subset of them too.
#[derive(Clone, Default)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What was there at the beginning, all of it durable.
    base: Tree,
    live: Tree,
    changes: Vec<Change>,
    /// Calls made so far, those that only read included.
    calls: Vec<&'static str>,
    fault: Option<Fault>,
    /// Calls that fail wherever they name a path at or below this one: the call, the path, the system's number.
    refused: Vec<(&'static str, PathBuf, i32)>,
    /// What happens before the next call of a name.
    before: Vec<(&'static str, Before)>,
    /// Calls are the test's own: neither counted nor failed.
    aside: bool,
    /// Bytes the disk has room for.
    room: Option<u64>,
    peak: u64,
    /// In what units files take room.
    unit: Option<u64>,
    /// Files that are open and claimed.
    claimed: HashSet<usize>,
}

type Before = Box<dyn FnOnce(&FakeDisk) + Send>;

/// Which calls of a [`FakeDisk`] fail, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The first call that fails, counted from zero.
    pub at: usize,
    /// What becomes of the calls after it.
    pub later: Later,
    /// The system's number of the error.
    pub error: i32,
}

/// What becomes of calls after the first that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// They work.
    Work,
    /// Those of the same kind fail too.
    SameFail,
    /// The process is dead: none changes anything.
    Dead,
}

impl State {
    /// One call: counted, and refused if a fault is due.
    fn call(&mut self, name: &'static str) -> io::Result<()> {
        if self.aside {
            return Ok(());
        }
        let number = self.calls.len();
        self.calls.push(name);
        let Some(fault) = self.fault else { return Ok(()) };
        let due = match fault.later {
            _ if number <= fault.at => number == fault.at,
            Later::Work => false,
            Later::SameFail => self.calls[fault.at] == name,
            Later::Dead => true,
        };
        if due {
            Err(io::Error::from_raw_os_error(fault.error))
        } else {
            Ok(())
        }
    }

    /// One call that names a path.
    fn call_at(&mut self, name: &'static str, path: &Path) -> io::Result<()> {
        self.call(name)?;
        let refused = self
            .refused
            .iter()
            .find(|(call, under, _)| *call == name && path.starts_with(under));
        match refused {
            Some((_, _, error)) if !self.aside => Err(io::Error::from_raw_os_error(*error)),
            _ => Ok(()),
        }
    }

    fn is_dead(&self) -> bool {
        self.fault
            .is_some_and(|fault| fault.later == Later::Dead && fault.at < self.calls.len())
    }

    fn change(&mut self, action: Action) {
        if self.is_dead() {
            return;
        }
        let millis = clock::micros() / 1000;
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(millis - millis % TICK);
        let change = Change { action, at };
        self.live.apply(&change);
        self.changes.push(change);
        self.peak = self.peak.max(self.live.bytes(0, self.unit.unwrap_or(1)));
    }

    fn make(&mut self, path: &Path, kind: Kind) -> io::Result<usize> {
        let (dir, name) = self.live.parent(path)?;
        if self.live.get(dir, name).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let node = self.live.nodes.len();
        self.change(Action::Make {
            dir,
            name: name.to_owned(),
            node,
            kind,
        });
        Ok(node)
    }

    fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.live.parent(path)?;
        let node = self.live.get(dir, name).ok_or(ErrorKind::NotFound)?;
        self.change(Action::Unlink {
            dir,
            name: name.to_owned(),
            node,
        });
        Ok(())
    }

    fn rename(&mut self, old: &Path, new: &Path) -> io::Result<()> {
        let ((from, old), (to, new)) = (self.live.parent(old)?, self.live.parent(new)?);
        let node = self.live.get(from, old).ok_or(ErrorKind::NotFound)?;
        if let Some(there) = self.live.get(to, new)
            && let Content::Dir(_) = self.live.nodes[there].content
        {
            return Err(ErrorKind::IsADirectory.into());
        }
        self.change(Action::Rename {
            from,
            old: old.to_owned(),
            to,
            new: new.to_owned(),
            node,
        });
        Ok(())
    }
}

impl FakeDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes made so far: a power cut can come after each.
    pub fn changes(&self) -> usize {
        self.lock().changes.len()
    }

    /// Calls made so far, those that only read included: each can fail.
    pub fn calls(&self) -> usize {
        self.lock().calls.len()
    }

    /// What the call of this number was.
    pub fn call_name(&self, number: usize) -> &'static str {
        self.lock().calls[number]
    }

    /// Makes calls fail from now on, or none.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// Has each call of this name fail with the system's error `error` from now on, where it names `under` or a path below it.
    pub fn refuse(&self, call: &'static str, under: impl Into<PathBuf>, error: i32) {
        self.lock().refused.push((call, under.into(), error));
    }

    /// Ends what [`refuse`](Self::refuse) began.
    pub fn refuse_nothing(&self) {
        self.lock().refused.clear();
    }

    /// Runs `work` just before the next call of this name, as another process might do something then. What is said first comes
    /// before the next one, what is said second before the one after it.
    pub fn before(&self, call: &'static str, work: impl FnOnce(&FakeDisk) + Send + 'static) {
        self.lock().before.push((call, Box::new(work)));
    }

    /// Writes beyond `bytes` in all fail with "no space left".
    pub fn set_room(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    /// Has files take room in units of so many bytes, as file systems do. 1 unless set.
    pub fn set_unit(&self, bytes: u64) {
        self.lock().unit = Some(bytes);
    }

    /// Calls that `look` makes are neither counted nor failed.
    pub fn aside<T>(&self, look: impl FnOnce() -> T) -> T {
        self.lock().aside = true;
        let seen = look();
        self.lock().aside = false;
        seen
    }

    /// One call that names a path. Returns the state, locked.
    fn call_at(&self, name: &'static str, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        if let Some(due) = state.before.iter().position(|(call, _)| *call == name) {
            let (_, work) = state.before.remove(due);
            drop(state);
            work(self);
            state = self.lock();
        }
        state.call_at(name, path)?;
        Ok(state)
    }

    fn file(&self, node: usize, claimed: bool) -> Box<dyn DiskFile> {
        Box::new(FakeFile {
            disk: self.clone(),
            node,
            claimed,
        })
    }

    /// Bytes of all files that have a name.
    pub fn bytes(&self) -> u64 {
        {
            let state = self.lock();
            state.live.bytes(0, state.unit.unwrap_or(1))
        }
    }

    /// Bytes of all files in a directory.
    pub fn bytes_in(&self, dir: &str) -> u64 {
        let state = self.lock();
        state
            .live
            .find(Path::new(dir))
            .map_or(0, |dir| state.live.bytes(dir, state.unit.unwrap_or(1)))
    }

    /// The most [`bytes`](Self::bytes) ever was.
    pub fn peak(&self) -> u64 {
        self.lock().peak
    }

    /// The paths of all files, sorted by directory.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.lock().live.files(0, "", &mut found);
        found
    }

    /// The same disk, everything on it durable, as after a clean shutdown.
    #[must_use]
    pub fn settled(&self) -> Self {
        let (live, unit) = {
            let state = self.lock();
            (state.live.clone(), state.unit)
        };
        let settled = Self::from_tree(live);
        settled.lock().unit = unit;
        settled
    }

    fn from_tree(tree: Tree) -> Self {
        let state = State {
            base: tree.clone(),
            peak: tree.bytes(0, 1),
            live: tree,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A disk that a machine could find after losing power when so many `changes` were made.
    #[must_use]
    pub fn power_cut(&self, changes: usize, dice: &mut Dice) -> Self {
        self.power_cut_with(&Losses::any(dice), changes, dice)
    }

    /// One that has lost any half of what was not synced. Where little is unsynced this finds most.
    #[must_use]
    pub fn power_cut_by_half(&self, changes: usize, dice: &mut Dice) -> Self {
        self.power_cut_with(&Losses::HALF, changes, dice)
    }

    fn power_cut_with(&self, losses: &Losses, changes: usize, dice: &mut Dice) -> Self {
        let state = self.lock();
        Self::from_tree(power_cut(&state.base, &state.changes[..changes], losses, dice))
    }
}

impl Disk for FakeDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.call_at("create_dir", dir)?;
        state.make(dir, Kind::Dir).map(drop)
    }

    fn create_new(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.call_at("create_new", file)?;
        let node = state.make(file, Kind::File)?;
        Ok(self.file(node, false))
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.call_at("open", file)?;
        let node = state.live.find(file)?;
        Ok(self.file(node, false))
    }

    fn open_partial(&self, file: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.call_at("open_partial", file)?;
        let node = match state.live.find(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => state.make(file, Kind::File)?,
            found => found?,
        };
        if !state.claimed.insert(node) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(self.file(node, true))
    }

    fn replace(&self, staged: &Path, target: &Path, durability: Durability) -> io::Result<()> {
        let mut state = self.call_at("replace", target)?;
        state.rename(staged, target)?;
        drop(state);
        if durability == Durability::Full {
            self.sync_dir(target.parent().unwrap())?;
            if staged.parent() != target.parent() {
                self.sync_dir(staged.parent().unwrap())?;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.call_at("rename", from)?;
        state.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.call_at("sync_dir", dir)?;
        let dir = state.live.find(dir)?;
        state.change(Action::SyncDir { dir });
        Ok(())
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        let mut state = self.call_at("remove_file", file)?;
        let node = state.live.find(file)?;
        if let Content::Dir(_) = state.live.nodes[node].content {
            return Err(ErrorKind::IsADirectory.into());
        }
        state.unlink(file)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        for name in self.read_dir(dir)? {
            let path = dir.join(name);
            match self.metadata(&path)?.kind {
                Kind::Dir => self.remove_dir_all(&path)?,
                _ => self.remove_file(&path)?,
            }
        }
        let mut state = self.call_at("remove_dir", dir)?;
        state.unlink(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        let state = self.call_at("metadata", path)?;
        let node = state.live.find(path)?;
        Ok(state.live.nodes[node].meta())
    }

    fn unit(&self) -> u64 {
        self.lock().unit.unwrap_or(1)
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let state = self.call_at("read_dir", dir)?;
        let node = state.live.find(dir)?;
        match &state.live.nodes[node].content {
            Content::Dir(names) => Ok(names.keys().cloned().collect()),
            Content::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    #[cfg(feature = "offline")]
    fn free(&self, _dir: &Path) -> Option<u64> {
        let state = self.lock();
        Some(state.room?.saturating_sub(state.live.bytes(0, 1)))
    }
}

impl fmt::Debug for FakeDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeDisk").finish_non_exhaustive()
    }
}

struct FakeFile {
    disk: FakeDisk,
    node: usize,
    claimed: bool,
}

impl FakeFile {
    /// Writes what there is room for, or a part if the call fails.
    fn write(&self, state: &mut State, name: &'static str, bytes: &[u8], offset: usize) -> io::Result<()> {
        let mut called = state.call(name);
        let mut len = if called.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        if let Some(room) = state.room.filter(|_| called.is_ok()) {
            let left = usize::try_from(room.saturating_sub(state.live.bytes(0, 1))).unwrap();
            if left < len {
                called = Err(ErrorKind::StorageFull.into());
                len = left;
            }
        }
        let data = Bytes::copy_from_slice(&bytes[..len]);
        state.change(Action::Write {
            node: self.node,
            offset,
            data,
        });
        called
    }
}

impl Drop for FakeFile {
    fn drop(&mut self) {
        if self.claimed {
            self.disk.lock().claimed.remove(&self.node);
        }
    }
}

impl DiskFile for FakeFile {
    fn metadata(&self) -> io::Result<Meta> {
        let mut state = self.disk.lock();
        state.call("file metadata")?;
        Ok(state.live.nodes[self.node].meta())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.call("read")?;
        let Content::File(data) = &state.live.nodes[self.node].content else {
            return Err(ErrorKind::IsADirectory.into());
        };
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| data.get(at..))
            .unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn append(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let mut state = self.disk.lock();
        for part in parts {
            let end = state.live.nodes[self.node].data().len();
            self.write(&mut state, "append", part, end)?;
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let offset = usize::try_from(offset).unwrap();
        self.write(&mut self.disk.lock(), "write_at", bytes, offset)?;
        Ok(bytes.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.call("set_len")?;
        state.change(Action::Truncate {
            node: self.node,
            len: usize::try_from(len).unwrap(),
        });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let called = state.call("sync");
        let node = self.node;
        state.change(if called.is_ok() {
            Action::Sync { node }
        } else {
            Action::FailedSync { node }
        });
        called
    }
}

//! Paths under a cache's root, and the names in it that are the cache's own.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::storage::{RECORD_SUFFIX, STAGED_SUFFIX};

/// An empty file of this name in an asset's directory is its pin.
pub(crate) const PIN: &str = ".pin";
const STAGE: &str = ".stage-";
/// Bytes of the longest path below the root, so that a path takes one allocation.
const LONGEST: usize = 300;
const PART: &str = ".part-";

/// The files of a partial entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Bytes,
    Record,
    Staged,
}

/// Paths under one root.
///
/// The cache's own files beside entries begin with a dot, which no entry's file name does. Names of staged files and of
/// trash carry a random number drawn at each open. By it the leftovers of a killed process are told from what is being
/// written now, and a sweep never removes the latter.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    session: String,
    next: AtomicU64,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        // From the operating system's randomness, by way of the hasher's key. A counter or a process id could repeat.
        let session = RandomState::new().build_hasher().finish();
        Self {
            root: root.to_owned(),
            session: format!("{session:016x}"),
            next: AtomicU64::new(0),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn assets(&self) -> PathBuf {
        self.root.join("assets")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    pub(crate) fn shard(&self, asset: &AssetId) -> PathBuf {
        let name = asset.name();
        self.assets().join(name.get(..2).unwrap_or_default())
    }

    pub(crate) fn asset(&self, asset: &AssetId) -> PathBuf {
        let name = asset.name();
        let mut dir = PathBuf::with_capacity(self.root.as_os_str().len() + LONGEST);
        dir.push(&self.root);
        dir.push("assets");
        dir.push(name.get(..2).unwrap_or_default());
        dir.push(name);
        dir
    }

    pub(crate) fn entry(&self, asset: &AssetId, path: &CachePath) -> PathBuf {
        let mut file = self.asset(asset);
        file.push(path.file_name());
        file
    }

    /// A free name for an entry being written. It stands beside its target, so that the rename changes one directory and one
    /// directory has to be synced.
    pub(crate) fn staged(&self, dir: &Path) -> PathBuf {
        dir.join(format!(
            "{STAGE}{}-{}",
            self.session,
            self.next.fetch_add(1, Ordering::Relaxed)
        ))
    }

    /// The partial file of an entry in its asset's directory.
    pub(crate) fn partial(dir: &Path, path: &CachePath) -> PathBuf {
        dir.join(format!("{PART}{}", path.file_name()))
    }

    /// The record that stands beside a partial file.
    pub(crate) fn record_of(partial: &Path) -> PathBuf {
        let mut name = partial.as_os_str().to_owned();
        name.push(RECORD_SUFFIX);
        name.into()
    }

    /// Which file of a partial entry this name is, if it is one.
    pub(crate) fn part(name: &str) -> Option<Part> {
        // Checked to the end: a foreign file that merely begins like one of these is none of the cache's, and stays.
        let entry = Self::bytes_of(name).strip_prefix(PART)?;
        let part = match name.strip_prefix(PART)?.strip_prefix(entry)? {
            "" => Part::Bytes,
            RECORD_SUFFIX => Part::Record,
            _ => Part::Staged,
        };
        CachePath::is_file_name(entry).then_some(part)
    }

    /// The name of the partial file that the file of this name belongs to.
    pub(crate) fn bytes_of(name: &str) -> &str {
        name.strip_suffix(RECORD_SUFFIX)
            .or_else(|| name.strip_suffix(STAGED_SUFFIX))
            .unwrap_or(name)
    }

    /// A free name in the trash.
    pub(crate) fn discarded(&self, asset: &AssetId) -> PathBuf {
        // Numbered: an asset may be removed, made anew and removed again while its first trash is still being emptied.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.trash()
            .join(format!("{}-{}-{number}", asset.name(), self.session))
    }

    /// A free name in the trash for something that belongs to no asset. It looks like trash of an earlier session, so that the
    /// sweep removes it.
    pub(crate) fn set_aside(&self) -> PathBuf {
        let (session, number) = (&self.session, self.next.fetch_add(1, Ordering::Relaxed));
        // The session's number stands where an id begins, so that two sessions never draw one name.
        self.trash().join(format!("{session:0<64}-{:016x}-{number}", 0))
    }

    /// Whether this session is staging `name`; `None` if `name` is no staged file.
    pub(crate) fn is_staged_now(&self, name: &str) -> Option<bool> {
        let (session, _) = numbered(name.strip_prefix(STAGE)?)?;
        Some(session == self.session)
    }

    /// Whether this session put `name` into the trash; `None` if it is no name that the cache gives to trash.
    pub(crate) fn is_discarded_now(&self, name: &str) -> Option<bool> {
        let (id, rest) = name.split_once('-')?;
        AssetId::parse_name(id)?;
        let (session, _) = numbered(rest)?;
        Some(session == self.session)
    }
}

/// Splits `<16 hexadecimal digits>-<number>`.
fn numbered(text: &str) -> Option<(&str, u64)> {
    let (session, number) = text.split_once('-')?;
    let ours = session.len() == 16 && session.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    ours.then_some((session, number.parse().ok()?))
}

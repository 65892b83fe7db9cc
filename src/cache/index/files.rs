//! The two files of the index: a snapshot, and a journal of the changes since.
//!
//! ```text
//!  open     snapshot g, sealed, no journal g     the last session ended in order
//!  begin    journal g, durable                   before the first change
//!  append   journal g: change, change, …
//!  compact  snapshot g+1 ─▶ remove journal g ─▶ journal g+1
//!  seal     snapshot g+1, sealed ─▶ remove journal g
//! ```
//!
//! A journal counts only beside the snapshot of its own generation. So a crash between the steps of a compaction leaves an
//! old journal that is ignored, never one that takes newer figures back.
//!
//! What the files take at the most counts under the limit before they are written.

#[cfg(all(test, unix))]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::cache::codec::{self, Change, Row, Snapshot};
use crate::cache::fs::absent;
use crate::storage::AtomicResource;
use crate::storage::durable::{Disk, DiskFile, Durability, Kind, read_range, remove_any};

/// A longer file is not read, in bytes. It would be a snapshot of seven million assets.
const MAX_FILE: u64 = 512 << 20;
/// Bytes of a snapshot without rows, and of a journal without changes.
const EMPTY: u64 = codec::EMPTY as u64;
/// Bytes a row of a snapshot takes.
const ROW: u64 = codec::ROW as u64;
/// Journal bytes allowed on top of those per asset.
const JOURNAL_BASE: u64 = 2048;
/// Journal bytes allowed per asset. The cost of a compaction grows with the number of assets, and so does the number of
/// changes that share it.
const JOURNAL_PER_ASSET: u64 = 128;

/// The most that the index of `assets` assets takes on disk, in bytes: the snapshot, the next one beside it while it is
/// written, the journal and its successor.
pub(in crate::cache) fn most_bytes(assets: u64) -> u64 {
    2 * (EMPTY + assets * ROW) + journal_cap(assets) + EMPTY
}

/// What the files take on disk, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cache) struct Sizes {
    snapshot: u64,
    /// The next snapshot, being written beside it.
    staged: u64,
    journal: u64,
    /// What each of the four files may take beyond its length, in all.
    rounding: u64,
}

impl Sizes {
    /// The most that the index of `assets` assets takes until these files are replaced: [`most_bytes`], and more where the
    /// files were written for more assets.
    pub(in crate::cache) fn most_bytes(self, assets: u64) -> u64 {
        let snapshot = EMPTY + assets * ROW;
        let more = [
            self.snapshot.saturating_sub(snapshot),
            self.staged.saturating_sub(snapshot),
            self.journal.saturating_sub(journal_cap(assets)),
        ];
        most_bytes(assets) + more.iter().sum::<u64>() + self.rounding
    }

    /// The same while a snapshot of `assets` assets is being written.
    pub(super) fn staging(self, assets: u64) -> Self {
        let staged = EMPTY + assets * ROW;
        Self { staged, ..self }
    }

    /// The same with the longest journal that `assets` assets allow.
    pub(super) fn appending(self, assets: u64) -> Self {
        let journal = self.journal.max(journal_cap(assets));
        Self { journal, ..self }
    }
}

fn journal_cap(assets: u64) -> u64 {
    JOURNAL_BASE + assets * JOURNAL_PER_ASSET
}

/// What the files said at open.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) rows: Vec<Row>,
    pub(super) changes: Vec<Change>,
    /// The last session ended in order: only changes from outside can be missing.
    pub(super) clean: bool,
}

/// Reads and writes the files. Whatever fails costs a scan at the next open, and no entry.
pub(in crate::cache) struct IndexFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    generation: u64,
    /// Open while something has changed since the snapshot was sealed.
    journal: Option<Box<dyn DiskFile>>,
    sizes: Sizes,
    /// The last write failed. The files on disk may be old, and were removed if that was possible.
    broken: bool,
    /// Names that stand for something else than a part of the index, or for nothing.
    garbage: Vec<&'static str>,
}

impl IndexFiles {
    /// Reads what is there, and no file that is longer than `limit` bytes: no honest index is longer than the whole cache.
    ///
    /// A file that is no part of an index, whatever else it is, is garbage. Its head tells that of most, so that it is not
    /// read. [`take_garbage`](Self::take_garbage) says which those are.
    pub(super) fn load(disk: Arc<dyn Disk>, dir: &Path, limit: u64) -> (Self, Option<Loaded>) {
        let mut files = Self {
            disk,
            dir: dir.to_owned(),
            generation: 0,
            journal: None,
            sizes: Sizes::default(),
            broken: false,
            garbage: Vec::new(),
        };
        let limit = limit.min(MAX_FILE);
        files.sizes.snapshot = files.len("snapshot");
        files.sizes.journal = files.len("journal");
        let snapshot = files
            .read("snapshot", limit, codec::may_be_snapshot)
            .and_then(|bytes| codec::decode_snapshot(&bytes));
        let Some(snapshot) = snapshot else {
            if files.is_there("snapshot") {
                log::warn!("the cache's index is damaged and will be rebuilt");
            }
            files.garbage = ["snapshot", "journal"].to_vec();
            return (files, None);
        };
        files.generation = snapshot.generation;
        let is_journal = |head: &[u8], _| codec::is_journal(head, snapshot.generation);
        let changes = files
            .read("journal", limit, is_journal)
            .and_then(|bytes| codec::decode_journal(&bytes, snapshot.generation));
        if changes.is_none() {
            files.garbage.push("journal");
        }
        // A journal of this generation, even an empty one, means that something was about to change. An unsealed snapshot
        // without its journal is what a crash between the two steps of a compaction leaves.
        let clean = snapshot.sealed && changes.is_none();
        (
            files,
            Some(Loaded {
                rows: snapshot.rows,
                changes: changes.unwrap_or_default(),
                clean,
            }),
        )
    }

    /// Has `take` remove each file that is no part of the index, by its path. What is gone counts no more: were garbage counted,
    /// good assets would be evicted for it (fault W47).
    pub(super) fn take_garbage(&mut self, take: impl Fn(&Path) -> bool) {
        for name in std::mem::take(&mut self.garbage) {
            if self.is_there(name) && take(&self.dir.join(name)) {
                match name {
                    "snapshot" => self.sizes.snapshot = 0,
                    _ => self.sizes.journal = 0,
                }
            }
        }
    }

    /// As [`take_garbage`](Self::take_garbage), of all that is there: for a cache too small to keep an index.
    pub(super) fn take_all(&mut self, take: impl Fn(&Path) -> bool) -> io::Result<()> {
        self.garbage = ["snapshot", "journal"].to_vec();
        self.take_garbage(take);
        self.sweep()
    }

    fn is_there(&self, name: &str) -> bool {
        self.disk.metadata(&self.dir.join(name)).is_ok()
    }

    /// Has each file count in whole units of so many bytes.
    pub(super) fn count_in(&mut self, unit: u64) {
        self.sizes.rounding = 4 * unit.saturating_sub(1);
    }

    /// Removes what a killed session was writing.
    pub(super) fn sweep(&self) -> io::Result<()> {
        self.remove(".snapshot").and_then(|()| self.remove(".journal"))
    }

    fn len(&self, name: &str) -> u64 {
        let meta = self.disk.metadata(&self.dir.join(name));
        meta.map_or(0, |meta| if meta.kind == Kind::File { meta.len } else { 0 })
    }

    /// The whole file, if its first bytes and its length are worth it.
    fn read(&self, name: &str, limit: u64, is_worth_it: impl Fn(&[u8], u64) -> bool) -> Option<Bytes> {
        let file = self.disk.open(&self.dir.join(name)).ok()?;
        // Asked of the open file, and not of the name, which may stand for another one by now.
        let meta = file.metadata().ok()?;
        if meta.kind != Kind::File || meta.len > limit {
            return None;
        }
        let head = read_range(&*file, 0, EMPTY).ok()?;
        is_worth_it(&head, meta.len)
            .then(|| read_range(&*file, 0, meta.len).ok())
            .flatten()
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Whether the journal of this generation is started, or would be if writing it had not failed.
    pub(super) fn is_begun(&self) -> bool {
        self.journal.is_some() || self.broken
    }

    /// Starts the journal, durably. Called before the first change, so that a crash is told from a clean end.
    pub(super) fn begin(&mut self) {
        if self.is_begun() {
            return;
        }
        let head = Bytes::from(codec::encode_journal(self.generation));
        match self.write("journal", head, Durability::Full) {
            Ok((file, len)) => {
                self.journal = Some(file);
                self.sizes.journal = len;
            }
            Err(error) => self.give_up(&error),
        }
    }

    /// Appends changes. `false`: they do not fit, and a new snapshot has to be written.
    pub(super) fn append(&mut self, changes: Vec<u8>, assets: u64) -> bool {
        let Some(journal) = self.journal.as_mut().filter(|_| !changes.is_empty()) else {
            return true;
        };
        // Its length is what was allowed for under the limit (C5), so it is checked before the write.
        let len = self.sizes.journal + changes.len() as u64;
        if len > journal_cap(assets) {
            return false;
        }
        match journal.append(&[changes.into()]) {
            Ok(()) => self.sizes.journal = len,
            Err(error) => self.give_up(&error),
        }
        true
    }

    /// Whether a new snapshot is worth its cost: the journal is half full, or a failed write left none.
    pub(super) fn wants_compaction(&self, assets: u64) -> bool {
        self.broken || self.sizes.journal > journal_cap(assets) / 2
    }

    /// Makes the journal durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let synced = journal.sync();
        if let Err(error) = &synced {
            self.give_up(error);
        }
        synced
    }

    /// Replaces the snapshot and its journal by a new snapshot. A sealed one ends the journal; otherwise a new journal
    /// starts.
    pub(super) fn compact(&mut self, rows: Vec<Row>, sealed: bool) -> io::Result<()> {
        let generation = self.generation.wrapping_add(1);
        let snapshot = Bytes::from(codec::encode_snapshot(&Snapshot {
            generation,
            sealed,
            rows,
        }));
        let written = self
            // Its name need not be durable at once. A power cut may take it back and leave an older index, which the scan
            // after the next open puts right.
            .write("snapshot", snapshot, Durability::Ordered)
            .and_then(|(_, len)| {
                // From the rename on the old journal is of another generation and counts for nothing, whether or not it
                // can be removed.
                self.generation = generation;
                self.sizes.snapshot = len;
                self.journal = None;
                self.broken = false;
                self.remove("journal")?;
                self.sizes.journal = 0;
                Ok(())
            });
        if let Err(error) = &written {
            self.give_up(error);
        } else if !sealed {
            self.begin();
        }
        written
    }

    /// Removes the index: an old one must not be believed.
    fn give_up(&mut self, error: &io::Error) {
        log::warn!("cannot write the cache's index: {error}");
        self.journal = None;
        self.broken = true;
        if self.remove("snapshot").is_ok() {
            self.sizes.snapshot = 0;
        }
        if self.remove("journal").is_ok() {
            self.sizes.journal = 0;
        }
    }

    fn write(
        &self,
        name: &str,
        bytes: Bytes,
        durability: Durability,
    ) -> io::Result<(Box<dyn DiskFile>, u64)> {
        match self.disk.create_dir(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let (target, staged) = (self.dir.join(name), self.dir.join(format!(".{name}")));
        // Removes what a killed session left, and anything else that stands in the file's place.
        self.remove(&format!(".{name}"))?;
        if self
            .disk
            .metadata(&target)
            .is_ok_and(|meta| meta.kind == Kind::Dir)
        {
            self.remove(name)?;
        }
        let len = bytes.len() as u64;
        let object = AtomicResource::on_disk(Arc::clone(&self.disk), target);
        let file = object.staged_at(staged).durability(durability).replace(bytes)?;
        Ok((file, len))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        absent(remove_any(&*self.disk, &self.dir.join(name))).map(drop)
    }
}

impl fmt::Debug for IndexFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexFiles")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

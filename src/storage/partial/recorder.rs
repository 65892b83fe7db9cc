//! The files of a partial resource: its record, its removal, its final name.
//!
//! ```text
//!   checkpoint   sync the file's name · sync the file · replace the record     of ranges written before the sync
//!   discard      empty the record · sync it · remove it · remove the file
//!   commit       sync the file · rename it to the target · remove the record · sync the directory
//! ```
//!
//! A power cut can come after each step. Two rules follow. A record never tells of bytes that a power cut can take: so it is
//! written after the sync. And no record is ever found beside another file than its own: so it is gone, durably, before its
//! file goes, and the file's name is durable before it comes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use snafu::ResultExt;

use super::error::{IoSnafu, StreamingError, SyncLostSnafu};
use super::file::NamedFile;
use super::record::{RECORD_LIMIT, Record};
use crate::storage::atomic::AtomicResource;
use crate::storage::durable::{Disk, Durability, OsDisk, remove_any};

/// Added to the name of a partial file, this names its record.
pub(crate) const RECORD_SUFFIX: &str = "~ranges";
/// Added to it, this names the record's next version while that is written.
pub(crate) const STAGED_SUFFIX: &str = "~staged";

/// Its lock is held while the disk works: writer and checkpoints wait for each other here, readers never do.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four facts, none of which follows from the others"
)]
pub(super) struct Recorder {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) durability: Durability,
    pub(super) partial: PathBuf,
    pub(super) record: PathBuf,
    pub(super) staged: PathBuf,
    /// The number of the newest checkpoint on the disk.
    newest: u64,
    /// Whether the partial file's own name is durable.
    name_synced: bool,
    /// Committed or discarded. The names may belong to the next resource already, so nothing is done to them any more.
    closed: bool,
    /// A sync failed. The kernel took the pages for written all the same, so that the next sync would answer `Ok` although
    /// they are lost.
    sync_lost: bool,
    /// There is nothing to record or to remove.
    without_files: bool,
}

impl Recorder {
    pub(super) fn new(disk: Arc<dyn Disk>, durability: Durability, partial: PathBuf) -> Self {
        Self {
            record: with_suffix(&partial, RECORD_SUFFIX),
            staged: with_suffix(&partial, STAGED_SUFFIX),
            disk,
            durability,
            partial,
            newest: 0,
            name_synced: false,
            closed: false,
            sync_lost: false,
            without_files: false,
        }
    }

    /// For a resource without files.
    pub(super) fn none(name: PathBuf) -> Self {
        Self {
            without_files: true,
            ..Self::new(OsDisk::shared(), Durability::default(), name)
        }
    }

    /// The record, if there is a whole one.
    pub(super) fn read(&self) -> Option<Record> {
        let object = AtomicResource::on_disk(Arc::clone(&self.disk), &self.record);
        Record::decode(&object.read_within(RECORD_LIMIT as u64).ok()??)
    }

    /// Removes the record so that no crash brings it back.
    ///
    /// A power cut can bring a removed name back, and with it an older record that a newer one had replaced. So the record is
    /// emptied first, its name and its emptiness are synced, and only then it is removed. A process that is killed in between
    /// leaves an empty record. The next process does not believe it, and comes here again.
    pub(super) fn forget(&self) -> Result<(), StreamingError> {
        let record = &self.record;
        let found = match self.disk.metadata(record) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.context(IoSnafu {
                action: "look at",
                path: record,
            })?,
        };
        // No record of this resource's, and not to be emptied: the file of a link is somebody else's.
        if !found.is_own_file() {
            self.remove(record)?;
            return self.sync_names(record);
        }
        let file = self.disk.open_partial(record).context(IoSnafu {
            action: "open",
            path: record,
        })?;
        let file = NamedFile::new(file, record.clone());
        file.set_len(0)?;
        // The name first: were only the emptiness synced, a lost rename could still give the name to an older record.
        self.sync_names(record)?;
        file.sync()?;
        self.remove(record).map(drop)
    }

    pub(super) fn checkpoint(
        &mut self,
        file: &NamedFile,
        number: u64,
        record: &Record,
    ) -> Result<(), StreamingError> {
        // An older checkpoint that runs late would replace a newer record.
        if self.closed || self.without_files || number < self.newest {
            return Ok(());
        }
        if !self.name_synced {
            // Otherwise the record could outlive the file's name, and be found beside an older file of that name.
            self.sync_names(&self.partial)?;
            self.name_synced = true;
        }
        self.sync(file)?;
        // A record that failed, or a killed process, may have left one.
        self.remove(&self.staged)?;
        let object = AtomicResource::on_disk(Arc::clone(&self.disk), &self.record);
        object
            .staged_at(&self.staged)
            .durability(self.durability)
            .write(record.encode())
            .context(IoSnafu {
                action: "record",
                path: &self.record,
            })?;
        self.newest = number;
        Ok(())
    }

    /// Syncs what is written so far, and records nothing: the sync before a commit has less to do then.
    #[cfg_attr(not(feature = "file"), allow(dead_code, reason = "`file` downloads"))]
    pub(super) fn sync_ahead(&mut self, file: &NamedFile) -> Result<(), StreamingError> {
        if self.closed || self.without_files {
            return Ok(());
        }
        self.sync(file)
    }

    /// Gives the file its final name. [`is_closed`](Self::is_closed) tells whether it has it: an error can come after that.
    pub(super) fn finish(&mut self, file: &NamedFile, target: &Path) -> Result<(), StreamingError> {
        // Before the rename: without it a power cut could leave the final name with a file that is empty or has holes.
        self.sync(file)?;
        // `Ordered`: the directory is synced last, after the record is gone, if it is to be synced at all.
        self.disk
            .replace(&self.partial, target, Durability::Ordered)
            .context(IoSnafu {
                action: "commit",
                path: target,
            })?;
        // From here on the resource is committed, whatever fails below.
        self.closed = true;
        self.forget()?;
        match self.durability {
            Durability::Ordered => Ok(()),
            Durability::Full => self.sync_names(target),
        }
    }

    /// Removes the files, the record first.
    pub(super) fn discard(&mut self) -> Result<(), StreamingError> {
        self.closed = true;
        if self.without_files {
            return Ok(());
        }
        // In this order: the file without its record is fetched anew, the record without its file would be believed of the
        // next one.
        self.forget()?;
        self.remove(&self.partial).map(drop)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn refuse_sync_lost(&self) -> Result<(), StreamingError> {
        if self.sync_lost {
            SyncLostSnafu { path: &self.partial }.fail()
        } else {
            Ok(())
        }
    }

    /// Answers whether there was such a file.
    pub(super) fn remove(&self, path: &Path) -> Result<bool, StreamingError> {
        match remove_any(&*self.disk, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true).context(IoSnafu {
                action: "remove",
                path,
            }),
        }
    }

    fn sync(&mut self, file: &NamedFile) -> Result<(), StreamingError> {
        // Refused and not tried again: the answer would be `Ok`.
        self.refuse_sync_lost()?;
        let synced = file.sync();
        self.sync_lost = synced.is_err();
        synced
    }

    fn sync_names(&self, beside: &Path) -> Result<(), StreamingError> {
        // The parent of a bare name is the empty path, which no system opens.
        let dir = match beside.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        self.disk.sync_dir(dir).context(IoSnafu {
            action: "sync",
            path: dir,
        })
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

//! Entries being written.
//!
//! ```text
//!  new      create .stage-<session>-<n> in the asset's directory
//!  write    append, summing each block
//!  commit   append the footer ─▶ fsync ─▶ entry lock ─▶ rename ─▶ fsync directory
//!  drop     remove the staged file
//! ```
//!
//! The fsync must come before the rename. Without it a power cut can leave the final name on a file whose bytes never
//! reached the disk.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::tree::Tree;
use crate::cache::error::{CacheError, Trying as _};
use crate::cache::footer::{self, Sums};
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::store::{Committed, Staged};
use crate::storage::durable::DiskFile;

/// An entry being written to a staged file beside its target.
pub(super) struct FsStaged {
    file: Option<Box<dyn DiskFile>>,
    staged: PathBuf,
    asset: AssetId,
    path: CachePath,
    sums: Sums,
    /// A write failed, and part of it may be in the file.
    failed: bool,
    /// The file has its final name.
    placed: bool,
    tree: Arc<Tree>,
}

impl FsStaged {
    pub(super) fn new(tree: &Arc<Tree>, asset: &AssetId, path: &CachePath) -> Result<Self, CacheError> {
        let dir = tree.ready_dir(asset, tree.durability)?;
        let staged = tree.layout.staged(&dir);
        let file = tree.disk.create_new(&staged).trying("create", &staged)?;
        Ok(Self {
            file: Some(file),
            staged,
            asset: asset.clone(),
            path: path.clone(),
            sums: Sums::default(),
            failed: false,
            placed: false,
            tree: Arc::clone(tree),
        })
    }
}

impl Staged for FsStaged {
    fn write(&mut self, parts: &[Bytes]) -> Result<(), CacheError> {
        let Some(file) = self.file.as_mut().filter(|_| !self.failed) else {
            return Err(CacheError::Abandoned);
        };
        let written = file.append(parts).trying("write", &self.staged);
        self.failed = written.is_err();
        written?;
        for part in parts {
            self.sums.update(part);
        }
        Ok(())
    }

    fn overhead(&self, payload: u64) -> u64 {
        let len = payload.saturating_add(footer::len(&self.asset, &self.path, payload));
        self.tree.room(len).saturating_sub(payload)
    }

    fn commit(mut self: Box<Self>) -> Result<Committed, CacheError> {
        let sums = std::mem::take(&mut self.sums);
        let payload = sums.payload();
        let footer = footer::encode(&self.asset, &self.path, payload, &sums.blocks());
        let bytes = payload + footer.len() as u64;
        // The footer is the last thing written. A file without it is no entry, wherever a crash leaves it.
        self.write(&[footer])?;
        let Some(file) = self.file.take() else {
            return Err(CacheError::Abandoned);
        };
        file.sync().trying("sync", &self.staged)?;
        // Closed before the rename, which some systems refuse for an open file.
        drop(file);

        // Locked from here to the end of the rename, and not while the bytes are synced: two commits of one entry sync side by
        // side and rename one after the other.
        let tree = &self.tree;
        // Asked again: a writer may live for long, and the root may have become another cache's meanwhile.
        tree.may_write()?;
        let target = tree.layout.entry(&self.asset, &self.path);
        let _locked = tree.entry_locks.take(&self.asset, &self.path);
        let rename = || {
            let renamed = tree.disk.replace(&self.staged, &target, tree.durability);
            renamed.trying("rename to", &target)?;
            // Set only if the rename succeeded for certain. After an error it may have happened too: removing the staged name
            // then finds nothing.
            self.placed = true;
            Ok(bytes)
        };
        tree.place(&self.asset, &target, rename)
    }
}

impl Drop for FsStaged {
    fn drop(&mut self) {
        drop(self.file.take());
        if !self.placed {
            let removed = self.tree.disk.remove_file(&self.staged);
            if removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
                // Once more, in case the first try was interrupted. If it fails too, the next session sweeps the file.
                let _ = self.tree.disk.remove_file(&self.staged);
            }
        }
    }
}

impl fmt::Debug for FsStaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsStaged")
            .field("path", &self.path)
            .field("len", &self.sums.payload())
            .finish_non_exhaustive()
    }
}

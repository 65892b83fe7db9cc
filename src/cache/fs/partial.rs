//! Partial entries on the file system: their names, their sizes and their claims.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::claims::PartClaim;
use super::layout::{Layout, Part};
use super::tree::{Tree, absent};
use crate::cache::error::{CacheError, Trying as _};
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::store::{Committed, Partial, PartialPlace};
use crate::storage::Durability;
use crate::storage::durable::Kind;

/// The partial file of an entry.
#[derive(Debug)]
pub(super) struct FsPartial {
    place: PartialPlace,
    stored: u64,
    asset: AssetId,
    path: CachePath,
    claim: PartClaim,
    tree: Arc<Tree>,
}

impl FsPartial {
    /// Claims the file; `None` if it is claimed already.
    pub(super) fn claim(
        tree: &Arc<Tree>,
        asset: &AssetId,
        path: &CachePath,
    ) -> Result<Option<Self>, CacheError> {
        let dir = tree.layout.asset(asset);
        let partial = Layout::partial(&dir, path);
        let Some(claim) = tree.claims.take(&partial) else {
            return Ok(None);
        };
        // Measured under the claim, so that nothing grows or removes the file meanwhile.
        Ok(Some(Self {
            stored: tree.part_bytes(&partial)?,
            place: PartialPlace::new(tree.layout.entry(asset, path), partial, tree.durability)
                .on_disk(Arc::clone(&tree.disk)),
            asset: asset.clone(),
            path: path.clone(),
            claim,
            tree: Arc::clone(tree),
        }))
    }
}

impl Partial for FsPartial {
    fn place(&self) -> &PartialPlace {
        &self.place
    }

    fn stored(&self) -> u64 {
        self.stored
    }

    fn prepare(&self) -> Result<(), CacheError> {
        // Need not be durable before the commit: a power cut may take a partial file, and it is fetched again.
        self.tree.ready_dir(&self.asset, Durability::Ordered).map(drop)
    }

    fn taken_over(&self) {
        self.claim.taken_over();
    }

    fn closing(&self) {
        self.claim.closing();
    }

    fn commit(&self, rename: &mut dyn FnMut() -> Result<u64, CacheError>) -> Result<Committed, CacheError> {
        let tree = &self.tree;
        // Asked again: it is long since the claim, and the root may have become another cache's meanwhile.
        tree.may_write()?;
        let _locked = tree.entry_locks.take(&self.asset, &self.path);
        tree.ready_dir(&self.asset, tree.durability)?;
        tree.place(&self.asset, &self.place.target, rename)
    }
}

impl Tree {
    /// Bytes on disk of a partial file and its record.
    fn part_bytes(&self, partial: &Path) -> Result<u64, CacheError> {
        let (bytes, record) = (
            self.allocated(partial)?,
            self.allocated(&Layout::record_of(partial))?,
        );
        Ok(bytes + record)
    }

    fn allocated(&self, file: &Path) -> Result<u64, CacheError> {
        let allocated = absent(self.disk.allocated(file)).trying("look at", file)?;
        Ok(allocated.unwrap_or(0))
    }

    /// Bytes of one file of a partial entry; 0 if they count with its claim. A file without use is removed: bytes without a
    /// record cannot be trusted, a record without bytes says nothing.
    pub(super) fn scan_part(&self, asset: &AssetId, name: &str, part: Part) -> Result<u64, CacheError> {
        let dir = self.layout.asset(asset);
        let file = dir.join(name);
        let partial = dir.join(Layout::bytes_of(name));
        if self.claims.counts(&partial) {
            return Ok(0);
        }
        let is_of_use = || {
            // A link, a directory: nothing that a source could go on with (fault W52).
            if self.kind(&file)?.is_some_and(|kind| kind != Kind::File) {
                return Ok(false);
            }
            let other = match part {
                Part::Bytes => self.meta(&Layout::record_of(&partial))?,
                Part::Record => self.meta(&partial)?,
                Part::Staged => None,
            };
            Ok(other.is_some())
        };
        if is_of_use()? {
            return self.allocated(&file);
        }
        // The other file may be about to be written by a claim that began since: asked again below, under the claim.
        // Claimed for the removal. Otherwise a source could claim and open the file just before it is removed, and write
        // to a file without a name.
        let Some(_claim) = self.claims.try_take(&partial) else {
            return self.allocated(&file);
        };
        if is_of_use()? {
            return self.allocated(&file);
        }
        // Claimed by another cache, whose lock file was deleted: an open partial file has a lock of its own.
        if self.may_have_company()
            && self.meta(&partial)?.is_some()
            && matches!(self.disk.open_partial(&partial), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        {
            return self.allocated(&file);
        }
        self.sweep_away(&file)
    }
}

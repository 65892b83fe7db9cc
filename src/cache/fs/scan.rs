//! What is found under a root: shards, assets, and the figures of each.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::layout::{Layout, PIN};
use super::trash::is_stuck;
use super::tree::{Found, Tree, absent};
use crate::cache::error::{CacheError, Trying as _};
use crate::cache::footer::Footer;
use crate::cache::id::AssetId;
use crate::cache::path::CachePath;
use crate::cache::store::{AssetInfo, EntryInfo};
use crate::cache::timestamp::Timestamp;
use crate::storage::durable::{Kind, Meta};

/// Whether a name is that of a shard: two hexadecimal digits, the first ones of its assets' names.
fn is_shard(name: &[u8]) -> bool {
    name.len() == 2
        && name
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// What was read; `None` of an asset or a shard that this user may not read. That stops nothing else: what is known of it
/// stays, and what is not is no part of this cache (fault W45).
pub(in crate::cache) fn if_readable<T>(read: Result<T, CacheError>) -> Result<Option<T>, CacheError> {
    match read {
        Err(CacheError::Io { source, path, .. }) if is_stuck(&source) => {
            log::warn!("left out: cannot read {}: {source}", path.display());
            Ok(None)
        }
        read => read.map(Some),
    }
}

impl Tree {
    /// The names in a directory; none if it is absent.
    pub(super) fn names(&self, dir: &Path) -> Result<Vec<OsString>, CacheError> {
        let names = absent(self.disk.read_dir(dir)).trying("list", dir)?;
        Ok(names.unwrap_or_default())
    }

    /// The shards. Other names beside them are none of the cache's. What stands under a shard's name and is no directory, such as
    /// a link to elsewhere, is removed.
    pub(in crate::cache) fn shards(&self) -> Result<Vec<PathBuf>, CacheError> {
        let assets = self.layout.assets();
        let mut names = self.names(&assets)?;
        names.retain(|name| is_shard(name.as_encoded_bytes()));
        let mut shards = Vec::new();
        for name in names {
            let shard = assets.join(name);
            match self.kind(&shard)? {
                Some(Kind::Dir) => shards.push(shard),
                Some(_) => drop(self.sweep_away(&shard)?),
                None => {}
            }
        }
        Ok(shards)
    }

    /// Ids of the assets in one shard directory.
    pub(in crate::cache) fn ids(&self, shard: &Path) -> Result<Vec<AssetId>, CacheError> {
        let names = self.names(shard)?.into_iter();
        let ids = names.filter_map(|name| AssetId::parse_name(name.to_str()?));
        // An asset under another shard's name is not found by its id, so it is none.
        Ok(ids.filter(|id| self.layout.shard(id) == shard).collect())
    }

    /// Reads an asset's directory. Removes the staged files of killed sessions in it.
    pub(in crate::cache) fn scan_asset(&self, asset: &AssetId) -> Result<Option<AssetInfo>, CacheError> {
        let dir = self.layout.asset(asset);
        let Some(meta) = self.meta(&dir)?.filter(|meta| meta.kind == Kind::Dir) else {
            return Ok(None);
        };
        let modified = meta.modified.map(Timestamp::from);
        // No later than any timestamp of this session, also if the clock ran ahead before.
        let last_access = modified.map_or(Timestamp::default(), |at| at.min(self.before));
        let mut info = AssetInfo::new(asset.bare(), 0, 0, last_access);
        info.modified = modified;
        for name in self.names(&dir)? {
            let text = name.to_string_lossy();
            let path = dir.join(&name);
            if let Some(now) = self.layout.is_staged_now(&text) {
                if !now {
                    info.bytes += self.sweep_dead(&path)?;
                    // The removal changed the directory's time, so the one read above is no longer right.
                    info.modified = None;
                }
                continue;
            }
            // Before the other files: a claimed partial file counts with its claim, and an unusable one is removed.
            if let Some(part) = Layout::part(&text) {
                info.bytes += self.scan_part(asset, &text, part)?;
                // A partial file grows, and after a power cut shrinks, without a change of the directory's time.
                info.modified = None;
                continue;
            }
            let Some(meta) = self.meta(&path)? else { continue };
            match meta.kind {
                Kind::File if text == PIN => info.pinned = true,
                Kind::File => info.files += u64::from(CachePath::is_file_name(&text)),
                Kind::Dir | Kind::Other => {}
            }
            info.bytes += self.tree_bytes(&path, meta)?;
        }
        Ok(Some(info).filter(|info| info.bytes > 0 || info.files > 0 || info.pinned))
    }

    /// Bytes of a file, or of all files in a directory.
    pub(in crate::cache) fn tree_bytes(&self, path: &Path, meta: Meta) -> Result<u64, CacheError> {
        match meta.kind {
            Kind::File => Ok(self.room(meta.len)),
            Kind::Other => Ok(0),
            Kind::Dir => {
                let mut bytes = 0;
                for name in self.names(path)? {
                    // What is being written counts as reserved, above.
                    if self.layout.is_staged_now(&name.to_string_lossy()) == Some(true) {
                        continue;
                    }
                    let path = path.join(name);
                    if let Some(meta) = self.meta(&path)? {
                        bytes += self.tree_bytes(&path, meta)?;
                    }
                }
                Ok(bytes)
            }
        }
    }

    /// The names of an asset's files that can be entries. Pins, staged and partial files, and foreign names are none.
    pub(super) fn entry_names(&self, asset: &AssetId) -> Result<Vec<String>, CacheError> {
        let dir = self.layout.asset(asset);
        let names = self.names(&dir)?.into_iter();
        let names = names.filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| CachePath::is_file_name(name)).collect())
    }

    /// What the entry under this name says of itself. A file that belongs under another name is no entry.
    pub(super) fn entry_info(&self, asset: &AssetId, name: &str) -> Result<Option<EntryInfo>, CacheError> {
        let file = self.layout.asset(asset).join(name);
        let Found::Entry(footer) = self.with_entry(&file, |file| Footer::read(&*file))? else {
            return Ok(None);
        };
        let found = footer.names().filter(|(path, _)| path.file_name() == name);
        Ok(found.map(|(path, asset_key)| EntryInfo::new(path, footer.payload, asset_key)))
    }

    /// The id with the key that the first entry tells. The record is asked before the directory is listed: an app that lists
    /// many assets has one for each.
    pub(in crate::cache) fn find_key(&self, asset: &AssetId) -> Result<Option<AssetId>, CacheError> {
        let key_in = |name: &str| -> Result<_, CacheError> {
            let key = self.entry_info(asset, name)?.and_then(|info| info.asset_key);
            Ok(key.and_then(|key| asset.with_key(&key)))
        };
        let found = key_in(&CachePath::record().file_name())?;
        if found.is_some() {
            return Ok(found);
        }
        for name in self.entry_names(asset)? {
            let found = key_in(&name)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

//! Files in a cache that is in memory.
//!
//! Such a cache takes an entry whole or not at all, so a file is gathered beside it first, in the window that readers have
//! anyway: what is longer than the window is not kept.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::fresh::Said;
use super::{Bypass, FileControl, FileError};
use crate::cache::{AssetId, BlockingCache, CacheError, CachePath};
use crate::storage::{Found, StreamingResource, Writer};

/// The place of one file.
pub(super) struct Shelf {
    pub(super) cache: BlockingCache,
    pub(super) asset: AssetId,
    pub(super) path: CachePath,
}

impl Shelf {
    /// Puts the whole file there, and says whether it is kept.
    pub(super) fn put(&self, writer: &Writer<FileError>, len: u64, said: Option<Said>) -> FileControl {
        let Some(bytes) = gather(writer, len) else {
            return FileControl::CacheBypassed {
                reason: Bypass::NoCache,
            };
        };
        match self.cache.put_atomic(&self.asset, &self.path, bytes) {
            Ok(()) => {
                if let Some(said) = said {
                    said.keep(&self.cache, &self.asset, &self.path);
                }
                FileControl::Cached
            }
            Err(error) => {
                log::warn!("not kept in the cache: {error}");
                let reason = Bypass::Refused(Arc::new(error));
                FileControl::CacheBypassed { reason }
            }
        }
    }
}

fn gather(writer: &Writer<FileError>, len: u64) -> Option<Bytes> {
    let mut whole = BytesMut::zeroed(usize::try_from(len).ok()?);
    let mut at = 0;
    while at < whole.len() {
        match writer.read_at(at as u64, whole.get_mut(at..)?) {
            Ok(Found::Bytes(count)) => at += count,
            _ => return None,
        }
    }
    Some(whole.freeze())
}

/// The file as it stands there.
pub(super) fn open(
    cache: &BlockingCache,
    asset: &AssetId,
    path: &CachePath,
) -> Result<Option<StreamingResource<FileError>>, CacheError> {
    let Some(bytes) = cache.get(asset, path)? else {
        return Ok(None);
    };
    let resource = StreamingResource::in_memory(path.as_str());
    let filled = resource.writer().and_then(|mut writer| {
        writer.set_len(bytes.len() as u64)?;
        writer.hold(0, &bytes)
    });
    Ok(filled.is_ok().then_some(resource))
}

//! Where downloads are kept: small entries of one asset of the cache, which is pinned.

use super::{
    DownloadId,
    saved::{Saved, Unreadable},
};
use crate::cache::{AssetCache, AssetId, CacheError, CachePath};

/// The asset of all downloads. An app's own key cannot be it by accident.
fn asset() -> Result<AssetId, CacheError> {
    AssetId::from_key("kithara: the downloads of this cache")
}

fn path(id: &DownloadId) -> CachePath {
    CachePath::from_key(&format!("download?{id}"), None)
}

/// All downloads that were kept. What cannot be read is passed over, and stays where it is: it may be of a later version.
pub(super) async fn load(cache: &AssetCache) -> Result<Vec<Saved>, CacheError> {
    let asset = asset()?;
    let mut found = Vec::new();
    for entry in cache.entries(&asset).await? {
        let Some(bytes) = cache.get(&asset, &entry.path).await? else {
            continue;
        };
        match Saved::read(&bytes) {
            Ok(saved) => found.push(saved),
            Err(Unreadable::Later) => log::warn!("a download of a later version is passed over"),
            Err(Unreadable::Damaged) => log::warn!("a download that cannot be read is passed over"),
        }
    }
    Ok(found)
}

/// Keeps a download, or with `None` forgets it. Durable when this returns.
pub(super) async fn write(
    cache: &AssetCache,
    id: &DownloadId,
    entry: Option<Vec<u8>>,
) -> Result<(), CacheError> {
    let asset = asset()?;
    match entry {
        Some(entry) => {
            // Before the first entry: one that was evicted would be a download that the app does not know any more.
            if !cache.asset(&asset).await?.is_some_and(|info| info.pinned) {
                cache.pin(&asset).await?;
            }
            cache.put_atomic(&asset, &path(id), entry.into()).await
        }
        None => cache.remove_entry(&asset, &path(id)).await.map(drop),
    }
}

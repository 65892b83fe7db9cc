//! Which Variant Streams are whole in the cache, known without a question for each of their segments (fault W37).
//!
//! ```text
//!   whole 12 348160                 how many entries the asset had, of how many bytes
//!   3f…-list.m3u8                   the Media Playlists whose parts and keys were all there
//! ```
//!
//! The rule: **the note counts only while the asset has as many entries and bytes as when it was written.** Whatever is removed,
//! damaged or added since makes it void, and each segment is asked for again.

use bytes::Bytes;

use super::{fetch::Fetcher, track::Track};
use crate::cache::{AssetCache, AssetId, CacheError, CachePath};

/// The Media Playlists noted, if the note counts.
pub(super) async fn noted(fetcher: &Fetcher) -> Vec<String> {
    let noted = async {
        let note = fetcher.own_entry(&path()).await?;
        let (head, rest) = std::str::from_utf8(&note).ok()?.split_once('\n')?;
        let now = head_of(fetcher.cache()?, &fetcher.asset).await.ok()?;
        let playlists = rest.strip_suffix("\nend\n").filter(|_| head == now)?;
        Some(playlists.lines().map(str::to_owned).collect())
    };
    noted.await.unwrap_or_default()
}

/// Whether a track is noted.
pub(super) async fn is_noted(fetcher: &Fetcher, track: &Track) -> bool {
    let noted = noted(fetcher).await;
    let playlist = track.playlist();
    playlist.is_some_and(|playlist| noted.iter().any(|noted| noted == playlist.as_str()))
}

/// Notes that a track is whole, which the caller has found out, beside those that are noted and are whole still.
pub(super) async fn note(fetcher: &Fetcher, track: &Track) -> Result<(), CacheError> {
    let (Some(cache), Some(playlist)) = (fetcher.cache(), track.playlist()) else {
        return Ok(());
    };
    let playlist = playlist.as_str().to_owned();
    let mut playlists = noted(fetcher).await;
    if playlists.contains(&playlist) {
        return Ok(());
    }
    playlists.push(playlist);
    // Twice: the asset is counted with the note, which is of the same length the second time.
    for _ in 0..2 {
        let head = head_of(cache, &fetcher.asset).await?;
        let text = format!("{head}\n{}\nend\n", playlists.join("\n"));
        cache
            .put_atomic(&fetcher.asset, &path(), Bytes::from(text))
            .await?;
    }
    Ok(())
}

fn path() -> CachePath {
    CachePath::from_key("whole", None)
}

async fn head_of(cache: &AssetCache, asset: &AssetId) -> Result<String, CacheError> {
    let info = cache.asset(asset).await?;
    let (files, bytes) = info.map_or((0, 0), |info| (info.files, info.bytes));
    Ok(format!("whole {files:020} {bytes:020}"))
}

//! What the fuzz targets in `fuzz/` reach: only there is `cfg(fuzzing)` set.

use url::Url;

use super::playlist::{self, Playlist, References};

/// Reads `bytes` as a playlist.
///
/// # Panics
///
/// If a segment's range ends before it starts.
pub fn playlist(bytes: &[u8]) {
    let Ok(url) = Url::parse("https://host/a/list.m3u8?token=1") else {
        return;
    };
    let references = References {
        url: &url,
        base: &url,
        imports: None,
    };
    if let Ok(Playlist::Media(media)) = playlist::parse(bytes, &references) {
        for segment in &media.segments {
            assert!(
                segment
                    .locator
                    .range
                    .as_ref()
                    .is_none_or(|range| range.start <= range.end)
            );
        }
    }
}

//! What the fuzz targets in `fuzz/` reach: only there is `cfg(fuzzing)` set.

use url::Url;

use super::playlist::{self, BodyEnd, Playlist, References};

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
    for end in [BodyEnd::Proven, BodyEnd::Unproven] {
        if let Ok(Playlist::Media(media)) = playlist::parse(bytes, &references, end) {
            for segment in &media.segments {
                let range = segment.locator.range.as_ref();
                assert!(range.is_none_or(|range| range.start <= range.end));
            }
        }
    }
}

//! What the targets in `fuzz/` call. Compiled only there, where `cfg(fuzzing)` is set.

use url::Url;

use super::codec;
use super::index;
use super::path::CachePath;

/// Reads `bytes` as a snapshot of the index: as they are, and with a right head and checksum.
///
/// # Panics
///
/// If what was read is not encoded as it was, or cannot be loaded.
pub fn snapshot(bytes: &[u8]) {
    let _ = codec::decode_snapshot(bytes);
    let whole = codec::fuzzing::snapshot(bytes);
    if let Some(snapshot) = codec::decode_snapshot(&whole) {
        assert_eq!(codec::encode_snapshot(&snapshot), whole);
        index::replay(snapshot.rows, Vec::new());
    }
}

/// Reads `bytes` as a journal of the index: as they are, and as records with right heads and checksums. Each record begins
/// with its length in two bytes.
///
/// # Panics
///
/// If what was read is not read again from its encoding, or cannot be loaded.
pub fn journal(bytes: &[u8]) {
    let _ = codec::decode_journal(bytes, 1);
    let whole = codec::fuzzing::journal(1, bytes);
    let changes = codec::decode_journal(&whole, 1);
    let changes = changes.unwrap_or_default();
    let mut again = codec::encode_journal(1);
    for change in &changes {
        codec::encode_change(change, &mut again);
    }
    assert_eq!(codec::decode_journal(&again, 1).as_ref(), Some(&changes));
    assert_eq!(codec::decode_journal(&whole, 2), None, "another generation's");
    index::replay(Vec::new(), changes);
}

/// Parses two lines as paths, and the first as a URL too.
///
/// # Panics
///
/// If a name could leave its asset's directory, or if two paths share one on a file system that ignores case.
pub fn path(text: &str) {
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    let parsed: Vec<CachePath> = [first, second]
        .into_iter()
        .filter_map(|line| CachePath::parse(line).ok())
        .chain(Url::parse(first).ok().map(|url| CachePath::from_url(&url)))
        .chain(
            Url::parse(first)
                .ok()
                .map(|url| CachePath::from_url_range(&url, 0..1)),
        )
        .collect();
    for a in &parsed {
        let name = a.file_name();
        assert_eq!(CachePath::parse(a.as_str()).as_ref().ok(), Some(a));
        assert!(CachePath::is_file_name(&name), "{name}");
        assert!(
            !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && !name.ends_with('.'),
            "{name}"
        );
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_graphic() && !b"/\\:<>\"|?*".contains(&b)),
            "{name}"
        );
        for b in &parsed {
            assert_eq!(
                a == b,
                name.eq_ignore_ascii_case(&b.file_name()),
                "{a:?} and {b:?}"
            );
        }
    }
}

//! The names of entries within their asset.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use url::Url;

use super::error::{CacheError, InvalidPathSnafu};
use super::id::hex;

/// Names an entry of an asset, by segments between slashes. A path is parsed and never repaired.
///
/// Equal texts are the same entry. Different texts never share a file, also on file systems that ignore case. On disk all
/// entries of an asset stand side by side. The file of a path of plain lower-case segments has the path's own name, with `+`
/// for the slash. Any other file is named `~` and a SHA-256, and keeps the path inside.
///
/// ```
/// use kithara::cache::CachePath;
///
/// let path = CachePath::parse("v1/seg-001.m4s")?;
/// assert_eq!(path.as_str(), "v1/seg-001.m4s");
/// assert!(CachePath::parse("../other").is_err());
///
/// let url = url::Url::parse("https://host/live/Seg_7.m4s?token=abc")?;
/// let path = CachePath::from_url(&url);
/// assert!(path.as_str().ends_with("-seg_7.m4s") && !path.as_str().contains("abc"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CachePath {
    text: Arc<str>,
}

/// Longest segment and longest path in bytes.
const MAX_SEGMENT: usize = 255;
const MAX_PATH: usize = 1024;
/// Longest readable segment, and longest readable file name on disk.
const MAX_PLAIN_SEGMENT: usize = 100;
const MAX_PLAIN_NAME: usize = 200;
/// Hexadecimal digits of the hash in a name made from a URL: 160 bits.
const URL_HASH_DIGITS: usize = 40;
/// Longest readable tail of a name made from a URL.
const MAX_TAIL: usize = 56;

impl CachePath {
    /// Parses `/`-separated segments.
    ///
    /// # Errors
    ///
    /// [`CacheError::InvalidPath`] for an empty path or segment (and so for absolute paths), for `.` and `..`, a segment over
    /// 255 bytes or a path over 1024, control characters, any of `\ : < > " | ? *`, and names that some systems reserve
    /// (`con`, `nul`, `com1`…, with any extension, in any case).
    pub fn parse(text: &str) -> Result<Self, CacheError> {
        let too_long = (text.len() > MAX_PATH).then_some("longer than 1024 bytes");
        match too_long.or_else(|| text.split('/').find_map(broken_rule)) {
            Some(reason) => InvalidPathSnafu { reason }.fail(),
            None => Ok(Self { text: text.into() }),
        }
    }

    /// The entry of a URL: a hash of the URL without its fragment and credentials, and a readable tail of its file name.
    ///
    /// URLs that differ in anything else are different entries. The query counts, but cannot be read from the name.
    pub fn from_url(url: &Url) -> Self {
        Self::of_url(url, "")
    }

    /// The entry of a byte range of a URL. It differs from [`from_url`](Self::from_url) and from every other range.
    pub fn from_url_range(url: &Url, range: Range<u64>) -> Self {
        Self::of_url(url, &format!("{}-{}", range.start, range.end))
    }

    /// The entry of a key that the app made of a URL, or of a range of its bytes. Never one of
    /// [`from_url`](Self::from_url): no URL begins as these do.
    #[cfg(any(feature = "file", feature = "hls"))]
    pub(crate) fn from_key(key: &str, range: Option<Range<u64>>) -> Self {
        let range = range.map_or_else(String::new, |range| format!("{}-{}", range.start, range.end));
        // A query may be a secret: it counts, but cannot be read back.
        let file = key.split(['?', '#']).next().unwrap_or_default();
        Self::hashed(&format!("key {key}"), &range, file)
    }

    fn of_url(url: &Url, range: &str) -> Self {
        // As most are: nothing is left out, and nothing is copied.
        if url.fragment().is_none() && url.username().is_empty() && url.password().is_none() {
            return Self::hashed(url.as_str(), range, url.path());
        }
        let mut whole = url.clone();
        whole.set_fragment(None);
        // Whoever asks: the entry is the same. Only URLs that cannot have credentials refuse this.
        let _ = whole.set_username("");
        let _ = whole.set_password(None);
        Self::hashed(whole.as_str(), range, url.path())
    }

    /// A hash of `identity` and `range`, and a readable tail: what follows the last slash of `readable`.
    fn hashed(identity: &str, range: &str, readable: &str) -> Self {
        // A zero between the two: no range and URL together read like another range and URL.
        let mut hasher = Sha256::new();
        hasher.update(range);
        hasher.update([0]);
        hasher.update(identity);
        let digest = hasher.finalize();
        let file = readable.rsplit('/').next().unwrap_or_default();
        // One buffer for the whole name: the playlist of a day makes 20 000 of them before the first byte.
        let mut text = String::with_capacity(URL_HASH_DIGITS + 1 + file.len());
        text.push_str(&hex(digest.get(..URL_HASH_DIGITS / 2).unwrap_or_default()));
        text.push('-');
        let tail = text.len();
        let plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        text.extend(file.chars().map(|c| c.to_ascii_lowercase()).filter(|c| plain(*c)));
        // All of it is ASCII: each byte is a character.
        let too_long = (text.len() - tail).saturating_sub(MAX_TAIL);
        text.replace_range(tail..tail + too_long, "");
        while text.len() > tail && text.ends_with('.') {
            text.pop();
        }
        if text.len() == tail {
            text.pop();
        }
        Self { text: text.into() }
    }

    /// The entry that is an asset's record. It stands under a hash of this name, so a directory is not listed to find it.
    pub(crate) fn record() -> Self {
        Self {
            text: ".record".into(),
        }
    }

    /// The path as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The entry's file name on disk. Different paths have different names, also after lower-casing: no name has an
    /// upper-case letter.
    pub(crate) fn file_name(&self) -> String {
        if self.text.split('/').all(is_plain) && self.text.len() <= MAX_PLAIN_NAME {
            self.text.replace('/', "+")
        } else {
            format!("~{}", hex(&Sha256::digest(self.text.as_bytes())))
        }
    }

    /// Whether `name` can be an entry's file name. The cache's other files and foreign files have none of those.
    pub(crate) fn is_file_name(name: &str) -> bool {
        match name.strip_prefix('~') {
            Some(digits) => {
                digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            }
            None => name.len() <= MAX_PLAIN_NAME && name.split('+').all(is_plain),
        }
    }
}

/// The rule that a segment breaks.
fn broken_rule(segment: &str) -> Option<&'static str> {
    let forbidden = |c: char| c.is_control() || matches!(c, '\\' | ':' | '<' | '>' | '"' | '|' | '?' | '*');
    let rules = [
        (segment.is_empty(), "empty segment"),
        (matches!(segment, "." | ".."), "segment is . or .."),
        (segment.len() > MAX_SEGMENT, "segment longer than 255 bytes"),
        (segment.contains(forbidden), "forbidden character"),
        (is_reserved(segment), "reserved name"),
    ];
    rules
        .into_iter()
        .find_map(|(broken, rule)| broken.then_some(rule))
}

/// Device names of Windows. An extension or a trailing space does not make them harmless.
fn is_reserved(segment: &str) -> bool {
    let stem = segment.split('.').next().unwrap_or_default();
    let stem = stem.trim_end().to_ascii_lowercase();
    let number = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
    let mut rest = number.unwrap_or_default().chars();
    let numbered = matches!(
        (rest.next(), rest.next()),
        (Some('0'..='9' | '¹' | '²' | '³'), None)
    );
    numbered
        || matches!(
            stem.as_str(),
            "con" | "prn" | "aux" | "nul" | "conin$" | "conout$"
        )
}

/// Whether the segment is `[a-z0-9_-][a-z0-9._-]{0,99}` and does not end in a dot: the same name on every file system.
fn is_plain(segment: &str) -> bool {
    segment.len() <= MAX_PLAIN_SEGMENT
        && !segment.is_empty()
        && !segment.starts_with('.')
        && !segment.ends_with('.')
        && segment
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

impl fmt::Debug for CachePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachePath({})", self.text)
    }
}

impl fmt::Display for CachePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// C1, fault C8. (`x.tmp` needs no rule: staged files begin with a dot, and no entry's file name does.)
    #[test]
    fn what_is_no_path_is_refused_and_not_repaired() {
        let long = "s".repeat(256);
        let deep = "s/".repeat(512) + "s";
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "./a", "a/./b", "a\0b", "a\nb", "C:", "c:/x",
            "a\\b", "CON", "con.txt", "a/NUL", "com1", "LPT9.log", "nul .x", "a?b", "a*b", &long, &deep,
        ] {
            assert!(
                matches!(CachePath::parse(bad), Err(CacheError::InvalidPath { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn plain_paths_stay_readable_on_disk() {
        for (text, name) in [
            ("seg-1.m4s", "seg-1.m4s"),
            ("v1/seg.ts", "v1+seg.ts"),
            ("x.tmp", "x.tmp"),
        ] {
            assert_eq!(CachePath::parse(text).unwrap().file_name(), name);
        }
        for text in [
            "Seg.ts",
            "a b",
            "a+b",
            "~x",
            ".hidden",
            "end.",
            "ü",
            &"a".repeat(101),
            &"a/".repeat(110).replace("//", "/")[..219],
        ] {
            let name = CachePath::parse(text).unwrap().file_name();
            assert!(name.starts_with('~') && name.len() == 65, "{text:?} {name}");
        }
    }

    /// Fault C7, C14.
    #[test]
    fn urls_that_differ_only_in_the_query_are_different_entries_and_no_query_is_readable() {
        let parse = |text: &str| CachePath::from_url(&Url::parse(text).unwrap());
        let a = parse("https://h/x/Seg 1.M4S?token=topsecret");
        assert_ne!(a, parse("https://h/x/Seg 1.M4S?token=other"));
        assert_eq!(a, parse("https://h/x/Seg 1.M4S?token=topsecret#t=1"));
        assert!(!format!("{a} {a:?} {}", a.file_name()).contains("secret"));
        let url = Url::parse("https://h/x.mp4").unwrap();
        assert_ne!(CachePath::from_url(&url), CachePath::from_url_range(&url, 0..10));
        assert_ne!(
            CachePath::from_url_range(&url, 1..10),
            CachePath::from_url_range(&url, 1..100)
        );
        for text in [
            "https://h/",
            "https://h/..%2f",
            "https://h/a...",
            "https://h/%00",
            "https://h/CON",
        ] {
            let path = parse(text);
            assert_eq!(CachePath::parse(path.as_str()).unwrap(), path, "{text}");
            assert_eq!(path.file_name(), path.as_str(), "{text}");
        }
    }

    fn texts() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            "[a-c.+~_]{1,4}",
            "[a-bA-B]{1,3}",
            "[a-z0-9_-][a-z0-9._-]{0,99}",
            "\\PC{1,12}",
            "[a-z]{95,110}",
            "~[0-9a-f]{64}",
        ];
        proptest::collection::vec(segment, 1..5).prop_map(|segments| segments.join("/"))
    }

    proptest! {
        /// C1: injective under ASCII lower-casing, and never out of the asset's folder.
        #[test]
        fn different_paths_never_share_a_file(a in texts(), b in texts()) {
            let (Ok(pa), Ok(pb)) = (CachePath::parse(&a), CachePath::parse(&b)) else { return Ok(()) };
            let (fa, fb) = (pa.file_name(), pb.file_name());
            prop_assert_eq!(a == b, fa.eq_ignore_ascii_case(&fb));
            for name in [fa, fb] {
                prop_assert!(name.len() <= 200 && !name.starts_with('.') && !name.ends_with('.'));
                prop_assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'+' | b'~')));
                prop_assert!(CachePath::is_file_name(&name));
            }
        }
    }
}

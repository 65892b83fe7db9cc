//! Editions of a track: what a publisher puts under the same URLs at another time.
//!
//! ```text
//!   editions     current, next                    one small entry, made with the second edition
//!   current      list.m3u8   0.ts   1.ts   …      plain names: the first edition ever seen
//!   next         «id» list.m3u8   «id» 0.ts   …   names of their own, so that no byte takes another's place
//! ```
//!
//! The rule: **bytes of two editions never stand under one name.** The server has one edition, the newest; online it plays.
//! Offline the newest one that is whole plays. When the next one is whole it becomes the current one, and the entries of the
//! old one are removed.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::cache::CachePath;

/// Which edition entries belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EditionId(Arc<str>);

impl EditionId {
    /// The same for all who see the same edition: two sources that find it at one time keep it under one name.
    pub(super) fn of(facts: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut hasher = Sha256::new();
        for fact in facts {
            hasher.update(fact.len().to_le_bytes());
            hasher.update(fact);
        }
        let digest = hasher.finalize();
        let start: u64 = digest
            .iter()
            .take(8)
            .fold(0, |id, byte| id << 8 | u64::from(*byte));
        Self(format!("{start:016x}").into())
    }

    /// The name that this edition's entry has in place of `path`.
    pub(super) fn entry(&self, path: &CachePath) -> CachePath {
        CachePath::from_key(&format!("edition {} {}", self.0, path.as_str()), None)
    }

    fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| Self(text.into()))
    }
}

/// Which editions the cache has. `None` is the one under plain names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Editions {
    /// The one that plays offline, unless the next one is whole.
    pub(super) current: Option<EditionId>,
    /// The one that the server has, while it is not whole.
    pub(super) next: Option<EditionId>,
}

impl Editions {
    /// The one that the server had when it was last asked.
    pub(super) fn newest(&self) -> Option<&EditionId> {
        self.next.as_ref().or(self.current.as_ref())
    }

    /// As an entry.
    pub(super) fn write(&self) -> Bytes {
        let text = |id: &Option<EditionId>| id.as_ref().map_or("-".into(), |id| id.0.clone());
        format!("editions {} {} end\n", text(&self.current), text(&self.next)).into()
    }

    /// From an entry; `None` if it is none, or cut.
    pub(super) fn read(entry: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(entry).ok()?.strip_prefix("editions ")?;
        let (current, next) = text.strip_suffix(" end\n")?.split_once(' ')?;
        // A text that is no edition's is none's: `-`.
        Some(Self {
            current: EditionId::parse(current),
            next: EditionId::parse(next),
        })
    }
}

/// What a server says of an initialization section or of a first segment: enough to tell another edition under the same list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Witness {
    etag: Option<String>,
    modified: Option<String>,
    len: Option<u64>,
}

impl Witness {
    /// Of an answer for a file of `len` bytes in all.
    pub(super) fn of(headers: &HeaderMap, len: Option<u64>) -> Self {
        let text = |name| {
            let value = headers.get(name)?.to_str().ok()?;
            (!value.contains('\t')).then(|| value.to_owned())
        };
        Self {
            etag: text("etag"),
            modified: text("last-modified"),
            len,
        }
    }

    /// Whether the two cannot be of one file. What only one of them says is no contradiction.
    pub(super) fn contradicts(&self, other: &Self) -> bool {
        let differ = |one: &Option<String>, other: &Option<String>| match (one, other) {
            (Some(one), Some(other)) => Some(one != other),
            _ => None,
        };
        if let (Some(len), Some(other)) = (self.len, other.len)
            && len != other
        {
            return true;
        }
        // Nodes of one host may make their tags themselves: the same date and length mean the same file, whatever its tag.
        let of_date = differ(&self.modified, &other.modified);
        match differ(&self.etag, &other.etag) {
            Some(false) => false,
            Some(true) => of_date != Some(false),
            None => of_date == Some(true),
        }
    }

    /// Whether both say how long the file is, and the same.
    pub(super) fn is_as_long_as(&self, other: &Self) -> bool {
        self.len.is_some() && self.len == other.len
    }

    /// As an entry.
    pub(super) fn write(&self) -> Bytes {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let len = self.len.map_or(String::new(), |len| len.to_string());
        format!(
            "witness {}\t{}\t{len} end\n",
            text(&self.etag),
            text(&self.modified)
        )
        .into()
    }

    /// From an entry; `None` if it is none, or cut.
    pub(super) fn read(entry: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(entry).ok()?.strip_prefix("witness ")?;
        let (etag, rest) = text.strip_suffix(" end\n")?.split_once('\t')?;
        let (modified, len) = rest.split_once('\t')?;
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Some(Self {
            etag: text(etag),
            modified: text(modified),
            len: if len.is_empty() {
                None
            } else {
                Some(len.parse().ok()?)
            },
        })
    }
}

/// Which file of a Media Playlist tells editions apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum WitnessPlace {
    Section,
    FirstSegment,
}

impl WitnessPlace {
    pub(super) const ALL: [Self; 2] = [Self::Section, Self::FirstSegment];

    /// The entry that keeps what the server said.
    pub(super) fn path(self, playlist: &CachePath) -> CachePath {
        CachePath::from_key(&format!("{self:?}-witness?{}", playlist.as_str()), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(etag: &str, modified: &str, len: u64) -> Witness {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Witness {
            etag: text(etag),
            modified: text(modified),
            len: Some(len).filter(|len| *len > 0),
        }
    }

    #[test]
    fn entries_come_back_and_cut_ones_are_none() {
        let (a, b) = (EditionId::of([vec![1]]), EditionId::of([vec![2]]));
        assert_ne!(a, b);
        assert_ne!(EditionId::of([vec![1], vec![]]), EditionId::of([vec![], vec![1]]));
        for editions in [
            Editions::default(),
            Editions {
                current: None,
                next: Some(a.clone()),
            },
            Editions {
                current: Some(a),
                next: Some(b),
            },
        ] {
            let entry = editions.write();
            assert_eq!(Editions::read(&entry), Some(editions));
            for end in 0..entry.len() {
                assert_eq!(Editions::read(&entry[..end]), None);
            }
        }
        for witness in [
            Witness::default(),
            witness("\"1\"", "", 0),
            witness("", "Mon, 30 Nov", 7),
        ] {
            let entry = witness.write();
            assert_eq!(Witness::read(&entry), Some(witness));
            for end in 0..entry.len() {
                assert_eq!(Witness::read(&entry[..end]), None);
            }
        }
    }

    /// H9: the validators, else the length.
    #[test]
    fn only_what_both_say_can_contradict() {
        let old = witness("\"1\"", "then", 7);
        assert!(!old.contradicts(&old));
        assert!(old.contradicts(&witness("\"1\"", "then", 8)));
        assert!(old.contradicts(&witness("\"2\"", "now", 7)));
        assert!(old.contradicts(&witness("\"2\"", "", 7)));
        assert!(old.contradicts(&witness("", "now", 0)));
        // A node's own tag.
        assert!(!old.contradicts(&witness("\"2\"", "then", 7)));
        // A file that was touched.
        assert!(!old.contradicts(&witness("\"1\"", "now", 7)));
        assert!(!old.contradicts(&witness("", "", 7)));
        assert!(!old.contradicts(&witness("", "", 0)));
    }
}

//! The identity of assets.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use url::Url;

use super::error::{CacheError, InvalidKeySnafu};

/// Identifies an asset: a track, an episode, an album's stream.
///
/// Equality and the name of the asset's directory come from a SHA-256 of the identity, so two assets never share a directory.
/// The readable identity is kept beside it and is stored with the entries for listings. It appears in no file name and not
/// in `Debug`.
///
/// ```
/// use kithara::cache::AssetId;
/// use url::Url;
///
/// let a = AssetId::from_url(&Url::parse("https://host/track.m3u8?token=1#t=3")?);
/// let b = AssetId::from_url(&Url::parse("https://host:443/track.m3u8?token=2")?);
/// assert_eq!(a, b);
/// assert_eq!(a.key(), Some("https://host/track.m3u8"));
///
/// // Where the query *is* the identity, make a key of your own.
/// let c = AssetId::from_key("stream.php?track=17")?;
/// assert_ne!(a, c);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AssetId {
    hash: [u8; 32],
    key: Option<Arc<str>>,
}

/// Longest key in bytes.
const MAX_KEY: usize = 2048;

impl AssetId {
    /// The asset at a URL. Scheme, host, port and path count; query, fragment and credentials do not.
    pub fn from_url(url: &Url) -> Self {
        let mut canonical = url.clone();
        canonical.set_query(None);
        canonical.set_fragment(None);
        // Fails only for URLs that cannot hold credentials.
        let _ = canonical.set_username("");
        let _ = canonical.set_password(None);
        // The kind is hashed along, so that a key which reads like a URL is another asset.
        Self::hashed("url", canonical.as_str())
    }

    /// The asset of an app's own key. A key and a URL never name the same asset.
    ///
    /// # Errors
    ///
    /// [`CacheError::InvalidKey`] if the key is empty, longer than 2048 bytes or holds control characters.
    pub fn from_key(key: &str) -> Result<Self, CacheError> {
        let rules = [
            (key.is_empty(), "empty"),
            (key.len() > MAX_KEY, "longer than 2048 bytes"),
            (key.chars().any(char::is_control), "holds a control character"),
        ];
        if let Some((_, reason)) = rules.into_iter().find(|(broken, _)| *broken) {
            return InvalidKeySnafu { reason }.fail();
        }
        Ok(Self::hashed("key", key))
    }

    /// The asset with this name on disk: 64 lower-case hexadecimal digits, as [`name`](Self::name) returns them.
    ///
    /// # Errors
    ///
    /// [`CacheError::InvalidKey`] if the text is no such name.
    pub fn from_name(name: &str) -> Result<Self, CacheError> {
        Self::parse_name(name).ok_or(CacheError::InvalidKey {
            reason: "not 64 lower-case hexadecimal digits",
        })
    }

    pub(crate) fn parse_name(name: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let digits = name.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            for &digit in pair {
                let value = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return None,
                };
                *byte = *byte << 4 | value;
            }
        }
        Some(Self { hash, key: None })
    }

    pub(crate) fn from_hash(hash: [u8; 32]) -> Self {
        Self { hash, key: None }
    }

    fn hashed(kind: &str, key: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(kind);
        hasher.update([0]);
        hasher.update(key);
        Self {
            hash: hasher.finalize().into(),
            key: Some(key.into()),
        }
    }

    /// The URL or key that this id was made from; `None` if it was made from a name on disk.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The asset's directory name: 64 hexadecimal digits.
    pub fn name(&self) -> String {
        hex(&self.hash)
    }

    pub(crate) fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The same id with its readable key, if `key` is that: what a file says may be anything.
    pub(crate) fn with_key(&self, key: &str) -> Option<Self> {
        let both = ["url", "key"].map(|kind| Self::hashed(kind, key));
        both.into_iter().find(|id| id == self)
    }

    /// The same id without its readable key, for tables that hold very many ids.
    pub(crate) fn bare(&self) -> Self {
        Self::from_hash(self.hash)
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    // In one buffer and not character by character: a scan makes a hundred thousand names.
    let mut digits = vec![0; bytes.len() * 2];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    // Digits are UTF-8.
    String::from_utf8(digits).unwrap_or_default()
}

impl PartialEq for AssetId {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for AssetId {}

impl Hash for AssetId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Without a length before it, which all ids share.
        state.write(&self.hash);
    }
}

/// Hashes ids by mixing eight of their bytes with a random key. Ids are hashes already; the key keeps chosen ones from
/// colliding.
#[derive(Clone)]
pub(crate) struct IdHasher {
    key: u64,
}

impl Default for IdHasher {
    fn default() -> Self {
        Self {
            key: RandomState::new().build_hasher().finish(),
        }
    }
}

impl BuildHasher for IdHasher {
    type Hasher = IdHash;

    fn build_hasher(&self) -> IdHash {
        IdHash(self.key)
    }
}

/// The hasher of [`IdHasher`].
pub(crate) struct IdHash(u64);

impl Hasher for IdHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some((word, _)) = bytes.split_first_chunk() {
            // An odd multiplier and a fold: every bit of the word reaches the low bits, which pick the bucket.
            let product = (u64::from_le_bytes(*word) ^ self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = product ^ (product >> 32);
        }
    }
}

impl fmt::Debug for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssetId({})", self.hash.get(..6).map(hex).unwrap_or_default())
    }
}

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> AssetId {
        AssetId::from_url(&Url::parse(text).unwrap())
    }

    /// C1, fault C7.
    #[test]
    fn a_rotated_token_is_the_same_asset_and_another_path_is_not() {
        assert_eq!(url("https://h/a.m3u8?t=1"), url("https://u:p@h:443/a.m3u8?t=2#x"));
        for other in [
            "https://h/b.m3u8",
            "http://h/a.m3u8",
            "https://h:444/a.m3u8",
            "https://i/a.m3u8",
            "https://h/A.m3u8",
        ] {
            assert_ne!(url("https://h/a.m3u8"), url(other), "{other}");
        }
        assert_ne!(url("https://h/a"), AssetId::from_key("https://h/a").unwrap());
    }

    /// Fault C6.
    #[test]
    fn a_directory_is_named_by_the_whole_hash() {
        let id = AssetId::from_key("track").unwrap();
        assert_eq!(id.name().len(), 64);
        assert_eq!(AssetId::from_name(&id.name()).unwrap(), id);
        for bad in ["", "abc", &"g".repeat(64), &id.name().to_uppercase()] {
            assert!(AssetId::from_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_keys_are_refused() {
        for bad in ["", "a\0b", "a\nb", &"k".repeat(2049)] {
            assert!(
                matches!(AssetId::from_key(bad), Err(CacheError::InvalidKey { .. })),
                "{bad:?}"
            );
        }
    }

    /// C14.
    #[test]
    fn debug_does_not_show_the_key() {
        let id = AssetId::from_key("secret?token=abc").unwrap();
        assert!(!format!("{id:?} {id}").contains("secret"));
    }
}

//! Whether a file that is complete in the cache is still the one on the server.
//!
//! What the server said of the file when it was fetched stands beside the file, as a small entry of its own. It is
//! written after the file: a session that is killed in between has a file fetched once too often, never an old one
//! taken for the new.
//!
//! The question is the client's own request: it waits for one of the host's connections like any other, which counts as
//! silence, and ends with whoever opens the file.

use std::time::Duration;

use bytes::Bytes;
use snafu::IntoError as _;

use super::FileError;
use super::error::NetSnafu;
use crate::cache::{AssetId, BlockingCache, CachePath};
use crate::net::{ByteRange, HeaderMap, HttpClient, NetError, Request, Response, Url, redacted};
use crate::rt;

/// A server that takes longer to say whether the file is the same is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// `ETag` and `Last-Modified`, as sent. Weak ones too: what is compared is what is shown, not bytes to be joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredValidators {
    tag: String,
    modified: String,
}

impl StoredValidators {
    /// `None` if the server says nothing that another response could contradict.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let stored = Self {
            tag: text("etag").unwrap_or_default().to_owned(),
            modified: text("last-modified").unwrap_or_default().to_owned(),
        };
        (stored.tag.len() + stored.modified.len() > 0).then_some(stored)
    }

    fn encode(&self) -> Bytes {
        format!("{}\n{}", self.tag, self.modified).into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, modified) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        Some(Self {
            tag: tag.to_owned(),
            modified: modified.to_owned(),
        })
    }

    /// Whether a response is of the file that this was said of. A tag decides alone.
    fn matches(&self, headers: &HeaderMap) -> bool {
        let now = Self::of(headers);
        now.is_some_and(|now| match (self.tag.is_empty(), now.tag.is_empty()) {
            (false, false) => self.tag == now.tag,
            _ => self.modified == now.modified,
        })
    }

    /// Keeps it for later sessions. Blocks.
    pub(super) fn store(&self, cache: &BlockingCache, asset: &AssetId, path: &CachePath) {
        let load = beside(path).map(|beside| cache.put_atomic(asset, &beside, self.encode()));
        if let Some(Err(error)) = load {
            log::warn!("the file will be fetched again: {error}");
        }
    }

    /// What was kept. Blocks.
    pub(super) fn load(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Option<Self> {
        Self::decode(&cache.get(asset, &beside(path)?).ok()??)
    }
}

fn beside(path: &CachePath) -> Option<CachePath> {
    CachePath::parse(&format!("{}~http", path.as_str())).ok()
}

/// Asks, once, whether the file of `len` bytes of which `said` was said is still the one.
///
/// `true` as well if the server cannot be reached or is not well: the file that is there plays.
///
/// # Errors
///
/// [`FileError::Net`] if the server refuses, or has no such file any more.
pub(super) async fn is_unchanged(
    client: &HttpClient,
    url: &Url,
    stored: Option<&StoredValidators>,
    len: u64,
) -> Result<bool, FileError> {
    // One byte, if the file is another one: the connection can be used again.
    let mut request = Request::get(url.clone()).range(ByteRange::new(0, 1));
    match stored {
        Some(stored) if !stored.tag.is_empty() => request = request.header("if-none-match", &stored.tag),
        Some(stored) => request = request.header("if-modified-since", &stored.modified),
        None => {}
    }
    let answer = async { Some(client.send_once(request).await) };
    let patience = async {
        rt::sleep(PATIENCE).await;
        None
    };
    let same = |response: &Response| {
        let same_validators = stored.is_none_or(|stored| stored.matches(response.headers()));
        same_validators && response.total_length().is_none_or(|total| total == len)
    };
    match futures_lite::future::or(answer, patience).await {
        None | Some(Err(NetError::Status { status: 304, .. })) => Ok(true),
        Some(Ok(response)) => Ok(same(&response)),
        // Shorter than a byte by now, or no range can be had: it is another file than before.
        Some(Err(NetError::RangeNotSatisfiable { .. })) => Ok(len == 0),
        Some(Err(error)) if error.is_transient() => {
            log::info!("{error}; what is in the cache plays");
            Ok(true)
        }
        Some(Err(error)) => Err(NetSnafu { url: redacted(url) }.into_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(tag: &'static str, modified: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [("etag", tag), ("last-modified", modified)] {
            if !value.is_empty() {
                headers.insert(name, value.parse().unwrap());
            }
        }
        headers
    }

    #[test]
    fn what_was_said_reads_back_and_is_compared_by_its_tag() {
        assert_eq!(StoredValidators::of(&headers("", "")), None);
        let stored = StoredValidators::of(&headers("W/\"a\"", "Monday")).unwrap();
        assert_eq!(StoredValidators::decode(&stored.encode()), Some(stored.clone()));
        assert!(stored.matches(&headers("W/\"a\"", "Tuesday")));
        assert!(!stored.matches(&headers("W/\"b\"", "Monday")));
        assert!(stored.matches(&headers("", "Monday")));
        assert!(!stored.matches(&headers("", "Tuesday")));
        assert!(!stored.matches(&headers("", "")), "nothing speaks for it");
        assert_eq!(StoredValidators::decode(b"nonsense"), None);
    }
}

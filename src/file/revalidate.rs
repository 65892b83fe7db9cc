//! Revalidation: asking the server whether a complete file in the cache is still the same.
//!
//! The server's validators at the time of the download are stored beside the file, as a small entry of its own. That entry is
//! written after the file's commit: a process that is killed in between leaves a file that is downloaded once more than
//! needed, and never an old file that passes for the new one.
//!
//! The question is a request of the client like any other. It waits for a connection to the host, within the limit for the
//! answer, and ends with the future that opens the file.

use std::time::Duration;

use bytes::Bytes;

use super::{FileError, SameFile};
use crate::cache::{AssetId, BlockingCache, CachePath};
use crate::net::{ByteRange, HeaderMap, HttpClient, NetError, Request, Response};
use crate::rt;

/// The most time for the answer. A slower server counts as one that cannot be reached: the file in the cache plays.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// `ETag` and `Last-Modified`, as sent. Weak ones count too: no bytes of two responses are joined here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredValidators {
    etag: String,
    last_modified: String,
    /// The app's own key.
    key: String,
}

impl StoredValidators {
    /// `None` if the server sent neither, and the app has no key of its own for the answer.
    pub(super) fn of(headers: &HeaderMap, same_file: &SameFile) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let validators = Self {
            etag: text("etag").unwrap_or_default().to_owned(),
            last_modified: text("last-modified").unwrap_or_default().to_owned(),
            key: same_file.key(headers).unwrap_or_default(),
        };
        let is_empty = [&validators.etag, &validators.last_modified, &validators.key]
            .iter()
            .all(|text| text.is_empty());
        (!is_empty).then_some(validators)
    }

    fn encode(&self) -> Bytes {
        format!("{}\n{}\n{}", self.etag, self.last_modified, self.key).into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (etag, rest) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        // The key last: it is the app's, and may hold anything.
        let (last_modified, key) = rest.split_once('\n').unwrap_or((rest, ""));
        Some(Self {
            etag: etag.to_owned(),
            last_modified: last_modified.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Whether a response is of the same file. Two `ETag`s decide alone.
    fn matches(&self, headers: &HeaderMap, same_file: &SameFile) -> bool {
        let now = Self::of(headers, same_file);
        if !same_file.is_by_validators() {
            // The length is compared in any case.
            let now = now.map(|now| now.key).unwrap_or_default();
            return self.key.is_empty() || now.is_empty() || self.key == now;
        }
        // A server that tells neither any more proves nothing: the file is downloaded anew.
        now.is_some_and(|now| match (self.etag.is_empty(), now.etag.is_empty()) {
            (false, false) => self.etag == now.etag,
            _ => self.last_modified == now.last_modified,
        })
    }

    /// Stores them beside the file, for later sessions. Blocks.
    pub(super) fn store(&self, cache: &BlockingCache, asset: &AssetId, path: &CachePath) {
        let stored = entry_path(path).map(|path| cache.put_atomic(asset, &path, self.encode()));
        if let Some(Err(error)) = stored {
            log::warn!("the file will be downloaded again: {error}");
        }
    }

    /// What an earlier session stored. Blocks.
    pub(super) fn load(cache: &BlockingCache, asset: &AssetId, path: &CachePath) -> Option<Self> {
        Self::decode(&cache.get(asset, &entry_path(path)?).ok()??)
    }
}

/// The name of the validators' entry, of which the file's name is the beginning.
fn entry_path(path: &CachePath) -> Option<CachePath> {
    CachePath::parse(&format!("{}~http", path.as_str())).ok()
}

/// Asks once whether the file of `len` bytes is still the same. `true` also if the server cannot be reached or is not
/// well: then the file in the cache plays.
///
/// # Errors
///
/// [`FileError::Net`] if the server refuses, or has no such file any more.
pub(super) async fn is_unchanged(
    client: &HttpClient,
    request: Request,
    stored: Option<&StoredValidators>,
    len: u64,
    same_file: &SameFile,
) -> Result<bool, FileError> {
    // A changed file comes as one byte, and its connection can be used again.
    let mut request = request.range(ByteRange::new(0, 1)).optional_range();
    // A condition on validators would be answered by them, and not by what the app goes by.
    match stored.filter(|_| same_file.is_by_validators()) {
        Some(stored) if !stored.etag.is_empty() => request = request.header("if-none-match", &stored.etag),
        Some(stored) => request = request.header("if-modified-since", &stored.last_modified),
        None => {}
    }
    // Once: retries would only delay a file that is there to be played.
    let answer = async { Some(client.send_once(request).await) };
    let limit = async {
        rt::sleep(ANSWER_LIMIT).await;
        None
    };
    let is_same = |response: &Response| {
        let same_validators = stored.is_none_or(|stored| stored.matches(response.headers(), same_file));
        same_validators && response.total_length().is_none_or(|total| total == len)
    };
    match futures_lite::future::or(answer, limit).await {
        None | Some(Err(NetError::Status { status: 304, .. })) => Ok(true),
        Some(Ok(response)) => Ok(is_same(&response)),
        // The first byte does not exist: the file on the server is empty now.
        Some(Err(NetError::RangeNotSatisfiable { .. })) => Ok(len == 0),
        // A status of success that stands for no file says no more about this one than 5xx does.
        Some(Err(error)) if error.is_transient() || error.status().is_some_and(|status| status < 400) => {
            log::info!("{error}; the file in the cache plays");
            Ok(true)
        }
        Some(Err(error)) => Err(error.into()),
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
    fn validators_read_back_and_two_etags_decide_alone() {
        let by_validators = &SameFile::by_validators();
        assert_eq!(StoredValidators::of(&headers("", ""), by_validators), None);
        let stored = StoredValidators::of(&headers("W/\"a\"", "Monday"), by_validators).unwrap();
        assert_eq!(StoredValidators::decode(&stored.encode()), Some(stored.clone()));
        assert!(stored.matches(&headers("W/\"a\"", "Tuesday"), by_validators));
        assert!(!stored.matches(&headers("W/\"b\"", "Monday"), by_validators));
        assert!(stored.matches(&headers("", "Monday"), by_validators));
        assert!(!stored.matches(&headers("", "Tuesday"), by_validators));
        assert!(
            !stored.matches(&headers("", ""), by_validators),
            "nothing proves it"
        );
        assert_eq!(StoredValidators::decode(b"nonsense"), None);
        // As it was stored before there were keys.
        let old = StoredValidators::decode(b"W/\"a\"\nMonday");
        assert_eq!(old, Some(stored.clone()));
        assert!(stored.matches(&headers("W/\"b\"", "Tuesday"), &SameFile::by_length()));
    }
}

//! `data:` URIs (RFC 2397): playlists, keys, sections and segments whose bytes stand in a playlist.
//!
//! Their bytes are decoded where others are fetched. They are there offline too, and the cache keeps no second copy.

use bytes::Bytes;
use data_url::{
    DataUrl,
    forgiving_base64::{DecodeError, InvalidBase64},
};

use super::{HlsError, Resource};
use crate::net::Url;

/// Whether a resource's bytes stand in its URL.
pub(super) fn is_inline(url: &Url) -> bool {
    url.scheme() == "data"
}

/// The bytes that stand in `url`, at most `limit`; `None` for a URL of another scheme.
///
/// # Errors
///
/// `DataUri`.
pub(super) fn decode(resource: &Resource, url: &Url, limit: usize) -> Result<Option<Bytes>, HlsError> {
    if !is_inline(url) {
        return Ok(None);
    }
    let failed = |problem| HlsError::DataUri {
        resource: resource.clone(),
        problem,
    };
    let Ok(data) = DataUrl::process(url.as_str()) else {
        return Err(failed("there is no comma before the bytes"));
    };
    let mut bytes = Vec::new();
    let decoded = data.decode(|piece| {
        if piece.len() > limit - bytes.len() {
            return Err(());
        }
        bytes.extend_from_slice(piece);
        Ok(())
    });
    match decoded {
        // The fragment is no part of the bytes.
        Ok(_) => Ok(Some(bytes.into())),
        Err(DecodeError::WriteError(())) => Err(failed("it is larger than the limit")),
        Err(DecodeError::InvalidBase64(InvalidBase64 { .. })) => Err(failed("it is not base64")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::ResourceKind;

    fn bytes(text: &str, limit: usize) -> Result<Option<Bytes>, &'static str> {
        let url = Url::parse(text).unwrap();
        decode(&Resource::new(ResourceKind::Key, &url), &url, limit).map_err(|error| match error {
            HlsError::DataUri { problem, .. } => problem,
            other => panic!("{other}"),
        })
    }

    /// Fault W33.
    #[test]
    fn both_encodings_are_decoded() {
        for (text, expected) in [
            (
                "data:text/plain;base64,c2VjcmV0LWtleS0xNmJ5dA==",
                "secret-key-16byt",
            ),
            ("data:;charset=utf-8;BASE64,c2VjcmV0", "secret"),
            ("data:;base64,c2Vj%20cmV0#fragment", "secret"),
            ("data:;base64,c2VjcmV0LQ", "secret-"),
            ("data:,a%20b%2Cc,d?e", "a b,c,d?e"),
            ("data:text/plain;x=\"a\",b#c", "b"),
            ("data:,", ""),
        ] {
            assert_eq!(bytes(text, 64).unwrap().unwrap(), expected, "{text}");
        }
        assert_eq!(bytes("data:,%00%ff", 2).unwrap().unwrap(), b"\0\xff"[..]);
        assert_eq!(bytes("http://h/data:,a", 9), Ok(None));
    }

    #[test]
    fn what_cannot_be_decoded_says_why() {
        assert_eq!(
            bytes("data:;base64", 9),
            Err("there is no comma before the bytes")
        );
        assert_eq!(bytes("data:;base64,c2V", 9).unwrap().unwrap(), "se");
        assert_eq!(bytes("data:;base64,c2VjcmV0L", 9), Err("it is not base64"));
        assert_eq!(bytes("data:;base64,!", 9), Err("it is not base64"));
        assert_eq!(bytes("data:,12345", 4), Err("it is larger than the limit"));
        assert_eq!(
            bytes("data:;base64,c2VjcmV0", 5),
            Err("it is larger than the limit")
        );
    }
}

//! Framing: how the end of a body is known (RFC 9112, section 6.3).
//!
//! hyper takes the framing apart where the last transfer coding is `chunked`. Where it is another one, hyper reads to the
//! close of the connection and leaves the coding in: the bytes would be those of a gzip file, or chunk sizes between
//! samples, and the close would look like their end. So codings are looked at here, before a byte is taken.

use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use url::Url;

use super::error::{UnexpectedTransferCodingSnafu, shown_word};
use super::{NetError, redacted};

/// What ends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// It has so many bytes.
    Length(u64),
    /// The last chunk.
    Chunked,
    /// The close of the connection, which may be a failure as well.
    Connection,
}

impl Framing {
    /// `on_wire` is the length by which the body is read.
    pub(super) fn of(url: &Url, headers: &HeaderMap, on_wire: Option<u64>) -> Result<Self, NetError> {
        if let Some(length) = on_wire {
            return Ok(Self::Length(length));
        }
        let values = || headers.get_all(TRANSFER_ENCODING).iter();
        // The very place that hyper looks at. In `chunked, identity` and in `chunked,` it finds no chunks.
        let last = values().next_back().map(|value| text(value).rsplit(',').next());
        let is_unchunked = last.flatten().is_some_and(|coding| is(coding, "chunked"));
        let mut codings = values()
            .flat_map(|value| text(value).split(','))
            .map(str::trim)
            .filter(|coding| !coding.is_empty() && !is(coding, "identity"));
        match (codings.next(), codings.next()) {
            (None, _) => Ok(announced_length(headers).map_or(Self::Connection, Self::Length)),
            (Some(only), None) if is_unchunked && is(only, "chunked") => Ok(Self::Chunked),
            // Of `gzip, chunked` the chunks are gone, and the gzip is left. Of `chunked, gzip` nothing is gone.
            (Some(coding), _) => UnexpectedTransferCodingSnafu {
                url: redacted(url),
                coding: shown_word(coding),
            }
            .fail(),
        }
    }

    /// The number of bytes, if the framing says it.
    pub(super) fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Chunked | Self::Connection => None,
        }
    }
}

/// `Content-Length` beside `Transfer-Encoding: identity`. hyper does not look at it then, and the server may keep the
/// connection open behind the last byte.
fn announced_length(headers: &HeaderMap) -> Option<u64> {
    text(headers.get(CONTENT_LENGTH)?).trim().parse().ok()
}

fn text(value: &http::HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

fn is(coding: &str, name: &str) -> bool {
    coding.trim().eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn framing(codings: &[&'static str], length: Option<&'static str>) -> Result<Framing, NetError> {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(TRANSFER_ENCODING, HeaderValue::from_static(coding));
        }
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static(length));
        }
        let url = Url::parse("http://h/a").expect("a url");
        Framing::of(&url, &headers, None)
    }

    #[test]
    fn chunks_end_a_body_and_identity_does_not() {
        for chunked in [
            &["chunked"][..],
            &["Chunked"],
            &["identity, chunked"],
            &["identity", " chunked "],
        ] {
            assert_eq!(
                framing(chunked, None).expect("known"),
                Framing::Chunked,
                "{chunked:?}"
            );
        }
        for unframed in [&[][..], &["identity"], &[""], &[" , "]] {
            assert_eq!(
                framing(unframed, None).expect("known"),
                Framing::Connection,
                "{unframed:?}"
            );
            assert_eq!(framing(unframed, Some("5")).expect("known"), Framing::Length(5));
        }
    }

    /// W53: a coding that is left in is told by its name, wherever it stands.
    #[test]
    fn a_coding_that_is_left_in_is_an_error() {
        for (codings, told) in [
            (&["gzip"][..], "gzip"),
            (&["gzip, chunked"], "gzip"),
            (&["chunked, gzip"], "chunked"),
            (&["gzip", "chunked"], "gzip"),
            (&["xchunked"], "xchunked"),
            (&["chunked, chunked"], "chunked"),
            (&["chunked,"], "chunked"),
            (&["chunked", "identity"], "chunked"),
            (&["deflate, identity"], "deflate"),
        ] {
            match framing(codings, None) {
                Err(NetError::UnexpectedTransferCoding { coding, .. }) => assert_eq!(coding, told),
                other => panic!("{codings:?}: {other:?}"),
            }
        }
    }
}

//! Responses: the head, and the body behind it.

use std::fmt;

use bytes::{Bytes, BytesMut};
use futures_lite::StreamExt;
use http::HeaderMap;
use url::Url;

use super::error::TooLargeSnafu;
use super::exchange::{Exchange, Exchanger};
use super::{Body, ContentRange, NetError, Request, Validator, gunzip, redacted, shown};

/// A response that is what was asked for: its head, and its [`Body`].
///
/// Dropping it closes the connection, unless the body is empty.
pub struct Response {
    status: u16,
    headers: HeaderMap,
    url: Url,
    body: Body,
}

impl Response {
    pub(super) fn new(exchanger: Exchanger, request: Request, mut exchange: Exchange) -> Self {
        // Only the first exchange's headers are kept. Those of a resumed body say nothing new to the caller.
        let headers = std::mem::take(&mut exchange.headers);
        let url = exchange.url.clone();
        Self {
            status: exchange.status.as_u16(),
            body: Body::new(exchanger, request, &headers, exchange),
            headers,
            url,
        }
    }

    /// The status code: 200, 206, or 416 for a range that starts exactly at the file's end.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The URL that answered, after redirects. Relative URLs in the body are relative to it.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// How many bytes the body will yield, if it is known. For [`Request::head`]: how many it would yield.
    ///
    /// The server says so, and it may be wrong. Allocate nothing from it.
    pub fn content_length(&self) -> Option<u64> {
        let delivery = self.body.delivery();
        if self.body.is_for_head() {
            return delivery
                .range
                .map(|range| range.end() - range.start())
                .or(delivery.total);
        }
        Some(delivery.goal()?.saturating_sub(delivery.start))
    }

    /// Which part of the file this is. `None` for the whole.
    pub fn content_range(&self) -> Option<ContentRange> {
        self.body.delivery().range
    }

    /// Position in the file of the body's first byte.
    #[cfg(feature = "file")]
    pub(crate) fn start(&self) -> u64 {
        self.body.position()
    }

    /// The length of the whole file, if the server said it.
    pub fn total_length(&self) -> Option<u64> {
        self.body.delivery().total
    }

    /// The validator by which later requests get bytes of the same file, if the server gave a strong one.
    pub fn validator(&self) -> Option<Validator> {
        Validator::of(&self.headers)
    }

    /// The body, to be read as it comes. If [`Request::compressed`] allowed it, the bytes may be gzipped: see
    /// `Content-Encoding`.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Reads the whole body, of at most `limit` bytes, and decompresses it if the server compressed it.
    ///
    /// A body that breaks off and cannot be resumed is asked for again from its start, as the client's
    /// [`RetryPolicy`](super::RetryPolicy) says.
    ///
    /// # Errors
    ///
    /// - [`NetError::TooLarge`]: the body is larger than `limit`, as sent or decompressed, or its head says so.
    /// - [`NetError::Gunzip`]: the compressed body is damaged.
    /// - What [`HttpClient::send`](super::HttpClient::send) fails with and what [`Body`] yields.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection at once.
    pub async fn bytes(self, limit: usize) -> Result<Bytes, NetError> {
        self.bytes_and_proof(limit).await.map(|(whole, _)| whole)
    }

    /// As [`bytes`](Self::bytes), and whether something proves that these are all bytes: a length, chunks, or the checksum
    /// at the end of a compressed body.
    pub(crate) async fn bytes_and_proof(mut self, limit: usize) -> Result<(Bytes, bool), NetError> {
        let mut failures = 0;
        loop {
            let error = match self.read_whole(limit).await {
                Ok(whole) if self.body.delivery().gzip => {
                    return gunzip::gunzip(&whole, limit, &self.url).map(|whole| (whole, true));
                }
                // Of the body that was read to its end, which need not be the first one.
                Ok(whole) => return Ok((whole, !self.body.ends_with_connection())),
                Err(error) => error,
            };
            // Nobody has been given a byte yet, so the whole may start over where a resume is not possible.
            failures += 1;
            let Some(again) = self.body.again(&error, failures).await else {
                return Err(error);
            };
            // The caller may have used this response's URL already, to resolve other URLs. The bytes must belong to it.
            match again? {
                again if shown::plain(&again.url) == shown::plain(&self.url) => self = again,
                _ => return Err(error),
            }
        }
    }

    async fn read_whole(&mut self, limit: usize) -> Result<Bytes, NetError> {
        let too_large = || TooLargeSnafu {
            url: redacted(&self.url),
            limit,
        };
        // Refused before a byte is read, where the head says it.
        if self.content_length().is_some_and(|length| length > limit as u64) {
            return too_large().fail();
        }
        // Grows with what comes, never from the announced length (R5).
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.body.try_next().await? {
            // And checked all the same: the head may be wrong, or say nothing.
            if chunk.len() > limit - whole.len() {
                return too_large().fail();
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("url", &redacted(&self.url))
            .field("content_range", &self.content_range())
            .finish_non_exhaustive()
    }
}

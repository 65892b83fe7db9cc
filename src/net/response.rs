//! A response: its head, and the way to its bytes.

use std::fmt;

use bytes::{Bytes, BytesMut};
use futures_lite::StreamExt;
use http::HeaderMap;
use url::Url;

use super::client::{Exchange, HttpClient};
use super::error::TooLargeSnafu;
use super::{Body, ContentRange, NetError, Request, Validator, gunzip, redacted};

/// The head of a response that is what was asked for, and its [`Body`].
///
/// Dropped, it closes the connection unless the body was empty.
pub struct Response {
    status: u16,
    headers: HeaderMap,
    url: Url,
    body: Body,
}

impl Response {
    pub(super) fn new(client: HttpClient, request: Request, mut exchange: Exchange) -> Self {
        let headers = std::mem::take(&mut exchange.headers);
        let url = exchange.url.clone();
        Self {
            status: exchange.status.as_u16(),
            body: Body::new(client, request, &headers, exchange),
            headers,
            url,
        }
    }

    /// The status code: 2xx, or 416 for a range that starts exactly at the end of the file.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The URL that answered, after redirects: what relative URLs in the body are relative to.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// How many bytes the body will yield, if it is known. Of the response to [`Request::head`]: how many it would.
    ///
    /// It is what the server says; nothing should be allocated from it.
    pub fn content_length(&self) -> Option<u64> {
        let delivery = self.body.delivery();
        if self.body.is_for_head() {
            return delivery
                .range
                .map(|range| range.end() - range.start())
                .or(delivery.total);
        }
        Some(delivery.last()?.saturating_sub(delivery.start))
    }

    /// Which part of the file this is; `None` for the whole.
    pub fn content_range(&self) -> Option<ContentRange> {
        self.body.delivery().range
    }

    /// The length of the whole file, if the server said it.
    pub fn total_length(&self) -> Option<u64> {
        self.body.delivery().total
    }

    /// What later requests can use to make sure that they get bytes of the same file.
    pub fn validator(&self) -> Option<Validator> {
        Validator::of(&self.headers)
    }

    /// The body, to be read as it comes. If [`Request::compressed`] allowed it and the server did so, the bytes are
    /// gzipped, as `Content-Encoding` says.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Reads the body whole, at most `limit` bytes of it, and decompresses it if the server compressed it.
    ///
    /// A body that breaks off and cannot be resumed is asked for again from its start, as the client's
    /// [`RetryPolicy`](super::RetryPolicy) says: nobody has seen a byte of it yet.
    ///
    /// # Errors
    ///
    /// [`NetError::TooLarge`] if it is larger than `limit`, as sent or decompressed, or says so; [`NetError::Gunzip`] if
    /// the compression is damaged; otherwise what [`Body`] yields.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection at once.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, NetError> {
        let mut failures = 0;
        loop {
            let error = match self.read_whole(limit).await {
                Ok(whole) if self.body.delivery().gzip => return gunzip::gunzip(&whole, limit, &self.url),
                Ok(whole) => return Ok(whole),
                Err(error) => error,
            };
            failures += 1;
            let Some(again) = self.body.again(&error, failures).await else {
                return Err(error);
            };
            // The caller may have drawn on this response's URL already, which the bytes must not contradict.
            match again? {
                again if redacted(&again.url) == redacted(&self.url) => self = again,
                _ => return Err(error),
            }
        }
    }

    async fn read_whole(&mut self, limit: usize) -> Result<Bytes, NetError> {
        let too_large = || TooLargeSnafu {
            url: redacted(&self.url),
            limit,
        };
        if self.content_length().is_some_and(|length| length > limit as u64) {
            return too_large().fail();
        }
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.body.try_next().await? {
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

//! The file on the server: which one it is, and how it may be asked for.

use super::FileError;
use super::error::ChangedSnafu;
use super::schedule::Span;
use crate::net::{ByteRange, HttpClient, Request, Response, Url, Validator, redacted};

/// A URL, and what its server has said of the file so far.
pub(super) struct Remote {
    pub(super) client: HttpClient,
    url: Url,
    /// What answered last, after redirects.
    answered_by: Url,
    known: Option<Identity>,
    /// Whether ranges are served, until the contrary is seen.
    pub(super) ranges: bool,
}

/// What tells one version of the file from another.
struct Identity {
    /// Proves that another response is of the same file.
    validator: Option<Validator>,
    /// `ETag` and `Last-Modified` as sent. Where they prove nothing they can still contradict.
    headers_said: [Option<Vec<u8>>; 2],
    total: Option<u64>,
}

impl Remote {
    pub(super) fn new(client: HttpClient, url: Url) -> Self {
        Self {
            client,
            answered_by: url.clone(),
            url,
            known: None,
            ranges: true,
        }
    }

    pub(super) fn display_url(&self) -> String {
        redacted(&self.url)
    }

    /// Takes up where an earlier session left off.
    pub(super) fn resume(&mut self, validator: Validator, total: u64) {
        self.known = Some(Identity {
            validator: Some(validator),
            headers_said: [None, None],
            total: Some(total),
        });
    }

    pub(super) fn forget(&mut self) {
        self.known = None;
        self.ranges = true;
    }

    pub(super) fn validator(&self) -> Option<&Validator> {
        self.known.as_ref()?.validator.as_ref()
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.known.as_ref()?.total
    }

    /// Whether the file may be asked for again from its start: nothing is known of it, or what is known tells whether it
    /// is the same.
    pub(super) fn may_start_over(&self) -> bool {
        self.known.as_ref().is_none_or(|known| {
            known.total.is_some()
                && (known.validator.is_some() || known.headers_said.iter().any(Option::is_some))
        })
    }

    pub(super) fn request(&self, span: Span) -> Request {
        let mut request = Request::get(self.url.clone());
        if self.ranges {
            request = request.range(match span.end {
                Some(end) => ByteRange::new(span.next, end),
                None => ByteRange::from_start(span.next),
            });
        }
        if let Some(known) = &self.known {
            if let Some(validator) = known.validator.clone() {
                request = request.if_range(validator);
            }
            if let Some(total) = known.total {
                request = request.expect_total(total);
            }
        }
        request
    }

    /// Makes a connection to where the bytes come from, for the next request.
    pub(super) fn prepare(&self) -> impl Future<Output = ()> + Send + use<> {
        let (client, url) = (self.client.clone(), self.answered_by.clone());
        async move { client.preconnect(&url).await }
    }

    /// Whether one more request need not wait for a connection.
    pub(super) fn has_room(&self) -> bool {
        self.client.has_room(&self.answered_by)
    }

    /// Learns from a response what it says of the file.
    ///
    /// # Errors
    ///
    /// [`FileError::Changed`] if it is not of the file that earlier responses were of.
    pub(super) fn check(&mut self, response: &Response) -> Result<(), FileError> {
        self.answered_by = response.url().clone();
        let header = |name| {
            let value = response.headers().get(name)?;
            Some(value.as_bytes().to_vec())
        };
        let headers_said = [header("etag"), header("last-modified")];
        let validator = response.validator();
        let total = response.total_length();
        if response.status() == 200 {
            self.ranges = false;
        }
        let Some(known) = &mut self.known else {
            self.known = Some(Identity {
                validator,
                headers_said,
                total,
            });
            return Ok(());
        };
        let differ = |before: &Option<Vec<u8>>, now: &Option<Vec<u8>>| matches!((before, now), (Some(before), Some(now)) if before != now);
        let other_validator = matches!((&known.validator, &validator), (Some(a), Some(b)) if a != b);
        let other_words = known
            .headers_said
            .iter()
            .zip(&headers_said)
            .any(|(before, now)| differ(before, now));
        let other_length = matches!((known.total, total), (Some(a), Some(b)) if a != b);
        if other_validator || other_words || other_length {
            return ChangedSnafu {
                url: redacted(&self.url),
            }
            .fail();
        }
        known.total = known.total.or(total);
        Ok(())
    }
}

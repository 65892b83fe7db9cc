//! The file on the server: which version it is, and how it can be requested.

use super::FileError;
use super::error::ChangedSnafu;
use super::schedule::Span;
use crate::media::SourceHeaders;
use crate::net::{ByteRange, HttpClient, Request, Response, SentValidators, Url, Validator, redacted};

/// A URL, and what its server has told of the file so far.
pub(super) struct Remote {
    pub(super) client: HttpClient,
    headers: SourceHeaders,
    url: Url,
    /// The URL that answered last, after redirects.
    answered_by: Url,
    /// `None` before the first response.
    identity: Option<Identity>,
    /// Whether ranges are served. Believed until a response says otherwise.
    pub(super) ranges: bool,
}

/// What tells one version of the file from another.
struct Identity {
    /// A strong validator proves that another response is of the same version.
    validator: Option<Validator>,
    /// Weak ones prove nothing, but they can contradict.
    sent: SentValidators,
    total: Option<u64>,
}

impl Remote {
    pub(super) fn new(client: HttpClient, headers: SourceHeaders, url: Url) -> Self {
        Self {
            client,
            headers,
            answered_by: url.clone(),
            url,
            identity: None,
            ranges: true,
        }
    }

    /// The URL for errors and logs, redacted.
    pub(super) fn display_url(&self) -> String {
        redacted(&self.url)
    }

    /// Goes on with the version that an earlier session has downloaded a part of.
    pub(super) fn resume(&mut self, validator: Validator, total: u64) {
        self.identity = Some(Identity {
            validator: Some(validator),
            // Not recorded. The validator is one of the two, and says more.
            sent: SentValidators::default(),
            total: Some(total),
        });
    }

    /// The next response may be of any version.
    pub(super) fn forget(&mut self) {
        self.identity = None;
        self.ranges = true;
    }

    pub(super) fn validator(&self) -> Option<&Validator> {
        self.identity.as_ref()?.validator.as_ref()
    }

    /// The file's length, if it is known.
    pub(super) fn total(&self) -> Option<u64> {
        self.identity.as_ref()?.total
    }

    /// Whether the file may be requested from its start again: nothing has been received yet, or a changed file would be
    /// noticed.
    pub(super) fn may_start_over(&self) -> bool {
        self.identity.as_ref().is_none_or(|known| {
            known.total.is_some() && (known.validator.is_some() || !known.sent.is_empty())
        })
    }

    /// A request for whatever the server has now.
    pub(super) fn unconditional_request(&self) -> Request {
        self.headers.request(self.url.clone())
    }

    /// A request for `span`. `follows_known`: the byte before it is there.
    pub(super) fn request(&self, span: Span, follows_known: bool) -> Request {
        let mut request = self.headers.request(self.url.clone());
        // A range from 0 too: only its answer shows whether the server serves ranges.
        if self.ranges {
            request = request.range(match span.end {
                Some(end) => ByteRange::new(span.next, end),
                None => ByteRange::from_start(span.next),
            });
        }
        if self.identity.is_none() {
            request = request.optional_range();
        }
        if follows_known {
            request = request.follows_known();
        }
        // A changed file then comes whole instead of in part, or with another length. Either is noticed before a byte of it
        // is stored.
        if let Some(known) = &self.identity {
            if let Some(validator) = known.validator.clone() {
                request = request.if_range(validator);
            }
            if let Some(total) = known.total {
                request = request.expect_total(total);
            }
        }
        request
    }

    /// Makes a connection for the next request, to the host that answered last.
    pub(super) fn prepare(&self) -> impl Future<Output = ()> + Send + use<> {
        let (client, url) = (self.client.clone(), self.answered_by.clone());
        async move { client.preconnect(&url).await }
    }

    /// Whether one more request would find a connection without waiting for another one to end.
    pub(super) fn has_room(&self) -> bool {
        self.client.has_room(&self.answered_by)
    }

    /// Compares a response with the earlier ones, and learns from it. The first one sets the identity: whatever it does
    /// not tell cannot be compared later.
    ///
    /// # Errors
    ///
    /// [`FileError::Changed`] if the response is of another version.
    pub(super) fn check(&mut self, response: &Response) -> Result<(), FileError> {
        self.answered_by = response.url().clone();
        let sent = SentValidators::of(response.headers());
        let validator = response.validator();
        let total = response.total_length();
        // A 200 is the whole file, even where it answers a range. Asking for ranges again would get the start again.
        if response.status() == 200 {
            self.ranges = false;
        }
        let Some(known) = &mut self.identity else {
            self.identity = Some(Identity {
                validator,
                sent,
                total,
            });
            return Ok(());
        };
        // By its own header: of a file resumed from an earlier session no more than the validator is known.
        let is_other = |known: &Validator| known.contradicted_by(response.headers());
        let other_validator =
            known.validator.as_ref().is_some_and(is_other) || known.sent.contradicted_by(&sent);
        let other_length = matches!((known.total, total), (Some(a), Some(b)) if a != b);
        if other_validator || other_length {
            return ChangedSnafu {
                url: redacted(&self.url),
            }
            .fail();
        }
        // Learned late, where the first response was chunked or its total was `*`.
        known.total = known.total.or(total);
        Ok(())
    }

    /// Learns the length from the end of a body.
    pub(super) fn learn_total(&mut self, total: u64) {
        if let Some(known) = &mut self.identity {
            known.total.get_or_insert(total);
        }
    }
}

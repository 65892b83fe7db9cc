//! The file on the server: which version it is, and how it can be requested.

use super::error::ChangedSnafu;
use super::same_file::Recorded;
use super::schedule::Span;
use super::{FileError, SameFile};
use crate::media::SourceHeaders;
use crate::net::{
    ByteRange, Change, HttpClient, NetError, Request, Response, SentValidators, Url, Validator, redacted,
};

/// A URL, and what its server has told of the file so far.
pub(super) struct Remote {
    pub(super) client: HttpClient,
    headers: SourceHeaders,
    same_file: SameFile,
    url: Url,
    /// The URL that answered last, after redirects, which is asked next. F5: the chain is walked once, and a host that
    /// makes a file up for each visitor is asked for one file.
    answered_by: Url,
    /// `None` before the first response.
    identity: Option<Identity>,
    /// Whether ranges are served. Believed until a response says otherwise.
    pub(super) ranges: bool,
    /// The byte behind all parts that the server has announced. `None` before the first part.
    announced: Option<u64>,
}

/// What tells one version of the file from another.
pub(super) struct Identity {
    /// A strong validator proves that another response is of the same version.
    pub(super) validator: Option<Validator>,
    /// Weak ones prove nothing, but they can contradict.
    sent: SentValidators,
    /// The app's own key.
    key: Option<String>,
    pub(super) total: Option<u64>,
}

impl Remote {
    pub(super) fn new(client: HttpClient, headers: SourceHeaders, url: Url, same_file: SameFile) -> Self {
        Self {
            client,
            headers,
            same_file,
            answered_by: url.clone(),
            url,
            identity: None,
            ranges: true,
            announced: None,
        }
    }

    /// The URL for errors and logs, redacted.
    pub(super) fn display_url(&self) -> String {
        redacted(&self.url)
    }

    /// Goes on with the version that an earlier session has downloaded a part of. `false` if its tag proves nothing under
    /// the app's rule.
    pub(super) fn resume(&mut self, tag: &str, total: u64) -> bool {
        let Some(recorded) = self.same_file.recorded(tag) else {
            return false;
        };
        let (validator, key) = match recorded {
            Recorded::Validator(validator) => (Some(validator), None),
            Recorded::Key(key) => (None, Some(key)),
            Recorded::Length => (None, None),
        };
        self.identity = Some(Identity {
            validator,
            // Not recorded. The validator is one of the two, and says more.
            sent: SentValidators::default(),
            key,
            total: Some(total),
        });
        true
    }

    /// What is recorded with the bytes, so that a later session can go on from them. `None` if nothing would prove to it
    /// that the rest is of the same file.
    pub(super) fn tag(&self) -> Option<String> {
        let known = self.identity.as_ref().filter(|known| known.total.is_some())?;
        self.same_file.tag(known.validator.as_ref(), known.key.as_deref())
    }

    pub(super) fn same_file(&self) -> &SameFile {
        &self.same_file
    }

    /// Whether the validators decide, and not the app.
    pub(super) fn is_by_validators(&self) -> bool {
        self.same_file.is_by_validators()
    }

    /// The next response may be of any version.
    pub(super) fn forget(&mut self) {
        self.identity = None;
        self.ranges = true;
        self.answered_by = self.url.clone();
        self.announced = None;
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
            let is_noticed = !self.is_by_validators() || known.validator.is_some() || !known.sent.is_empty();
            known.total.is_some() && is_noticed
        })
    }

    /// Whether the file may end at `position`, where a server says that it has nothing: it serves parts, and has announced
    /// none that goes on. One that refuses every range says so too.
    pub(super) fn may_end_at(&self, position: u64) -> bool {
        self.announced.is_some_and(|announced| announced <= position)
    }

    /// Whether a part of the file was ever served.
    pub(super) fn has_served_parts(&self) -> bool {
        self.announced.is_some()
    }

    /// A request for whatever the server has now.
    pub(super) fn unconditional_request(&self) -> Request {
        self.headers.request(self.url.clone())
    }

    /// A request for `span`. `follows_known`: the byte before it is there.
    pub(super) fn request(&self, span: Span, follows_known: bool) -> Request {
        let mut request = self.headers.request(self.answered_by.clone());
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
            if let Some(validator) = known.validator.clone().filter(|_| self.is_by_validators()) {
                request = request.if_range(validator);
            }
            if let Some(total) = known.total {
                request = request.expect_total(total);
            }
        }
        request
    }

    /// Goes back to the URL that the app gave, if `error` says that the one it led to is of no more use. `false` if that was
    /// asked already.
    pub(super) fn returns_to_own_url(&mut self, error: &NetError) -> bool {
        let is_gone = matches!(error.status(), Some(401 | 403 | 404 | 410));
        let is_unreachable = matches!(error, NetError::Connect { .. } | NetError::TlsHandshake { .. });
        // Not where the app's own URL has answered: there is nothing to go back to, and the request would go round.
        let returns = (is_gone || is_unreachable) && self.answered_by != self.url;
        if returns {
            self.return_to_own_url();
        }
        returns
    }

    /// Walks the redirect chain again with the next request.
    pub(super) fn return_to_own_url(&mut self) {
        self.answered_by = self.url.clone();
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

    /// Whether a request or its answer may run code of others: the app's own, or the platform's verifier of certificates.
    pub(super) fn runs_foreign_code(&self) -> bool {
        self.client.has_hook() || !self.is_by_validators() || self.answered_by.scheme() != "http"
    }

    /// Compares a response with the earlier ones, and learns from it. The first one sets the identity: whatever it does
    /// not tell cannot be compared later.
    ///
    /// # Errors
    ///
    /// What shows it, as far as it is known, if the response is of another version.
    pub(super) fn check(&mut self, response: &Response) -> Result<(), Option<Change>> {
        self.answered_by = response.url().clone();
        let now = self.identify(response);
        // A 200 is the whole file, even where it answers a range. Asking for ranges again would get the start again.
        if response.status() == 200 {
            self.ranges = false;
        }
        if let Some(part) = response.content_range() {
            self.announced = self.announced.max(Some(part.end()));
        }
        let Some(known) = &mut self.identity else {
            self.identity = Some(now);
            return Ok(());
        };
        if self.same_file.tells_apart(known, &now) || known.has_other_length(&now) {
            return Err(self.same_file.change(known, &now));
        }
        // Learned late, where the first response was chunked or its total was `*`.
        known.total = known.total.or(now.total);
        known.key = known.key.take().or(now.key);
        Ok(())
    }

    /// What readers are told of another version.
    pub(super) fn changed(&self, change: Option<Change>) -> FileError {
        ChangedSnafu {
            url: redacted(&self.url),
            change,
        }
        .build()
    }

    /// Learns the length from the end of a body.
    pub(super) fn learn_total(&mut self, total: u64) {
        if let Some(known) = &mut self.identity {
            known.total.get_or_insert(total);
        }
    }

    /// Which version a response is of.
    pub(super) fn identify(&self, response: &Response) -> Identity {
        Identity::of(response, &self.same_file)
    }

    /// What is known of the file.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

impl Identity {
    pub(super) fn of(response: &Response, same_file: &SameFile) -> Self {
        Self {
            validator: response.validator(),
            sent: SentValidators::of(response.headers()),
            key: same_file.key(response.headers()),
            total: response.total_length(),
        }
    }

    fn has_other_length(&self, other: &Self) -> bool {
        matches!((self.total, other.total), (Some(before), Some(now)) if before != now)
    }
}

impl SameFile {
    /// What shows that two identities are of different versions, as far as the server's words tell. `None` also if the app's
    /// own key is another: the app knows best what it stands for.
    pub(super) fn change(&self, before: &Identity, now: &Identity) -> Option<Change> {
        match (before.total, now.total) {
            (Some(expected), Some(received)) if expected != received => {
                Some(Change::Length { expected, received })
            }
            _ => (self.is_by_validators() && self.tells_apart(before, now)).then_some(Change::Validator),
        }
    }

    /// Whether two identities are of different versions, the length left aside. Only what both have can contradict. A
    /// value that is missing in one of them is no evidence: servers behind one name differ in what they send.
    pub(super) fn tells_apart(&self, before: &Identity, now: &Identity) -> bool {
        // The app has said what counts. A tag that differs is then a machine of many, and no change.
        if !self.is_by_validators() {
            return matches!((&before.key, &now.key), (Some(before), Some(now)) if before != now);
        }
        // By its own header: of a file resumed from an earlier session no more than the validator is known.
        let validator = before.validator.as_ref();
        validator.is_some_and(|known| now.sent.contradict(known)) || before.sent.contradicted_by(&now.sent)
    }
}

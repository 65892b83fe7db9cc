//! The response check: holds a response's head against its request.
//!
//! Every rule about status, range, length and coding is here. No I/O. What passes becomes a [`Delivery`]: the plan by which
//! [`Body`](super::Body) turns the bytes on the wire into bytes of the file.
//!
//! ```text
//! asked for       answer   Content-Range        delivered
//! whole           200      –                    all of it
//! from 100        206      100-…, as asked      that part
//! from 100        200      –                    all but 100 bytes, if few
//! from 100        416      */100                nothing: that is the end
//! anything else                                 an error
//! ```

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, StatusCode};
use url::Url;

use super::error::{
    ChangedSnafu, RangeIgnoredSnafu, RangeMismatchSnafu, RangeNotSatisfiableSnafu, StatusSnafu,
    UnexpectedEncodingSnafu,
};
use super::range::{ContentRange, parse_unsatisfied};
use super::{ByteRange, NetError, Request, redacted, retry};

/// How the bytes on the wire become the bytes delivered. Positions are those of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Bytes to skip first: the server sends more than was asked for.
    pub(super) skip: u64,
    /// Position of the first byte delivered.
    pub(super) start: u64,
    /// Position after the last byte on the wire, if it is known. A shorter or a longer body is an error.
    pub(super) end: Option<u64>,
    /// Where to stop although the server may send more.
    pub(super) stop: Option<u64>,
    /// The file's length, if it is known.
    pub(super) total: Option<u64>,
    /// Which part of the file this is, if the server sent a part.
    pub(super) range: Option<ContentRange>,
    /// Whether the bytes are gzipped. Only if the request allowed it.
    pub(super) gzip: bool,
}

/// Checks a response.
///
/// `framed` is the length of the body by HTTP's framing. None for a chunked body, and for one that ends with the
/// connection. Up to `max_skip` bytes are skipped if the server ignores the range.
pub(super) fn check_response(
    request: &Request,
    url: &Url,
    status: StatusCode,
    headers: &HeaderMap,
    framed: Option<u64>,
    max_skip: u64,
) -> Result<Delivery, NetError> {
    let check = Check {
        request,
        url,
        headers,
    };
    let delivery = match (status, request.range) {
        (StatusCode::PARTIAL_CONTENT, Some(asked)) => check.part(asked, framed)?,
        // The consumer would take a part that was not asked for to be the whole (fault D8).
        (StatusCode::PARTIAL_CONTENT, None) => return RangeMismatchSnafu { url: redacted(url) }.fail(),
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(asked)) => check.beyond_the_end(asked)?,
        // HEAD has no bytes to skip, so the whole is as good as the part.
        (status, Some(asked)) if status.is_success() && !request.is_head() => {
            check.whole_for_part(asked, framed, max_skip)?
        }
        (status, _) if status.is_success() => check.whole(framed),
        (status, _) => {
            let retry_after = retry::retry_after(headers);
            return StatusSnafu {
                url: redacted(url),
                status: status.as_u16(),
                retry_after,
            }
            .fail();
        }
    };
    let gzip = check.encoding()?;
    // The length of a compressed body is not the file's, so it must not be compared with one.
    let delivery = if gzip {
        Delivery {
            gzip,
            total: None,
            ..delivery
        }
    } else {
        delivery
    };
    // Last, as only here the file's length is known for each kind of answer.
    check.same_file(&delivery)?;
    Ok(delivery)
}

impl Delivery {
    /// Position after the last byte to be delivered, if it is known.
    pub(super) fn last(&self) -> Option<u64> {
        self.end.map(|end| end.min(self.stop.unwrap_or(u64::MAX)))
    }

    /// Position behind which nothing is delivered, if there is one.
    pub(super) fn bound(&self) -> Option<u64> {
        self.last().or(self.stop)
    }
}

struct Check<'a> {
    request: &'a Request,
    url: &'a Url,
    headers: &'a HeaderMap,
}

impl Check<'_> {
    fn header(&self, name: http::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn part(&self, asked: ByteRange, framed: Option<u64>) -> Result<Delivery, NetError> {
        let range = self
            .header(CONTENT_RANGE)
            .and_then(ContentRange::parse)
            .filter(|range| range.answers(asked));
        // The framing's own length must be that of the part, or bytes behind the part would be taken for the file's.
        let fits = |range: &ContentRange| framed.is_none_or(|length| length == range.end() - range.start());
        // An answer to HEAD has no body, whatever length it announces.
        let Some(range) = range.filter(|range| self.request.is_head() || fits(range)) else {
            return RangeMismatchSnafu {
                url: redacted(self.url),
            }
            .fail();
        };
        // A 206 to If-Range says by itself that the validator held. Silence is fine, another validator is not.
        if self
            .request
            .if_range
            .as_ref()
            .is_some_and(|validator| validator.contradicted_by(self.headers))
        {
            return ChangedSnafu {
                url: redacted(self.url),
            }
            .fail();
        }
        Ok(Delivery {
            skip: 0,
            start: range.start(),
            // No byte follows the head of an answer to HEAD.
            end: Some(if self.request.is_head() {
                range.start()
            } else {
                range.end()
            }),
            stop: None,
            total: range.total(),
            range: Some(range),
            gzip: false,
        })
    }

    /// The whole file, asked for in part: the server has no ranges, or the file has changed (If-Range).
    fn whole_for_part(
        &self,
        asked: ByteRange,
        framed: Option<u64>,
        max_skip: u64,
    ) -> Result<Delivery, NetError> {
        let start = asked.start();
        // A 200 to If-Range says that the file changed, unless the server names the same validator. Then it has no
        // ranges, and the bytes are the right ones.
        if self
            .request
            .if_range
            .as_ref()
            .is_some_and(|validator| !validator.confirmed_by(self.headers))
        {
            return ChangedSnafu {
                url: redacted(self.url),
            }
            .fail();
        }
        match framed {
            Some(total) if start > total => self.not_satisfiable(start, Some(total)),
            // As a 416 at the end: nothing is to come, so nothing has to be skipped.
            Some(total) if start == total && total > 0 => Ok(Self::nothing_at(total)),
            _ if start > max_skip => RangeIgnoredSnafu {
                url: redacted(self.url),
                start,
            }
            .fail(),
            _ => Ok(Delivery {
                skip: start,
                start,
                end: framed,
                stop: asked.end(),
                total: framed,
                range: None,
                gzip: false,
            }),
        }
    }

    fn whole(&self, framed: Option<u64>) -> Delivery {
        // To HEAD the announced length is the file's, although no body follows.
        let announced = || self.header(CONTENT_LENGTH)?.parse().ok();
        let is_head = self.request.is_head();
        let total = if is_head { announced() } else { framed };
        let end = if is_head { Some(0) } else { framed };
        Delivery {
            skip: 0,
            start: 0,
            end,
            stop: None,
            total,
            range: None,
            gzip: false,
        }
    }

    /// Fault D7: a range that starts exactly behind the last byte is empty, and no failure.
    fn beyond_the_end(&self, asked: ByteRange) -> Result<Delivery, NetError> {
        match self.header(CONTENT_RANGE).and_then(parse_unsatisfied) {
            Some(total) if total == asked.start() => Ok(Self::nothing_at(total)),
            total => self.not_satisfiable(asked.start(), total),
        }
    }

    fn not_satisfiable(&self, start: u64, total: Option<u64>) -> Result<Delivery, NetError> {
        RangeNotSatisfiableSnafu {
            url: redacted(self.url),
            start,
            total,
        }
        .fail()
    }

    fn nothing_at(total: u64) -> Delivery {
        Delivery {
            skip: 0,
            start: total,
            end: Some(total),
            stop: Some(total),
            total: Some(total),
            range: Some(ContentRange::at_end(total)),
            gzip: false,
        }
    }

    /// Fault D4: another length means another file.
    fn same_file(&self, delivery: &Delivery) -> Result<(), NetError> {
        match (self.request.expected_total, delivery.total) {
            (Some(expected), Some(total)) if expected != total => ChangedSnafu {
                url: redacted(self.url),
            }
            .fail(),
            _ => Ok(()),
        }
    }

    /// Whether the body is gzipped. A coding that was not asked for is an error: its bytes are not the file's (fault D10).
    fn encoding(&self) -> Result<bool, NetError> {
        let mut codings = self
            .headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .flat_map(|value| value.to_str().unwrap_or("?").split(','))
            .map(str::trim)
            .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
        // One coding at most is undone here. Of two, only the outer one is known to be what was asked for.
        match (codings.next(), codings.next()) {
            (None, _) => Ok(false),
            (Some(coding), None) if self.request.accepts_gzip() && is_gzip(coding) => Ok(true),
            _ => UnexpectedEncodingSnafu {
                url: redacted(self.url),
            }
            .fail(),
        }
    }
}

fn is_gzip(coding: &str) -> bool {
    coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip")
}

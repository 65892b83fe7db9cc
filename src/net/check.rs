//! The response check: holds a response's head against its request.
//!
//! Every rule about status, range, length and coding is here. No I/O. What passes becomes a [`Delivery`]: the plan by which
//! [`Body`](super::Body) turns the bytes on the wire into bytes of the file.
//!
//! ```text
//! asked for       answer   Content-Range        delivered
//! whole           200      –                    all of it
//! whole           206      0-…                  that part, and then the rest
//! from 100        206      100-…, or before     that part from 100 on, and then the rest
//! from 100        200      –                    all but 100 bytes, if few
//! from 100        416      */100, or none       nothing: that is the end
//! anything else                                 an error
//! ```

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use url::Url;

use super::error::{
    ChangedSnafu, MultipartSnafu, RangeIgnoredSnafu, RangeMismatchSnafu, RangeNotSatisfiableSnafu,
    StatusSnafu, UnexpectedEncodingSnafu, shown_value, shown_word,
};
use super::framing::Framing;
use super::range::{ContentRange, parse_unsatisfied};
use super::{ByteRange, Change, NetError, Request, redacted, retry};

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
    /// What was asked for and does not come with this answer.
    pub(super) rest: Rest,
    /// The file's length, if it is known.
    pub(super) total: Option<u64>,
    /// Which part of the file this is, if the server sent a part.
    pub(super) range: Option<ContentRange>,
    /// Whether the bytes are gzipped. Only if the request allowed it.
    pub(super) gzip: bool,
    /// Whether the body ends only with the connection.
    pub(super) unframed: bool,
}

/// What is to be asked for when an answer has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    /// All up to this position, or up to the file's end if that comes first.
    UpTo(u64),
    /// All up to the file's end, which is not known.
    ToTheEnd,
}

/// Checks a response.
///
/// `on_wire` is the length by which the body is read, if it has one. Up to `max_skip` bytes are skipped if the server sends
/// more than was asked for.
pub(super) fn check_response(
    request: &Request,
    url: &Url,
    status: StatusCode,
    headers: &HeaderMap,
    on_wire: Option<u64>,
    max_skip: u64,
) -> Result<Delivery, NetError> {
    let check = Check {
        request,
        url,
        status,
        headers,
        max_skip,
    };
    // First, so that an error says what the server refused, and not how its page is coded.
    check.representation()?;
    if let (StatusCode::RANGE_NOT_SATISFIABLE, Some(asked)) = (status, request.range) {
        // The page that comes with it is not read, however it is coded.
        return check.beyond_the_end(asked);
    }
    let framing = Framing::of(url, headers, on_wire)?;
    let gzip = check.encoding()?;
    let delivery = match (status, request.range) {
        (StatusCode::PARTIAL_CONTENT, asked) => check.part(asked, framing, gzip)?,
        // HEAD has no bytes to skip, so the whole is as good as the part.
        (_, Some(asked)) if !request.is_head() => check.whole_for_part(asked, framing)?,
        _ => check.whole(framing)?,
    };
    // The length of a compressed body is not the file's, so it must not be compared with one.
    let delivery = Delivery {
        gzip,
        total: delivery.total.filter(|_| !gzip),
        ..delivery
    };
    // Last, as only here the file's length is known for each kind of answer.
    check.same_length(delivery.total)?;
    Ok(delivery)
}

impl Delivery {
    /// Position after the last byte that this answer delivers, if it is known.
    pub(super) fn last(&self) -> Option<u64> {
        self.end.map(|end| end.min(self.stop.unwrap_or(u64::MAX)))
    }

    /// Position behind which this answer delivers nothing, if there is one.
    pub(super) fn bound(&self) -> Option<u64> {
        self.last().or(self.stop)
    }

    /// Position after the last byte that this answer and those to the rest deliver, if it is known.
    pub(super) fn goal(&self) -> Option<u64> {
        match self.rest {
            Rest::Nothing => self.last(),
            // The file may end before that.
            Rest::UpTo(end) => self.total.map(|_| end),
            Rest::ToTheEnd => None,
        }
    }

    fn of_whole(framing: Framing) -> Self {
        Self {
            skip: 0,
            start: 0,
            end: framing.length(),
            stop: None,
            rest: Rest::Nothing,
            total: framing.length(),
            range: None,
            gzip: false,
            unframed: framing == Framing::Connection,
        }
    }

    fn nothing_at(total: u64) -> Self {
        Self {
            start: total,
            stop: Some(total),
            range: Some(ContentRange::at_end(total)),
            ..Self::of_whole(Framing::Length(total))
        }
    }
}

struct Check<'a> {
    request: &'a Request,
    url: &'a Url,
    status: StatusCode,
    headers: &'a HeaderMap,
    max_skip: u64,
}

impl Check<'_> {
    fn header(&self, name: http::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Only 200 and 206 come with the file, and 416 may say where it ends. Other statuses of success come with something
    /// else: a word that the file is being made (202), nothing (204, 205), a list (207).
    fn representation(&self) -> Result<(), NetError> {
        let asks_for_part = self.request.range.is_some() && self.request.sends_range();
        match self.status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::RANGE_NOT_SATISFIABLE if asks_for_part => return Ok(()),
            status => {
                return StatusSnafu {
                    url: redacted(self.url),
                    status: status.as_u16(),
                    content_type: self.headers.get(CONTENT_TYPE).map(shown_value),
                    retry_after: retry::retry_after(self.headers),
                }
                .fail();
            }
        }
        // Several ranges are never asked for. Their boundaries and heads would come out as bytes of the file.
        let content_type = self.header(CONTENT_TYPE).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if ["multipart/byteranges", "multipart/x-byteranges"]
            .iter()
            .any(|multipart| media_type.eq_ignore_ascii_case(multipart))
        {
            let (url, status) = (redacted(self.url), self.status.as_u16());
            return MultipartSnafu { url, status }.fail();
        }
        Ok(())
    }

    fn part(&self, asked: Option<ByteRange>, framing: Framing, gzip: bool) -> Result<Delivery, NetError> {
        let is_head = self.request.is_head();
        // A part for the whole: as if the whole had been asked for as a range.
        let asked = asked.unwrap_or(ByteRange::from_start(0));
        // The part describes itself, and that decides, not the range asked for: servers cap parts, and caches send whole blocks.
        // Only the first byte asked for has to be among them, or the stream would begin with a hole.
        let range = self.header(CONTENT_RANGE).and_then(ContentRange::parse);
        let Some(range) = range.filter(|range| range.holds(asked.start())) else {
            return self.mismatch();
        };
        // The framing's own length must be that of the part, or bytes behind the part would be taken for the file's. An
        // answer to HEAD has no body, whatever length it announces.
        let length = framing.length().filter(|_| !is_head);
        if length.is_some_and(|length| length != range.end() - range.start()) {
            return self.mismatch();
        }
        let skip = asked.start() - range.start();
        let asked_end = match (asked.end(), range.total()) {
            (Some(end), total) => Some(end.min(total.unwrap_or(u64::MAX))),
            (None, total) => total,
        };
        let rest = match asked_end {
            _ if is_head => Rest::Nothing,
            Some(end) if end <= range.end() => Rest::Nothing,
            Some(end) => Rest::UpTo(end),
            None => Rest::ToTheEnd,
        };
        // What is missing of a gzip file cannot be asked for: positions in it are not those of the file.
        if skip > self.max_skip || (gzip && (skip > 0 || rest != Rest::Nothing)) {
            return self.mismatch();
        }
        self.same_validator()?;
        let delivery = Delivery {
            skip: if is_head { 0 } else { skip },
            start: asked.start(),
            // No byte follows the head of an answer to HEAD.
            end: Some(if is_head { asked.start() } else { range.end() }),
            // Caches that keep blocks send whole ones.
            stop: asked.end().filter(|end| *end < range.end()),
            rest,
            total: range.total(),
            range: None,
            gzip: false,
            unframed: framing == Framing::Connection,
        };
        let end = match rest {
            Rest::UpTo(end) if range.total().is_some() => end,
            _ => range.end().min(asked.end().unwrap_or(u64::MAX)),
        };
        Ok(Delivery {
            range: Some(ContentRange::new(asked.start(), end, range.total())),
            ..delivery
        })
    }

    /// The whole file, asked for in part: the server has no ranges, or the file has changed (If-Range).
    fn whole_for_part(&self, asked: ByteRange, framing: Framing) -> Result<Delivery, NetError> {
        let start = asked.start();
        let whole = self.whole(framing)?;
        // A 200 to If-Range says that the file changed, unless the server names the same validator. Then it has no
        // ranges, and the bytes are the right ones.
        let if_range = self.request.if_range.as_ref();
        if if_range.is_some_and(|validator| !validator.confirmed_by(self.headers)) {
            return self.changed(Change::Whole);
        }
        // The validator before the length: of another file, a length below the start says nothing of this one's end.
        match whole.end {
            Some(total) if start > total => self.not_satisfiable(start, Some(total)),
            // As a 416 at the end: nothing is to come, so nothing has to be skipped.
            Some(total) if start == total && total > 0 => Ok(Delivery::nothing_at(total)),
            _ if start > self.max_skip => RangeIgnoredSnafu {
                url: redacted(self.url),
                start,
            }
            .fail(),
            _ => Ok(Delivery {
                skip: start,
                start,
                stop: asked.end(),
                ..whole
            }),
        }
    }

    fn whole(&self, framing: Framing) -> Result<Delivery, NetError> {
        // To HEAD the announced length is the file's, although no body follows.
        let announced = || self.header(CONTENT_LENGTH)?.parse().ok();
        let whole = Delivery::of_whole(framing);
        let total = if self.request.is_head() {
            announced()
        } else {
            whole.total
        };
        let whole = Delivery { total, ..whole };
        // A 200 needs no Content-Range. One that names a part of the file says that the body is no more than that part.
        let contradicts = |range: &str| match (ContentRange::parse(range), parse_unsatisfied(range)) {
            (Some(range), _) => {
                let is_whole = range.start() == 0 && range.total().is_none_or(|total| total == range.end());
                !is_whole || whole.total.is_some_and(|total| total != range.end())
            }
            (None, Some(told)) => whole.total.is_some_and(|total| total != told),
            (None, None) => true,
        };
        let has_range = self.headers.contains_key(CONTENT_RANGE);
        if has_range && self.header(CONTENT_RANGE).is_none_or(contradicts) {
            return self.mismatch();
        }
        Ok(whole)
    }

    /// Fault D7: a range that starts exactly behind the last byte is empty, and no failure.
    fn beyond_the_end(&self, asked: ByteRange) -> Result<Delivery, NetError> {
        let start = asked.start();
        let told = self.header(CONTENT_RANGE).and_then(parse_unsatisfied);
        // Before the rest: what lies beyond the end of another file says nothing of this one.
        self.same_length(told)?;
        self.same_validator()?;
        // Without a length the answer says only that the file has no byte there. Where the byte before it has come, or the
        // length is known, that is enough.
        let is_end_known = self
            .request
            .expected_total
            .map_or(self.request.follows_known, |total| total == start);
        let delivery = match told {
            Some(total) if total == start => Delivery::nothing_at(total),
            None if start > 0 && is_end_known => Delivery::nothing_at(start),
            total => return self.not_satisfiable(start, total),
        };
        self.same_length(delivery.total)?;
        Ok(delivery)
    }

    fn not_satisfiable(&self, start: u64, total: Option<u64>) -> Result<Delivery, NetError> {
        RangeNotSatisfiableSnafu {
            url: redacted(self.url),
            start,
            total,
        }
        .fail()
    }

    fn mismatch<T>(&self) -> Result<T, NetError> {
        RangeMismatchSnafu {
            url: redacted(self.url),
            status: self.status.as_u16(),
            asked: self.request.range.filter(|_| self.request.sends_range()),
            received: self.headers.get(CONTENT_RANGE).map(shown_value),
        }
        .fail()
    }

    fn changed<T>(&self, change: Change) -> Result<T, NetError> {
        let url = redacted(self.url);
        ChangedSnafu { url, change }.fail()
    }

    /// A 206 to If-Range says by itself that the validator held. Silence is fine, another validator is not.
    fn same_validator(&self) -> Result<(), NetError> {
        let if_range = self.request.if_range.as_ref();
        if if_range.is_some_and(|validator| validator.contradicted_by(self.headers)) {
            return self.changed(Change::Validator);
        }
        Ok(())
    }

    /// Fault D4: another length means another file.
    fn same_length(&self, total: Option<u64>) -> Result<(), NetError> {
        match (self.request.expected_total, total) {
            (Some(expected), Some(received)) if expected != received => {
                self.changed(Change::Length { expected, received })
            }
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
            .filter(|coding| !is_no_coding(coding));
        // One coding at most is undone here. Of two, only the outer one is known to be what was asked for.
        match (codings.next(), codings.next()) {
            (None, _) => Ok(false),
            (Some(coding), None) if self.request.accepts_gzip() && is_gzip(coding) => Ok(true),
            (Some(coding), _) => UnexpectedEncodingSnafu {
                url: redacted(self.url),
                coding: shown_word(coding),
            }
            .fail(),
        }
    }
}

/// Words that servers put where a coding's name belongs, above bytes that are not coded: misread settings of the server,
/// a character set, and the upload protocol of object stores.
const NO_CODINGS: [&str; 8] = [
    "",
    "identity",
    "none",
    "binary",
    "utf-8",
    "utf8",
    "8bit",
    "aws-chunked",
];

fn is_no_coding(name: &str) -> bool {
    NO_CODINGS.iter().any(|word| name.eq_ignore_ascii_case(word))
}

fn is_gzip(coding: &str) -> bool {
    coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip")
}

//! Validators: they prove that two responses hold bytes of the same file.

use http::header::{DATE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};

/// How much older than the response a modification date must be to count as strong. A file may change twice within a second,
/// and clocks differ. RFC 9110 (section 8.8.2.2) asks for a safe distance, RFC 7232 named 60 s.
const STRONG_AFTER_SECS: u64 = 60;

/// A strong validator of a file: an `ETag`, or a `Last-Modified` old enough to count as strong (RFC 9110, section
/// 8.8.2.2).
///
/// Sent back as `If-Range`, it makes the server answer a request for a range with bytes of the same file, or with the whole
/// of the new one. A weak validator cannot be made into a `Validator`: it may stay the same while bytes change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Validator(String);

impl Validator {
    /// Reads a validator that [`as_str`](Self::as_str) gave. `None` for a weak entity tag, and for other text.
    pub fn parse(text: &str) -> Option<Self> {
        // It may come from a record on the disk. What is neither was written by nobody, and proves nothing.
        let known = is_strong_tag(text) || httpdate::parse_http_date(text).is_ok();
        known.then(|| Self(text.to_owned()))
    }

    /// The validator as an `If-Range` header has it. It may be stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The strongest validator of a response.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // A weak tag says that bytes may differ. A date beside it does not take that back.
        if let Some(tag) = text(ETAG) {
            return is_strong_tag(tag).then(|| Self(tag.to_owned()));
        }
        // Compared with the server's own clock, which its `Date` tells, and never with this machine's.
        let modified = text(LAST_MODIFIED)?;
        let modified_at = httpdate::parse_http_date(modified).ok()?;
        let sent_at = httpdate::parse_http_date(text(DATE)?).ok()?;
        let age = sent_at.duration_since(modified_at).ok()?;
        (age.as_secs() >= STRONG_AFTER_SECS).then(|| Self(modified.to_owned()))
    }

    /// Whether a response with these headers names another validator. Silence is no contradiction.
    pub(crate) fn contradicted_by(&self, headers: &HeaderMap) -> bool {
        // Byte for byte: an entity tag is opaque, and two that are written differently are two (RFC 9110, section 8.8.3.2).
        headers
            .get(self.header())
            .is_some_and(|value| value.as_bytes() != self.0.as_bytes())
    }

    /// Whether a response with these headers names this validator.
    pub(super) fn confirmed_by(&self, headers: &HeaderMap) -> bool {
        headers
            .get(self.header())
            .is_some_and(|value| value.as_bytes() == self.0.as_bytes())
    }

    /// The header that this validator stands in. Only entity tags are quoted.
    fn header(&self) -> http::HeaderName {
        // The two are told apart by their form: a date has no quotes.
        if self.0.starts_with('"') {
            ETAG
        } else {
            LAST_MODIFIED
        }
    }
}

/// `ETag` and `Last-Modified` of a response, as sent. Weak ones prove nothing, but they can contradict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SentValidators {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl SentValidators {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self {
            etag: headers.get(ETAG).cloned(),
            last_modified: headers.get(LAST_MODIFIED).cloned(),
        }
    }

    /// Whether the server sent neither.
    #[cfg(feature = "file")]
    pub(crate) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// Whether these name another validator than `validator`, in the header that it stands in.
    #[cfg(feature = "file")]
    pub(crate) fn contradict(&self, validator: &Validator) -> bool {
        let sent = if validator.header() == ETAG {
            &self.etag
        } else {
            &self.last_modified
        };
        sent.as_ref()
            .is_some_and(|sent| sent.as_bytes() != validator.0.as_bytes())
    }

    /// Whether `other` is of another file. A value that is missing in one of them is no evidence: servers behind one name
    /// differ in what they send.
    pub(crate) fn contradicted_by(&self, other: &Self) -> bool {
        let differ = |a: &Option<_>, b: &Option<_>| a.is_some() && b.is_some() && a != b;
        // Two tags decide alone. A server that renews one and leaves the date has replaced a file within a second, or from a
        // backup.
        if differ(&self.etag, &other.etag) {
            return true;
        }
        // One strong tag is one sequence of bytes, whatever a mirror says of its own copy's date (RFC 9110, section
        // 15.3.7.3).
        let same_tag = self.etag.as_ref().filter(|_| other.etag.is_some());
        let is_proven = same_tag
            .and_then(|tag| tag.to_str().ok())
            .is_some_and(is_strong_tag);
        !is_proven && differ(&self.last_modified, &other.last_modified)
    }
}

fn is_strong_tag(text: &str) -> bool {
    text.len() >= 2
        && text.starts_with('"')
        && text.ends_with('"')
        && text.bytes().all(|b| (0x21..=0x7e).contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(http::HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    const MONDAY: &str = "Mon, 02 Jan 2023 00:00:00 GMT";
    const A_MINUTE_LATER: &str = "Mon, 02 Jan 2023 00:01:00 GMT";
    const A_SECOND_LATER: &str = "Mon, 02 Jan 2023 00:00:01 GMT";

    #[test]
    fn a_strong_tag_is_a_validator_and_a_weak_one_is_none() {
        let of = |tag| Validator::of(&headers(&[(ETAG, tag)]));
        assert_eq!(of("\"a\"").as_ref().map(Validator::as_str), Some("\"a\""));
        assert_eq!(of("W/\"a\""), None);
        assert_eq!(of("a"), None);
    }

    /// A weak tag says that bytes may differ; the date beside it cannot take that back.
    #[test]
    fn a_date_beside_a_weak_tag_does_not_count() {
        let all = headers(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, MONDAY), (DATE, A_MINUTE_LATER)]);
        assert_eq!(Validator::of(&all), None);
    }

    #[test]
    fn a_date_is_strong_only_well_before_the_response() {
        let at = |date| Validator::of(&headers(&[(LAST_MODIFIED, MONDAY), (DATE, date)]));
        assert!(at(A_MINUTE_LATER).is_some());
        assert_eq!(at(A_SECOND_LATER), None);
        assert_eq!(
            Validator::of(&headers(&[(LAST_MODIFIED, MONDAY)])),
            None,
            "no date of the response"
        );
    }

    #[test]
    fn a_stored_validator_reads_back() {
        for text in ["\"a\"", MONDAY] {
            assert_eq!(Validator::parse(text).as_ref().map(Validator::as_str), Some(text));
        }
        for text in ["W/\"a\"", "a", "", "\"", "\"a b\""] {
            assert_eq!(Validator::parse(text), None, "{text}");
        }
    }

    /// W56: of two copies with one strong tag the dates do not count. A weak tag proves nothing, so there they do.
    #[test]
    fn one_strong_tag_outweighs_two_dates() {
        let sent = |pairs: &[_]| SentValidators::of(&headers(pairs));
        let contradict = |a: &[_], b: &[_]| sent(a).contradicted_by(&sent(b));
        let (one, two) = ((LAST_MODIFIED, MONDAY), (LAST_MODIFIED, A_MINUTE_LATER));
        for (tag, other, expected) in [
            ("\"a\"", "\"a\"", false),
            ("\"a\"", "\"b\"", true),
            ("W/\"a\"", "W/\"a\"", true),
            ("W/\"a\"", "\"a\"", true),
        ] {
            let now = contradict(&[(ETAG, tag), one.clone()], &[(ETAG, other), two.clone()]);
            assert_eq!(now, expected, "{tag} {other}");
        }
        assert!(contradict(std::slice::from_ref(&one), std::slice::from_ref(&two)));
        assert!(
            !contradict(&[(ETAG, "\"a\"")], std::slice::from_ref(&one)),
            "nothing in common"
        );
        assert!(
            contradict(&[(ETAG, "\"a\""), one], &[two]),
            "the date alone is left"
        );
    }

    #[test]
    fn another_tag_contradicts_and_silence_does_not() {
        let validator = Validator::parse("\"a\"").expect("strong");
        assert!(validator.contradicted_by(&headers(&[(ETAG, "\"b\"")])));
        assert!(!validator.contradicted_by(&headers(&[])));
        assert!(!validator.confirmed_by(&headers(&[])));
        assert!(validator.confirmed_by(&headers(&[(ETAG, "\"a\"")])));
    }
}
